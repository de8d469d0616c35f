//! Configurations that are published elsewhere from one day on.

use kube::Api;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use multinic_api::{CLEANUP_FINALIZER, Condition, MultiNicNodeConfig, ORPHAN_ANNOTATION};
use multinic_core::{ServerId, SubnetId};
use multinic_testbed::kubernetes::ControlPlane;
use serde_json::{Value, json};

use crate::bench::{Bench, Running, condition, run, until};
use crate::sinks::{Viola, inventory};

/// A namespace beside that of the bench.
pub struct Scene {
    pub bench: Bench,
    pub other: String,
}

impl Scene {
    pub async fn new() -> Option<Self> {
        let bench = Bench::new().await?;
        let other = ControlPlane::shared().unwrap().new_namespace("elsewhere").await.unwrap();
        Some(Self { bench, other })
    }

    /// `worker-1` with a NIC in each of two subnets, that of the bench and the one that is returned.
    fn one_for_two(&self) -> (ServerId, SubnetId) {
        let cloud = &self.bench.cloud;
        let server = self.bench.add_node("worker-1");
        let network = cloud.add_network("green", Some(1450));
        let green = cloud.add_subnet(&network, "green-v4", "10.30.0.0/24".parse().unwrap()).unwrap();
        cloud.attach(&server, &[&green]).unwrap();
        (server, green)
    }

    /// A configuration that publishes a node's NICs of a subnet through Viola.
    fn by_viola(&self, server: &ServerId, subnet: &SubnetId) -> Value {
        let mut spec = self.bench.spec(&[server]);
        spec["subnetIDs"] = json!([subnet.as_str()]);
        spec["credentials"]["k8sProviderID"] = json!("provider-1");
        spec["sinks"] = json!(["viola"]);
        spec
    }

    /// Two configurations, `a` and `b`, publish a NIC each on `worker-1`, and `a` moves to where nothing can be published yet.
    async fn one_of_two_moves_in_vain(&self) -> Running {
        let bench = &self.bench;
        let (server, green) = self.one_for_two();
        bench.apply("a", bench.spec(&[&server])).await;
        let mut spec = bench.spec(&[&server]);
        spec["subnetIDs"] = json!([green.as_str()]);
        bench.apply("b", spec).await;
        let controller = bench.start().await;
        self.until_counts("worker-1", (Some(2), None)).await;
        self.write_kubeconfig(false).await;
        bench.apply("a", self.by_secret(bench.spec(&[&server]), &self.other)).await;
        bench.until_reason("a", &["KubernetesApplyError"]).await;
        controller
    }

    pub fn api(&self, namespace: &str) -> Api<MultiNicNodeConfig> {
        Api::namespaced(self.bench.client.clone(), namespace)
    }

    /// How many NICs a node has here and elsewhere.
    pub async fn counts(&self, node: &str) -> (Option<usize>, Option<usize>) {
        let count = async |namespace: &str| {
            let object = self.api(namespace).get_opt(node).await.unwrap();
            object.filter(|it| it.metadata.deletion_timestamp.is_none()).map(|it| it.spec.interfaces.len())
        };
        (count(&self.bench.namespace).await, count(&self.other).await)
    }

    pub async fn until_counts(&self, node: &str, counts: (Option<usize>, Option<usize>)) {
        until(&format!("{node} has {counts:?}"), async || self.counts(node).await == counts).await;
    }

    /// Waits until a configuration has no place but its own.
    pub async fn until_one_place(&self) {
        until("one place is recorded", async || self.bench.store.places().await.unwrap().len() == 1).await;
    }

    pub fn there(&self, mut spec: Value) -> Value {
        spec["target"] = json!({"namespace": self.other});
        spec
    }

    pub fn by_secret(&self, mut spec: Value, namespace: &str) -> Value {
        spec["target"] =
            json!({"namespace": namespace, "kubeconfigSecretRef": {"name": "kubeconfig", "key": "value"}});
        spec
    }

