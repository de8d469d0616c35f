//! Options of an interface: what is planned for them, and what is never touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use multinic_core::desired::{DesiredNic, DesiredState};
use multinic_core::node::observed::{Link, Route, RouteOrigin, Rule, Setting};
use multinic_core::node::{Change, ChangeKind, Drift, NodePlan, Step};
use multinic_core::{InterfaceOptions, NicOptions};
use support::kernel::{Node, address, desired, link, net, old_file, route, target};

const NIC: u32 = 5;
const IP: &str = "10.0.0.5/24";

fn options(text: &str) -> InterfaceOptions {
    serde_json::from_str(text).unwrap()
}

fn wish(text: &str) -> DesiredNic {
    let options = options(text);
    options.check_for(&desired(1, Some(0), &[IP]).addresses).unwrap();
    DesiredNic { options, ..desired(1, Some(0), &[IP]) }
}

fn bare() -> Node {
    Node::new(vec![link(NIC, "eth1", 1)])
}

fn configured(text: &str) -> Node {
    let mut node = bare();
    node.settle(&[wish(text)], &[]);
    node
}

/// The labels of what was repaired.
fn labels(plan: &NodePlan) -> Vec<&'static str> {
    match &plan.changes[..] {
        [Change { kind: ChangeKind::Repair(drift), .. }] => drift.iter().map(Drift::label).collect(),
        others => panic!("{others:?}"),
    }
}

/// The routes of a NIC, each with its table.
fn routes(node: &Node) -> Vec<String> {
    let seen = &node.seen;
    let ours = seen.routes_of(NIC).chain(seen.other_tables_of(NIC));
    let text = |route: &Route| {
        let via = route.gateway.map(|via| format!(" via {via}")).unwrap_or_default();
        let from = route.source.map(|from| format!(" from {from}")).unwrap_or_default();
        format!("{} in {}{via} metric {}{from}", route.destination, route.table, route.metric)
    };
    ours.map(text).collect()
}

fn rules(node: &Node) -> Vec<String> {
    let text = |rule: &Rule| format!("{}: {:?} in {}", rule.priority, rule.from, rule.table);
    node.seen.rules.iter().map(text).collect()
}

const SOURCED: &str =
    r#"{"sourceRouting": {"enabled": true}, "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}]}"#;
const ROUTED: &str = r#"{"routes": [{"to": "198.51.100.0/24", "via": "10.0.0.1", "metric": 7}]}"#;

