//! Nodes as objects, on a real API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, CustomResourceExt as _, ResourceExt as _};
use multinic_api::{
    CLEANUP_FINALIZER, INSTANCE_ID_LABEL, MultiNicNodeConfig, NODE_NAME_LABEL, PROVIDER_ID_LABEL,
};
use multinic_controller::sinks::kubernetes::ServerGone;
use multinic_controller::sinks::kubernetes::kubeconfig::{choose_cryptography, client_of};
use multinic_controller::sinks::{
    Delivery, INTERFACE_OWNERS_ANNOTATION, KubernetesSink, Ledger, NodeWish, SinkError,
};
use multinic_core::desired::Position;
use multinic_core::{ConfigKey, NodeConfig, PortId, Slot};
use multinic_testbed::kubernetes::{ControlPlane, FaultProxy};
use serde_json::json;

const MANAGER: &str = "multinic-controller";
const LIMIT: Duration = Duration::from_secs(60);

struct World {
    client: Client,
    namespace: String,
    api: Api<MultiNicNodeConfig>,
    sink: KubernetesSink,
}

impl World {
    async fn new() -> Option<Self> {
        if !ControlPlane::installed() {
            return None;
        }
        choose_cryptography();
        let control_plane = ControlPlane::shared().unwrap();
        control_plane.install_crd(&MultiNicNodeConfig::crd()).await.unwrap();
        let namespace = control_plane.new_namespace("sink").await.unwrap();
        let client = control_plane.client().unwrap();
        let sink = KubernetesSink::new(client.clone(), &namespace, MANAGER);
        sink.until_read().await;
        let api = Api::namespaced(client.clone(), &namespace);
        Some(Self { client, namespace, api, sink })
    }

    async fn deliver(&self, wish: &NodeWish) -> Result<Delivery, SinkError> {
        let mut results = self.sink.deliver(std::slice::from_ref(wish), &ledger()).await;
        assert_eq!(results.len(), 1);
        results.remove(0).1
    }

    async fn get(&self, name: &str) -> MultiNicNodeConfig {
        self.api.get(name).await.unwrap()
    }

    async fn merge(&self, name: &str, patch: serde_json::Value) {
        let parameters =
            PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
        self.api.patch(name, &parameters, &Patch::Merge(patch)).await.unwrap();
    }

    /// Delivers whenever the sink says that something drifted, until the check holds.
    async fn until_mended(&self, wish: &NodeWish, check: impl AsyncFn() -> bool) {
        let mended = async {
            loop {
                self.sink.drifted().await;
                self.deliver(wish).await.unwrap();
                if check().await {
                    return;
                }
            }
        };
        tokio::time::timeout(LIMIT, mended).await.expect("the drift is noticed and mended");
    }
}

