//! An object that is about another server, or older than it was, changes and removes nothing.

use std::fs;

use serde_json::{Value, json};

use crate::agent::{OFTEN, SELDOM};
use crate::cluster::{Cluster, interface};
use crate::database::nic;
use crate::links;
use crate::world::{World, wait_until};

const UUID: &str = "5e000000-0000-4000-8000-00000000000a";

fn spec(cluster: &Cluster<'_>, instance: &str, nics: &[Value]) -> Value {
    json!({"nodeName": cluster.node, "instanceId": instance, "interfaces": nics})
}

#[test]
fn an_object_about_another_server_is_refused_and_told() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (first, second) = (nic(0), nic(1));
    world.plug(&first);
    world.plug(&second);
    let file = world.root().join("product_uuid");
    fs::write(&file, format!("{}\n", UUID.to_uppercase())).unwrap();
    let variables = [SELDOM, ("PRODUCT_UUID_FILE", file.to_str().unwrap())];
    cluster.apply_spec(&spec(&cluster, UUID, &[interface(&first)]));
    let _agent = cluster.start(&world, &variables);
    world.wait_configured(&first);
    cluster.wait_ready("True", "Configured");

    let guard = world.guard(&[]);
    let other = "5e000000-0000-4000-8000-00000000000b";
    cluster.apply_spec(&spec(&cluster, other, &[interface(&second)]));
    cluster.wait_ready("False", "InstanceMismatch");
    assert_eq!(cluster.status()["state"], "Failed");
    cluster.wait_event("InstanceMismatch");
    // Not even its deletion.
    cluster.delete();
    cluster.wait_ready("False", "InstanceMismatch");
    assert!(world.is_configured(&first));
    assert!(cluster.is_held());
    guard.assert_untouched(&world);
    // What was agreed before is kept right, and what was said stays said.
    links::set_mtu(&world.node, world.seen(&first).unwrap().index, 1300);
    world.wait_configured(&first);
    cluster.wait_ready("False", "InstanceMismatch");
    cluster.patch(json!({"metadata": {"finalizers": null}}));
}

#[test]
fn firmware_that_turns_the_bytes_round_is_understood() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let nic = nic(0);
    world.plug(&nic);
    let file = world.root().join("product_uuid");
    fs::write(&file, "0000005E-0000-0040-8000-00000000000A\n").unwrap();
    cluster.apply_spec(&spec(&cluster, UUID, &[interface(&nic)]));
    let _agent = cluster.start(&world, &[SELDOM, ("PRODUCT_UUID_FILE", file.to_str().unwrap())]);
    world.wait_configured(&nic);
    cluster.wait_ready("True", "Configured");
}

/// What the agent wrote down of the object, as if it had been at a much later generation.
fn remember_generation(world: &World, generation: u64) {
    let path = world.root().join("var/lib/multinic/state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(state["newest"]["position"]["revision"].is_u64(), "{state:#}");
    state["newest"]["position"]["revision"] = json!(generation);
    fs::write(&path, state.to_string()).unwrap();
}

#[test]
fn a_lower_generation_is_held_told_and_accepted_after_a_while() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (first, second) = (nic(0), nic(1));
    world.plug(&first);
    world.plug(&second);
    cluster.apply(&[first.clone(), second.clone()]);
    let agent = cluster.start(&world, &[SELDOM]);
    world.wait_configured(&second);
    cluster.wait_ready("True", "Configured");
    assert!(agent.stop().success());
    remember_generation(&world, 50);
    let changed = first.clone().mtu(1400);
    cluster.apply(std::slice::from_ref(&changed));

    let guard = world.guard(&[]);
    let agent = crate::agent::Agent::start(&world, &cluster.variables(&[OFTEN, ("STALE_CONFIRM", "1h")]));
    cluster.wait_ready("False", "StaleGeneration");
    cluster.wait_event("StaleGeneration");
    assert!(world.is_configured(&first) && world.is_configured(&second));
    guard.assert_untouched(&world);
    assert!(agent.stop().success());

    // Then it adds and changes; what it lacks has to be absent for long as well.
    let _agent = cluster.start(&world, &[OFTEN, ("STALE_CONFIRM", "1s"), ("ABSENCE_CONFIRM", "1h")]);
    world.wait_configured(&changed);
    wait_until(|| format!("{:#}", cluster.status()), || cluster.condition("Ready").unwrap().0 == "True");
    assert!(world.is_configured(&second));
}
