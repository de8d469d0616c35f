//! A node's configuration in the form in which it is sent to Viola.

use multinic_core::NodeConfig;
use serde::{Deserialize, Serialize};

/// One node. The order of the fields is that of the older programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePayload {
    /// The node's name.
    pub node_name: String,
    /// Its Nova server.
    pub instance_id: String,
    /// Its NICs in the order of their numbers; none for a node that is to lose its last.
    pub interfaces: Vec<InterfacePayload>,
}

/// One NIC. `id`, `mtu` and `addresses` are always there; a text that is empty is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfacePayload {
    /// N of `multinicN`.
    #[serde(default)]
    pub id: u8,
    /// The Neutron port.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub port_id: String,
    /// `multinicN`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The MAC address, lower-case with colons.
    pub mac_address: String,
    /// The first address, without a prefix length.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// The subnet of that address, in network form.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cidr: String,
    /// In bytes.
    #[serde(default)]
    pub mtu: u32,
    /// The Nova server that the port is attached to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device_id: String,
    /// The Neutron network.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network_id: String,
    /// The Neutron subnet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subnet_id: String,
    /// Every address as `ip/prefix`; not of the older programs.
    #[serde(default)]
    pub addresses: Vec<String>,
}

impl From<&NodeConfig> for NodePayload {
    fn from(node: &NodeConfig) -> Self {
        let NodeConfig { node, instance, interfaces } = node;
        let interfaces = interfaces.iter().map(|(slot, nic)| InterfacePayload {
            id: slot.number(),
            port_id: nic.port.to_string(),
            name: slot.interface().to_string(),
            mac_address: nic.mac.to_string(),
            address: nic.addresses.primary().map(|net| net.addr().to_string()).unwrap_or_default(),
            cidr: nic.cidr.to_string(),
            mtu: nic.mtu.bytes().into(),
            device_id: nic.device.to_string(),
            network_id: nic.network.to_string(),
            subnet_id: nic.subnet.to_string(),
            addresses: nic.addresses.iter().map(|net| net.to_string()).collect(),
        });
        Self {
            node_name: node.to_string(),
            instance_id: instance.to_string(),
            interfaces: interfaces.collect(),
        }
    }
}
