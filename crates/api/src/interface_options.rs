//! What can be said of an interface beyond its addresses: the same words in an `OpenstackConfig` and in a node's object.

use std::ops::RangeInclusive;

use multinic_core::options::{OptionError, ReversePath, SourceRoutingOptions, StaticRoute};
use multinic_core::{InterfaceOptions, VlanId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of an interface. What is left out is the choice of the configuration, and then of the node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OptionsSpec {
    /// The VLAN (IEEE 802.1Q) on top of the NIC, `multinicN.ID`, that has the addresses and all options in its place; none.
    /// The NIC below is up, without an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<i64>,
    /// Whether ARP stays with the interface that has the address (`arp_ignore` 1, `arp_announce` 2); true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict_arp: Option<bool>,
    /// Which packets are dropped by where they come from (`rp_filter`); the node's own setting if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rp_filter: Option<RpFilter>,
    /// Whether what is sent from an address of the interface leaves by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_routing: Option<SourceRoutingSpec>,
    /// Whether the main table has no route to the interface's own networks; false. Needs source routing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_prefix_route: Option<bool>,
    /// Networks beyond the interface's own. They are in the main table, and with source routing in the interface's table
    /// alone. Those of an interface replace those of its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub routes: Option<Vec<RouteSpec>>,
}

/// `rp_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RpFilter {
    /// Nothing is dropped.
    Off,
    /// What would be answered by another link is dropped.
    Strict,
    /// What could not be answered at all is dropped.
    Loose,
}

/// Source routing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceRoutingSpec {
    /// Whether there is any; false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The table of `multinicN` is this plus N; 100. The rule that leads to it has the priority 10000 plus the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20000))]
    pub table_base: Option<i64>,
    /// The metric of routes of `multinicN` is this plus N; 100, also for 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000000))]
    pub metric: Option<i64>,
}

/// A network that is reached by an interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// The network, such as `10.8.0.0/16`. All of them (`0.0.0.0/0`, `::/0`) needs source routing.
    #[schemars(
        length(max = 49),
        regex(pattern = r"^([0-9]{1,3}([.][0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)/[0-9]{1,3}$")
    )]
    pub to: String,
    /// The next hop, in a network of the interface; if absent, the network is on the link itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 45),
        regex(pattern = r"^([0-9]{1,3}([.][0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)$")
    )]
    pub via: Option<String>,
    /// The metric; that of source routing if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub metric: Option<i64>,
}

/// As in the definition.
const MOST_ROUTES: usize = 64;

impl TryFrom<&OptionsSpec> for InterfaceOptions {
    type Error = OptionError;

    /// Only single values are looked at; whether they go together depends on what others say.
    fn try_from(spec: &OptionsSpec) -> Result<Self, OptionError> {
        let OptionsSpec { vlan, strict_arp, rp_filter, source_routing, no_prefix_route, routes } = spec;
        let SourceRoutingSpec { enabled, table_base, metric } = source_routing.clone().unwrap_or_default();
        let count = routes.as_ref().map_or(0, Vec::len);
        if count > MOST_ROUTES {
            let problem = format!("{count} are more than the {MOST_ROUTES} that an interface can have");
            return Err(OptionError::new("options.routes", problem));
        }
        let routes = routes.iter().flatten().enumerate().map(|(at, route)| static_route(at, route));
        let vlan = vlan
            .map(|id| VlanId::new(id).map_err(|error| OptionError::new("options.vlan", error.to_string())));
        Ok(Self {
            vlan: vlan.transpose()?,
            strict_arp: *strict_arp,
            rp_filter: rp_filter.map(|filter| match filter {
                RpFilter::Off => ReversePath::Off,
                RpFilter::Strict => ReversePath::Strict,
                RpFilter::Loose => ReversePath::Loose,
            }),
            source_routing: SourceRoutingOptions {
                enabled,
                table_base: number("options.sourceRouting.tableBase", table_base, 1..=20_000)?,
                metric: number("options.sourceRouting.metric", metric, 0..=1_000_000)?,
            },
            no_prefix_route: *no_prefix_route,
            routes: routes.collect::<Result<_, _>>()?,
        })
    }
}

