//! What the object asks for is made so, and told.

use std::fs;
use std::path::Path;
use std::time::Instant;

use multinic_testbed::kubernetes::FaultProxy;
use serde_json::{Value, json};

use crate::agent::{OFTEN, SELDOM};
use crate::cluster::{Cluster, interface, shared};
use crate::database::nic;
use crate::links;
use crate::world::{World, wait_until};

#[test]
fn an_object_that_is_applied_is_configured_and_told() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (first, second) = (nic(0), nic(3));
    world.plug(&first);
    world.plug(&second);
    let guard = world.guard(&[&first, &second]);
    let agent = cluster.start(&world, &[SELDOM]);
    cluster.apply(&[first.clone(), second.clone()]);
    world.wait_configured(&first);
    world.wait_configured(&second);
    cluster.wait_ready("True", "Configured");
    assert!(cluster.is_held());

    let object = cluster.object().unwrap();
    let status = &object["status"];
    assert_eq!(status["state"], "Configured");
    assert_eq!(status["observedGeneration"], object["metadata"]["generation"]);
    assert_eq!(status["observedSpecHash"].as_str().unwrap().len(), 64);
    let seen = world.seen(&second).unwrap();
    let told = &status["interfaceStatuses"][1];
    for (key, value) in [
        ("name", json!("multinic3")),
        ("macAddress", json!(second.mac)),
        ("id", json!(3)),
        ("interfaceIndex", json!(seen.index)),
        ("mtu", json!(second.mtu)),
        ("address", json!("10.77.3.5")),
        ("cidr", json!("10.77.3.5/24")),
        ("status", json!("Configured")),
        ("reason", json!("Configured")),
        ("actualState", json!("Up")),
    ] {
        assert_eq!(told[key], value, "{key}: {told:#}");
    }
    wait_until(|| format!("{:?}", cluster.keys()), || cluster.keys().0.as_deref() == Some("2"));
    let list = cluster.keys().1.unwrap();
    assert_eq!(list[0]["name"], "multinic0");
    assert_eq!(list[0]["port"], "port-0");
    cluster.wait_event("InterfaceConfigured");
    assert_eq!(agent.document()["processed_vms"], 2);
    guard.assert_untouched(&world);
}

#[test]
fn a_status_is_written_once_and_not_again() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let nic = nic(0);
    world.plug(&nic);
    cluster.apply(std::slice::from_ref(&nic));
    let agent = cluster.start(&world, &[OFTEN]);
    cluster.wait_ready("True", "Configured");
    assert_eq!(cluster.condition("BackendDetected"), Some(("True".to_owned(), "Netplan".to_owned())));
    cluster.wait_event("InterfaceConfigured");
    let version = || cluster.object().unwrap()["metadata"]["resourceVersion"].clone();
    let before = version();
    agent.wait_cycles(10.0);
    drop(agent);
    // Another process finds what the first one told.
    let agent = cluster.start(&world, &[OFTEN]);
    agent.wait_cycles(10.0);
    assert_eq!(version(), before);
    assert_eq!(cluster.events().len(), 1, "{:?}", cluster.events());
}

#[test]
fn changes_that_come_one_after_another_are_told_together() {
    let world = World::new();
    let Some(plane) = shared() else { return };
    let proxy = FaultProxy::start(plane).unwrap();
    let cluster = Cluster::on(plane, &world, Some(&proxy));
    let first = nic(0);
    world.plug(&first);
    cluster.apply(std::slice::from_ref(&first));
    let _agent = cluster.start(&world, &[SELDOM]);
    cluster.wait_ready("True", "Configured");
    proxy.forget();
    let begun = Instant::now();
    for last in 10..30 {
        let changed = first.clone().addresses(&[&format!("10.77.0.{last}/24")]);
        cluster.apply(std::slice::from_ref(&changed));
        world.wait_configured(&changed);
    }
    cluster.wait_ready("True", "Configured");
    let written = proxy.count("patch", "multinicnodeconfigs/status");
    // One a second, and those of the beginning and of the end.
    let most = begun.elapsed().as_secs() + 2;
    assert!((1..=most).contains(&(written as u64)), "{written} in {most} s");
}

