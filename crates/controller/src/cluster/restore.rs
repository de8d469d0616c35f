//! A ledger that was lost (an `emptyDir`, a new database) is filled again from what was published, before the first pass:
//! so nobody loses a name, and nothing is taken for new that is not.
//!
//! While this cluster's objects cannot be read, no pass is made. While those of another cannot, the configurations that are
//! published there wait, and the others do not.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use kube::api::DynamicObject;
use multinic_core::published::{DesiredInterface, Publication, PublishedInterface, SubnetRecord};
use multinic_core::{PortId, ProjectId};
use multinic_store::{Store, StoreError};

use super::deliver::Deliverer;
use super::manifest::spec_of;
use super::placement::Target;
use super::reconciler::{PATIENCE, Reconciler, sooner};
use super::watch::key;
use crate::sinks::SinkError;

/// Why a ledger could not be filled. No pass is made meanwhile: a memory that cannot be read is not an empty one.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The ledger.
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
}

/// Whether a ledger knows of nothing at all.
pub(super) async fn is_lost(store: &Store) -> Result<bool, StoreError> {
    let published = store.published().await?;
    Ok(published.interfaces.is_empty() && published.releasing.is_empty() && published.spec_hashes.is_empty())
}

/// Takes what the objects of a target say into the ledger, as far as it does not know better. Returns how many interfaces
/// came back.
pub(super) async fn restore(
    store: &Store,
    deliverer: &mut Deliverer,
    target: &Target,
) -> Result<usize, RestoreError> {
    let failed = |source| RestoreError::Sink { place: target.name(), source };
    let sink = deliverer.look(target).await.map_err(failed)?;
    let mut rows = sink.published().await.map_err(failed)?;
    let published = store.published().await?;
    let known: HashSet<&PortId> = published.interfaces.iter().map(|row| &row.port).collect();
    rows.retain(|row| !known.contains(&row.port));
    let publication = publication(rows, published.revision);
    let count = publication.interfaces.len();
    if count > 0 {
        store.publish(&publication).await?;
        tracing::warn!(
            interfaces = count,
            place = target.name(),
            "the ledger was empty: it was filled from what is published; nothing is removed because of that"
        );
    }
    Ok(count)
}

/// What was published, as it was published.
fn publication(rows: Vec<PublishedInterface>, based_on: Option<u64>) -> Publication {
    let mut interfaces: BTreeMap<PortId, DesiredInterface> = BTreeMap::new();
    let mut subnets = BTreeMap::new();
    for row in rows {
        let PublishedInterface { node, owner, slot, interface, port, project, .. } = row;
        let (Some(slot), Some(interface)) = (slot, interface) else {
            tracing::warn!(
                node_name = %node, port_id = %port,
                "an object lacks a part of a NIC, which is left as it is until its cloud shows it"
            );
            continue;
        };
        let record = SubnetRecord {
            name: String::new(),
            cidr: interface.cidr.to_string(),
            network: interface.network.clone(),
        };
        subnets.insert(interface.subnet.clone(), record);
        let desired = DesiredInterface {
            node,
            owner,
            slot,
            // Not recorded in objects; the next read of the cloud tells.
            project: project.unwrap_or_else(|| ProjectId::from("")),
            interface: Arc::clone(&interface),
        };
        if let Some(other) = interfaces.insert(port, desired) {
            tracing::warn!(
                port_id = %other.interface.port, node_name = %other.node,
                "a port is in the objects of two nodes; its cloud tells which is right"
            );
        }
    }
    Publication {
        based_on,
        interfaces: interfaces.into_values().collect(),
        subnets,
        ..Publication::default()
    }
}

impl Reconciler {
    /// Fills a ledger that was lost. Returns when that is done, or was not necessary.
    pub(super) async fn remember(&mut self) {
        let mut wait = PATIENCE;
        while let Err(error) = self.try_remember().await {
            self.pulse.failed(&error);
            tracing::error!(error = %error, "no pass is made before what was published is known");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(self.defaults.cadence.error.max(PATIENCE));
        }
    }

    async fn try_remember(&mut self) -> Result<(), RestoreError> {
        if !is_lost(&self.store).await? {
            return Ok(());
        }
        let own = self.deliverer.defaults.place_unknown(&self.deliverer.environment).kubernetes;
        let view = self.view.borrow().clone();
        let others: BTreeSet<Target> =
            view.objects.values().filter_map(|object| self.target(object)).collect();
        for target in own.into_iter().chain(others).collect::<BTreeSet<_>>() {
            match restore(&self.store, &mut self.deliverer, &target).await {
                Ok(_) => {}
                Err(RestoreError::Sink { source, .. }) if target.kubeconfig.is_some() => {
                    self.unread.insert(target, source.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tries again to read the objects of other clusters that a lost ledger is to be filled from.
    pub(super) async fn remember_others(&mut self, retry: &mut Option<Instant>) {
        for target in self.unread.keys().cloned().collect::<Vec<_>>() {
            match restore(&self.store, &mut self.deliverer, &target).await {
                Ok(_) => drop(self.unread.remove(&target)),
                Err(error) => {
                    let problem = match error {
                        RestoreError::Sink { source, .. } => source.to_string(),
                        RestoreError::Store(error) => error.to_string(),
                    };
                    self.unread.insert(target, problem);
                    sooner(retry, Instant::now() + self.defaults.cadence.error.max(PATIENCE));
                }
            }
        }
    }

    pub(super) fn target(&self, object: &DynamicObject) -> Option<Target> {
        let spec = spec_of(object).ok()?;
        let key = key(object);
        self.deliverer.defaults.target_of(&key, spec.sinks.as_deref(), spec.target.as_ref())
    }
}
