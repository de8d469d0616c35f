//! The kernel's lists as the planner's values.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use multinic_core::node::Owned;
use multinic_core::node::observed::{Link, LinkAddress, Route, RouteOrigin, Setting, Settings};
use multinic_core::node::routing::MAIN_TABLE;
use multinic_core::{Addresses, MacAddr, VlanId};
use netlink_packet_core::{DecodeError, NlasIterator, Parseable, ParseableParametrized};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeader, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMessage, RouteProtocol,
    RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::socket::{Failure, Netlink, text};
use super::{LinkRef, NetlinkError};
use crate::rollback::is_of;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET_CONF: u16 = 1;
const AF_INET: u16 = 2;
const IFLA_INET6_CONF: u16 = 2;
const AF_INET6: u16 = 10;
/// `DEVCONF_ACCEPT_RA`, counted from 0.
const ACCEPT_RA: usize = 3;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_PERM_ADDRESS: u16 = 54;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
/// `ETH_P_8021Q`.
const DOT1Q: [u8; 2] = [0x81, 0x00];

/// Kinds of virtual links that stand for a NIC of their own. Real NICs have no kind; every other kind is made of other
/// links (bridge, bond, vlan, macvlan, openvswitch, …) and may repeat the MAC of one of them.
const NIC_KINDS: [&str; 4] = ["veth", "tun", "dummy", "netdevsim"];

/// The kernel's own routes to its own addresses.
const LOCAL_TABLE: u32 = 255;

/// The attributes of a route that are read; the others may have forms that are younger than this program.
const ROUTE_ATTRIBUTES: [u16; 8] = [1, 4, 5, 6, 7, 9, 15, 18];

/// An address or a route as the kernel told it, so that it can be given back exactly, lifetimes and all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    pub(super) payload: Vec<u8>,
}

impl Saved {
    /// Takes up what [`Self::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.is_empty() || !digits.len().is_multiple_of(2) {
            return None;
        }
        let bytes = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        Some(Self { payload: bytes.collect::<Option<_>>()? })
    }

    /// For a file: hexadecimal digits.
    pub fn to_text(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        for byte in &self.payload {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// The same address on another link.
    pub fn address_on(&self, link: u32) -> Option<Self> {
        let mut payload = self.payload.clone();
        payload.get_mut(4..8)?.copy_from_slice(&link.to_ne_bytes());
        Some(Self { payload })
    }

    /// The same route over another link, if it is one over one link.
    pub fn route_on(&self, link: u32) -> Option<Self> {
        const RTA_OIF: u16 = 4;
        let mut payload = self.payload.clone();
        let (mut at, mut found) = (12, false);
        for nla in NlasIterator::new(self.payload.get(at..)?) {
            let nla = nla.ok()?;
            if nla.kind() == RTA_OIF {
                payload.get_mut(at + 4..at + 8)?.copy_from_slice(&link.to_ne_bytes());
                found = true;
            }
            at += (4 + nla.value().len()).next_multiple_of(4);
        }
        found.then_some(Self { payload })
    }

    /// The route, if it is one over one link.
    pub fn route(&self) -> Option<Route> {
        let [route] = routes(&self.payload).ok()?.try_into().ok()?;
        Some(route)
    }

    /// Whether this is the route that [`Self::to_text`] wrote, apart from what has become of it since.
    pub fn is_same_route(&self, text: &str) -> bool {
        let read = |saved: &Self| {
            let protocol = RouteHeader::parse(&saved.payload).ok()?.protocol;
            Some((protocol, routes(&saved.payload).ok()?))
        };
        Self::from_text(text).is_some_and(|other| read(self).is_some() && read(self) == read(&other))
    }

    /// Whether this is the address that [`Self::to_text`] wrote, with the same label, metric of its route and so on, apart
    /// from what has become of it since.
    pub fn is_same_address(&self, text: &str) -> bool {
        let read = |saved: &Self| lasting(&saved.payload).ok();
        Self::from_text(text).is_some_and(|other| read(self).is_some() && read(self) == read(&other))
    }
}

/// What of an address does not change by itself, and is as it was when it is given back.
fn lasting(payload: &[u8]) -> Result<impl PartialEq + use<>, DecodeError> {
    const HEADER: usize = 8;
    const IFA_CACHEINFO: u16 = 6;
    const IFA_FLAGS: u16 = 8;
    const FOREVER: u32 = u32::MAX;
    // The others say what the kernel found out, or made by itself.
    let given = AddressFlags::Permanent
        | AddressFlags::Noprefixroute
        | AddressFlags::Nodad
        | AddressFlags::Homeaddress
        | AddressFlags::Managetempaddr
        | AddressFlags::Mcautojoin;
    let AddressHeader { family, prefix_len, flags, scope, index: _ } = AddressHeader::parse(payload)?;
    let (mut flags, mut always_preferred) = (u32::from(flags.bits()), true);
    let mut others = BTreeSet::new();
    for nla in NlasIterator::new(payload.get(HEADER..).unwrap_or_default()) {
        let nla = nla?;
        match nla.kind() {
            IFA_FLAGS => flags = number(nla.value()).unwrap_or_default(),
            // It begins with for how many seconds it is preferred.
            IFA_CACHEINFO => always_preferred = number(nla.value()) == Some(FOREVER),
            kind => {
                others.insert((kind, nla.value().to_vec()));
            }
        }
    }
    let flags = AddressFlags::from_bits_retain(flags) & given;
    Ok((family, prefix_len, scope, flags, always_preferred, others))
}

/// Everything that a change of ours can take away from a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// The link.
    pub link: Link,
    /// Its addresses.
    pub addresses: Vec<(LinkAddress, Saved)>,
    /// The routes over it. Of those that the kernel makes itself in the main table, those to the networks of addresses
    /// without a lifetime.
    pub routes: Vec<(Route, Saved)>,
}

