//! What agents report, taken into the inventory: from the shared tables, and from the nodes' objects.

use std::collections::HashMap;

use jiff::Timestamp;
use multinic_store::inventory::NodeObservation;
use multinic_store::{Store, StoreError};

use super::Inventory;

/// How far reports were taken. One for the time that a replica leads.
#[derive(Debug, Default)]
pub struct Reports {
    /// From when on the shared tables are read.
    since: Option<String>,
    /// When each node reported into the shared tables last.
    at: HashMap<String, Timestamp>,
}

impl Reports {
    /// Brings the inventory's observed state up to what agents reported into the shared tables and what their `objects`
    /// say now. Of a node that did both, since its agent was given another source of desired state, the later report counts.
    ///
    /// # Errors
    /// Where a database fails. The next call takes what this one did not.
    pub async fn take(
        &mut self,
        inventory: &Inventory,
        database: &Store,
        mut objects: Vec<NodeObservation>,
    ) -> Result<(), StoreError> {
        if inventory.store().is_none() {
            return Ok(());
        }
        // A record that is new is asked for once, since its node may have reported before it was there.
        let fresh: Vec<String> = std::mem::take(&mut *inventory.fresh()).into_iter().collect();
        let taken = async {
            let (mut rows, next) = database.observations(self.since.as_deref(), &fresh).await?;
            for row in &rows {
                match row.observed.observed_at {
                    Some(at) => drop(self.at.insert(row.node_name.clone(), at)),
                    // What it had reported is void.
                    None => drop(self.at.remove(&row.node_name)),
                }
            }
            objects.retain(|node| node.observed.observed_at >= self.at.get(&node.node_name).copied());
            let by_object: HashMap<&str, &NodeObservation> =
                objects.iter().map(|node| (node.node_name.as_str(), node)).collect();
            rows.retain(|row| !by_object.contains_key(row.node_name.as_str()));
            rows.append(&mut objects);
            inventory.observe_nodes(&rows).await?;
            Ok::<_, StoreError>(next)
        };
        match taken.await {
            Ok(next) => {
                self.since = Some(next);
                Ok(())
            }
            Err(error) => {
                inventory.fresh().extend(fresh);
                Err(error)
            }
        }
    }
}
