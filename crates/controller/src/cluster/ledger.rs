//! Whether the ledger may be a copy of the past: a database that was restored, or a replica's own file.
//!
//! Every object names the epoch and revision of the ledger that it was written from (see
//! [`sinks::kubernetes::ledger`](crate::sinks::kubernetes::ledger)). Before the first pass, and whenever the ledger stands
//! where it did not stand before, the objects are compared with it. What those know that are ahead of it is taken into it:
//! so NICs that it does not know keep their names, and go as any other, with proof. Until a configuration's cloud was read
//! since, nothing is taken out of such an object because of what the ledger says.
//!
//! What a Viola has cannot be compared: the objects that it makes name no ledger, and the agent of a node goes by an object's
//! uid and generation alone, so that a NIC which is missing in a list goes at once. Nor does an old copy say whose NICs it
//! lacks. Where something has shown that the ledger may be one, a Viola is therefore told nothing at all before the clouds of
//! every configuration that may have something there were read. From then on the ledger is believed there, whoever comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use multinic_core::ConfigKey;
use multinic_core::desired::Position;

use super::conditions::Undelivered;
use super::deliver::{Delivered, Deliverer};
use super::failures::{Failure, Owners, failed};
use super::placement::{Location, Placement, Target};
use super::places::Standing;
use super::reconciler::Reconciler;
use super::rounds::Place;
use crate::pass::{Configs, Report};
use crate::sinks::error::names;
use crate::sinks::{Ledger, NodeWish};
use crate::status::Outcome;

/// The reason for users.
pub(super) const STALE: &str = "LedgerStale";

/// What is known of how new the ledger is.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Where it stood when it was looked at last.
    position: Option<Position>,
    /// Configurations whose clouds were read since it stands where it does, or which somebody deleted.
    fresh: BTreeSet<ConfigKey>,
    /// Targets whose objects were compared with it since.
    compared: BTreeSet<Target>,
    /// Violas where it is believed since: of all that may have something there, the clouds were read.
    believed: BTreeSet<Location>,
    /// Whether something showed that it may be an old copy.
    suspect: bool,
    /// How often it stood further back than before.
    setbacks: u64,
}

impl Trust {
    /// Takes in where the ledger stands. Returns whether it is another one than before, or older.
    pub fn stands(&mut self, position: &Position) -> bool {
        let before = self.position.replace(position.clone());
        let back = before
            .is_some_and(|before| before.epoch != position.epoch || before.revision > position.revision);
        if back {
            self.suspect = true;
            self.setbacks += 1;
            self.fresh.clear();
            self.compared.clear();
            self.believed.clear();
        }
        back
    }

    /// Takes in what a pass came to. Returns whether the ledger says what is for more configurations than before.
    pub fn hear(&mut self, configs: &Configs, report: &Report) -> bool {
        let read = report
            .outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Published { current: true, .. }));
        let before = self.fresh.len();
        self.fresh.extend(read.map(|(key, _)| key).chain(&configs.deleted).cloned());
        self.fresh.len() != before
    }

    /// The objects of a target have been compared with the ledger, and it knows what they know.
    pub fn compared(&mut self, target: &Target) {
        self.compared.insert(target.clone());
    }

    /// How often the ledger turned out to stand further back than before.
    pub fn setbacks(&self) -> u64 {
        self.setbacks
    }

    /// The configurations of an object whose clouds have to be read before something is taken out of it.
    fn awaited(&self, wish: &NodeWish, live: &BTreeSet<ConfigKey>) -> BTreeSet<ConfigKey> {
        let owners =
            wish.owners.values().filter(|owner| live.contains(*owner) && !self.fresh.contains(*owner));
        owners.cloned().collect()
    }

    /// Whether the ledger says what is for all of these, and they are some.
    pub fn is_sure_of(&self, owners: &BTreeSet<ConfigKey>) -> bool {
        !owners.is_empty() && owners.is_subset(&self.fresh)
    }

    /// The ledger for a delivery to a target.
    pub fn ledger(&self, target: &Target, position: &Position) -> Ledger {
        let fresh = if self.compared.contains(target) { self.fresh.clone() } else { BTreeSet::new() };
        Ledger { position: position.clone(), fresh }
    }
}

impl Reconciler {
    /// Looks where the ledger stands, and compares the objects with it that were not compared yet.
    pub(super) async fn mind_ledger(&mut self) {
        // A ledger that cannot be read is what the pass tells of.
        let Ok(position) = self.store.position().await else { return };
        if self.deliverer.memory.trust.stands(&position) {
            tracing::error!(
                epoch = position.epoch,
                revision = position.revision,
                "LedgerStale: the ledger stands where it did not stand before; a restored database, or another one?"
            );
            self.undelivered = None;
        }
        let Deliverer { memory, .. } = &self.deliverer;
        let news = memory.sinks.iter().filter(|(target, _)| !memory.trust.compared.contains(*target));
        let ahead = news
            .filter_map(|(target, cluster)| Some((target.clone(), cluster.sink.ahead_of(&position)?.len())));
        for (target, ahead) in ahead.collect::<Vec<_>>() {
            if ahead == 0 {
                self.deliverer.memory.trust.compared(&target);
                self.undelivered = None;
                continue;
            }
            if self.unread.problem(&target).is_some() {
                continue;
            }
            self.deliverer.memory.trust.suspect = true;
            self.unread.want(&target);
            tracing::error!(
                place = target.name(),
                objects = ahead,
                epoch = position.epoch,
                revision = position.revision,
                "LedgerStale: objects were written from another ledger, or from a newer state of this one; what they know is \
                 taken into it, and nothing is taken out of them before clouds were read"
            );
        }
    }
}