async fn until(what: &str, check: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !check().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The ledger that everything comes from.
fn ledger() -> Ledger {
    let owner = ConfigKey::new("default", "config-a");
    Ledger { position: Position { epoch: "epoch-a".to_owned(), revision: 7 }, fresh: [owner].into() }
}

fn wish(node: &str, nics: &[u8]) -> NodeWish {
    let interfaces: BTreeMap<Slot, _> = nics
        .iter()
        .map(|n| {
            let interface = json!({
                "mac": format!("FA:16:3E:00:00:{n:02X}"), "port": format!("port-{n}"), "network": "net-a",
                "subnet": "subnet-a", "device": "server-a", "addresses": [format!("10.0.0.{}/24", n + 10)],
                "cidr": "10.0.0.0/24", "mtu": 1450
            });
            (Slot::new((*n).into()).unwrap(), serde_json::from_value(interface).unwrap())
        })
        .collect();
    let owner = ConfigKey::new("default", "config-a");
    let owners = nics.iter().map(|n| (PortId::from(format!("port-{n}")), owner.clone())).collect();
    let config = NodeConfig { node: node.parse().unwrap(), instance: "server-a".into(), interfaces };
    NodeWish { provider: Some("provider-a".to_owned()), config, owners, options: BTreeMap::new() }
}

fn macs(object: &MultiNicNodeConfig) -> Vec<&str> {
    object.spec.interfaces.iter().map(|nic| nic.mac_address.as_str()).collect()
}

#[tokio::test]
async fn a_wish_becomes_an_object_and_the_same_wish_writes_nothing() {
    let Some(world) = World::new().await else { return };
    let wish = wish("worker-1", &[0, 1]);
    assert_eq!(world.deliver(&wish).await.unwrap(), Delivery::Applied);
    let object = world.get("worker-1").await;
    let labels = object.labels();
    assert_eq!(labels[NODE_NAME_LABEL], "worker-1");
    assert_eq!(labels[INSTANCE_ID_LABEL], "server-a");
    assert_eq!(labels[PROVIDER_ID_LABEL], "provider-a");
    assert_eq!(
        object.annotations()[INTERFACE_OWNERS_ANNOTATION],
        r#"{"port-0":"default/config-a","port-1":"default/config-a"}"#
    );
    let nic = |n: u8| {
        json!({
            "id": n, "name": format!("multinic{n}"), "macAddress": format!("fa:16:3e:00:00:0{n}"),
            "address": format!("10.0.0.{}", n + 10), "addresses": [format!("10.0.0.{}/24", n + 10)],
            "cidr": "10.0.0.0/24", "mtu": 1450, "portId": format!("port-{n}"), "networkId": "net-a",
            "subnetId": "subnet-a", "deviceId": "server-a"
        })
    };
    let spec = json!({"nodeName": "worker-1", "instanceId": "server-a", "interfaces": [nic(0), nic(1)]});
    assert_eq!(serde_json::to_value(&object.spec).unwrap(), spec);

    assert_eq!(world.deliver(&wish).await.unwrap(), Delivery::Unchanged);
    // A controller that was just started compares with what is there.
    let sink = KubernetesSink::new(world.client.clone(), &world.namespace, MANAGER);
    sink.until_read().await;
    let results = sink.deliver(std::slice::from_ref(&wish), &ledger()).await;
    assert_eq!(results[0].1, Ok(Delivery::Unchanged));
    assert_eq!(world.get("worker-1").await.resource_version(), object.resource_version());
}

#[tokio::test]
async fn what_kubectl_created_is_taken_over_before_the_first_apply() {
    let Some(world) = World::new().await else { return };
    for (manager, node) in [("kubectl-create", "worker-1"), ("kubectl-client-side-apply", "worker-2")] {
        // The second entry contradicts ours until it is gone: it has our MAC address in capitals, and our name.
        let object: MultiNicNodeConfig = serde_json::from_value(json!({
            "apiVersion": "multinic.io/v1alpha1", "kind": "MultiNicNodeConfig",
            "metadata": {"name": node, "annotations": {"kept": "yes"}},
            "spec": {"nodeName": node, "interfaces": [
                {"macAddress": "fa:16:3e:00:00:77", "name": "multinic7"},
                {"macAddress": "FA:16:3E:00:00:0A", "name": "multinic10"},
            ]}
        }))
        .unwrap();
        let parameters = PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() };
        world.api.create(&parameters, &object).await.unwrap();
        assert_eq!(world.deliver(&wish(node, &[10])).await.unwrap(), Delivery::Applied);
        let object = world.get(node).await;
        assert_eq!(macs(&object), ["fa:16:3e:00:00:0a"]);
        assert_eq!(object.annotations()["kept"], "yes");
        // And from then on the list is ours alone.
        world.deliver(&wish(node, &[11])).await.unwrap();
        assert_eq!(macs(&world.get(node).await), ["fa:16:3e:00:00:0b"]);
    }
}

#[tokio::test]
async fn an_edited_object_is_put_back() {
    let Some(world) = World::new().await else { return };
    let wish = wish("worker-1", &[0, 1]);
    world.deliver(&wish).await.unwrap();
    let good = world.get("worker-1").await;
    // An entry more, of another manager by server-side apply: it would survive an apply of ours alone.
    let foreign = json!({
        "apiVersion": "multinic.io/v1alpha1", "kind": "MultiNicNodeConfig", "metadata": {"name": "worker-1"},
        "spec": {"interfaces": [{"macAddress": "fa:16:3e:00:00:99"}]}
    });
    world.api.patch("worker-1", &PatchParams::apply("foreign"), &Patch::Apply(&foreign)).await.unwrap();
    world.until_mended(&wish, async || world.get("worker-1").await.spec == good.spec).await;
    // An entry less, and another value, by an update.
    let spec = json!({"spec": {"interfaces": [{"macAddress": "fa:16:3e:00:00:00", "mtu": 9000}]}});
    world.merge("worker-1", spec).await;
    world.until_mended(&wish, async || world.get("worker-1").await.spec == good.spec).await;
    // The memory of whose it is.
    world.merge("worker-1", json!({"metadata": {"annotations": {INTERFACE_OWNERS_ANNOTATION: null}}})).await;
    let put_back =
        async || world.get("worker-1").await.annotations().contains_key(INTERFACE_OWNERS_ANNOTATION);
    world.until_mended(&wish, put_back).await;
    // The whole object.
    world.api.delete("worker-1", &DeleteParams::default()).await.unwrap();
    world.until_mended(&wish, async || world.api.get_opt("worker-1").await.unwrap().is_some()).await;
    // What is not ours is nobody's drift.
    world.merge("worker-1", json!({"metadata": {"labels": {"team": "blue"}}})).await;
    assert_eq!(world.deliver(&wish).await.unwrap(), Delivery::Unchanged);
}

