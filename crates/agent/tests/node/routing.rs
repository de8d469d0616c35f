//! Routes, rules and settings of ours that somebody changes, while nothing else happens.

use crate::agent::{Agent, SELDOM};
use crate::database::{Nic, nic};
use crate::world::{World, wait_until};

const SOURCED: (&str, &str) = ("NETWORK_POLICY_ROUTING_ENABLED", "true");
const LOOSE: (&str, &str) = ("NETWORK_SET_RP_FILTER_LOOSE", "true");
const RULE: &str = "10100: from 10.77.0.5 lookup 100";

/// What `ip` prints of the node's, or does to it.
pub fn ip(world: &World, arguments: &str) -> String {
    let output = world.node.command("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().replace('\t', " ")
}

/// A node whose only NIC of ours has a table of its own, and whose agent does not read or look by itself.
pub fn sourced() -> (World, Nic, Agent) {
    let world = World::new();
    let nic = nic(0);
    let (agent, _) = Agent::with_configured(&world, &nic, &[SELDOM, SOURCED, LOOSE]);
    (world, nic, agent)
}

/// How often drift of a type was repaired.
pub fn repaired(agent: &Agent, drift_type: &str) -> f64 {
    agent.metric(&format!("multinic_configuration_drifts_total{{drift_type=\"{drift_type}\"}}"))
}

#[test]
fn a_route_that_somebody_takes_away_or_replaces_is_set_again_by_the_event() {
    let (world, _, agent) = sourced();
    let is_there = || ip(&world, "route show table 100").contains("10.77.0.0/24 dev multinic0");
    assert!(is_there());
    ip(&world, "route del 10.77.0.0/24 table 100");
    wait_until(|| agent.log(), is_there);
    ip(&world, "route replace 10.77.0.0/24 dev multinic0 metric 100 mtu 1300 table 100");
    wait_until(|| agent.log(), is_there);
    wait_until(|| agent.log(), || repaired(&agent, "route") >= 2.0);
    assert_eq!(agent.metric("multinic_polling_cycles_total"), 1.0);
}

#[test]
fn a_rule_that_somebody_takes_away_is_set_again_by_the_event() {
    let (world, _, agent) = sourced();
    let is_there = || ip(&world, "rule show").contains(RULE);
    assert!(is_there(), "{}", ip(&world, "rule show"));
    ip(&world, "rule del priority 10100");
    wait_until(|| agent.log(), is_there);
    wait_until(|| agent.log(), || repaired(&agent, "rule") == 1.0);
    assert_eq!(agent.metric("multinic_polling_cycles_total"), 1.0);
}

#[test]
fn a_reverse_path_filter_that_somebody_tightens_is_loosened_again_by_the_event() {
    let (world, _, agent) = sourced();
    let filter = || world.node.sysctl("ipv4/conf/multinic0/rp_filter").unwrap();
    assert_eq!(filter(), "2");
    world.node.set_sysctl("ipv4/conf/multinic0/rp_filter", "1").unwrap();
    wait_until(|| agent.log(), || filter() == "2");
    wait_until(|| agent.log(), || repaired(&agent, "sysctl") == 1.0);
}

/// As a routing daemon sets them, more at once than a socket holds.
#[test]
fn drift_in_a_flood_of_routes_of_others_is_repaired() {
    let (world, nic, agent) = sourced();
    let routes: String =
        (0..5000).map(|n| format!("route add 172.{}.{}.0/24 dev eth0\n", 16 + n / 256, n % 256)).collect();
    let file = world.root().join("routes");
    std::fs::write(&file, routes).unwrap();
    ip(&world, &format!("-batch {}", file.display()));
    ip(&world, "rule del priority 10100");
    wait_until(|| agent.log(), || ip(&world, "rule show").contains(RULE));
    assert!(world.is_configured(&nic));
}
