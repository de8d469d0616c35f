//! SIGTERM, at rest and in the middle of a change.

use nix::sys::signal::Signal;

use crate::agent::{Agent, OFTEN, SELDOM};
use crate::database::nic;
use crate::world::{World, wait_until};

#[test]
fn sigterm_at_rest_ends_with_code_0() {
    let world = World::new();
    let nic = nic(0);
    let (agent, _) = Agent::with_configured(&world, &nic, &[SELDOM]);
    let guard = world.guard(&[]);
    assert_eq!(agent.stop().code(), Some(0));
    guard.assert_untouched(&world);
}

#[test]
fn sigterm_while_the_database_is_down_ends_with_code_0() {
    let world = World::new();
    world.database.sql("DROP TABLE multi_interface");
    let agent = Agent::start(&world, &[OFTEN]);
    agent.wait_cycles(1.0);
    assert_eq!(agent.stop().code(), Some(0));
}

#[test]
fn sigterm_in_the_middle_of_a_change_finishes_it_and_begins_no_other() {
    let world = World::new();
    let (first, second) = (nic(0), nic(1));
    world.plug(&first);
    world.plug(&second);
    world.database.publish(&[first.clone(), second.clone()], &[]);
    let guard = world.guard(&[&first]);
    let mut agent = Agent::start(&world, &[SELDOM, ("MULTINIC_FAULT", "step.rename=stop")]);
    wait_until(|| agent.log(), || agent.is_stopped());
    agent.signal(Signal::SIGTERM);
    agent.signal(Signal::SIGCONT);
    assert_eq!(agent.wait().code(), Some(0));
    assert!(world.is_configured(&first));
    world.assert_journal_empty();
    guard.assert_untouched(&world);
}

#[test]
fn sigterm_in_the_middle_of_a_change_that_fails_rolls_it_back() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let before = world.seen(&nic);
    let guard = world.guard(&[&nic]);
    let fault = ("MULTINIC_FAULT", "step.rename=stop,step.set_up=fail");
    let mut agent = Agent::start(&world, &[SELDOM, fault]);
    wait_until(|| agent.log(), || agent.is_stopped());
    agent.signal(Signal::SIGTERM);
    agent.signal(Signal::SIGCONT);
    assert_eq!(agent.wait().code(), Some(0));
    assert_eq!(world.seen(&nic), before);
    assert!(!world.file(0).exists());
    world.assert_journal_empty();
    guard.assert_untouched(&world);
}
