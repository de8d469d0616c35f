//! A ledger that was lost comes back from everything that remembers.

use std::collections::BTreeMap;

use kube::api::PostParams;
use multinic_api::{MultiNicNodeConfig, RECONCILE_AT_ANNOTATION};
use multinic_controller::cluster::{Cluster, ClusterError};
use multinic_controller::inventory::Inventory;
use multinic_core::{ServerId, SubnetId};
use multinic_store::inventory::Entry;
use multinic_store::{DatabaseSettings, Store};
use multinic_telemetry::shutdown::Shutdown;
use multinic_testbed::cloud_simulator::{Attached, Fault};
use multinic_testbed::kubernetes::{ControlPlane, FaultProxy};
use serde_json::{Value, json};

use crate::bench::{Bench, PASSWORD, PATIENCE, Running, condition, logs, run, until};
use crate::moves::Scene;
use crate::sinks::{Viola, inventory, names, objects, records};
use crate::slow::{Silent, grows, publish_to};
use crate::stale::{SERVER, sql};

async fn lose_ledger(bench: &mut Bench) {
    let settings = DatabaseSettings::sqlite(bench.folder.path().join("another.db"));
    bench.store = Store::open(&settings).await.unwrap();
}

/// Waits until a cloud was read a few times more.
async fn until_passed(bench: &Bench) {
    let reads = bench.cloud.count("/v2.0/ports");
    until("passes were made", async || bench.cloud.count("/v2.0/ports") > reads + 4).await;
}

async fn start(bench: &Bench, inventory: &Inventory, more: &[&str]) -> Running {
    let args: Vec<&str> = ["--leader-elect=false"].iter().chain(more).copied().collect();
    let (mut setup, registry) = bench.setup(&args);
    setup.inventory = Some(inventory.clone());
    run(setup, registry).await
}

#[tokio::test]
async fn a_fleet_behind_viola_keeps_its_names_by_the_inventory() {
    let Some(mut bench) = Bench::new().await else { return };
    let (viola, url) = Viola::start().await;
    let server = bench.cloud.add_server("worker-1");
    let ports = [(); 3].map(|()| bench.cloud.attach(&server, &[&bench.subnet]).unwrap());
    let mut spec = bench.spec(&[&server]);
    spec["credentials"]["k8sProviderID"] = json!("provider-1");
    bench.apply("a", spec).await;
    let inventory = inventory(&bench.folder.path().join("inventory.db")).await;
    let args = ["--sinks=viola", "--viola-endpoint", &url];
    let controller = start(&bench, &inventory, &args).await;
    bench.until_count(3).await;
    // The first slot becomes free, so that a new count from zero would show.
    bench.cloud.delete_port(&ports[0].port).unwrap();
    bench.until_count(2).await;
    let key = ("provider-1".to_owned(), "worker-1".to_owned());
    until("Viola has two", async || viola.has().get(&key) == Some(&2)).await;
    until_passed(&bench).await;
    let before = bench.slots().await;
    assert!(!before.values().any(|name| name == "multinic0"));
    controller.stop().await;
    lose_ledger(&mut bench).await;
    viola.requests.lock().unwrap().clear();
    let controller = start(&bench, &inventory, &args).await;
    bench.until_ready("a").await;
    until_passed(&bench).await;
    assert_eq!(bench.slots().await, before);
    let sent: BTreeMap<String, String> = {
        let requests = viola.requests.lock().unwrap();
        let nics = requests.iter().flat_map(|(_, nodes)| nodes[0]["interfaces"].as_array().unwrap());
        let text = |nic: &Value, key: &str| nic[key].as_str().unwrap().to_owned();
        nics.map(|nic| (text(nic, "macAddress"), text(nic, "name"))).collect()
    };
    assert_eq!(sent, before, "it is not known any more what Viola was sent; it is the same");
    controller.stop().await;
}

