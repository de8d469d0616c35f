//! A ledger that was lost (an `emptyDir`, a new database) is filled again from what was published, before the first pass:
//! so nobody loses a name, and nothing is taken for new that is not.
//!
//! Objects say which configuration each NIC comes from. Those of older programs do not, nor does the inventory, which is all
//! that there is of nodes behind Viola: of these the slots are remembered, and nobody owns them until a configuration names
//! their ports.
//!
//! While this cluster's objects cannot be read, no pass is made. While those of another cannot, the configurations that are
//! published there wait, and the others do not. So it is with a place whose objects are ahead of the ledger.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::DynamicObject;
use multinic_core::published::{DesiredInterface, Publication, PublishedInterface, Releasing, SubnetRecord};
use multinic_core::{NodeName, PortId, ProjectId};
use multinic_store::inventory::{Filter, InventoryStore, MAX_PAGE, Record};
use multinic_store::{RememberedNic, Store, StoreError};
use serde::Deserialize;

use super::manifest::spec_of;
use super::placement::Target;
use super::reconciler::{PATIENCE, Reconciler, sooner};
use super::rounds::Again;
use super::watch::key;
use crate::errands::{Errands, TURN};
use crate::inventory::Inventory;
use crate::sinks::kubernetes::memory::{Memory, place};
use crate::sinks::{InterfacePayload, SinkError};

/// Why a ledger could not be filled. No pass is made meanwhile: a memory that cannot be read is not an empty one.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The ledger, or the inventory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was published.
    #[error("the ledger is empty, and what was published cannot be read from {place}: {source}")]
    Sink {
        /// Where from.
        place: String,
        /// Why.
        source: SinkError,
    },
    /// What the inventory says was published.
    #[error(
        "the ledger is empty, and the inventory's record of node {node} (provider {provider}) cannot be read: {problem}; with \
         INVENTORY_ENABLED=false the inventory is left out"
    )]
    Record {
        /// The record's provider.
        provider: String,
        /// Its node.
        node: String,
        /// The field, and what is wrong with it.
        problem: String,
    },
}

/// Whether a ledger knows of nothing at all, or not of everything yet.
pub(super) async fn is_lost(store: &Store) -> Result<bool, StoreError> {
    if store.is_restoring().await? {
        return Ok(true);
    }
    let published = store.published().await?;
    Ok(published.interfaces.is_empty() && published.releasing.is_empty() && published.spec_hashes.is_empty())
}

/// Clusters of which it is not known what the objects remember that the ledger does not. It is read in tasks.
#[derive(Debug, Default)]
pub(super) struct Unread {
    targets: BTreeMap<Target, Missing>,
    errands: Errands<Target, Target, Result<Memory, SinkError>>,
}

/// Why something is not known.
#[derive(Debug, Default)]
struct Missing {
    /// None while it is being read.
    problem: Option<String>,
    again: Option<Again>,
}

impl Unread {
    /// What a target's objects remember is to be read.
    pub fn want(&mut self, target: &Target) {
        self.targets.entry(target.clone()).or_default();
    }

    /// Why it is not known what the objects of a target remember; none where it is.
    pub fn problem(&self, target: &Target) -> Option<String> {
        let missing = self.targets.get(target)?;
        let problem = missing.problem.as_deref().unwrap_or("it is being read");
        Some(format!("what was published in {} is not known yet: {problem}", target.name()))
    }

    /// Whether a target's objects are being read, and nothing is wrong with that.
    pub fn is_being_read(&self, target: &Target) -> bool {
        self.targets.get(target).is_some_and(|missing| missing.problem.is_none())
    }

    /// Returns when something was read that nobody waited for.
    pub async fn come(&mut self) {
        self.errands.come().await;
    }

    /// Those to be read now.
    fn due(&self) -> Vec<Target> {
        let due = self.targets.iter().filter(|(target, missing)| {
            !self.errands.is_under_way(target) && missing.again.is_none_or(Again::is_due)
        });
        due.map(|(target, _)| target.clone()).collect()
    }

    fn failed(&mut self, target: &Target, problem: String, longest: Duration) {
        tracing::warn!(place = target.name(), error = problem, "what is published there is not known yet");
        let missing = self.targets.entry(target.clone()).or_default();
        missing.problem = Some(problem);
        missing.again = Some(Again::after(missing.again, longest));
    }

    /// When something is tried again.
    fn again(&self) -> Option<Instant> {
        let waiting = self.targets.iter().filter(|(target, _)| !self.errands.is_under_way(target));
        waiting.filter_map(|(_, missing)| Some(missing.again?.at)).min()
    }
}

