//! What is published reaches the sinks, stays there, and comes back from them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use multinic_api::MultiNicNodeConfig;
use multinic_controller::inventory::Inventory;
use multinic_controller::inventory::settings::InventoryArgs;
use multinic_core::desired::{NicReport, Outcome};
use multinic_store::inventory::Filter;
use multinic_store::{AgentSource, DatabaseSettings, Store};
use serde_json::{Value, json};

use crate::bench::{Bench, condition, run, until};

pub fn objects(bench: &Bench) -> Api<MultiNicNodeConfig> {
    Api::namespaced(bench.client.clone(), &bench.namespace)
}

/// The names by MAC that a node's object says.
pub async fn names(bench: &Bench, node: &str) -> BTreeMap<String, String> {
    let Some(object) = objects(bench).get_opt(node).await.unwrap() else { return BTreeMap::new() };
    object.spec.interfaces.into_iter().map(|nic| (nic.mac_address, nic.name.unwrap())).collect()
}

#[tokio::test]
async fn a_configuration_becomes_objects_that_follow_it_and_go_with_it() {
    let Some(bench) = Bench::new().await else { return };
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    bench.apply("a", bench.spec(&[&one])).await;
    bench.apply("b", bench.spec(&[&two])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    bench.until_ready("b").await;
    assert_eq!(
        names(&bench, "worker-1").await,
        bench.slots().await.into_iter().filter(|(mac, _)| { mac.ends_with("01") }).collect()
    );
    bench.cloud.attach(&one, &[&bench.subnet]).unwrap();
    until("the new NIC is in the object", async || names(&bench, "worker-1").await.len() == 2).await;
    bench.delete("a").await;
    bench.until_gone("a").await;
    assert!(names(&bench, "worker-1").await.is_empty(), "it is gone before its configuration is");
    assert_eq!(names(&bench, "worker-2").await.len(), 1);
    controller.stop().await;
}

#[tokio::test]
async fn an_object_that_somebody_edits_or_deletes_is_put_back() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    // Nothing but the watch can tell.
    let controller = bench.start_with(&["--leader-elect=false", "--reconcile-mode=manual"]).await;
    bench.until_ready("a").await;
    let before = names(&bench, "worker-1").await;
    let edit = json!({"spec": {"interfaces": [{"macAddress": "fa:16:3e:ff:ff:ff", "name": "multinic7"}]}});
    objects(&bench).patch("worker-1", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    until("the edit is undone", async || names(&bench, "worker-1").await == before).await;
    let uid = objects(&bench).get("worker-1").await.unwrap().uid();
    objects(&bench).delete("worker-1", &DeleteParams::default()).await.unwrap();
    until("it is made again", async || {
        let object = objects(&bench).get_opt("worker-1").await.unwrap();
        object.is_some_and(|object| object.uid() != uid)
    })
    .await;
    assert_eq!(names(&bench, "worker-1").await, before);
    controller.stop().await;
}

#[tokio::test]
async fn a_lost_ledger_comes_back_from_the_objects_and_every_nic_keeps_its_name() {
    let Some(mut bench) = Bench::new().await else { return };
    let server = bench.cloud.add_server("worker-1");
    let ports = [(); 3].map(|()| bench.cloud.attach(&server, &[&bench.subnet]).unwrap());
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    bench.until_count(3).await;
    // The first slot becomes free, so that a new count from zero would show.
    bench.cloud.delete_port(&ports[0].port).unwrap();
    bench.until_count(2).await;
    until("the object has two", async || names(&bench, "worker-1").await.len() == 2).await;
    let before = names(&bench, "worker-1").await;
    assert!(!before.values().any(|name| name == "multinic0"));
    controller.stop().await;
    let settings = DatabaseSettings::sqlite(bench.folder.path().join("another.db"));
    bench.store = Store::open(&settings).await.unwrap();
    let generation = objects(&bench).get("worker-1").await.unwrap().metadata.generation;
    let controller = bench.start().await;
    bench.until_count(2).await;
    bench.until_ready("a").await;
    let reads = bench.cloud.count("/v2.0/ports");
    until("passes were made", async || bench.cloud.count("/v2.0/ports") > reads + 3).await;
    assert_eq!(bench.slots().await, before);
    assert_eq!(names(&bench, "worker-1").await, before);
    assert_eq!(objects(&bench).get("worker-1").await.unwrap().metadata.generation, generation);
    // Its port can be proven gone as any other.
    bench.cloud.delete_port(&ports[1].port).unwrap();
    bench.until_count(1).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_configuration_may_name_another_namespace() {
    let Some(bench) = Bench::new().await else { return };
    let control_plane = multinic_testbed::kubernetes::ControlPlane::shared().unwrap();
    let other = control_plane.new_namespace("target").await.unwrap();
    let server = bench.add_node("worker-1");
    let mut spec = bench.spec(&[&server]);
    spec["target"] =
        json!({"namespace": other, "kubeconfigSecretRef": {"name": "kubeconfig", "key": "value"}});
    bench.apply("a", spec).await;
    let controller = bench.start().await;
    // Nothing is known of what is there yet.
    let status = bench.until_reason("a", &["ConfigError"]).await;
    assert!(status.last_error.unwrap().contains("spec.target.kubeconfigSecretRef"));
    let second = bench.add_node("worker-2");
    bench.apply("b", bench.spec(&[&second])).await;
    bench.until_ready("b").await;
    bench.write_secret("kubeconfig", &[("value", &control_plane.admin().kubeconfig())]).await;
    bench.until_ready("a").await;
    let objects: Api<MultiNicNodeConfig> = Api::namespaced(bench.client.clone(), &other);
    assert!(objects.get_opt("worker-1").await.unwrap().is_some());
    assert!(names(&bench, "worker-1").await.is_empty());
    // A kubeconfig that leads nowhere any more stops this configuration alone.
    controller.stop().await;
    bench.write_secret("kubeconfig", &[("value", "nonsense")]).await;
    let controller = bench.start().await;
    let status = bench.until_reason("a", &["KubernetesApplyError"]).await;
    assert_eq!(condition(&status, "Published").0, "False");
    bench.cloud.attach(&second, &[&bench.subnet]).unwrap();
    until("the other goes on", async || names(&bench, "worker-2").await.len() == 2).await;
    controller.stop().await;
}

/// What a Viola was sent, and what it answers.
#[derive(Clone, Default)]
pub struct Viola {
    pub requests: Arc<Mutex<Vec<(String, Value)>>>,
    pub refuses: Arc<Mutex<Option<&'static str>>>,
    /// The status of each node in an answer; one of older programs has none.
    pub says: Arc<Mutex<Option<&'static str>>>,
    /// While somebody writes, nothing is answered.
    pub held: Arc<tokio::sync::RwLock<()>>,
}

impl Viola {
    pub async fn start() -> (Self, String) {
        let viola = Self::default();
        let router =
            Router::new().route("/v1/k8s/multinic/node-configs", post(answer)).with_state(viola.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (viola, url)
    }

    /// The last interfaces of each node, by provider and node.
    pub fn has(&self) -> BTreeMap<(String, String), usize> {
        let mut has = BTreeMap::new();
        for (provider, nodes) in &*self.requests.lock().unwrap() {
            for node in nodes.as_array().unwrap() {
                let name = node["nodeName"].as_str().unwrap().to_owned();
                has.insert((provider.clone(), name), node["interfaces"].as_array().unwrap().len());
            }
        }
        has
    }
}

async fn answer(
    State(viola): State<Viola>,
    headers: HeaderMap,
    axum::Json(nodes): axum::Json<Value>,
) -> (StatusCode, String) {
    let _held = viola.held.read().await;
    let refused = *viola.refuses.lock().unwrap();
    if refused.is_some_and(|node| nodes.as_array().unwrap().iter().any(|it| it["nodeName"] == node)) {
        return (StatusCode::BAD_REQUEST, "no such node here".to_owned());
    }
    let provider = headers.get("x-provider-id").map(|value| value.to_str().unwrap().to_owned());
    let says = *viola.says.lock().unwrap();
    let result = |node: &Value| json!({"nodeName": node["nodeName"], "status": says});
    let results = nodes.as_array().unwrap().iter().map(result).collect::<Vec<_>>();
    let answer = if says.is_some() { json!({ "results": results }) } else { json!({}) };
    viola.requests.lock().unwrap().push((provider.unwrap_or_default(), nodes));
    (StatusCode::OK, answer.to_string())
}

#[tokio::test]
async fn viola_is_sent_what_changes_once_and_what_it_refuses_again() {
    let Some(bench) = Bench::new().await else { return };
    let (viola, url) = Viola::start().await;
    *viola.refuses.lock().unwrap() = Some("worker-2");
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    let spec = |server| {
        let mut spec = bench.spec(&[server]);
        spec["credentials"]["k8sProviderID"] = json!("provider-1");
        spec
    };
    bench.apply("a", spec(&one)).await;
    bench.apply("b", spec(&two)).await;
    let args = ["--leader-elect=false", "--sinks=viola", "--viola-endpoint", &url];
    let (mut setup, registry) = bench.setup(&args);
    let path = bench.folder.path().join("inventory.db");
    let inventory = inventory(&path).await;
    setup.inventory = Some(inventory.clone());
    let controller = run(setup, registry).await;
    bench.until_ready("a").await;
    let status = bench.until_reason("b", &["ViolaPostError"]).await;
    assert!(status.last_error.unwrap().contains("no such node here"));
    assert_eq!(viola.has().len(), 1, "{:?}", viola.has());
    *viola.refuses.lock().unwrap() = None;
    bench.until_ready("b").await;
    assert_eq!(viola.has().len(), 2);
    let key = ("provider-1".to_owned(), "worker-1".to_owned());
    assert_eq!(viola.has()[&key], 1);
    until("both are in the inventory", async || records(&inventory).await == ["worker-1", "worker-2"]).await;
    controller.stop().await;
    // Another process cannot know what a Viola has made of it since: it sends everything once.
    viola.requests.lock().unwrap().clear();
    let (mut setup, registry) = bench.setup(&args);
    setup.inventory = Some(inventory.clone());
    let controller = run(setup, registry).await;
    until("both are sent", async || viola.has().len() == 2).await;
    let sent = viola.requests.lock().unwrap().len();
    let reads = bench.cloud.count("/v2.0/ports");
    until("passes were made", async || bench.cloud.count("/v2.0/ports") > reads + 6).await;
    assert_eq!(viola.requests.lock().unwrap().len(), sent, "{:?}", viola.has());
    // Somebody who knows that a node was lost there asks.
    viola.requests.lock().unwrap().clear();
    bench.annotate("a", multinic_api::RECONCILE_AT_ANNOTATION, "now").await;
    until("its node is sent again", async || viola.has().get(&key) == Some(&1)).await;
    bench.until_ready("a").await;
    assert_eq!(viola.has().len(), 1, "nothing of the others is");
    // It is told of the last NIC's end, and the configuration waits until it has been.
    *viola.refuses.lock().unwrap() = Some("worker-1");
    bench.delete("a").await;
    until("it waits and says why", async || {
        bench.get("a").await.is_none()
            || condition(&bench.status("a").await, "RemovalNotPropagated").0 == "True"
    })
    .await;
    assert!(bench.get("a").await.is_some());
    *viola.refuses.lock().unwrap() = None;
    bench.until_gone("a").await;
    assert_eq!(viola.has()[&key], 0);
    assert_eq!(records(&inventory).await, ["worker-2"]);
    controller.stop().await;
}

#[tokio::test]
async fn an_answer_of_viola_that_comes_late_is_one_to_what_was_sent() {
    let Some(bench) = Bench::new().await else { return };
    let (viola, url) = Viola::start().await;
    let one = bench.add_node("worker-1");
    let mut spec = bench.spec(&[&one]);
    spec["credentials"]["k8sProviderID"] = json!("provider-1");
    spec["settings"] = json!({"violaTimeout": "1h"});
    let held = viola.held.write().await;
    bench.apply("a", spec).await;
    let controller =
        bench.start_with(&["--leader-elect=false", "--sinks=viola", "--viola-endpoint", &url]).await;
    bench.until_reason("a", &["Delivering"]).await;
    // What is wished changes while the first request has no answer.
    bench.cloud.attach(&one, &[&bench.subnet]).unwrap();
    bench.until_count(2).await;
    drop(held);
    bench.until_ready("a").await;
    let key = ("provider-1".to_owned(), "worker-1".to_owned());
    assert_eq!(viola.has()[&key], 2);
    // Nor is a configuration let go whose removal nobody has acknowledged.
    let held = viola.held.write().await;
    bench.delete("a").await;
    until("it waits", async || condition(&bench.status("a").await, "Ready").1 == "CleanupPending").await;
    bench.until_count(0).await;
    assert!(bench.get("a").await.is_some());
    drop(held);
    bench.until_gone("a").await;
    assert_eq!(viola.has()[&key], 0);
    controller.stop().await;
}

#[tokio::test]
async fn options_that_change_alone_reach_the_object() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    let mut spec = bench.spec(&[&server]);
    spec["options"] = json!({"rpFilter": "loose"});
    bench.apply("a", spec).await;
    until("the object has it", async || {
        let object = objects(&bench).get("worker-1").await.unwrap();
        let nic = serde_json::to_value(&object.spec.interfaces[0]).unwrap();
        nic["options"]["rpFilter"] == json!("loose")
    })
    .await;
    controller.stop().await;
}

pub async fn inventory(path: &std::path::Path) -> Inventory {
    use clap::{Args as _, Command, FromArgMatches as _};
    let command = InventoryArgs::augment_args(Command::new("controller"));
    let path = format!("--inventory-db-path={}", path.display());
    let args = InventoryArgs::from_arg_matches(&command.try_get_matches_from(["controller", &path]).unwrap());
    Inventory::open(&args.unwrap(), None).await.unwrap()
}

#[tokio::test]
async fn what_an_agent_reports_into_the_database_is_beside_what_was_published_for_it() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    let mut spec = bench.spec(&[&server]);
    spec["credentials"]["k8sProviderID"] = json!("provider-1");
    bench.apply("a", spec).await;
    let (mut setup, registry) = bench.setup(&["--leader-elect=false", "--sinks=database"]);
    let inventory = inventory(&bench.folder.path().join("inventory.db")).await;
    setup.inventory = Some(inventory.clone());
    let controller = run(setup, registry).await;
    bench.until_ready("a").await;
    let agent = AgentSource::new(&bench.settings, "worker-1".parse().unwrap());
    let nic = agent.read().await.unwrap().nics.remove(0);
    let (name, addresses) = (nic.slot.unwrap().interface(), nic.addresses);
    let outcome = Outcome::Applied { name, addresses };
    agent.report(&[NicReport { entry: nic.entry, revision: nic.revision, outcome }], &[]).await.unwrap();
    until("the report is in the inventory", async || {
        let page = inventory.store().unwrap().list(&Filter::default(), None, 100).await.unwrap();
        let observed = page.records[0].observed.as_deref().unwrap_or("{}");
        let observed: Value = serde_json::from_str(observed).unwrap();
        observed["state"] == "Configured" && observed["interfaces"][0]["name"] == "multinic0"
    })
    .await;
    controller.stop().await;
}

#[tokio::test]
async fn nodes_of_a_configuration_without_a_provider_are_in_the_inventory_and_leave_it() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let (mut setup, registry) = bench.setup(&["--leader-elect=false"]);
    let inventory = inventory(&bench.folder.path().join("inventory.db")).await;
    setup.inventory = Some(inventory.clone());
    let controller = run(setup, registry).await;
    bench.until_ready("a").await;
    until("it is there", async || records(&inventory).await == ["worker-1"]).await;
    bench.delete("a").await;
    bench.until_gone("a").await;
    until("it is not any more", async || records(&inventory).await.is_empty()).await;
    controller.stop().await;
}

