//! When a NIC is taken away, and above all when not.

use rtnetlink::packet_route::route::RouteProtocol;

use crate::agent::{Agent, OFTEN, once};
use crate::database::{Nic, nic};
use crate::links;
use crate::world::{World, wait_until};

/// Every absence is believed at once, so that only what the test is about holds a NIC.
const CREDULOUS: [(&str, &str); 3] = [OFTEN, ("ABSENCE_CONFIRM", "0s"), ("ABSENCE_CONFIRM_ALL", "0s")];
/// More reads than the rules ask for.
const MANY_READS: f64 = 8.0;

/// A node with two NICs that are configured.
fn world_with_two() -> (World, Nic, Nic) {
    let world = World::new();
    let (first, second) = (nic(0), nic(1));
    world.plug(&first);
    world.plug(&second);
    world.database.publish(&[first.clone(), second.clone()], &[]);
    once(&world, &[], 0);
    assert!(world.is_configured(&first) && world.is_configured(&second));
    (world, first, second)
}

/// That many reads later, nothing at all has changed.
#[track_caller]
fn assert_nothing_happens(world: &World, variables: &[(&str, &str)]) -> Agent {
    let guard = world.guard(&[]);
    let agent = Agent::start(world, variables);
    agent.wait_cycles(MANY_READS);
    guard.assert_untouched(world);
    agent
}

#[test]
fn a_tombstone_gives_the_nic_back_and_is_reported() {
    let (world, gone, stays) = world_with_two();
    let guard = world.guard(&[&gone]);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    world.database.publish(std::slice::from_ref(&stays), std::slice::from_ref(&gone));
    wait_until(|| format!("{:?}", world.seen(&gone)), || world.is_given_back(&gone));
    wait_until(|| agent.log(), || world.database.unreleased() == 0);
    assert!(world.is_configured(&stays));
    assert_eq!(agent.metric("multinic_orphaned_interfaces_deleted_total"), 1.0);
    assert_eq!(agent.document()["deleted_interfaces"], 1);
    guard.assert_untouched(&world);
}

#[test]
fn a_tombstone_of_a_nic_that_was_unplugged_removes_its_file_and_is_reported() {
    let (world, gone, stays) = world_with_two();
    let agent = Agent::start_ready(&world, &[OFTEN]);
    world.switch.unplug(gone.mac.parse().unwrap()).unwrap();
    world.database.publish(std::slice::from_ref(&stays), std::slice::from_ref(&gone));
    wait_until(|| agent.log(), || world.database.unreleased() == 0);
    assert!(!world.file(0).exists());
}

#[test]
fn a_nic_that_is_plugged_again_gets_its_configuration_back() {
    let (world, first, second) = world_with_two();
    let agent = Agent::start_ready(&world, &[OFTEN]);
    world.switch.unplug(first.mac.parse().unwrap()).unwrap();
    agent.wait_cycles(2.0);
    world.plug(&first);
    world.wait_configured(&first);
    assert!(world.is_configured(&second));
}

#[test]
fn an_absence_that_is_confirmed_over_time_gives_the_nic_back() {
    let (world, gone, stays) = world_with_two();
    let guard = world.guard(&[&gone]);
    let agent = Agent::start_ready(&world, &[OFTEN, ("ABSENCE_CONFIRM", "1s")]);
    world.database.sql(&format!("DELETE FROM multi_interface WHERE macaddress = '{}'", gone.mac));
    wait_until(|| agent.log(), || world.is_given_back(&gone));
    assert!(world.is_configured(&stays));
    guard.assert_untouched(&world);
}

#[test]
fn an_absence_of_all_needs_longer_than_that_of_one() {
    let (world, ..) = world_with_two();
    world.database.sql("DELETE FROM multi_interface");
    let variables = [OFTEN, ("ABSENCE_CONFIRM", "0s"), ("ABSENCE_CONFIRM_ALL", "1h")];
    assert_nothing_happens(&world, &variables);
}

#[test]
fn an_absence_of_all_that_is_confirmed_over_time_gives_all_back() {
    let (world, first, second) = world_with_two();
    world.database.sql("DELETE FROM multi_interface");
    let agent = Agent::start_ready(&world, &CREDULOUS);
    wait_until(|| agent.log(), || world.is_given_back(&first) && world.is_given_back(&second));
}

#[test]
fn a_read_that_fails_deletes_nothing() {
    let (world, ..) = world_with_two();
    world.database.sql("ALTER TABLE multi_interface RENAME TO elsewhere");
    let agent = assert_nothing_happens(&world, &CREDULOUS);
    assert!(agent.metric("multinic_polling_backoff_level") >= 1.0);
    assert_eq!(agent.metric("multinic_db_connection_status"), 0.0);
}

