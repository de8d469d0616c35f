//! The definitions on a real API server: what it takes, and what it refuses with which words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod definitions;
mod manifests;
mod old_objects;
mod refusals;

use std::path::Path;

use hyper::http::{Request, header};
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use multinic_testbed::kubernetes::ControlPlane;
use serde_json::Value;

/// A namespace with our definitions, or none where there is no API server.
struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    async fn new() -> Option<Self> {
        if !ControlPlane::installed() {
            return None;
        }
        let control_plane = ControlPlane::shared().unwrap();
        for definition in multinic_api::definitions::all() {
            control_plane.install_crd(&definition).await.unwrap();
        }
        let namespace = control_plane.new_namespace("api").await.unwrap();
        Some(Self { client: control_plane.client().unwrap(), namespace })
    }

    fn objects(&self, object: &Value) -> Api<DynamicObject> {
        objects_of(&self.client, &self.namespace, object)
    }

    /// Creates it as `kubectl apply` does, which takes no field that the definition lacks.
    async fn create(&self, object: &Value) -> Result<Value, kube::Error> {
        let objects = self.objects(object);
        let path = format!("{}?fieldValidation=Strict", objects.resource_url());
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        self.client.request(request.body(serde_json::to_vec(object).unwrap()).unwrap()).await
    }

    /// What it says to an object that it is to refuse.
    async fn refusal(&self, object: &Value) -> String {
        match self.create(object).await {
            Ok(taken) => panic!("was taken: {}", serde_json::to_string_pretty(&taken["spec"]).unwrap()),
            Err(kube::Error::Api(status)) => status.message.clone(),
            Err(other) => panic!("{other}"),
        }
    }
}

fn objects_of(client: &Client, namespace: &str, object: &Value) -> Api<DynamicObject> {
    let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
    let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
    let plural = format!("{}s", kind.kind.to_lowercase());
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk_with_plural(&kind, &plural))
}

/// One of the manifests beside this test.
fn manifest(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(format!("{name}.yaml"));
    read(&path)
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *target = patch.clone() };
    if !target.is_object() {
        *target = serde_json::json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}
