//! A ledger that is an old copy takes nothing away, and becomes what it should be once clouds are read.

use std::sync::LazyLock;

use kube::ResourceExt as _;
use multinic_api::{LEDGER_EPOCH_ANNOTATION, RECONCILE_AT_ANNOTATION};
use multinic_core::{PortId, ServerId};
use multinic_store::{DatabaseSettings, Store};
use multinic_testbed::cloud_simulator::Fault;
use multinic_testbed::mariadb::MariaDb;
use serde_json::{Value, json};

use crate::bench::{Bench, Running, condition, until};
use crate::sinks::{Viola, names, objects};

pub static SERVER: LazyLock<Option<MariaDb>> =
    LazyLock::new(|| MariaDb::installed().then(|| MariaDb::start().expect("a MariaDB server")));

fn cloud_fails(bench: &Bench) {
    bench.cloud.inject_always("/v2.0/", Fault::Html(503));
}

/// The annotation with the ledger's epoch of a node's object.
async fn epoch(bench: &Bench, node: &str) -> Option<String> {
    objects(bench).get(node).await.unwrap().annotations().get(LEDGER_EPOCH_ANNOTATION).cloned()
}

/// Not on the thread on which the controller may be in the midst of a transaction.
pub async fn sql(server: &'static MariaDb, database: &'static str, text: String) {
    tokio::task::spawn_blocking(move || server.sql(database, &text).unwrap()).await.unwrap();
}

async fn until_told(bench: &Bench, name: &str) {
    until(&format!("{name} says that the ledger is stale"), async || {
        let (status, reason, message) = condition(&bench.status(name).await, "Published");
        status == "False" && reason == "LedgerStale" && message.contains("clouds of")
    })
    .await;
}

/// A configuration with two nodes; what `meanwhile` does comes after the copy of the ledger was taken.
struct Scene {
    bench: Bench,
    servers: [ServerId; 2],
    moving: PortId,
}

impl Scene {
    async fn new() -> Option<Self> {
        let bench = Bench::new().await?;
        let servers = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
        let moving = bench.cloud.attach(&servers[0], &[&bench.subnet]).unwrap().port;
        bench.apply("a", bench.spec(&[&servers[0], &servers[1]])).await;
        Some(Self { bench, servers, moving })
    }

    /// Everything has changed since the ledger was copied, that copy is the ledger, and the cloud fails.
    async fn with_an_old_copy() -> Option<Self> {
        let mut scene = Self::new().await?;
        let controller = scene.bench.start().await;
        scene.until_names("worker-1", 2).await;
        scene.bench.until_ready("a").await;
        let copy = scene.bench.folder.path().join("copy.db");
        scene.bench.copy_ledger(&copy).await;
        scene.change().await;
        controller.stop().await;
        cloud_fails(&scene.bench);
        scene.bench.store = Store::open(&DatabaseSettings::sqlite(copy)).await.unwrap();
        Some(scene)
    }

    async fn until_names(&self, node: &str, count: usize) {
        until(&format!("{node} has {count}"), async || names(&self.bench, node).await.len() == count).await;
    }

    /// One NIC more on the first node, and one that moves from the first to the second.
    async fn change(&self) {
        let Self { bench, servers, moving } = self;
        bench.cloud.attach(&servers[0], &[&bench.subnet]).unwrap();
        bench.cloud.attach(&servers[0], &[&bench.subnet]).unwrap();
        self.until_names("worker-1", 4).await;
        bench.cloud.move_port(moving, &servers[1]).unwrap();
        self.until_names("worker-1", 3).await;
        self.until_names("worker-2", 2).await;
    }
}

