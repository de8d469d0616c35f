//! Reads what was published earlier.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use multinic_core::ids::Interner;
use multinic_core::published::{PartialNic, Published, PublishedInterface, PublishedNic, Releasing};
use multinic_core::{Addresses, ConfigKey, Interface, InterfaceName, MacAddr, Mtu, NodeName, Slot};

use crate::error::StoreError;
use crate::publish::is_placeholder;
use crate::session::{Row, RowError, Session};

const INTERFACES: &str = "SELECT mi.id, mi.attached_node_name, mi.cr_namespace, mi.cr_name, mi.slot, \
     mi.observed_name, mi.port_id, mi.macaddress, mi.subnet_id, COALESCE(mi.device_id, mi.attached_node_id), \
     mi.project_id, COALESCE(mi.network_id, ms.network_id), mi.addresses, mi.address, \
     COALESCE(NULLIF(mi.cidr, ''), ms.cidr), mi.mtu \
     FROM multi_interface mi LEFT JOIN multi_subnet ms ON ms.subnet_id = mi.subnet_id \
     WHERE mi.deleted_at IS NULL AND mi.attached_node_name IS NOT NULL ORDER BY mi.id";
const RELEASING: &str =
    "SELECT id, node_name, macaddress, slot FROM multi_removal WHERE released_at IS NULL ORDER BY id";
const REMEMBERED: &str = "SELECT 0, node_name, macaddress, slot FROM multi_slot WHERE slot IS NOT NULL";
const HASHES: &str = "SELECT cr_namespace, cr_name, spec_hash FROM cr_state";

/// One consistent read, within a transaction of the caller's.
pub(crate) async fn read(
    session: &mut Session,
    known: &(dyn Fn(&str) -> Option<Arc<Interface>> + Sync),
) -> Result<Published, StoreError> {
    let mut published = Published { revision: revision(session).await?, ..Published::default() };
    let mut names = Interner::default();
    let mut nodes = HashMap::new();
    let mut keys = Keys::default();
    session
        .each_row("reading multi_interface", INTERFACES, Vec::new(), &mut |row| {
            published.interfaces.extend(interface(row, known, &mut names, &mut nodes, &mut keys)?);
            Ok(())
        })
        .await?;
    for (table, sql) in [("multi_removal", RELEASING), ("multi_slot", REMEMBERED)] {
        session
            .each_row("reading which slots are not free", sql, Vec::new(), &mut |row| {
                let cells = Cells { table, row };
                published.releasing.push(Releasing {
                    node: cells.parsed(1, "node_name")?,
                    mac: cells.parsed(2, "macaddress")?,
                    slot: cells.slot(3)?,
                });
                Ok(())
            })
            .await?;
    }
    session
        .each_row("reading cr_state", HASHES, Vec::new(), &mut |row| {
            let text = |column| row.text(column).map(Option::unwrap_or_default);
            published.spec_hashes.insert(ConfigKey::new(text(0)?, text(1)?), text(2)?.to_owned());
            Ok(())
        })
        .await?;
    published.interfaces.shrink_to_fit();
    Ok(published)
}

/// Makes equal keys share one allocation, by namespace and name.
#[derive(Default)]
struct Keys(HashMap<Box<str>, HashMap<Box<str>, ConfigKey>>);

impl Keys {
    fn get(&mut self, namespace: &str, name: &str) -> ConfigKey {
        if let Some(known) = self.0.get(namespace).and_then(|names| names.get(name)) {
            return known.clone();
        }
        let key = ConfigKey::new(namespace, name);
        self.0.entry(namespace.into()).or_default().insert(name.into(), key.clone());
        key
    }
}

/// As of which publication the rest is.
async fn revision(session: &mut Session) -> Result<Option<u64>, StoreError> {
    let mut revision = None;
    let sql = "SELECT name, value FROM multinic_meta WHERE name = 'revision'";
    session
        .each_row("reading multinic_meta", sql, Vec::new(), &mut |row| {
            let wrong = |error: std::num::ParseIntError| RowError::Content {
                table: "multinic_meta",
                row: "revision".to_owned(),
                column: "value",
                reason: error.to_string(),
            };
            revision = Some(row.text(1)?.unwrap_or_default().parse::<u64>().map_err(wrong)?);
            Ok(())
        })
        .await?;
    Ok(revision)
}

