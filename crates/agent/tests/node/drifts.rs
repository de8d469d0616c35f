//! Each way in which a NIC of ours can differ from what was verified is repaired, and counted under its own label.

use std::fs;

use crate::agent::{Agent, SELDOM};
use crate::database::Nic;
use crate::links;
use crate::routing::{ip, repaired, sourced};
use crate::world::{World, wait_until};

/// All types that an agent counts, whether there was any or not.
fn types(agent: &Agent) -> Vec<String> {
    let (_, page) = agent.get("/metrics");
    let of_type = |line: &str| {
        let rest = line.strip_prefix("multinic_configuration_drifts_total{drift_type=\"")?;
        rest.split_once('"').map(|(drift_type, _)| drift_type.to_owned())
    };
    page.lines().filter_map(of_type).collect()
}

/// Makes a NIC drift in this way.
fn make(drift_type: &str, world: &World, nic: &Nic) {
    let link = world.seen(nic).unwrap().index;
    let own = &nic.addresses[0];
    match drift_type {
        "missing_address" => links::remove_address(&world.node, link, own),
        "ip_address" => links::add_leased_address(&world.node, link, "10.99.0.9/24"),
        "cidr" => {
            links::remove_address(&world.node, link, own);
            links::add_address(&world.node, link, &own.replace("/24", "/25"));
        }
        "mtu" => links::set_mtu(&world.node, link, 1300),
        "name" => links::rename(&world.node, link, "theirs0"),
        "state" => links::set_down(&world.node, link),
        "file" => fs::remove_file(world.file(nic.slot)).unwrap(),
        "missing_link" => world.switch.unplug(nic.mac.parse().unwrap()).unwrap(),
        "route" => {
            ip(world, "route del 10.77.0.0/24 table 100");
        }
        "rule" => {
            ip(world, "rule del priority 10100");
        }
        "sysctl" => world.node.set_sysctl("ipv4/conf/multinic0/rp_filter", "1").unwrap(),
        other => panic!("nothing here makes drift of the type {other}"),
    }
}

#[test]
fn every_type_of_drift_is_repaired_and_counted_as_what_it_is() {
    let types = types(&Agent::start_ready(&World::new(), &[SELDOM]));
    assert!(types.len() >= 11, "{types:?}");
    for drift_type in types {
        let (world, nic, agent) = sourced();
        assert_eq!(repaired(&agent, &drift_type), 0.0, "{drift_type}");
        agent.unseen(|| make(&drift_type, &world, &nic));
        wait_until(|| format!("{drift_type}\n{}", agent.log()), || repaired(&agent, &drift_type) >= 1.0);
        if drift_type == "missing_link" {
            world.plug(&nic);
        }
        world.wait_configured(&nic);
    }
}
