//! What a NIC of ours is to be like, how it may differ, and the steps between the two.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::observed::{
    Link, LinkAddress, NicFileContent, Observed, Route, RouteOrigin, Rule, Setting, Settings,
};
use super::routing::{self, RouteTarget, RuleTarget};
use crate::{Addresses, InterfaceName, MacAddr, Mtu, NicOptions, Vlan};

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
    /// Its options.
    #[serde(default)]
    pub options: NicOptions,
}

/// What a NIC has of ours from before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Former {
    /// Our addresses, or an older program's.
    pub addresses: BTreeSet<IpNet>,
    /// All that we made of it, as far as that is known: its routes, rules and settings follow from it.
    pub target: Option<NicTarget>,
    /// What we made of it before that, since the node booted (see [`Observed::earlier`]).
    pub earlier: Vec<NicTarget>,
}

impl Former {
    /// What the NIC itself has of that.
    pub fn of_nic(&self) -> Cow<'_, Self> {
        match &self.target {
            Some(target) if target.vlan().is_some() => {
                let target = Some(target.of_nic().into_owned());
                Cow::Owned(Self { addresses: BTreeSet::new(), target, earlier: self.earlier_of(None) })
            }
            _ if self.earlier.iter().any(|earlier| earlier.vlan().is_some()) => {
                Cow::Owned(Self { earlier: self.earlier_of(None), ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// What this VLAN has of that.
    pub fn of_vlan(&self, vlan: Vlan) -> Cow<'_, Self> {
        let earlier = self.earlier_of(Some(vlan));
        if self.vlan() == Some(vlan) {
            Cow::Owned(Self { earlier, ..self.clone() })
        } else {
            Cow::Owned(Self { earlier, ..Self::default() })
        }
    }

    fn earlier_of(&self, vlan: Option<Vlan>) -> Vec<NicTarget> {
        self.earlier.iter().filter(|earlier| earlier.vlan() == vlan).cloned().collect()
    }

    /// All that we made of it, one after another or before that, as far as that is known.
    pub fn targets(&self) -> impl Iterator<Item = &NicTarget> {
        self.target.iter().chain(&self.earlier)
    }

    /// Whether this is an address of ours.
    pub fn has(&self, net: IpNet) -> bool {
        self.addresses.contains(&net) || self.earlier.iter().any(|earlier| earlier.addresses.contains(net))
    }

    /// Every VLAN that we made.
    pub fn vlans(&self) -> BTreeSet<Vlan> {
        self.targets().filter_map(NicTarget::vlan).collect()
    }

    /// The VLAN that we made.
    pub fn vlan(&self) -> Option<Vlan> {
        self.target.as_ref().and_then(NicTarget::vlan)
    }
}

impl NicTarget {
    /// The VLAN that has the addresses and all that the options say; none: the NIC itself has them.
    pub fn vlan(&self) -> Option<Vlan> {
        self.options.vlan.map(|id| Vlan { interface: self.name, id })
    }

    /// The name of the link that has the addresses.
    pub fn ip_name(&self) -> String {
        self.vlan().map_or_else(|| self.name.to_string(), |vlan| vlan.to_string())
    }

    /// What the NIC itself is to be like: below a VLAN it is up, and has nothing.
    pub fn of_nic(&self) -> Cow<'_, Self> {
        if self.vlan().is_none() {
            return Cow::Borrowed(self);
        }
        let Self { mac, name, addresses: _, mtu, options: _ } = *self;
        Cow::Owned(Self { mac, name, addresses: Addresses::default(), mtu, options: NicOptions::default() })
    }

    /// The settings that it is to have. One that its former self had and this one leaves open goes back to what a new link
    /// has.
    pub fn settings(&self, former: &Former, default: Settings) -> Vec<(Setting, u32)> {
        let before = former.target.as_ref().map(|before| before.options.settings()).unwrap_or_default();
        let wanted = self.options.settings();
        let back = before.iter().filter(|(setting, _)| !wanted.iter().any(|(wanted, _)| wanted == setting));
        let back = back.map(|(setting, _)| (*setting, default.get(*setting)));
        wanted.iter().copied().chain(back).collect()
    }

    /// Whether both make the same of a node at its next boot. Backends keep the addresses of the two families apart, so
    /// only the order within a family is on disk; between them it means nothing to a kernel.
    pub fn is_same_on_disk(&self, other: &Self) -> bool {
        let Self { mac, name, addresses, mtu, options } = self;
        let family = |addresses: &Addresses, ipv4| {
            addresses.iter().filter(|net| net.addr().is_ipv4() == ipv4).collect::<Vec<_>>()
        };
        let same = |ipv4| family(addresses, ipv4) == family(&other.addresses, ipv4);
        let exact = (mac, name, mtu, options) == (&other.mac, &other.name, &other.mtu, &other.options);
        exact && same(true) && same(false)
    }
}

/// A NIC that we configured, as the state file remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedNic {
    /// What was verified last.
    pub target: NicTarget,
    /// The kernel's name before our first rename: what it gets back when it is removed.
    pub original_name: String,
    /// Its MTU before our first change, which it gets back too; none of one that an older program configured.
    #[serde(default)]
    pub original_mtu: Option<u32>,
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
    /// Gives one of the link's settings a value.
    Set(Setting, u32),
    /// Removes a route that a lease or a router put there, or that is ours and not wanted any more.
    RemoveRoute(Route),
    /// Removes a rule of ours.
    RemoveRule(RuleTarget),
    /// Removes an address.
    RemoveAddress(IpNet),
    /// Adds an address; nothing happens if it is there.
    AddAddress(IpNet),
    /// Brings the link up.
    SetUp,
    /// Adds a route beside those that are there; nothing happens if it is there.
    AddRoute(RouteTarget),
    /// Adds a rule; nothing happens if it is there.
    AddRule(RuleTarget),
    /// Takes a link away that is a VLAN of ours, with all that it has.
    RemoveVlan {
        /// Which one by its name.
        vlan: Vlan,
        /// The kernel's index.
        link: u32,
    },
    /// Makes a VLAN on the link.
    AddVlan(Vlan),
    /// Does this to a VLAN on the link instead.
    OnVlan(Vlan, Box<Self>),
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
            | Self::RemoveVlan { .. }
            | Self::SetMtu(_) => true,
            Self::OnVlan(_, step) => step.is_disruptive(),
            Self::DropAltName(_)
            | Self::IgnoreRouterAdvertisements
            | Self::HeedRouterAdvertisements
            | Self::Set(..)
            | Self::RemoveRule(_)
            | Self::AddAddress(_)
            | Self::SetUp
            | Self::AddRoute(_)
            | Self::AddRule(_)
            | Self::AddVlan(_)
            | Self::WriteFile(_)
            | Self::RemoveFile(_) => false,
        }
    }

    /// Whether it may lead what is sent, or let in, another way than before.
    pub fn redirects(&self) -> bool {
        match self {
            Self::Set(..) | Self::RemoveRule(_) | Self::AddRoute(_) | Self::AddRule(_) => true,
            Self::OnVlan(_, step) => step.redirects(),
            _ => false,
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
    /// A route of ours is not there.
    MissingRoute(RouteTarget),
    /// A route is there that is ours and should not be.
    ExtraRoute(Route),
    /// The main table has a route to the network of this address that it should not have, or lacks the one that it should
    /// have.
    PrefixRoute(IpNet),
    /// A rule of ours is not there.
    MissingRule(RuleTarget),
    /// A rule is there that is ours and should not be.
    ExtraRule(Rule),
    /// A setting has another value.
    Setting(Setting, u32),
    /// It takes up what routers advertise.
    HeedsRouters,
    /// Not up.
    Down,
    /// The VLAN that is to have the addresses is not there.
    MissingVlan(Vlan),
    /// A VLAN is there that is ours and should not be, or a link that has its name and is another one.
    SurplusVlan {
        /// Which one by its name.
        vlan: Vlan,
        /// The kernel's index.
        link: u32,
    },
    /// The VLAN differs in this.
    OnVlan(Vlan, Box<Self>),
    /// A file for the next boot is missing, edited, outdated, or one too many.
    File,
}

impl Drift {
    /// The label of the drift metric.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::SurplusVlan { .. } => "name",
            Self::MissingVlan(_) => "missing_link",
            Self::OnVlan(_, drift) => drift.label(),
            Self::Mtu(_) => "mtu",
            Self::MissingAddress(_) => "missing_address",
            Self::ExtraAddress(_) => "ip_address",
            Self::ForeignRoute(_) | Self::MissingRoute(_) | Self::ExtraRoute(_) | Self::PrefixRoute(_) => {
                "route"
            }
            Self::MissingRule(_) | Self::ExtraRule(_) => "rule",
            Self::Setting(..) | Self::HeedsRouters => "sysctl",
            Self::Down => "state",
            Self::File => "file",
        }
    }
}