#[test]
fn a_changed_spec_is_applied_by_its_event() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (old, other) = (nic(0), nic(1));
    world.plug(&old);
    world.plug(&other);
    cluster.apply(&[old.clone(), other.clone()]);
    let _agent = cluster.start(&world, &[SELDOM]);
    world.wait_configured(&old);
    world.wait_configured(&other);
    let untouched = world.guard(&[&old]);
    let new = old.addresses(&["10.99.0.7/16", "fd99::7/64"]).mtu(1400);
    cluster.apply(&[new.clone(), other]);
    world.wait_configured(&new);
    cluster.wait_ready("True", "Configured");
    let told = &cluster.status()["interfaceStatuses"][0];
    assert_eq!((&told["mtu"], &told["cidr"]), (&json!(1400), &json!("10.99.0.7/16")));
    untouched.assert_untouched(&world);
}

#[test]
fn an_interface_that_is_not_listed_any_more_is_taken_away_at_once() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (gone, stays) = (nic(0), nic(1));
    world.plug(&gone);
    world.plug(&stays);
    cluster.apply(&[gone.clone(), stays.clone()]);
    let _agent = cluster.start(&world, &[SELDOM]);
    world.wait_configured(&gone);
    world.wait_configured(&stays);
    let guard = world.guard(&[&gone]);
    cluster.apply(std::slice::from_ref(&stays));
    wait_until(|| format!("{:?}", world.seen(&gone)), || world.is_given_back(&gone));
    cluster.wait_event("InterfaceRemoved");
    assert_eq!(cluster.status()["interfaceStatuses"].as_array().unwrap().len(), 1);
    wait_until(|| format!("{:?}", cluster.keys()), || cluster.keys().0.as_deref() == Some("1"));
    assert!(world.is_configured(&stays));
    guard.assert_untouched(&world);
}

#[test]
fn an_invalid_interface_fails_with_its_reason_beside_a_good_one() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let (bad, good) = (nic(0), nic(1));
    world.plug(&bad);
    world.plug(&good);
    cluster.apply(&[bad.clone(), good.clone()]);
    let _agent = cluster.start(&world, &[SELDOM]);
    world.wait_configured(&bad);
    world.wait_configured(&good);
    let guard = world.guard(&[]);
    let mut broken = interface(&bad);
    broken.as_object_mut().unwrap().remove("mtu");
    cluster.apply_spec(&json!({"nodeName": cluster.node, "interfaces": [broken, interface(&good)]}));
    cluster.wait_ready("False", "InvalidInterface");
    let status = cluster.status();
    assert_eq!(status["state"], "Failed");
    assert_eq!(status["interfaceStatuses"][0]["status"], "Failed");
    assert_eq!(status["interfaceStatuses"][0]["message"], "mtu: there is none");
    assert_eq!(status["interfaceStatuses"][1]["status"], "Configured");
    assert_eq!(cluster.condition("Stalled").unwrap().0, "True");
    cluster.wait_event("InterfaceFailed");
    // Never a deletion: it is as it was.
    assert!(world.is_configured(&bad) && world.is_configured(&good));
    guard.assert_untouched(&world);
}

#[test]
fn a_nic_that_is_not_there_yet_is_waited_for() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let nic = nic(0);
    cluster.apply(std::slice::from_ref(&nic));
    let _agent = cluster.start(&world, &[SELDOM]);
    cluster.wait_ready("False", "Waiting");
    assert_eq!(cluster.status()["state"], "InProgress");
    assert_eq!(cluster.condition("Reconciling").unwrap().0, "True");
    world.plug(&nic);
    world.wait_configured(&nic);
    cluster.wait_ready("True", "Configured");
    assert_eq!(cluster.condition("Reconciling"), None);
}

#[test]
fn a_missing_address_is_a_link_that_is_up_without_one() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let nic = nic(2).addresses(&[]);
    world.plug(&nic);
    let bare = json!({"macAddress": nic.mac, "id": 2, "mtu": nic.mtu});
    cluster.apply_spec(&json!({"nodeName": cluster.node, "interfaces": [bare]}));
    let _agent = cluster.start(&world, &[SELDOM]);
    world.wait_configured(&nic);
    cluster.wait_ready("True", "Configured");
}

