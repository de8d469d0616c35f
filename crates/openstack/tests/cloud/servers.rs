//! Servers by id and by name.

use multinic_core::cloud::Unresolved;
use multinic_core::config::VmRef;
use multinic_core::{ServerId, SubnetId};
use multinic_openstack::CloudError;
use multinic_testbed::cloud_simulator::{Fault, Simulator};

use crate::{client, scene, select};

const SERVERS: &str = "/v2.1/servers";

fn names(names: &[&str]) -> Vec<VmRef> {
    names.iter().map(|name| VmRef::Name((*name).to_owned())).collect()
}

async fn fleet(nodes: usize) -> (Simulator, Vec<ServerId>, SubnetId) {
    let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let fleet = cloud.add_fleet(nodes, 1).unwrap();
    let subnet = fleet.subnets[0].clone();
    (cloud, fleet.servers, subnet)
}

#[tokio::test]
async fn a_name_is_compared_exactly_and_is_no_pattern() {
    let scene = scene().await;
    let wanted = scene.cloud.add_server("a.b");
    for name in ["A.B", "axb", "a.bc"] {
        scene.cloud.add_server(name);
    }
    let snapshot = scene.client().snapshot(&select(names(&["a.b"]), &[&scene.v4])).await.unwrap();
    let ids: Vec<&ServerId> = snapshot.servers.iter().map(|server| &server.id).collect();
    assert_eq!(ids, [&wanted]);
}

#[tokio::test]
async fn names_that_none_or_several_have_are_unresolved() {
    let scene = scene().await;
    let twin = scene.cloud.add_server("worker-1");
    let vms = names(&["worker-1", "worker-2", "worker-3"]);
    let snapshot = scene.client().snapshot(&select(vms, &[&scene.v4])).await.unwrap();
    assert_eq!(snapshot.servers.len(), 1);
    assert_eq!(snapshot.servers[0].id, scene.servers[1]);
    let mut twins = vec![scene.servers[0].clone(), twin];
    twins.sort();
    assert_eq!(snapshot.unresolved[0].vm, "worker-1");
    assert_eq!(snapshot.unresolved[0].why, Unresolved::Ambiguous(twins));
    assert_eq!(snapshot.unresolved[1].why, Unresolved::NotFound);
    assert_eq!(snapshot.ports.len(), 1, "nothing is read of what is unresolved");
}

#[tokio::test]
async fn many_names_are_found_in_one_list_read_to_its_end() {
    let (cloud, servers, subnet) = fleet(30).await;
    cloud.set_page_limit(Some(8));
    let vms: Vec<VmRef> = (0..30).rev().map(|n| VmRef::Name(format!("node-{n:05}"))).collect();
    let twin = cloud.add_server("node-00004");
    let snapshot = client(&cloud.access()).snapshot(&select(vms, &[&subnet])).await.unwrap();
    assert_eq!(snapshot.servers.len(), 29);
    assert_eq!(snapshot.servers[0].id, servers[29], "in the user's order");
    assert!(matches!(&snapshot.unresolved[0].why, Unresolved::Ambiguous(ids) if ids.contains(&twin)));
    assert_eq!(cloud.count(SERVERS), 4);
}

#[tokio::test]
async fn a_full_page_without_a_link_is_not_the_end() {
    let (cloud, _, subnet) = fleet(410).await;
    cloud.inject_always(SERVERS, Fault::NoNextLink);
    let vms = (0..410).map(|n| VmRef::Name(format!("node-{n:05}"))).collect();
    let snapshot = client(&cloud.access()).snapshot(&select(vms, &[&subnet])).await.unwrap();
    assert_eq!((snapshot.servers.len(), snapshot.unresolved.len()), (410, 0));
    assert_eq!(cloud.count(SERVERS), 3);
}

#[tokio::test]
async fn a_server_named_twice_is_one() {
    let scene = scene().await;
    let vms = vec![VmRef::Name("worker-1".to_owned()), VmRef::Id(scene.servers[0].clone())];
    let snapshot = scene.client().snapshot(&select(vms, &[&scene.v4])).await.unwrap();
    assert_eq!((snapshot.servers.len(), snapshot.unresolved.len(), snapshot.ports.len()), (1, 0, 1));
}

#[tokio::test]
async fn a_deleted_server_is_not_found() {
    let scene = scene().await;
    scene.cloud.delete_server(&scene.servers[0]).unwrap();
    let snapshot = scene.snapshot().await.unwrap();
    assert_eq!(snapshot.servers.len(), 1);
    assert_eq!(snapshot.unresolved[0].vm, scene.servers[0].as_str());
    assert_eq!(snapshot.unresolved[0].why, Unresolved::NotFound);
}

