//! The interfaces' table: compared row by row while it is read, so that only what differs is held and written.

use std::collections::{BTreeMap, HashMap};

use multinic_core::published::{DesiredInterface, Evidence, Publication};
use multinic_core::{Addresses, InterfaceName, MacAddr, NodeName, PortId};

use super::nodes::Nodes;
use super::removals::Leaving;
use super::{MAX_ARGS, PublishOutcome, placeholders};
use crate::error::StoreError;
use crate::session::{Arg, Row, RowError, Session};

/// What differs, by the position of the wanted interface in the publication.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    pub(super) outcome: PublishOutcome,
    pub(super) leaving: Vec<Leaving>,
    new: Vec<usize>,
    changed: BTreeMap<Change, Vec<(i64, usize)>>,
    tombstones: Vec<i64>,
    /// Rows that stay as they are but whose node's server changed: row, server id.
    reattached: Vec<(i64, Option<String>)>,
}

/// How much of a row differs, and with it what becomes of the node's report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// What a node does not act upon, or what an older program left out: the report stands.
    Attributes,
    /// The node has to act. The name under which it verified the NIC stays remembered.
    Content,
    /// Another node, another NIC, or one that was away: nothing of the report stands.
    Anew,
}

const ROWS: &str = "SELECT mi.id, mi.port_id, mi.macaddress, mi.attached_node_name, mi.attached_node_id, \
     CASE WHEN mi.deleted_at IS NULL THEN 1 ELSE 0 END, mi.slot, mi.addresses, mi.mtu, mi.address, mi.cidr, \
     COALESCE(NULLIF(mi.cidr, ''), ms.cidr), mi.subnet_id, mi.cr_namespace, mi.cr_name, mi.status, mi.device_id, \
     mi.network_id, mi.project_id, mi.observed_name \
     FROM multi_interface mi LEFT JOIN multi_subnet ms ON ms.subnet_id = mi.subnet_id ORDER BY mi.id";

pub(super) async fn plan(
    session: &mut Session,
    publication: &Publication,
    nodes: &Nodes,
) -> Result<Interfaces, StoreError> {
    let wanted = by_port(publication)?;
    let removals: HashMap<(&str, &str), Evidence> = publication
        .removals
        .iter()
        .map(|removal| ((removal.port.as_str(), removal.node.as_str()), removal.evidence))
        .collect();
    let mut plan = Interfaces::default();
    let mut seen = vec![false; publication.interfaces.len()];
    session
        .each_row("reading multi_interface", ROWS, Vec::new(), &mut |row| {
            let found = Found::read(row)?;
            let evidence = found.node.and_then(|node| removals.get(&(found.port, node)).copied());
            let index = wanted.get(found.port).copied();
            let entry = index.and_then(|index| Some((index, publication.interfaces.get(index)?)));
            match entry {
                Some((index, desired)) => match seen.get_mut(index) {
                    Some(seen) if !*seen => {
                        *seen = true;
                        plan.take_wanted(&found, index, desired, nodes, evidence);
                    }
                    // Older tables do not keep a port from having two rows; only the first can be meant.
                    _ => plan.take_away(&found, Evidence::PortMoved.as_str()),
                },
                None => match evidence {
                    Some(evidence) => plan.take_away(&found, evidence.as_str()),
                    None => plan.leave(&found, nodes),
                },
            }
            Ok(())
        })
        .await?;
    plan.new = seen.iter().enumerate().filter(|(_, seen)| !**seen).map(|(index, _)| index).collect();
    plan.outcome.inserted = plan.new.len() as u64;
    Ok(plan)
}

fn by_port(publication: &Publication) -> Result<HashMap<&str, usize>, StoreError> {
    let mut wanted = HashMap::with_capacity(publication.interfaces.len());
    for (index, desired) in publication.interfaces.iter().enumerate() {
        let earlier = wanted.insert(desired.interface.port.as_str(), index);
        if let Some(first) = earlier.and_then(|earlier| publication.interfaces.get(earlier)) {
            return Err(StoreError::PortTwice {
                port: PortId::clone(&desired.interface.port),
                first: first.node.to_string(),
                second: desired.node.to_string(),
            });
        }
    }
    Ok(wanted)
}

