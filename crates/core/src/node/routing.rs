//! Which routes and rules are an interface's own.
//!
//! A route of ours is told from others by its link together with the table that is the interface's alone, or, in the main
//! table, by being one that we set. A rule is told by a priority and a table that are of one another and of the
//! interface. Neither is told by its protocol: what a network manager sets at boot from our files, it calls `static` like
//! everything else, and so do we, so that both are the same.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::observed::{Observed, Route, RouteOrigin, Rule};
use super::{Former, NicTarget};

/// The number of the main table.
pub const MAIN_TABLE: u32 = 254;

/// A route that an interface is to have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteTarget {
    /// The table.
    pub table: u32,
    /// Where it leads.
    pub destination: IpNet,
    /// The next hop, if any.
    pub gateway: Option<IpAddr>,
    /// Its metric.
    pub metric: u32,
    /// The address that is sent from; IPv4 only, since the rule has chosen an IPv6 one already.
    pub source: Option<IpAddr>,
}

/// A rule that an interface is to have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleTarget {
    /// When it is asked.
    pub priority: u32,
    /// The one address that it is about.
    pub from: IpNet,
    /// The table.
    pub table: u32,
}

impl RouteTarget {
    /// Whether this is such a route, over whichever link.
    pub fn is(&self, route: &Route) -> bool {
        let Self { table, destination, gateway, metric, source } = self;
        (*table, *destination, *gateway, *metric)
            == (route.table, route.destination, route.gateway, route.metric)
            && source.is_none_or(|source| route.source == Some(source))
            && route.origin != RouteOrigin::Dynamic
    }
}

impl RuleTarget {
    /// Whether this is such a rule.
    pub fn is(&self, rule: &Rule) -> bool {
        let Self { priority, from, table } = self;
        rule.plain && (*priority, Some(*from), *table) == (rule.priority, rule.from, rule.table)
    }
}

impl NicTarget {
    /// The routes that it is to have beside those that the kernel makes with an address. What needs another comes behind
    /// it.
    pub fn routes(&self) -> Vec<RouteTarget> {
        let Self { mac: _, name: _, addresses, mtu: _, options } = self;
        let mut routes: Vec<RouteTarget> = Vec::new();
        if let Some(own) = options.source_routing {
            for net in addresses.iter().filter(|net| net.prefix_len() < net.max_prefix_len()) {
                let destination = net.trunc();
                if !routes.iter().any(|route| route.destination == destination) {
                    let source = net.addr().is_ipv4().then_some(net.addr());
                    routes.push(RouteTarget {
                        table: own.table,
                        destination,
                        gateway: None,
                        metric: own.metric,
                        source,
                    });
                }
            }
        }
        let table = options.source_routing.map_or(MAIN_TABLE, |own| own.table);
        routes.extend(options.routes.iter().map(|route| RouteTarget {
            table,
            destination: route.to.trunc(),
            gateway: route.via,
            metric: route.metric,
            source: None,
        }));
        routes
    }

    /// The rules that it is to have.
    pub fn rules(&self) -> Vec<RuleTarget> {
        let Some(own) = self.options.source_routing else { return Vec::new() };
        let rule = |net: IpNet| RuleTarget {
            priority: own.priority(),
            from: IpNet::from(net.addr()),
            table: own.table,
        };
        self.addresses.iter().map(rule).collect()
    }

    /// The table that is its own.
    pub(super) fn table(&self) -> Option<u32> {
        self.options.source_routing.map(|own| own.table)
    }
}

/// The routes over a link that are ours and are not to be there (any more). `target`: none where the link is let go of.
pub fn surplus_routes<'a>(
    observed: &'a Observed,
    link: u32,
    target: Option<&NicTarget>,
    former: &Former,
) -> Vec<&'a Route> {
    let wanted = target.map(NicTarget::routes).unwrap_or_default();
    let tables: Vec<u32> = target.into_iter().chain(former.targets()).filter_map(NicTarget::table).collect();
    let set_before: Vec<RouteTarget> = former.targets().flat_map(NicTarget::routes).collect();
    let ours_before =
        |route: &Route| route.origin == RouteOrigin::Static && set_before.iter().any(|ours| ours.is(route));
    // Routing daemons have protocols of their own, but none has business in a table of ours.
    let in_own_table = |route: &Route| tables.contains(&route.table) && !is_link_local(route.destination);
    let of_main = observed.routes_of(link).filter(|route| ours_before(route));
    let of_own = observed.other_tables_of(link).filter(|route| in_own_table(route));
    of_main.chain(of_own).filter(|route| !wanted.iter().any(|wanted| wanted.is(route))).collect()
}

/// The rules that are ours and are not to be there (any more): those of the interface's own table with the priority that
/// belongs to it.
pub fn surplus_rules<'a>(
    observed: &'a Observed,
    target: Option<&NicTarget>,
    former: &Former,
) -> Vec<&'a Rule> {
    let wanted = target.map(NicTarget::rules).unwrap_or_default();
    let owns = target.into_iter().chain(former.targets()).filter_map(|nic| nic.options.source_routing);
    let owns: Vec<_> = owns.collect();
    let ours = |rule: &&Rule| {
        let of_one_address = rule.from.is_some_and(|from| from.prefix_len() == from.max_prefix_len());
        rule.plain
            && of_one_address
            && owns.iter().any(|own| (own.table, own.priority()) == (rule.table, rule.priority))
    };
    observed.rules.iter().filter(ours).filter(|rule| !wanted.iter().any(|wanted| wanted.is(rule))).collect()
}

/// Whether the kernel, or a manager in its place, makes such routes for every link.
pub(super) fn is_link_local(destination: IpNet) -> bool {
    match destination {
        IpNet::V6(net) => net.addr().is_unicast_link_local() || net.addr().is_multicast(),
        IpNet::V4(_) => false,
    }
}