#[test]
fn drift_is_repaired_by_its_event_and_without_the_api() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let nic = nic(0);
    let link = world.plug(&nic);
    cluster.apply(std::slice::from_ref(&nic));
    let agent = cluster.start(&world, &[SELDOM]);
    world.wait_configured(&nic);
    let cycles = agent.metric("multinic_polling_cycles_total");
    links::remove_address(&world.node, link, "10.77.0.5/24");
    world.wait_configured(&nic);
    links::set_down(&world.node, link);
    world.wait_configured(&nic);
    assert!(agent.metric("multinic_polling_cycles_total") <= cycles + 1.0);
}

#[test]
fn nothing_listens_on_the_nics_that_are_configured() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let nic = nic(0);
    world.plug(&nic);
    cluster.apply(std::slice::from_ref(&nic));
    let agent =
        cluster.start(&world, &[SELDOM, ("HEALTH_ADDR", ""), ("NODE_IP", crate::world::UPLINK_ADDRESS)]);
    world.wait_configured(&nic);
    let served = agent.lines().into_iter().filter(|line| line["msg"] == "health and metrics are served");
    let addresses: Vec<String> = served.map(|line| line["address"].as_str().unwrap().to_owned()).collect();
    let port = addresses[0].rsplit(':').next().unwrap().to_owned();
    assert_eq!(addresses, [format!("127.0.0.1:{port}"), format!("{}:{port}", crate::world::UPLINK_ADDRESS)]);
    let connect = |ip: &str| {
        let address = format!("{ip}:{port}");
        world.node.run(|| std::net::TcpStream::connect(&address).is_ok()).unwrap()
    };
    assert!(connect("127.0.0.1") && connect(crate::world::UPLINK_ADDRESS));
    assert!(!connect("10.77.0.5"));
}

/// The spec of a manifest as users of the older programs have it, for this node.
fn manifest(cluster: &Cluster<'_>, name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/tests/manifests");
    let text = fs::read_to_string(folder.join(name)).unwrap();
    let mut spec = serde_saphyr::from_str::<Value>(&text).unwrap()["spec"].take();
    spec["nodeName"] = json!(cluster.node);
    // Of another machine.
    spec.as_object_mut().unwrap().remove("instanceId");
    spec
}

#[test]
fn a_manifest_from_before_names_is_carried_out() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let first = nic(1).addresses(&["10.0.0.10/24"]).mtu(1500);
    let second = nic(2).addresses(&["10.0.1.10/24"]).mtu(9000);
    world.plug(&first);
    world.plug(&second);
    let _agent = cluster.start(&world, &[SELDOM]);
    // Its ids begin with one, and a cidr is the address with its prefix.
    cluster.apply_spec(&manifest(&cluster, "node-unnamed.yaml"));
    world.wait_configured(&first);
    world.wait_configured(&second);
    cluster.wait_ready("True", "Configured");
}

#[test]
fn a_manifest_of_the_older_programs_is_carried_out_as_far_as_it_can_be() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let mut named = nic(1).addresses(&["10.0.0.10/24"]).mtu(1450);
    named.slot = 0;
    world.plug(&named);
    world.plug(&nic(2));
    let _agent = cluster.start(&world, &[SELDOM]);
    // One of its two has an MTU with which there is no IPv6.
    cluster.apply_spec(&manifest(&cluster, "node-full.yaml"));
    world.wait_configured(&named);
    cluster.wait_ready("False", "InvalidInterface");
    let told = cluster.status()["interfaceStatuses"][1].clone();
    assert_eq!((&told["macAddress"], &told["status"]), (&json!(nic(2).mac), &json!("Failed")));
    assert!(told["message"].as_str().unwrap().contains("1280"), "{told}");
    // The least that there can be lacks an MTU, which takes no NIC away.
    cluster.apply_spec(&manifest(&cluster, "node-minimal.yaml"));
    let missing = || cluster.status()["interfaceStatuses"][0]["message"] == "mtu: there is none";
    wait_until(|| cluster.status().to_string(), missing);
    assert!(world.is_configured(&named));
}
