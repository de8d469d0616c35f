//! Nodes that are gone and will never clean up.

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use multinic_api::{CLEANUP_FINALIZER, MultiNicNodeConfig};
use multinic_core::ServerId;
use multinic_testbed::cloud_simulator::Fault;
use serde_json::json;

use crate::bench::{Bench, condition, until};

fn objects(bench: &Bench) -> Api<MultiNicNodeConfig> {
    Api::namespaced(bench.client.clone(), &bench.namespace)
}

/// As a node's agent does before it configures anything.
async fn hold(bench: &Bench, node: &str) {
    until("the object is there", async || objects(bench).get_opt(node).await.unwrap().is_some()).await;
    let patch = json!({"metadata": {"finalizers": [CLEANUP_FINALIZER]}});
    objects(bench).patch(node, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn is_held(bench: &Bench, node: &str) -> bool {
    let object = objects(bench).get_opt(node).await.unwrap();
    object.is_some_and(|object| {
        assert!(object.metadata.deletion_timestamp.is_some());
        object.metadata.finalizers.unwrap_or_default() == [CLEANUP_FINALIZER]
    })
}

async fn until_deleted(bench: &Bench, node: &str) {
    until("it is to go", async || {
        objects(bench).get(node).await.unwrap().metadata.deletion_timestamp.is_some()
    })
    .await;
}

/// Deletes the configuration `a` of a node whose agent has configured something.
async fn delete_while_held(bench: &Bench, node: &str) {
    hold(bench, node).await;
    bench.until_ready("a").await;
    bench.delete("a").await;
    until_deleted(bench, node).await;
}

/// Waits until the nodes that may be gone were looked at a few times more.
async fn until_looked(bench: &Bench, server: &str) {
    let path = format!("/v2.1/servers/{server}");
    let before = bench.cloud.count(&path);
    until("Nova was asked", async || bench.cloud.count(&path) > before + 8).await;
}

#[tokio::test]
async fn an_object_is_let_go_once_nova_and_kubernetes_both_say_that_its_node_is_gone() {
    let Some(bench) = Bench::new().await else { return };
    let name = format!("{}-1", bench.namespace);
    let nodes = bench.make_node(&name).await;
    let server = bench.add_node(&name);
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    hold(&bench, &name).await;
    bench.cloud.delete_server(&server).unwrap();
    until_deleted(&bench, &name).await;
    // Nova says 404, and the Node is there: its agent may be at work.
    until_looked(&bench, server.as_str()).await;
    assert!(is_held(&bench, &name).await);
    assert_ne!(condition(&bench.status("a").await, "RemovalNotPropagated").1, "NodeGone");
    // The Node is gone too, and Nova fails.
    bench.cloud.inject_always(&format!("/v2.1/servers/{server}"), Fault::Html(500));
    nodes.delete(&name, &DeleteParams::default()).await.unwrap();
    until("it is said for what it waits", async || {
        let (is, reason, message) = condition(&bench.status("a").await, "RemovalNotPropagated");
        is == "True" && reason == "NodeGone" && message.contains(&name)
    })
    .await;
    assert!(is_held(&bench, &name).await);
    bench.cloud.clear_faults();
    until("it is let go", async || objects(&bench).get_opt(&name).await.unwrap().is_none()).await;
    until("nothing waits any more", async || {
        condition(&bench.status("a").await, "RemovalNotPropagated").0.is_empty()
    })
    .await;
    until("the slot is free", async || bench.store.removed().await.unwrap().iter().all(|it| it.released))
        .await;
    controller.stop().await;
}

#[tokio::test]
async fn a_node_whose_server_is_there_is_kept_and_its_deleted_configuration_waits_for_it() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-without-node-object");
    let name = "worker-without-node-object";
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    delete_while_held(&bench, name).await;
    until("it is said for what it waits", async || {
        let (is, reason, message) = condition(&bench.status("a").await, "RemovalNotPropagated");
        is == "True" && reason == "NodeGone" && message.contains("Nova still has its server")
    })
    .await;
    assert!(is_held(&bench, name).await);
    bench.cloud.delete_server(&server).unwrap();
    until("it is let go", async || objects(&bench).get_opt(name).await.unwrap().is_none()).await;
    bench.until_gone("a").await;
    controller.stop().await;
}

#[tokio::test]
async fn nobody_waits_while_nova_does_not_say_whether_a_server_is_gone() {
    let Some(bench) = Bench::new().await else { return };
    let name = "worker-of-a-silent-cloud";
    let [server, other] = [name, "worker-1"].map(|name| bench.add_node(name));
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    delete_while_held(&bench, name).await;
    let until_said = async |what: &str| {
        until(&format!("it is said: {what}"), async || {
            condition(&bench.status("a").await, "RemovalNotPropagated").2.contains(what)
        })
        .await;
    };
    until_said("Nova still has its server").await;
    // Nobody else asks for the server of a configuration that is deleted.
    let path = format!("/v2.1/servers/{server}");
    bench.cloud.inject_always(&path, Fault::Hang);
    let asked = bench.cloud.count(&path);
    until("Nova is asked", async || bench.cloud.count(&path) > asked).await;
    bench.apply("b", bench.spec(&[&other])).await;
    bench.until_ready("b").await;
    let (_, _, message) = condition(&bench.status("a").await, "RemovalNotPropagated");
    assert!(message.contains("Nova still has its server"), "the look goes on: {message}");
    until_said("no answer within").await;
    bench.cloud.clear_faults();
    bench.cloud.delete_server(&server).unwrap();
    bench.until_gone("a").await;
    controller.stop().await;
}

#[tokio::test]
async fn every_node_is_looked_at_although_nova_never_answers() {
    let Some(bench) = Bench::new().await else { return };
    let names: Vec<String> = (10..16).map(|at| format!("worker-{at}")).collect();
    let servers: Vec<_> = names.iter().map(|name| bench.add_node(name)).collect();
    bench.apply("a", bench.spec(&servers.iter().collect::<Vec<_>>())).await;
    let controller = bench.start().await;
    for name in &names {
        hold(&bench, name).await;
    }
    bench.until_ready("a").await;
    bench.cloud.inject_always("/v2.1/servers/", Fault::Hang);
    // Nobody else asks for the servers of a configuration that is deleted.
    bench.delete("a").await;
    until_deleted(&bench, names.last().unwrap()).await;
    let asked = |server: &ServerId| bench.cloud.count(&format!("/v2.1/servers/{server}"));
    let before: Vec<_> = servers.iter().map(asked).collect();
    until("Nova is asked for each", async || {
        servers.iter().zip(&before).all(|(server, before)| asked(server) > *before)
    })
    .await;
    bench.cloud.clear_faults();
    for server in &servers {
        bench.cloud.delete_server(server).unwrap();
    }
    bench.until_gone("a").await;
    controller.stop().await;
}
