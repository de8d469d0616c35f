//! What was ours since the boot and comes back: a network manager that read it at its start sets it again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use multinic_core::desired::DesiredNic;
use multinic_core::node::{Change, ChangeKind, Drift, NodePlan};
use support::kernel::{Node, address, desired, link, net, target};
use support::mac;

const NIC: u32 = 5;
const BEFORE: &str = "10.0.0.5/24";
const NOW: &str = "10.1.0.5/24";

fn sourced(address: &str) -> DesiredNic {
    let text = r#"{"sourceRouting": {"enabled": true}, "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}]}"#;
    DesiredNic { options: serde_json::from_str(text).unwrap(), ..desired(1, Some(0), &[address]) }
}

fn drift(plan: &NodePlan) -> &[Drift] {
    match &plan.changes[..] {
        [Change { kind: ChangeKind::Repair(drift), .. }] => drift,
        others => panic!("{others:?}"),
    }
}

/// A node whose NIC was updated since the boot.
fn updated(before: &DesiredNic, now: &DesiredNic) -> Node {
    let mut node = Node::new(vec![link(NIC, "eth1", 1)]);
    node.settle(std::slice::from_ref(before), &[]);
    node.seen.earlier.insert(mac(1), vec![node.owned[&mac(1)].target.clone()]);
    node.settle(std::slice::from_ref(now), &[]);
    node
}

#[test]
fn an_address_of_before_an_update_that_comes_back_is_drift_and_goes() {
    let now = desired(1, Some(0), &[NOW]);
    let mut node = updated(&desired(1, Some(0), &[BEFORE]), &now);
    node.seen.addresses.push(address(NIC, BEFORE));
    let plan = node.settle(&[now], &[]);
    assert_eq!(drift(&plan), [Drift::ExtraAddress(net(BEFORE))]);
    assert_eq!(drift(&plan)[0].label(), "ip_address");
    assert_eq!(node.shows(NIC), [NOW]);
}

#[test]
fn one_that_was_never_ours_or_in_another_boot_only_is_somebodys() {
    let now = desired(1, Some(0), &[NOW]);
    let mut node = updated(&desired(1, Some(0), &[BEFORE]), &now);
    node.seen.addresses.push(address(NIC, "10.0.0.99/24"));
    assert_eq!(node.plan(std::slice::from_ref(&now), &[]).changes, vec![]);
    node.seen.earlier.clear();
    node.seen.addresses.push(address(NIC, BEFORE));
    assert_eq!(node.plan(&[now], &[]).changes, vec![]);
}

#[test]
fn routes_and_rules_of_before_an_update_go_again_too() {
    let before = sourced(BEFORE);
    let mut boot = Node::new(vec![link(NIC, "eth1", 1)]);
    boot.settle(std::slice::from_ref(&before), &[]);
    for now in [desired(1, Some(0), &[NOW]), sourced(NOW)] {
        let mut node = updated(&before, &now);
        let wanted = node.seen.clone();
        node.seen.addresses.extend(boot.seen.addresses_of(NIC).filter(|held| !held.link_local).cloned());
        node.seen.rules.extend(boot.seen.rules.iter().cloned());
        for route in &boot.seen.other_tables {
            if !wanted.other_tables.contains(route) {
                node.seen.other_tables.push(route.clone());
            }
        }
        let plan = node.settle(&[now], &[]);
        let labels: std::collections::BTreeSet<_> = drift(&plan).iter().map(Drift::label).collect();
        assert_eq!(labels, ["ip_address", "route", "rule"].into());
        assert_eq!(node.shows(NIC), [NOW]);
        assert_eq!((node.seen.rules, node.seen.other_tables), (wanted.rules, wanted.other_tables));
    }
}

#[test]
fn a_route_of_the_main_table_goes_again_too() {
    let text = r#"{"routes": [{"to": "198.51.100.0/24", "via": "10.0.0.1", "metric": 7}]}"#;
    let before =
        DesiredNic { options: serde_json::from_str(text).unwrap(), ..desired(1, Some(0), &[BEFORE]) };
    let now = desired(1, Some(0), &[BEFORE]);
    let mut boot = Node::new(vec![link(NIC, "eth1", 1)]);
    boot.settle(std::slice::from_ref(&before), &[]);
    let mut node = updated(&before, &now);
    let wanted = node.seen.routes.clone();
    node.seen.routes = boot.seen.routes;
    let plan = node.settle(&[now], &[]);
    assert!(matches!(drift(&plan), [Drift::ExtraRoute(_)]));
    assert_eq!(node.seen.routes, wanted);
}

#[test]
fn a_table_that_is_another_nics_by_now_is_left_to_that() {
    let [first, mut second] = [sourced(BEFORE), sourced("10.2.0.5/24")];
    second.mac = mac(2);
    let mut node = Node::new(vec![link(NIC, "eth1", 1), link(6, "eth2", 2)]);
    node.settle(&[second], &[]);
    // The first had its name and table before, and now has others.
    let mut earlier = target(1, 0, &[BEFORE]);
    earlier.options = first.options.resolve(support::slot(0));
    node.seen.earlier.insert(mac(1), vec![earlier]);
    let now = DesiredNic { slot: Some(support::slot(1)), ..desired(1, None, &[NOW]) };
    let rules = node.seen.rules.clone();
    node.settle(std::slice::from_ref(&now), &[]);
    assert_eq!(node.seen.rules, rules);
    // Its address is its own all the same.
    node.seen.addresses.push(address(NIC, BEFORE));
    assert_eq!(drift(&node.settle(&[now], &[])), [Drift::ExtraAddress(net(BEFORE))]);
}

#[test]
fn a_nic_that_is_given_up_keeps_nothing_of_what_came_back() {
    let mut node = updated(&desired(1, Some(0), &[BEFORE]), &desired(1, Some(0), &[NOW]));
    node.seen.addresses.push(address(NIC, BEFORE));
    node.settle(&[], &[1]);
    assert_eq!(node.shows(NIC), Vec::<String>::new());
    // Nor one that becomes ours again.
    let again = desired(1, Some(0), &["10.3.0.5/24"]);
    node.settle(std::slice::from_ref(&again), &[]);
    node.seen.addresses.push(address(NIC, BEFORE));
    node.settle(&[again], &[]);
    assert_eq!(node.shows(NIC), ["10.3.0.5/24"]);
}