/// Somebody empties the ledger while the controller works with it.
async fn empties(bench: &Bench, empty: impl AsyncFnOnce()) {
    let server = bench.cloud.add_server("worker-1");
    let [first, _] = [(); 2].map(|()| bench.cloud.attach(&server, &[&bench.subnet]).unwrap().port);
    bench.apply("a", bench.spec(&[&server])).await;
    let (setup, _registry) = bench.setup(&["--leader-elect=false"]);
    let (_stop, shutdown) = Shutdown::by_hand();
    let controller = tokio::spawn(Cluster::start(setup).await.unwrap().run(shutdown));
    bench.until_count(2).await;
    // The first slot becomes free, so that a new count from zero would show.
    bench.cloud.delete_port(&first).unwrap();
    until("the node has one", async || names(bench, "worker-1").await.len() == 1).await;
    let before = names(bench, "worker-1").await;
    assert_eq!(before.values().collect::<Vec<_>>(), ["multinic1"]);
    empty().await;
    let ended = tokio::time::timeout(PATIENCE, controller).await.expect("it goes on").unwrap().unwrap_err();
    assert!(matches!(ended, ClusterError::LedgerGone(_)), "{ended}");
    assert_eq!(names(bench, "worker-1").await, before, "nothing is removed");
}

/// What a start of the program does.
async fn starts_anew(bench: &mut Bench, settings: &DatabaseSettings) {
    let before = names(bench, "worker-1").await;
    bench.store = Store::open(settings).await.unwrap();
    let controller = bench.start().await;
    bench.until_count(1).await;
    until_passed(bench).await;
    assert_eq!((bench.slots().await, names(bench, "worker-1").await), (before.clone(), before));
    controller.stop().await;
}

#[tokio::test]
async fn a_file_that_is_emptied_meanwhile_is_filled_by_the_next_start() {
    let Some(mut bench) = Bench::new().await else { return };
    empties(&bench, async || {
        bench.sql("DROP TABLE multi_interface; DROP TABLE multi_slot; DROP TABLE multinic_meta").await;
    })
    .await;
    let settings = bench.settings.clone();
    starts_anew(&mut bench, &settings).await;
}

#[tokio::test]
async fn a_server_that_is_emptied_meanwhile_is_filled_by_the_next_start() {
    let (Some(mut bench), Some(server)) = (Bench::new().await, &*SERVER) else { return };
    server.create_database("emptied").unwrap();
    let settings = DatabaseSettings::from_url(&server.url("emptied")).unwrap();
    bench.store = Store::open(&settings).await.unwrap();
    let empty = "DROP DATABASE emptied; CREATE DATABASE emptied";
    empties(&bench, async || sql(server, "mysql", empty.to_owned()).await).await;
    starts_anew(&mut bench, &settings).await;
}

/// An object as an older program wrote it.
async fn write_old_object(bench: &Bench, node: &str, nics: &[(&Attached, &str)]) {
    let interfaces: Vec<Value> = nics
        .iter()
        .map(|(port, name)| json!({"macAddress": port.mac, "portId": port.port, "name": name, "mtu": 1450}))
        .collect();
    let spec = json!({"nodeName": node, "interfaces": interfaces});
    let object = MultiNicNodeConfig::new(node, serde_json::from_value(spec).unwrap());
    objects(bench).create(&PostParams::default(), &object).await.unwrap();
}

/// A node with NICs in two subnets, with the object that an older program wrote.
struct OldNode {
    bench: Bench,
    server: ServerId,
    first: Attached,
    green: SubnetId,
}

impl OldNode {
    async fn new() -> Option<Self> {
        let bench = Bench::new().await?;
        let server = bench.cloud.add_server("worker-1");
        let first = bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
        let network = bench.cloud.add_network("green", Some(1450));
        let green = bench.cloud.add_subnet(&network, "green-v4", "10.30.0.0/24".parse().unwrap()).unwrap();
        let second = bench.cloud.attach(&server, &[&green]).unwrap();
        write_old_object(&bench, "worker-1", &[(&first, "multinic4"), (&second, "multinic2")]).await;
        Some(Self { bench, server, first, green })
    }
}