impl From<&InterfaceOptions> for OptionsSpec {
    fn from(options: &InterfaceOptions) -> Self {
        let InterfaceOptions { vlan, strict_arp, rp_filter, source_routing, no_prefix_route, routes } =
            options;
        let SourceRoutingOptions { enabled, table_base, metric } = *source_routing;
        let spec = |route: &StaticRoute| RouteSpec {
            to: route.to.to_string(),
            via: route.via.map(|via| via.to_string()),
            metric: route.metric.map(i64::from),
        };
        Self {
            vlan: vlan.map(|id| id.number().into()),
            strict_arp: *strict_arp,
            rp_filter: rp_filter.map(|filter| match filter {
                ReversePath::Off => RpFilter::Off,
                ReversePath::Strict => RpFilter::Strict,
                ReversePath::Loose => RpFilter::Loose,
            }),
            source_routing: (*source_routing != SourceRoutingOptions::default()).then(|| SourceRoutingSpec {
                enabled,
                table_base: table_base.map(i64::from),
                metric: metric.map(i64::from),
            }),
            no_prefix_route: *no_prefix_route,
            routes: (!routes.is_empty()).then(|| routes.iter().map(spec).collect()),
        }
    }
}

/// The bounds are those of the definition.
fn number(field: &str, value: Option<i64>, bounds: RangeInclusive<u32>) -> Result<Option<u32>, OptionError> {
    let wrong = |value| {
        let problem = format!("{value} is not a number from {} to {}", bounds.start(), bounds.end());
        OptionError::new(field, problem)
    };
    let read = |value| u32::try_from(value).ok().filter(|number| bounds.contains(number));
    value.map(|value| read(value).ok_or_else(|| wrong(value))).transpose()
}

fn static_route(at: usize, route: &RouteSpec) -> Result<StaticRoute, OptionError> {
    let RouteSpec { to, via, metric } = route;
    let field = |name: &str| format!("options.routes[{at}].{name}");
    let wrong =
        |name: &str, text: &str, what: &str| OptionError::new(field(name), format!("{text:?} is not {what}"));
    let network = to.parse().map_err(|_| wrong("to", to, "a network such as 10.8.0.0/16"))?;
    let via = via.as_deref().filter(|via| !via.is_empty());
    let hop = |via: &str| via.parse().map_err(|_| wrong("via", via, "an address such as 10.0.0.1"));
    Ok(StaticRoute {
        to: network,
        via: via.map(hop).transpose()?,
        metric: number(&field("metric"), *metric, 1..=1_000_000)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<InterfaceOptions, OptionError> {
        InterfaceOptions::try_from(&serde_json::from_str::<OptionsSpec>(text).unwrap())
    }

    #[test]
    fn options_are_read_as_they_were_written() {
        let text = r#"{"vlan":100,"strictArp":false,"rpFilter":"loose","sourceRouting":{"enabled":true,"tableBase":300,"metric":7},"noPrefixRoute":true,"routes":[{"to":"0.0.0.0/0","via":"10.0.0.1","metric":5},{"to":"fd00::/8"}]}"#;
        let options = read(text).unwrap();
        options.check().unwrap();
        assert_eq!(serde_json::to_string(&OptionsSpec::from(&options)).unwrap(), text);
        // The words of both forms are the same.
        assert_eq!(serde_json::from_str::<InterfaceOptions>(text).unwrap(), options);
        assert_eq!(OptionsSpec::from(&InterfaceOptions::default()), OptionsSpec::default());
    }

    #[test]
    fn what_cannot_be_read_names_its_field() {
        for (text, field) in [
            (r#"{"routes": [{"to": "10.0.0.0"}]}"#, "options.routes[0].to"),
            (r#"{"routes": [{"to": "10.0.0.0/8", "via": "x"}]}"#, "options.routes[0].via"),
            (r#"{"routes": [{"to": "10.0.0.0/8", "metric": -1}]}"#, "options.routes[0].metric"),
            (r#"{"sourceRouting": {"tableBase": -1}}"#, "options.sourceRouting.tableBase"),
            (r#"{"vlan": 4095}"#, "options.vlan"),
            (r#"{"vlan": 0}"#, "options.vlan"),
        ] {
            assert_eq!(read(text).unwrap_err().field, field);
        }
    }
}