fn garbled(what: &'static str) -> impl Fn(DecodeError) -> NetlinkError {
    move |error| {
        let source = io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        NetlinkError::Read { what, source }
    }
}

/// The addresses of a node, without those of NICs of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnAddresses {
    /// Of any link.
    pub present: BTreeSet<IpAddr>,
    /// Those from which it speaks over any default route.
    pub all: BTreeSet<IpAddr>,
}

impl Netlink {
    /// Every link.
    pub fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
        let links = self.list("links", &RouteNetlinkMessage::GetLink(message))?;
        let links = links.iter().filter(|(kind, _)| *kind == RTM_NEWLINK).map(|(_, payload)| link(payload));
        links.collect::<Result<_, _>>().map_err(garbled("links"))
    }

    /// Every address.
    pub fn addresses(&self) -> Result<Vec<LinkAddress>, NetlinkError> {
        Ok(self.saved_addresses()?.into_iter().map(|(address, _)| address).collect())
    }

    /// The routes that leave by a link: of the main table, and of all others but the kernel's own.
    pub fn routes(&self) -> Result<(Vec<Route>, Vec<Route>), NetlinkError> {
        let mut found = Vec::new();
        for (_, payload) in self.saved_routes()? {
            found.extend(routes(&payload).map_err(garbled("routes"))?);
        }
        Ok(found.into_iter().partition(|route| route.table == MAIN_TABLE))
    }

    /// The addresses that the node has, and those from which it speaks over its default routes. What we configured says nothing
    /// of them.
    pub fn own_addresses(&self, owned: &Owned) -> Result<OwnAddresses, NetlinkError> {
        let links = self.links()?;
        let nics = owned.iter().filter_map(|(mac, nic)| {
            let is_nic = |link: &&Link| !link.stacked && is_of(link, *mac);
            Some((links.iter().find(is_nic)?.index, nic.target.vlan().map(|vlan| vlan.to_string())))
        });
        let mut ours = BTreeSet::new();
        for (index, vlan) in nics {
            let is_vlan = |link: &&Link| link.lower == Some(index) && vlan.as_ref() == Some(&link.name);
            ours.insert(index);
            ours.extend(links.iter().filter(is_vlan).map(|link| link.index));
        }
        let (mut routes, _) = self.routes()?;
        routes.retain(|route| !ours.contains(&route.link));
        let mut addresses = self.addresses()?;
        addresses.retain(|address| !ours.contains(&address.link));
        let present = addresses.iter().map(|address| address.net.addr()).collect();
        let mut own = OwnAddresses { present, all: BTreeSet::new() };
        for route in routes.iter().filter(|route| route.is_default()) {
            let on_link = || {
                let ours = |address: &&LinkAddress| {
                    address.link == route.link
                        && !address.link_local
                        && address.net.addr().is_ipv4() == route.destination.addr().is_ipv4()
                };
                // The kernel takes the one in the gateway's network; else the first.
                let near = |address: &&LinkAddress| {
                    route.gateway.is_some_and(|gateway| address.net.contains(&gateway))
                };
                let mut found = addresses.iter().filter(ours);
                found.clone().find(near).or_else(|| found.next()).map(|address| address.net.addr())
            };
            own.all.extend(route.source.or_else(on_link));
        }
        Ok(own)
    }

    /// A link with what belongs to it; none if there is no link of this index.
    pub fn link_state(&self, index: u32) -> Result<Option<LinkState>, NetlinkError> {
        let Some(link) = self.links()?.into_iter().find(|link| link.index == index) else { return Ok(None) };
        let mut addresses = self.saved_addresses()?;
        addresses.retain(|(address, _)| address.link == index);
        let comes_with_an_address = |route: &Route| {
            addresses.iter().any(|(address, _)| {
                address.net.trunc() == route.destination && !address.dynamic && !address.link_local
            })
        };
        let mut kept = Vec::new();
        for (_, payload) in self.saved_routes()? {
            // A route over several links is lost for all of them with the first that goes down, and it is theirs too.
            if let [route] = routes(&payload).map_err(garbled("routes"))?.as_slice()
                && route.link == index
                && (route.origin != RouteOrigin::Kernel
                    || route.table != MAIN_TABLE
                    || comes_with_an_address(route))
            {
                kept.push((route.clone(), Saved { payload }));
            }
        }
        Ok(Some(LinkState { link, addresses, routes: kept }))
    }

    fn saved_addresses(&self) -> Result<Vec<(LinkAddress, Saved)>, NetlinkError> {
        let list = self.list("addresses", &RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        let mut found = Vec::new();
        for (kind, payload) in list {
            if kind != RTM_NEWADDR {
                continue;
            }
            if let Some(address) = address(&payload).map_err(garbled("addresses"))? {
                found.push((address, Saved { payload }));
            }
        }
        Ok(found)
    }

    fn saved_routes(&self) -> Result<Vec<(u16, Vec<u8>)>, NetlinkError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            match self.list("routes", &RouteNetlinkMessage::GetRoute(message)) {
                Ok(list) => found.extend(list.into_iter().filter(|(kind, _)| *kind == RTM_NEWROUTE)),
                // A kernel that checks strictly says so when the table does not exist yet.
                Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Whether the kernel is about to find out whether another host has one of these addresses of a link. Without a carrier
    /// it waits with that for as long as there is none.
    pub fn is_probing(&self, index: u32, among: &Addresses) -> Result<bool, NetlinkError> {
        let tentative = self
            .addresses()?
            .into_iter()
            .any(|address| address.link == index && address.tentative && among.contains(address.net));
        if !tentative {
            return Ok(false);
        }
        let mut message = LinkMessage::default();
        message.header.index = index;
        let read = |source| NetlinkError::Read { what: "link", source };
        let answer =
            self.ask(&RouteNetlinkMessage::GetLink(message)).map_err(|failure| read(failure.source))?;
        let Some((_, payload)) = answer.first() else { return Ok(false) };
        let header = LinkHeader::parse(payload).map_err(garbled("link"))?;
        Ok(header.flags.contains(LinkFlags::LowerUp))
    }

    /// The link by which an address is reached; none if it is not reached at all.
    pub fn route_to(&self, address: IpAddr) -> Result<Option<u32>, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family =
            if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(address.into()));
        let unreachable =
            [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ACCESS, Errno::INVAL, Errno::AFNOSUPPORT];
        match self.ask(&RouteNetlinkMessage::GetRoute(message)) {
            Ok(answer) => {
                let Some((_, payload)) = answer.first() else { return Ok(None) };
                let attributes = route_attributes(payload).map_err(garbled("route"))?.1;
                let link = attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                });
                Ok(link)
            }
            Err(Failure { source, .. })
                if unreachable.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error())) =>
            {
                // No route, or one that says "unreachable", "prohibit" or "blackhole".
                Ok(None)
            }
            Err(Failure { source, .. }) => Err(NetlinkError::Read { what: "route", source }),
        }
    }
}

