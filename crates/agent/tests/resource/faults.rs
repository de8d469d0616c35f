//! The API server goes, comes back, forgets and refuses; the agent is killed: nothing is lost, nothing is taken away.

use std::time::Duration;

use multinic_testbed::kubernetes::{ControlPlane, FaultProxy};
use serde_json::json;

use crate::agent::{self, OFTEN, SELDOM};
use crate::cluster::{Cluster, install, interface, wait_long};
use crate::database::nic;
use crate::links;
use crate::world::{World, wait_until};

/// Absences would be confirmed at once.
const CREDULOUS: [(&str, &str); 3] = [OFTEN, ("ABSENCE_CONFIRM", "0s"), ("ABSENCE_CONFIRM_ALL", "0s")];

#[test]
fn an_api_server_that_is_down_changes_nothing_and_is_caught_up_with() {
    if !ControlPlane::installed() {
        return;
    }
    let world = World::new();
    let mut plane = ControlPlane::start().unwrap();
    install(&plane);
    let (first, second) = (nic(0), nic(1));
    let link = world.plug(&first);
    world.plug(&second);
    let kept = Cluster::on(&plane, &world, None);
    kept.apply(std::slice::from_ref(&first));
    let agent = kept.start(&world, &CREDULOUS);
    world.wait_configured(&first);
    kept.wait_ready("True", "Configured");
    let guard = world.guard(&[&first, &second]);
    let variables: Vec<(String, String)> =
        kept.variables(&[]).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (node, access) = (kept.node.clone(), kept.access.clone());
    let kubeconfig = kept.keep();

    plane.stop();
    wait_long(|| agent.log(), || agent.get("/").0 == 503);
    // It is healthy to wait, and what the node has is kept right meanwhile.
    assert_eq!(agent.get("/livez").0, 200);
    links::remove_address(&world.node, link, "10.77.0.5/24");
    world.wait_configured(&first);
    // One that starts meanwhile does nothing, and does not end.
    assert!(agent.stop().success());
    let borrowed: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(CREDULOUS).collect();
    let agent = agent::Agent::start(&world, &borrowed);
    wait_until(|| agent.log(), || agent.log().contains("the source cannot be read"));
    assert!(world.is_configured(&first));

    plane.restart().unwrap();
    let again = Cluster::again(&plane, node, access, kubeconfig);
    again.apply(&[first.clone(), second.clone()]);
    wait_long(|| agent.log(), || world.is_configured(&second));
    again.wait_ready("True", "Configured");
    wait_until(|| agent.log(), || agent.get("/").0 == 200);
    assert!(world.is_configured(&first));
    guard.assert_untouched(&world);
}

#[test]
fn cut_watches_expired_versions_and_conflicts_only_cost_time() {
    if !ControlPlane::installed() {
        return;
    }
    let world = World::new();
    let plane = ControlPlane::start().unwrap();
    install(&plane);
    let proxy = FaultProxy::start(&plane).unwrap();
    let cluster = Cluster::on(&plane, &world, Some(&proxy));
    proxy.conflict_once(true);
    proxy.limit_watches(Some(Duration::from_millis(20)..Duration::from_millis(500)));
    let nics: Vec<_> = (0..4).map(nic).collect();
    nics.iter().for_each(|nic| {
        world.plug(nic);
    });
    let guard = world.guard(&nics.iter().collect::<Vec<_>>());
    let agent = cluster.start(&world, &CREDULOUS);
    for count in 1..=nics.len() {
        proxy.cut_watches();
        proxy.expire_next("multinicnodeconfigs", 2);
        cluster.apply(&nics[..count]);
        wait_long(|| agent.log(), || nics[..count].iter().all(|nic| world.is_configured(nic)));
    }
    cluster.wait_ready("True", "Configured");
    assert!(cluster.is_held());
    proxy.set_unavailable(true);
    proxy.cut_watches();
    wait_long(|| agent.log(), || agent.get("/").0 == 503);
    proxy.heal();
    wait_long(|| agent.log(), || agent.get("/").0 == 200);
    assert!(nics.iter().all(|nic| world.is_configured(nic)));
    cluster.delete();
    wait_long(|| agent.log(), || cluster.object().is_none());
    assert!(nics.iter().all(|nic| world.is_given_back(nic)));
    guard.assert_untouched(&world);
}

#[test]
fn a_status_that_meets_a_conflict_is_written_again() {
    if !ControlPlane::installed() {
        return;
    }
    let world = World::new();
    let plane = ControlPlane::start().unwrap();
    install(&plane);
    let proxy = FaultProxy::start(&plane).unwrap();
    let cluster = Cluster::on(&plane, &world, Some(&proxy));
    let nic = nic(0);
    world.plug(&nic);
    cluster.apply(std::slice::from_ref(&nic));
    let agent = cluster.start(&world, &[OFTEN]);
    cluster.wait_ready("True", "Configured");
    let observed = || cluster.status()["observedGeneration"].as_i64();
    let before = observed();
    proxy.conflict_once(true);
    // Nothing of it concerns the NIC, so that there is one status to write and no other that follows.
    let mut same = interface(&nic);
    same["networkId"] = "elsewhere".into();
    cluster.patch(json!({ "spec": { "interfaces": [same] } }));
    wait_until(|| agent.log(), || observed() > before);
}

