//! What of a `MultiNicNodeConfig` matters to its node.

use kube::core::{ApiResource, DynamicObject};
use multinic_api::{CLEANUP_FINALIZER, MultiNicNodeConfig, MultiNicNodeConfigStatus, ORPHAN_ANNOTATION};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// One state of the object. Its spec is kept as it was written: one wrong field must not hide the others.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeObject {
    /// Its name, which is the node's.
    pub name: String,
    /// Made anew when the object is made anew.
    pub uid: String,
    /// Rises with every change of the spec.
    pub generation: u64,
    /// For comparing, and for writing only what was read.
    pub resource_version: String,
    /// Who wants to do something before it goes.
    pub finalizers: Vec<String>,
    /// Whether its deletion was asked for.
    pub deleting: bool,
    /// Whether it is to go without any clean-up.
    pub orphan: bool,
    /// The spec.
    pub spec: Value,
    /// What was reported last, as far as it can be read.
    pub status: Option<MultiNicNodeConfigStatus>,
}

impl NodeObject {
    /// The kind, as the client wants it told.
    pub fn resource() -> ApiResource {
        ApiResource::erase::<MultiNicNodeConfig>(&())
    }

    /// Takes out what matters; the rest would only cost memory.
    pub fn new(object: DynamicObject) -> Self {
        let DynamicObject { types: _, metadata, mut data } = object;
        let orphan = metadata.annotations.as_ref().and_then(|all| all.get(ORPHAN_ANNOTATION));
        let status = data.get_mut("status").map(Value::take);
        Self {
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            generation: metadata.generation.and_then(|number| u64::try_from(number).ok()).unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            finalizers: metadata.finalizers.unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            orphan: orphan.is_some_and(|value| value != "false"),
            spec: data.get_mut("spec").map(Value::take).unwrap_or_default(),
            status: status.and_then(|status| serde_json::from_value(status).ok()),
        }
    }

    /// Whether we hold our finalizer on it.
    pub fn is_held(&self) -> bool {
        self.finalizers.iter().any(|name| name == CLEANUP_FINALIZER)
    }

    /// Whether a later state of it has nothing that the node has to act on. Its status and our finalizer, which are our
    /// own doing, are nothing of the kind.
    pub fn asks_the_same(&self, later: &Self) -> bool {
        self.uid == later.uid
            && self.generation == later.generation
            && self.deleting == later.deleting
            && self.orphan == later.orphan
            && (later.is_held() || !self.is_held())
    }

    /// SHA-256 in hex of the JSON of the spec with its keys sorted.
    pub fn spec_hash(&self) -> String {
        let mut spec = self.spec.clone();
        // Maps are sorted unless some crate asks serde_json to keep the order.
        spec.sort_all_objects();
        let digest = Sha256::digest(spec.to_string().as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> NodeObject {
        NodeObject::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_change_of_the_status_asks_for_nothing() {
        let before = object(json!({
            "metadata": {"name": "n", "uid": "u", "generation": 1, "resourceVersion": "1"},
            "spec": {"nodeName": "n"}
        }));
        let after = object(json!({
            "metadata": {"name": "n", "uid": "u", "generation": 1, "resourceVersion": "2"},
            "spec": {"nodeName": "n"}, "status": {"state": "Configured"}
        }));
        assert!(before.asks_the_same(&after));
        let held = object(json!({
            "metadata": {"name": "n", "uid": "u", "generation": 1, "finalizers": ["multinic.io/cleanup"]}
        }));
        assert!(held.is_held() && before.asks_the_same(&held) && !held.asks_the_same(&before));
    }

    #[test]
    fn the_hash_is_of_the_spec_with_sorted_keys() {
        let hash = |text: &str| object(serde_json::from_str(text).unwrap()).spec_hash();
        let sorted = hash(r#"{"metadata": {}, "spec": {"a": 1, "b": {"c": 2, "d": 3}}}"#);
        assert_eq!(sorted, hash(r#"{"metadata": {}, "spec": {"b": {"d": 3, "c": 2}, "a": 1}}"#));
        // printf '{"a":1,"b":{"c":2,"d":3}}' | sha256sum
        assert_eq!(sorted, HASH);
    }

    const HASH: &str = "932875ab5b23eb47bb2711f951d85ba23eef4b50c3e2eb6b5f3f9b9ac1217c6b";

    #[test]
    fn the_orphan_annotation_counts_unless_it_is_false() {
        for (value, orphan) in [("", true), ("true", true), ("false", false)] {
            let object = object(json!({"metadata": {"annotations": {"multinic.io/orphan": value}}}));
            assert_eq!(object.orphan, orphan, "{value:?}");
        }
    }
}
