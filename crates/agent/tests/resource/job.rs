//! `RUN_MODE=job` and `AGENT_ACTION=cleanup`.

use std::fs;

use serde_json::{Value, json};

use crate::agent::{self, SELDOM};
use crate::cluster::{Cluster, interface};
use crate::database::nic;
use crate::world::{World, wait_until};

/// Runs a job; its exit code and what it left behind.
fn job(world: &World, cluster: &Cluster<'_>, more: &[(&str, &str)]) -> (Option<i32>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("termination-log");
    fs::write(&log, "").unwrap();
    let mut variables = cluster.variables(&[("RUN_MODE", "job"), ("TERMINATION_LOG", log.to_str().unwrap())]);
    variables.extend_from_slice(more);
    let output = agent::run(world, &[], &variables);
    let message = fs::read_to_string(&log).unwrap();
    assert!(message.len() <= 4096);
    (output.status.code(), serde_json::from_str(&message).unwrap_or_default())
}

#[test]
fn a_job_makes_one_pass_and_leaves_a_message() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (first, second) = (nic(0), nic(1));
    world.plug(&first);
    world.plug(&second);
    cluster.apply(&[first.clone(), second.clone()]);
    let (code, message) = job(&world, &cluster, &[]);
    assert_eq!(code, Some(0), "{message:#}");
    assert!(world.is_configured(&first) && world.is_configured(&second));
    assert_eq!(
        (&message["processed"], &message["failed"], &message["total"]),
        (&json!(2), &json!(0), &json!(2))
    );
    assert_eq!(message["node"], json!(cluster.node));
    assert_eq!(message["results"][1]["name"], "multinic1");
    assert_eq!(message["failures"], Value::Null);
    // Its status is written before it ends.
    assert_eq!(cluster.condition("Ready").unwrap().0, "True");

    cluster.apply(std::slice::from_ref(&first));
    let (code, message) = job(&world, &cluster, &[]);
    assert_eq!((code, &message["deleted_total"]), (Some(0), &json!(1)));
    assert!(world.is_given_back(&second));
}

#[test]
fn a_job_succeeds_partly_unless_that_is_not_wanted() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (good, bad) = (nic(0), nic(1));
    world.plug(&good);
    world.plug(&bad);
    let mut broken = interface(&bad);
    broken.as_object_mut().unwrap().remove("mtu");
    cluster.apply_spec(&json!({"nodeName": cluster.node, "interfaces": [interface(&good), broken]}));
    let (code, message) = job(&world, &cluster, &[]);
    assert_eq!((code, &message["failed"]), (Some(0), &json!(1)));
    assert_eq!(message["failures"][0]["mac"], json!(bad.mac));
    assert_eq!(message["failures"][0]["errorType"], "validation");
    assert!(message["failures"][0]["reason"].as_str().unwrap().contains("mtu"));
    let strict = [("JOB_COMPLETE_ON_PARTIAL_FAILURE", "false")];
    assert_eq!(job(&world, &cluster, &strict).0, Some(1));
    assert!(world.is_configured(&good));

    let mut broken = interface(&bad);
    broken.as_object_mut().unwrap().remove("mtu");
    cluster.apply_spec(&json!({"nodeName": cluster.node, "interfaces": [broken]}));
    assert_eq!(job(&world, &cluster, &[]).0, Some(1), "all failed");
}

#[test]
fn a_job_without_an_object_fails_and_takes_nothing_away() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    assert_eq!(job(&world, &cluster, &[]).0, Some(1));
}

#[test]
fn a_clean_up_job_takes_everything_away_and_lets_the_object_go() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (first, second) = (nic(0), nic(1));
    world.plug(&first);
    world.plug(&second);
    cluster.apply(&[first.clone(), second.clone()]);
    let agent = cluster.start(&world, &[SELDOM]);
    cluster.wait_ready("True", "Configured");
    wait_until(|| "the label is there".to_owned(), || cluster.keys().0.is_some());
    assert!(agent.stop().success());
    cluster.delete();
    let guard = world.guard(&[&first, &second]);
    let (code, message) = job(&world, &cluster, &[("AGENT_ACTION", "cleanup")]);
    assert_eq!((code, &message["deleted_total"]), (Some(0), &json!(2)));
    assert!(world.is_given_back(&first) && world.is_given_back(&second));
    assert_eq!(cluster.keys(), (None, None));
    assert_eq!(cluster.object(), None);
    guard.assert_untouched(&world);
}
