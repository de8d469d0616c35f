//! Answers of a real Keystone, Neutron and Nova, as they were captured.

use multinic_core::cloud::{PortProof, Unresolved};
use multinic_core::config::{CloudAccess, Selection, StatusFilter, SubnetSelector, VmRef};
use multinic_core::{NetworkId, PortId, ServerId};
use multinic_openstack::CloudError;
use multinic_testbed::cloud_simulator::{Fault, Simulator};
use serde_json::Value;

use crate::client;

const PROJECT: &str = "cfa9e3ea88bc4cf8955ed2ff2dcfd583";
const SERVER: &str = "83b5e610-df7e-4291-b472-6597b48f4148";
const NETWORK: &str = "9a8bb78e-cc4b-47e8-9609-b18fe91472c8";

fn captured(text: &str) -> Fault {
    let sample: Value = serde_json::from_str(text).unwrap();
    let status = u16::try_from(sample["status"].as_u64().unwrap()).unwrap();
    let headers = vec![("x-subject-token".to_owned(), "token".to_owned())];
    Fault::Answer { status, headers, body: sample["body"].to_string() }
}

macro_rules! sample {
    ($name:literal) => {
        captured(include_str!(concat!("../samples/", $name, ".json")))
    };
}

/// Everything below these paths answers as it was captured.
async fn recorded(answers: Vec<(&str, Fault)>) -> (Simulator, CloudAccess) {
    let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    cloud.inject_always("/v3/auth/tokens", sample!("token"));
    for (path, answer) in answers {
        cloud.inject_always(path, answer);
    }
    let mut access = cloud.access();
    access.project = Some(PROJECT.into());
    access.endpoints.neutron = Some(cloud.url().clone());
    access.endpoints.nova = Some(cloud.url().clone());
    (cloud, access)
}

fn selection() -> Selection {
    Selection {
        vms: vec![VmRef::Id(SERVER.into())],
        subnets: SubnetSelector::Name("demo-v4".to_owned()),
        statuses: StatusFilter::Any,
        node_name_key: None,
    }
}

#[tokio::test]
async fn a_real_clouds_answers_make_a_snapshot() {
    let (cloud, access) = recorded(vec![
        ("/v2.1/servers/", sample!("server")),
        ("/v2.0/ports", sample!("ports")),
        ("/v2.0/networks", sample!("networks")),
    ])
    .await;
    cloud.inject("/v2.0/subnets", sample!("subnets-by-name"));
    cloud.inject("/v2.0/subnets", sample!("subnets-by-id"));
    let snapshot = client(&access).snapshot(&selection()).await.unwrap();
    let identity = snapshot.servers[0].identity.as_ref().unwrap();
    assert_eq!((identity.name.as_str(), identity.metadata["k8s-node"].as_str()), ("vm1", "node-1"));
    assert_eq!(snapshot.networks[NETWORK].mtu, Some(1450));
    let cidrs: Vec<String> = snapshot.subnets.values().map(|subnet| subnet.cidr.to_string()).collect();
    assert_eq!(cidrs, ["192.168.100.0/24", "fd00:100::/64"]);
    let [one, two] = snapshot.ports.as_slice() else { panic!("{snapshot:?}") };
    assert_eq!(one.mac.to_string(), "fa:16:3e:35:6c:e7");
    assert_eq!(one.created_at, Some("2026-11-21T00:41:09Z".parse().unwrap()));
    assert_eq!((one.revision_number, one.status.as_str()), (5, "ACTIVE"));
    let ips: Vec<String> = two.fixed_ips.iter().map(|ip| ip.ip.to_string()).collect();
    assert_eq!(ips, ["192.168.100.67", "fd00:100::252"]);
    assert!(snapshot.unreadable.is_empty());
}

#[tokio::test]
async fn a_real_404_of_a_server_is_an_absence() {
    let (cloud, access) = recorded(vec![("/v2.1/servers/", sample!("server-404"))]).await;
    cloud.inject("/v2.0/subnets", sample!("subnets-by-name"));
    let snapshot = client(&access).snapshot(&selection()).await.unwrap();
    assert_eq!(snapshot.unresolved[0].why, Unresolved::NotFound);
}

#[tokio::test]
async fn a_real_404_of_a_port_is_a_proof_and_one_of_a_path_is_none() {
    let answers = vec![("/v2.0/networks", sample!("networks"))];
    let (cloud, access) = recorded(answers).await;
    let (port, network): (PortId, NetworkId) =
        ("00000000-0000-0000-0000-000000000000".into(), NETWORK.into());
    let (server, project): (ServerId, _) = (SERVER.into(), PROJECT.into());
    let network_of_list: Value = match sample!("networks") {
        Fault::Answer { body, .. } => serde_json::from_str(&body).unwrap(),
        other => panic!("{other:?}"),
    };
    let body = serde_json::json!({"network": network_of_list["networks"][0]}).to_string();
    cloud.clear_faults();
    cloud.inject_always("/v3/auth/tokens", sample!("token"));
    cloud.inject_always("/v2.0/networks/", Fault::Answer { status: 200, headers: vec![], body });
    cloud.inject("/v2.0/ports/", sample!("port-404"));
    let client = client(&access);
    let prove = || client.prove_port(&port, Some(&network), Some(&server), &project);
    assert_eq!(prove().await, PortProof::Gone);
    for answer in [sample!("path-404"), sample!("neutron-401"), sample!("ports-400")] {
        cloud.inject_times("/v2.0/ports/", 2, answer);
        let proof = prove().await;
        assert!(matches!(proof, PortProof::Unproven(_)), "{proof:?}");
        assert_ne!(prove().await, PortProof::Gone);
    }
}

#[tokio::test]
async fn a_real_401_of_keystone_is_a_refusal() {
    let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    cloud.inject("/v3/auth/tokens", sample!("token-401"));
    let error = client(&cloud.access()).snapshot(&selection()).await.unwrap_err();
    assert!(matches!(error, CloudError::KeystoneRefused { .. }), "{error}");
}