#[tokio::test]
async fn an_old_copy_of_a_file_removes_nothing_before_the_cloud_was_read() {
    let Some(scene) = Scene::with_an_old_copy().await else { return };
    let Scene { bench, .. } = &scene;
    let before = [names(bench, "worker-1").await, names(bench, "worker-2").await];
    let controller = bench.start().await;
    until_told(bench, "a").await;
    for (node, before) in ["worker-1", "worker-2"].iter().zip(&before) {
        let now = names(bench, node).await;
        assert!(before.iter().all(|nic| now.get_key_value(nic.0) == Some(nic)), "{node}: {before:?} {now:?}");
    }
    assert_ne!(controller.metric("multinic_controller_ledger_stale_nodes"), "0");
    bench.cloud.clear_faults();
    bench.until_ready("a").await;
    until("everything is as it was", async || {
        [names(bench, "worker-1").await, names(bench, "worker-2").await] == before
    })
    .await;
    until("it is told no more", async || controller.metric("multinic_controller_ledger_stale_nodes") == "0")
        .await;
    // From here on it goes by this ledger.
    bench.apply("a", bench.spec(&[&scene.servers[1]])).await;
    until("the first node has nothing", async || objects(bench).get_opt("worker-1").await.unwrap().is_none())
        .await;
    controller.stop().await;
}

#[tokio::test]
async fn a_database_that_is_restored_under_a_running_controller_removes_nothing_before_the_cloud_was_read() {
    let Some(mut scene) = Scene::new().await else { return };
    let Some(server) = &*SERVER else { return };
    server.create_database("ledger").unwrap();
    server.create_database("copy").unwrap();
    let settings = DatabaseSettings::from_url(&server.url("ledger")).unwrap();
    scene.bench.store = Store::open(&settings).await.unwrap();
    let controller = scene.bench.start().await;
    scene.until_names("worker-1", 2).await;
    scene.bench.until_ready("a").await;
    let tables = server.sql("ledger", "SHOW TABLES").unwrap();
    let each =
        |sql: &str| -> String { tables.split_whitespace().map(|table| sql.replace('%', table)).collect() };
    sql(server, "copy", each("CREATE TABLE % LIKE ledger.%; INSERT INTO % SELECT * FROM ledger.%;")).await;
    scene.change().await;
    let Scene { bench, .. } = &scene;
    let before = [names(bench, "worker-1").await, names(bench, "worker-2").await];
    cloud_fails(bench);
    bench.until_reason("a", &["NeutronPortError", "NeutronSubnetError", "NeutronNetworkError"]).await;
    let restore = each("DELETE FROM %; INSERT INTO % SELECT * FROM copy.%;");
    sql(server, "ledger", format!("SET foreign_key_checks=0; START TRANSACTION; {restore} COMMIT;")).await;
    until_told(bench, "a").await;
    for (node, before) in ["worker-1", "worker-2"].iter().zip(&before) {
        let now = names(bench, node).await;
        assert!(before.iter().all(|nic| now.get_key_value(nic.0) == Some(nic)), "{node}: {before:?} {now:?}");
    }
    bench.cloud.clear_faults();
    bench.until_ready("a").await;
    until("everything is as it was", async || {
        [names(bench, "worker-1").await, names(bench, "worker-2").await] == before
    })
    .await;
    controller.stop().await;
}

#[tokio::test]
async fn a_viola_is_told_nothing_by_an_old_copy_before_the_cloud_was_read() {
    let Some(bench) = Bench::new().await else { return };
    let (viola, url) = Viola::start().await;
    let server = bench.add_node("worker-1");
    bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
    let mut spec = bench.spec(&[&server]);
    spec["credentials"]["k8sProviderID"] = json!("provider-1");
    bench.apply("a", spec).await;
    let args = ["--leader-elect=false", "--sinks=viola", "--viola-endpoint", &url];
    let controller = bench.start_with(&args).await;
    bench.until_ready("a").await;
    cloud_fails(&bench);
    bench.until_reason("a", &["NeutronPortError", "NeutronSubnetError", "NeutronNetworkError"]).await;
    // As it was when the node had one NIC.
    bench
        .sql(
            "BEGIN IMMEDIATE; DELETE FROM multi_interface WHERE macaddress = 'fa:16:3e:00:00:02'; \
             UPDATE multinic_meta SET value = '0' WHERE name = 'revision'; COMMIT",
        )
        .await;
    assert_eq!(bench.count().await, 1);
    until_told(&bench, "a").await;
    bench.cloud.clear_faults();
    bench.until_ready("a").await;
    assert_eq!(bench.count().await, 2);
    let counts: Vec<usize> = viola
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|(_, nodes)| nodes[0]["interfaces"].as_array().unwrap().len())
        .collect();
    assert!(counts.iter().all(|count| *count == 2), "{counts:?}");
    controller.stop().await;
}

