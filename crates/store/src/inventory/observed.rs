//! What the agents saw.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::read::text;
use crate::error::StoreError;
use crate::session::{Arg, Row, RowError, Session};

/// How many names one query asks for.
const NAMES: usize = 1000;
/// A transaction writes the time at which its statement ran and is seen when it commits: this much later at most.
const SLACK_SECONDS: u64 = 30;

/// What a node's agent reported, in the words of `MultiNicNodeConfig.status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// `Pending`, `InProgress`, `Configured` or `Failed`.
    pub state: String,
    /// When the agent reported what is here: RFC 3339, UTC. A later report that says the same does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Timestamp>,
    /// Its NICs.
    pub interfaces: Vec<ObservedInterface>,
}

/// What a node's agent reported of one NIC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedInterface {
    /// The name that the kernel shows; empty where there is none yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The MAC address.
    pub mac_address: String,
    /// The addresses that the kernel shows, as `ip/prefix`.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// In bytes, where it was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// `Pending`, `InProgress`, `Configured`, `Failed` or `Removing`.
    pub status: String,
    /// Why, where it is not as it should be.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What was observed of a node that is known by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeObservation {
    /// The node.
    pub node_name: String,
    /// Its Nova server, where it is known.
    pub instance_id: Option<String>,
    /// What was observed.
    pub observed: Observed,
}

