//! An API server with `deploy/agent` applied to it, and a node of each test's own there.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use multinic_api::{CLEANUP_FINALIZER, MultiNicNodeConfig};
use multinic_testbed::kubernetes::{Access, ControlPlane, FaultProxy};
use serde_json::{Value, json};

use crate::agent::{self, Agent};
use crate::database::Nic;
use crate::world::{World, wait_until};

pub const NAMESPACE: &str = "multinic-system";
const DEFINITION: &str = "multinicnodeconfigs.multinic.io";
pub const SERVICE_ACCOUNT: &str = "multinic-agent";

/// Far more than anything takes in which an API server that was away comes back, with the waits in between.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// Runs something on a runtime of its own, as clients belong to one.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Waits for something that takes as long as an outage.
#[track_caller]
pub fn wait_long(what: impl Fn() -> String, mut come: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG_PATIENCE;
    while !come() {
        assert!(Instant::now() < deadline, "within {LONG_PATIENCE:?}: {}", what());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The documents of a folder's manifests, in the order of its kustomization.
fn manifests(folder: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let kustomization: Value = serde_saphyr::from_str(&read("kustomization.yaml")).unwrap();
    let names = kustomization["resources"].as_array().unwrap().clone();
    let texts = names.iter().map(|name| read(name.as_str().unwrap()));
    texts.flat_map(|text| serde_saphyr::from_multiple::<Value>(&text).unwrap()).collect()
}

async fn apply(client: &Client, object: &Value) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (group, version) = match text("/apiVersion").split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), text("/apiVersion")),
    };
    let kind = GroupVersionKind { group, version, kind: text("/kind") };
    let (resource, _) = kube::discovery::pinned_kind(client, &kind).await.unwrap();
    let api: Api<DynamicObject> = match text("/metadata/namespace").as_str() {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let name = text("/metadata/name");
    let applied = api.patch(&name, &PatchParams::apply("test"), &Patch::Apply(object)).await;
    applied.unwrap_or_else(|error| panic!("{} {name}: {error}", kind.kind));
}

/// Puts the definitions and the agent's manifests there.
pub fn install(plane: &ControlPlane) {
    run(async {
        let client = plane.client().unwrap();
        for definition in multinic_api::definitions::all() {
            plane.install_crd(&definition).await.unwrap();
        }
        let namespace = Namespace {
            metadata: serde_json::from_value(json!({"name": NAMESPACE})).unwrap(),
            ..Namespace::default()
        };
        let _ = Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await;
        for object in manifests("deploy/agent") {
            apply(&client, &object).await;
        }
    });
    wait_until(|| "the admission policies work".to_owned(), || run(policies_work(plane)));
}

/// Policies take effect a moment after they were made.
async fn policies_work(plane: &ControlPlane) -> bool {
    make_node(plane, "elsewhere").await;
    let pod = plane.pod(NAMESPACE, SERVICE_ACCOUNT, "probe", "probe").await.unwrap();
    let nodes: Api<Node> = Api::all(pod.client().unwrap());
    let patch = json!({"metadata": {"labels": {"multinic.io/probe": Instant::now().elapsed().as_nanos().to_string()}}});
    nodes.patch("elsewhere", &PatchParams::default(), &Patch::Merge(patch)).await.is_err()
}

async fn make_node(plane: &ControlPlane, name: &str) {
    let node = Node { metadata: serde_json::from_value(json!({"name": name})).unwrap(), ..Node::default() };
    let _ = Api::all(plane.client().unwrap()).create(&PostParams::default(), &node).await;
}

pub fn shared() -> Option<&'static ControlPlane> {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    if !ControlPlane::installed() {
        return None;
    }
    let plane = ControlPlane::shared().unwrap();
    INSTALLED.get_or_init(|| {
        install(plane);
        true
    });
    Some(plane)
}

/// A node that the cluster knows: its name, and how its agent's pod gets in.
pub struct Cluster<'a> {
    pub plane: &'a ControlPlane,
    pub node: String,
    pub access: Access,
    kubeconfig: PathBuf,
    _folder: tempfile::TempDir,
}

impl Cluster<'static> {
    /// A node on the control plane of all tests; none where there is none.
    pub fn new(world: &World) -> Option<Self> {
        Some(Self::on(shared()?, world, None))
    }
}

