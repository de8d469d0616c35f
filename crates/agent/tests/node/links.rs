//! Links as the kernel shows them, and as somebody else changes them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use multinic_testbed::node::NetNs;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, Prop};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

/// What the kernel shows of one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    pub up: bool,
    pub addresses: BTreeSet<String>,
}

/// The link of a MAC.
pub fn seen(node: &NetNs, mac: &str) -> Option<Seen> {
    node.netlink(async |handle| {
        let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.unwrap();
        let link = links.iter().find(|link| mac_of(link) == mac)?;
        let addresses: Vec<AddressMessage> = handle.address().get().execute().try_collect().await.unwrap();
        let of_link = addresses.iter().filter(|address| address.header.index == link.header.index);
        let mut seen = Seen {
            index: link.header.index,
            name: String::new(),
            mtu: 0,
            up: link.header.flags.contains(LinkFlags::Up),
            addresses: of_link.filter_map(net).map(|net| net.to_string()).collect(),
        };
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => seen.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => seen.mtu = *mtu,
                _ => {}
            }
        }
        Some(seen)
    })
    .unwrap()
}

fn mac_of(link: &LinkMessage) -> String {
    let bytes = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => Some(bytes.clone()),
        _ => None,
    });
    let parts: Vec<String> = bytes.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

/// The address, unless it is one that the kernel makes itself.
fn net(message: &AddressMessage) -> Option<IpNet> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = address.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    let own = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    (!own).then(|| IpNet::new(address, message.header.prefix_len).unwrap())
}

fn change<F: Future<Output = Result<(), rtnetlink::Error>>>(
    node: &NetNs,
    work: impl FnOnce(Handle) -> F + Send,
) {
    node.netlink(work).unwrap().unwrap();
}

pub fn add_address(node: &NetNs, link: u32, net: &str) {
    let net: IpNet = net.parse().unwrap();
    change(node, async |handle| handle.address().add(link, net.addr(), net.prefix_len()).execute().await);
}

pub fn remove_address(node: &NetNs, link: u32, text: &str) {
    let wanted: IpNet = text.parse().unwrap();
    change(node, async |handle| {
        let addresses: Vec<AddressMessage> = handle.address().get().execute().try_collect().await?;
        let held = addresses.into_iter().find(|held| held.header.index == link && net(held) == Some(wanted));
        handle.address().del(held.unwrap()).execute().await
    });
}

/// A policy rule, as CNI plugins make them.
pub fn add_rule(node: &NetNs, from: &str, priority: u32) {
    let IpNet::V4(from) = from.parse().unwrap() else { panic!("{from}") };
    change(node, async |handle| {
        let rule = handle.rule().add().v4().source_prefix(from.addr(), from.prefix_len());
        rule.table_id(priority).priority(priority).execute().await
    });
}

pub fn set_up(node: &NetNs, link: u32) {
    let message = LinkUnspec::new_with_index(link).up().build();
    change(node, async |handle| handle.link().change(message).execute().await);
}

pub fn set_down(node: &NetNs, link: u32) {
    let message = LinkUnspec::new_with_index(link).down().build();
    change(node, async |handle| handle.link().change(message).execute().await);
}

pub fn set_mtu(node: &NetNs, link: u32, mtu: u32) {
    let message = LinkUnspec::new_with_index(link).mtu(mtu).build();
    change(node, async |handle| handle.link().change(message).execute().await);
}

pub fn enslave(node: &NetNs, link: u32, bridge: &str) {
    // One that is up gets an IPv6 address from the kernel, at a time of its own.
    let message = rtnetlink::LinkBridge::new(bridge).down().build();
    change(node, async |handle| {
        handle.link().add(message).execute().await?;
        let bridges: Vec<LinkMessage> =
            handle.link().get().match_name(bridge.to_owned()).execute().try_collect().await?;
        let message = LinkUnspec::new_with_index(link).controller(bridges[0].header.index).build();
        handle.link().change(message).execute().await
    });
}

pub fn add_altname(node: &NetNs, link: u32, altname: &str) {
    change(node, async |handle| handle.link().property_add(link).alt_ifname(&[altname]).execute().await);
}

/// Whether the link has this other name.
pub fn has_altname(node: &NetNs, link: u32, altname: &str) -> bool {
    let links: Vec<LinkMessage> =
        node.netlink(async |handle| handle.link().get().execute().try_collect().await.unwrap()).unwrap();
    let link = links.iter().find(|held| held.header.index == link).unwrap();
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::PropList(list) => {
            list.iter().any(|prop| matches!(prop, Prop::AltIfName(name) if name == altname))
        }
        _ => false,
    })
}

/// A route by whoever `protocol` stands for; `gateway` none: directly.
pub fn add_route(node: &NetNs, link: u32, destination: &str, gateway: Option<&str>, protocol: RouteProtocol) {
    let destination: IpNet = destination.parse().unwrap();
    let IpNet::V4(destination) = destination else { panic!("{destination} is not IPv4") };
    let mut route = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
        .destination_prefix(destination.addr(), destination.prefix_len())
        .output_interface(link)
        .protocol(protocol);
    if let Some(gateway) = gateway {
        route = route.gateway(gateway.parse().unwrap());
    }
    let message = route.build();
    change(node, async |handle| handle.route().add(message).execute().await);
}

/// An address with a lifetime, as a DHCP client sets it.
pub fn add_leased_address(node: &NetNs, link: u32, net: &str) {
    let net: IpNet = net.parse().unwrap();
    change(node, async |handle| {
        let mut request = handle.address().add(link, net.addr(), net.prefix_len());
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_preferred = 3600;
        lifetime.ifa_valid = 3600;
        request.message_mut().attributes.push(AddressAttribute::CacheInfo(lifetime));
        request.execute().await
    });
}

/// A default route, by whoever `protocol` stands for.
pub fn add_default(node: &NetNs, link: u32, gateway: &str, metric: u32, protocol: RouteProtocol) {
    let message = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
        .output_interface(link)
        .gateway(gateway.parse().unwrap())
        .priority(metric)
        .protocol(protocol)
        .build();
    change(node, async |handle| handle.route().add(message).execute().await);
}

/// Removes the default route by this gateway that [`World::new`](crate::world::World::new) has.
pub fn remove_default(node: &NetNs, gateway: &str) {
    let gateway: std::net::Ipv4Addr = gateway.parse().unwrap();
    let route = RouteMessageBuilder::<std::net::Ipv4Addr>::new().gateway(gateway);
    let message = route.protocol(RouteProtocol::Boot).build();
    change(node, async |handle| handle.route().del(message).execute().await);
}

/// Gives a link another name, for which it goes down.
pub fn rename(node: &NetNs, link: u32, name: &str) {
    set_down(node, link);
    let message = LinkUnspec::new_with_index(link).name(name.to_owned()).build();
    change(node, async |handle| handle.link().change(message).execute().await);
}
