//! An object as it is wanted: who made it, whose it is, and what is in it.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::DynamicObject;
use serde::Serialize;
use serde_json::{Value, json};

use crate::kinds::{Key, Kind};

/// Who writes the fields that the operator wants, and who made an object.
pub const MANAGER: &str = "multinic-operator";
/// Label: who made an object; [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label: the `MultiNicOperator` that wants it.
pub const OPERATOR: &str = "multinic.example.com/managed-by-operator";
/// Label: the namespace of that `MultiNicOperator`, since objects of the whole cluster have none.
pub const OPERATOR_NAMESPACE: &str = "multinic.example.com/operator-namespace";
/// Label of everything that nobody else is to change: `true`.
pub const PROTECTED: &str = "multinic.example.com/protected";

/// For whom objects are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The name of the `MultiNicOperator`.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its namespace, in which everything is made that is in one.
    pub namespace: String,
    /// That namespace's UID: it owns what a `MultiNicOperator` cannot own, so that this goes with it at the latest.
    pub namespace_uid: String,
}

impl Owner {
    /// One in the namespace `here`.
    #[cfg(test)]
    pub(crate) fn of_tests() -> Self {
        let [name, uid, namespace, namespace_uid] = ["multinic", "1", "here", "2"].map(str::to_owned);
        Self { name, uid, namespace, namespace_uid }
    }

    fn reference(&self, key: &Key) -> OwnerReference {
        if key.namespace.as_deref() == Some(&self.namespace) {
            return OwnerReference {
                api_version: "multinic.example.com/v1alpha1".to_owned(),
                kind: "MultiNicOperator".to_owned(),
                name: self.name.clone(),
                uid: self.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            };
        }
        // What is in a namespace may not own what is not, nor what is in another.
        OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Namespace".to_owned(),
            name: self.namespace.clone(),
            uid: self.namespace_uid.clone(),
            ..OwnerReference::default()
        }
    }

    /// Whether an object bears the labels of this owner.
    pub fn is_of(&self, metadata: &ObjectMeta) -> bool {
        label(metadata, OPERATOR) == Some(&self.name) && self.is_near(metadata)
    }

    /// Whether an object was made by the operator of this namespace, for whomever.
    pub fn is_near(&self, metadata: &ObjectMeta) -> bool {
        label(metadata, OPERATOR_NAMESPACE) == Some(&self.namespace)
    }

    /// Whether this owner's UID is among an object's owners.
    pub fn owns(&self, metadata: &ObjectMeta) -> bool {
        metadata.owner_references.iter().flatten().any(|owner| owner.uid == self.uid)
    }
}

/// A label of an object.
pub fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a String> {
    metadata.labels.as_ref()?.get(name)
}

/// An object as it is wanted. What is not in it is whatever it is.
#[derive(Clone, PartialEq)]
pub struct Object {
    /// Which.
    pub key: Key,
    /// All of it, with `apiVersion`, `kind` and `metadata`.
    pub content: Value,
}

/// Without any content: it may be a Secret's.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Object {
    /// Whether it is a workload whose pods name a Secret.
    pub fn reads(&self, secret: &str) -> bool {
        let pods = ["/spec/template", "/spec/jobTemplate"];
        let quoted = format!("\"{secret}\"");
        pods.iter().filter_map(|pod| self.content.pointer(pod)).any(|pod| pod.to_string().contains(&quoted))
    }

    /// An object of a manifest or of a type, for an owner. None if it is of no kind that the operator makes.
    pub fn new(owner: &Owner, manifest: &impl Serialize) -> Option<Self> {
        // Only maps with keys that are not texts fail to serialise, and there is none.
        let mut content = serde_json::to_value(manifest).ok()?;
        let api_version = content.get("apiVersion")?.as_str()?;
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = Kind::find(group, content.get("kind")?.as_str()?)?;
        let name = content.pointer("/metadata/name")?.as_str()?.to_owned();
        let given = content.pointer("/metadata/namespace").and_then(Value::as_str);
        let namespace = kind.is_namespaced.then(|| given.unwrap_or(&owner.namespace).to_owned());
        let key = Key { kind, namespace, name };
        let reference = serde_json::to_value(owner.reference(&key)).ok()?;
        let metadata = content.get_mut("metadata")?.as_object_mut()?;
        metadata.insert("ownerReferences".to_owned(), json!([reference]));
        if let Some(namespace) = &key.namespace {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
        let labels = metadata.entry("labels").or_insert_with(|| json!({})).as_object_mut()?;
        labels.extend(owner_labels(owner).into_iter().map(|(name, value)| (name.to_owned(), json!(value))));
        Some(Self { key, content })
    }

    /// The same, for one version of what is there only; none: for whatever is there.
    #[must_use]
    pub(crate) fn over(mut self, version: Option<&str>) -> Self {
        if let Some(metadata) = self.content.get_mut("metadata").and_then(Value::as_object_mut) {
            match version {
                Some(version) => drop(metadata.insert("resourceVersion".to_owned(), json!(version))),
                None => drop(metadata.remove("resourceVersion")),
            }
        }
        self
    }

    /// The same with nothing in it yet but its labels.
    pub(crate) fn empty(&self) -> DynamicObject {
        let mut empty = DynamicObject::new(&self.key.name, &self.key.kind.resource());
        let labels = self.content.pointer("/metadata/labels").cloned();
        empty.metadata.labels = labels.and_then(|labels| serde_json::from_value(labels).ok());
        empty
    }

    /// The same without an owner: it stays when its owner goes.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        if let Some(metadata) = self.content.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("ownerReferences");
        }
        self
    }
}

fn owner_labels(owner: &Owner) -> BTreeMap<&'static str, &str> {
    BTreeMap::from([
        (MANAGED_BY, MANAGER),
        (OPERATOR, owner.name.as_str()),
        (OPERATOR_NAMESPACE, owner.namespace.as_str()),
        (PROTECTED, "true"),
    ])
}

/// The selector of everything that an operator made, whoever it is.
pub fn selector() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}