    pub async fn write_kubeconfig(&self, good: bool) {
        let kubeconfig = ControlPlane::shared().unwrap().admin().kubeconfig();
        let text = if good { kubeconfig.as_str() } else { "nonsense" };
        self.bench.write_secret("kubeconfig", &[("value", text)]).await;
    }

    pub async fn until_passed(&self) {
        let reads = self.bench.cloud.count("/v2.0/ports");
        until("passes were made", async || self.bench.cloud.count("/v2.0/ports") > reads + 8).await;
    }
}

#[tokio::test]
async fn what_was_published_in_another_namespace_goes_once_it_stands_in_the_new_one() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    scene.until_counts("worker-1", (Some(1), None)).await;
    let slots = bench.slots().await;
    bench.apply("a", scene.there(bench.spec(&[&server]))).await;
    scene.until_counts("worker-1", (None, Some(1))).await;
    bench.until_ready("a").await;
    scene.until_one_place().await;
    // It moves back while nobody works: another process finds out.
    controller.stop().await;
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    scene.until_counts("worker-1", (Some(1), None)).await;
    scene.until_one_place().await;
    assert_eq!(bench.slots().await, slots);
    controller.stop().await;
}

#[tokio::test]
async fn a_node_whose_agent_reads_its_old_object_keeps_that_until_it_reads_the_new_one() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    scene.until_counts("worker-1", (Some(1), None)).await;
    // As the agent does before it configures anything.
    let held = Patch::Merge(json!({"metadata": {"finalizers": [CLEANUP_FINALIZER]}}));
    let hold = async |namespace: &str| {
        scene.api(namespace).patch("worker-1", &PatchParams::default(), &held).await.unwrap();
    };
    hold(&bench.namespace).await;
    bench.apply("a", scene.there(bench.spec(&[&server]))).await;
    scene.until_counts("worker-1", (Some(1), Some(1))).await;
    until("it is told", async || {
        condition(&bench.status("a").await, "RemovalNotPropagated").1 == "AgentElsewhere"
    })
    .await;
    assert_eq!(scene.counts("worker-1").await, (Some(1), Some(1)));
    hold(&scene.other).await;
    until("the old one is gone altogether", async || {
        scene.api(&bench.namespace).get_opt("worker-1").await.unwrap().is_none()
    })
    .await;
    assert_eq!(scene.counts("worker-1").await, (None, Some(1)));
    until("it is not told any more", async || {
        condition(&bench.status("a").await, "RemovalNotPropagated").0.is_empty()
    })
    .await;
    controller.stop().await;
}

#[tokio::test]
async fn nothing_goes_before_it_stands_at_the_new_place() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    scene.until_counts("worker-1", (Some(1), None)).await;
    scene.write_kubeconfig(false).await;
    bench.apply("a", scene.by_secret(bench.spec(&[&server]), &scene.other)).await;
    bench.until_reason("a", &["KubernetesApplyError"]).await;
    scene.until_passed().await;
    assert_eq!(scene.counts("worker-1").await, (Some(1), None));
    scene.write_kubeconfig(true).await;
    scene.until_counts("worker-1", (None, Some(1))).await;
    bench.until_ready("a").await;
    controller.stop().await;
}

