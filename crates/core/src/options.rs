//! What is said of an interface beyond its addresses and its MTU.
//!
//! [`InterfaceOptions`] is what a user or a node's own settings say, with gaps; [`InterfaceOptions::resolve`] fills these
//! and gives the [`NicOptions`] of one slot.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::node::observed::Setting;
use crate::{Addresses, Slot, VlanId};

/// Routing tables of interfaces are counted from here unless told otherwise, as the older programs did.
pub const TABLE_BASE: u32 = 100;
/// Metrics of routes are counted from here unless told otherwise, as the older programs did.
pub const METRIC_BASE: u32 = 100;
/// The rule of a table has this priority plus the table's number: before the kernel's own 32766 and 32767, and as the
/// older programs had it.
pub const RULE_PRIORITY_BASE: u32 = 10_000;

/// The last base with which the priority of the last slot's rule stays before the kernel's own.
const LAST_TABLE_BASE: u32 = 20_000;
/// Room for every slot, and far below what kernels take for "no metric".
const LAST_METRIC: u32 = 1_000_000;
/// `default`, `main` and `local`.
const KERNELS_TABLES: std::ops::RangeInclusive<u32> = 253..=255;

/// What is said of an interface. What is left open is for the next one to say: the interface before its configuration,
/// that before the node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InterfaceOptions {
    /// The VLAN on top of the NIC that has the addresses, and everything below, in its place; none unless told otherwise.
    pub vlan: Option<VlanId>,
    /// Whether ARP stays with the interface that has the address (`arp_ignore` 1, `arp_announce` 2); yes unless told
    /// otherwise.
    pub strict_arp: Option<bool>,
    /// Whether packets are dropped whose answers would not leave here; the node's default unless told otherwise.
    pub rp_filter: Option<ReversePath>,
    /// Whether what is sent from an address of the interface leaves by it.
    pub source_routing: SourceRoutingOptions,
    /// Whether the main table has no route to the interface's own networks; needs source routing.
    pub no_prefix_route: Option<bool>,
    /// Networks beyond its own. Those of the interface replace those of its configuration.
    pub routes: Vec<StaticRoute>,
}

/// What is said of source routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SourceRoutingOptions {
    /// Whether there is any; no unless told otherwise.
    pub enabled: Option<bool>,
    /// The table of `multinicN` is this plus N; 100 unless told otherwise.
    pub table_base: Option<u32>,
    /// The metric of a route of `multinicN` is this plus N; 100 unless told otherwise, and for 0.
    pub metric: Option<u32>,
}

/// A network that is reached by an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticRoute {
    /// The network.
    pub to: IpNet,
    /// The next hop; none where the network is on the link itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The metric; that of the interface unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

/// `rp_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReversePath {
    /// Nothing is dropped.
    Off,
    /// What would be answered by another link is dropped.
    Strict,
    /// What could not be answered at all is dropped.
    Loose,
}

impl ReversePath {
    /// The kernel's number.
    pub fn number(self) -> u32 {
        match self {
            Self::Off => 0,
            Self::Strict => 1,
            Self::Loose => 2,
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "off" => Some(Self::Off),
            "strict" => Some(Self::Strict),
            "loose" => Some(Self::Loose),
            _ => None,
        }
    }
}

/// Options that do not go together, with the field that is to be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct OptionError {
    /// The field, from `options` on.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