fn interface(
    row: &Row<'_>,
    known: &(dyn Fn(&str) -> Option<Arc<Interface>> + Sync),
    names: &mut Interner,
    nodes: &mut HashMap<Box<str>, Option<NodeName>>,
    keys: &mut Keys,
) -> Result<Option<PublishedInterface>, RowError> {
    let cells = Cells { table: "multi_interface", row };
    let node_text = row.text(1)?.unwrap_or_default();
    let node = nodes.get(node_text).cloned();
    let node = node.unwrap_or_else(|| {
        let node: Option<NodeName> = node_text.parse().ok();
        nodes.insert(node_text.into(), node.clone());
        node
    });
    let Some(node) = node else {
        // Nova allows names that no machine can have; the older programs stored them as they were.
        tracing::warn!(
            row = cells.id()?,
            node_name = node_text,
            "multi_interface names a node that cannot exist; the row is left alone"
        );
        return Ok(None);
    };
    let optional = |column| row.text(column).map(|text| text.filter(|text| !text.is_empty()));
    let verified = match optional(5)? {
        Some(text) => {
            let name: InterfaceName = cells.parse(text, "observed_name")?;
            Some(name.slot())
        }
        None => None,
    };
    let slot = cells.slot(4)?;
    let mac_text = row.text(7)?.unwrap_or_default();
    let mac: MacAddr = match mac_text.parse() {
        Ok(mac) => mac,
        // We give every row a slot. One of an older program that is no NIC holds no slot either.
        Err(error) if slot.is_none() => {
            tracing::warn!(
                row = cells.id()?,
                node_name = node_text,
                error = %error,
                "a row of multi_interface is no NIC; the row is left alone"
            );
            return Ok(None);
        }
        Err(error) => return Err(cells.wrong("macaddress", error.to_string())),
    };
    let port = row.text(6)?.unwrap_or_default();
    let beside = known(port);
    let partial = PartialNic {
        mac,
        port: beside.as_ref().map_or_else(|| port.into(), |beside| beside.port.clone()),
        network: optional(11)?.map(|text| names.get(text)),
        subnet: names.get(row.text(8)?.unwrap_or_default()),
        device: optional(9)?.filter(|text| !is_placeholder(text)).map(|text| names.get(text)),
    };
    let nic = match content(&cells, &partial)? {
        Some(read) => {
            PublishedNic::Whole(beside.filter(|beside| **beside == read).unwrap_or_else(|| Arc::new(read)))
        }
        None => PublishedNic::Partial(Box::new(partial)),
    };
    Ok(Some(PublishedInterface {
        node,
        owner: keys.get(row.text(2)?.unwrap_or_default(), row.text(3)?.unwrap_or_default()),
        slot,
        verified,
        project: optional(10)?.map(|text| names.get(text)),
        nic,
    }))
}

/// The whole content, or none where a row of an older program lacks a part of it.
fn content(cells: &Cells<'_>, nic: &PartialNic) -> Result<Option<Interface>, RowError> {
    let row = cells.row;
    let (Some(device), Some(network)) = (&nic.device, &nic.network) else { return Ok(None) };
    let (list, address, cidr, mtu) = (row.text(12)?, row.text(13)?, row.text(14)?, row.int(15)?);
    let read = || -> Result<(Addresses, IpNet, Mtu), (&'static str, String)> {
        let list = list.map(parse_list).transpose().map_err(|reason| ("addresses", reason))?;
        let pair = address.filter(|text| !text.is_empty());
        let addresses = Addresses::reconcile(list, pair, pair.and(cidr))
            .map_err(|error| ("addresses", error.to_string()))?;
        let cidr: IpNet = cidr
            .unwrap_or_default()
            .parse()
            .map_err(|_| ("cidr", format!("{cidr:?} is not a network in CIDR form")))?;
        let mtu = mtu.ok_or_else(|| ("mtu", "there is none".to_owned()))?;
        let mtu = Mtu::new(mtu).map_err(|error| ("mtu", error.to_string()))?;
        Ok((addresses, cidr.trunc(), mtu))
    };
    match read() {
        Ok((addresses, cidr, mtu)) => Ok(Some(Interface {
            mac: nic.mac,
            port: nic.port.clone(),
            network: network.clone(),
            subnet: nic.subnet.clone(),
            device: device.clone(),
            addresses,
            cidr,
            mtu,
        })),
        // Only this project fills the list.
        Err(_) if list.is_none() => Ok(None),
        Err((column, reason)) => Err(cells.wrong(column, reason)),
    }
}

/// Reads the JSON list of the columns `addresses` and `observed_addresses`.
pub(crate) fn parse_list(text: &str) -> Result<Addresses, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// A row whose errors name it. Its first column is the id.
struct Cells<'a> {
    table: &'static str,
    row: &'a Row<'a>,
}

impl Cells<'_> {
    fn id(&self) -> Result<i64, RowError> {
        Ok(self.row.int(0)?.unwrap_or_default())
    }

    fn wrong(&self, column: &'static str, reason: String) -> RowError {
        match self.id() {
            Ok(id) => RowError::Content { table: self.table, row: id.to_string(), column, reason },
            Err(error) => error,
        }
    }

    fn parse<T: FromStr<Err: std::fmt::Display>>(
        &self,
        text: &str,
        column: &'static str,
    ) -> Result<T, RowError> {
        text.parse().map_err(|error: T::Err| self.wrong(column, error.to_string()))
    }

    fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &self,
        at: usize,
        column: &'static str,
    ) -> Result<T, RowError> {
        self.parse(self.row.text(at)?.unwrap_or_default(), column)
    }

    fn slot(&self, at: usize) -> Result<Option<Slot>, RowError> {
        let number = self.row.int(at)?;
        number.map(Slot::new).transpose().map_err(|error| self.wrong("slot", error.to_string()))
    }
}
