//! What becomes of each published interface: what the specs and the lists tell of it, and what only the cloud can tell.

use super::decide::Listing;
use super::merge::{excludes_subnet, excludes_vm};
use super::{Fleet, Reason, Standing, Wish};
use crate::ConfigKey;
use crate::published::{Evidence, Published, PublishedInterface};

/// What is known of one published interface.
pub(super) enum Fate {
    /// Wished for on the node where it is.
    Wished,
    /// It stays as it is, for a reason that is reported elsewhere or needs no report.
    Stays,
    /// It stays as it is, which is reported.
    Reported(Reason, String),
    /// It may go.
    Goes(Evidence),
    /// Only the cloud can tell, with the scope of this configuration.
    AskCloud(ConfigKey),
}

/// What becomes of a published interface, as far as the specs and the lists tell.
pub(super) fn fate(fleet: &Fleet, published: &Published, listing: Listing, row: &PublishedInterface) -> Fate {
    if fleet.disputed.contains(row.port()) {
        return Fate::Stays;
    }
    if let Some(wish) = fleet.wishes.get(row.port()) {
        if !wish.current {
            return Fate::Stays;
        }
        return fate_of_wished(fleet, published, listing, row, wish);
    }
    let stuck = |standing: &Standing| {
        standing.selected.as_ref().is_some_and(|selected| selected.stuck.contains(row.port()))
    };
    if fleet.configs.values().any(stuck) {
        return Fate::Stays;
    }
    let Some(owner) = fleet.configs.get(&row.owner) else {
        // One that we never carried out (rows of an older program, whose configurations may still be on their way to
        // us) is not known to be gone.
        let known = published.spec_hashes.get(&row.owner).is_some_and(|hash| super::merge::is_our_hash(hash));
        let deleted = fleet.deleted.contains(&row.owner);
        return match listing {
            Listing::Complete if known || deleted => excluded_by_spec(fleet, listing, row),
            Listing::Watched if deleted => excluded_by_spec(fleet, listing, row),
            Listing::Complete | Listing::Watched | Listing::Partial | Listing::Unsettled => Fate::Stays,
        };
    };
    if spec_excludes(published, owner, row) {
        return excluded_by_spec(fleet, listing, row);
    }
    match &owner.selected {
        None => Fate::Stays,
        Some(selected) if selected.excluded.contains(row.port()) => Fate::Reported(
            Reason::RemovalUnproven,
            "the port is still attached but no longer has an address in a selected subnet; change the spec or detach it"
                .to_owned(),
        ),
        Some(_) => Fate::AskCloud(row.owner.clone()),
    }
}

/// The owner does not want it any more. Another configuration might: one that cannot be read, or one whose list of
/// ports lacks it just now.
fn excluded_by_spec(fleet: &Fleet, listing: Listing, row: &PublishedInterface) -> Fate {
    let unproven = |message: String| Fate::Reported(Reason::RemovalUnproven, message);
    if listing == Listing::Unsettled {
        return Fate::Stays;
    }
    if listing == Listing::Partial {
        return unproven(
            "it is not removed while a configuration that may want it too cannot be read".to_owned(),
        );
    }
    let others = || fleet.configs.values().filter(|standing| standing.key != row.owner);
    let mut unread = others().filter(|standing| standing.selected.is_none());
    if let Some(other) = unread.find(|standing| standing.might_want(row)) {
        return unproven(format!(
            "it is not removed while {}, which may want it too, cannot be read",
            other.key
        ));
    }
    match others().find(|standing| standing.should_list(row)) {
        Some(other) => Fate::AskCloud(other.key.clone()),
        None => Fate::Goes(Evidence::SpecChanged),
    }
}

/// Whether the owner's spec positively excludes an interface that it selected before.
fn spec_excludes(published: &Published, owner: &Standing, row: &PublishedInterface) -> bool {
    let Some(selection) = &owner.selection else { return false };
    if row.device().is_some_and(|device| excludes_vm(selection, device)) {
        return true;
    }
    let changed = spec_changed(published, owner);
    if changed && excludes_subnet(selection, row) {
        return true;
    }
    let Some(selected) = &owner.selected else { return false };
    // The port is there and attached, in none of the selected subnets: the spec excludes it if it is the spec that
    // changed, and not the port.
    if selected.excluded.contains(row.port()) {
        return changed || excludes_subnet(selection, row);
    }
    // A VM that was named by its name and is no longer: every name has its server, and it is none of them.
    changed && selected.all_resolved && row.device().is_some_and(|device| !selected.servers.contains(device))
}

fn fate_of_wished(
    fleet: &Fleet,
    published: &Published,
    listing: Listing,
    row: &PublishedInterface,
    wish: &Wish,
) -> Fate {
    if wish.wanted.node == row.node {
        return Fate::Wished;
    }
    let device = &wish.wanted.interface.device;
    match row.device() {
        // The list itself shows the port attached to another server.
        Some(before) if before != device => Fate::Goes(Evidence::PortMoved),
        _ if renamed_by_spec(fleet, published, row, wish) => match listing {
            Listing::Unsettled => Fate::Stays,
            Listing::Complete | Listing::Watched | Listing::Partial => Fate::Goes(Evidence::NodeRenamed),
        },
        _ => Fate::Reported(
            Reason::NodeNameChanged,
            format!(
                "the server is called {} now, but its node works under {}; give the server its name back, or take the VM \
                 out of the spec and in again",
                wish.wanted.node, row.node
            ),
        ),
    }
}

/// Whether it is the spec that gives the node another name: the spec changed, and the server still bears the name that it
/// had before. A server that was renamed in the cloud does not, whatever else became of the spec meanwhile.
fn renamed_by_spec(fleet: &Fleet, published: &Published, row: &PublishedInterface, wish: &Wish) -> bool {
    let owners = wish.owners.iter().filter_map(|key| fleet.configs.get(key));
    owners.filter(|owner| spec_changed(published, owner)).any(|owner| {
        let names = owner.selected.as_ref().and_then(|it| it.names.get(&wish.wanted.interface.device));
        names.is_some_and(|names| names.contains(&row.node))
    })
}

/// Whether the spec is another one than at the last complete publication. Without a hash of ours (first start, rows of
/// an older program) nothing is known to have changed.
fn spec_changed(published: &Published, owner: &Standing) -> bool {
    match (published.spec_hashes.get(&owner.key), &owner.spec_hash) {
        (Some(before), Some(now)) => super::merge::is_our_hash(before) && before != now,
        _ => false,
    }
}
