//! Real pods on real kubelets, with the images and manifests that the project ships.
//!
//! `make test-cluster` runs these; they need root and, the first time, some minutes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod scene;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use multinic_testbed::cluster::{Cluster, NodeSpec};
use multinic_testbed::guest::{NetworkManagement, Release};
use serde_json::json;

const NODES: [NodeSpec; 2] = [
    NodeSpec { release: Release::Bookworm, network: NetworkManagement::Networkd },
    NodeSpec { release: Release::Trixie, network: NetworkManagement::Networkd },
];

/// A pod on each node, one of them with the node's network and rights, as agents have.
#[tokio::test]
#[ignore = "needs root and a Kubernetes of its own: make test-cluster"]
async fn pods_run_on_every_node_and_again_after_a_reboot() {
    if !Cluster::supported() {
        return;
    }
    let mut cluster = Cluster::start(&NODES).unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client().unwrap(), "default");
    for (node, privileged) in [("node-1", true), ("node-1", false), ("node-2", true), ("node-2", false)] {
        let pod = json!({
            "metadata": { "name": format!("{node}-{privileged}") },
            "spec": {
                "nodeName": node,
                "hostNetwork": privileged,
                "containers": [{
                    "name": "main",
                    "image": "localhost/pause:1",
                    "imagePullPolicy": "Never",
                    "securityContext": { "privileged": privileged },
                }],
            },
        });
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    }
    let ready = |pod: &Pod, restarts: i32| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        statuses.is_some_and(|all| all.iter().all(|one| one.ready && one.restart_count >= restarts))
    };
    scene::until("four pods", Duration::from_secs(120), async || {
        pods.list(&ListParams::default()).await.unwrap().items.iter().all(|pod| ready(pod, 0))
    })
    .await;
    cluster.reboot(1).unwrap();
    scene::until("pods after a reboot", Duration::from_secs(120), async || {
        let items = pods.list(&ListParams::default()).await.unwrap().items;
        items.iter().all(|pod| ready(pod, i32::from(pod.name_any().starts_with("node-2"))))
    })
    .await;
}