#[tokio::test]
async fn objects_of_older_programs_keep_their_names_and_lose_nothing_that_is_not_read_yet() {
    let Some(OldNode { bench, server: one, green, .. }) = OldNode::new().await else { return };
    // Each of two configurations has a NIC of the node; the second cannot be read yet.
    let before = names(&bench, "worker-1").await;
    bench.apply("a", bench.spec(&[&one])).await;
    let mut spec = bench.spec_with_secret(&[&one]);
    spec["subnetIDs"] = json!([green.as_str()]);
    bench.apply("b", spec).await;
    let controller = bench.start().await;
    let status = bench.until_reason("a", &["UnclaimedInterfaces"]).await;
    assert!(condition(&status, "Published").2.contains("/b is carried out"), "{status:?}");
    until_passed(&bench).await;
    assert_eq!(names(&bench, "worker-1").await, before);
    bench.write_secret("cloud", &[("password", PASSWORD)]).await;
    bench.until_ready("b").await;
    bench.until_ready("a").await;
    assert_eq!(bench.slots().await, before);
    assert_eq!(names(&bench, "worker-1").await, before);
    assert!(bench.store.unclaimed(None).await.unwrap().is_empty());
    // A name that nobody has is free as ever.
    bench.cloud.attach(&one, &[&bench.subnet]).unwrap();
    until("the new NIC has the lowest", async || {
        names(&bench, "worker-1").await.values().any(|name| name == "multinic0")
    })
    .await;
    controller.stop().await;
}

#[tokio::test]
async fn a_nic_that_came_back_and_that_nobody_names_is_kept_for_ten_minutes() {
    let Some(OldNode { bench, server: one, first, .. }) = OldNode::new().await else { return };
    bench.apply("a", bench.spec(&[&one])).await;
    let controller = bench.start().await;
    let status = bench.until_reason("a", &["UnclaimedInterfaces"]).await;
    assert!(condition(&status, "Published").2.contains("for 10 minutes"), "{status:?}");
    assert_eq!(names(&bench, "worker-1").await.len(), 2);
    // Whoever is to name it has had the time.
    bench.sql("UPDATE multi_slot SET created_at = datetime('now', '-601 seconds')").await;
    bench.until_ready("a").await;
    let after = names(&bench, "worker-1").await;
    assert_eq!(after, BTreeMap::from([(first.mac.to_string(), "multinic4".to_owned())]));
    controller.stop().await;
}

#[tokio::test]
async fn while_the_inventory_cannot_be_read_no_pass_is_made() {
    let Some(bench) = Bench::new().await else { return };
    let logs = logs();
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let inventory = inventory(&bench.folder.path().join("inventory.db")).await;
    let node = format!("{}-1", bench.namespace);
    let config = json!({"nodeName": node, "interfaces": [{"macAddress": "nonsense", "name": "multinic0"}]});
    let broken = Entry::new("provider-1", &config).unwrap();
    inventory.apply(std::slice::from_ref(&broken)).await.unwrap();
    let controller = start(&bench, &inventory, &[]).await;
    let told = format!(
        "the inventory's record of node {node} (provider provider-1) cannot be read: interfaces[0].macAddress"
    );
    let count = || String::from_utf8_lossy(&logs.lock().unwrap()).matches(&told).count();
    until("it is told twice", async || count() > 1).await;
    assert_eq!((bench.cloud.total_requests(), bench.count().await), (0, 0));
    assert!(bench.finalizers("a").await.is_empty());
    inventory.remove(&[broken.key().clone()]).await.unwrap();
    bench.until_ready("a").await;
    assert_eq!(bench.count().await, 1);
    controller.stop().await;
}