impl<'a> Cluster<'a> {
    /// A node on this control plane, reached through the proxy if there is one.
    pub fn on(plane: &'a ControlPlane, world: &World, proxy: Option<&FaultProxy>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let node = format!("worker-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let pod = format!("multinic-agent-{node}");
        let access = run(async {
            make_node(plane, &node).await;
            plane.pod(NAMESPACE, SERVICE_ACCOUNT, &pod, &node).await.unwrap()
        });
        let inside = match proxy {
            Some(proxy) => proxy.access(&access).at(&proxy.reach_from(&world.node).unwrap()),
            None => access.at(&plane.reach_from(&world.node, [127, 0, 0, 1].into()).unwrap()),
        };
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        inside.write_kubeconfig(&kubeconfig).unwrap();
        Self { plane, node, access, kubeconfig, _folder: folder }
    }

    /// Lets go of the control plane, which somebody wants to stop; what the agent needs stays.
    pub fn keep(self) -> (PathBuf, tempfile::TempDir) {
        (self.kubeconfig, self._folder)
    }

    /// The same node once the control plane is there again.
    pub fn again(
        plane: &'a ControlPlane,
        node: String,
        access: Access,
        (kubeconfig, folder): (PathBuf, tempfile::TempDir),
    ) -> Self {
        Self { plane, node, access, kubeconfig, _folder: folder }
    }