#[tokio::test]
async fn an_old_place_that_cannot_be_reached_is_told_and_tried_again_and_blocks_nothing_else() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    scene.write_kubeconfig(true).await;
    for (name, server) in [("a", &one), ("b", &two)] {
        bench.apply(name, scene.by_secret(bench.spec(&[server]), &scene.other)).await;
    }
    let controller = bench.start().await;
    scene.until_counts("worker-1", (None, Some(1))).await;
    scene.until_counts("worker-2", (None, Some(1))).await;
    controller.stop().await;
    scene.write_kubeconfig(false).await;
    for (name, server) in [("a", &one), ("b", &two)] {
        bench.apply(name, bench.spec(&[server])).await;
    }
    let controller = bench.start().await;
    let is_told = async |name: &str| {
        let (is, _, message) = condition(&bench.status(name).await, "RemovalNotPropagated");
        is == "True" && message.contains(&scene.other)
    };
    for name in ["a", "b"] {
        bench.until_ready(name).await;
        until("it is told", async || is_told(name).await).await;
    }
    assert_eq!(scene.counts("worker-1").await, (Some(1), Some(1)));
    bench.cloud.attach(&one, &[&bench.subnet]).unwrap();
    scene.until_counts("worker-1", (Some(2), Some(1))).await;
    // Somebody knows that it is gone for good, or wants it to stay.
    bench.annotate("b", ORPHAN_ANNOTATION, "true").await;
    until("it is not told any more", async || !is_told("b").await).await;
    scene.write_kubeconfig(true).await;
    scene.until_counts("worker-1", (Some(2), None)).await;
    until("it is not told any more", async || !is_told("a").await).await;
    assert_eq!(scene.counts("worker-2").await, (Some(1), Some(1)));
    controller.stop().await;
}

#[tokio::test]
async fn another_name_of_the_same_place_is_no_other_place() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    scene.until_counts("worker-1", (Some(1), None)).await;
    let uid = scene.api(&bench.namespace).get("worker-1").await.unwrap().uid();
    scene.write_kubeconfig(true).await;
    bench.apply("a", scene.by_secret(bench.spec(&[&server]), &bench.namespace)).await;
    bench.until_ready("a").await;
    scene.until_one_place().await;
    assert_eq!(scene.api(&bench.namespace).get("worker-1").await.unwrap().uid(), uid);
    controller.stop().await;
}

#[tokio::test]
async fn a_node_of_which_another_configuration_stays_keeps_its_nics() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let controller = scene.one_of_two_moves_in_vain().await;
    scene.until_passed().await;
    assert_eq!(scene.counts("worker-1").await, (Some(2), None), "not before it stands elsewhere");
    scene.write_kubeconfig(true).await;
    scene.until_counts("worker-1", (Some(1), Some(1))).await;
    until("nothing is left to be done", async || bench.store.places().await.unwrap().len() == 2).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_viola_that_one_of_two_leaves_keeps_the_nics_of_both_until_the_node_stands_elsewhere() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let (viola, url) = Viola::start().await;
    let (server, green) = scene.one_for_two();
    bench.apply("a", scene.by_viola(&server, &bench.subnet)).await;
    bench.apply("b", scene.by_viola(&server, &green)).await;
    let args = ["--leader-elect=false", "--viola-endpoint", &url];
    let controller = bench.start_with(&args).await;
    let key = ("provider-1".to_owned(), "worker-1".to_owned());
    until("it has both NICs", async || viola.has().get(&key) == Some(&2)).await;
    scene.write_kubeconfig(false).await;
    let moved = || {
        let mut spec = scene.by_viola(&server, &bench.subnet);
        spec["sinks"] = json!(["kubernetes"]);
        scene.by_secret(spec, &scene.other)
    };
    bench.apply("a", moved()).await;
    bench.until_reason("a", &["KubernetesApplyError"]).await;
    scene.until_passed().await;
    assert_eq!(viola.has()[&key], 2, "not before it stands elsewhere");
    let neighbour = bench.status("b").await;
    assert_ne!(condition(&neighbour, "Degraded").0, "True", "it is at no fault: {neighbour:?}");
    assert_eq!(neighbour.last_error, None);
    // Another process tells a Viola everything once, but for that.
    controller.stop().await;
    let controller = bench.start_with(&args).await;
    bench.until_reason("a", &["KubernetesApplyError"]).await;
    scene.until_passed().await;
    assert_eq!(viola.has()[&key], 2, "not before it stands elsewhere");
    scene.write_kubeconfig(true).await;
    scene.until_counts("worker-1", (None, Some(1))).await;
    until("the other's NIC alone is there", async || viola.has()[&key] == 1).await;
    bench.until_ready("a").await;
    bench.until_ready("b").await;
    until("it has left", async || bench.store.places().await.unwrap().len() == 2).await;
    controller.stop().await;
}