#[test]
fn arp_stays_with_its_interface_unless_told_otherwise() {
    let mut node = configured("{}");
    let settings = node.link(NIC).settings;
    assert_eq!((settings.arp_ignore, settings.arp_announce, settings.rp_filter), (1, 2, 0));
    node.settle(&[wish(r#"{"strictArp": false, "rpFilter": "loose"}"#)], &[]);
    let settings = node.link(NIC).settings;
    assert_eq!((settings.arp_ignore, settings.arp_announce, settings.rp_filter), (0, 0, 2));
}

#[test]
fn a_setting_that_somebody_changed_is_repaired_and_one_that_is_not_ours_is_left() {
    let mut node = configured("{}");
    let at = node.seen.links.iter().position(|link| link.index == NIC).unwrap();
    node.seen.links[at].settings.arp_ignore = 0;
    node.seen.links[at].settings.rp_filter = 1;
    let plan = node.settle(&[wish("{}")], &[]);
    assert_eq!(labels(&plan), ["sysctl"]);
    assert_eq!(plan.changes[0].steps, [Step::Set(Setting::ArpIgnore, 1)]);
    assert_eq!(node.link(NIC).settings.rp_filter, 1);
}

#[test]
fn what_no_option_asks_for_any_more_is_as_on_a_new_link() {
    let mut node = configured(r#"{"rpFilter": "loose"}"#);
    node.seen.default_settings.rp_filter = 1;
    node.settle(&[wish("{}")], &[]);
    assert_eq!(node.link(NIC).settings.rp_filter, 1);
}

#[test]
fn an_upgrade_from_before_there_were_options_adds_them_without_taking_the_link_down() {
    let mut node = bare();
    node.settle(&[desired(1, Some(0), &[IP])], &[]);
    let plan = node.settle(&[wish("{}")], &[]);
    assert!(matches!(plan.changes[0].kind, ChangeKind::Update(_)));
    assert!(!plan.changes[0].steps.contains(&Step::SetDown));
}

#[test]
fn routes_of_a_configuration_are_in_the_main_table() {
    let node = configured(ROUTED);
    assert_eq!(routes(&node), ["198.51.100.0/24 in 254 via 10.0.0.1 metric 7"]);
    assert!(rules(&node).is_empty());
}

#[test]
fn source_routing_has_a_table_and_a_rule_of_its_own() {
    let node = configured(SOURCED);
    assert_eq!(
        routes(&node),
        ["10.0.0.0/24 in 100 metric 100 from 10.0.0.5", "0.0.0.0/0 in 100 via 10.0.0.1 metric 100"]
    );
    assert_eq!(rules(&node), ["10100: Some(10.0.0.5/32) in 100"]);
}

#[test]
fn routes_and_rules_that_went_are_repaired_and_counted() {
    let mut node = configured(SOURCED);
    node.seen.other_tables.pop();
    assert_eq!(labels(&node.settle(&[wish(SOURCED)], &[])), ["route"]);
    node.seen.rules.clear();
    assert_eq!(labels(&node.settle(&[wish(SOURCED)], &[])), ["rule"]);
    let mut stray = node.seen.rules[0].clone();
    stray.from = Some(net("10.0.0.99/32"));
    node.seen.rules.push(stray);
    assert_eq!(labels(&node.settle(&[wish(SOURCED)], &[])), ["rule"]);
    assert_eq!(rules(&node).len(), 1);
    let stray = Route { table: 100, ..route(NIC, "203.0.113.0/24", RouteOrigin::Static) };
    node.seen.other_tables.push(stray);
    assert_eq!(labels(&node.settle(&[wish(SOURCED)], &[])), ["route"]);
    assert_eq!(routes(&node).len(), 2);
}

#[test]
fn a_link_that_went_down_gets_its_routes_again() {
    let mut node = configured(SOURCED);
    let before = routes(&node);
    let at = node.seen.links.iter().position(|link| link.index == NIC).unwrap();
    node.seen.links[at].up = false;
    node.seen.other_tables.clear();
    node.settle(&[wish(SOURCED)], &[]);
    assert_eq!(routes(&node), before);
}

#[test]
fn routes_and_rules_of_others_are_never_touched() {
    let others = [
        Rule { priority: 10_100, from: Some(net("10.0.0.0/24")), table: 100, plain: true },
        Rule { priority: 10_100, from: Some(net("10.0.0.7/32")), table: 200, plain: true },
        Rule { priority: 10_100, from: Some(net("10.0.0.7/32")), table: 100, plain: false },
        Rule { priority: 500, from: Some(net("10.0.0.5/32")), table: 100, plain: true },
        Rule { priority: 32_766, from: None, table: 254, plain: true },
    ];
    let theirs = [
        route(NIC, "203.0.113.0/24", RouteOrigin::Static),
        Route { table: 7, ..route(NIC, "203.0.113.0/24", RouteOrigin::Static) },
        Route { table: 100, ..route(2, "203.0.113.0/24", RouteOrigin::Static) },
    ];
    let mut node = configured("{}");
    node.seen.rules.extend(others.clone());
    node.seen.routes.push(theirs[0].clone());
    node.seen.other_tables.extend(theirs[1..].to_vec());
    for wish in [wish(SOURCED), wish(ROUTED), wish("{}")] {
        node.settle(&[wish], &[]);
        for rule in &others {
            assert!(node.seen.rules.contains(rule), "{rule:?}");
        }
        for route in &theirs {
            let all = &mut node.seen.routes.iter().chain(&node.seen.other_tables);
            assert!(all.any(|held| held == route), "{route:?}");
        }
    }
    assert_eq!(node.seen.rules, others);
}

#[test]
fn another_table_leaves_nothing_in_the_old_one() {
    let mut node = configured(SOURCED);
    node.settle(&[wish(r#"{"sourceRouting": {"enabled": true, "tableBase": 300}}"#)], &[]);
    assert_eq!(routes(&node), ["10.0.0.0/24 in 300 metric 100 from 10.0.0.5"]);
    assert_eq!(rules(&node), ["10300: Some(10.0.0.5/32) in 300"]);
}

#[test]
fn a_nic_that_is_taken_away_takes_its_routes_rules_and_settings_along() {
    for text in [SOURCED, ROUTED] {
        let mut node = configured(text);
        node.settle(&[], &[1]);
        assert!(routes(&node).is_empty() && rules(&node).is_empty());
        assert_eq!(node.link(NIC).settings.arp_ignore, 0);
    }
}

#[test]
fn the_rules_of_a_nic_that_was_unplugged_go_when_it_is_released() {
    let mut node = configured(SOURCED);
    node.seen.links.retain(|link| link.index != NIC);
    node.seen.addresses.retain(|address| address.link != NIC);
    node.seen.other_tables.clear();
    node.settle(&[], &[1]);
    assert!(rules(&node).is_empty());
}

#[test]
fn without_a_prefix_route_an_address_is_set_anew_and_so_it_is_with_one_again() {
    let without = r#"{"noPrefixRoute": true, "sourceRouting": {"enabled": true}}"#;
    let mut node = configured(r#"{"sourceRouting": {"enabled": true}}"#);
    let connected = Route { metric: 0, ..route(NIC, "10.0.0.0/24", RouteOrigin::Kernel) };
    node.seen.routes.push(connected.clone());
    let plan = node.settle(&[wish(without)], &[]);
    assert!(plan.changes[0].steps.contains(&Step::RemoveAddress(net(IP))));
    assert!(plan.changes[0].steps.contains(&Step::AddAddress(net(IP))));
    assert!(!node.seen.routes.contains(&connected));
    assert_eq!(routes(&node), ["10.0.0.0/24 in 100 metric 100 from 10.0.0.5"]);
    // NetworkManager sets addresses so, and makes the route itself.
    let managed = |node: &mut Node| node.seen.routes.push(connected.clone());
    managed(&mut node);
    assert_eq!(labels(&node.plan(&[wish(without)], &[])), ["route"]);
    let plan = node.settle(&[wish(r#"{"sourceRouting": {"enabled": true}}"#)], &[]);
    assert!(!plan.changes[0].steps.contains(&Step::RemoveAddress(net(IP))), "the route is there already");
    node.seen.routes.retain(|route| *route != connected);
    assert_eq!(labels(&node.plan(&[wish(r#"{"sourceRouting": {"enabled": true}}"#)], &[])), ["route"]);
}

#[test]
fn what_was_lost_with_our_state_is_known_again_from_the_file() {
    let mut node = configured(SOURCED);
    node.owned.clear();
    let at = node.seen.files.iter().position(|file| file.mac() == Some(support::mac(1))).unwrap();
    assert_eq!(node.seen.files.len(), at + 1);
    node.settle(&[], &[1]);
    assert!(routes(&node).is_empty() && rules(&node).is_empty());
}

#[test]
fn a_state_of_before_there_were_options_is_read() {
    let text =
        r#"{"mac": "fa:16:3e:00:00:01", "name": "multinic0", "addresses": ["10.0.0.5/24"], "mtu": 1500}"#;
    let read: multinic_core::node::NicTarget = serde_json::from_str(text).unwrap();
    assert_eq!(read.options, NicOptions::default());
    assert_eq!(target(1, 0, &[IP]).options, read.options);
}

#[test]
fn the_last_slot_has_a_table_and_a_priority_before_the_kernel_s() {
    let mut node = bare();
    let wish = DesiredNic {
        options: options(r#"{"sourceRouting": {"enabled": true, "tableBase": 20000}}"#),
        ..desired(1, Some(63), &[IP])
    };
    wish.options.check().unwrap();
    node.settle(&[wish], &[]);
    assert_eq!(node.link(NIC).name, "multinic63");
    assert_eq!(rules(&node), ["30063: Some(10.0.0.5/32) in 20063"]);
}

#[test]
fn a_node_s_own_settings_fill_what_the_source_leaves_open_and_what_does_not_fit_is_told() {
    let node = options(r#"{"strictArp": false, "noPrefixRoute": true, "sourceRouting": {"enabled": true}}"#);
    let nics = vec![
        DesiredNic { options: options(r#"{"strictArp": true}"#), ..desired(1, Some(0), &[IP]) },
        DesiredNic {
            options: options(r#"{"sourceRouting": {"enabled": false}}"#),
            ..desired(2, Some(1), &["10.1.0.5/24"])
        },
    ];
    let read = DesiredState { nics, ..DesiredState::default() }.with_options(&node);
    assert_eq!(read.nics.len(), 1);
    assert_eq!(read.nics[0].options, options(r#"{"strictArp": true}"#).or(&node));
    assert!(read.invalid[0].reason.starts_with("options.noPrefixRoute: "), "{}", read.invalid[0].reason);
    assert_eq!(read.invalid[0].mac, Some(support::mac(2)));
}

#[test]
fn what_leads_traffic_another_way_is_not_changed_on_the_way_to_the_source_but_put_back_there() {
    let mut node = configured("{}");
    node.seen.lifelines.source_links.insert(NIC);
    for options in [ROUTED, SOURCED, r#"{"rpFilter": "loose"}"#] {
        let plan = node.plan(&[wish(options)], &[]);
        assert!(plan.changes.is_empty(), "{plan:?}");
        assert!(plan.refused[0].reason.to_string().contains("source_path"), "{plan:?}");
    }
    let mut node = configured(SOURCED);
    node.seen.lifelines.source_links.insert(NIC);
    node.seen.rules.clear();
    node.seen.other_tables.pop();
    let plan = node.settle(&[wish(SOURCED)], &[]);
    assert!(matches!(plan.changes[0].kind, ChangeKind::Repair(_)));
}

#[test]
fn a_nic_that_is_taken_up_on_the_way_to_the_source_gets_nothing_new_that_leads_traffic_another_way() {
    let on_the_way = |mut node: Node| {
        node.owned.clear();
        node.seen.lifelines.source_links.insert(NIC);
        node
    };
    // Our own files, without the state.
    let node = on_the_way(configured("{}"));
    // An older program's file.
    let mut older = Node::new(vec![Link { up: true, ..link(NIC, "multinic0", 1) }]);
    older.seen.addresses.push(address(NIC, IP));
    older.seen.files.push(old_file(0, 1, &[IP]));
    let older = on_the_way(older);
    for node in [&node, &older] {
        for options in [ROUTED, SOURCED, r#"{"rpFilter": "loose"}"#] {
            let plan = node.plan(&[wish(options)], &[]);
            assert!(plan.changes.is_empty(), "{plan:?}");
            assert!(plan.refused[0].reason.to_string().contains("source_path"), "{plan:?}");
        }
        assert_eq!(node.clone().settle(&[wish("{}")], &[]).changes[0].kind, ChangeKind::Adopt);
    }
    // What the files say is put back.
    let mut node = on_the_way(configured(SOURCED));
    node.seen.rules.clear();
    assert_eq!(node.settle(&[wish(SOURCED)], &[]).changes[0].kind, ChangeKind::Adopt);
}

#[test]
fn an_address_that_somebody_set_without_its_route_is_set_anew_on_a_link_that_is_down() {
    let mut node = configured("{}");
    let at = node.seen.links.iter().position(|link| link.index == NIC).unwrap();
    node.seen.links[at].up = false;
    for held in node.seen.addresses.iter_mut().filter(|held| held.link == NIC) {
        held.no_prefix_route = true;
    }
    node.seen.routes.retain(|route| route.link != NIC);
    let plan = node.settle(&[wish("{}")], &[]);
    let steps = &plan.changes[0].steps;
    assert!(
        steps.contains(&Step::RemoveAddress(net(IP))) && steps.contains(&Step::AddAddress(net(IP))),
        "{steps:?}"
    );
    assert!(node.seen.addresses.iter().any(|held| held.net == net(IP) && !held.no_prefix_route));
}
