//! Which links may be touched at all.

use std::collections::BTreeSet;

use super::observed::{Link, Observed, RouteOrigin};

/// Why a link is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Obstacle {
    /// It carries an address by which the cluster knows the node.
    NodeAddress,
    /// The desired state is read through it.
    SourcePath,
    /// It carries the node's default route, or one that somebody set by hand.
    DefaultRoute,
    /// It belongs to a bridge, bond or VRF.
    Enslaved,
    /// A VLAN, macvlan or another such link is on top of it.
    HasLinks,
    /// It is up and has an IPv4 address that is no lease.
    HasIpv4,
    /// It is up and has an IPv6 address that no router advertised.
    HasIpv6,
    /// It is up and somebody set a route over it.
    HasRoutes,
}

impl Obstacle {
    /// Every one, so that a metric can show all its labels from the start.
    pub const ALL: [Self; 8] = [
        Self::NodeAddress,
        Self::SourcePath,
        Self::DefaultRoute,
        Self::Enslaved,
        Self::HasLinks,
        Self::HasIpv4,
        Self::HasIpv6,
        Self::HasRoutes,
    ];

    /// The label of the preflight metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::NodeAddress => "node_address",
            Self::SourcePath => "source_path",
            Self::DefaultRoute => "default_route",
            Self::Enslaved => "enslaved",
            Self::HasLinks => "has_links",
            Self::HasIpv4 => "has_ipv4",
            Self::HasIpv6 => "has_ipv6",
            Self::HasRoutes => "has_routes",
        }
    }

    /// What it means, and what a person can do.
    pub fn explain(self) -> &'static str {
        match self {
            Self::NodeAddress => {
                "it carries the node's own address, by NODE_IP or, where that is not set, by its default routes; take its port \
                 out of the OpenstackConfig, or set NODE_IP if the node's own is another"
            }
            Self::SourcePath => {
                "the desired state is read through it; take its port out of the OpenstackConfig"
            }
            Self::DefaultRoute => "it carries a default route that the node needs or that was set by hand",
            Self::Enslaved => "it belongs to a bridge, bond or VRF; release it first",
            Self::HasLinks => "a VLAN, macvlan or another such link is on top of it; remove that first",
            Self::HasIpv4 => "it is up with an IPv4 address that is not a lease; remove that address first",
            Self::HasIpv6 => {
                "it is up with an IPv6 address that no router advertised; remove that address first"
            }
            Self::HasRoutes => "it is up with a route that somebody set; remove that route first",
        }
    }
}

/// What stands against touching a link, whoever configured it: cutting these cuts off the node. What is on top of a link
/// goes down with it, so it is judged together with that. `stripped` are the links (by index) that lose their leases in the
/// same plan, and so cannot vouch for one another.
pub fn lifelines(observed: &Observed, link: &Link, stripped: &BTreeSet<u32>) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let lifelines = &observed.lifelines;
    let carried = observed.carried_by(link);
    let mut addresses = observed.addresses.iter().filter(|address| carried.contains(&address.link));
    if addresses.any(|address| lifelines.node_addresses.contains(&address.net.addr())) {
        found.push(Obstacle::NodeAddress);
    }
    if !lifelines.source_links.is_disjoint(&carried) {
        found.push(Obstacle::SourcePath);
    }
    // A lease that the guest's own manager took on a new NIC brings a default route with it; as long as the node has
    // another of the same family elsewhere, or nothing else in that family, it loses nothing.
    let mut defaults =
        observed.routes.iter().filter(|route| carried.contains(&route.link) && route.is_default());
    let needed = defaults.any(|route| {
        let family = route.destination.addr().is_ipv4();
        let elsewhere = observed.routes.iter().any(|other| {
            let stays = other.origin != RouteOrigin::Dynamic || !stripped.contains(&other.link);
            let beside = !carried.contains(&other.link) && stays;
            beside && other.is_default() && other.destination.addr().is_ipv4() == family
        });
        route.origin != RouteOrigin::Dynamic || (!elsewhere && lives_in(observed, &carried, stripped, family))
    });
    if needed {
        found.push(Obstacle::DefaultRoute);
    }
    if link.master.is_some() {
        found.push(Obstacle::Enslaved);
    }
    found
}

/// Whether the node has anything to do with a family beside what these links, and leases that are to go, have of it. A node of
/// which no address is known may live anywhere.
fn lives_in(observed: &Observed, beside: &BTreeSet<u32>, stripped: &BTreeSet<u32>, ipv4: bool) -> bool {
    let own = &observed.lifelines.node_addresses;
    let elsewhere = observed.addresses.iter().any(|address| {
        let goes = address.dynamic && stripped.contains(&address.link);
        let counts = !goes && !address.link_local && !address.net.addr().is_loopback();
        counts && !beside.contains(&address.link) && address.net.addr().is_ipv4() == ipv4
    });
    own.is_empty() || elsewhere || own.iter().any(|address| address.is_ipv4() == ipv4)
}

/// What stands against taking up a link that nobody of ours configured before: its lifelines, and any use of it.
pub fn newcomer(observed: &Observed, link: &Link, stripped: &BTreeSet<u32>) -> Vec<Obstacle> {
    let mut found = lifelines(observed, link, stripped);
    // It may wait for its link: a VLAN goes up with that.
    if observed.links.iter().any(|other| other.lower == Some(link.index)) {
        found.push(Obstacle::HasLinks);
    }
    if !link.up {
        return found;
    }
    let in_use = |ipv4: bool| {
        observed
            .addresses_of(link.index)
            .any(|address| !address.dynamic && !address.link_local && address.net.addr().is_ipv4() == ipv4)
    };
    if in_use(true) {
        found.push(Obstacle::HasIpv4);
    }
    if in_use(false) {
        found.push(Obstacle::HasIpv6);
    }
    let has_routes = observed
        .routes_of(link.index)
        .any(|route| route.origin == RouteOrigin::Static && !route.is_default());
    if has_routes {
        found.push(Obstacle::HasRoutes);
    }
    found
}
