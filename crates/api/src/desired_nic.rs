//! An entry of `spec.interfaces` of a `MultiNicNodeConfig` as a node's agent understands it.

use multinic_core::desired::{DesiredNic, EntryId, Reported};
use multinic_core::{Addresses, InterfaceName, InterfaceOptions, Mtu, PortId, Slot};
use serde::Deserialize;
use serde_json::Value;

use crate::node_config::InterfaceSpec;

/// Reads an entry as it was written; an error names the field. `revision`: the object's generation.
///
/// # Errors
/// Where something is missing, or is not what it should be.
pub fn desired_nic(entry: EntryId, revision: u64, value: &Value) -> Result<DesiredNic, String> {
    let spec = InterfaceSpec::deserialize(value).map_err(|error| error.to_string())?;
    let InterfaceSpec {
        id,
        port_id,
        name,
        mac_address,
        address,
        cidr,
        addresses,
        mtu,
        network_id: _,
        subnet_id: _,
        device_id: _,
        options,
    } = spec;
    let mac = mac_address.trim().parse().map_err(|error| format!("macAddress: {error}"))?;
    let slot = slot(entry, id, name.as_deref().filter(|name| !name.is_empty()))?;
    let list = addresses.map(|list| Addresses::parse(list.iter().map(String::as_str))).transpose();
    let list = list.map_err(|error| error.to_string())?;
    let address = address.as_deref().filter(|address| !address.is_empty());
    // A subnet has a CIDR whether the interface has an address there or not.
    let cidr = address.and(cidr.as_deref());
    let addresses = Addresses::reconcile(list, address, cidr).map_err(|error| error.to_string())?;
    let mtu = Mtu::new(mtu.ok_or("mtu: there is none")?).map_err(|error| error.to_string())?;
    mtu.carries(&addresses).map_err(|error| error.to_string())?;
    let port = port_id.filter(|port| !port.is_empty()).map(PortId::from);
    let options = options.as_ref().map(InterfaceOptions::try_from).transpose();
    let options = options.map_err(|error| error.to_string())?.unwrap_or_default();
    let reported = Reported::default();
    Ok(DesiredNic { entry, revision, mac, slot: Some(slot), port, addresses, mtu, options, reported })
}

/// The name says the slot; without one it is the id; and id 0 without a name, which is also what the older programs made
/// of a missing one, is the place in the list, counted from 1.
fn slot(entry: EntryId, id: Option<i64>, name: Option<&str>) -> Result<Slot, String> {
    if let Some(name) = name {
        return name.parse().map(InterfaceName::slot).map_err(|error| format!("name: {error}"));
    }
    let number = id.filter(|id| *id != 0).unwrap_or_else(|| entry.0.saturating_add(1));
    Slot::new(number).map_err(|error| format!("id: {error}"))
}