/// A row as it is, borrowed from the answer.
struct Found<'a> {
    id: i64,
    port: &'a str,
    mac: &'a str,
    node: Option<&'a str>,
    server: Option<&'a str>,
    live: bool,
    slot: Option<i64>,
    addresses: Option<&'a str>,
    mtu: Option<i64>,
    address: Option<&'a str>,
    cidr: Option<&'a str>,
    /// The interface's, else its subnet's.
    any_cidr: Option<&'a str>,
    subnet: &'a str,
    namespace: &'a str,
    name: &'a str,
    status: Option<&'a str>,
    device: Option<&'a str>,
    network: Option<&'a str>,
    project: Option<&'a str>,
    observed: Option<&'a str>,
}

impl<'a> Found<'a> {
    fn read(row: &'a Row<'_>) -> Result<Self, RowError> {
        Ok(Self {
            id: row.int(0)?.unwrap_or_default(),
            port: row.text(1)?.unwrap_or_default(),
            mac: row.text(2)?.unwrap_or_default(),
            node: row.text(3)?,
            server: row.text(4)?,
            live: row.int(5)? == Some(1),
            slot: row.int(6)?,
            addresses: row.text(7)?,
            mtu: row.int(8)?,
            address: row.text(9)?,
            cidr: row.text(10)?,
            any_cidr: row.text(11)?,
            subnet: row.text(12)?.unwrap_or_default(),
            namespace: row.text(13)?.unwrap_or_default(),
            name: row.text(14)?.unwrap_or_default(),
            status: row.text(15)?,
            device: row.text(16)?,
            network: row.text(17)?,
            project: row.text(18)?,
            observed: row.text(19)?,
        })
    }

    /// How this row differs from what is wanted, if it does.
    fn compare(&self, desired: &DesiredInterface, server: Option<&str>) -> Option<Change> {
        let DesiredInterface { node, owner, slot, project, interface } = desired;
        let multinic_core::Interface { mac, port: _, network, subnet, device, addresses, cidr, mtu } =
            interface.as_ref();
        let same_nic =
            self.live && self.node == Some(node.as_str()) && self.mac.eq_ignore_ascii_case(&mac.to_string());
        if !same_nic {
            return Some(Change::Anew);
        }
        let same_addresses = match self.addresses {
            Some(list) => list == list_text(addresses),
            // An older program's row: what it comes to is what counts.
            None => {
                let pair = self.address.filter(|text| !text.is_empty());
                Addresses::reconcile(None, pair, pair.and(self.any_cidr)).as_ref() == Ok(addresses)
            }
        };
        // A slot that was never given leaves the node's choice as it is.
        let same_slot = self.slot.is_none_or(|number| number == i64::from(slot.number()));
        if !same_addresses || !same_slot || self.mtu != Some(i64::from(mtu.bytes())) {
            return Some(Change::Content);
        }
        let address = addresses.primary().map(|net| net.addr().to_string());
        let same = self.addresses.is_some()
            && self.slot.is_some()
            && self.address == address.as_deref()
            && self.cidr == Some(cidr.to_string().as_str())
            && self.subnet == subnet.as_str()
            && self.namespace == &*owner.namespace
            && self.name == &*owner.name
            && self.status == Some("active")
            && self.device == Some(device.as_str())
            && self.network == Some(network.as_str())
            && self.project == Some(project.as_str())
            && self.server == server;
        if same { None } else { Some(Change::Attributes) }
    }

