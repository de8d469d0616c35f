//! What is not delivered, and why: for each node, and for the configurations that have something there.

use std::collections::{BTreeMap, BTreeSet};

use multinic_core::published::Published;
use multinic_core::{ConfigKey, NodeName};
use multinic_store::RememberedNic;

use super::conditions::Undelivered;
use super::deliver::{Delivered, UNCLAIMED};
use super::project::Projection;
use super::rounds::Place;
use crate::sinks::{NodeWish, SinkError};

/// How many deliveries of one configuration are told that failed.
const MOST_ALIKE: usize = 16;

/// One node that could not be delivered.
pub(super) struct Failure {
    pub node: NodeName,
    pub owners: BTreeSet<ConfigKey>,
    undelivered: Undelivered,
}

impl Failure {
    /// Whether that is why.
    pub fn is(&self, reason: &str) -> bool {
        self.undelivered.reason == reason
    }
}

/// Who has something of each node.
pub(super) type Owners = BTreeMap<NodeName, BTreeSet<ConfigKey>>;

/// Says of each configuration what of it is not delivered.
pub(super) fn judge(failures: Vec<Failure>, done: &mut Delivered) {
    for Failure { node: _, owners, undelivered } in failures {
        for owner in owners {
            let list = done.undelivered.entry(owner).or_default();
            // Of many alike, a few say it all.
            let alike = list.iter().filter(|one| one.removal == undelivered.removal).count();
            if alike < MOST_ALIKE && !list.contains(&undelivered) {
                list.push(undelivered.clone());
            }
        }
    }
}

/// Leaves nodes as they are which have NICs that no configuration named yet since the ledger was lost: delivered without
/// them they would lose them, and nothing proves that they are to go.
pub(super) fn hold(
    projection: &mut Projection,
    unclaimed: Vec<RememberedNic>,
    unsettled: Option<&ConfigKey>,
    owners: &Owners,
    failures: &mut Vec<Failure>,
) {
    let mut held: BTreeMap<NodeName, Vec<String>> = BTreeMap::new();
    for nic in unclaimed {
        held.entry(nic.node).or_default().push(nic.mac.to_string());
    }
    if held.is_empty() {
        return;
    }
    let until = match unsettled {
        Some(config) => format!("{config} is carried out completely"),
        None => format!("that has been so for {} minutes", UNCLAIMED.as_secs() / 60),
    };
    let mut seen = BTreeSet::new();
    let mut tell = |wish: &NodeWish| {
        let node = &wish.config.node;
        let Some(macs) = held.get(node).filter(|_| seen.insert(node.clone())) else { return };
        let message = format!(
            "node {node}: {} came back with a ledger that was lost, and no configuration names them yet; the node stays as \
             it is until {until}",
            macs.join(", ")
        );
        let undelivered = Undelivered { reason: "UnclaimedInterfaces", removal: false, message };
        failures.push(failed(wish, owners.get(node).into_iter().flatten(), undelivered));
    };
    let Projection { kubernetes, viola, providers, skipped, .. } = projection;
    let is_held = |wish: &NodeWish| held.contains_key(&wish.config.node);
    for wishes in kubernetes.values_mut() {
        wishes.extract_if(.., |wish| is_held(wish)).for_each(|wish| tell(&wish));
    }
    for wishes in viola.values_mut() {
        wishes.extract_if(.., |wish| is_held(wish)).for_each(|wish| tell(&wish));
    }
    for wishes in providers.values_mut() {
        wishes.retain(|wish| !is_held(wish));
    }
    skipped.extend(held.into_keys());
}

/// Nodes that are left as they are: whoever has something there is not delivered.
pub(super) fn skipped(projection: &Projection, published: &Published) -> Vec<Failure> {
    let mut owners = Owners::new();
    for row in published.interfaces.iter().filter(|row| projection.skipped.contains(&row.node)) {
        owners.entry(row.node.clone()).or_default().insert(row.owner.clone());
    }
    let failure = |(node, owners): (NodeName, BTreeSet<ConfigKey>)| {
        let names: Vec<String> = owners.iter().map(ToString::to_string).collect();
        let message = format!(
            "node {node} is left as it is: where all of its configurations ({}) publish, and what, is not known yet",
            names.join(", ")
        );
        let undelivered = Undelivered { reason: "NodeSkipped", removal: false, message };
        Failure { node, owners, undelivered }
    };
    owners.into_iter().map(failure).collect()
}

pub(super) fn failure<'a>(
    wish: &'a NodeWish,
    lost: impl Iterator<Item = &'a ConfigKey>,
    place: &Place,
    error: &SinkError,
) -> Failure {
    let reason = place.reason(error);
    let node = &wish.config.node;
    let removal = matches!(error, SinkError::RemovalNotPropagated { .. });
    let text = error.to_string();
    let message = if text.contains(node.as_str()) { text } else { format!("node {node}: {text}") };
    let mut failed = failed(wish, lost, Undelivered { reason, removal, message });
    if let SinkError::LedgerStale { owners, .. } = error {
        failed.owners.extend(owners.iter().cloned());
    }
    failed
}

/// `lost` are those who lost something of the node.
pub(super) fn failed<'a>(
    wish: &'a NodeWish,
    lost: impl Iterator<Item = &'a ConfigKey>,
    undelivered: Undelivered,
) -> Failure {
    let owners = wish.owners.values().chain(lost).cloned().collect();
    Failure { node: wish.config.node.clone(), owners, undelivered }
}