#[tokio::test]
async fn whoever_is_deleted_stays_while_its_node_waits_for_one_that_moves() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let controller = scene.one_of_two_moves_in_vain().await;
    bench.delete("b").await;
    until("it says what it waits for", async || {
        let status = bench.status("b").await;
        let says =
            |it: &Condition| it.message.as_ref().is_some_and(|text| text.contains("stays as it is at"));
        status.conditions.iter().any(says)
    })
    .await;
    assert_eq!(scene.counts("worker-1").await, (Some(2), None), "its NIC is still there");
    scene.write_kubeconfig(true).await;
    scene.until_counts("worker-1", (None, Some(1))).await;
    bench.until_gone("b").await;
    controller.stop().await;
}

#[tokio::test]
async fn a_node_that_another_does_not_let_be_delivered_is_not_forgotten_where_it_was() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let (_viola, url) = Viola::start().await;
    let (server, green) = scene.one_for_two();
    bench.apply("a", bench.spec(&[&server])).await;
    bench.write_secret("viola", &[("token", "hush")]).await;
    let mut both = scene.by_viola(&server, &green);
    both["sinks"] = json!(["kubernetes", "viola"]);
    both["secrets"] = json!({"violaTokenSecretRef": {"name": "viola", "key": "token"}});
    bench.apply("b", both).await;
    let args = ["--leader-elect=false", "--viola-endpoint", &url];
    let controller = bench.start_with(&args).await;
    scene.until_counts("worker-1", (Some(2), None)).await;
    bench.until_ready("b").await;
    controller.stop().await;
    bench.delete_secret("viola").await;
    let controller = bench.start_with(&args).await;
    bench.until_reason("b", &["ConfigError"]).await;
    scene.write_kubeconfig(false).await;
    bench.apply("a", scene.by_secret(bench.spec(&[&server]), &scene.other)).await;
    bench.until_reason("a", &["NodeSkipped"]).await;
    scene.until_passed().await;
    bench.write_secret("viola", &[("token", "hush")]).await;
    until("its other NIC waits", async || {
        condition(&bench.status("b").await, "Published").2.contains("stays as it is at")
    })
    .await;
    assert_eq!(scene.counts("worker-1").await, (Some(2), None), "it stands nowhere else");
    scene.write_kubeconfig(true).await;
    scene.until_counts("worker-1", (Some(1), Some(1))).await;
    bench.until_ready("b").await;
    controller.stop().await;
}

#[tokio::test]
async fn whoever_leaves_a_viola_leaves_the_nics_there_of_one_that_is_not_there_any_more() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let (viola, url) = Viola::start().await;
    let (server, green) = scene.one_for_two();
    bench.apply("a", scene.by_viola(&server, &bench.subnet)).await;
    bench.apply("orphan", scene.by_viola(&server, &green)).await;
    let args = ["--leader-elect=false", "--viola-endpoint", &url];
    let controller = bench.start_with(&args).await;
    bench.until_count(2).await;
    bench.until_ready("a").await;
    bench.until_ready("orphan").await;
    controller.stop().await;
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    bench.api().patch("orphan", &PatchParams::default(), &free).await.unwrap();
    bench.delete("orphan").await;
    bench.until_gone("orphan").await;
    let controller = bench.start_with(&args).await;
    bench.until_ready("a").await;
    let mut moved = scene.by_viola(&server, &bench.subnet);
    moved["sinks"] = json!(["kubernetes"]);
    bench.apply("a", moved).await;
    scene.until_counts("worker-1", (Some(1), None)).await;
    until("it has left", async || bench.store.places().await.unwrap().len() == 2).await;
    bench.until_ready("a").await;
    let key = ("provider-1".to_owned(), "worker-1".to_owned());
    until("the other's NIC alone is there", async || viola.has()[&key] == 1).await;
    let requests = viola.requests.lock().unwrap().clone();
    let emptied = |nodes: &Value| nodes.as_array().unwrap().iter().any(|it| it["interfaces"] == json!([]));
    assert!(!requests.iter().any(|(_, nodes)| emptied(nodes)), "{requests:?}");
    controller.stop().await;
}

