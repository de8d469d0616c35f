//! Changes to one link.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use multinic_core::node::observed::{Route, Setting};
use multinic_core::node::routing::{RouteTarget, RuleTarget};
use multinic_core::{Mtu, VlanId};
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, Prop,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::read::{Saved, setting_number};
use super::socket::Netlink;
use super::{LinkRef, NetlinkError};

const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
/// `RTNH_F_ONLINK`: the one flag of a route that is a wish; the others are what became of it, and the kernel does not
/// take them back.
const RTNH_F_ONLINK: u32 = 4;

fn of(link: &LinkRef) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    message
}

/// Takes an error of the kernel that says that things are as wanted already.
fn unless(result: Result<(), NetlinkError>, done: &[Errno]) -> Result<(), NetlinkError> {
    match result {
        Err(error) if done.iter().any(|errno| error.errno() == Some(errno.raw_os_error())) => Ok(()),
        result => result,
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

impl Netlink {
    /// Sets a link up or down.
    pub fn set_up(&self, link: &LinkRef, up: bool) -> Result<(), NetlinkError> {
        let mut message = of(link);
        message.header.change_mask = LinkFlags::Up;
        if up {
            message.header.flags = LinkFlags::Up;
        }
        let operation = if up { "set up" } else { "set down" };
        self.change(operation, link, &RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Gives a link another name.
    pub fn rename(&self, link: &LinkRef, name: &str) -> Result<(), NetlinkError> {
        let mut message = of(link);
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.change(format!("give the name {name} to"), link, &RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Sets the MTU of a link.
    pub fn set_mtu(&self, link: &LinkRef, mtu: u32) -> Result<(), NetlinkError> {
        let mut message = of(link);
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.change(format!("set MTU {mtu} on"), link, &RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Sets an MTU that was checked.
    pub fn set_checked_mtu(&self, link: &LinkRef, mtu: Mtu) -> Result<(), NetlinkError> {
        self.set_mtu(link, u32::from(mtu.bytes()))
    }

    /// Takes one of its other names from a link; nothing happens if it has none such.
    pub fn drop_altname(&self, link: &LinkRef, name: &str) -> Result<(), NetlinkError> {
        let mut message = of(link);
        message.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName(name.to_owned())]));
        let message = RouteNetlinkMessage::DelLinkProp(message);
        unless(self.change(format!("drop the other name {name} of"), link, &message, 0), &[Errno::NOENT])
    }

    /// Gives a link one more name; nothing happens if it has it.
    pub fn add_altname(&self, link: &LinkRef, name: &str) -> Result<(), NetlinkError> {
        let mut message = of(link);
        message.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName(name.to_owned())]));
        let message = RouteNetlinkMessage::NewLinkProp(message);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        unless(self.change(format!("add the other name {name} to"), link, &message, flags), &[Errno::EXIST])
    }

    /// Whether the kernel can make VLANs. Asked for one that is no whole one, it says what is wrong with it, or that it knows
    /// none at all, after having looked for its module. None where it does not say, as to whoever may not make links.
    pub fn knows_vlans(&self, name: &str) -> Option<bool> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan)]));
        let message = RouteNetlinkMessage::NewLink(message);
        let error = self.change("make", &name, &message, NLM_F_CREATE | NLM_F_EXCL).err()?;
        match Errno::from_raw_os_error(error.errno()?) {
            Errno::OPNOTSUPP => Some(false),
            Errno::INVAL | Errno::EXIST => Some(true),
            _ => None,
        }
    }

    /// Makes a VLAN on a link. `index`: the index that it had before.
    pub fn add_vlan(
        &self,
        link: &LinkRef,
        name: &str,
        id: VlanId,
        index: Option<u32>,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index.unwrap_or_default();
        let data = InfoData::Vlan(vec![InfoVlan::Id(id.number())]);
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(link.index),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)]),
        ];
        let message = RouteNetlinkMessage::NewLink(message);
        self.change(format!("make {name} on"), link, &message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes a VLAN of ours away; nothing happens if it is not there.
    pub fn remove_link(&self, link: &LinkRef) -> Result<(), NetlinkError> {
        unless(self.change("remove", link, &RouteNetlinkMessage::DelLink(of(link)), 0), &[Errno::NODEV])
    }

    /// Gives a setting of a link a value. Below `/proc/sys`, where they are too, an unprivileged container may not write.
    pub fn set(&self, link: &LinkRef, setting: Setting, value: u32) -> Result<(), NetlinkError> {
        const IFLA_AF_SPEC: u16 = 26;
        const AF_INET: u16 = 2;
        const IFLA_INET_CONF: u16 = 1;
        let setting_of_link = attribute(setting_number(setting), &value.to_ne_bytes());
        let families = attribute(AF_INET, &attribute(IFLA_INET_CONF, &setting_of_link));
        // A header of 16 bytes in which only the index is given.
        let mut payload = [0; 16];
        payload[4..8].copy_from_slice(&link.index.to_ne_bytes());
        let payload = [&payload[..], &attribute(IFLA_AF_SPEC, &families)].concat();
        self.send(format!("set {} to {value} on", setting.key()), link, RTM_SETLINK, &payload, 0)
    }

    /// Adds an address for good; nothing happens if it is there, and one with a lifetime loses that. `prefix_route`: whether
    /// the kernel makes a route to its network.
    pub fn add_address(&self, link: &LinkRef, net: IpNet, prefix_route: bool) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family(net.addr());
        message.header.prefix_len = net.prefix_len();
        message.header.index = link.index;
        message.attributes.push(AddressAttribute::Address(net.addr()));
        message.attributes.push(AddressAttribute::Local(net.addr()));
        if let Some(broadcast) = broadcast(net) {
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        if !prefix_route {
            // The header has room for the first eight flags only.
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute));
        }
        let message = RouteNetlinkMessage::NewAddress(message);
        self.change(format!("add {net} to"), link, &message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes an address; nothing happens if it is not there.
    pub fn remove_address(&self, link: &LinkRef, net: IpNet) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family(net.addr());
        message.header.prefix_len = net.prefix_len();
        message.header.index = link.index;
        message.attributes.push(AddressAttribute::Local(net.addr()));
        let message = RouteNetlinkMessage::DelAddress(message);
        unless(self.change(format!("remove {net} from"), link, &message, 0), &[Errno::ADDRNOTAVAIL])
    }

    /// Removes a route; nothing happens if it is not there.
    pub fn remove_route(&self, link: &LinkRef, route: &Route) -> Result<(), NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(route.destination.addr());
        message.header.destination_prefix_length = route.destination.prefix_len();
        set_table(&mut message, route.table);
        // Whatever its scope is.
        message.header.scope = RouteScope::NoWhere;
        message.attributes.push(RouteAttribute::Destination(route.destination.network().into()));
        message.attributes.push(RouteAttribute::Oif(link.index));
        if route.metric != 0 {
            message.attributes.push(RouteAttribute::Priority(route.metric));
        }
        if let Some(gateway) = route.gateway
            && family(gateway) == message.header.address_family
        {
            message.attributes.push(RouteAttribute::Gateway(gateway.into()));
        }
        let operation = format!("remove the route to {} from", route.destination);
        unless(self.change(operation, link, &RouteNetlinkMessage::DelRoute(message), 0), &[Errno::SRCH])
    }

    /// Adds a route beside those that are there; nothing happens if it is there.
    pub fn add_route(&self, link: &LinkRef, route: &RouteTarget) -> Result<(), NetlinkError> {
        let RouteTarget { table, destination, gateway, metric, source } = route;
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination.addr());
        message.header.destination_prefix_length = destination.prefix_len();
        set_table(&mut message, *table);
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.scope = match (gateway, destination) {
            (None, IpNet::V4(_)) => RouteScope::Link,
            _ => RouteScope::Universe,
        };
        message.attributes.push(RouteAttribute::Destination(destination.network().into()));
        message.attributes.push(RouteAttribute::Oif(link.index));
        message.attributes.push(RouteAttribute::Priority(*metric));
        message.attributes.extend(gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        message.attributes.extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
        let append = if destination.addr().is_ipv4() { NLM_F_APPEND } else { 0 };
        let operation = format!("add the route to {destination} in table {table} to");
        let sent =
            self.change(operation, link, &RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | append);
        unless(sent, &[Errno::EXIST])
    }

    /// Adds a rule; nothing happens if it is there. `protocol`: who is said to have set it; none: `static`, as network managers
    /// have it.
    pub fn add_rule(&self, rule: &RuleTarget, protocol: Option<u8>) -> Result<(), NetlinkError> {
        let mut message = rule_message(rule);
        let protocol = protocol.map_or(RouteProtocol::Static, RouteProtocol::from);
        message.attributes.push(RuleAttribute::Protocol(protocol));
        let message = RouteNetlinkMessage::NewRule(message);
        let sent = self.change("add", &words(rule), &message, NLM_F_CREATE | NLM_F_EXCL);
        unless(sent, &[Errno::EXIST])
    }

    /// Removes a rule, whoever says that he set it; nothing happens if it is not there.
    pub fn remove_rule(&self, rule: &RuleTarget) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRule(rule_message(rule));
        unless(self.change("remove", &words(rule), &message, 0), &[Errno::NOENT])
    }

    /// Gives a link an address back as it was.
    pub fn restore_address(&self, link: &LinkRef, what: &str, saved: &Saved) -> Result<(), NetlinkError> {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.send(format!("give {what} back to"), link, RTM_NEWADDR, &saved.payload, flags)
    }

    /// Gives a link a route back as it was, beside an equal one over another link; nothing happens if it is there.
    pub fn restore_route(&self, link: &LinkRef, what: &str, saved: &Saved) -> Result<(), NetlinkError> {
        const AF_INET: u8 = 2;
        let mut payload = saved.payload.clone();
        if let Some(flags) = payload.get_mut(8..12) {
            let kept = flags.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes)) & RTNH_F_ONLINK;
            flags.copy_from_slice(&kept.to_ne_bytes());
        }
        // Without NLM_F_APPEND, an IPv4 route goes before its equals and takes their traffic; with it, an IPv6 route
        // becomes one of several ways of its equals.
        let append = if saved.payload.first() == Some(&AF_INET) { NLM_F_APPEND } else { 0 };
        let sent =
            self.send(format!("give {what} back to"), link, RTM_NEWROUTE, &payload, NLM_F_CREATE | append);
        unless(sent, &[Errno::EXIST])
    }
}

