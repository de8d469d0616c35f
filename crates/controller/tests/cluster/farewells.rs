//! Places that were left and do not answer, or not at once: nobody else waits for them, and whatever changes meanwhile ends well.

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use multinic_api::{CLEANUP_FINALIZER, ORPHAN_ANNOTATION};
use multinic_core::ServerId;
use multinic_store::Reached;
use multinic_testbed::kubernetes::{ControlPlane, FaultProxy};
use serde_json::{Value, json};

use crate::bench::{Bench, Running, condition, until};
use crate::moves::Scene;
use crate::sinks::Viola;
use crate::slow::{Silent, grows, kubeconfig_of};

const MANY: [&str; 2] = ["worker-1", "worker-2"];

async fn is_told(bench: &Bench, name: &str, reason: &str) -> bool {
    let (is, said, _) = condition(&bench.status(name).await, "RemovalNotPropagated");
    is == "True" && said == reason
}

async fn until_told(bench: &Bench, name: &str, reason: &str) {
    until(&format!("{name} says {reason}"), async || is_told(bench, name, reason).await).await;
}

async fn until_told_nothing(bench: &Bench, name: &str) {
    until(&format!("{name} says nothing of removals"), async || {
        condition(&bench.status(name).await, "RemovalNotPropagated").0.is_empty()
    })
    .await;
}

/// A configuration of two nodes behind a Viola.
struct Behind {
    scene: Scene,
    viola: Viola,
    servers: [ServerId; 2],
    url: String,
}

impl Behind {
    async fn new() -> Option<(Self, Running)> {
        let scene = Scene::new().await?;
        let (viola, url) = Viola::start().await;
        let servers = MANY.map(|name| scene.bench.add_node(name));
        let behind = Self { scene, viola, servers, url };
        behind.publish("viola").await;
        let controller = behind.start().await;
        behind.until_viola_has([1, 1]).await;
        behind.scene.bench.until_ready("a").await;
        Some((behind, controller))
    }

    async fn start(&self) -> Running {
        self.scene.bench.start_with(&["--leader-elect=false", "--viola-endpoint", &self.url]).await
    }

    async fn publish(&self, sink: &str) {
        let bench = &self.scene.bench;
        let mut spec = bench.spec(&self.servers.each_ref());
        spec["credentials"]["k8sProviderID"] = json!("provider-1");
        spec["sinks"] = json!([sink]);
        spec["settings"] = json!({"violaTimeout": "1h"});
        bench.apply("a", spec).await;
    }

    async fn until_viola_has(&self, counts: [usize; 2]) {
        let key = |node: &str| ("provider-1".to_owned(), node.to_owned());
        until(&format!("Viola has {counts:?}"), async || {
            let has = self.viola.has();
            MANY.map(|node| has.get(&key(node)).copied()) == counts.map(Some)
        })
        .await;
    }

    /// Waits until both nodes have objects, or none.
    async fn until_objects(&self, are: bool) {
        for node in MANY {
            self.scene.until_counts(node, (are.then_some(1), None)).await;
        }
    }
}

#[tokio::test]
async fn an_old_cluster_that_never_answers_is_told_and_holds_nobody_up() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let silent = Silent::start().await;
    bench.write_secret("kubeconfig", &[("value", &kubeconfig_of(&silent))]).await;
    let server = bench.add_node("worker-1");
    let controller = bench.start().await;
    // Of what is there when it begins to lead, it would not know whether something was published there before.
    let mut nodes = Vec::new();
    grows(bench, "prompt", &mut nodes).await;
    bench.apply("a", scene.by_secret(bench.spec(&[&server]), &scene.other)).await;
    bench.until_reason("a", &["Delivering", "KubernetesApplyError"]).await;
    bench.apply("a", bench.spec(&[&server])).await;
    until_told(bench, "a", "Moving").await;
    bench.until_ready("a").await;
    for _ in 0..3 {
        grows(bench, "prompt", &mut nodes).await;
    }
    until_told(bench, "a", "KubernetesApplyError").await;
    // Nobody knows what is there.
    bench.delete("a").await;
    until("its node is gone here", async || scene.counts("worker-1").await.0.is_none()).await;
    grows(bench, "prompt", &mut nodes).await;
    assert!(bench.get("a").await.is_some());
    bench.annotate("a", ORPHAN_ANNOTATION, "true").await;
    bench.until_gone("a").await;
    controller.stop().await;
}

#[tokio::test]
async fn a_new_cluster_that_falls_silent_holds_up_nobody_who_moves_elsewhere() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let control_plane = ControlPlane::shared().unwrap();
    let third = control_plane.new_namespace("third").await.unwrap();
    let proxy = FaultProxy::start(control_plane).unwrap();
    let kubeconfig = proxy.access(control_plane.admin()).kubeconfig();
    bench.write_secret("kubeconfig", &[("value", &kubeconfig)]).await;
    // More than are asked for at once, and before the other's by their names.
    let many: Vec<ServerId> = (10..30).map(|at| bench.add_node(&format!("a-{at}"))).collect();
    let many: Vec<&ServerId> = many.iter().collect();
    let other = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&many)).await;
    bench.apply("b", bench.spec(&[&other])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    bench.until_ready("b").await;
    // It takes what is sent, and does not answer when it is asked for it.
    proxy.silence("get", "multinicnodeconfigs");
    bench.apply("a", scene.by_secret(bench.spec(&many), &scene.other)).await;
    until_told(bench, "a", "Moving").await;
    let mut spec = bench.spec(&[&other]);
    spec["target"] = json!({"namespace": third});
    bench.apply("b", spec).await;
    until("it has moved", async || scene.counts("worker-1").await.0.is_none()).await;
    until_told(bench, "a", "KubernetesApplyError").await;
    let (_, _, message) = condition(&bench.status("a").await, "RemovalNotPropagated");
    assert!(message.contains("cannot be seen") && message.contains(&scene.other), "{message}");
    until_told_nothing(bench, "b").await;
    proxy.heal();
    for node in ["a-10", "a-29"] {
        scene.until_counts(node, (None, Some(1))).await;
    }
    until_told_nothing(bench, "a").await;
    controller.stop().await;
}

