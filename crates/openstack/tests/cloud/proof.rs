//! When a port counts as gone.

use multinic_core::cloud::PortProof;
use multinic_core::{NetworkId, PortId};
use multinic_testbed::cloud_simulator::Fault;

use crate::{Scene, scene};

async fn prove(scene: &Scene, network: Option<&NetworkId>) -> PortProof {
    let port: &PortId = &scene.ports[0].port;
    scene.client().prove_port(port, network, Some(&scene.servers[0]), scene.cloud.project()).await
}

fn why(proof: PortProof) -> String {
    match proof {
        PortProof::Unproven(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_deleted_port_is_gone_while_its_network_can_be_read() {
    let scene = scene().await;
    assert_eq!(prove(&scene, Some(&scene.network)).await, PortProof::StillAttached);
    scene.cloud.delete_port(&scene.ports[0].port).unwrap();
    assert_eq!(prove(&scene, Some(&scene.network)).await, PortProof::Gone);
}

#[tokio::test]
async fn without_its_network_nothing_is_proven() {
    let scene = scene().await;
    scene.cloud.delete_port(&scene.ports[0].port).unwrap();
    assert!(why(prove(&scene, None).await).contains("not known"));
    scene.cloud.delete_network(&scene.network).unwrap();
    assert!(why(prove(&scene, Some(&scene.network)).await).contains(scene.network.as_str()));
}

#[tokio::test]
async fn a_port_that_is_elsewhere_has_moved() {
    let scene = scene().await;
    let port = &scene.ports[0].port;
    scene.cloud.move_port(port, &scene.servers[1]).unwrap();
    assert_eq!(prove(&scene, None).await, PortProof::Moved(scene.servers[1].clone()));
    scene.cloud.detach(port).unwrap();
    assert_eq!(prove(&scene, None).await, PortProof::Moved("".into()));
}

#[tokio::test]
async fn without_its_last_server_only_a_free_port_has_moved() {
    let scene = scene().await;
    let (client, port) = (scene.client(), &scene.ports[0].port);
    let prove = || client.prove_port(port, Some(&scene.network), None, scene.cloud.project());
    assert!(matches!(prove().await, PortProof::Unproven(_)));
    scene.cloud.detach(port).unwrap();
    assert_eq!(prove().await, PortProof::Moved("".into()));
}

#[tokio::test]
async fn another_project_proves_nothing() {
    let scene = scene().await;
    let other = scene.cloud.add_project("other");
    scene.cloud.delete_port(&scene.ports[0].port).unwrap();
    let proof = scene
        .client()
        .prove_port(&scene.ports[0].port, Some(&scene.network), Some(&scene.servers[0]), &other)
        .await;
    assert!(why(proof).contains(other.as_str()));
    assert_eq!(scene.cloud.count("/v2.0"), 0);
}

#[tokio::test]
async fn no_failure_is_a_proof() {
    let scene = scene().await;
    scene.cloud.delete_port(&scene.ports[0].port).unwrap();
    let wrong_path = r#"{"NeutronError": {"type": "HTTPNotFound", "message": "x", "detail": ""}}"#.to_owned();
    for path in ["/v2.0/ports", "/v2.0/networks"] {
        for fault in [
            Fault::Html(404),
            Fault::Html(401),
            Fault::Html(403),
            Fault::Html(500),
            Fault::Html(503),
            Fault::Html(200),
            Fault::Truncated,
            Fault::Reset,
            Fault::Answer { status: 404, headers: vec![], body: wrong_path.clone() },
            Fault::Answer { status: 404, headers: vec![], body: String::new() },
            Fault::Answer { status: 200, headers: vec![], body: "{}".to_owned() },
        ] {
            scene.cloud.inject_always(path, fault.clone());
            let proof = prove(&scene, Some(&scene.network)).await;
            assert!(matches!(proof, PortProof::Unproven(_)), "{path} {fault:?}: {proof:?}");
            scene.cloud.clear_faults();
        }
    }
}
