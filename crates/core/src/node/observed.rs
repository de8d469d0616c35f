//! What the kernel and the disk show: one look at the node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::NicTarget;
use crate::{InterfaceName, MacAddr, Slot, Vlan, VlanId};

/// One look at the node, taken in one go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Every link of the node's network namespace.
    pub links: Vec<Link>,
    /// Every address.
    pub addresses: Vec<LinkAddress>,
    /// The routes of the main table that leave by a link.
    pub routes: Vec<Route>,
    /// Those of all other tables but the kernel's own.
    pub other_tables: Vec<Route>,
    /// The policy rules.
    pub rules: Vec<Rule>,
    /// The settings that a new link has.
    pub default_settings: Settings,
    /// What the files on disk say whose names are ours (`9N-multinicN.yaml` and others), by us or by an older program.
    pub files: Vec<NicFile>,
    /// What we made of NICs since the node booted, and unmade again. It comes back by itself: networkd sets what it read when
    /// it started whenever the link has a carrier again.
    pub earlier: BTreeMap<MacAddr, Vec<NicTarget>>,
    /// What must not be cut.
    pub lifelines: Lifelines,
}

/// What the node must not lose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lifelines {
    /// The addresses by which the cluster knows the node.
    pub node_addresses: BTreeSet<IpAddr>,
    /// The links (by index) by which the source of desired state is reached.
    pub source_links: BTreeSet<u32>,
}

/// A link of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index.
    pub index: u32,
    /// The kernel's name.
    pub name: String,
    /// The current hardware address, if it is that of a NIC.
    pub mac: Option<MacAddr>,
    /// The hardware's own address; virtual links have none.
    pub permanent_mac: Option<MacAddr>,
    /// The MTU in bytes. Loopback has 65536, beyond [`crate::Mtu`].
    pub mtu: u32,
    /// `IFF_UP`.
    pub up: bool,
    /// The bridge, bond or VRF that it is enslaved to.
    pub master: Option<u32>,
    /// Whether it is made of other links (bridge, bond, VLAN, macvlan, …) and so may repeat their MAC.
    pub stacked: bool,
    /// The link (by index) that it is on top of, as a VLAN or macvlan is; none for a NIC, and for one whose lower link is in
    /// another network namespace.
    pub lower: Option<u32>,
    /// What VLAN (IEEE 802.1Q) of that it is, if it is one.
    pub vlan: Option<VlanId>,
    /// Its other names.
    pub altnames: Vec<String>,
    /// Its settings.
    pub settings: Settings,
    /// Whether and how it takes up what routers advertise (`accept_ra`; 0: not at all); none where it has no IPv6, or where
    /// that cannot be set here.
    pub accept_ra: Option<u32>,
}

impl Link {
    /// Whether it is this VLAN of a link.
    pub fn is_vlan(&self, lower: u32, id: VlanId) -> bool {
        (self.lower, self.vlan) == (Some(lower), Some(id))
    }
}

/// A number that the kernel keeps for each link, below `net.ipv4.conf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Whose addresses it answers ARP requests for.
    ArpIgnore,
    /// Which addresses its own ARP requests name.
    ArpAnnounce,
    /// Which packets it drops by where they come from.
    RpFilter,
}

impl Setting {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::ArpIgnore, Self::ArpAnnounce, Self::RpFilter];

    /// Its name.
    pub fn key(self) -> &'static str {
        match self {
            Self::ArpIgnore => "arp_ignore",
            Self::ArpAnnounce => "arp_announce",
            Self::RpFilter => "rp_filter",
        }
    }
}

/// The settings of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// [`Setting::ArpIgnore`].
    pub arp_ignore: u32,
    /// [`Setting::ArpAnnounce`].
    pub arp_announce: u32,
    /// [`Setting::RpFilter`].
    pub rp_filter: u32,
}

impl Settings {
    /// One of them.
    pub fn get(&self, setting: Setting) -> u32 {
        match setting {
            Setting::ArpIgnore => self.arp_ignore,
            Setting::ArpAnnounce => self.arp_announce,
            Setting::RpFilter => self.rp_filter,
        }
    }

    /// Changes one of them.
    pub fn set(&mut self, setting: Setting, value: u32) {
        match setting {
            Setting::ArpIgnore => self.arp_ignore = value,
            Setting::ArpAnnounce => self.arp_announce = value,
            Setting::RpFilter => self.rp_filter = value,
        }
    }
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkAddress {
    /// The link's index.
    pub link: u32,
    /// The address with its prefix length.
    pub net: IpNet,
    /// It has a lifetime: a lease or a router's advertisement put it there.
    pub dynamic: bool,
    /// Valid on the link only (`fe80::/10`, `169.254.0.0/16`).
    pub link_local: bool,
    /// The kernel found another host with it (`IFA_F_DADFAILED`).
    pub duplicate: bool,
    /// The kernel still asks whether another host has it (`IFA_F_TENTATIVE`).
    pub tentative: bool,
    /// The kernel makes no route to its network (`IFA_F_NOPREFIXROUTE`).
    pub no_prefix_route: bool,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The table that it is in.
    pub table: u32,
    /// The link it leaves by.
    pub link: u32,
    /// Where it leads; of length 0 for a default route.
    pub destination: IpNet,
    /// The next hop, if any.
    pub gateway: Option<IpAddr>,
    /// Its metric.
    pub metric: u32,
    /// The address that is sent from where nothing else says (`RTA_PREFSRC`).
    pub source: Option<IpAddr>,
    /// Who put it there.
    pub origin: RouteOrigin,
}

impl Route {
    /// Whether it leads everywhere.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }
}

/// Who put a route there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteOrigin {
    /// The kernel, with an address (`RTPROT_KERNEL`).
    Kernel,
    /// A lease or a router's advertisement (`RTPROT_DHCP`, `RTPROT_RA`).
    Dynamic,
    /// Anybody else.
    Static,
}