    /// None where an older program's row names what can be no node or no NIC: nobody can ask for it.
    fn leaving(&self, reason: &'static str) -> Option<Leaving> {
        let node: NodeName = self.node?.parse().ok()?;
        let mac: MacAddr = self.mac.parse().ok()?;
        let observed = self.observed.and_then(|name| name.parse::<InterfaceName>().ok());
        Some(Leaving {
            node: node.to_string(),
            mac: mac.to_string(),
            port: self.port.to_owned(),
            // What the node has to free is what it has: a name that it verified wins over the published one.
            slot: observed.map(|name| name.slot().number().into()).or(self.slot),
            reason,
            owner: [self.namespace.to_owned(), self.name.to_owned()],
            device: self.device.map(str::to_owned),
            project: self.project.map(str::to_owned),
        })
    }
}

impl Interfaces {
    fn take_wanted(
        &mut self,
        found: &Found<'_>,
        index: usize,
        desired: &DesiredInterface,
        nodes: &Nodes,
        evidence: Option<Evidence>,
    ) {
        let Some(change) = found.compare(desired, nodes.server(desired.node.as_str())) else {
            self.outcome.unchanged += 1;
            return;
        };
        let counted = if found.live { &mut self.outcome.updated } else { &mut self.outcome.revived };
        *counted += 1;
        let moved = found.node.is_some_and(|node| node != desired.node.as_str());
        let other_mac = !found.mac.eq_ignore_ascii_case(&desired.interface.mac.to_string());
        if moved || other_mac {
            let reason = match evidence {
                Some(evidence) => evidence.as_str(),
                None if moved => Evidence::PortMoved.as_str(),
                None => "MacChanged",
            };
            self.leaving.extend(found.leaving(reason));
        }
        self.changed.entry(change).or_default().push((found.id, index));
    }

    /// The row becomes a tombstone. One that is already stays as it is.
    fn take_away(&mut self, found: &Found<'_>, reason: &'static str) {
        if found.live {
            self.outcome.removed += 1;
            self.tombstones.push(found.id);
            self.leaving.extend(found.leaving(reason));
        }
    }

    fn leave(&mut self, found: &Found<'_>, nodes: &Nodes) {
        if found.server.is_some_and(|server| nodes.detached(server)) {
            let server = found.node.and_then(|node| nodes.server(node)).map(str::to_owned);
            self.reattached.push((found.id, server));
        }
    }

    pub(super) async fn write(
        &self,
        session: &mut Session,
        publication: &Publication,
        nodes: &Nodes,
        revision: u64,
    ) -> Result<u64, StoreError> {
        let mut writes = 0;
        for part in self.tombstones.chunks(MAX_ARGS) {
            // Older agents look for their name, or for the status: neither finds the row any more.
            let sql = format!(
                "UPDATE multi_interface SET deleted_at = CURRENT_TIMESTAMP, status = 'deleted', \
                 attached_node_name = NULL, attached_node_id = NULL, netplan_success = 0, revision = {revision}, \
                 modified_at = CURRENT_TIMESTAMP WHERE id IN ({})",
                placeholders(part.len())
            );
            let args = part.iter().map(|id| Arg::Int(*id)).collect();
            writes += session.execute("writing tombstones", &sql, args).await?;
        }
        for (id, server) in &self.reattached {
            let sql = "UPDATE multi_interface SET attached_node_id = ? WHERE id = ?";
            let args = vec![Arg::optional(server.as_deref()), Arg::Int(*id)];
            writes += session.execute("attaching interfaces to their servers", sql, args).await?;
        }
        let values = |index: &usize| publication.interfaces.get(*index).map(|desired| values(desired, nodes));
        for (change, rows) in &self.changed {
            for part in rows.chunks(UPDATED_ROWS) {
                let rows = part.iter().filter_map(|(id, index)| Some((*id, values(index)?))).collect();
                let (sql, args) = update(*change, rows, revision);
                writes += session.execute("updating interfaces", &sql, args).await?;
            }
        }
        for part in self.new.chunks(MAX_ARGS / INSERTED_COLUMNS) {
            let row = format!(
                "({}, 'active', 0, {revision}, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)",
                placeholders(INSERTED_COLUMNS)
            );
            let sql = format!(
                "INSERT INTO multi_interface (port_id, {}, status, netplan_success, revision, created_at, \
                 modified_at) VALUES {}",
                COLUMNS.join(", "),
                vec![row; part.len()].join(", ")
            );
            let mut args = Vec::with_capacity(part.len() * INSERTED_COLUMNS);
            for index in part {
                if let Some(desired) = publication.interfaces.get(*index) {
                    args.push(Arg::text(&desired.interface.port));
                    args.extend(self::values(desired, nodes));
                }
            }
            writes += session.execute("inserting interfaces", &sql, args).await?;
        }
        Ok(writes)
    }
}