impl Observed {
    pub(super) fn to_json(&self) -> String {
        // A structure of texts, numbers and lists always has a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether what is stored says the same, be it from another time.
    pub(super) fn says_the_same(&self, stored: Option<&str>) -> bool {
        let stored: Option<Self> = stored.and_then(|text| serde_json::from_str(text).ok());
        stored.is_some_and(|stored| {
            (stored.state, stored.interfaces) == (self.state.clone(), self.interfaces.clone())
        })
    }

    fn settle(&mut self) {
        let any = |status: &str| self.interfaces.iter().any(|nic| nic.status == status);
        let state = if any("Failed") {
            "Failed"
        } else if self.interfaces.iter().all(|nic| nic.status == "Configured") {
            "Configured"
        } else if self.interfaces.iter().all(|nic| nic.status == "Pending") {
            "Pending"
        } else {
            "InProgress"
        };
        self.state = state.to_owned();
    }
}

/// Reads the shared tables, within a transaction of the caller's.
pub(super) async fn read(
    session: &mut Session,
    since: Option<&str>,
    also: &[String],
) -> Result<(Vec<NodeObservation>, String), StoreError> {
    let mut next = String::new();
    let sql = format!("SELECT CAST({} AS CHAR)", session.dialect().seconds_ago(SLACK_SECONDS));
    session
        .each_row("reading the database's time", &sql, Vec::new(), &mut |row| {
            next = text(row, 0)?;
            Ok(())
        })
        .await?;
    let mut names = changed(session, since).await?;
    names.extend(also.iter().cloned());
    let names: Vec<String> = names.into_iter().collect();
    let mut nodes: BTreeMap<String, NodeObservation> = BTreeMap::new();
    for part in names.chunks(NAMES) {
        for name in part {
            let node =
                NodeObservation { node_name: name.clone(), instance_id: None, observed: Observed::default() };
            nodes.insert(name.clone(), node);
        }
        servers(session, part, &mut nodes).await?;
        interfaces(session, part, &mut nodes).await?;
        removals(session, part, &mut nodes).await?;
    }
    // Of a node that these tables do not know, nothing was observed; that is not the same as having nothing.
    nodes.retain(|_, node| node.instance_id.is_some() || !node.observed.interfaces.is_empty());
    for node in nodes.values_mut() {
        node.observed.settle();
    }
    Ok((nodes.into_values().collect(), next))
}

/// The nodes of which a row changed.
async fn changed(session: &mut Session, since: Option<&str>) -> Result<BTreeSet<String>, StoreError> {
    let queries: &[(&str, usize)] = match since {
        Some(_) => &[
            ("SELECT DISTINCT attached_node_name FROM multi_interface WHERE modified_at >= ?", 1),
            ("SELECT DISTINCT node_name FROM multi_removal WHERE created_at >= ? OR released_at >= ?", 2),
        ],
        None => &[
            ("SELECT DISTINCT attached_node_name FROM multi_interface WHERE deleted_at IS NULL", 0),
            ("SELECT DISTINCT node_name FROM multi_removal WHERE released_at IS NULL", 0),
        ],
    };
    let mut names = BTreeSet::new();
    for (sql, count) in queries {
        let args = vec![Arg::optional(since); *count];
        session
            .each_row("reading which nodes changed", sql, args, &mut |row| {
                names.extend(row.text(0)?.filter(|name| !name.is_empty()).map(str::to_owned));
                Ok(())
            })
            .await?;
    }
    Ok(names)
}

/// Also of nodes that have nothing any more.
async fn servers(
    session: &mut Session,
    names: &[String],
    nodes: &mut BTreeMap<String, NodeObservation>,
) -> Result<(), StoreError> {
    let sql = format!(
        "SELECT attached_node_name, attached_node_id FROM node_table WHERE attached_node_name IN ({})",
        crate::publish::placeholders(names.len())
    );
    session
        .each_row("reading node_table", &sql, names.iter().map(Arg::text).collect(), &mut |row| {
            if let Some(node) = nodes.get_mut(row.text(0)?.unwrap_or_default()) {
                let server = row.text(1)?.filter(|server| !crate::publish::is_placeholder(server));
                node.instance_id = server.map(str::to_owned);
            }
            Ok(())
        })
        .await
}

async fn interfaces(
    session: &mut Session,
    names: &[String],
    nodes: &mut BTreeMap<String, NodeObservation>,
) -> Result<(), StoreError> {
    let sql = format!(
        "SELECT attached_node_name, device_id, macaddress, netplan_success, observed_name, observed_addresses, mtu, \
         last_error, CAST(observed_at AS CHAR) FROM multi_interface \
         WHERE deleted_at IS NULL AND attached_node_name IN ({}) ORDER BY slot, id",
        crate::publish::placeholders(names.len())
    );
    session
        .each_row("reading what agents reported", &sql, names.iter().map(Arg::text).collect(), &mut |row| {
            let Some(node) = nodes.get_mut(row.text(0)?.unwrap_or_default()) else { return Ok(()) };
            node.instance_id = row.text(1)?.map(str::to_owned).or(node.instance_id.take());
            let (nic, at) = interface(row)?;
            node.observed.observed_at = node.observed.observed_at.max(at);
            node.observed.interfaces.push(nic);
            Ok(())
        })
        .await
}

fn interface(row: &Row<'_>) -> Result<(ObservedInterface, Option<Timestamp>), RowError> {
    let done = row.int(3)?.is_some_and(|flag| flag != 0);
    let reason = text(row, 7)?;
    let at = row.text(8)?.and_then(database_time);
    let status = match (done, reason.is_empty(), at) {
        (true, _, _) => "Configured",
        (false, false, _) => "Failed",
        (false, true, Some(_)) => "InProgress",
        (false, true, None) => "Pending",
    };
    let list = row.text(5)?.unwrap_or_default();
    let nic = ObservedInterface {
        name: text(row, 4)?,
        mac_address: text(row, 2)?,
        // Only this project writes the column.
        addresses: serde_json::from_str(list).unwrap_or_default(),
        // Success means that the MTU was verified too.
        mtu: row.int(6)?.filter(|_| done).and_then(|mtu| u32::try_from(mtu).ok()),
        status: status.to_owned(),
        reason: if done { String::new() } else { reason },
    };
    Ok((nic, at))
}

async fn removals(
    session: &mut Session,
    names: &[String],
    nodes: &mut BTreeMap<String, NodeObservation>,
) -> Result<(), StoreError> {
    let sql = format!(
        "SELECT node_name, macaddress, slot, reason FROM multi_removal \
         WHERE released_at IS NULL AND node_name IN ({}) ORDER BY id",
        crate::publish::placeholders(names.len())
    );
    session
        .each_row("reading what is being removed", &sql, names.iter().map(Arg::text).collect(), &mut |row| {
            let Some(node) = nodes.get_mut(row.text(0)?.unwrap_or_default()) else { return Ok(()) };
            let mac_address = text(row, 1)?;
            // A NIC that came back is one of the above.
            if node.observed.interfaces.iter().any(|nic| nic.mac_address == mac_address) {
                return Ok(());
            }
            node.observed.interfaces.push(ObservedInterface {
                name: row.int(2)?.map(|slot| format!("multinic{slot}")).unwrap_or_default(),
                mac_address,
                status: "Removing".to_owned(),
                reason: text(row, 3)?,
                ..ObservedInterface::default()
            });
            Ok(())
        })
        .await
}

/// Reads `2026-11-21 13:00:00`, which is UTC.
fn database_time(text: &str) -> Option<Timestamp> {
    let time: DateTime = text.parse().ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp())
}