impl From<&Link> for LinkRef {
    fn from(link: &Link) -> Self {
        Self { index: link.index, name: link.name.clone() }
    }
}

fn mac(bytes: &[u8]) -> Option<MacAddr> {
    MacAddr::from_bytes(bytes.try_into().ok()?).ok()
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Reads a link message. Only what is needed is decoded, so that another program's link with attributes that are
/// younger than this program is still a link.
pub(super) fn link(payload: &[u8]) -> Result<Link, DecodeError> {
    const HEADER: usize = 16;
    let header = LinkHeader::parse(payload)?;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mac: None,
        permanent_mac: None,
        mtu: 0,
        up: header.flags.contains(LinkFlags::Up),
        master: None,
        stacked: false,
        lower: None,
        vlan: None,
        altnames: Vec::new(),
        settings: Settings::default(),
        accept_ra: None,
    };
    let mut elsewhere = false;
    for nla in NlasIterator::new(payload.get(HEADER..).unwrap_or_default()) {
        let nla = nla?;
        let value = nla.value();
        match nla.kind() {
            IFLA_LINK => link.lower = number(value),
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_ADDRESS => link.mac = mac(value),
            IFLA_PERM_ADDRESS => link.permanent_mac = mac(value),
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = number(value).unwrap_or_default(),
            IFLA_MASTER => link.master = number(value),
            IFLA_PROP_LIST => {
                for property in NlasIterator::new(value) {
                    let property = property?;
                    if property.kind() == IFLA_ALT_IFNAME {
                        link.altnames.push(text(property.value()));
                    }
                }
            }
            IFLA_AF_SPEC => (link.settings, link.accept_ra) = settings(value)?,
            IFLA_LINKINFO => {
                let mut kind = String::new();
                for info in NlasIterator::new(value) {
                    let info = info?;
                    match info.kind() {
                        IFLA_INFO_KIND => kind = text(info.value()),
                        IFLA_INFO_DATA if kind == "vlan" => link.vlan = vlan_id(info.value())?,
                        _ => {}
                    }
                }
                link.stacked = !kind.is_empty() && !NIC_KINDS.contains(&kind.as_str());
            }
            _ => {}
        }
    }
    if link.name.is_empty() {
        return Err(format!("link {} has no name", link.index).into());
    }
    // What a veth names is its peer; a tunnel that is on no link names 0 or itself; an index of another namespace means
    // another link here.
    let index = link.index;
    link.lower = link.lower.filter(|lower| link.stacked && !elsewhere && ![0, index].contains(lower));
    Ok(link)
}