impl Deliverer {
    /// The configurations whose clouds have to be read before a Viola is told what the ledger says; none for objects, which
    /// name whose each NIC is.
    pub(super) fn awaited_at(&self, location: &Location, standing: &Standing) -> BTreeSet<ConfigKey> {
        let trust = &self.memory.trust;
        let is_viola = matches!(location, Location::Viola { .. });
        if !is_viola || !trust.suspect || trust.believed.contains(location) {
            return BTreeSet::new();
        }
        let unread = standing.live.iter().filter(|owner| !trust.fresh.contains(*owner));
        unread.filter(|owner| self.may_be_at(owner, location)).cloned().collect()
    }

    /// Believes the ledger where nobody is awaited any more, so that a configuration which comes later holds nobody up.
    fn believe(&mut self, standing: &Standing) {
        if !self.memory.trust.suspect {
            return;
        }
        let violas = self.places().flat_map(Placement::locations);
        let violas = violas.filter(|location| matches!(location, Location::Viola { .. }));
        let sure =
            violas.filter(|location| self.awaited_at(location, standing).is_empty()).collect::<Vec<_>>();
        self.memory.trust.believed.extend(sure);
    }

    /// Takes out of what is to be told to Violas what the ledger may have from the past.
    pub(super) fn keep_back(
        &mut self,
        news: &mut [(Place, Vec<Arc<NodeWish>>)],
        standing: &Standing,
        owners: &Owners,
        failures: &mut Vec<Failure>,
    ) {
        self.believe(standing);
        for (place, wishes) in news {
            let Some(location) = self.location(place) else { continue };
            let awaited = self.awaited_at(&location, standing);
            if awaited.is_empty() {
                continue;
            }
            for wish in wishes.drain(..) {
                let node = &wish.config.node;
                let message =
                    format!("node {node} stays as it is behind {}: {}", place.name(), unbelieved(&awaited));
                let lost = owners.get(node).into_iter().flatten().chain(&awaited);
                let undelivered = Undelivered { reason: STALE, removal: false, message };
                failures.push(failed(&wish, lost, undelivered));
            }
        }
    }

    /// Tells the configurations of objects that are ahead of the ledger, for as long as it does not say what is for them.
    pub(super) fn tell_stale(
        &self,
        standing: &Standing,
        batches: &[(Place, Vec<Arc<NodeWish>>)],
        failures: &[Failure],
        done: &mut Delivered,
    ) {
        let trust = &self.memory.trust;
        let Some(position) = &trust.position else { return };
        let mut nodes = failures
            .iter()
            .filter(|failure| failure.is(STALE))
            .map(|failure| &failure.node)
            .collect::<BTreeSet<_>>();
        let mut waiting: BTreeMap<ConfigKey, (usize, String)> = BTreeMap::new();
        for (place, wishes) in batches {
            let Place::Kubernetes(target) = place else { continue };
            let Some(cluster) = self.memory.sinks.get(target) else { continue };
            let Some(ahead) = cluster.sink.ahead_of(position).filter(|ahead| !ahead.is_empty()) else {
                continue;
            };
            for wish in wishes.iter().filter(|wish| ahead.contains(wish.config.node.as_str())) {
                let awaited = trust.awaited(wish, &standing.live);
                let clouds = names(&awaited);
                if !awaited.is_empty() {
                    nodes.insert(&wish.config.node);
                }
                for owner in awaited {
                    waiting.entry(owner).or_insert((0, clouds.clone())).0 += 1;
                }
            }
        }
        self.metrics.ledger_stale.set(i64::try_from(nodes.len()).unwrap_or(i64::MAX));
        for (owner, (count, clouds)) in waiting {
            let message = format!(
                "{count} object(s) of its nodes were written from another ledger than {} at revision {}, or from a newer \
                 state of it, which may be an old copy: nothing is taken out of them until the clouds of {clouds} were read",
                position.epoch, position.revision
            );
            let list = done.undelivered.entry(owner).or_default();
            if !list.iter().any(|one| one.reason == STALE) {
                list.push(Undelivered { reason: STALE, removal: false, message });
            }
        }
    }
}

/// Why nothing is told, for people.
pub(super) fn unbelieved(awaited: &BTreeSet<ConfigKey>) -> String {
    let clouds = names(awaited);
    format!("the ledger may be an old copy, and is not believed until the clouds of {clouds} were read")
}
