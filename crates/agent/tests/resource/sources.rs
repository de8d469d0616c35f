//! From one source to the other on a live node: nothing goes until the new one has said so.

use crate::agent::{self, Agent, OFTEN};
use crate::cluster::Cluster;
use crate::database::nic;
use crate::world::{World, wait_until};

/// Absences are confirmed at once.
const CREDULOUS: [(&str, &str); 3] = [OFTEN, ("ABSENCE_CONFIRM", "0s"), ("ABSENCE_CONFIRM_ALL", "0s")];
const MANY_READS: f64 = 12.0;

#[test]
fn from_a_database_to_an_object_and_back_nothing_goes_without_evidence() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (first, second) = (nic(0), nic(1));
    world.plug(&first);
    world.plug(&second);
    world.database.publish(&[first.clone(), second.clone()], &[]);
    agent::once(&world, &[], 0);
    assert!(world.is_configured(&first) && world.is_configured(&second));

    // There is no object, then there is one that names less, and then that one goes.
    let guard = world.guard(&[]);
    let object = cluster.start(&world, &CREDULOUS);
    object.wait_cycles(MANY_READS);
    assert!(world.is_configured(&first) && world.is_configured(&second));
    cluster.apply(std::slice::from_ref(&first));
    cluster.wait_ready("True", "Configured");
    object.wait_cycles(MANY_READS);
    assert!(world.is_configured(&second));
    cluster.wait_event("InterfaceHeld");
    guard.assert_untouched(&world);
    assert!(object.stop().success());

    // A database that knows the node without any NIC, and one that knows it no more.
    let guard = world.guard(&[]);
    for lost in ["DELETE FROM multi_interface", "DELETE FROM node_table"] {
        world.database.sql(lost);
        let database = Agent::start_ready(&world, &CREDULOUS);
        database.wait_cycles(MANY_READS);
        assert!(world.is_configured(&first) && world.is_configured(&second), "{lost}");
        assert!(database.stop().success());
    }
    guard.assert_untouched(&world);
}

#[test]
fn what_the_object_names_after_the_move_is_the_object_s_to_take_away() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (first, second) = (nic(0), nic(1));
    world.plug(&first);
    world.plug(&second);
    world.database.publish(&[first.clone(), second.clone()], &[]);
    agent::once(&world, &[], 0);
    cluster.apply(&[first.clone(), second.clone()]);
    let _agent = cluster.start(&world, &[OFTEN]);
    cluster.wait_ready("True", "Configured");
    cluster.apply(std::slice::from_ref(&first));
    wait_until(|| format!("{:?}", world.seen(&second)), || world.is_given_back(&second));
    assert!(world.is_configured(&first));
}
