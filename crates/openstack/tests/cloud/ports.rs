//! Which ports are read, and in how many requests.

use multinic_core::config::VmRef;
use multinic_openstack::{CloudError, ReadError};
use multinic_testbed::cloud_simulator::{Fault, Role, Simulator};
use serde_json::json;

use crate::{client, scene, select};

const PORTS: &str = "/v2.0/ports";

#[tokio::test]
async fn a_snapshot_has_all_that_is_needed() {
    let scene = scene().await;
    let snapshot = scene.snapshot().await.unwrap();
    assert_eq!(snapshot.project.as_ref(), Some(scene.cloud.project()));
    assert_eq!(snapshot.selected, std::slice::from_ref(&scene.v4));
    assert_eq!(snapshot.subnets.keys().len(), 2, "the subnet of the second address is read too");
    assert_eq!(snapshot.subnets[&scene.v6].cidr.to_string(), "2001:db8::/64");
    assert_eq!(snapshot.networks[&scene.network].mtu, Some(1450));
    assert_eq!(snapshot.servers[0].identity.as_ref().unwrap().name, "worker-1");
    let port = snapshot.ports.iter().find(|port| port.id == scene.ports[1].port).unwrap();
    assert_eq!((&port.mac, &port.device), (&scene.ports[1].mac, &scene.servers[1]));
    let ips: Vec<String> = port.fixed_ips.iter().map(|ip| ip.ip.to_string()).collect();
    assert_eq!(ips, ["192.0.2.3", "2001:db8::3"]);
    assert!(port.created_at.is_some() && port.revision_number == 1 && port.status == "ACTIVE");
    assert!(snapshot.unreadable.is_empty() && snapshot.unresolved.is_empty());
}

#[tokio::test]
async fn ninety_five_servers_take_four_requests() {
    let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let fleet = cloud.add_fleet(95, 2).unwrap();
    let selection = select(fleet.servers.iter().cloned().map(VmRef::Id).collect(), &[&fleet.subnets[0]]);
    let snapshot = client(&cloud.access()).snapshot(&selection).await.unwrap();
    assert_eq!(snapshot.ports.len(), 190);
    assert_eq!(cloud.count(PORTS), 4);
    assert_eq!(cloud.count("/v2.1/servers"), 1, "one list instead of 95 servers");
    for request in cloud.requests() {
        assert!(request.query.len() <= 1600, "{}", request.query.len());
        if request.path == PORTS {
            assert!(request.query.contains("fields=id&") && request.query.contains("project_id="));
        }
    }
}

#[tokio::test]
async fn pages_are_followed_to_the_end() {
    let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let fleet = cloud.add_fleet(11, 5).unwrap();
    cloud.set_page_limit(Some(7));
    let selection = select(fleet.servers.iter().cloned().map(VmRef::Id).collect(), &[&fleet.subnets[0]]);
    let snapshot = client(&cloud.access()).snapshot(&selection).await.unwrap();
    assert_eq!(snapshot.ports.len(), 55);
    assert_eq!(snapshot.servers.len(), 11);
    assert_eq!(cloud.count(PORTS), 8);
}

#[tokio::test]
async fn a_page_that_comes_again_is_an_error() {
    let scene = scene().await;
    scene.cloud.set_page_limit(Some(1));
    // The first page is the first page anyway.
    scene.cloud.inject_always(PORTS, Fault::RepeatPage);
    let error = scene.snapshot().await.unwrap_err();
    assert!(matches!(error, CloudError::Ports(ReadError::Paging { page: 2, .. })), "{error}");
    assert_eq!(error.reason(), "NeutronPortError");
    assert_eq!(scene.cloud.count(PORTS), 2);
}

#[tokio::test]
async fn a_row_that_comes_twice_is_one_port_and_the_later_revision_counts() {
    let scene = scene().await;
    let row = |id: &str, mac: &str, revision: i64| {
        json!({"id": id, "network_id": scene.network, "device_id": scene.servers[0],
            "project_id": scene.cloud.project(), "mac_address": mac, "status": "ACTIVE", "fixed_ips": [],
            "revision_number": revision})
    };
    let (one, two) = ("fa:16:3e:00:00:01", "fa:16:3e:00:00:02");
    let answer = |rows: &[serde_json::Value]| Fault::Answer {
        status: 200,
        headers: vec![],
        body: json!({ "ports": rows }).to_string(),
    };
    scene
        .cloud
        .inject(PORTS, answer(&[row("a", one, 1), row("a", one, 1), row("a", two, 2), row("a", one, 1)]));
    let ports = scene.snapshot().await.unwrap().ports;
    assert_eq!(ports.len(), 1);
    assert_eq!((ports[0].mac.to_string().as_str(), ports[0].revision_number), (two, 2));
    assert_eq!(ports[0].created_at, None);

    scene.cloud.inject(PORTS, answer(&[row("a", one, 1), row("a", two, 1)]));
    let error = scene.snapshot().await.unwrap_err();
    assert!(matches!(error, CloudError::Ports(ReadError::Contradiction { .. })), "{error}");
}