#[tokio::test]
async fn what_an_older_inventory_says_of_nodes_that_nobody_publishes_goes_once_every_cloud_was_read() {
    let Some(mut bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    controller.stop().await;
    let inventory = inventory(&bench.folder.path().join("inventory.db")).await;
    let nic = json!({"macAddress": "fa:16:3e:99:00:01", "name": "multinic0"});
    let old = json!({"nodeName": "worker-9", "interfaces": [nic]});
    inventory.apply(&[Entry::new("provider-1", &old).unwrap()]).await.unwrap();
    bench.apply("b", bench.spec_with_secret(&[&server])).await;
    let controller = start(&bench, &inventory, &[]).await;
    bench.until_reason("b", &["ConfigError"]).await;
    until_passed(&bench).await;
    assert_eq!(records(&inventory).await, ["worker-1", "worker-9"], "it may be the other's");
    bench.write_secret("cloud", &[("password", PASSWORD)]).await;
    until("it is gone", async || records(&inventory).await == ["worker-1"]).await;
    controller.stop().await;
    // A ledger that was lost is another thing: there it is all that is known of the node.
    inventory.apply(&[Entry::new("provider-1", &old).unwrap()]).await.unwrap();
    lose_ledger(&mut bench).await;
    let controller = start(&bench, &inventory, &[]).await;
    bench.until_ready("a").await;
    bench.until_ready("b").await;
    until_passed(&bench).await;
    assert_eq!(records(&inventory).await, ["worker-1", "worker-9"]);
    controller.stop().await;
}

#[tokio::test]
async fn what_a_cluster_that_never_answers_remembers_is_waited_for_by_those_alone_who_publish_there() {
    let Some(bench) = Bench::new().await else { return };
    let silent = Silent::start().await;
    let server = publish_to(&bench, &silent).await;
    // Its ledger knows nothing.
    let controller = bench.start().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        grows(&bench, "prompt", &mut nodes).await;
    }
    let status = bench.until_reason("silent", &["ConfigError"]).await;
    assert!(status.last_error.unwrap().contains("not known yet"));
    assert!(bench.store.is_restoring().await.unwrap());
    bench.apply("silent", bench.spec(&[&server])).await;
    bench.until_ready("silent").await;
    controller.stop().await;
}

#[tokio::test]
async fn what_is_asked_for_while_its_place_is_being_read_waits_and_is_not_forgotten() {
    let Some(mut scene) = Scene::new().await else { return };
    let control_plane = ControlPlane::shared().unwrap();
    let proxy = FaultProxy::start(control_plane).unwrap();
    let kubeconfig = proxy.access(control_plane.admin()).kubeconfig();
    scene.bench.write_secret("kubeconfig", &[("value", &kubeconfig)]).await;
    let one = scene.bench.add_node("worker-1");
    let spec = scene.by_secret(scene.bench.spec(&[&one]), &scene.other);
    scene.bench.apply_annotated("a", spec, json!({RECONCILE_AT_ANNOTATION: "1"})).await;
    let args = ["--leader-elect=false", "--reconcile-mode=manual"];
    let controller = scene.bench.start_with(&args).await;
    let before = scene.bench.until_ready("a").await;
    controller.stop().await;
    lose_ledger(&mut scene.bench).await;
    let bench = &scene.bench;
    let two = bench.add_node("worker-2");
    let spec = scene.by_secret(bench.spec(&[&one, &two]), &scene.other);
    bench.apply_annotated("a", spec, json!({RECONCILE_AT_ANNOTATION: "2"})).await;
    proxy.silence("list", "multinicnodeconfigs");
    let controller = bench.start_with(&args).await;
    let mut status = before.clone();
    until("it says that its place is being read", async || {
        status = bench.status("a").await;
        condition(&status, "Reconciling").1 == "ReadingPlace"
    })
    .await;
    let handled = status.last_handled_reconcile_at.as_deref();
    assert_eq!((status.observed_generation, handled), (before.observed_generation, Some("1")), "{status:?}");
    assert_eq!(condition(&status, "Stalled").0, "", "nothing is wrong: {status:?}");
    // Everything is known, the cloud does not answer, and the process ends.
    bench.cloud.inject_always("/", Fault::Hang);
    proxy.heal();
    until("the ledger is filled", async || !bench.store.is_restoring().await.unwrap()).await;
    controller.stop().await;
    bench.cloud.clear_faults();
    let controller = bench.start_with(&args).await;
    bench.until_count(2).await;
    until("the request is answered", async || {
        bench.status("a").await.last_handled_reconcile_at.as_deref() == Some("2")
    })
    .await;
    controller.stop().await;
}

#[tokio::test]
async fn a_deleted_configuration_stays_until_what_it_published_is_known() {
    let Some(bench) = Bench::new().await else { return };
    let silent = Silent::start().await;
    publish_to(&bench, &silent).await;
    // Its ledger knows nothing.
    let controller = bench.start().await;
    until("it is guarded", async || !bench.finalizers("silent").await.is_empty()).await;
    bench.delete("silent").await;
    until("it says what it waits for", async || {
        let conditions = bench.status("silent").await.conditions;
        conditions.iter().any(|it| it.message.as_ref().is_some_and(|text| text.contains("is not known yet")))
    })
    .await;
    assert!(!bench.finalizers("silent").await.is_empty());
    controller.stop().await;
}