/// One attribute: its length and kind, its value, and zeros up to a multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The header has room for tables up to 255 only.
fn set_table(message: &mut RouteMessage, table: u32) {
    message.header.table = u8::try_from(table).unwrap_or_default();
    message.attributes.push(RouteAttribute::Table(table));
}

fn rule_message(rule: &RuleTarget) -> RuleMessage {
    let RuleTarget { priority, from, table } = rule;
    let mut message = RuleMessage::default();
    message.header.family = family(from.addr());
    message.header.src_len = from.prefix_len();
    message.header.table = u8::try_from(*table).unwrap_or_default();
    message.header.action = RuleAction::ToTable;
    message.attributes.push(RuleAttribute::Source(from.addr()));
    message.attributes.push(RuleAttribute::Table(*table));
    message.attributes.push(RuleAttribute::Priority(*priority));
    message
}

fn words(rule: &RuleTarget) -> String {
    let RuleTarget { priority, from, table } = rule;
    format!("the rule {priority}: from {from} lookup {table}")
}

/// RFC 3021: a network of two addresses has no broadcast address.
fn broadcast(net: IpNet) -> Option<Ipv4Addr> {
    match net {
        IpNet::V4(net) if net.prefix_len() < 31 => Some(net.broadcast()),
        _ => None,
    }
}
