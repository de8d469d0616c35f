//! The addresses of a cluster.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use multinic_core::MacAddr;
use rtnetlink::packet_route::route::RouteProtocol;

use super::ClusterError;
use crate::guest::Nic;
use crate::node::{NetNs, NewRoute, NodeError, Switch};

/// The network of the nodes, as the switch calls it.
const NAME: &str = "cluster";
/// What the nodes' links, and the control plane's, are called.
pub(super) const LINK: &str = "eth0";
/// Where the control plane is.
pub(super) const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(10, 210, 0, 2);
const PREFIX: u8 = 24;
const MTU: u32 = 1500;
/// The main one.
const TABLE: u32 = 254;

/// Where the node of this number (from 1) is.
pub(super) fn node_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 210, 0, 10 + number)
}

/// The network of a node's pods.
pub(super) fn pod_network(number: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 244, number, 0), 24)
}

/// All pods.
pub(super) const ALL_PODS: &str = "10.244.0.0/16";

fn mac(last: u8) -> Result<MacAddr, ClusterError> {
    let parsed = MacAddr::from_bytes([0x52, 0x54, 0, 0xee, 0, last]);
    parsed.map_err(|_| ClusterError::NoNode(last.into()))
}

/// A node's own NIC.
pub(super) fn nic(number: u8) -> Result<Nic, ClusterError> {
    let mac = mac(10 + number)?;
    Ok(Nic { mac, name: LINK.to_owned(), mtu: MTU, network: NAME.to_owned() })
}

/// What cloud-init would have written on a node: its address, the way out, and the ways to the other nodes' pods.
pub(super) fn netplan(number: u8, nodes: u8, renderer: &str) -> Result<String, ClusterError> {
    let mut text = format!(
        "network:\n  version: 2\n  renderer: {renderer}\n  ethernets:\n    {LINK}:\n      match: {{macaddress: \"{}\"}}\n      \
         set-name: {LINK}\n      addresses: [{}/{PREFIX}]\n      routes:\n      - {{to: default, via: {CONTROL_PLANE}}}\n",
        mac(10 + number)?,
        node_address(number)
    );
    for other in (1..=nodes).filter(|other| *other != number) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "      - {{to: {}, via: {}}}", pod_network(other), node_address(other));
    }
    Ok(text)
}

/// Plugs the control plane's namespace in.
pub(super) fn connect(control_plane: &NetNs, switch: &Switch, nodes: u8) -> Result<(), ClusterError> {
    switch.plug(control_plane, mac(2)?, LINK, MTU, NAME)?;
    let address = Ipv4Net::new_assert(CONTROL_PLANE, PREFIX);
    control_plane.add_address(LINK, address.into(), None)?;
    control_plane.set_up(LINK)?;
    // It is everybody's gateway: pods speak to it, and through it to nobody.
    for number in 1..=nodes {
        route(control_plane, pod_network(number).into(), node_address(number).into())?;
    }
    switch.namespace().set_up("net1")?;
    Ok(())
}

fn route(net: &NetNs, to: IpNet, gateway: IpAddr) -> Result<(), NodeError> {
    let protocol = RouteProtocol::Static;
    net.add_route(NewRoute { link: LINK, to, gateway: Some(gateway), protocol, table: TABLE, metric: 0 })
}