/// Each row of an update is found again in every column's CASE, so many rows at once cost their square.
const UPDATED_ROWS: usize = 20;

const COLUMNS: [&str; 14] = [
    "subnet_id",
    "macaddress",
    "attached_node_name",
    "attached_node_id",
    "cr_namespace",
    "cr_name",
    "address",
    "cidr",
    "mtu",
    "addresses",
    "slot",
    "device_id",
    "network_id",
    "project_id",
];
const INSERTED_COLUMNS: usize = COLUMNS.len() + 1;

/// The values of [`COLUMNS`].
fn values(desired: &DesiredInterface, nodes: &Nodes) -> [Arg; COLUMNS.len()] {
    let DesiredInterface { node, owner, slot, project, interface } = desired;
    let multinic_core::Interface { mac, port: _, network, subnet, device, addresses, cidr, mtu } =
        interface.as_ref();
    [
        Arg::text(subnet),
        Arg::text(mac),
        Arg::text(node),
        Arg::optional(nodes.server(node.as_str())),
        Arg::text(&owner.namespace),
        Arg::text(&owner.name),
        Arg::optional(addresses.primary().map(|net| net.addr())),
        Arg::text(cidr),
        Arg::Int(mtu.bytes().into()),
        Arg::Text(list_text(addresses)),
        Arg::Int(slot.number().into()),
        Arg::text(device),
        Arg::text(network),
        Arg::text(project),
    ]
}

/// The JSON list of the column `addresses`, always written the same way, so that texts can be compared.
pub(crate) fn list_text(addresses: &Addresses) -> String {
    let items: Vec<String> = addresses.iter().map(|net| format!("\"{net}\"")).collect();
    format!("[{}]", items.join(","))
}

fn update(change: Change, rows: Vec<(i64, [Arg; COLUMNS.len()])>, revision: u64) -> (String, Vec<Arg>) {
    let ids: Vec<Arg> = rows.iter().map(|(id, _)| Arg::Int(*id)).collect();
    let cases = "WHEN ? THEN ? ".repeat(rows.len());
    let mut columns: Vec<Vec<Arg>> =
        std::iter::repeat_with(|| Vec::with_capacity(rows.len() * 2)).take(COLUMNS.len()).collect();
    for (id, values) in rows {
        for (column, value) in columns.iter_mut().zip(values) {
            column.push(Arg::Int(id));
            column.push(value);
        }
    }
    let mut sets: Vec<String> =
        COLUMNS.iter().map(|column| format!("{column} = CASE id {cases}END")).collect();
    sets.push("status = 'active', deleted_at = NULL, modified_at = CURRENT_TIMESTAMP".to_owned());
    sets.push(match change {
        Change::Attributes => format!("revision = COALESCE(revision, {revision})"),
        Change::Content | Change::Anew => format!(
            "revision = {revision}, netplan_success = 0, observed_addresses = NULL, last_error = NULL, \
             observed_at = NULL"
        ),
    });
    if change == Change::Anew {
        sets.push("observed_name = NULL".to_owned());
    }
    let sql =
        format!("UPDATE multi_interface SET {} WHERE id IN ({})", sets.join(", "), placeholders(ids.len()));
    (sql, columns.into_iter().flatten().chain(ids).collect())
}
