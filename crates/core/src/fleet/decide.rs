//! What to publish and what to take away: where absence of evidence is kept from becoming deletion.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::fate::{Fate, fate};
use super::slots::{NodeSlots, Request};
use super::{Fleet, Problem, Reason, Wish};
use crate::cloud::PortProof;
use crate::published::{DesiredInterface, Evidence, Publication, Published, PublishedInterface, Removal};
use crate::{ConfigKey, MacAddr, NodeName, PortId, ServerId};

/// Limits of one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetLimits {
    /// How many NICs a node may have: 10 unless configured, 64 at most.
    pub interfaces: u8,
}

impl Default for FleetLimits {
    fn default() -> Self {
        Self { interfaces: 10 }
    }
}

/// How much the list of configurations can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// Every configuration that exists is in it, if perhaps without a readable spec. One that is not in it is gone.
    Complete,
    /// Every configuration that exists is in it, but one that is not in it is only known to be gone if it is among
    /// [`Fleet::deleted`]: an API server that was restored from a backup, or whose resource definition was made anew,
    /// lists nothing either.
    Watched,
    /// One that is not in it may exist: a file could not be read.
    Partial,
    /// It is being changed right now, and so may be half of what it will be: it supports no removal and no move, which
    /// the next look decides.
    Unsettled,
}

/// A published interface that nobody wishes any more and that may only go with proof from the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The port to ask for.
    pub port: PortId,
    /// The configuration with whose scope to ask: the one that owns it, or another that wants it now.
    pub owner: ConfigKey,
}

/// The decision of one pass.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// What to publish.
    pub publication: Publication,
    /// What is wrong, by configuration.
    pub problems: BTreeMap<ConfigKey, Vec<Problem>>,
    /// Removals that wait for a person.
    pub held: Option<Held>,
    /// Configurations of which this publication changes something.
    pub changed: BTreeSet<ConfigKey>,
}

/// Removals that wait for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// How many.
    pub count: usize,
    /// Of how many published interfaces.
    pub published: usize,
    /// Names exactly this set: a confirmation of it confirms no other.
    pub digest: String,
}

/// The published interfaces about which the cloud must be asked before [`decide`].
pub fn candidates(fleet: &Fleet, published: &Published, listing: Listing) -> Vec<Candidate> {
    let asked = published.interfaces.iter().filter_map(|row| match fate(fleet, published, listing, row) {
        Fate::AskCloud(owner) => Some(Candidate { port: row.port().clone(), owner }),
        Fate::Wished | Fate::Stays | Fate::Reported(..) | Fate::Goes(_) => None,
    });
    asked.collect()
}

/// Makes the publication. `proofs` answers [`candidates`]; a candidate without a proof stays. `confirmed` are the
/// digests of held removals that a person confirmed.
pub fn decide(
    mut fleet: Fleet,
    published: &Published,
    listing: Listing,
    proofs: &HashMap<PortId, PortProof>,
    confirmed: &BTreeSet<String>,
    limits: &FleetLimits,
) -> Decision {
    let mut going: Vec<(&PublishedInterface, Evidence)> = Vec::new();
    let mut staying: Vec<&PublishedInterface> = Vec::new();
    let mut blocked: HashSet<PortId> = HashSet::new();
    let mut notes: Vec<(ConfigKey, Reason, String, String)> = Vec::new();
    for row in &published.interfaces {
        let reported = match fate(&fleet, published, listing, row) {
            Fate::Wished => None,
            Fate::Goes(evidence) => {
                going.push((row, evidence));
                continue;
            }
            Fate::Stays => {
                staying.push(row);
                blocked.insert(row.port().clone());
                continue;
            }
            Fate::Reported(reason, message) => Some((reason, message)),
            Fate::AskCloud(_) => match prove(proofs, row) {
                Ok(evidence) => {
                    going.push((row, evidence));
                    continue;
                }
                Err(message) => Some((Reason::RemovalUnproven, message)),
            },
        };
        if let Some((reason, message)) = reported {
            let subject = format!("port {} ({}) of node {}", row.port(), row.mac(), row.node);
            notes.push((row.owner.clone(), reason, subject, message));
            staying.push(row);
            blocked.insert(row.port().clone());
        }
    }
    for (owner, reason, subject, message) in notes {
        fleet.problem(&owner, reason, subject, message);
    }
    let held = brake(&mut fleet, published, &mut going, &mut staying, &mut blocked, confirmed);
    let rows: HashMap<&PortId, &PublishedInterface> =
        published.interfaces.iter().map(|row| (row.port(), row)).collect();
    let interfaces = desired(&mut fleet, published, &rows, &staying, &going, &blocked, limits);
    let changed = changed(&rows, &interfaces, &going);
    let removals = going.into_iter().map(|(row, evidence)| Removal {
        node: row.node.clone(),
        port: row.port().clone(),
        mac: row.mac(),
        slot: row.remembered_slot(),
        evidence,
    });
    let removals = removals.collect();
    let settled = settled(&fleet, &staying);
    let forgotten = forgotten(&fleet, published, listing, &staying);
    let subnets = std::mem::take(&mut fleet.subnets);
    // The same problems make the same status, whatever order they were found in.
    for problems in fleet.problems.values_mut() {
        problems.sort();
        problems.dedup();
    }
    Decision {
        publication: Publication {
            based_on: published.revision,
            interfaces,
            subnets,
            removals,
            settled,
            forgotten,
        },
        problems: fleet.problems,
        held,
        changed,
    }
}

