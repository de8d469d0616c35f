//! NICs that the database names and that are in use: left alone, with the reason.

use rtnetlink::packet_route::route::RouteProtocol;

use crate::agent::{Agent, OFTEN, once};
use crate::database::{Nic, nic};
use crate::links;
use crate::world::{UPLINK_ADDRESS, UPLINK_MAC, World, wait_until};

/// The node's own NIC, as a database with a slip of somebody's hand names it.
fn uplink() -> Nic {
    Nic { mac: UPLINK_MAC.to_owned(), ..nic(0) }
}

#[track_caller]
fn assert_refused(world: &World, nic: &Nic, reason: &str, variables: &[(&str, &str)]) {
    let fine = crate::database::nic(7);
    world.plug(&fine);
    world.database.publish(&[nic.clone(), fine.clone()], &[]);
    let guard = world.guard(&[&fine]);
    once(world, variables, 2);
    let error = world.database.written(nic).error.unwrap();
    assert!(error.starts_with("InUse: ") && error.contains(reason), "{error}");
    assert!(world.is_configured(&fine));
    guard.assert_untouched(world);
}

#[test]
fn the_nic_of_the_default_route_is_left_alone() {
    assert_refused(&World::new(), &uplink(), "default_route", &[]);
}

#[test]
fn the_nic_of_the_node_s_address_is_left_alone() {
    assert_refused(&World::new(), &uplink(), "node_address", &[("NODE_IP", UPLINK_ADDRESS)]);
}

#[test]
fn the_node_s_address_is_known_from_the_default_route() {
    assert_refused(&World::new(), &uplink(), "node_address", &[]);
}

#[test]
fn an_enslaved_nic_is_left_alone() {
    let world = World::new();
    let nic = nic(0);
    let link = world.plug(&nic);
    links::enslave(&world.node, link, "br0");
    assert_refused(&world, &nic, "enslaved", &[]);
}

#[test]
fn a_nic_with_a_static_address_is_left_alone() {
    let world = World::new();
    let nic = nic(0);
    let link = world.plug(&nic);
    links::add_address(&world.node, link, "198.51.100.5/24");
    links::set_up(&world.node, link);
    assert_refused(&world, &nic, "has_ipv4", &[]);
}

#[test]
fn a_nic_with_a_static_ipv6_address_is_left_alone() {
    let world = World::new();
    let nic = nic(0);
    let link = world.plug(&nic);
    links::set_up(&world.node, link);
    links::add_address(&world.node, link, "2001:db8::5/64");
    assert_refused(&world, &nic, "has_ipv6", &[]);
}

#[test]
fn a_nic_with_somebody_s_route_is_left_alone() {
    let world = World::new();
    let nic = nic(0);
    let link = world.plug(&nic);
    links::set_up(&world.node, link);
    links::add_route(&world.node, link, "198.51.100.0/24", None, RouteProtocol::Static);
    assert_refused(&world, &nic, "has_routes", &[]);
}

#[test]
fn a_refused_nic_is_taken_as_soon_as_it_is_free() {
    let world = World::new();
    let nic = nic(0);
    let link = world.plug(&nic);
    links::add_address(&world.node, link, "198.51.100.5/24");
    links::set_up(&world.node, link);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    wait_until(|| agent.log(), || world.database.written(&nic).error.is_some());
    assert_eq!(agent.metric(r#"multinic_preflight_up_block_total{reason="has_ipv4"}"#), 1.0);
    assert!(agent.logged("interface left alone").is_some());
    links::remove_address(&world.node, link, "198.51.100.5/24");
    world.wait_configured(&nic);
}

#[test]
fn a_lease_of_the_guest_s_own_manager_does_not_stand_in_the_way() {
    let world = World::new();
    let nic = nic(0);
    let link = world.plug(&nic);
    links::set_up(&world.node, link);
    links::add_leased_address(&world.node, link, "10.77.0.5/24");
    links::add_default(&world.node, link, "10.77.0.1", 1024, RouteProtocol::Dhcp);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let guard = world.guard(&[&nic]);
    once(&world, &[("NODE_IP", UPLINK_ADDRESS)], 0);
    assert!(world.is_configured(&nic));
    guard.assert_untouched(&world);
}

/// A lease with a router, whose route goes before the node's own one.
fn lease_with_a_router(world: &World, link: u32) {
    links::set_up(&world.node, link);
    links::add_leased_address(&world.node, link, "10.77.0.5/24");
    links::remove_default(&world.node, "192.0.2.1");
    links::add_default(&world.node, world.uplink, "192.0.2.1", 100, RouteProtocol::Dhcp);
    links::add_default(&world.node, link, "10.77.0.1", 50, RouteProtocol::Dhcp);
}

#[test]
fn a_lease_with_a_router_does_not_make_a_new_nic_the_node_s_own_where_that_is_remembered() {
    let world = World::new();
    let nic = nic(0);
    once(&world, &[], 0);
    let link = world.plug(&nic);
    lease_with_a_router(&world, link);
    world.database.publish(&[nic.clone(), Nic { slot: 1, ..uplink() }], &[]);
    let guard = world.guard(&[&nic]);
    once(&world, &[], 2);
    assert!(world.is_configured(&nic));
    let error = world.database.written(&uplink()).error.unwrap();
    assert!(error.contains("node_address"), "{error}");
    guard.assert_untouched(&world);
}

#[test]
fn a_lease_with_a_router_that_was_there_before_the_agent_is_left_alone_and_node_ip_is_asked_for() {
    let world = World::new();
    let nic = nic(0);
    let link = world.plug(&nic);
    lease_with_a_router(&world, link);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let guard = world.guard(&[]);
    once(&world, &[], 2);
    let error = world.database.written(&nic).error.unwrap();
    assert!(error.contains("node_address") && error.contains("NODE_IP"), "{error}");
    guard.assert_untouched(&world);
}

#[test]
fn of_two_leases_with_routers_neither_is_taken_whatever_their_metrics_become() {
    let world = World::new();
    let nic = nic(0);
    let link = world.plug(&nic);
    let own = format!("{UPLINK_ADDRESS}/24");
    lease_with_a_router(&world, link);
    // Its route goes with it.
    links::remove_address(&world.node, world.uplink, &own);
    links::add_leased_address(&world.node, world.uplink, &own);
    links::add_default(&world.node, world.uplink, "192.0.2.1", 100, RouteProtocol::Dhcp);
    let uplink = Nic { slot: 1, ..uplink() };
    world.database.publish(&[nic.clone(), uplink.clone()], &[]);
    let assert_both_left_alone = || {
        let guard = world.guard(&[]);
        once(&world, &[], 2);
        for nic in [&nic, &uplink] {
            let error = world.database.written(nic).error.unwrap();
            assert!(error.contains("node_address"), "{error}");
        }
        guard.assert_untouched(&world);
    };
    assert_both_left_alone();
    links::add_default(&world.node, world.uplink, "192.0.2.1", 10, RouteProtocol::Dhcp);
    assert_both_left_alone();
}

#[test]
fn a_default_route_over_a_nic_of_ours_says_nothing_of_the_node_s_own_address() {
    let world = World::new();
    let nic = nic(0);
    let link = world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    once(&world, &[("NODE_IP", UPLINK_ADDRESS)], 0);
    links::add_default(&world.node, link, "10.77.0.1", 10, RouteProtocol::Dhcp);
    once(&world, &[], 0);
    let state = std::fs::read(world.root().join("var/lib/multinic/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["own_addresses"], serde_json::json!([UPLINK_ADDRESS]));
}
