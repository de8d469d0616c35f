//! What is remembered of nodes' slots beside what is published: a new ledger takes it from where nobody can say any more
//! which configuration a NIC came from.

use std::time::Duration;

use multinic_core::{MacAddr, NodeName, Slot};

use crate::error::StoreError;
use crate::session::Arg;
use crate::store::Store;

/// A NIC of a node of which no configuration is known. Its MAC keeps the slot until it is published, or what is remembered
/// is purged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RememberedNic {
    /// The node.
    pub node: NodeName,
    /// The MAC address.
    pub mac: MacAddr,
    /// The slot, if one is known.
    pub slot: Option<Slot>,
    /// Whether the node is to have it: it is not one that is being taken away.
    pub listed: bool,
}

const RESTORING: &str = "restoring";

impl Store {
    /// Whether this ledger is being filled from what was published elsewhere, and is not complete yet.
    pub async fn is_restoring(&self) -> Result<bool, StoreError> {
        let mut restoring = false;
        let sql = format!("SELECT value FROM multinic_meta WHERE name = '{RESTORING}'");
        let mut session = self.session().await?;
        session
            .each_row("reading multinic_meta", &sql, Vec::new(), &mut |row| {
                restoring = row.text(0)? == Some("1");
                Ok(())
            })
            .await?;
        Ok(restoring)
    }

    /// Notes that the filling begins, or that it is complete: one that is interrupted is made again.
    pub async fn set_restoring(&self, restoring: bool) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let instead = session.dialect().on_duplicate("name", &["value"]);
        let sql = format!("INSERT INTO multinic_meta (name, value) VALUES ('{RESTORING}', ?) {instead}");
        let value = if restoring { "1" } else { "0" };
        session
            .execute("noting that the ledger is being filled", &sql, vec![Arg::text(value)])
            .await
            .map(drop)
    }

    /// Remembers these, as far as they are neither published nor remembered already. Returns how many are new.
    pub async fn remember(&self, nics: &[RememberedNic]) -> Result<u64, StoreError> {
        let mut session = self.session().await?;
        session.begin_write().await?;
        let ignore = session.dialect().insert_ignore();
        let sql = format!(
            "{ignore} multi_slot (node_name, macaddress, slot, listed, created_at) VALUES (?, ?, ?, ?, CURRENT_TIMESTAMP)"
        );
        let mut count = 0;
        for RememberedNic { node, mac, slot, listed } in nics {
            let slot = Arg::optional_int(slot.map(Slot::number));
            let args = vec![Arg::text(node), Arg::text(mac), slot, Arg::Int((*listed).into())];
            count += session.execute("remembering a slot", &sql, args).await?;
        }
        let known = session.execute("remembering slots", CLAIMED, Vec::new()).await?;
        session.commit().await?;
        Ok(count.saturating_sub(known))
    }

    /// What nodes are to have and no configuration named yet; only what is known for a shorter time than this, if one is
    /// given.
    pub async fn unclaimed(&self, within: Option<Duration>) -> Result<Vec<RememberedNic>, StoreError> {
        let mut session = self.session().await?;
        let mut sql = "SELECT node_name, macaddress, slot FROM multi_slot WHERE listed = 1".to_owned();
        if let Some(within) = within {
            sql.push_str(&format!(" AND created_at > {}", session.dialect().seconds_ago(within.as_secs())));
        }
        let mut nics = Vec::new();
        session
            .each_row("reading multi_slot", &sql, Vec::new(), &mut |row| {
                // What we wrote can be read.
                let node = row.text(0)?.and_then(|text| text.parse().ok());
                let mac = row.text(1)?.and_then(|text| text.parse().ok());
                let slot = row.int(2)?.and_then(|number| Slot::new(number).ok());
                if let (Some(node), Some(mac)) = (node, mac) {
                    nics.push(RememberedNic { node, mac, slot, listed: true });
                }
                Ok(())
            })
            .await?;
        nics.sort();
        Ok(nics)
    }
}

/// What is published is remembered there.
pub(crate) const CLAIMED: &str = "DELETE FROM multi_slot WHERE EXISTS (SELECT 1 FROM multi_interface mi \
     WHERE mi.attached_node_name = multi_slot.node_name AND LOWER(mi.macaddress) = multi_slot.macaddress \
     AND mi.deleted_at IS NULL)";