#[tokio::test]
async fn a_query_that_is_lost_in_silence_is_an_error() {
    let scene = scene().await;
    let stranger = scene.cloud.add_server("not-ours");
    scene.cloud.attach(&stranger, &[&scene.v4]).unwrap();
    scene.cloud.inject(PORTS, Fault::DropQuery);
    let error = scene.snapshot().await.unwrap_err();
    assert!(matches!(error, CloudError::Ports(ReadError::Unasked { .. })), "{error}");
    assert!(error.to_string().contains(stranger.as_str()), "{error}");
    assert!(error.retry());
}

#[tokio::test]
async fn an_administrators_token_brings_in_no_ports_of_other_projects() {
    let scene = scene().await;
    scene.cloud.add_user("root", "pw", scene.cloud.project(), Role::Admin).unwrap();
    let other = scene.cloud.add_project("other");
    scene.cloud.attach_of(&other, &scene.servers[0], &[&scene.v4]).unwrap();
    let mut access = scene.cloud.access();
    crate::token::login(&mut access, "root", "pw");
    let snapshot = client(&access).snapshot(&scene.selection()).await.unwrap();
    assert_eq!(snapshot.ports.len(), 2);

    scene.cloud.inject(PORTS, Fault::DropQuery);
    let error = client(&access).snapshot(&scene.selection()).await.unwrap_err();
    assert!(matches!(error, CloudError::Ports(ReadError::Unasked { .. })), "{error}");
}

#[tokio::test]
async fn a_port_on_a_network_that_another_project_shares_is_read() {
    let scene = scene().await;
    let other = scene.cloud.add_project("other");
    let network = scene.cloud.add_network_of(&other, "shared", Some(9000), true).unwrap();
    let subnet = scene.cloud.add_subnet(&network, "shared", "198.51.100.0/24".parse().unwrap()).unwrap();
    scene.cloud.attach(&scene.servers[0], &[&subnet]).unwrap();
    let snapshot = scene.snapshot().await.unwrap();
    assert_eq!(snapshot.ports.len(), 3);
    assert!(snapshot.subnets.contains_key(&subnet));
    assert_eq!(snapshot.networks[&network].mtu, Some(9000));
}

#[tokio::test]
async fn one_bad_row_is_reported_and_the_others_are_read() {
    let scene = scene().await;
    for (field, value, problem) in [
        ("mac_address", json!("zz:zz"), "mac_address"),
        ("fixed_ips", json!([{"subnet_id": "x", "ip_address": "nonsense"}]), "nonsense"),
        ("fixed_ips", json!(null), "null"),
        ("network_id", json!(7), "invalid type"),
        ("device_id", json!(scene.servers[0].as_str().to_uppercase()), "device_id"),
    ] {
        let bad = &scene.ports[0].port;
        scene.cloud.distort(bad.as_str(), field, Some(value.clone())).unwrap();
        let snapshot = scene.snapshot().await.unwrap();
        assert_eq!(snapshot.ports.len(), 1, "{field}");
        let [unreadable] = snapshot.unreadable.as_slice() else { panic!("{field}: {snapshot:?}") };
        assert_eq!(unreadable.id.as_ref(), Some(bad));
        assert_eq!(unreadable.device.as_ref(), Some(&scene.servers[0]), "{field} = {value}");
        assert!(unreadable.problem.contains(problem), "{}", unreadable.problem);
        scene.cloud.distort(bad.as_str(), field, None).unwrap();
    }
}

#[tokio::test]
async fn rows_without_fields_are_unreadable_and_not_absent() {
    let scene = scene().await;
    let body = r#"{"ports": [{}, {}]}"#.to_owned();
    scene.cloud.inject(PORTS, Fault::Answer { status: 200, headers: vec![], body });
    let snapshot = scene.snapshot().await.unwrap();
    assert_eq!((snapshot.ports.len(), snapshot.unreadable.len()), (0, 2));
}

#[tokio::test]
async fn a_port_in_an_invisible_subnet_or_network_does_not_stop_the_others() {
    let scene = scene().await;
    let hidden = scene.cloud.add_network("hidden", Some(1500));
    let subnet = scene.cloud.add_subnet(&hidden, "hidden", "203.0.113.0/24".parse().unwrap()).unwrap();
    let port = scene.cloud.attach(&scene.servers[0], &[&subnet]).unwrap();
    scene.cloud.delete_network(&hidden).unwrap();
    let snapshot = scene.snapshot().await.unwrap();
    assert_eq!(snapshot.ports.len(), 2);
    assert_eq!(snapshot.unreadable[0].id.as_ref(), Some(&port.port));
    assert!(snapshot.unreadable[0].problem.contains(hidden.as_str()));
    scene.cloud.delete_subnet(&subnet).unwrap();
    let snapshot = scene.snapshot().await.unwrap();
    assert!(snapshot.unreadable[0].problem.contains(subnet.as_str()), "{:?}", snapshot.unreadable);
}

#[tokio::test]
async fn equal_ids_share_memory() {
    let scene = scene().await;
    let snapshot = scene.snapshot().await.unwrap();
    let [one, two] = snapshot.ports.as_slice() else { panic!("{snapshot:?}") };
    assert!(std::ptr::eq(one.network.as_str(), two.network.as_str()));
    assert!(std::ptr::eq(one.project.as_str(), two.project.as_str()));
    assert!(std::ptr::eq(one.fixed_ips[0].subnet.as_str(), two.fixed_ips[0].subnet.as_str()));
}