#[tokio::test]
async fn from_viola_to_objects_and_back() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let (viola, url) = Viola::start().await;
    let server = bench.add_node("worker-1");
    let spec = |sink: &str| {
        let mut spec = bench.spec(&[&server]);
        spec["credentials"]["k8sProviderID"] = json!("provider-1");
        spec["sinks"] = json!([sink]);
        spec
    };
    bench.apply("a", spec("viola")).await;
    let inventory = inventory(&bench.folder.path().join("inventory.db")).await;
    let start = async || {
        let (mut setup, registry) = bench.setup(&["--leader-elect=false", "--viola-endpoint", &url]);
        setup.inventory = Some(inventory.clone());
        run(setup, registry).await
    };
    let controller = start().await;
    let key = ("provider-1".to_owned(), "worker-1".to_owned());
    let until_has = async |count: usize| {
        until(&format!("Viola has {count}"), async || viola.has().get(&key) == Some(&count)).await;
    };
    until_has(1).await;
    *viola.refuses.lock().unwrap() = Some("worker-1");
    bench.apply("a", spec("kubernetes")).await;
    scene.until_counts("worker-1", (Some(1), None)).await;
    until("it is told", async || condition(&bench.status("a").await, "RemovalNotPropagated").0 == "True")
        .await;
    controller.stop().await;
    *viola.refuses.lock().unwrap() = None;
    let controller = start().await;
    until_has(0).await;
    until("it is not told any more", async || {
        condition(&bench.status("a").await, "RemovalNotPropagated").0.is_empty()
    })
    .await;
    // The inventory's record says what was delivered, and not that it was to Viola.
    bench.apply("a", spec("viola")).await;
    until_has(1).await;
    scene.until_counts("worker-1", (None, None)).await;
    scene.until_one_place().await;
    controller.stop().await;
}

#[tokio::test]
async fn a_setting_of_the_controller_that_changes_takes_nothing_away() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    scene.until_counts("worker-1", (Some(1), None)).await;
    controller.stop().await;
    let other = format!("--node-cr-namespace={}", scene.other);
    let controller = bench.start_with(&["--leader-elect=false", &other]).await;
    scene.until_counts("worker-1", (Some(1), Some(1))).await;
    scene.until_passed().await;
    assert_eq!(scene.counts("worker-1").await, (Some(1), Some(1)));
    controller.stop().await;
}

#[tokio::test]
async fn a_configuration_that_is_deleted_while_it_moves_waits_for_the_old_place() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let server = bench.add_node("worker-1");
    scene.write_kubeconfig(true).await;
    bench.apply("a", scene.by_secret(bench.spec(&[&server]), &scene.other)).await;
    let controller = bench.start().await;
    scene.until_counts("worker-1", (None, Some(1))).await;
    controller.stop().await;
    scene.write_kubeconfig(false).await;
    bench.apply("a", bench.spec(&[&server])).await;
    bench.delete("a").await;
    let controller = bench.start().await;
    until("it waits and says for what", async || {
        condition(&bench.status("a").await, "RemovalNotPropagated").2.contains(&scene.other)
    })
    .await;
    assert_eq!(scene.counts("worker-1").await.1, Some(1));
    scene.write_kubeconfig(true).await;
    bench.until_gone("a").await;
    assert_eq!(scene.counts("worker-1").await, (None, None));
    until("no place is recorded", async || bench.store.places().await.unwrap().is_empty()).await;
    controller.stop().await;
}
