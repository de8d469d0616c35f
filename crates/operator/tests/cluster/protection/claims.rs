//! What configurations and nodes contradict each other in: said where somebody applies one.

use axum::http::Request;
use kube::client::Body;
use serde_json::{Value, json};

use super::hands::{spec, started};
use crate::bench::{Bench, NAMESPACE};

/// What `kubectl apply` shows: the answer's code, and its warnings.
async fn applied(bench: &Bench, path: &str, object: &Value) -> (u16, Vec<String>) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let uri = format!("{path}/{name}?fieldManager=user&force=true");
    let request = Request::patch(uri).header("content-type", "application/apply-patch+yaml");
    let request = request.body(Body::from(object.to_string().into_bytes())).unwrap();
    let answer = bench.client.send(request).await.unwrap();
    let warnings = answer.headers().get_all("warning").iter().map(|it| it.to_str().unwrap().to_owned());
    (answer.status().as_u16(), warnings.collect())
}

fn configuration(name: &str, vms: &[&str], subnet: &str) -> Value {
    json!({
        "apiVersion": "multinic.example.com/v1alpha1", "kind": "OpenstackConfig",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "vmNames": vms, "subnetID": subnet,
            "credentials": {"authURL": "http://keystone.example:5000", "username": "u", "domainName": "Default",
                "projectID": "p", "k8sProviderID": "here", "password": "not-a-real-one"},
        },
    })
}

fn node(name: &str, macs: &[&str]) -> Value {
    let interfaces: Vec<Value> = macs.iter().map(|mac| json!({"macAddress": mac})).collect();
    json!({
        "apiVersion": "multinic.io/v1alpha1", "kind": "MultiNicNodeConfig",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"nodeName": name, "interfaces": interfaces},
    })
}

const CONFIGURATIONS: &str = "/apis/multinic.example.com/v1alpha1/namespaces/default/openstackconfigs";
const NODES: &str = "/apis/multinic.io/v1alpha1/namespaces/multinic-system/multinicnodeconfigs";

#[tokio::test]
async fn contradictions_between_objects_are_warned_of_and_within_one_refused() {
    // Whether the rest is protected does not matter.
    let Some((mut bench, _admin)) = started(spec(false, &[])).await else { return };
    let first = configuration("first", &["worker-1", "worker-2"], "subnet-a");
    assert_eq!(applied(&bench, CONFIGURATIONS, &first).await, (201, vec![]));
    // The operator has to hear of it.
    bench
        .until("another subnet for the same VM is warned of", async || {
            let second = configuration("second", &["worker-2"], "subnet-b");
            let (code, warnings) = applied(&bench, CONFIGURATIONS, &second).await;
            assert!(code == 200 || code == 201, "{code}");
            let found = warnings.iter().any(|it| it.contains("VM worker-2") && it.contains("default/first"));
            if !found {
                // What is not changed is not looked at.
                bench.forget(CONFIGURATIONS, "second").await;
            }
            found
        })
        .await;
    let same = configuration("third", &["worker-1"], "subnet-a");
    assert_eq!(applied(&bench, CONFIGURATIONS, &same).await, (201, vec![]));

    assert_eq!(applied(&bench, NODES, &node("worker-1", &["fa:16:3e:00:00:01"])).await, (201, vec![]));
    bench
        .until("a NIC of another node is warned of", async || {
            let (code, warnings) = applied(&bench, NODES, &node("worker-2", &["FA:16:3E:00:00:01"])).await;
            assert!(code == 200 || code == 201, "{code}");
            let found = warnings.iter().any(|it| it.contains("fa:16:3e:00:00:01") && it.contains("worker-1"));
            if !found {
                bench.forget(NODES, "worker-2").await;
            }
            found
        })
        .await;
    // That the schema says, with the operator and without.
    let twice = node("worker-3", &["fa:16:3e:00:00:03", "FA:16:3E:00:00:03"]);
    assert_eq!(applied(&bench, NODES, &twice).await.0, 422);
    bench.stop().await;
    assert_eq!(applied(&bench, NODES, &twice).await.0, 422);
    // Without the operator nobody waits, and nobody is warned.
    let third = configuration("fourth", &["worker-2"], "subnet-c");
    assert_eq!(applied(&bench, CONFIGURATIONS, &third).await.0, 201);
}
