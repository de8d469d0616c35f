//! Options of interfaces: what the agent sets at run time is what the node has after a boot, before any agent runs.

use std::collections::BTreeSet;

use multinic_core::InterfaceName;
use serde_json::Value;

use crate::kinds::Kind;
use crate::node::Node;
use crate::wanted::Wanted;

/// Not 100: there somebody else has routes.
const BASE: u32 = 300;

/// Two NICs in one subnet, as they need it; the second is one of those whose number has two digits.
pub fn a_reboot_brings_routes_rules_and_settings_back(kind: &'static Kind) {
    let mut node = Node::boot(kind);
    let nics = [Wanted::new(0, 10), Wanted::new(12, 19)];
    for prefix_route in [true, false] {
        let variables = format!(
            "NETWORK_POLICY_ROUTING_ENABLED=true\nNETWORK_ROUTING_TABLE_BASE={BASE}\nNETWORK_SET_RP_FILTER_LOOSE=true\n\
             NETWORK_NOPREFIXROUTE={}\nMAX_INTERFACES=64\n",
            !prefix_route
        );
        node.start_agent_with(&variables);
        for wanted in &nics {
            if prefix_route {
                node.attach(wanted);
            }
            node.until_configured(wanted);
            node.until("its options", || fault(&node, wanted, prefix_route));
        }
        let made = nics.each_ref().map(|wanted| state(&node, wanted));
        if prefix_route {
            lose_and_repair(&node, &nics[0]);
        }
        node.stop_agent();
        node.guest.reboot().unwrap();
        node.add_what_others_have();
        for (wanted, made) in nics.iter().zip(made) {
            node.until("a NIC without any agent", || node.kernel_fault(wanted));
            node.until("its options after a boot", || {
                let now = state(&node, wanted);
                (now != made).then(|| format!("{now:#?} is not {made:#?}"))
            });
        }
    }
    let others = node.foreign();
    node.run_agent(&[], &["cleanup", "--yes"]);
    let left = rules(&node);
    assert!(left.iter().all(|rule| !rule.contains("\"priority\":10")), "{left:?}");
    others.assert_same(&node.foreign());
}

/// A manager that booted with other options would join in as soon as the link comes back, and so this is done with the
/// first ones.
fn lose_and_repair(node: &Node, wanted: &Wanted) {
    let priority = (10_000 + BASE + u32::from(wanted.slot.number())).to_string();
    node.guest.run("ip", &["rule", "del", "priority", &priority]).unwrap();
    // The kernel takes the routes along, and tells the agent.
    node.guest.run("ip", &["link", "set", &wanted.name().to_string(), "down"]).unwrap();
    node.until("its repair", || fault(node, wanted, true));
}

/// What is missing of what is asked for.
fn fault(node: &Node, wanted: &Wanted, prefix_route: bool) -> Option<String> {
    let (name, table) = (wanted.name(), BASE + u32::from(wanted.slot.number()));
    let State { routes, rules, settings } = state(node, wanted);
    let has = |words: &[&str]| routes.iter().any(|route| words.iter().all(|word| route.contains(word)));
    for net in &wanted.addresses {
        let to = format!("{} ", net.trunc());
        let own = format!("table {table} ");
        if !has(&[&to, &own]) {
            return Some(format!("{name} has no route to {to} in its table: {routes:#?}"));
        }
        if has(&[&to, "table main "]) != prefix_route {
            return Some(format!("the main table and {to}: {routes:#?}"));
        }
        let rule = format!("\"priority\":{},\"src\":\"{}\"", 10_000 + table, net.addr());
        if !rules.iter().any(|found| found.contains(&rule)) {
            return Some(format!("no {rule} in {rules:?}"));
        }
    }
    (settings != ["1", "2", "2", "0"]).then(|| format!("{settings:?}"))
}

/// What the kernel has of a NIC beside its addresses.
#[derive(Debug, PartialEq, Eq)]
struct State {
    routes: BTreeSet<String>,
    rules: BTreeSet<String>,
    settings: Vec<String>,
}

fn state(node: &Node, wanted: &Wanted) -> State {
    let name = wanted.name();
    let table = (BASE + u32::from(wanted.slot.number())).to_string();
    let rules = rules(node).into_iter().filter(|rule| rule.contains(&format!("\"table\":\"{table}\"")));
    State {
        routes: ["-4", "-6"].iter().flat_map(|family| routes(node, family, name)).collect(),
        rules: rules.collect(),
        settings: [
            ("ipv4", "arp_ignore"),
            ("ipv4", "arp_announce"),
            ("ipv4", "rp_filter"),
            ("ipv6", "accept_ra"),
        ]
        .iter()
        .map(|(family, key)| {
            node.guest.net().sysctl(&format!("{family}/conf/{name}/{key}")).unwrap_or_default()
        })
        .collect(),
    }
}

/// The routes over a NIC in all tables, but what the kernel makes for itself.
fn routes(node: &Node, family: &str, name: InterfaceName) -> Vec<String> {
    let show = ["-json", "-details", family, "route", "show", "table", "all", "dev", &name.to_string()];
    let text = node.guest.run("ip", &show).unwrap_or_default();
    let routes: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    let of_others = |route: &&Value| {
        route["type"] == "unicast" && !route["dst"].as_str().unwrap_or_default().starts_with("fe80:")
    };
    let text = |route: &Value| {
        let word = |key: &str| match &route[key] {
            Value::String(text) => text.clone(),
            Value::Null => "main".to_owned(),
            other => other.to_string(),
        };
        let key = |key: &str| if route[key].is_null() { "-".to_owned() } else { word(key) };
        format!(
            "{} via {} table {} metric {} from {}",
            key("dst"),
            key("gateway"),
            word("table"),
            key("metric"),
            key("prefsrc")
        )
    };
    routes.iter().filter(of_others).map(text).collect()
}

fn rules(node: &Node) -> BTreeSet<String> {
    let all = ["-4", "-6"].iter().flat_map(|family| {
        let text = node.guest.run("ip", &["-json", family, "rule", "show"]).unwrap();
        serde_json::from_str::<Vec<Value>>(&text).unwrap()
    });
    // Who calls it static, and what of the rest is left out, is each manager's own way.
    all.map(|rule| {
        let (priority, src, table) = (&rule["priority"], &rule["src"], &rule["table"]);
        format!("\"priority\":{priority},\"src\":{src},\"table\":{table}")
    })
    .collect()
}
