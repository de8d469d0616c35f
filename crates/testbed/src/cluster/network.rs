//! The addresses of a cluster.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use multinic_core::MacAddr;
use rtnetlink::packet_route::route::RouteProtocol;

use super::ClusterError;
use crate::guest::{NetworkManagement, Nic};
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

/// NetworkManager would ask for a lease on the pods' links.
const LEAVES_PODS: &str = "[keyfile]\nunmanaged-devices=interface-name:cni0;interface-name:veth*\n";

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

/// A file of a node, and its mode.
pub(super) type NodeFile = (&'static str, String, u32);

/// What whoever set a node up has written for its network manager: its address, the way out, and the ways to the other
/// nodes' pods.
pub(super) fn files(
    number: u8,
    nodes: u8,
    network: NetworkManagement,
) -> Result<Vec<NodeFile>, ClusterError> {
    let (mac, address) = (mac(10 + number)?, node_address(number));
    let others = (1..=nodes).filter(|other| *other != number);
    let routes: Vec<_> = others.map(|other| (pod_network(other), node_address(other))).collect();
    let mut text = String::new();
    // Writing to a string does not fail.
    match network {
        NetworkManagement::Netplan | NetworkManagement::NetplanOverNetworkManager => {
            let _ = writeln!(
                text,
                "network:\n  version: 2\n  renderer: {}\n  ethernets:\n    {LINK}:\n      match: {{macaddress: \"{mac}\"}}\n      \
                 set-name: {LINK}\n      addresses: [{address}/{PREFIX}]\n      routes:\n      \
                 - {{to: default, via: {CONTROL_PLANE}}}",
                network.renderer()
            );
            for (to, via) in routes {
                let _ = writeln!(text, "      - {{to: {to}, via: {via}}}");
            }
            Ok(vec![("/etc/netplan/50-cloud-init.yaml", text, 0o600)])
        }
        NetworkManagement::Networkd => {
            let _ = writeln!(
                text,
                "[Match]\nName={LINK}\n[Network]\nAddress={address}/{PREFIX}\nGateway={CONTROL_PLANE}"
            );
            for (to, via) in routes {
                let _ = writeln!(text, "[Route]\nDestination={to}\nGateway={via}");
            }
            Ok(vec![("/etc/systemd/network/50-eth0.network", text, 0o644)])
        }
        NetworkManagement::NetworkManager => {
            let _ = writeln!(
                text,
                "[connection]\nid={LINK}\ntype=ethernet\ninterface-name={LINK}\n[ipv6]\nmethod=link-local\n\
                 [ipv4]\nmethod=manual\naddress1={address}/{PREFIX},{CONTROL_PLANE}"
            );
            for (place, (to, via)) in (1..).zip(routes) {
                let _ = writeln!(text, "route{place}={to},{via}");
            }
            Ok(vec![
                ("/etc/NetworkManager/system-connections/eth0.nmconnection", text, 0o600),
                ("/etc/NetworkManager/conf.d/50-pods.conf", LEAVES_PODS.to_owned(), 0o644),
            ])
        }
        NetworkManagement::Ifcfg => {
            let _ = writeln!(
                text,
                "DEVICE={LINK}\nTYPE=Ethernet\nONBOOT=yes\nBOOTPROTO=none\nIPADDR={address}\nPREFIX={PREFIX}\n\
                 GATEWAY={CONTROL_PLANE}"
            );
            let mut ways = String::new();
            for (to, via) in routes {
                let _ = writeln!(ways, "{to} via {via}");
            }
            Ok(vec![
                ("/etc/sysconfig/network-scripts/ifcfg-eth0", text, 0o644),
                ("/etc/sysconfig/network-scripts/route-eth0", ways, 0o644),
                ("/etc/NetworkManager/conf.d/50-pods.conf", LEAVES_PODS.to_owned(), 0o644),
            ])
        }
    }
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