/// Two configurations, `a` and `b`, with a NIC each on two nodes behind a Viola, and clouds that are read when asked. What
/// `a` had on the second node was taken away.
struct Shared {
    bench: Bench,
    viola: Viola,
    controller: Running,
    servers: [ServerId; 2],
}

impl Shared {
    async fn new() -> Option<Self> {
        let bench = Bench::new().await?;
        let (viola, url) = Viola::start().await;
        let network = bench.cloud.add_network("green", Some(1450));
        let green = bench.cloud.add_subnet(&network, "green-v4", "10.30.0.0/24".parse().unwrap()).unwrap();
        let servers = ["worker-1", "worker-2"].map(|name| {
            let server = bench.add_node(name);
            bench.cloud.attach(&server, &[&green]).unwrap();
            server
        });
        let args = ["--leader-elect=false", "--reconcile-mode=manual", "--viola-endpoint", &url];
        let controller = bench.start_with(&args).await;
        let scene = Self { bench, viola, controller, servers };
        let [one, two] = &scene.servers;
        scene.bench.apply("a", scene.spec(&[one, two])).await;
        let mut other = scene.spec(&[one, two]);
        other["subnetIDs"] = json!([green.as_str()]);
        scene.bench.apply("b", other).await;
        scene.until_has("worker-1", 2).await;
        scene.until_has("worker-2", 2).await;
        scene.bench.apply("a", scene.spec(&[one])).await;
        scene.until_has("worker-2", 1).await;
        scene.bench.until_ready("a").await;
        scene.bench.until_ready("b").await;
        scene.viola.requests.lock().unwrap().clear();
        Some(scene)
    }

    fn spec(&self, servers: &[&ServerId]) -> Value {
        let mut spec = self.bench.spec(servers);
        spec["credentials"]["k8sProviderID"] = json!("provider-1");
        spec["sinks"] = json!(["viola"]);
        spec
    }

    /// The ledger is as it was before `b` was read, and nobody was told of what `a` lost.
    async fn roll_back(&self) {
        self.bench
            .sql(
                "BEGIN IMMEDIATE; \
                 DELETE FROM multi_interface WHERE macaddress IN ('fa:16:3e:00:00:02', 'fa:16:3e:00:00:04'); \
                 UPDATE multi_removal SET delivered_at = NULL; \
                 UPDATE multinic_meta SET value = '0' WHERE name = 'revision'; COMMIT",
            )
            .await;
        assert_eq!(self.bench.count().await, 1);
    }

    fn has(&self, node: &str) -> Option<usize> {
        self.viola.has().get(&("provider-1".to_owned(), node.to_owned())).copied()
    }

    async fn until_has(&self, node: &str, count: usize) {
        until(&format!("{node} has {count}"), async || self.has(node) == Some(count)).await;
    }

    /// `a` waits for the cloud of `b`; until then the Viola is told nothing.
    async fn until_it_waits(&self, type_: &str) {
        until("it waits for the other's cloud", async || {
            let requests = self.viola.requests.lock().unwrap().clone();
            assert!(requests.is_empty(), "{requests:?}");
            let (_, _, message) = condition(&self.bench.status("a").await, type_);
            message.contains(&format!("clouds of {}/b were read", self.bench.namespace))
        })
        .await;
    }