fn prove(proofs: &HashMap<PortId, PortProof>, row: &PublishedInterface) -> Result<Evidence, String> {
    match proofs.get(row.port()) {
        Some(PortProof::Gone) => Ok(Evidence::PortGone),
        Some(PortProof::Moved(device)) if device.as_str().is_empty() => Ok(Evidence::PortMoved),
        // Where the server of before is not known, no server is known to be another one.
        Some(PortProof::Moved(device)) if row.device().is_some_and(|before| before != device) => {
            Ok(Evidence::PortMoved)
        }
        Some(PortProof::Moved(_) | PortProof::StillAttached) => {
            Err("the list of ports lacks it, but Neutron still shows it attached; nothing is removed"
                .to_owned())
        }
        Some(PortProof::Unproven(why)) => {
            Err(format!("it is not listed, but its removal is not proven: {why}"))
        }
        None => Err("it is not listed, and the cloud was not asked about it".to_owned()),
    }
}

/// Holds back what looks like a mistake rather than like work: many removals or renamed nodes at once that no spec lets go of, or the
/// loss of every configuration.
fn brake<'a>(
    fleet: &mut Fleet,
    published: &Published,
    going: &mut Vec<(&'a PublishedInterface, Evidence)>,
    staying: &mut Vec<&'a PublishedInterface>,
    blocked: &mut HashSet<PortId>,
    confirmed: &BTreeSet<String>,
) -> Option<Held> {
    let total = published.interfaces.len();
    let no_config_left = fleet.configs.is_empty();
    let deleted = fleet.deleted.clone();
    let braked = |(row, evidence): &(&PublishedInterface, Evidence)| match evidence {
        // The key of the node names may be the controller's own setting: one lost variable would rename every node.
        Evidence::PortGone | Evidence::PortMoved | Evidence::NodeRenamed => true,
        // Somebody deleted that very configuration: that it was the last one makes it no mistake.
        Evidence::SpecChanged => no_config_left && !deleted.contains(&row.owner),
    };
    let rows: Vec<&PublishedInterface> =
        going.iter().filter(|going| braked(going)).map(|(row, _)| *row).collect();
    let allowed = if no_config_left { 0 } else { (total / 10).max(10) };
    if rows.len() <= allowed {
        return None;
    }
    let digest = digest(&rows);
    if confirmed.contains(&digest) {
        return None;
    }
    let mut owners: BTreeMap<&ConfigKey, usize> = BTreeMap::new();
    for row in &rows {
        *owners.entry(&row.owner).or_default() += 1;
        blocked.insert(row.port().clone());
    }
    for (owner, count) in owners {
        let message = format!(
            "{} of {total} published interfaces would go, or move to other nodes, at once without having been taken out \
             of a spec, {count} of them of this configuration; if that is right, confirm it with the annotation {}: {digest}",
            rows.len(),
            crate::config::CONFIRM_REMOVALS,
        );
        fleet.problem(owner, Reason::MassRemovalHeld, format!("{} removals", rows.len()), message);
    }
    let count = rows.len();
    staying.extend(rows);
    going.retain(|going| !braked(going));
    Some(Held { count, published: total, digest })
}

