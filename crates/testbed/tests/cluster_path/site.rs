//! A namespace of an API server with the definitions and the shipped roles and policies, and what is there.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use multinic_testbed::kubernetes::ControlPlane;
use serde_json::{Value, json};

use crate::waiting::run;

/// How long an API server that has just started may still turn requests away.
const GRACE: Duration = Duration::from_secs(60);
/// What concerns rights; the rest of the manifests is for kubelets.
const RIGHTS: [&str; 7] = [
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

#[derive(Clone)]
pub struct Site {
    pub namespace: String,
    client: Client,
}

/// Tries again while the API server is not there.
async fn insist<T>(act: impl AsyncFn() -> kube::Result<T>) -> kube::Result<T> {
    let deadline = Instant::now() + GRACE;
    loop {
        match act().await {
            Err(kube::Error::Api(status)) if status.code < 500 => return Err(kube::Error::Api(status)),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            done => return done,
        }
    }
}

fn kind(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

fn configs() -> ApiResource {
    kind("multinic.example.com", "v1alpha1", "OpenstackConfig", "openstackconfigs")
}

fn node_configs() -> ApiResource {
    kind("multinic.io", "v1alpha1", "MultiNicNodeConfig", "multinicnodeconfigs")
}

fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap()
}

impl Site {
    /// Makes one on this API server, with everything that `deploy` has for rights.
    pub fn new(plane: &ControlPlane) -> Self {
        // Two libraries are compiled in where the whole workspace is tested, and rustls asks which.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        run(async {
            for definition in multinic_api::definitions::all() {
                plane.install_crd(&definition).await.unwrap();
            }
            let namespace = plane.new_namespace("path").await.unwrap();
            let site = Self { namespace, client: plane.client().unwrap() };
            for folder in ["deploy/agent", "deploy/controller", "deploy/viola"] {
                for object in manifests(folder).iter().filter_map(|it| site.adapted(it)) {
                    site.apply(&object).await;
                }
            }
            site
        })
    }

    /// A manifest as somebody has it who deploys into this namespace; what has no namespace gets a name of its own.
    fn adapted(&self, object: &Value) -> Option<Value> {
        let text = object.to_string().replace("multinic-system", &self.namespace);
        let mut object: Value = serde_json::from_str(&text).unwrap();
        let kind = object["kind"].as_str().unwrap().to_owned();
        if !RIGHTS.contains(&kind.as_str()) {
            return None;
        }
        let own = |name: &Value| json!(format!("{}-{}", name.as_str().unwrap(), self.namespace));
        if object["metadata"]["namespace"] != json!(self.namespace) {
            object["metadata"]["name"] = own(&object["metadata"]["name"]);
            if object["roleRef"].is_object() {
                object["roleRef"]["name"] = own(&object["roleRef"]["name"]);
            }
            if object["spec"]["policyName"].is_string() {
                object["spec"]["policyName"] = own(&object["spec"]["policyName"]);
            }
        }
        Some(object)
    }

    async fn apply(&self, object: &Value) {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let version = text("/apiVersion");
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let kind = GroupVersionKind::gvk(group, version, &text("/kind"));
        let (resource, _) = kube::discovery::pinned_kind(&self.client, &kind).await.unwrap();
        let api: Api<DynamicObject> = match text("/metadata/namespace").as_str() {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        let name = text("/metadata/name");
        let parameters = PatchParams::apply("deployer").force();
        let applied = insist(async || api.patch(&name, &parameters, &Patch::Apply(object)).await).await;
        applied.unwrap_or_else(|error| panic!("{} {name}: {error}", kind.kind));
    }

    /// Puts an object there, or changes it.
    pub fn put(&self, object: &Value) {
        run(self.apply(object));
    }

    fn own(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }

    fn get(&self, resource: &ApiResource, name: &str) -> Option<Value> {
        run(insist(async || self.own(resource).get_opt(name).await)).unwrap().as_ref().map(value)
    }

    fn list(&self, api: &Api<DynamicObject>) -> Vec<Value> {
        let list = run(insist(async || api.list(&ListParams::default()).await)).unwrap();
        list.items.iter().map(value).collect()
    }

    pub fn apply_config(&self, name: &str, spec: &Value) {
        self.put(&json!({
            "apiVersion": "multinic.example.com/v1alpha1", "kind": "OpenstackConfig",
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": spec,
        }));
    }

    pub fn config(&self, name: &str) -> Option<Value> {
        self.get(&configs(), name)
    }

    pub fn configs(&self) -> Vec<Value> {
        self.list(&self.own(&configs()))
    }

    /// Status, reason and message of a condition.
    pub fn condition(&self, name: &str, type_: &str) -> [String; 3] {
        let config = self.config(name).unwrap_or_default();
        let conditions = config["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|it| it["type"] == type_).unwrap_or_default();
        ["status", "reason", "message"].map(|key| found[key].as_str().unwrap_or_default().to_owned())
    }

    pub fn delete_config(&self, name: &str) {
        let api = self.own(&configs());
        run(insist(async || api.delete(name, &DeleteParams::default()).await.map(drop))).unwrap();
    }

    /// The object of a node.
    pub fn object(&self, node: &str) -> Option<Value> {
        self.get(&node_configs(), node)
    }

    pub fn objects(&self) -> Vec<Value> {
        self.list(&self.own(&node_configs()))
    }

    /// The Kubernetes Node.
    pub fn node(&self, name: &str) -> Value {
        let nodes: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind("", "v1", "Node", "nodes"));
        value(&run(insist(async || nodes.get(name).await)).unwrap())
    }

    /// The events of this namespace, and those about Nodes.
    pub fn events(&self) -> Vec<Value> {
        let events = kind("events.k8s.io", "v1", "Event", "events");
        let mut all = self.list(&self.own(&events));
        all.extend(self.list(&Api::namespaced_with(self.client.clone(), "default", &events)));
        all
    }

    /// The reasons of the events about something of this name.
    pub fn reasons(&self, name: &str) -> Vec<String> {
        let about = self.events().into_iter().filter(|event| event["regarding"]["name"] == name);
        about.map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }

    pub fn write_secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: serde_json::Map<String, Value> =
            data.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        self.put(&json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": name, "namespace": self.namespace }, "stringData": data,
        }));
    }

    pub fn delete_secret(&self, name: &str) {
        let api = self.own(&kind("", "v1", "Secret", "secrets"));
        run(insist(async || api.delete(name, &DeleteParams::default()).await.map(drop))).unwrap();
    }

    /// Whether a definition is served; its objects stay in etcd either way.
    pub fn serve(&self, definition: &str, served: bool) {
        let api = definitions(&self.client);
        let found = value(&run(insist(async || api.get(definition).await)).unwrap());
        let mut versions = found["spec"]["versions"].clone();
        versions[0]["served"] = json!(served);
        let patch = Patch::Merge(json!({ "spec": { "versions": versions } }));
        run(insist(async || api.patch(definition, &PatchParams::default(), &patch).await)).unwrap();
    }

    /// Deletes a definition with all its objects, and waits until it is gone.
    pub fn delete_definition(&self, definition: &str) {
        let api = definitions(&self.client);
        run(insist(async || api.delete(definition, &DeleteParams::default()).await.map(drop))).unwrap();
        let gone = || run(insist(async || api.get_opt(definition).await)).unwrap().is_none();
        crate::waiting::wait(|| format!("{definition} goes"), gone);
    }
}

fn definitions(client: &Client) -> Api<DynamicObject> {
    let resource =
        kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    Api::all_with(client.clone(), &resource)
}

/// The documents of a folder's manifests.
fn manifests(folder: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let kustomization: Value = serde_saphyr::from_str(&read("kustomization.yaml")).unwrap();
    let names: Vec<&str> =
        kustomization["resources"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let texts = names.into_iter().map(read);
    texts.flat_map(|text| serde_saphyr::from_multiple::<Value>(&text).unwrap()).collect()
}