/// How a link that is ours differs from its target. Empty means verified: name, addresses with their prefixes, MTU and
/// UP state, routes, rules and settings in the kernel, and the file read back. `former` is what we set earlier; addresses,
/// routes and rules that others added (a virtual IP, say) are theirs and left alone.
pub fn drift(observed: &Observed, link: &Link, target: &NicTarget, former: &Former) -> Vec<Drift> {
    let mut found = Vec::new();
    if link.name != target.name.to_string() {
        found.push(Drift::Name(link.name.clone()));
    }
    found.extend(link_drift(observed, link, &target.of_nic(), &former.of_nic()));
    found.extend(vlan_drift(observed, link, target, former));
    found.extend(rule_drift(observed, target, former));
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

/// How the VLAN of a NIC differs from what it is to be, and what is left of the one of before.
fn vlan_drift(observed: &Observed, nic: &Link, target: &NicTarget, former: &Former) -> Vec<Drift> {
    let wanted = target.vlan();
    let mut found = Vec::new();
    for vlan in former.vlans().into_iter().filter(|before| Some(*before) != wanted) {
        if let Some(link) = observed.vlan(vlan, nic) {
            found.push(Drift::SurplusVlan { vlan, link: link.index });
        }
    }
    let Some(vlan) = wanted else { return found };
    if let Some(link) = observed.vlan(vlan, nic) {
        let drift = link_drift(observed, link, target, &former.of_vlan(vlan));
        found.extend(drift.into_iter().map(|drift| Drift::OnVlan(vlan, Box::new(drift))));
        return found;
    }
    // Whoever put another link in the place of ours.
    if let Some(link) = observed.by_name(&vlan.to_string()) {
        found.push(Drift::SurplusVlan { vlan, link: link.index });
    }
    found.push(Drift::MissingVlan(vlan));
    found
}

/// How the link that has the addresses, or one below it that is to have none, differs from what it is to be.
pub(super) fn link_drift(
    observed: &Observed,
    link: &Link,
    target: &NicTarget,
    former: &Former,
) -> Vec<Drift> {
    let mut found = Vec::new();
    if link.mtu != u32::from(target.mtu.bytes()) {
        found.push(Drift::Mtu(link.mtu));
    }
    for present in observed.addresses_of(link.index) {
        let ours = former.has(present.net)
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
        if route.origin == RouteOrigin::Dynamic {
            found.push(Drift::ForeignRoute(route.clone()));
        }
    }
    if link.accept_ra.is_some_and(|value| value != 0) {
        found.push(Drift::HeedsRouters);
    }
    if !link.up {
        found.push(Drift::Down);
    }
    found.extend(route_drift(observed, link, target, former));
    for (setting, wanted) in target.settings(former, observed.default_settings) {
        let value = link.settings.get(setting);
        if value != wanted {
            found.push(Drift::Setting(setting, value));
        }
    }
    found
}

fn route_drift(observed: &Observed, link: &Link, target: &NicTarget, former: &Former) -> Vec<Drift> {
    let mut found = Vec::new();
    let present = || observed.routes_of(link.index).chain(observed.other_tables_of(link.index));
    let missing = target.routes().into_iter().filter(|wanted| !present().any(|route| wanted.is(route)));
    found.extend(missing.map(Drift::MissingRoute));
    let surplus = routing::surplus_routes(observed, link.index, Some(target), former);
    found.extend(surplus.into_iter().cloned().map(Drift::ExtraRoute));
    for address in observed.addresses_of(link.index).filter(|address| target.addresses.contains(address.net))
    {
        if has_wrong_prefix_route(observed, link, target, address) {
            found.push(Drift::PrefixRoute(address.net));
        }
    }
    found
}

/// Rules are of no link.
fn rule_drift(observed: &Observed, target: &NicTarget, former: &Former) -> Vec<Drift> {
    let mut found = Vec::new();
    let missing =
        target.rules().into_iter().filter(|wanted| !observed.rules.iter().any(|rule| wanted.is(rule)));
    found.extend(missing.map(Drift::MissingRule));
    let surplus = routing::surplus_rules(observed, Some(target), former);
    found.extend(surplus.into_iter().cloned().map(Drift::ExtraRule));
    found
}

/// NetworkManager sets every address without a route and then makes the route itself, so it is the route that counts; one
/// that is not there is missing only where nobody but us kept the kernel from making it. On a link that is down there is none,
/// and the kernel makes none for such an address when it comes up.
fn has_wrong_prefix_route(
    observed: &Observed,
    link: &Link,
    target: &NicTarget,
    address: &LinkAddress,
) -> bool {
    let net = address.net;
    if net.prefix_len() == net.max_prefix_len() {
        return false;
    }
    let is_there = observed
        .routes_of(link.index)
        .any(|route| route.origin == RouteOrigin::Kernel && route.destination == net.trunc());
    if target.options.no_prefix_route { is_there } else { address.no_prefix_route && !is_there }
}