#[test]
fn failed_reads_between_two_absences_start_the_clock_again() {
    let (world, gone, _) = world_with_two();
    let agent = Agent::start_ready(&world, &[OFTEN, ("ABSENCE_CONFIRM", "1h")]);
    world.database.sql(&format!("DELETE FROM multi_interface WHERE macaddress = '{}'", gone.mac));
    agent.wait_cycles(2.0);
    world.database.sql("ALTER TABLE multi_interface RENAME TO elsewhere");
    agent.wait_cycles(2.0);
    world.database.sql("ALTER TABLE elsewhere RENAME TO multi_interface");
    agent.wait_cycles(2.0);
    assert!(world.is_configured(&gone));
}

#[test]
fn an_empty_read_deletes_nothing() {
    let (world, ..) = world_with_two();
    world.database.sql("DELETE FROM multi_interface");
    assert_nothing_happens(&world, &[OFTEN]);
}

#[test]
fn a_partial_read_deletes_nothing() {
    let (world, gone, _) = world_with_two();
    world.database.sql(&format!("DELETE FROM multi_interface WHERE macaddress = '{}'", gone.mac));
    assert_nothing_happens(&world, &[OFTEN]);
}

#[test]
fn a_row_whose_mac_cannot_be_read_may_be_any_nic_and_deletes_none() {
    let (world, gone, _) = world_with_two();
    world
        .database
        .sql(&format!("UPDATE multi_interface SET macaddress = '?' WHERE macaddress = '{}'", gone.mac));
    assert_nothing_happens(&world, &CREDULOUS);
}

#[test]
fn a_stale_read_is_not_used_even_after_a_restart() {
    let world = World::new();
    let (first, second) = (nic(0), nic(1));
    world.plug(&first);
    world.plug(&second);
    world.database.publish(std::slice::from_ref(&first), &[]);
    let past = world.database.snapshot();
    world.database.publish(&[first.clone(), second.clone()], &[]);
    once(&world, &[], 0);
    world.database.restore(&past);
    let agent = assert_nothing_happens(&world, &CREDULOUS);
    assert_eq!(agent.get("/").0, 503);
    once_is_refused(&world);
}

#[test]
fn a_publication_for_another_node_is_not_written_down() {
    let (world, first, second) = world_with_two();
    let agent = Agent::start_ready(&world, &[OFTEN]);
    let state = world.root().join("var/lib/multinic/state.json");
    let before = std::fs::read(&state).unwrap();
    let elsewhere = Nic { node: "worker-9", ..nic(7) };
    world.database.publish(&[first, second, elsewhere], &[]);
    agent.wait_cycles(MANY_READS);
    assert_eq!(std::fs::read(&state).unwrap(), before);
}

fn once_is_refused(world: &World) {
    // The agent that runs holds the node; a node of its own state would be a different test.
    let output = crate::agent::run(world, &["plan"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("older"), "{output:?}");
}

#[test]
fn a_database_that_was_made_anew_deletes_nothing_until_the_controller_publishes_to_it() {
    let (world, gone, stays) = world_with_two();
    world.database.sql("UPDATE multinic_meta SET value = 'another' WHERE name = 'epoch'");
    world.database.sql(&format!("DELETE FROM multi_interface WHERE macaddress = '{}'", gone.mac));
    let agent = assert_nothing_happens(&world, &CREDULOUS);
    world.database.publish(&[stays.clone().mtu(1440)], &[]);
    wait_until(|| agent.log(), || world.is_given_back(&gone));
}

#[test]
fn a_wrong_node_name_deletes_nothing_and_is_said() {
    let (world, ..) = world_with_two();
    let variables = [&CREDULOUS[..], &[("NODE_NAME", "worker-2")]].concat();
    let agent = assert_nothing_happens(&world, &variables);
    assert!(agent.log().contains("does not know a node of this name"));
}

#[test]
fn a_nic_that_carries_a_default_route_by_now_is_not_given_up() {
    let (world, gone, stays) = world_with_two();
    let link = world.seen(&gone).unwrap().index;
    links::add_default(&world.node, link, "10.77.0.1", 50, RouteProtocol::Static);
    world.database.publish(std::slice::from_ref(&stays), std::slice::from_ref(&gone));
    let guard = world.guard(&[]);
    once(&world, &[], 2);
    guard.assert_untouched(&world);
}
