//! The agents: one on each node, with the rights of `deploy/agent`, on their resource or on the database.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE};

#[tokio::test]
async fn agents_come_to_every_node_and_go_with_the_field_that_wants_them() {
    let Some(bench) = Bench::start().await else { return };
    let nodes: Api<Node> = Api::all(bench.client.clone());
    for name in ["worker-1", "worker-2"] {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {
            "name": name, "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": name},
        }});
        nodes.patch(name, &PatchParams::apply("test"), &Patch::Apply(node)).await.unwrap();
    }
    let mut spec = json!({
        "controller": {"image": "multinic:1"},
        "database": {"enabled": false},
        "agent": {
            "image": "multinic-agent:1",
            "resources": {"memory": "96Mi"},
            "settings": {"POLL_INTERVAL": "10s"},
        },
    });
    bench.want("multinic", spec.clone()).await;
    bench
        .until("both agents are ready", async || {
            bench.be_the_kubelet().await;
            bench.status("multinic").await.agent_status.is_some_and(|status| status.ready_replicas == Some(2))
        })
        .await;
    bench.until_running("multinic").await;
    let template = async || {
        let daemon_set = bench.get("apps", "DaemonSet", "multinic-agent").await.unwrap();
        daemon_set["spec"]["template"]["spec"].clone()
    };
    let is_named = |list: &Value, name: &str| {
        let item = list.as_array().unwrap().iter().find(|item| item["name"] == json!(name)).cloned();
        item.unwrap_or_default()
    };
    let container = template().await["containers"][0].clone();
    assert_eq!(container["image"], json!("multinic-agent:1"));
    assert_eq!(container["resources"], json!({"limits": {"memory": "96Mi"}, "requests": {"cpu": "10m"}}));
    assert_eq!(is_named(&container["env"], "POLL_INTERVAL")["value"], json!("10s"));
    assert_eq!(is_named(&container["env"], "DATA_SOURCE")["value"], json!("nodecr"));
    // Events about nodes are in another namespace, and so is the right to write them.
    let bindings: Api<RoleBinding> = Api::namespaced(bench.client.clone(), "default");
    let binding = bindings.get("multinic-agent-events").await.unwrap();
    assert_eq!(binding.metadata.owner_references.unwrap()[0].kind, "Namespace");
    bindings.delete("multinic-agent-events", &DeleteParams::default()).await.unwrap();
    bench
        .until("it is back", async || bindings.get_opt("multinic-agent-events").await.unwrap().is_some())
        .await;

    spec["database"]["enabled"] = json!(true);
    spec["agent"]["dataSource"] = json!("db");
    bench.want("multinic", spec.clone()).await;
    bench.until_running("multinic").await;
    let pod = template().await;
    let env = &pod["containers"][0]["env"];
    assert_eq!(is_named(env, "DATA_SOURCE")["value"], json!("db"));
    assert_eq!(is_named(env, "DB_USER")["value"], json!("multinic-agent"));
    assert_eq!(is_named(env, "DB_HOST")["value"], json!(format!("mariadb.{NAMESPACE}.svc")));
    let items = json!([{"key": "password.multinic-agent", "path": "password"}]);
    assert_eq!(is_named(&pod["volumes"], "mariadb")["secret"]["items"], items);

    spec["database"]["enabled"] = json!(false);
    bench.want("multinic", spec.clone()).await;
    bench
        .until("it is refused", async || {
            bench.status("multinic").await.message.is_some_and(|it| it.contains("spec.agent.dataSource"))
        })
        .await;
    spec.as_object_mut().unwrap().remove("agent");
    bench.want("multinic", spec).await;
    bench
        .until("agents and all that was theirs is gone", async || {
            !bench.made().await.keys().any(|name| name.contains("multinic-agent"))
        })
        .await;
    bench.until_running("multinic").await;
    assert_eq!(bench.status("multinic").await.agent_status, None);
}