impl OptionError {
    /// An error about a field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl InterfaceOptions {
    /// These, and for what they leave open those.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        let Self { vlan, strict_arp, rp_filter, source_routing, no_prefix_route, routes } = self;
        let SourceRoutingOptions { enabled, table_base, metric } = source_routing;
        Self {
            vlan: vlan.or(others.vlan),
            strict_arp: strict_arp.or(others.strict_arp),
            rp_filter: rp_filter.or(others.rp_filter),
            source_routing: SourceRoutingOptions {
                enabled: enabled.or(others.source_routing.enabled),
                table_base: table_base.or(others.source_routing.table_base),
                metric: metric.or(others.source_routing.metric),
            },
            no_prefix_route: no_prefix_route.or(others.no_prefix_route),
            routes: if routes.is_empty() { others.routes.clone() } else { routes.clone() },
        }
    }

    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks them among themselves, whatever interface they are for.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), OptionError> {
        let sourced = self.source_routing.enabled == Some(true);
        if self.no_prefix_route == Some(true) && !sourced {
            return Err(OptionError::new(
                "options.noPrefixRoute",
                "needs source routing: without a route to its network in a table of its own, the interface reaches \
                 nobody; set options.sourceRouting.enabled, or leave this out",
            ));
        }
        if let Some(base) = self.source_routing.table_base {
            let last = base.saturating_add(Slot::MAX.into());
            if base == 0
                || base > LAST_TABLE_BASE
                || (base <= *KERNELS_TABLES.end() && last >= *KERNELS_TABLES.start())
            {
                return Err(OptionError::new(
                    "options.sourceRouting.tableBase",
                    format!(
                        "{base} is not from 1 to 189 or from 256 to {LAST_TABLE_BASE}: the tables 253 to 255 are the kernel's"
                    ),
                ));
            }
        }
        if let Some(metric) = self.source_routing.metric.filter(|metric| *metric > LAST_METRIC) {
            return Err(OptionError::new(
                "options.sourceRouting.metric",
                format!("{metric} is more than {LAST_METRIC}"),
            ));
        }
        for (at, route) in self.routes.iter().enumerate() {
            let wrong = |field: &str, problem: String| {
                OptionError::new(format!("options.routes[{at}].{field}"), problem)
            };
            let StaticRoute { to, via, metric } = route;
            if to.trunc().addr() != to.addr() {
                return Err(wrong(
                    "to",
                    format!("{to} has bits beyond its prefix; {} is the network", to.trunc()),
                ));
            }
            if to.addr().is_multicast() || to.addr().is_loopback() {
                return Err(wrong("to", format!("{to} is no network that an interface leads to")));
            }
            if to.prefix_len() == 0 && !sourced {
                return Err(wrong(
                    "to",
                    "a default route needs source routing, so that it is in a table of the interface's own and not the \
                     node's; set options.sourceRouting.enabled"
                        .to_owned(),
                ));
            }
            if via.is_some_and(|via| via.is_ipv4() != to.addr().is_ipv4()) {
                return Err(wrong("via", format!("is of another family than {to}")));
            }
            if via.is_some_and(|via| via.is_unspecified() || via.is_multicast() || via.is_loopback()) {
                return Err(wrong("via", "is no address of a router".to_owned()));
            }
            if let Some(metric) = metric.filter(|metric| !(1..=LAST_METRIC).contains(metric)) {
                return Err(wrong("metric", format!("{metric} is not from 1 to {LAST_METRIC}")));
            }
            if self.routes.iter().take(at).any(|earlier| earlier.to == *to) {
                return Err(wrong("to", format!("{to} is there twice")));
            }
        }
        Ok(())
    }

    /// [`Self::check`], and whether they can be those of an interface with these addresses.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check_for(&self, addresses: &Addresses) -> Result<(), OptionError> {
        self.check()?;
        for (at, route) in self.routes.iter().enumerate() {
            let Some(via) = route.via else { continue };
            let on_link = matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
            if !on_link && !addresses.iter().any(|net| net.contains(&via)) {
                let problem = format!("{via} is in no network of the interface, which has {addresses}");
                return Err(OptionError::new(format!("options.routes[{at}].via"), problem));
            }
            if addresses.iter().any(|net| net.addr() == via) {
                let problem = format!("{via} is the interface's own address");
                return Err(OptionError::new(format!("options.routes[{at}].via"), problem));
            }
        }
        Ok(())
    }

    /// What they come to for the interface of a slot.
    pub fn resolve(&self, slot: Slot) -> NicOptions {
        let Self { vlan, strict_arp, rp_filter, source_routing, no_prefix_route, routes } = self;
        let SourceRoutingOptions { enabled, table_base, metric } = *source_routing;
        let number = u32::from(slot.number());
        let metric = metric.filter(|metric| *metric != 0).unwrap_or(METRIC_BASE).saturating_add(number);
        let table = table_base.unwrap_or(TABLE_BASE).saturating_add(number);
        NicOptions {
            vlan: *vlan,
            strict_arp: strict_arp.unwrap_or(true),
            rp_filter: *rp_filter,
            source_routing: (enabled == Some(true)).then_some(SourceRouting { table, metric }),
            no_prefix_route: no_prefix_route.unwrap_or(false),
            routes: routes
                .iter()
                .map(|route| NicRoute {
                    to: route.to,
                    via: route.via,
                    metric: route.metric.unwrap_or(metric),
                })
                .collect(),
        }
    }
}

/// The options of one interface, without gaps. The default is what was before there were any.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NicOptions {
    /// The VLAN on top of the NIC that everything else here, and the addresses, are about; none: it is the NIC itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanId>,
    /// ARP stays with the interface that has the address.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict_arp: bool,
    /// `rp_filter`; none: it is left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rp_filter: Option<ReversePath>,
    /// What is sent from its addresses leaves by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_routing: Option<SourceRouting>,
    /// The main table has no route to its networks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_prefix_route: bool,
    /// Networks beyond its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<NicRoute>,
}

impl NicOptions {
    /// The settings that follow from them.
    pub fn settings(&self) -> Vec<(Setting, u32)> {
        let arp = self.strict_arp.then_some([(Setting::ArpIgnore, 1), (Setting::ArpAnnounce, 2)]);
        let reverse = self.rp_filter.map(|filter| (Setting::RpFilter, filter.number()));
        arp.into_iter().flatten().chain(reverse).collect()
    }
}

