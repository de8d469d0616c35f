//! NetworkPolicies: they are there when they are wanted, follow the nodes, and go. Whether anybody obeys them is the network's.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::bench::{ADVERTISED, Bench};

/// A policy that is for nodes alone.
const OF_AGENTS: &str = "multinic-database-of-agents";

fn spec(policy: &Value, recovers: bool) -> Value {
    let mut spec = json!({
        "controller": {"image": "multinic:1"},
        "agent": {"image": "multinic-agent:1", "dataSource": "db"},
        "database": {"enabled": true},
        "protection": {"enableAutoRecovery": recovers},
    });
    if !policy.is_null() {
        spec["networkPolicy"] = policy.clone();
    }
    spec
}

fn nodes(bench: &Bench) -> Api<Node> {
    Api::all(bench.client.clone())
}

async fn add(bench: &Bench, name: &str, addresses: &[(&str, &str)]) {
    // Not ready, so that no pod is put there, and the node lifecycle controller leaves it alone.
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": true}});
    nodes(bench).create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    is_at(bench, name, addresses).await;
}

async fn is_at(bench: &Bench, name: &str, addresses: &[(&str, &str)]) {
    let addresses: Vec<Value> =
        addresses.iter().map(|(type_, address)| json!({"type": type_, "address": address})).collect();
    let status = json!({"status": {"addresses": addresses}});
    nodes(bench).patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// Whom a policy's rules name.
async fn peers(bench: &Bench, name: &str) -> Vec<String> {
    let Some(policy) = bench.get("networking.k8s.io", "NetworkPolicy", name).await else { return Vec::new() };
    let rules = ["ingress", "egress"].map(|key| policy["spec"][key].as_array().cloned().unwrap_or_default());
    let peers = rules.iter().flatten().flat_map(|rule| {
        let peers = rule.get("from").or(rule.get("to")).unwrap();
        peers.as_array().unwrap().clone()
    });
    let named = |peer: Value| match peer["ipBlock"]["cidr"].as_str() {
        Some(cidr) => cidr.to_owned(),
        None => peer.to_string(),
    };
    peers.map(named).collect()
}

async fn made(bench: &Bench) -> Vec<String> {
    let made = bench.made().await.into_keys();
    made.filter_map(|name| name.strip_prefix("NetworkPolicy ").map(str::to_owned)).collect()
}

async fn until_peers(bench: &Bench, name: &str, expected: &[&str]) {
    let mut seen = Vec::new();
    let what = format!("{name} names {expected:?}");
    bench
        .until(&what, async || {
            seen = peers(bench, name).await;
            seen == expected
        })
        .await;
}

#[tokio::test]
async fn policies_are_for_the_nodes_that_there_are_and_go_when_they_are_not_wanted() {
    let Some(bench) = Bench::start().await else { return };
    add(
        &bench,
        "one",
        &[("InternalIP", "10.0.0.1"), ("InternalIP", "fd00::1"), ("ExternalIP", "203.0.113.9")],
    )
    .await;
    bench.want("multinic", spec(&json!({"enabled": false}), true)).await;
    bench.until_running("multinic").await;
    assert!(made(&bench).await.is_empty());

    // Who could then reach nothing at all is told.
    bench.want("multinic", spec(&json!({"enabled": true}), true)).await;
    bench
        .until("it is refused", async || bench.status("multinic").await.phase.as_deref() == Some("Error"))
        .await;
    assert!(bench.status("multinic").await.message.unwrap().contains("spec.networkPolicy.openstackCIDRs"));

    let wanted = json!({"enabled": true, "openstackCIDRs": ["10.20.0.7/16"]});
    bench.want("multinic", spec(&wanted, true)).await;
    bench.until_running("multinic").await;
    let all = [
        "multinic-api-servers",
        "multinic-database",
        "multinic-database-of-agents",
        "multinic-default-deny",
        "multinic-dns",
        "multinic-inventory",
        "multinic-monitoring",
        "multinic-openstack",
        "multinic-to-database",
        "multinic-to-viola",
        "multinic-viola-clients",
        "multinic-webhook",
    ];
    assert_eq!(made(&bench).await, all);
    let deny = bench.get("networking.k8s.io", "NetworkPolicy", "multinic-default-deny").await.unwrap();
    assert_eq!(deny["spec"], json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    assert_eq!(peers(&bench, "multinic-openstack").await, ["10.20.0.0/16"]);
    assert_eq!(peers(&bench, OF_AGENTS).await, ["10.0.0.1/32", "fd00::1/128"]);

    add(&bench, "two", &[("InternalIP", "10.0.0.9")]).await;
    until_peers(&bench, OF_AGENTS, &["10.0.0.1/32", "10.0.0.9/32", "fd00::1/128"]).await;
    is_at(&bench, "two", &[("InternalIP", "10.0.0.17")]).await;
    until_peers(&bench, OF_AGENTS, &["10.0.0.1/32", "10.0.0.17/32", "fd00::1/128"]).await;
    nodes(&bench).delete("one", &DeleteParams::default()).await.unwrap();
    until_peers(&bench, OF_AGENTS, &["10.0.0.17/32"]).await;
    // A network of nodes needs none of them by name.
    let wider = json!({"enabled": true, "openstackCIDRs": ["10.20.0.0/16"], "nodeCIDRs": ["10.0.0.0/24", "10.9.0.0/24"]});
    bench.want("multinic", spec(&wider, true)).await;
    until_peers(&bench, OF_AGENTS, &["10.0.0.0/24", "10.9.0.0/24"]).await;

    // Without any address nobody may, instead of everybody.
    bench.want("multinic", spec(&wanted, true)).await;
    nodes(&bench).delete("two", &DeleteParams::default()).await.unwrap();
    until_peers(&bench, OF_AGENTS, &[]).await;
    let of_agents = bench.get("networking.k8s.io", "NetworkPolicy", OF_AGENTS).await.unwrap();
    assert_eq!(of_agents["spec"]["policyTypes"], json!(["Ingress"]));

    bench.want("multinic", spec(&Value::Null, true)).await;
    bench.until("they are gone", async || made(&bench).await.is_empty()).await;
}

#[tokio::test]
async fn the_api_server_is_let_through_where_it_says_that_it_is_though_no_node_is_there() {
    let Some(bench) = Bench::start().await else { return };
    add(&bench, "one", &[("InternalIP", "10.0.0.1")]).await;
    let slices: Api<EndpointSlice> = Api::namespaced(bench.client.clone(), "default");
    bench.until("it says so", async || slices.get_opt("kubernetes").await.unwrap().is_some()).await;
    bench.want("multinic", spec(&json!({"enabled": true, "openstackCIDRs": ["10.20.0.0/16"]}), true)).await;
    bench.until_running("multinic").await;
    let own = format!("{ADVERTISED}/32");
    let port = bench.control_plane.address().port();
    let rules = async || {
        let policy = bench.get("networking.k8s.io", "NetworkPolicy", "multinic-api-servers").await.unwrap();
        policy["spec"]["egress"].clone()
    };
    let at = |block: &str, ports: &[u16]| {
        let ports: Vec<Value> = ports.iter().map(|port| json!({"protocol": "TCP", "port": port})).collect();
        json!({"to": [{"ipBlock": {"cidr": block}}], "ports": ports})
    };
    assert_eq!(rules().await, json!([at(&own, &[port]), at("10.0.0.1/32", &[6443, 443])]));
    assert_eq!(peers(&bench, "multinic-webhook").await, ["10.0.0.1/32", &own]);

    // Another one comes; the API server here, which knows of none, writes it away every ten seconds.
    let more = json!({"endpoints": [{"addresses": [ADVERTISED]}, {"addresses": ["10.40.0.77"]}]});
    bench
        .until("the other one is let through too", async || {
            slices.patch("kubernetes", &PatchParams::default(), &Patch::Merge(&more)).await.unwrap();
            peers(&bench, "multinic-webhook").await == ["10.0.0.1/32", &own, "10.40.0.77/32"]
        })
        .await;
}

#[tokio::test]
async fn policies_follow_the_nodes_where_others_changes_are_left_as_they_are() {
    let Some(bench) = Bench::start().await else { return };
    add(&bench, "one", &[("InternalIP", "10.0.0.1")]).await;
    let wanted = json!({"enabled": true, "openstackCIDRs": ["10.20.0.0/16"]});
    bench.want("multinic", spec(&wanted, false)).await;
    bench.until_running("multinic").await;
    add(&bench, "two", &[("InternalIP", "10.0.0.9")]).await;
    until_peers(&bench, OF_AGENTS, &["10.0.0.1/32", "10.0.0.9/32"]).await;
    let status = bench.status("multinic").await;
    assert!(!status.conditions.iter().any(|condition| condition.type_ == "Drifted"), "{status:?}");
}

#[tokio::test]
async fn a_node_that_comes_or_moves_is_news_where_nothing_else_is() {
    let Some(bench) = Bench::start().await else { return };
    let wanted = json!({"enabled": true, "openstackCIDRs": ["10.20.0.0/16"]});
    // Without agents, a node changes nothing of ours, and what is as it should be is looked at every five minutes.
    let spec = json!({
        "controller": {"image": "multinic:1"}, "database": {"enabled": false}, "networkPolicy": wanted,
    });
    bench.want("multinic", spec).await;
    bench.until_running("multinic").await;
    let own = format!("{ADVERTISED}/32");
    bench.until_calm("multinic").await;
    add(&bench, "one", &[("InternalIP", "10.0.0.1")]).await;
    until_peers(&bench, "multinic-webhook", &["10.0.0.1/32", &own]).await;
    bench.until_calm("multinic").await;
    is_at(&bench, "one", &[("InternalIP", "10.0.0.9")]).await;
    until_peers(&bench, "multinic-webhook", &["10.0.0.9/32", &own]).await;
}

#[tokio::test]
async fn policies_follow_the_nodes_while_something_else_of_the_spec_is_wrong() {
    let Some(bench) = Bench::start().await else { return };
    add(&bench, "one", &[("InternalIP", "10.0.0.1")]).await;
    let mut wanted = spec(&json!({"enabled": true, "openstackCIDRs": ["10.20.0.0/16"]}), true);
    bench.want("multinic", wanted.clone()).await;
    bench.until_running("multinic").await;
    let before = made(&bench).await;
    until_peers(&bench, OF_AGENTS, &["10.0.0.1/32"]).await;
    wanted["reconcileTrigger"] = json!({"interval": "1s"});
    bench.want("multinic", wanted).await;
    bench
        .until("it is refused", async || bench.status("multinic").await.phase.as_deref() == Some("Error"))
        .await;
    add(&bench, "two", &[("InternalIP", "10.0.0.4")]).await;
    until_peers(&bench, OF_AGENTS, &["10.0.0.1/32", "10.0.0.4/32"]).await;
    assert_eq!(made(&bench).await, before);
    assert!(bench.status("multinic").await.message.unwrap().contains("spec.reconcileTrigger.interval"));
}
