//! What was taken away, for sinks that deliver it: read without the node's own report, and released in its place.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use multinic_core::{ConfigKey, MacAddr, NodeName, ProjectId, ServerId};

use crate::error::StoreError;
use crate::inventory::node_hash;
use crate::publish::{MAX_ARGS, is_placeholder, placeholders};
use crate::session::{Arg, Session};
use crate::store::Store;

/// A removal's number in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RemovalId(i64);

/// A NIC that was taken away from a node, for as long as its tombstone is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Its number.
    pub id: RemovalId,
    /// The node.
    pub node: NodeName,
    /// The MAC address.
    pub mac: MacAddr,
    /// The configuration that published it.
    pub owner: Option<ConfigKey>,
    /// The server that it was attached to.
    pub server: Option<ServerId>,
    /// The project whose token saw it last.
    pub project: Option<ProjectId>,
    /// Whether the node let it go: its slot is free.
    pub released: bool,
    /// How far it was delivered.
    pub delivered: Reached,
}

/// How far a removal was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// To every place that it has to reach.
    Everything,
    /// To these, each as [`place_digest`] names it.
    Places(BTreeSet<String>),
}

impl Reached {
    /// Whether it has reached a place.
    pub fn has(&self, place: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Places(digests) => digests.contains(&place_digest(place)),
        }
    }
}

/// A place, in the words of whoever delivers, can be longer than a key.
pub fn place_digest(place: &str) -> String {
    node_hash(place)
}

// The later columns are of removals that an older version recorded.
const REMOVED: &str = "SELECT mr.id, mr.node_name, mr.macaddress, COALESCE(mr.cr_namespace, mi.cr_namespace), \
     COALESCE(mr.cr_name, mi.cr_name), COALESCE(mr.device_id, CASE WHEN mi.deleted_at IS NULL THEN NULL ELSE mi.device_id END), \
     CASE WHEN mr.released_at IS NULL THEN 0 ELSE 1 END, COALESCE(mr.project_id, mi.project_id), \
     CASE WHEN mr.delivered_at IS NULL THEN 0 ELSE 1 END \
     FROM multi_removal mr LEFT JOIN multi_interface mi ON mi.port_id = mr.port_id ORDER BY mr.id";
const REACHED: &str = "SELECT removal_id, digest FROM multi_removal_place";

async fn read(session: &mut Session) -> Result<Vec<Removed>, StoreError> {
    let mut reached: HashMap<i64, BTreeSet<String>> = HashMap::new();
    session
        .each_row("reading multi_removal_place", REACHED, Vec::new(), &mut |row| {
            let places = reached.entry(row.int(0)?.unwrap_or_default()).or_default();
            places.extend(row.text(1)?.map(str::to_owned));
            Ok(())
        })
        .await?;
    let mut all: Vec<Removed> = Vec::new();
    session
        .each_row("reading multi_removal", REMOVED, Vec::new(), &mut |row| {
            let text = |column| row.text(column).map(|text| text.filter(|text| !text.is_empty()));
            let id = row.int(0)?.unwrap_or_default();
            // What no node and no NIC can be is nobody's to deliver.
            let node = text(1)?.and_then(|text| text.parse().ok());
            let mac = text(2)?.and_then(|text| text.parse().ok());
            let (Some(node), Some(mac)) = (node, mac) else { return Ok(()) };
            let owner = text(3)?.zip(text(4)?);
            let places = reached.remove(&id).unwrap_or_default();
            all.push(Removed {
                id: RemovalId(id),
                node,
                mac,
                owner: owner.map(|(namespace, name)| ConfigKey::new(namespace, name)),
                server: text(5)?.filter(|text| !is_placeholder(text)).map(ServerId::from),
                project: text(7)?.map(ProjectId::from),
                released: row.int(6)? == Some(1),
                delivered: match row.int(8)? {
                    Some(1) => Reached::Everything,
                    _ => Reached::Places(places),
                },
            });
            Ok(())
        })
        .await?;
    Ok(all)
}

impl Store {
    /// Reads what was taken away from nodes and is still remembered, released or not.
    pub async fn removed(&self) -> Result<Vec<Removed>, StoreError> {
        let mut session = self.session().await?;
        session.begin_read().await?;
        let removed = read(&mut session).await?;
        session.commit().await?;
        Ok(removed)
    }

    /// Frees the slots of NICs that nodes were seen to have let go, in place of the nodes' own reports. Returns how many.
    pub async fn release(&self, done: &[(NodeName, MacAddr)]) -> Result<u64, StoreError> {
        let sql = "UPDATE multi_removal SET released_at = CURRENT_TIMESTAMP \
                   WHERE node_name = ? AND macaddress = ? AND released_at IS NULL";
        let mut session = self.session().await?;
        session.begin_write().await?;
        let mut count = 0;
        for (node, mac) in done {
            let args = vec![Arg::text(node), Arg::text(mac)];
            count += session.execute("releasing removals", sql, args).await?;
        }
        session.commit().await?;
        Ok(count)
    }

    /// Frees the slots of those of these removals that were delivered longer ago than this. Returns how many.
    pub async fn release_delivered(
        &self,
        removals: &[RemovalId],
        longer_than: Duration,
    ) -> Result<u64, StoreError> {
        let mut session = self.session().await?;
        session.begin_write().await?;
        let cutoff = session.dialect().seconds_ago(longer_than.as_secs());
        let mut count = 0;
        for part in removals.chunks(MAX_ARGS) {
            let sql = format!(
                "UPDATE multi_removal SET released_at = CURRENT_TIMESTAMP \
                 WHERE released_at IS NULL AND delivered_at <= {cutoff} AND id IN ({})",
                placeholders(part.len())
            );
            let args = part.iter().map(|id| Arg::Int(id.0)).collect();
            count += session.execute("releasing removals", &sql, args).await?;
        }
        session.commit().await?;
        Ok(count)
    }

    /// Notes which removals have reached a place, and which have reached every one: these may be purged.
    pub async fn note_delivered(
        &self,
        reached: &[(RemovalId, String)],
        everything: &[RemovalId],
    ) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        session.begin_write().await?;
        let ignore = session.dialect().insert_ignore();
        let sql = format!("{ignore} multi_removal_place (removal_id, digest) VALUES (?, ?)");
        for (id, place) in reached {
            let args = vec![Arg::Int(id.0), Arg::Text(place_digest(place))];
            session.execute("noting that a removal is delivered", &sql, args).await?;
        }
        for part in everything.chunks(MAX_ARGS) {
            let ids = placeholders(part.len());
            let args = || part.iter().map(|id| Arg::Int(id.0)).collect();
            let sql =
                format!("UPDATE multi_removal SET delivered_at = CURRENT_TIMESTAMP WHERE id IN ({ids})");
            session.execute("noting that removals are delivered", &sql, args()).await?;
            let sql = format!("DELETE FROM multi_removal_place WHERE removal_id IN ({ids})");
            session.execute("noting that removals are delivered", &sql, args()).await?;
        }
        session.commit().await
    }
}