#[tokio::test]
async fn a_tombstone_deletes_what_is_ours_and_nothing_else() {
    let Some(world) = World::new().await else { return };
    world.deliver(&wish("worker-1", &[0])).await.unwrap();
    let tombstone = wish("worker-1", &[]);
    assert_eq!(world.deliver(&tombstone).await.unwrap(), Delivery::Removed);
    assert_eq!(world.api.get_opt("worker-1").await.unwrap(), None);
    until("the watch shows that it is gone", async || {
        world.deliver(&tombstone).await.unwrap() == Delivery::Unchanged
    })
    .await;

    let foreign = MultiNicNodeConfig::new("worker-2", wish_spec("worker-2"));
    world.api.create(&PostParams::default(), &foreign).await.unwrap();
    let sink = KubernetesSink::new(world.client.clone(), &world.namespace, MANAGER);
    sink.until_read().await;
    assert_eq!(sink.deliver(&[wish("worker-2", &[])], &ledger()).await[0].1, Ok(Delivery::Unchanged));
    world.get("worker-2").await;
}

fn wish_spec(node: &str) -> multinic_api::MultiNicNodeConfigSpec {
    serde_json::from_value(json!({
        "nodeName": node, "instanceId": "server-a",
        "interfaces": [{"macAddress": "fa:16:3e:00:00:55", "name": "multinic5", "portId": "port-5"}]
    }))
    .unwrap()
}

#[tokio::test]
async fn an_object_goes_when_its_agent_has_cleaned_up_or_its_server_and_node_are_gone() {
    let Some(world) = World::new().await else { return };
    world.deliver(&wish("worker-1", &[0])).await.unwrap();
    world.merge("worker-1", json!({"metadata": {"finalizers": [CLEANUP_FINALIZER]}})).await;
    assert_eq!(world.deliver(&wish("worker-1", &[])).await.unwrap(), Delivery::Releasing);
    until("the watch shows the deletion", async || world.sink.releasing() == ["worker-1"]).await;
    assert_eq!(world.deliver(&wish("worker-1", &[])).await.unwrap(), Delivery::Releasing);
    // What is wanted anew waits for the clean-up.
    assert_eq!(world.deliver(&wish("worker-1", &[1])).await.unwrap(), Delivery::Releasing);
    let memory = world.sink.memory().await.unwrap();
    assert_eq!((memory.interfaces.len(), memory.releasing.len()), (0, 1));
    assert_eq!(memory.releasing[0].slot, Slot::new(0).ok());

    let node = "worker-1".parse().unwrap();
    let nodes: Api<Node> = Api::all(world.client.clone());
    let metadata = ObjectMeta { name: Some("worker-1".to_owned()), ..ObjectMeta::default() };
    nodes.create(&PostParams::default(), &Node { metadata, ..Node::default() }).await.unwrap();
    let gone = ServerGone { server: "server-a".into() };
    assert!(!world.sink.release_gone_node(&node, &gone).await.unwrap(), "its Node object is there");
    nodes.delete("worker-1", &DeleteParams::default()).await.unwrap();
    let another = ServerGone { server: "server-b".into() };
    assert!(!world.sink.release_gone_node(&node, &another).await.unwrap(), "another server is gone");
    assert!(world.sink.release_gone_node(&node, &gone).await.unwrap());
    // Now the wish that waited is met.
    let wish = wish("worker-1", &[1]);
    world
        .until_mended(&wish, async || {
            world.api.get_opt("worker-1").await.unwrap().is_some_and(|o| macs(&o) == ["fa:16:3e:00:00:01"])
        })
        .await;
}

