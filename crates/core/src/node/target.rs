//! What a NIC of ours is to be like, how it may differ, and the steps between the two.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::observed::{Link, NicFileContent, Observed, Route};
use crate::{Addresses, InterfaceName, MacAddr, Mtu};

/// What a NIC of ours is to be like, in the kernel and on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicTarget {
    /// The MAC address by which it is found.
    pub mac: MacAddr,
    /// The name it is to have.
    pub name: InterfaceName,
    /// Its addresses.
    pub addresses: Addresses,
    /// Its MTU.
    pub mtu: Mtu,
}

impl NicTarget {
    /// Whether both make the same of a node at its next boot. Backends keep the addresses of the two families apart, so
    /// only the order within a family is on disk; between them it means nothing to a kernel.
    pub fn is_same_on_disk(&self, other: &Self) -> bool {
        let Self { mac, name, addresses, mtu } = self;
        let family = |addresses: &Addresses, ipv4| {
            addresses.iter().filter(|net| net.addr().is_ipv4() == ipv4).collect::<Vec<_>>()
        };
        let same = |ipv4| family(addresses, ipv4) == family(&other.addresses, ipv4);
        (mac, name, mtu) == (&other.mac, &other.name, &other.mtu) && same(true) && same(false)
    }
}

/// A NIC that we configured, as the state file remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedNic {
    /// What was verified last.
    pub target: NicTarget,
    /// The kernel's name before our first rename: what it gets back when it is removed.
    pub original_name: String,
}

/// Everything that we configured, by MAC.
pub type Owned = BTreeMap<MacAddr, OwnedNic>;

/// One step of a change to one NIC, in the order in which it is to be taken. Each is idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Before a rename: older kernels (< 6.2) answer EBUSY for a link that is up. Flushes its IPv6 addresses and routes.
    SetDown,
    /// The name to be given must not be one of its own other names: the kernel answers EEXIST.
    DropAltName(String),
    /// Gives the link this name.
    Rename(String),
    /// Sets the MTU.
    SetMtu(Mtu),
    /// Keeps routers from giving the link addresses and routes.
    IgnoreRouterAdvertisements,
    /// Leaves the link with the node's default for that, as one that was just plugged in.
    HeedRouterAdvertisements,
    /// Removes a route that a lease or a router put there.
    RemoveRoute(Route),
    /// Removes an address.
    RemoveAddress(IpNet),
    /// Adds an address; nothing happens if it is there.
    AddAddress(IpNet),
    /// Brings the link up.
    SetUp,
    /// Writes the files for the next boot, in the place of all others about this interface.
    WriteFile(NicTarget),
    /// Removes the files of this interface that are about this NIC.
    RemoveFile(InterfaceName),
}

impl Step {
    /// Whether it takes something away from the link that somebody may be using.
    pub fn is_disruptive(&self) -> bool {
        match self {
            Self::SetDown
            | Self::Rename(_)
            | Self::RemoveRoute(_)
            | Self::RemoveAddress(_)
            | Self::SetMtu(_) => true,
            Self::DropAltName(_)
            | Self::IgnoreRouterAdvertisements
            | Self::HeedRouterAdvertisements
            | Self::AddAddress(_)
            | Self::SetUp
            | Self::WriteFile(_)
            | Self::RemoveFile(_) => false,
        }
    }
}

/// One way in which a NIC differs from its target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// Another name.
    Name(String),
    /// Another MTU.
    Mtu(u32),
    /// An address is not there.
    MissingAddress(IpNet),
    /// An address is there that should not be: one of ours from before, or a lease.
    ExtraAddress(IpNet),
    /// A route that a lease or a router put there.
    ForeignRoute(Route),
    /// Not up.
    Down,
    /// A file for the next boot is missing, edited, outdated, or one too many.
    File,
}

impl Drift {
    /// The label of the drift metric.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Mtu(_) => "mtu",
            Self::MissingAddress(_) => "missing_address",
            Self::ExtraAddress(_) => "ip_address",
            Self::ForeignRoute(_) => "route",
            Self::Down => "link_down",
            Self::File => "file",
        }
    }
}

/// How a link that is ours differs from its target. Empty means verified: name, addresses with their prefixes, MTU and
/// UP state in the kernel, and the file read back. `former` are addresses that we set earlier; addresses that others
/// added to the link (a virtual IP, say) are theirs and left alone.
pub fn drift(observed: &Observed, link: &Link, target: &NicTarget, former: &BTreeSet<IpNet>) -> Vec<Drift> {
    let mut found = Vec::new();
    if link.name != target.name.to_string() {
        found.push(Drift::Name(link.name.clone()));
    }
    if link.mtu != u32::from(target.mtu.bytes()) {
        found.push(Drift::Mtu(link.mtu));
    }
    for present in observed.addresses_of(link.index) {
        let ours = former.contains(&present.net)
            // With another prefix it is the same address, set wrong; IPv6 does not take it a second time.
            || target.addresses.iter().any(|net| net.addr() == present.net.addr());
        let leased = present.dynamic && !present.link_local;
        if !target.addresses.contains(present.net) && (leased || ours) {
            found.push(Drift::ExtraAddress(present.net));
        }
    }
    for net in target.addresses.iter() {
        // A leased address ends with its lease, so an equal one does not count as set.
        if !observed.addresses_of(link.index).any(|present| present.net == net && !present.dynamic) {
            found.push(Drift::MissingAddress(net));
        }
    }
    for route in observed.routes_of(link.index) {
        if route.origin == super::observed::RouteOrigin::Dynamic {
            found.push(Drift::ForeignRoute(route.clone()));
        }
    }
    if !link.up {
        found.push(Drift::Down);
    }
    let file_is_exact = observed.files.iter().any(|file| {
        file.slot == target.name.slot()
            && matches!(&file.content, NicFileContent::Exact(held) if held.is_same_on_disk(target))
    });
    let stray =
        observed.files.iter().any(|file| file.slot != target.name.slot() && file.mac() == Some(target.mac));
    if !file_is_exact || stray {
        found.push(Drift::File);
    }
    found
}