/// Where what an interface sends from its own addresses is routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRouting {
    /// The interface's own table.
    pub table: u32,
    /// The metric of the routes to its own networks there.
    pub metric: u32,
}

impl SourceRouting {
    /// The priority of the rules that lead to the table.
    pub fn priority(self) -> u32 {
        RULE_PRIORITY_BASE.saturating_add(self.table)
    }
}

/// A network that is reached by one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicRoute {
    /// The network.
    pub to: IpNet,
    /// The next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The metric.
    pub metric: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> InterfaceOptions {
        serde_json::from_str(text).unwrap()
    }

    fn wrong(text: &str) -> String {
        options(text).check().unwrap_err().field
    }

    #[test]
    fn what_the_interface_leaves_open_its_configuration_says_and_then_the_node() {
        let interface = options(r#"{"strictArp": false, "sourceRouting": {"tableBase": 300}}"#);
        let all = options(
            r#"{"vlan": 100, "strictArp": true, "rpFilter": "loose", "sourceRouting": {"enabled": true, "tableBase": 200}}"#,
        );
        let merged = interface.or(&all).or(&InterfaceOptions::default());
        let resolved = merged.resolve(Slot::new(12).unwrap());
        assert_eq!(
            resolved,
            NicOptions {
                vlan: VlanId::new(100).ok(),
                strict_arp: false,
                rp_filter: Some(ReversePath::Loose),
                source_routing: Some(SourceRouting { table: 312, metric: 112 }),
                ..NicOptions::default()
            }
        );
        assert_eq!(resolved.source_routing.unwrap().priority(), 10_312);
    }

    #[test]
    fn without_a_word_arp_stays_with_its_interface_and_nothing_is_routed() {
        let resolved = InterfaceOptions::default().resolve(Slot::new(0).unwrap());
        assert_eq!(resolved, NicOptions { strict_arp: true, ..NicOptions::default() });
    }

    #[test]
    fn what_does_not_go_together_names_its_field() {
        assert_eq!(wrong(r#"{"noPrefixRoute": true}"#), "options.noPrefixRoute");
        assert_eq!(
            wrong(r#"{"noPrefixRoute": true, "sourceRouting": {"enabled": false}}"#),
            "options.noPrefixRoute"
        );
        for base in [0, 190, 253, 255, 20_001] {
            let text = format!(r#"{{"sourceRouting": {{"tableBase": {base}}}}}"#);
            assert_eq!(wrong(&text), "options.sourceRouting.tableBase", "{base}");
        }
        for base in [1, 189, 256, 20_000] {
            options(&format!(r#"{{"sourceRouting": {{"tableBase": {base}}}}}"#)).check().unwrap();
        }
        for (route, field) in [
            (r#"{"to": "0.0.0.0/0", "via": "10.0.0.1"}"#, "to"),
            (r#"{"to": "10.0.0.1/8"}"#, "to"),
            (r#"{"to": "224.0.0.0/4"}"#, "to"),
            (r#"{"to": "10.0.0.0/8", "via": "fd00::1"}"#, "via"),
            (r#"{"to": "10.0.0.0/8", "via": "0.0.0.0"}"#, "via"),
            (r#"{"to": "10.0.0.0/8", "metric": 0}"#, "metric"),
        ] {
            assert_eq!(wrong(&format!(r#"{{"routes": [{route}]}}"#)), format!("options.routes[0].{field}"));
        }
        assert_eq!(
            wrong(r#"{"routes": [{"to": "10.0.0.0/8"}, {"to": "10.0.0.0/8"}]}"#),
            "options.routes[1].to"
        );
    }

    #[test]
    fn a_gateway_is_a_neighbour() {
        let addresses = Addresses::parse(["192.0.2.10/24", "2001:db8::10/64"]).unwrap();
        let check = |to: &str, via: &str| {
            options(&format!(r#"{{"routes": [{{"to": "{to}", "via": "{via}"}}]}}"#)).check_for(&addresses)
        };
        assert!(check("10.0.0.0/8", "192.0.2.1").is_ok());
        assert!(check("fd00::/8", "2001:db8::1").is_ok());
        assert!(check("fd00::/8", "fe80::1").is_ok());
        assert_eq!(check("10.0.0.0/8", "198.51.100.1").unwrap_err().field, "options.routes[0].via");
        assert_eq!(check("10.0.0.0/8", "192.0.2.10").unwrap_err().field, "options.routes[0].via");
    }

    #[test]
    fn a_word_that_is_not_known_is_an_error() {
        assert!(serde_json::from_str::<InterfaceOptions>(r#"{"noPrefixroute": true}"#).is_err());
    }
}
