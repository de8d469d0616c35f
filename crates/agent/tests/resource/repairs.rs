//! What somebody else wrote in the agent's place is put right.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use multinic_agent::facts::{Facts, HeldFacts, LinkFacts};
use multinic_agent::node_resource::access::ApiServer;
use multinic_agent::node_resource::herald::{Herald, Rounds, Scribe, Told};
use multinic_agent::node_resource::node_keys::KeyPrefixes;
use multinic_agent::node_resource::object::NodeObject;
use multinic_agent::node_resource::status::Word;
use multinic_testbed::kubernetes::{ControlPlane, FaultProxy};
use serde_json::{Value, json};

use crate::agent::OFTEN;
use crate::cluster::{Cluster, NAMESPACE, install, run};
use crate::database::nic;
use crate::world::{World, wait_until};

#[test]
fn a_status_that_somebody_else_wrote_is_put_right_and_then_costs_nothing() {
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
    let right = cluster.status();
    let wrong = [
        json!({"state": "Failed"}),
        json!({"interfaceStatuses": null}),
        json!({"conditions": null, "observedSpecHash": "0"}),
    ];
    for wrong in wrong {
        // By the time of another read it may have been put right.
        assert_ne!(cluster.patch_status(&wrong), right);
        wait_until(|| format!("{:#}", cluster.status()), || cluster.status() == right);
    }
    // A condition that somebody adds is his: it stays, and is not fought about.
    let mut conditions = right["conditions"].as_array().unwrap().clone();
    conditions.push(json!({"type": "Audited", "status": "True", "reason": "Audited", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}));
    proxy.forget();
    cluster.patch_status(&json!({ "conditions": conditions }));
    wait_until(|| agent.log(), || proxy.count("patch", "multinicnodeconfigs/status") > 0);
    // It may not have read its own word yet when it looks again.
    wait_until(
        || format!("{:?}", proxy.counts()),
        || {
            proxy.forget();
            agent.wait_cycles(20.0);
            proxy.counts().is_empty()
        },
    );
    assert_eq!(cluster.status()["conditions"].as_array().unwrap().len(), conditions.len());
}

/// What an agent knows of a node with one NIC.
fn told() -> Told {
    let link = LinkFacts {
        name: "multinic0".to_owned(),
        index: 2,
        up: true,
        mtu: 1500,
        addresses: vec!["10.0.0.1/24".to_owned()],
    };
    let held = HeldFacts { mac: "fa:16:3e:00:00:01".parse().unwrap(), link: Some(link), why: String::new() };
    let facts = Facts { held: vec![held], ..Facts::default() };
    Told { object: None, word: Word::Passed(facts), let_go: false }
}

#[test]
fn the_keys_of_the_node_are_put_right_and_are_on_a_node_that_appears_later() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    cluster.access.write_kubeconfig(&kubeconfig).unwrap();
    run(async {
        let nodes: Api<Node> = Api::all(cluster.plane.client().unwrap());
        let label = async || {
            let labels = nodes.get(&cluster.node).await.unwrap().metadata.labels;
            labels.unwrap_or_default().remove("multinic.io/interfaces")
        };
        let wait = async || {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
            while label().await.as_deref() != Some("1") {
                assert!(tokio::time::Instant::now() < deadline, "the label is not there");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        nodes.delete(&cluster.node, &DeleteParams::default()).await.unwrap();
        let server = ApiServer::new(Some(&kubeconfig)).await.unwrap();
        let objects = Api::namespaced_with(server.client.clone(), NAMESPACE, &NodeObject::resource());
        let prefix = "multinic.io".to_owned();
        let keys = KeyPrefixes { label: prefix.clone(), annotation: prefix };
        let often = Duration::from_millis(100);
        let rounds = Rounds { again: often, without_node: often };
        let mut scribe = Scribe::new(&server, objects, &cluster.node, keys, rounds);
        // There is none, which is no failure.
        scribe.write(&told()).await.unwrap();
        let herald = Herald::start(scribe);
        herald.tell(told());
        let node = Node {
            metadata: serde_json::from_value(json!({"name": cluster.node})).unwrap(),
            ..Node::default()
        };
        nodes.create(&PostParams::default(), &node).await.unwrap();
        wait().await;
        for wrong in [json!("7"), Value::Null] {
            let wrong = json!({"metadata": {"labels": {"multinic.io/interfaces": wrong}}});
            nodes.patch(&cluster.node, &PatchParams::default(), &Patch::Merge(wrong)).await.unwrap();
            wait().await;
        }
        herald.finish(Duration::from_secs(10)).await;
    });
}

#[test]
fn keys_that_are_sent_again_and_are_right_change_nothing() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    cluster.access.write_kubeconfig(&kubeconfig).unwrap();
    run(async {
        let nodes: Api<Node> = Api::all(cluster.plane.client().unwrap());
        let server = ApiServer::new(Some(&kubeconfig)).await.unwrap();
        let objects = Api::namespaced_with(server.client.clone(), NAMESPACE, &NodeObject::resource());
        let prefix = "multinic.io".to_owned();
        let keys = KeyPrefixes { label: prefix.clone(), annotation: prefix };
        let rounds = Rounds { again: Duration::ZERO, without_node: Duration::ZERO };
        let mut scribe = Scribe::new(&server, objects, &cluster.node, keys, rounds);
        let told = told();
        scribe.write(&told).await.unwrap();
        let version = async || nodes.get(&cluster.node).await.unwrap().resource_version();
        let before = version().await;
        for _ in 0..3 {
            scribe.write(&told).await.unwrap();
        }
        assert_eq!(version().await, before);
    });
}