/// The number of a VLAN; none of one that is not of IEEE 802.1Q, such as the outer one of two tags (802.1ad).
fn vlan_id(data: &[u8]) -> Result<Option<VlanId>, DecodeError> {
    // Kernels before 3.10 know no other, and do not say.
    let (mut id, mut dot1q) = (None, true);
    for nla in NlasIterator::new(data) {
        let nla = nla?;
        match (nla.kind(), nla.value()) {
            (IFLA_VLAN_ID, &[first, second, ..]) => id = Some(u16::from_ne_bytes([first, second])),
            (IFLA_VLAN_PROTOCOL, protocol) => dot1q = protocol.starts_with(&DOT1Q),
            _ => {}
        }
    }
    Ok(id.filter(|_| dot1q).and_then(|id| VlanId::new(id.into()).ok()))
}

/// The number of a setting within `IFLA_INET_CONF`, counted from 1.
pub(super) fn setting_number(setting: Setting) -> u16 {
    match setting {
        Setting::RpFilter => 8,
        Setting::ArpAnnounce => 18,
        Setting::ArpIgnore => 19,
    }
}

/// The settings of IPv4, and `accept_ra` of IPv6.
fn settings(families: &[u8]) -> Result<(Settings, Option<u32>), DecodeError> {
    let (mut found, mut accept_ra) = (Settings::default(), None);
    for family in NlasIterator::new(families) {
        let family = family?;
        for nla in NlasIterator::new(family.value()) {
            let nla = nla?;
            let at = |place: usize| nla.value().get(place * 4..).and_then(number);
            match (family.kind(), nla.kind()) {
                (AF_INET, IFLA_INET_CONF) => {
                    for setting in Setting::ALL {
                        let place = usize::from(setting_number(setting) - 1);
                        found.set(setting, at(place).unwrap_or_default());
                    }
                }
                (AF_INET6, IFLA_INET6_CONF) => accept_ra = at(ACCEPT_RA),
                _ => {}
            }
        }
    }
    Ok((found, accept_ra))
}