/// Takes the slots that the inventory knows into the ledger, but for these nodes, whose objects say more. A record does not
/// say which configuration a NIC comes from.
async fn restore_records(
    store: &Store,
    inventory: &InventoryStore,
    nodes: &BTreeSet<NodeName>,
) -> Result<(), RestoreError> {
    let mut after = None;
    let mut slots = 0;
    loop {
        let page = inventory.list(&Filter::default(), after.as_ref(), MAX_PAGE).await?;
        let mut nics = Vec::new();
        for record in page.records {
            let places = places(&record).map_err(|problem| RestoreError::Record {
                provider: record.key.provider_id.clone(),
                node: record.key.node_name.clone(),
                problem,
            })?;
            nics.extend(places.into_iter().filter(|place| !nodes.contains(&place.node)));
        }
        let nics: Vec<_> = nics.into_iter().map(|place| remembered(place, true)).collect();
        slots += store.remember(&nics).await?;
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    tell(0, slots, "the inventory");
    Ok(())
}

/// The NICs of a record. An error names the field.
fn places(record: &Record) -> Result<Vec<Releasing>, String> {
    /// A list that was empty is null in records of older programs.
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        interfaces: Option<Vec<InterfacePayload>>,
    }
    let node: NodeName = record.key.node_name.parse().map_err(|error| format!("nodeName: {error}"))?;
    let Config { interfaces } =
        serde_json::from_str(&record.config).map_err(|error| format!("config: {error}"))?;
    let nics = interfaces.into_iter().flatten().enumerate().map(|(at, nic)| {
        place(&node, at, &nic.into())
            .map_err(|(field, problem)| format!("interfaces[{at}].{field}: {problem}"))
    });
    nics.collect()
}

fn remembered(place: Releasing, listed: bool) -> RememberedNic {
    let Releasing { node, mac, slot } = place;
    RememberedNic { node, mac, slot, listed }
}

fn tell(interfaces: usize, slots: u64, place: &str) {
    if interfaces > 0 || slots > 0 {
        tracing::warn!(
            interfaces,
            slots,
            place,
            "the ledger did not know everything that is published: it was filled from there; nothing is removed because of that"
        );
    }
}

/// What was published, as it was published; and what lacks a part.
fn publication(rows: Vec<PublishedInterface>, based_on: Option<u64>) -> (Publication, Vec<Releasing>) {
    let mut halves = Vec::new();
    let mut interfaces: BTreeMap<PortId, DesiredInterface> = BTreeMap::new();
    let mut subnets = BTreeMap::new();
    for row in rows {
        let (Some(slot), Some(interface)) = (row.slot, row.interface()) else {
            tracing::warn!(
                node_name = %row.node, port_id = %row.port(),
                "an object lacks a part of a NIC, which is left as it is until its cloud shows it"
            );
            halves.push(Releasing { mac: row.mac(), slot: row.slot, node: row.node });
            continue;
        };
        let record = SubnetRecord {
            name: String::new(),
            cidr: interface.cidr.to_string(),
            network: interface.network.clone(),
        };
        subnets.insert(interface.subnet.clone(), record);
        let desired = DesiredInterface {
            slot,
            interface: Arc::clone(interface),
            // Not recorded in objects; the next read of the cloud tells.
            project: row.project.unwrap_or_else(|| ProjectId::from("")),
            node: row.node,
            owner: row.owner,
        };
        if let Some(other) = interfaces.insert(desired.interface.port.clone(), desired) {
            tracing::warn!(
                port_id = %other.interface.port, node_name = %other.node,
                "a port is in the objects of two nodes; its cloud tells which is right"
            );
        }
    }
    let interfaces = interfaces.into_values().collect();
    (Publication { based_on, interfaces, subnets, ..Publication::default() }, halves)
}

