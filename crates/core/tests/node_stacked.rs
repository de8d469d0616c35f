//! NICs below links of others: what is on top of a NIC is lost with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use multinic_core::desired::DesiredNic;
use multinic_core::node::observed::{Link, RouteOrigin};
use multinic_core::node::preflight::Obstacle;
use multinic_core::node::{NodePlan, RefusalReason};
use multinic_core::{Mtu, VlanId};
use support::kernel::{Node, address, desired, link, net, route};

/// What somebody did to a node.
type Deed = fn(&mut Node);

const NIC: u32 = 3;
/// The VLAN, or a bridge that it belongs to.
const TOP: u32 = 30;
const IP: &str = "10.0.0.5/24";

fn wish() -> DesiredNic {
    desired(1, Some(0), &[IP])
}

/// VLAN 100 on top of the NIC, with the same MAC.
fn vlan(index: u32) -> Link {
    let id = VlanId::new(100).unwrap();
    Link { stacked: true, up: true, lower: Some(NIC), vlan: Some(id), ..link(index, "trunk.100", 1) }
}

fn with_vlan(mut node: Node) -> Node {
    node.seen.links.push(vlan(TOP));
    node
}

/// The same with the VLAN in a bridge, which has what it would have.
fn with_bridge(mut node: Node) -> Node {
    node.seen.links.push(Link { master: Some(TOP), ..vlan(31) });
    node.seen.links.push(Link { stacked: true, up: true, ..link(TOP, "br0", 1) });
    node
}

fn new() -> Node {
    Node::new(vec![Link { up: true, ..link(NIC, "eth1", 1) }])
}

fn configured() -> Node {
    let mut node = new();
    node.settle(&[wish()], &[]);
    node
}

fn obstacles(plan: &NodePlan) -> Vec<Obstacle> {
    assert!(plan.changes.is_empty(), "{plan:?}");
    match &plan.refused[..] {
        [refusal] => match &refusal.reason {
            RefusalReason::InUse(obstacles) => obstacles.clone(),
            other => panic!("{other}"),
        },
        others => panic!("{others:?}"),
    }
}

/// What the node needs of the link on top, each with a way to give it that.
fn needs() -> [(Obstacle, Deed); 4] {
    [
        (Obstacle::NodeAddress, |node| {
            node.seen.addresses.push(address(TOP, "192.0.2.11/24"));
            node.seen.lifelines.node_addresses.insert(net("192.0.2.11/24").addr());
        }),
        (Obstacle::SourcePath, |node| {
            node.seen.lifelines.source_links.insert(TOP);
        }),
        (Obstacle::DefaultRoute, |node| {
            node.seen.routes.push(route(TOP, "0.0.0.0/0", RouteOrigin::Static));
        }),
        (Obstacle::DefaultRoute, |node| {
            node.seen.routes[0] = route(TOP, "0.0.0.0/0", RouteOrigin::Dynamic);
            // What is lost together does not vouch for one another.
            node.seen.routes.push(route(NIC, "0.0.0.0/0", RouteOrigin::Dynamic));
        }),
    ]
}

#[test]
fn a_nic_below_a_link_that_the_node_lives_on_is_refused() {
    for (need, arrange) in needs() {
        for place in [with_vlan, with_bridge] {
            let mut node = place(new());
            arrange(&mut node);
            assert_eq!(obstacles(&node.plan(&[wish()], &[])), [need, Obstacle::HasLinks]);
        }
    }
}

#[test]
fn our_own_nic_is_not_disturbed_once_the_node_lives_on_top_of_it() {
    for (need, arrange) in needs() {
        for place in [with_vlan, with_bridge] {
            let mut node = place(configured());
            arrange(&mut node);
            node.seen.routes.retain(|route| route.link != NIC);
            let larger = DesiredNic { mtu: Mtu::new(1400).unwrap(), ..wish() };
            assert_eq!(obstacles(&node.plan(&[larger], &[])), [need]);
            assert_eq!(obstacles(&node.plan(&[], &[1])), [need]);
            // What takes nothing away is still done.
            node.seen.files.clear();
            assert_eq!(node.plan(&[wish()], &[]).changes.len(), 1);
        }
    }
}

#[test]
fn a_new_nic_with_somebodys_link_on_top_is_in_use() {
    for up in [true, false] {
        let mut node = with_vlan(new());
        node.seen.links.retain(|link| link.index != NIC);
        node.seen.links.push(Link { up, ..link(NIC, "eth1", 1) });
        assert_eq!(obstacles(&node.plan(&[wish()], &[])), [Obstacle::HasLinks]);
    }
}

#[test]
fn what_others_put_on_top_of_our_nic_does_not_hinder_us() {
    let mut node = with_vlan(configured());
    node.settle(&[desired(1, Some(0), &["10.0.0.6/24"])], &[]);
    node.settle(&[], &[1]);
}

#[test]
fn links_on_top_of_one_another_in_a_circle_are_an_answer_too() {
    // As two namespaces with the same numbers would have it.
    let mut node = new();
    node.seen.links.push(Link { lower: Some(31), ..vlan(TOP) });
    node.seen.links.push(Link { lower: Some(TOP), ..vlan(31) });
    node.settle(&[wish()], &[]);
}