/// Reads an address message; none for a family that is neither IPv4 nor IPv6.
pub(super) fn address(payload: &[u8]) -> Result<Option<LinkAddress>, DecodeError> {
    const HEADER: usize = 8;
    let header = AddressHeader::parse(payload)?;
    if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return Ok(None);
    }
    let mut flags = AddressFlags::from_bits_retain(u32::from(header.flags.bits()));
    let (mut local, mut address) = (None, None);
    for nla in NlasIterator::new(payload.get(HEADER..).unwrap_or_default()) {
        match AddressAttribute::parse(&nla?)? {
            AddressAttribute::Local(found) => local = Some(found),
            AddressAttribute::Address(found) => address = Some(found),
            // The header has room for the first eight flags only.
            AddressAttribute::Flags(found) => flags = found,
            _ => {}
        }
    }
    // On a link with one peer, IFA_ADDRESS is the peer's.
    let Some(own) = local.or(address) else { return Ok(None) };
    let net = IpNet::new(own, header.prefix_len).map_err(|error| DecodeError::from(error.to_string()))?;
    Ok(Some(LinkAddress {
        link: header.index,
        net,
        dynamic: !flags.contains(AddressFlags::Permanent),
        link_local: is_link_local(own),
        duplicate: flags.contains(AddressFlags::Dadfailed),
        tentative: flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Dadfailed),
        no_prefix_route: flags.contains(AddressFlags::Noprefixroute),
    }))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn route_attributes(payload: &[u8]) -> Result<(RouteHeader, Vec<RouteAttribute>), DecodeError> {
    const HEADER: usize = 12;
    let header = RouteHeader::parse(payload)?;
    let mut attributes = Vec::new();
    for nla in NlasIterator::new(payload.get(HEADER..).unwrap_or_default()) {
        let nla = nla?;
        if ROUTE_ATTRIBUTES.contains(&nla.kind()) {
            // The third is for encapsulations, which are not read.
            let parameter = (header.address_family, header.kind, RouteLwEnCapType::None);
            attributes.push(RouteAttribute::parse_with_param(&nla, parameter)?);
        }
    }
    Ok((header, attributes))
}

/// Reads a route message: one route for each link that it leaves by, unless it is of the kernel's own table.
pub(super) fn routes(payload: &[u8]) -> Result<Vec<Route>, DecodeError> {
    let (header, attributes) = route_attributes(payload)?;
    let table = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let table = table.unwrap_or(u32::from(header.table));
    if table == LOCAL_TABLE || header.kind != RouteType::Unicast || header.flags.contains(RouteFlags::Cloned)
    {
        return Ok(Vec::new());
    }
    let everywhere: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return Ok(Vec::new()),
    };
    let origin = match header.protocol {
        // A redirect is the kernel's own too, and goes by itself.
        RouteProtocol::Kernel | RouteProtocol::IcmpRedirect => RouteOrigin::Kernel,
        RouteProtocol::Dhcp | RouteProtocol::Ra => RouteOrigin::Dynamic,
        _ => RouteOrigin::Static,
    };
    let (mut to, mut metric, mut source) = (everywhere, 0, None);
    for attribute in &attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = (*address).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => to = (*address).into(),
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some((*address).into()),
            RouteAttribute::PrefSource(RouteAddress::Inet6(address)) => source = Some((*address).into()),
            _ => {}
        }
    }
    let destination = IpNet::new(to, header.destination_prefix_length);
    let destination = destination.map_err(|error| DecodeError::from(error.to_string()))?;
    let mut found = Vec::new();
    let mut hop = |link: u32, gateway| {
        found.push(Route { table, link, destination, gateway, metric, source, origin });
    };
    for attribute in &attributes {
        match attribute {
            RouteAttribute::Oif(link) => hop(*link, gateway(&attributes)),
            RouteAttribute::MultiPath(hops) => {
                for next in hops {
                    hop(next.interface_index, gateway(&next.attributes));
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some((*address).into()),
        RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some((*address).into()),
        // RFC 5549: an IPv4 route by an IPv6 neighbour.
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_taken_up_again() {
        let saved = Saved { payload: vec![0, 1, 0xab, 0xff] };
        assert_eq!(saved.to_text(), "0001abff");
        assert_eq!(Saved::from_text(&saved.to_text()), Some(saved));
        for text in ["", "0", "zz"] {
            assert_eq!(Saved::from_text(text), None, "{text:?}");
        }
    }
}