    /// The environment of the agent on this node, with `more`.
    pub fn variables<'v>(&'v self, more: &[(&'v str, &'v str)]) -> Vec<(&'v str, &'v str)> {
        let mut variables = vec![
            ("DATA_SOURCE", "nodecr"),
            ("KUBECONFIG", self.kubeconfig.to_str().unwrap()),
            ("NODE_NAME", &self.node),
            // This machine has firmware too, which knows nothing of the tests' nodes.
            ("PRODUCT_UUID_FILE", "/nowhere"),
            ("DATABASE_URL", ""),
        ];
        variables.extend_from_slice(more);
        variables
    }

    pub fn start(&self, world: &World, more: &[(&str, &str)]) -> Agent {
        Agent::start_ready(world, &self.variables(more))
    }

    /// One pass, and its exit code.
    pub fn once(&self, world: &World, more: &[(&str, &str)]) -> Option<i32> {
        agent::run(world, &["once"], &self.variables(more)).status.code()
    }

    /// To be called on a runtime.
    fn objects(&self) -> Api<MultiNicNodeConfig> {
        Api::namespaced(self.plane.client().unwrap(), NAMESPACE)
    }

    /// The object, as its interfaces are written by the controller.
    pub fn apply(&self, nics: &[Nic]) {
        let interfaces: Vec<Value> = nics.iter().map(interface).collect();
        self.apply_spec(&json!({ "nodeName": self.node, "interfaces": interfaces }));
    }

    pub fn apply_spec(&self, spec: &Value) {
        run(async {
            let object = json!({
                "apiVersion": "multinic.io/v1alpha1", "kind": "MultiNicNodeConfig",
                "metadata": {"name": self.node}, "spec": spec
            });
            let parameters = PatchParams::apply("controller").force();
            self.objects().patch(&self.node, &parameters, &Patch::Apply(object)).await.unwrap();
        });
    }

    pub fn patch(&self, patch: Value) {
        run(async {
            let patch = Patch::Merge(patch);
            self.objects().patch(&self.node, &PatchParams::default(), &patch).await.unwrap();
        });
    }

    pub fn delete(&self) {
        run(async {
            self.objects().delete(&self.node, &DeleteParams::default()).await.unwrap();
        });
    }

    /// Deletes the definition of the object's kind, and every object with it.
    pub fn delete_definition(&self) {
        run(async { self.definitions().delete(DEFINITION, &DeleteParams::default()).await.unwrap() });
    }

    /// Deletes the namespace of the objects. What it holds is for a controller to delete, which is not here.
    pub fn delete_namespace(&self) {
        run(async {
            let namespaces: Api<Namespace> = Api::all(self.plane.client().unwrap());
            namespaces.delete(NAMESPACE, &DeleteParams::default()).await.unwrap();
        });
    }

    /// Writes to the status, as somebody else may, and returns it as it was then.
    pub fn patch_status(&self, patch: &Value) -> Value {
        run(async {
            let patch = Patch::Merge(json!({ "status": patch }));
            let patched = self.objects().patch_status(&self.node, &PatchParams::default(), &patch).await;
            serde_json::to_value(patched.unwrap()).unwrap()["status"].clone()
        })
    }

    pub fn is_defined(&self) -> bool {
        run(async { self.definitions().get_opt(DEFINITION).await.unwrap().is_some() })
    }

    fn definitions(&self) -> Api<CustomResourceDefinition> {
        Api::all(self.plane.client().unwrap())
    }

    /// Takes it away although the agent holds it, as an administrator does whose node is gone for good.
    pub fn strip_and_delete(&self) {
        self.patch(json!({"metadata": {"finalizers": null}}));
        self.delete();
    }

    pub fn object(&self) -> Option<Value> {
        run(async {
            let object = self.objects().get_opt(&self.node).await.unwrap();
            object.map(|object| serde_json::to_value(object).unwrap())
        })
    }

    pub fn status(&self) -> Value {
        self.object().map(|object| object["status"].clone()).unwrap_or_default()
    }

    pub fn is_held(&self) -> bool {
        let object = self.object().unwrap_or_default();
        object["metadata"]["finalizers"].as_array().is_some_and(|all| all.contains(&json!(CLEANUP_FINALIZER)))
    }

    /// A condition's status and reason.
    pub fn condition(&self, type_: &str) -> Option<(String, String)> {
        let status = self.status();
        let condition = status["conditions"].as_array()?.iter().find(|one| one["type"] == type_)?.clone();
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        Some((text("status"), text("reason")))
    }

    #[track_caller]
    pub fn wait_ready(&self, status: &str, reason: &str) {
        let wanted = Some((status.to_owned(), reason.to_owned()));
        let generation = || self.object().map(|object| object["metadata"]["generation"].clone());
        wait_long(
            || format!("Ready={status} ({reason}): {:#}", self.status()),
            || {
                self.condition("Ready") == wanted
                    && generation() == Some(self.status()["observedGeneration"].clone())
            },
        );
    }

    /// Writes to the Node, as its kubelet and others may.
    pub fn patch_node(&self, patch: &Value) {
        run(async {
            let nodes: Api<Node> = Api::all(self.plane.client().unwrap());
            nodes.patch(&self.node, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        });
    }

    fn node(&self) -> Node {
        run(async { Api::all(self.plane.client().unwrap()).get(&self.node).await.unwrap() })
    }

    /// The node's label and annotation.
    pub fn keys(&self) -> (Option<String>, Option<Value>) {
        let metadata = self.node().metadata;
        let label = metadata.labels.unwrap_or_default().remove("multinic.io/interfaces");
        let annotation = metadata.annotations.unwrap_or_default().remove("multinic.io/interfaces");
        (label, annotation.map(|text| serde_json::from_str(&text).unwrap()))
    }

    /// The reasons of the events about the node.
    pub fn events(&self) -> Vec<String> {
        run(async {
            let events: Api<Event> = Api::namespaced(self.plane.client().unwrap(), "default");
            let fields = format!("regarding.kind=Node,regarding.name={}", self.node);
            let list = events.list(&ListParams::default().fields(&fields)).await.unwrap();
            list.items.into_iter().filter_map(|event| event.reason).collect()
        })
    }

    #[track_caller]
    pub fn wait_event(&self, reason: &str) {
        wait_until(
            || format!("{reason} in {:?}", self.events()),
            || self.events().iter().any(|one| one == reason),
        );
    }
}

/// An interface as the controller writes it.
pub fn interface(nic: &Nic) -> Value {
    json!({
        "id": nic.slot,
        "name": format!("multinic{}", nic.slot),
        "macAddress": nic.mac,
        "addresses": nic.addresses,
        "mtu": nic.mtu,
        "portId": format!("port-{}", nic.slot),
    })
}

/// The kind of the object, for whoever asks without its type.
pub fn resource() -> ApiResource {
    ApiResource::erase::<MultiNicNodeConfig>(&())
}