#[tokio::test]
async fn one_bad_node_does_not_stop_the_others() {
    let Some(world) = World::new().await else { return };
    let wishes = [wish("worker-1", &[0]), wish("Worker_2", &[0]), wish("worker-3", &[0])];
    let results = world.sink.deliver(&wishes, &ledger()).await;
    assert_eq!(results.len(), 3);
    for (node, result) in results {
        match node.as_str() {
            "Worker_2" => {
                let error = result.unwrap_err();
                assert!(matches!(error, SinkError::ObjectName { .. }) && !error.retry(), "{error}");
            }
            _ => assert_eq!(result, Ok(Delivery::Applied)),
        }
    }
}

#[tokio::test]
async fn what_was_published_is_remembered_with_its_owner_and_slot() {
    let Some(world) = World::new().await else { return };
    let (one, two) = (wish("worker-1", &[3, 7]), wish("worker-2", &[0]));
    world.sink.deliver(&[one.clone(), two], &ledger()).await;
    let foreign = MultiNicNodeConfig::new("worker-3", wish_spec("worker-3"));
    world.api.create(&PostParams::default(), &foreign).await.unwrap();
    let memory = world.sink.memory().await.unwrap();
    assert_eq!((memory.interfaces.len(), memory.unowned.len(), memory.releasing.len()), (3, 1, 0));
    assert_eq!(memory.unowned[0].slot, Slot::new(5).ok());
    for row in memory.interfaces.iter().filter(|row| row.node.as_str() == "worker-1") {
        let slot = row.slot.unwrap();
        assert_eq!(row.owner, ConfigKey::new("default", "config-a"));
        assert_eq!(row.interface(), one.config.interfaces.get(&slot));
    }
}

#[tokio::test]
async fn nothing_is_written_before_it_is_known_what_is_there() {
    let Some(world) = World::new().await else { return };
    // Somebody who may do nothing: the first list never comes.
    let client = ControlPlane::shared().unwrap().client_for("stranger", &[]).unwrap();
    let sink = KubernetesSink::new(client, &world.namespace, MANAGER);
    until("the refusal is told", async || {
        let results = sink.deliver(&[wish("worker-1", &[0])], &ledger()).await;
        let error = results[0].1.clone().unwrap_err();
        assert!(matches!(error, SinkError::NotRead { .. }) && error.retry(), "{error}");
        error.to_string().contains("forbidden")
    })
    .await;
    sink.memory().await.unwrap_err();
}

#[tokio::test]
async fn a_restart_of_the_api_server_loses_nothing() {
    if !ControlPlane::installed() {
        return;
    }
    choose_cryptography();
    let mut control_plane = ControlPlane::start().unwrap();
    control_plane.install_crd(&MultiNicNodeConfig::crd()).await.unwrap();
    let sink = KubernetesSink::new(control_plane.client().unwrap(), "default", MANAGER);
    sink.until_read().await;
    let wishes: Vec<NodeWish> = (0..20).map(|n| wish(&format!("worker-{n}"), &[0])).collect();
    sink.deliver(&wishes[..10], &ledger()).await;
    control_plane.kill();
    let results = sink.deliver(&wishes, &ledger()).await;
    assert_eq!(
        results.iter().filter(|(_, result)| result.is_ok()).count(),
        10,
        "unchanged ones need no server"
    );
    let error = results.iter().find_map(|(_, result)| result.clone().err()).unwrap();
    assert!(error.retry(), "{error}");
    control_plane.restart().unwrap();
    let deadline = Instant::now() + LIMIT;
    while sink.deliver(&wishes, &ledger()).await.iter().any(|(_, result)| result.is_err()) {
        assert!(Instant::now() < deadline);
    }
    // The watch is up again: somebody's deletion is noticed.
    let api: Api<MultiNicNodeConfig> = Api::namespaced(control_plane.client().unwrap(), "default");
    assert_eq!(api.list(&kube::api::ListParams::default()).await.unwrap().items.len(), 20);
    api.delete("worker-5", &DeleteParams::default()).await.unwrap();
    let mended = async {
        while api.get_opt("worker-5").await.unwrap().is_none() {
            sink.drifted().await;
            sink.deliver(&wishes, &ledger()).await;
        }
    };
    tokio::time::timeout(LIMIT, mended).await.unwrap();
}

