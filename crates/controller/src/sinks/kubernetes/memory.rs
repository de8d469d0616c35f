//! What the objects remember: which NIC of which configuration had which slot.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use multinic_api::node_config::InterfaceSpec;
use multinic_api::{MultiNicNodeConfig, MultiNicNodeConfigSpec};
use multinic_core::published::{PartialNic, PublishedInterface, PublishedNic, Releasing};
use multinic_core::{
    Addresses, ConfigKey, Interface, InterfaceName, MacAddr, Mtu, NetworkId, NodeName, PortId, ServerId, Slot,
};

use crate::sinks::{INTERFACE_OWNERS_ANNOTATION, SinkError};

/// Everything that the objects of a namespace remember.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// NICs of ours whose configuration is known.
    pub interfaces: Vec<PublishedInterface>,
    /// NICs of nodes that still clean up after their objects were deleted: their slots are not free.
    pub releasing: Vec<Releasing>,
    /// NICs that no configuration is recorded for: of objects that others wrote, or whose annotation is damaged. Nothing
    /// may be removed because of them; a NIC that is published again should keep its slot.
    pub unowned: Vec<Releasing>,
}

impl Memory {
    /// Adds what one object remembers.
    pub(super) fn add(&mut self, object: &MultiNicNodeConfig, ours: bool) -> Result<(), SinkError> {
        let MultiNicNodeConfigSpec { node_name, instance_id, interfaces } = &object.spec;
        let node: NodeName =
            node_name.parse().map_err(|error| unreadable(object, "spec.nodeName", &error))?;
        let owners = if ours { owners(object) } else { BTreeMap::new() };
        let server = instance_id.as_deref().filter(|id| !id.is_empty()).map(ServerId::from);
        for (at, nic) in interfaces.iter().enumerate() {
            let place = place(&node, at, nic).map_err(|(field, problem)| {
                unreadable(object, &format!("spec.interfaces[{at}].{field}"), &problem)
            })?;
            let Releasing { node: _, mac, slot } = place;
            if object.metadata.deletion_timestamp.is_some() {
                self.releasing.push(place);
                continue;
            }
            let port = nic.port_id.as_deref().filter(|id| !id.is_empty()).map(PortId::from);
            let owned = port.and_then(|port| owners.get(&port).map(|owner| (port, owner.clone())));
            match owned {
                Some((port, owner)) => {
                    self.interfaces.push(published(&node, owner, port, mac, slot, server.as_ref(), nic));
                }
                None => self.unowned.push(place),
            }
        }
        Ok(())
    }
}

fn published(
    node: &NodeName,
    owner: ConfigKey,
    port: PortId,
    mac: MacAddr,
    slot: Option<Slot>,
    server: Option<&ServerId>,
    nic: &InterfaceSpec,
) -> PublishedInterface {
    let partial = PartialNic {
        mac,
        port,
        network: nic.network_id.as_deref().map(NetworkId::from),
        subnet: nic.subnet_id.as_deref().unwrap_or_default().into(),
        device: nic.device_id.as_deref().map(ServerId::from).or_else(|| server.cloned()),
    };
    let nic = match whole(&partial, nic) {
        Some(interface) => PublishedNic::Whole(Arc::new(interface)),
        None => PublishedNic::Partial(Box::new(partial)),
    };
    PublishedInterface { node: node.clone(), owner, slot, verified: None, project: None, nic }
}

/// The NIC, where nothing of it is missing.
fn whole(known: &PartialNic, nic: &InterfaceSpec) -> Option<Interface> {
    let list = nic.addresses.as_ref().map(|list| Addresses::parse(list.iter().map(String::as_str)));
    let addresses =
        Addresses::reconcile(list.transpose().ok()?, nic.address.as_deref(), nic.cidr.as_deref()).ok()?;
    let cidr: IpNet = nic.cidr.as_deref()?.parse().ok()?;
    nic.subnet_id.as_ref()?;
    Some(Interface {
        mac: known.mac,
        port: known.port.clone(),
        network: known.network.clone()?,
        subnet: known.subnet.clone(),
        device: known.device.clone()?,
        addresses,
        cidr: cidr.trunc(),
        mtu: Mtu::new(nic.mtu?).ok()?,
    })
}

/// The slot of a NIC of a list, as the node's agent understands it. An error names the field.
pub(crate) fn place(
    node: &NodeName,
    at: usize,
    nic: &InterfaceSpec,
) -> Result<Releasing, (&'static str, String)> {
    let mac: MacAddr = nic
        .mac_address
        .parse()
        .map_err(|error: multinic_core::ParseMacError| ("macAddress", error.to_string()))?;
    let slot = slot(at, nic).map_err(|error| ("name", error.to_string()))?;
    Ok(Releasing { node: node.clone(), mac, slot })
}

/// The name decides. Without one it is the number; without that, or where it is the 0 that older programs made of a missing
/// one, the place in the list, counted from 1. A place beyond the slots is no name.
fn slot(at: usize, nic: &InterfaceSpec) -> Result<Option<Slot>, multinic_core::NameError> {
    match (nic.name.as_deref().filter(|name| !name.is_empty()), nic.id.filter(|id| *id != 0)) {
        (Some(name), _) => name.parse().map(|name: InterfaceName| Some(name.slot())),
        (None, Some(id)) => Slot::new(id).map(Some),
        (None, None) => Ok(i64::try_from(at.saturating_add(1)).ok().and_then(|at| Slot::new(at).ok())),
    }
}

/// Which configuration each port of an object comes from, as its annotation says.
pub(super) fn owners(object: &MultiNicNodeConfig) -> BTreeMap<PortId, ConfigKey> {
    let annotations = object.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|all| all.get(INTERFACE_OWNERS_ANNOTATION)) else {
        return BTreeMap::new();
    };
    let owners: BTreeMap<PortId, String> = serde_json::from_str(text).unwrap_or_else(|error| {
        let object = object.metadata.name.as_deref().unwrap_or_default();
        tracing::warn!(object, %error, "annotation {INTERFACE_OWNERS_ANNOTATION} cannot be read");
        BTreeMap::new()
    });
    let key = |(port, key): (PortId, String)| {
        key.split_once('/').map(|(namespace, name)| (port, ConfigKey::new(namespace, name)))
    };
    owners.into_iter().filter_map(key).collect()
}

fn unreadable(object: &MultiNicNodeConfig, field: &str, error: &dyn std::fmt::Display) -> SinkError {
    SinkError::Kubernetes {
        action: "read",
        object: object.metadata.name.clone().unwrap_or_default(),
        problem: format!("{field}: {error}"),
        status: Some(422),
    }
}
