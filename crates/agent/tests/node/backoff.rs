//! What failed is not tried again at once, whoever was killed in between.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::agent::{Agent, OFTEN, once};
use crate::database::{Nic, nic};
use crate::world::{World, wait_until};

const FAILING: (&str, &str) = ("MULTINIC_FAULT", "step.set_up=fail");

fn state(world: &World) -> Value {
    let text = fs::read_to_string(world.root().join("var/lib/multinic/state.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn change_state(world: &World, change: impl FnOnce(&mut Value)) {
    let mut state = state(world);
    change(&mut state);
    fs::write(world.root().join("var/lib/multinic/state.json"), state.to_string()).unwrap();
}

/// A NIC that an agent could not configure, which was killed then.
fn failed_and_killed(world: &World) -> Nic {
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let mut agent = Agent::start(world, &[OFTEN, FAILING]);
    let failed = || state(world)["failures"]["nics"][&nic.mac]["count"].as_u64();
    wait_until(|| agent.log(), || failed() >= Some(1));
    agent.signal(Signal::SIGKILL);
    agent.wait();
    // As after very many attempts: the next one is minutes away.
    change_state(world, |state| state["failures"]["nics"][&nic.mac]["count"] = json!(30));
    nic
}

#[test]
fn an_agent_that_starts_anew_waits_with_what_failed_before_and_not_with_anything_else() {
    let world = World::new();
    let nic = failed_and_killed(&world);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    agent.wait_cycles(3.0);
    assert!(agent.logged("interface configured").is_none() && !world.is_configured(&nic), "{}", agent.log());
    let error = world.database.written(&nic).error.unwrap();
    assert!(error.starts_with("ApplyFailed: "), "{error}");
    // Another content is tried at once, and then nothing is held any more.
    let other = nic.clone().mtu(1400);
    world.database.publish(std::slice::from_ref(&other), &[]);
    world.wait_configured(&other);
    wait_until(|| format!("{:#}", state(&world)), || state(&world)["failures"].is_null());
}

#[test]
fn a_boot_and_whoever_asks_for_one_pass_try_at_once() {
    let world = World::new();
    let nic = failed_and_killed(&world);
    change_state(&world, |state| state["failures"]["boot"] = json!("another one"));
    let agent = Agent::start_ready(&world, &[OFTEN]);
    world.wait_configured(&nic);
    drop(agent);

    let world = World::new();
    let nic = failed_and_killed(&world);
    once(&world, &[], 0);
    assert!(world.is_configured(&nic));
}