#[tokio::test]
async fn conflicts_outages_and_cut_watches_lose_and_delete_nothing() {
    let Some(world) = World::new().await else { return };
    let control_plane = ControlPlane::shared().unwrap();
    let proxy = FaultProxy::start(control_plane).unwrap();
    let config = proxy.access(control_plane.admin()).config().unwrap();
    let sink = KubernetesSink::new(client_of(config).unwrap(), &world.namespace, MANAGER);
    sink.until_read().await;
    let all: Vec<NodeWish> = (0..30).map(|n| wish(&format!("worker-{n}"), &[0, 1])).collect();
    let deliver = async |wishes: &[NodeWish]| {
        let deadline = Instant::now() + LIMIT;
        loop {
            let results = sink.deliver(wishes, &ledger()).await;
            let failed: Vec<_> = results.into_iter().filter_map(|(_, result)| result.err()).collect();
            if failed.is_empty() {
                return;
            }
            assert!(failed.iter().all(SinkError::retry), "{failed:?}");
            assert!(Instant::now() < deadline, "{failed:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // Every write fails once, and watches live for moments.
    proxy.conflict_once(true);
    proxy.limit_watches(Some(Duration::from_millis(5)..Duration::from_millis(200)));
    deliver(&all).await;
    // A load balancer without a server behind it, and versions that are gone.
    proxy.set_unavailable(true);
    let (changed, gone) = (wish("worker-1", &[1, 2]), wish("worker-2", &[]));
    proxy.forget();
    let results = sink.deliver(&[changed.clone(), all[0].clone()], &ledger()).await;
    assert!(
        results.iter().all(|(node, result)| (node.as_str() == "worker-0") == result.is_ok()),
        "{results:?}"
    );
    let asked =
        proxy.records().into_iter().filter(|it| it.fault && !matches!(it.verb.as_str(), "list" | "watch"));
    // Once, and the five retries of a write.
    assert_eq!(asked.count(), 6);
    proxy.expire_next("multinicnodeconfigs", 3);
    proxy.cut_watches();
    proxy.set_unavailable(false);
    proxy.conflict_once(true);
    deliver(&[changed, gone]).await;
    // Somebody's edit in the midst of it.
    let spec = json!({"spec": {"interfaces": [{"macAddress": "fa:16:3e:00:00:99"}]}});
    world.merge("worker-3", spec).await;
    let mended = async {
        while macs(&world.get("worker-3").await).contains(&"fa:16:3e:00:00:99") {
            sink.drifted().await;
            deliver(&all[3..4]).await;
        }
    };
    tokio::time::timeout(LIMIT, mended).await.expect("the edit is noticed");
    let objects = world.api.list(&kube::api::ListParams::default()).await.unwrap().items;
    assert_eq!(objects.len(), 29);
    for object in objects {
        let expected = if object.name_any() == "worker-1" { [1, 2] } else { [0, 1] };
        assert_eq!(macs(&object), expected.map(|n| format!("fa:16:3e:00:00:0{n}")), "{}", object.name_any());
    }
}

#[tokio::test]
async fn a_kubeconfig_is_used_only_with_what_is_inline() {
    let Some(world) = World::new().await else { return };
    let control_plane = ControlPlane::shared().unwrap();
    let good = control_plane.admin().kubeconfig();
    let sink = KubernetesSink::for_kubeconfig(&good.clone().into(), &world.namespace, MANAGER).await.unwrap();
    sink.until_read().await;
    assert_eq!(sink.deliver(&[wish("worker-1", &[0])], &ledger()).await[0].1, Ok(Delivery::Applied));

    let cases = [
        ("client-key-data: ", "exec: {command: /bin/sh, apiVersion: v1}\n    x-data: ", "exec is not run"),
        ("client-key-data: ", "client-key: /etc/shadow\n    x-data: ", "client-key is not used"),
        (
            "client-certificate-data: ",
            "client-certificate: /etc/shadow\n    x-data: ",
            "client-certificate is not",
        ),
        ("client-certificate-data: ", "tokenFile: /etc/shadow\n    x-data: ", "tokenFile is not used"),
        (
            "certificate-authority-data: ",
            "certificate-authority: /etc/shadow\n    x-data: ",
            "certificate-authority is",
        ),
        ("server: https", "server: http", "must be https"),
        ("current-context: testbed", "current-context: other", "no context \"other\""),
        ("apiVersion: v1\n", "apiVersion: [", "not a kubeconfig"),
    ];
    for (from, to, expected) in cases {
        let error =
            KubernetesSink::for_kubeconfig(&good.replacen(from, to, 1).into(), "default", MANAGER).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("LS0t"), "a credential is quoted: {error}");
    }
}
