//! What was taken away, for sinks that deliver it: read without the node's own report, and released in its place.

use multinic_core::{ConfigKey, MacAddr, NodeName, ProjectId, ServerId};

use crate::error::StoreError;
use crate::publish::is_placeholder;
use crate::session::{Arg, Session};

/// A NIC that was taken away from a node, for as long as its tombstone is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The node.
    pub node: NodeName,
    /// The MAC address.
    pub mac: MacAddr,
    /// The configuration that its port came from last.
    pub owner: Option<ConfigKey>,
    /// The server that it was attached to; none where its port is published elsewhere now.
    pub server: Option<ServerId>,
    /// The project whose token saw it last.
    pub project: Option<ProjectId>,
    /// Whether the node let it go: its slot is free.
    pub released: bool,
}

const REMOVED: &str = "SELECT mr.id, mr.node_name, mr.macaddress, mi.cr_namespace, mi.cr_name, mi.device_id, \
     CASE WHEN mr.released_at IS NULL THEN 0 ELSE 1 END, CASE WHEN mi.deleted_at IS NULL THEN 0 ELSE 1 END, \
     mi.project_id FROM multi_removal mr LEFT JOIN multi_interface mi ON mi.port_id = mr.port_id ORDER BY mr.id";

pub(crate) async fn read(session: &mut Session) -> Result<Vec<Removed>, StoreError> {
    let mut all: Vec<Removed> = Vec::new();
    session
        .each_row("reading multi_removal", REMOVED, Vec::new(), &mut |row| {
            let text = |column| row.text(column).map(|text| text.filter(|text| !text.is_empty()));
            // What no node and no NIC can be is nobody's to deliver.
            let node = text(1)?.and_then(|text| text.parse().ok());
            let mac = text(2)?.and_then(|text| text.parse().ok());
            let (Some(node), Some(mac)) = (node, mac) else { return Ok(()) };
            let gone = row.int(7)? == Some(1);
            let owner = text(3)?.zip(text(4)?);
            let server = text(5)?.filter(|text| gone && !is_placeholder(text));
            all.push(Removed {
                node,
                mac,
                owner: owner.map(|(namespace, name)| ConfigKey::new(namespace, name)),
                server: server.map(ServerId::from),
                project: text(8)?.map(ProjectId::from),
                released: row.int(6)? == Some(1),
            });
            Ok(())
        })
        .await?;
    Ok(all)
}

/// Frees the slots of removals that nodes were seen to have carried out. Returns how many.
pub(crate) async fn release(session: &mut Session, done: &[(NodeName, MacAddr)]) -> Result<u64, StoreError> {
    let sql = "UPDATE multi_removal SET released_at = CURRENT_TIMESTAMP \
               WHERE node_name = ? AND macaddress = ? AND released_at IS NULL";
    let mut count = 0;
    for (node, mac) in done {
        let args = vec![Arg::text(node), Arg::text(mac)];
        count += session.execute("releasing removals", sql, args).await?;
    }
    Ok(count)
}
