//! What becomes of the NICs when the object goes, and when another comes in its place.

use serde_json::json;

use crate::agent::{OFTEN, SELDOM};
use crate::cluster::{Cluster, wait_long};
use crate::database::{Nic, nic};
use crate::world::{World, wait_until};

/// Absences are confirmed at once, so that what is held is held for another reason.
const CREDULOUS: [(&str, &str); 3] = [OFTEN, ("ABSENCE_CONFIRM", "0s"), ("ABSENCE_CONFIRM_ALL", "0s")];
/// So many reads that an absence would long be confirmed.
const MANY_READS: f64 = 12.0;

/// A node with two NICs as its object asks.
fn configured(
    world: &World,
    cluster: &Cluster<'_>,
    variables: &[(&str, &str)],
) -> (crate::agent::Agent, Nic, Nic) {
    let (first, second) = (nic(0), nic(1));
    world.plug(&first);
    world.plug(&second);
    cluster.apply(&[first.clone(), second.clone()]);
    let agent = cluster.start(world, variables);
    world.wait_configured(&first);
    world.wait_configured(&second);
    cluster.wait_ready("True", "Configured");
    (agent, first, second)
}

#[test]
fn a_deleted_object_waits_until_everything_is_taken_away() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (_agent, first, second) = configured(&world, &cluster, &[SELDOM]);
    wait_until(|| "the label is there".to_owned(), || cluster.keys().0.is_some());
    let guard = world.guard(&[&first, &second]);
    cluster.delete();
    wait_until(|| format!("{:?}", cluster.object()), || cluster.object().is_none());
    assert!(world.is_given_back(&first) && world.is_given_back(&second));
    assert_eq!(cluster.keys(), (None, None));
    cluster.wait_event("CleanedUp");
    world.assert_journal_empty();
    guard.assert_untouched(&world);
}

#[test]
fn an_object_that_was_deleted_while_the_agent_was_away_is_cleaned_up_by_the_next() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (agent, first, second) = configured(&world, &cluster, &[SELDOM]);
    assert!(agent.stop().success());
    // Ending the agent takes nothing away.
    assert!(world.is_configured(&first) && world.is_configured(&second));
    cluster.delete();
    assert!(cluster.object().unwrap()["metadata"]["deletionTimestamp"].is_string());
    let _agent = cluster.start(&world, &[SELDOM]);
    wait_until(|| format!("{:?}", cluster.object()), || cluster.object().is_none());
    assert!(world.is_given_back(&first) && world.is_given_back(&second));
}

#[test]
fn an_object_that_was_stripped_of_our_finalizer_and_deleted_is_no_evidence() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (agent, first, second) = configured(&world, &cluster, &[SELDOM]);
    assert!(agent.stop().success());
    cluster.strip_and_delete();
    assert_eq!(cluster.object(), None);
    let guard = world.guard(&[]);
    let agent = cluster.start(&world, &CREDULOUS);
    agent.wait_cycles(MANY_READS);
    assert!(world.is_configured(&first) && world.is_configured(&second));
    wait_until(
        || format!("{:?}", cluster.keys()),
        || cluster.keys().1.is_some_and(|list| list[0]["state"] == "Held" && list[1]["state"] == "Held"),
    );
    guard.assert_untouched(&world);
}

#[test]
fn an_object_that_goes_as_an_orphan_leaves_everything() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (agent, first, second) = configured(&world, &cluster, &CREDULOUS);
    let guard = world.guard(&[]);
    cluster.patch(json!({"metadata": {"annotations": {"multinic.io/orphan": "true"}}}));
    cluster.delete();
    wait_until(|| format!("{:?}", cluster.object()), || cluster.object().is_none());
    agent.wait_cycles(MANY_READS);
    assert!(world.is_configured(&first) && world.is_configured(&second));
    guard.assert_untouched(&world);
}

#[test]
fn a_new_object_adds_at_once_and_removes_only_what_was_absent_for_long() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (agent, gone, stays) = configured(&world, &cluster, &[SELDOM]);
    assert!(agent.stop().success());
    cluster.strip_and_delete();
    let (new, changed) = (nic(2), stays.mtu(1400));
    world.plug(&new);
    cluster.apply(&[changed.clone(), new.clone()]);

    let agent = cluster.start(&world, &[OFTEN, ("ABSENCE_CONFIRM", "1h")]);
    world.wait_configured(&new);
    world.wait_configured(&changed);
    agent.wait_cycles(MANY_READS);
    assert!(world.is_configured(&gone));
    cluster.wait_event("InterfaceHeld");
    let ready = cluster.status()["conditions"].as_array().unwrap().clone();
    assert!(ready.iter().any(|one| one["message"].as_str().is_some_and(|text| text.contains(&gone.mac))));
    drop(agent);

    let _agent = cluster.start(&world, &[OFTEN, ("ABSENCE_CONFIRM", "1s")]);
    wait_long(|| format!("{:?}", world.seen(&gone)), || world.is_given_back(&gone));
    assert!(world.is_configured(&new) && world.is_configured(&changed));
}

#[test]
fn a_finalizer_that_somebody_took_away_is_put_back() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (_agent, ..) = configured(&world, &cluster, &[SELDOM]);
    cluster.patch(json!({"metadata": {"finalizers": ["example.com/theirs"]}}));
    wait_until(|| format!("{:?}", cluster.object()), || cluster.is_held());
    // And theirs is theirs.
    cluster.delete();
    wait_until(|| format!("{:?}", cluster.object()), || !cluster.is_held());
    let left = cluster.object().unwrap()["metadata"]["finalizers"].clone();
    assert_eq!(left, json!(["example.com/theirs"]));
    cluster.patch(json!({"metadata": {"finalizers": null}}));
}

#[test]
fn a_nic_that_the_node_needs_by_now_blocks_the_clean_up_and_is_told() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (_agent, needed, other) = configured(&world, &cluster, &[SELDOM]);
    let link = world.seen(&needed).unwrap().index;
    let by = rtnetlink::packet_route::route::RouteProtocol::Static;
    crate::links::add_default(&world.node, link, "10.77.0.1", 50, by);
    cluster.delete();
    wait_until(|| format!("{:?}", world.seen(&other)), || world.is_given_back(&other));
    cluster.wait_event("CleanUpBlocked");
    cluster.wait_ready("False", "CleaningUp");
    assert!(cluster.is_held());
    assert!(world.seen(&needed).unwrap().up);
    cluster.patch(json!({"metadata": {"finalizers": null}}));
}