/// Names a set of removals: the same set has the same digest whatever its order.
fn digest(rows: &[&PublishedInterface]) -> String {
    let names: BTreeSet<String> =
        rows.iter().map(|row| format!("{} {} {}\n", row.node, row.mac(), row.port())).collect();
    let mut sha = Sha256::new();
    for name in names {
        sha.update(name);
    }
    sha.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Every wish that can be published, with its slot.
fn desired(
    fleet: &mut Fleet,
    published: &Published,
    rows: &HashMap<&PortId, &PublishedInterface>,
    staying: &[&PublishedInterface],
    going: &[(&PublishedInterface, Evidence)],
    blocked: &HashSet<PortId>,
    limits: &FleetLimits,
) -> Vec<DesiredInterface> {
    let mut slots = remembered(published);
    // What stays although nobody can wish for it now still is on its node, with its MAC and its server.
    let mut macs: HashMap<(&NodeName, MacAddr), &PublishedInterface> = HashMap::new();
    let mut devices: HashMap<&NodeName, &ServerId> = HashMap::new();
    let mut nodes: HashMap<&ServerId, &NodeName> = HashMap::new();
    for row in staying {
        macs.insert((&row.node, row.mac()), row);
        if let Some(device) = row.device() {
            devices.insert(&row.node, device);
            nodes.insert(device, &row.node);
        }
    }
    // A port that leaves a node keeps its slot there until the node has let it go.
    let leaving: HashSet<&PortId> = going.iter().map(|(row, _)| row.port()).collect();
    let wishes = std::mem::take(&mut fleet.wishes);
    let mut by_node: BTreeMap<&NodeName, Vec<&Wish>> = BTreeMap::new();
    let mut problems = Vec::new();
    for (port, wish) in &wishes {
        let interface = &wish.wanted.interface;
        let known = rows.contains_key(port);
        if blocked.contains(port) || (!known && !wish.admitted) {
            continue;
        }
        let node = &wish.wanted.node;
        if let Some(row) = macs.get(&(node, interface.mac)).filter(|row| row.port() != port) {
            let message = format!("port {} has the same MAC there and is not proven gone", row.port());
            problems.push((
                Arc::clone(&wish.owners),
                Reason::MacConflict,
                format!("port {port} of node {node}"),
                message,
            ));
            continue;
        }
        if let Some(device) = devices.get(node).filter(|device| **device != &interface.device) {
            let message = format!("server {device} has NICs under this name that are not proven gone");
            problems.push((
                Arc::clone(&wish.owners),
                Reason::NodeNameNotUnique,
                format!("node {node}"),
                message,
            ));
            continue;
        }
        // A server's NICs are not spread over two names.
        if let Some(old) = nodes.get(&interface.device).filter(|old| **old != node) {
            let message = format!(
                "the server is called {node} now, but its node works under {old}; a new NIC waits until that is settled"
            );
            let subject = format!("port {port} ({}) of node {node}", interface.mac);
            problems.push((Arc::clone(&wish.owners), Reason::NodeNameChanged, subject, message));
            continue;
        }
        by_node.entry(node).or_default().push(wish);
    }
    let mut interfaces = Vec::with_capacity(by_node.values().map(Vec::len).sum());
    for (node, wishes) in by_node {
        let requests = wishes.iter().map(|wish| {
            let created = wish.wanted.created_at.map_or((true, None), |time| (false, Some(time)));
            Request { order: (wish.order, created), mac: wish.wanted.interface.mac }
        });
        let assigned = slots.remove(node).unwrap_or_default().assign(requests.collect(), limits.interfaces);
        for wish in wishes {
            let interface = Arc::clone(&wish.wanted.interface);
            let Some(slot) = assigned.get(&interface.mac) else {
                let message =
                    format!("the node has {} NICs already, the most that is allowed", limits.interfaces);
                let subject = format!("port {} ({}) of node {node}", interface.port, interface.mac);
                problems.push((Arc::clone(&wish.owners), Reason::TooManyInterfaces, subject, message));
                continue;
            };
            // It waits for its own read, as what is published of it does.
            if !wish.current {
                continue;
            }
            let before = rows
                .get(&interface.port)
                .filter(|_| !leaving.contains(&interface.port))
                .map(|row| &row.owner);
            let owner = before.filter(|owner| wish.owners.contains(*owner)).or_else(|| wish.owners.first());
            let Some(owner) = owner.cloned() else { continue };
            interfaces.push(DesiredInterface {
                node: node.clone(),
                owner,
                slot: *slot,
                project: wish.wanted.project.clone(),
                interface,
            });
        }
    }
    for (owners, reason, subject, message) in problems {
        for owner in owners.iter() {
            fleet.problem(owner, reason, subject.clone(), message.clone());
        }
    }
    interfaces.sort_unstable_by(|a, b| (&a.node, a.slot).cmp(&(&b.node, b.slot)));
    interfaces
}

/// Whose interfaces differ from what is published.
fn changed(
    rows: &HashMap<&PortId, &PublishedInterface>,
    interfaces: &[DesiredInterface],
    going: &[(&PublishedInterface, Evidence)],
) -> BTreeSet<ConfigKey> {
    let same = |desired: &DesiredInterface| {
        rows.get(&desired.interface.port).is_some_and(|row| {
            row.node == desired.node
                && row.owner == desired.owner
                && row.slot == Some(desired.slot)
                && row.interface() == Some(&desired.interface)
        })
    };
    let written = interfaces.iter().filter(|desired| !same(desired)).map(|desired| &desired.owner);
    written.chain(going.iter().map(|(row, _)| &row.owner)).cloned().collect()
}

/// The memory of slots, by node.
fn remembered(published: &Published) -> BTreeMap<NodeName, NodeSlots> {
    let mut nodes: BTreeMap<NodeName, NodeSlots> = BTreeMap::new();
    for row in &published.interfaces {
        let slots = nodes.entry(row.node.clone()).or_default();
        if let Some(slot) = row.slot {
            slots.published(row.mac(), slot);
        }
        if let Some(slot) = row.verified {
            slots.verified(row.mac(), slot);
        }
    }
    for releasing in &published.releasing {
        if let Some(slot) = releasing.slot {
            nodes.entry(releasing.node.clone()).or_default().releasing(releasing.mac, slot);
        }
    }
    nodes
}

/// Configurations whose spec is carried out: nothing is published that it does not select. What it selects and cannot be
/// had (a VM that is not there, a node that is full) is a problem of its own and says nothing about removals.
fn settled(fleet: &Fleet, staying: &[&PublishedInterface]) -> BTreeMap<ConfigKey, String> {
    let unsettled: BTreeSet<&ConfigKey> = staying.iter().map(|row| &row.owner).collect();
    let complete = fleet
        .configs
        .values()
        .filter(|standing| standing.selected.is_some() && !unsettled.contains(&standing.key));
    complete.filter_map(|standing| Some((standing.key.clone(), standing.spec_hash.clone()?))).collect()
}

/// Configurations that are gone and own nothing any more.
fn forgotten(
    fleet: &Fleet,
    published: &Published,
    listing: Listing,
    staying: &[&PublishedInterface],
) -> Vec<ConfigKey> {
    let is_gone = |key: &ConfigKey| match listing {
        Listing::Complete => true,
        Listing::Watched => fleet.deleted.contains(key),
        Listing::Partial | Listing::Unsettled => false,
    };
    let owners: BTreeSet<&ConfigKey> = staying.iter().map(|row| &row.owner).collect();
    let gone = published
        .spec_hashes
        .keys()
        .filter(|key| is_gone(key) && !fleet.configs.contains_key(*key) && !owners.contains(*key));
    gone.cloned().collect()
}