#[test]
fn a_quiet_object_costs_the_api_server_nothing() {
    if !ControlPlane::installed() {
        return;
    }
    let world = World::new();
    let plane = ControlPlane::start().unwrap();
    install(&plane);
    let proxy = FaultProxy::start(&plane).unwrap();
    let cluster = Cluster::on(&plane, &world, Some(&proxy));
    let nic = nic(0);
    world.plug(&nic);
    cluster.apply(std::slice::from_ref(&nic));
    let agent = cluster.start(&world, &[OFTEN]);
    cluster.wait_ready("True", "Configured");
    cluster.wait_event("InterfaceConfigured");
    wait_until(|| format!("{:?}", cluster.keys()), || cluster.keys().0.is_some());
    agent.wait_cycles(2.0);
    proxy.forget();
    agent.wait_cycles(20.0);
    assert_eq!(proxy.counts().len(), 0, "{:?}", proxy.counts());
}

#[test]
fn an_agent_that_is_killed_in_the_middle_is_finished_by_the_next() {
    for point in ["journal.written", "step.rename", "commit.temporary", "commit.written"] {
        let world = World::new();
        let Some(cluster) = Cluster::new(&world) else { return };
        let nic = nic(0);
        world.plug(&nic);
        cluster.apply(std::slice::from_ref(&nic));
        let guard = world.guard(&[&nic]);
        let fault = format!("{point}=kill");
        assert_eq!(cluster.once(&world, &[("MULTINIC_FAULT", &fault)]), None, "killed at {point}");
        let _agent = cluster.start(&world, &[SELDOM]);
        world.wait_configured(&nic);
        cluster.wait_ready("True", "Configured");
        world.assert_journal_empty();
        guard.assert_untouched(&world);
    }
}

#[test]
fn an_agent_that_is_killed_while_it_cleans_up_is_finished_by_the_next() {
    for point in ["journal.written", "step.remove_file", "commit.written"] {
        let world = World::new();
        let Some(cluster) = Cluster::new(&world) else { return };
        let nic = nic(0);
        world.plug(&nic);
        cluster.apply(std::slice::from_ref(&nic));
        assert_eq!(cluster.once(&world, &[]), Some(0));
        cluster.delete();
        let fault = format!("{point}=kill");
        assert_eq!(cluster.once(&world, &[("MULTINIC_FAULT", &fault)]), None, "killed at {point}");
        assert!(cluster.is_held());
        let _agent = cluster.start(&world, &[SELDOM]);
        wait_until(|| format!("{:?}", cluster.object()), || cluster.object().is_none());
        assert!(world.is_given_back(&nic));
        world.assert_journal_empty();
    }
}

#[test]
fn a_definition_that_is_deleted_takes_nothing_away() {
    if !ControlPlane::installed() {
        return;
    }
    let world = World::new();
    let plane = ControlPlane::start().unwrap();
    install(&plane);
    let cluster = Cluster::on(&plane, &world, None);
    let nic = nic(0);
    world.plug(&nic);
    cluster.apply(std::slice::from_ref(&nic));
    let agent = cluster.start(&world, &CREDULOUS);
    cluster.wait_ready("True", "Configured");
    let guard = world.guard(&[]);

    cluster.delete_definition();
    wait_long(|| agent.log(), || agent.log().contains("KindTerminating"));
    assert!(world.is_configured(&nic) && cluster.is_held());
    // Whoever means it lets the objects go; then the definition comes back, and the controller with it.
    cluster.patch(serde_json::json!({"metadata": {"annotations": {"multinic.io/orphan": "true"}}}));
    wait_long(|| agent.log(), || !cluster.is_defined());
    agent.wait_cycles(3.0);
    install(&plane);
    cluster.apply(std::slice::from_ref(&nic));
    wait_long(|| agent.log(), || cluster.is_held() && agent.get("/").0 == 200);
    cluster.wait_ready("True", "Configured");
    assert!(world.is_configured(&nic));
    guard.assert_untouched(&world);
}

#[test]
fn a_namespace_that_is_deleted_takes_nothing_away() {
    if !ControlPlane::installed() {
        return;
    }
    let world = World::new();
    let plane = ControlPlane::start().unwrap();
    install(&plane);
    let cluster = Cluster::on(&plane, &world, None);
    let nic = nic(0);
    world.plug(&nic);
    cluster.apply(std::slice::from_ref(&nic));
    let agent = cluster.start(&world, &CREDULOUS);
    cluster.wait_ready("True", "Configured");
    let guard = world.guard(&[]);

    cluster.delete_namespace();
    cluster.delete();
    wait_long(|| agent.log(), || agent.log().contains("NamespaceTerminating"));
    cluster.wait_event("NamespaceTerminating");
    agent.wait_cycles(3.0);
    assert!(world.is_configured(&nic) && cluster.is_held());
    // Whoever means it lets the objects go.
    cluster.patch(serde_json::json!({"metadata": {"annotations": {"multinic.io/orphan": "true"}}}));
    wait_long(|| agent.log(), || cluster.object().is_none());
    assert!(world.is_configured(&nic));
    guard.assert_untouched(&world);
}