/// A policy rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// When it is asked: the lowest first.
    pub priority: u32,
    /// From where; none: everywhere.
    pub from: Option<IpNet>,
    /// Which table is asked.
    pub table: u32,
    /// It asks for nothing beside `from`, and does nothing but asking the table.
    pub plain: bool,
}

/// The files on disk whose names are those of one interface, as far as they are about one NIC: a backend may have several
/// for each. Where they name several NICs, there is one of these for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicFile {
    /// The slot in the files' names.
    pub slot: Slot,
    /// What they hold.
    pub content: NicFileContent,
}

/// What the files of one interface hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NicFileContent {
    /// Byte by byte what we would write for this, and no other file.
    Exact(NicTarget),
    /// Something else: an older program's, another backend's, edited or broken ones, or not all.
    Other {
        /// The MAC that they name for the interface of their own slot, if they do.
        mac: Option<MacAddr>,
        /// The addresses that they give that interface, as far as they can be read.
        addresses: Vec<IpNet>,
    },
}

impl NicFile {
    /// The MAC that the file names.
    pub fn mac(&self) -> Option<MacAddr> {
        match &self.content {
            NicFileContent::Exact(target) => Some(target.mac),
            NicFileContent::Other { mac, .. } => *mac,
        }
    }
}

/// The link that a MAC belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<'a> {
    /// This one.
    One(&'a Link),
    /// None: not plugged yet, unplugged, or moved into another namespace.
    None,
    /// Several, by name: it cannot be told which is meant.
    Several(Vec<&'a str>),
}

impl Observed {
    /// Finds the NIC of a MAC. Links that are made of others repeat the MAC of one of them and do not count.
    pub fn find(&self, mac: MacAddr) -> Found<'_> {
        let mut hits = self
            .links
            .iter()
            .filter(|link| !link.stacked && (link.mac == Some(mac) || link.permanent_mac == Some(mac)));
        match (hits.next(), hits.next()) {
            (None, _) => Found::None,
            (Some(link), None) => Found::One(link),
            (Some(first), Some(second)) => {
                let names = [first, second].into_iter().chain(hits).map(|link| link.name.as_str());
                Found::Several(names.collect())
            }
        }
    }

    /// The link of this name.
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// A VLAN of ours on this NIC, if it is there: of this name, this number and this parent.
    pub fn vlan(&self, vlan: Vlan, nic: &Link) -> Option<&Link> {
        self.by_name(&vlan.to_string()).filter(|link| link.is_vlan(nic.index, vlan.id))
    }

    /// A link and all that is lost with it: what is on top of it (VLANs, macvlans, …), the bridges and bonds that these belong
    /// to, and so on upwards. By index.
    pub fn carried_by(&self, link: &Link) -> BTreeSet<u32> {
        let mut carried = BTreeSet::from([link.index]);
        let mut waiting = vec![link.index];
        while let Some(index) = waiting.pop() {
            let above = self.links.iter().filter(|other| other.lower == Some(index)).map(|other| other.index);
            let masters =
                self.links.iter().filter(|other| other.index == index).filter_map(|link| link.master);
            let found: Vec<u32> = above.chain(masters).filter(|index| carried.insert(*index)).collect();
            waiting.extend(found);
        }
        carried
    }

    /// The link that has the addresses of a NIC of ours: the NIC itself, or the VLAN on it, if that is there.
    pub fn ip_link<'a>(&'a self, nic: &'a Link, target: &NicTarget) -> Option<&'a Link> {
        match target.vlan() {
            Some(vlan) => self.vlan(vlan, nic),
            None => Some(nic),
        }
    }

    /// The addresses of one link.
    pub fn addresses_of(&self, index: u32) -> impl Iterator<Item = &LinkAddress> {
        self.addresses.iter().filter(move |address| address.link == index)
    }

    /// The routes that leave by one link.
    pub fn routes_of(&self, index: u32) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(move |route| route.link == index)
    }

    /// The routes of other tables than the main one that leave by one link.
    pub fn other_tables_of(&self, index: u32) -> impl Iterator<Item = &Route> {
        self.other_tables.iter().filter(move |route| route.link == index)
    }

    /// Whether a file names this MAC for this interface: the mark that we or an older program configured it.
    pub fn file_names(&self, mac: MacAddr, name: InterfaceName) -> bool {
        self.files.iter().any(|file| file.slot == name.slot() && file.mac() == Some(mac))
    }

    /// Whether this NIC was configured by us or by an older program, as its name and its file together say.
    pub fn is_adoptable(&self, mac: MacAddr) -> bool {
        match self.find(mac) {
            Found::One(link) => link.name.parse().is_ok_and(|name| self.file_names(mac, name)),
            Found::None | Found::Several(_) => false,
        }
    }
}