impl Reconciler {
    /// Fills a ledger that was lost. Returns when that is done, or was not necessary; an error says that it is gone once more.
    pub(super) async fn remember(&mut self) -> Result<(), StoreError> {
        let mut wait = PATIENCE;
        while let Err(error) = self.try_remember().await {
            self.pulse.failed(&error);
            tracing::error!(error = %error, "no pass is made before what was published is known");
            if let RestoreError::Store(error) = error
                && error.finds_no_tables()
            {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(self.defaults.cadence.error.max(PATIENCE));
        }
        Ok(())
    }

    async fn try_remember(&mut self) -> Result<(), RestoreError> {
        let own = self.deliverer.defaults.place_unknown(&self.deliverer.environment).kubernetes;
        let view = self.view.borrow().clone();
        let others: BTreeSet<Target> =
            view.objects.values().filter_map(|object| self.target(object)).collect();
        let targets: BTreeSet<Target> = own.into_iter().chain(others).collect();
        if !is_lost(&self.store).await? {
            for target in targets {
                // The first turn compares what is there with the ledger; what cannot be read now is compared later.
                if let Err(error) = self.deliverer.cluster(&target).await {
                    tracing::warn!(place = target.name(), error = %error, "what is published there is not known yet");
                }
            }
            return Ok(());
        }
        // Until the end of it, another start begins anew.
        self.store.set_restoring(true).await?;
        let (own, others): (Vec<_>, Vec<_>) =
            targets.into_iter().partition(|target| target.kubeconfig.is_none());
        others.iter().for_each(|target| self.unread.want(target));
        let mut nodes = BTreeSet::new();
        for target in own {
            let failed = |source| RestoreError::Sink { place: target.name(), source };
            let sink = self.deliverer.cluster(&target).await.map_err(failed)?;
            let memory = sink.memory().await.map_err(failed)?;
            nodes.extend(self.take_in(&target, memory).await?);
        }
        nodes.extend(self.read_memories().await?);
        if let Some(inventory) = self.deliverer.inventory.as_ref().and_then(Inventory::store) {
            restore_records(&self.store, inventory, &nodes).await?;
        }
        Ok(self.remembered().await?)
    }

    /// The ledger is complete once everything was read.
    async fn remembered(&self) -> Result<(), StoreError> {
        if self.unread.targets.is_empty() && self.store.is_restoring().await? {
            self.store.set_restoring(false).await?;
        }
        Ok(())
    }

    /// Reads what is not known yet, as far as it is due, and takes in what has come.
    pub(super) async fn remember_others(&mut self, retry: &mut Option<Instant>) {
        if self.unread.targets.is_empty() {
            return;
        }
        let read = match self.read_memories().await {
            Ok(_) => self.remembered().await,
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            tracing::error!(error = %error, "what objects remember cannot be taken into the ledger");
            sooner(retry, Instant::now() + self.defaults.cadence.error);
        }
        if let Some(again) = self.unread.again() {
            sooner(retry, again);
        }
    }

    /// The same; returns the nodes of what was taken in.
    async fn read_memories(&mut self) -> Result<BTreeSet<NodeName>, StoreError> {
        let longest = self.defaults.cadence.error;
        for target in self.unread.due() {
            match self.deliverer.cluster(&target).await {
                Ok(sink) => {
                    let (key, to) = (target.clone(), target);
                    self.unread.errands.begin(key, to, async move { sink.memory().await });
                }
                Err(error) => self.unread.failed(&target, error.to_string(), longest),
            }
        }
        let mut nodes = BTreeSet::new();
        for (target, memory) in self.unread.errands.collect(Some(TURN)).await {
            match memory {
                Ok(memory) => match self.take_in(&target, memory).await {
                    Ok(found) => nodes.extend(found),
                    Err(error) => {
                        self.unread.failed(&target, error.to_string(), longest);
                        return Err(error);
                    }
                },
                Err(error) => self.unread.failed(&target, error.to_string(), longest),
            }
        }
        Ok(nodes)
    }

    /// Takes what the objects of a target remember into the ledger, as far as it does not know better. Returns their nodes.
    async fn take_in(&mut self, target: &Target, memory: Memory) -> Result<BTreeSet<NodeName>, StoreError> {
        let Memory { interfaces: mut rows, releasing, unowned } = memory;
        let nodes = rows.iter().map(|row| &row.node);
        let nodes = nodes.chain(releasing.iter().chain(&unowned).map(|place| &place.node)).cloned().collect();
        let published = self.store.published().await?;
        let known: HashSet<&PortId> = published.interfaces.iter().map(PublishedInterface::port).collect();
        rows.retain(|row| !known.contains(row.port()));
        let (publication, halves) = publication(rows, published.revision);
        let count = publication.interfaces.len();
        if count > 0 {
            self.store.publish(&publication).await?;
        }
        // Of these nobody can say what they come from.
        let listed = unowned.into_iter().chain(halves).map(|place| remembered(place, true));
        let nics: Vec<_> =
            listed.chain(releasing.into_iter().map(|place| remembered(place, false))).collect();
        let slots = self.store.remember(&nics).await?;
        tell(count, slots, &target.name());
        self.deliverer.memory.trust.compared(target);
        self.unread.targets.remove(target);
        self.undelivered = None;
        Ok(nodes)
    }

    pub(super) fn target(&self, object: &DynamicObject) -> Option<Target> {
        let spec = spec_of(object).ok()?;
        let key = key(object);
        self.deliverer.defaults.target_of(&key, spec.sinks.as_deref(), spec.target.as_ref())
    }
}