#[tokio::test]
async fn a_move_back_while_a_removal_is_on_its_way_ends_with_everything_back() {
    let Some((behind, controller)) = Behind::new().await else { return };
    let bench = &behind.scene.bench;
    let held = behind.viola.held.write().await;
    behind.publish("kubernetes").await;
    behind.until_objects(true).await;
    until_told(bench, "a", "Moving").await;
    behind.publish("viola").await;
    // What is sent now could arrive before the removal.
    bench.until_reason("a", &["Delivering"]).await;
    drop(held);
    behind.until_viola_has([1, 1]).await;
    bench.until_ready("a").await;
    behind.until_objects(false).await;
    behind.scene.until_one_place().await;
    behind.until_viola_has([1, 1]).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_move_back_after_a_part_was_taken_away_brings_that_part_back() {
    let Some((behind, controller)) = Behind::new().await else { return };
    let bench = &behind.scene.bench;
    *behind.viola.refuses.lock().unwrap() = Some("worker-1");
    behind.publish("kubernetes").await;
    behind.until_viola_has([1, 0]).await;
    until_told(bench, "a", "RemovalNotPropagated").await;
    *behind.viola.refuses.lock().unwrap() = None;
    behind.viola.requests.lock().unwrap().clear();
    behind.publish("viola").await;
    until("both are there", async || behind.viola.has().values().filter(|count| **count == 1).count() == 2)
        .await;
    bench.until_ready("a").await;
    behind.until_objects(false).await;
    behind.scene.until_one_place().await;
    until_told_nothing(bench, "a").await;
    behind.until_viola_has([1, 1]).await;
    controller.stop().await;
}

#[tokio::test]
async fn objects_of_which_only_some_are_gone_come_back_with_the_configuration() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let servers = MANY.map(|name| bench.add_node(name));
    let spec = || -> Value { bench.spec(&servers.each_ref()) };
    bench.apply("a", spec()).await;
    let controller = bench.start().await;
    for node in MANY {
        scene.until_counts(node, (Some(1), None)).await;
    }
    let slots = bench.slots().await;
    let held = Patch::Merge(json!({"metadata": {"finalizers": [CLEANUP_FINALIZER]}}));
    let here = scene.api(&bench.namespace);
    here.patch("worker-1", &PatchParams::default(), &held).await.unwrap();
    let uid = here.get("worker-1").await.unwrap().uid();
    bench.apply("a", scene.there(spec())).await;
    scene.until_counts("worker-2", (None, Some(1))).await;
    until_told(bench, "a", "AgentElsewhere").await;
    bench.apply("a", spec()).await;
    for node in MANY {
        scene.until_counts(node, (Some(1), None)).await;
    }
    bench.until_ready("a").await;
    scene.until_one_place().await;
    assert_eq!(
        here.get("worker-1").await.unwrap().uid(),
        uid,
        "the object that an agent holds was never away"
    );
    assert_eq!(bench.slots().await, slots);
    controller.stop().await;
}

#[tokio::test]
async fn what_is_orphaned_while_a_removal_is_on_its_way_is_let_go_and_does_not_come_back() {
    let Some((behind, controller)) = Behind::new().await else { return };
    let bench = &behind.scene.bench;
    let held = behind.viola.held.write().await;
    behind.publish("kubernetes").await;
    behind.until_objects(true).await;
    until_told(bench, "a", "Moving").await;
    bench.annotate("a", ORPHAN_ANNOTATION, "true").await;
    until_told_nothing(bench, "a").await;
    behind.scene.until_one_place().await;
    bench.delete("a").await;
    bench.until_gone("a").await;
    drop(held);
    // What was sent arrives; of the rest everything stays.
    behind.until_viola_has([0, 0]).await;
    grows(bench, "prompt", &mut Vec::new()).await;
    behind.until_objects(true).await;
    behind.until_viola_has([0, 0]).await;
    controller.stop().await;
}

#[tokio::test]
async fn an_answer_that_comes_while_the_ledger_cannot_be_read_is_not_lost() {
    let Some((behind, controller)) = Behind::new().await else { return };
    let bench = &behind.scene.bench;
    *behind.viola.says.lock().unwrap() = Some("deleted");
    let held = behind.viola.held.write().await;
    bench.delete("a").await;
    until("it waits", async || condition(&bench.status("a").await, "Ready").1 == "CleanupPending").await;
    bench.until_count(0).await;
    // What only a delivery reads.
    bench.sql("ALTER TABLE multi_slot RENAME COLUMN listed TO hidden").await;
    drop(held);
    behind.until_viola_has([0, 0]).await;
    until("it says that the ledger fails", async || {
        condition(&bench.status("a").await, "Ready").2.contains("could not be delivered")
    })
    .await;
    assert!(bench.get("a").await.is_some());
    bench.sql("ALTER TABLE multi_slot RENAME COLUMN hidden TO listed").await;
    bench.until_gone("a").await;
    until("its slots are free", async || {
        let removed = bench.store.removed().await.unwrap();
        removed.iter().all(|it| it.released && it.delivered == Reached::Everything)
    })
    .await;
    controller.stop().await;
}
