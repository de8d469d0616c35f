//! What a node is to have.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Addresses, MacAddr, Mtu, NetworkId, NodeName, PortId, ServerId, Slot, SubnetId};

/// One NIC as the cloud describes it. It is a function of the port, its subnets and its network alone, so that two
/// configurations that select the same port describe the same interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The port's MAC address, by which the node finds the NIC.
    pub mac: MacAddr,
    /// The port.
    pub port: PortId,
    /// The port's network.
    pub network: NetworkId,
    /// The subnet of the primary address.
    pub subnet: SubnetId,
    /// The server that the port is attached to.
    pub device: ServerId,
    /// Every fixed IP with the prefix length of its subnet.
    pub addresses: Addresses,
    /// The subnet of the primary address, in network form.
    pub cidr: IpNet,
    /// The network's MTU.
    pub mtu: Mtu,
}

/// Everything that one node is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    /// The node.
    pub node: NodeName,
    /// Its Nova server; the UUID that the guest's firmware shows as its system UUID.
    pub instance: ServerId,
    /// Its NICs by slot, shared with what they were made from. Empty: the node has lost its last one.
    pub interfaces: BTreeMap<Slot, Arc<Interface>>,
}