pub async fn records(inventory: &Inventory) -> Vec<String> {
    let page = inventory.store().unwrap().list(&Filter::default(), None, 100).await.unwrap();
    page.records.into_iter().map(|record| record.key.node_name).collect()
}

#[tokio::test]
async fn the_slot_of_a_nic_is_free_once_the_nodes_agent_says_that_it_let_it_go() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.cloud.add_server("worker-1");
    let ports = [(); 2].map(|()| bench.cloud.attach(&server, &[&bench.subnet]).unwrap());
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    until("both are in the object", async || names(&bench, "worker-1").await.len() == 2).await;
    bench.cloud.delete_port(&ports[0].port).unwrap();
    until("one is not any more", async || names(&bench, "worker-1").await.len() == 1).await;
    // While the agent has not reported, the slot is not given to another.
    bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
    until("the third is there", async || names(&bench, "worker-1").await.len() == 2).await;
    assert!(names(&bench, "worker-1").await.values().any(|name| name == "multinic2"));
    let object = objects(&bench).get("worker-1").await.unwrap();
    let nics: Vec<Value> = object
        .spec
        .interfaces
        .iter()
        .map(|nic| json!({"macAddress": nic.mac_address, "name": nic.name, "status": "Configured"}))
        .collect();
    let status = json!({"status": {
        "state": "Configured", "observedGeneration": object.metadata.generation, "conditions": [],
        "interfaceStatuses": nics,
    }});
    objects(&bench).patch_status("worker-1", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    until("the slot is free", async || {
        bench.store.removed().await.unwrap().iter().all(|removed| removed.released)
    })
    .await;
    bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
    until("the fourth takes it", async || {
        names(&bench, "worker-1").await.values().any(|name| name == "multinic0")
    })
    .await;
    controller.stop().await;
}

#[tokio::test]
async fn a_delivery_that_fails_calls_nothing_delivered_and_lets_nothing_deleted_go() {
    let Some(bench) = Bench::new().await else { return };
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    bench.apply("a", bench.spec(&[&one])).await;
    bench.apply("b", bench.spec(&[&two])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    bench.until_ready("b").await;
    // What only a delivery reads.
    bench.sql("ALTER TABLE multi_slot RENAME COLUMN listed TO hidden").await;
    bench.delete("a").await;
    until("it waits for its delivery", async || {
        let (_, reason, message) = condition(&bench.status("a").await, "Ready");
        reason == "CleanupPending" && message.contains("could not be delivered")
    })
    .await;
    bench.until_count(1).await;
    bench.cloud.attach(&two, &[&bench.subnet]).unwrap();
    bench.until_reason("b", &["DatabaseError"]).await;
    assert!(objects(&bench).get_opt("worker-1").await.unwrap().is_some(), "its NICs are still asked for");
    bench.sql("ALTER TABLE multi_slot RENAME COLUMN hidden TO listed").await;
    bench.until_gone("a").await;
    bench.until_ready("b").await;
    assert!(objects(&bench).get_opt("worker-1").await.unwrap().is_none());
    controller.stop().await;
}
