//! The inventory's records: what was delivered of each node, for people, and as a memory of what a Viola has.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use multinic_api::node_config::State;
use multinic_core::published::Published;
use multinic_core::{MacAddr, NodeName};
use multinic_store::inventory::{
    Entry, Filter, MAX_PAGE, NodeObservation, Observed, ObservedInterface, RecordKey,
};
use multinic_store::{Removed, Store, StoreError};

use super::deliver::Deliverer;
use super::failures::Failure;
use super::project::Projection;
use crate::sinks::NodePayload;
use crate::sinks::kubernetes::NodeStatus;

/// How many records are written at once.
const AT_ONCE: usize = 500;

impl Deliverer {
    /// Reads the records, once.
    pub(super) async fn read_records(&mut self) -> Result<(), StoreError> {
        let Some(store) = self.inventory.as_ref().and_then(|inventory| inventory.store()) else {
            return Ok(());
        };
        if self.memory.records.is_some() {
            return Ok(());
        }
        let mut records = BTreeMap::new();
        let mut after = None;
        loop {
            let page = store.list(&Filter::default(), after.as_ref(), MAX_PAGE).await?;
            records.extend(page.records.into_iter().map(|record| (record.key, record.last_config_hash)));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        self.memory.records = Some(records);
        Ok(())
    }

    /// Brings the records up to what was delivered: a node with a failure keeps the record that it has. `unknown` go.
    pub(super) async fn keep_records(
        &mut self,
        projection: &Projection,
        failures: &[Failure],
        unknown: &[RecordKey],
    ) -> Result<(), StoreError> {
        let (Some(inventory), Some(records)) = (&self.inventory, &mut self.memory.records) else {
            return Ok(());
        };
        let failed: BTreeSet<&NodeName> = failures.iter().map(|failure| &failure.node).collect();
        let mut wished: BTreeSet<RecordKey> = BTreeSet::new();
        for (provider, wishes) in &projection.providers {
            // The records of a whole fleet together would be most of the memory.
            for wishes in wishes.chunks(AT_ONCE) {
                let mut entries = Vec::new();
                for wish in wishes {
                    let node = &wish.config.node;
                    let entry = match Entry::new(provider, &NodePayload::from(&**wish)) {
                        Ok(entry) => entry,
                        Err(error) => {
                            tracing::warn!(node_name = %node, error = %error, "the inventory cannot take a node");
                            continue;
                        }
                    };
                    wished.insert(entry.key().clone());
                    let known = records.get(entry.key()).is_some_and(|hash| hash == entry.hash());
                    if !known && !failed.contains(node) {
                        entries.push(entry);
                    }
                }
                if !entries.is_empty() {
                    inventory.apply(&entries).await?;
                    records
                        .extend(entries.iter().map(|entry| (entry.key().clone(), entry.hash().to_owned())));
                }
            }
        }
        let gone = records.keys().filter(|key| {
            let node = key.node_name.parse::<NodeName>();
            let touched = node.is_ok_and(|node| {
                projection.losses.get(&node).is_some_and(|loss| loss.concerns_provider(&key.provider_id))
                    && !projection.skipped.contains(&node)
                    && !failed.contains(&node)
            });
            touched && !wished.contains(*key)
        });
        let gone: BTreeSet<RecordKey> = gone.chain(unknown).cloned().collect();
        if !unknown.is_empty() {
            tracing::info!(count = unknown.len(), "the inventory had records of nodes that nobody publishes");
        }
        if !gone.is_empty() {
            inventory.remove(&gone.iter().cloned().collect::<Vec<_>>()).await?;
            records.retain(|key, _| !gone.contains(key));
        }
        Ok(())
    }

    /// Records of nodes of which the ledger knows nothing at all: of an older program's inventory, or of another ledger.
    pub(super) fn unknown_records(&self, published: &Published, removed: &[Removed]) -> Vec<RecordKey> {
        let Some(records) = &self.memory.records else { return Vec::new() };
        let known = published.interfaces.iter().map(|row| &row.node);
        let known = known.chain(removed.iter().map(|it| &it.node)).map(NodeName::as_str);
        let known: HashSet<&str> =
            known.chain(published.releasing.iter().map(|it| it.node.as_str())).collect();
        records.keys().filter(|key| !known.contains(key.node_name.as_str())).cloned().collect()
    }

    /// Takes what the nodes' agents reported, in their objects or in the shared tables: for the inventory, and to free the
    /// slots of NICs that the objects show to be let go.
    pub(super) async fn observe(&mut self, store: &Store) -> Result<(), StoreError> {
        let inventory = self.inventory.as_ref().filter(|inventory| inventory.store().is_some());
        if inventory.is_none() && self.memory.shrunk.is_empty() {
            return Ok(());
        }
        let mut nodes: Vec<NodeObservation> = Vec::new();
        for cluster in self.memory.sinks.values() {
            let statuses = cluster.sink.statuses();
            let free: Vec<(NodeName, MacAddr)> =
                statuses.iter().flat_map(|status| let_go(status, &self.memory.shrunk)).collect();
            if !free.is_empty() {
                store.release(&free).await?;
                for (node, mac) in &free {
                    if let Some(macs) = self.memory.shrunk.get_mut(node) {
                        macs.retain(|other| other != mac);
                    }
                }
                self.memory.shrunk.retain(|_, macs| !macs.is_empty());
            }
            nodes.extend(statuses.into_iter().map(observation));
        }
        match inventory {
            Some(inventory) => self.memory.reports.take(inventory, store, nodes).await,
            None => Ok(()),
        }
    }
}

/// The NICs that a node was to let go and does not report any more, in a status that speaks of its object as it is now and
/// reports every NIC of it: it knows of the removal and has carried it out.
fn let_go(status: &NodeStatus, shrunk: &BTreeMap<NodeName, Vec<MacAddr>>) -> Vec<(NodeName, MacAddr)> {
    let NodeStatus { node, generation, status } = status;
    let settled = status.state == Some(State::Configured) && status.observed_generation == Some(*generation);
    let Some((node, macs)) = shrunk.iter().find(|(name, _)| settled && name.as_str() == node) else {
        return Vec::new();
    };
    let reported: BTreeSet<MacAddr> =
        status.interface_statuses.iter().filter_map(|nic| nic.mac_address.as_ref()?.parse().ok()).collect();
    macs.iter().filter(|mac| !reported.contains(mac)).map(|mac| (node.clone(), *mac)).collect()
}

fn observation(node: NodeStatus) -> NodeObservation {
    let NodeStatus { node, generation, status } = node;
    let current = status.observed_generation == Some(generation);
    let state = match status.state {
        Some(state) if current => format!("{state:?}"),
        // What it says is of an older spec.
        _ => "Pending".to_owned(),
    };
    let interfaces = status.interface_statuses.into_iter().map(|nic| ObservedInterface {
        name: nic.name.unwrap_or_default(),
        mac_address: nic.mac_address.unwrap_or_default(),
        addresses: nic.addresses.or_else(|| nic.cidr.map(|cidr| vec![cidr])).unwrap_or_default(),
        mtu: nic.mtu.and_then(|mtu| u32::try_from(mtu).ok()),
        status: nic.status.unwrap_or_default(),
        reason: nic.reason.unwrap_or_default(),
    });
    NodeObservation {
        node_name: node,
        instance_id: None,
        observed: Observed {
            state,
            observed_at: status.last_updated.and_then(|at| at.parse().ok()),
            interfaces: interfaces.collect(),
        },
    }
}