    /// How many NICs a node was told to have, each time.
    fn told(&self, node: &str) -> Vec<usize> {
        let requests = self.viola.requests.lock().unwrap();
        let nodes = requests.iter().flat_map(|(_, nodes)| nodes.as_array().unwrap());
        let lists = nodes.filter(|it| it["nodeName"] == node);
        lists.map(|it| it["interfaces"].as_array().unwrap().len()).collect()
    }
}

#[tokio::test]
async fn a_viola_is_told_nothing_by_an_old_copy_before_the_clouds_of_all_that_publish_there_were_read() {
    let Some(scene) = Shared::new().await else { return };
    let bench = &scene.bench;
    scene.roll_back().await;
    bench.annotate("a", RECONCILE_AT_ANNOTATION, "now").await;
    scene.until_it_waits("Published").await;
    assert_eq!(
        condition(&bench.status("b").await, "Published").1,
        "LedgerStale",
        "nobody knows what it lacks"
    );
    bench.annotate("b", RECONCILE_AT_ANNOTATION, "now").await;
    bench.until_ready("a").await;
    bench.until_ready("b").await;
    assert_eq!(bench.count().await, 3);
    let told = [("worker-1", 2), ("worker-2", 1)].map(|(node, count)| (scene.told(node), count));
    assert!(told.iter().all(|(told, count)| told.iter().all(|it| it == count)), "{told:?}");
    // From here on it is believed, whoever comes.
    let [one, _] = &scene.servers;
    let mut broken = scene.spec(&[one]);
    broken["credentials"]["password"] = json!("wrong");
    bench.apply("c", broken).await;
    bench.until_reason("c", &["KeystoneError"]).await;
    bench.cloud.attach(one, &[&bench.subnet]).unwrap();
    bench.annotate("a", RECONCILE_AT_ANNOTATION, "later").await;
    scene.until_has("worker-1", 3).await;
    scene.controller.stop().await;
}

#[tokio::test]
async fn whoever_leaves_a_viola_takes_nothing_away_there_by_an_old_copy_before_the_clouds_of_the_others_were_read()
 {
    let Some(scene) = Shared::new().await else { return };
    let bench = &scene.bench;
    scene.roll_back().await;
    let [one, _] = &scene.servers;
    let mut moved = scene.spec(&[one]);
    moved["sinks"] = json!(["kubernetes"]);
    bench.apply("a", moved).await;
    until("it is published there", async || objects(bench).get_opt("worker-1").await.unwrap().is_some())
        .await;
    scene.until_it_waits("RemovalNotPropagated").await;
    bench.annotate("b", RECONCILE_AT_ANNOTATION, "now").await;
    scene.until_has("worker-1", 1).await;
    bench.until_ready("a").await;
    bench.until_ready("b").await;
    assert!(!scene.told("worker-1").contains(&0) && !scene.told("worker-2").contains(&0));
    scene.controller.stop().await;
}

#[tokio::test]
async fn a_person_confirms_a_ledger_by_taking_the_epoch_away() {
    let Some(scene) = Scene::with_an_old_copy().await else { return };
    let Scene { bench, moving, .. } = &scene;
    let controller = bench.start().await;
    until_told(bench, "a").await;
    let count = names(bench, "worker-2").await.len();
    assert_eq!(count, 2, "one of them is the first node's, as the old ledger has it");
    let patch = json!({"metadata": {"annotations": {LEDGER_EPOCH_ANNOTATION: null}}});
    objects(bench).patch("worker-2", &Default::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    scene.until_names("worker-2", 1).await;
    assert!(epoch(bench, "worker-2").await.is_some(), "it names the ledger again");
    let other = objects(bench).get("worker-2").await.unwrap();
    assert!(other.spec.interfaces.iter().all(|nic| nic.port_id.as_deref() != Some(moving.as_str())));
    controller.stop().await;
}