#[tokio::test]
async fn a_server_that_cannot_be_read_has_no_name_and_keeps_its_ports() {
    let scene = scene().await;
    let path = format!("{SERVERS}/{}", scene.servers[0]);
    for fault in [Fault::Html(404), Fault::Html(500), Fault::Truncated, Fault::Html(200)] {
        scene.cloud.inject(&path, fault.clone());
        let snapshot = scene.snapshot().await.unwrap();
        let why = snapshot.servers[0].identity.as_ref().unwrap_err();
        assert!(why.contains(&path), "{fault:?}: {why}");
        assert!(snapshot.servers[1].identity.is_ok());
        assert_eq!(snapshot.ports.len(), 2);
    }
}

#[tokio::test]
async fn what_a_list_lacks_is_asked_for_by_itself() {
    let (cloud, servers, subnet) = fleet(20).await;
    cloud.inject(SERVERS, Fault::Lacking(3));
    let vms = servers.into_iter().map(VmRef::Id).collect();
    let snapshot = client(&cloud.access()).snapshot(&select(vms, &[&subnet])).await.unwrap();
    assert_eq!((snapshot.servers.len(), snapshot.unresolved.len()), (20, 0));
    assert_eq!(cloud.count(SERVERS), 1 + 3);
}

#[tokio::test]
async fn a_list_that_grows_too_long_is_given_up() {
    let (cloud, servers, subnet) = fleet(60).await;
    cloud.set_page_limit(Some(1));
    let mut last: Vec<ServerId> = servers;
    last.sort();
    let vms = last.into_iter().rev().take(12).map(VmRef::Id).collect();
    let snapshot = client(&cloud.access()).snapshot(&select(vms, &[&subnet])).await.unwrap();
    assert_eq!(snapshot.servers.len(), 12);
    assert_eq!(cloud.count(SERVERS), 12 + 12, "as many pages as servers, then one by one");
}

#[tokio::test]
async fn a_nova_that_fails_leaves_all_without_names_and_is_not_asked_for_each() {
    let (cloud, servers, subnet) = fleet(20).await;
    cloud.inject_always(SERVERS, Fault::Html(500));
    let vms: Vec<VmRef> = servers.into_iter().map(VmRef::Id).collect();
    let snapshot = client(&cloud.access()).snapshot(&select(vms, &[&subnet])).await.unwrap();
    assert_eq!(snapshot.ports.len(), 20);
    assert!(snapshot.servers.iter().all(|server| server.identity.is_err()));
    assert_eq!(cloud.count(SERVERS), 1);
}

#[tokio::test]
async fn names_need_nova() {
    let scene = scene().await;
    scene.cloud.inject_always(SERVERS, Fault::Html(500));
    let error = scene.client().snapshot(&select(names(&["worker-1"]), &[&scene.v4])).await.unwrap_err();
    assert!(matches!(error, CloudError::Servers(_)), "{error}");
    assert_eq!(error.reason(), "NovaError");
}

#[tokio::test]
async fn metadata_is_read() {
    let scene = scene().await;
    scene.cloud.set_metadata(&scene.servers[0], "k8s-node", "node-a").unwrap();
    let snapshot = scene.snapshot().await.unwrap();
    assert_eq!(snapshot.servers[0].identity.as_ref().unwrap().metadata["k8s-node"], "node-a");
}

#[tokio::test]
async fn a_strange_server_disturbs_only_those_who_look_for_it() {
    let scene = scene().await;
    let path = format!("{SERVERS}/{}", scene.servers[1]);
    for (server, field, value) in [
        (&scene.servers[1], "metadata", serde_json::json!({"k": 1})),
        (&scene.servers[1], "metadata", serde_json::json!([])),
    ] {
        scene.cloud.distort(server.as_str(), field, Some(value)).unwrap();
        let snapshot =
            scene.client().snapshot(&select(names(&["worker-1", "worker-2"]), &[&scene.v4])).await.unwrap();
        assert!(snapshot.servers[0].identity.is_ok());
        assert!(snapshot.servers[1].identity.is_err());
        assert_eq!(snapshot.ports.len(), 2);
        assert!(scene.snapshot().await.unwrap().servers[1].identity.as_ref().unwrap_err().contains(&path));
    }
    scene.cloud.distort(scene.servers[0].as_str(), "name", Some(serde_json::json!(7))).unwrap();
    let error = scene.client().snapshot(&select(names(&["worker-2"; 1]), &[&scene.v4])).await;
    assert!(error.is_ok(), "the search does not return it");
    let many: Vec<VmRef> = (0..11).map(|n| VmRef::Name(format!("x-{n}"))).collect();
    let error = scene.client().snapshot(&select(many, &[&scene.v4])).await.unwrap_err();
    assert_eq!(error.reason(), "NovaError", "it could have any name: {error}");
}
