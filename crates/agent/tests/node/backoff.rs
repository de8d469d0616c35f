//! What failed is not tried again at once, whoever was killed in between.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::agent::{Agent, OFTEN, SELDOM, once};
use crate::database::{Nic, nic};
use crate::world::{World, wait_until};

const FAILING: (&str, &str) = ("MULTINIC_FAULT", "step.set_up=fail");
const DYING: (&str, &str) = ("MULTINIC_FAULT", "step.set_up=kill");

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
    wait_until(|| agent.log(), || failures(world, &nic) >= 1);
    agent.signal(Signal::SIGKILL);
    agent.wait();
    next_attempt_is_far_away(world, &nic);
    nic
}

/// How often in a row a change to a NIC failed, as the node remembers it.
fn failures(world: &World, nic: &Nic) -> u64 {
    state(world)["failures"]["nics"][&nic.mac]["count"].as_u64().unwrap_or_default()
}

/// As after very many attempts.
fn next_attempt_is_far_away(world: &World, nic: &Nic) {
    change_state(world, |state| state["failures"]["nics"][&nic.mac]["count"] = json!(30));
}

#[test]
fn an_agent_that_starts_anew_waits_with_what_failed_before_and_not_with_anything_else() {
    let world = World::new();
    let nic = failed_and_killed(&world);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    agent.wait_cycles(3.0);
    assert!(agent.logged("interface configured").is_none() && !world.is_configured(&nic), "{}", agent.log());
    let error = world.database.written(&nic).error.unwrap();
    assert!(error.starts_with("RolledBack: "), "{error}");
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

#[test]
fn what_was_undone_because_the_agent_died_waits_longer_after_each_death_and_is_told() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    // Each finds what the one before it left, and dies of the same.
    for deaths in 0..3 {
        let mut agent = Agent::start(&world, &[OFTEN, DYING]);
        assert_eq!(agent.wait().signal(), Some(9), "{}", agent.log());
        assert_eq!(failures(&world, &nic), deaths);
    }
    next_attempt_is_far_away(&world, &nic);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    agent.wait_cycles(3.0);
    assert!(agent.logged("interface configured").is_none() && !world.is_configured(&nic), "{}", agent.log());
    let error = world.database.written(&nic).error.unwrap();
    assert!(error.starts_with("RolledBack: undone because the agent ended in the middle of it"), "{error}");
    let held = |reason| agent.metric(&format!("multinic_rolled_back_interfaces{{reason=\"{reason}\"}}"));
    assert!(held("agent_ended") == 1.0 && held("failed") == 0.0);
    // Another content is tried at once.
    let other = nic.clone().mtu(1400);
    world.database.publish(std::slice::from_ref(&other), &[]);
    world.wait_configured(&other);
    wait_until(|| agent.log(), || held("agent_ended") == 0.0);
}

#[test]
fn a_death_in_the_middle_of_a_change_is_waited_for_some_seconds_alone() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let mut agent = Agent::start(&world, &[OFTEN, DYING]);
    assert_eq!(agent.wait().signal(), Some(9), "{}", agent.log());
    // Nothing but the time that has passed has it tried again.
    let _agent = Agent::start_ready(&world, &[SELDOM]);
    world.wait_configured(&nic);
}
