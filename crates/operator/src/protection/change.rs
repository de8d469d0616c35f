//! What a change of an object changes: where, and what kind of operation that is. Pure. Paths are told, values never: it may
//! be a Secret.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

/// What somebody does to an object, as `spec.protection.allowedOperations` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Another number of pods.
    Scale,
    /// `kubectl rollout restart`.
    Restart,
    /// Labels that are not the operator's.
    Label,
    /// Annotations.
    Annotate,
    /// Anything else that it says.
    Update,
    /// It goes.
    Delete,
}

impl Operation {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 6] =
        [Self::Scale, Self::Restart, Self::Label, Self::Annotate, Self::Update, Self::Delete];

    /// As a spec names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Restart => "restart",
            Self::Label => "label",
            Self::Annotate => "annotate",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// The one of this name, in upper or lower case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str().eq_ignore_ascii_case(name.trim()))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Annotation that `kubectl rollout restart` sets on a template.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// What the API server keeps, and what is told of an object: no part of what anybody wants of it.
const COUNTED: [&str; 4] = ["managedFields", "resourceVersion", "generation", "selfLink"];
/// What programs of the cluster write to objects of a kind, wherever they run: storage and load balancers are not all in
/// kube-system.
const OTHERS: [(&str, &str); 8] = [
    ("PersistentVolumeClaim", "metadata.annotations"),
    ("PersistentVolumeClaim", "metadata.finalizers"),
    ("PersistentVolumeClaim", "spec.volumeName"),
    ("Service", "metadata.annotations"),
    ("Service", "metadata.finalizers"),
    ("ServiceAccount", "metadata.annotations"),
    ("ServiceAccount", "imagePullSecrets"),
    ("ServiceAccount", "secrets"),
];

/// Where two versions of an object of a kind differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Names of fields from the outermost on; those of an entry of a list are the list's.
    names: Vec<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join("."))
    }
}

impl Difference {
    /// Whether it is at or below a place.
    pub fn is_in(&self, place: &str) -> bool {
        let mut names = self.names.iter();
        place.split('.').all(|name| names.next().is_some_and(|found| found == name))
    }

    /// Whether one of its names is this.
    pub fn passes(&self, name: &str) -> bool {
        self.names.iter().any(|found| found == name)
    }

    /// What kind of operation it is.
    pub fn operation(&self) -> Operation {
        let is_restart = self.is_in("spec.template.metadata.annotations") && self.passes(RESTARTED_AT);
        match () {
            () if self.is_in("metadata.labels") => Operation::Label,
            () if self.is_in("metadata.annotations") => Operation::Annotate,
            () if self.is_in("spec.replicas") => Operation::Scale,
            () if is_restart => Operation::Restart,
            () => Operation::Update,
        }
    }
}

/// Every difference that concerns the operator.
pub fn differences(kind: &str, old: &Value, new: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(&mut Vec::new(), old, new, &mut found);
    found.retain(|difference| {
        let is_counted = COUNTED.iter().any(|name| difference.is_in(&format!("metadata.{name}")));
        let is_others = OTHERS.iter().any(|(of, place)| *of == kind && difference.is_in(place));
        !(is_counted || is_others || difference.is_in("status"))
    });
    found
}

fn compare(at: &mut Vec<String>, old: &Value, new: &Value, found: &mut Vec<Difference>) {
    let mut below = |name: &str, old: &Value, new: &Value| {
        at.push(name.to_owned());
        compare(at, old, new, found);
        at.pop();
    };
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let side =
                    |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
                below(name, &side(old), &side(new));
            }
        }
        // One that is not there is one without content: a label that is added is told by its name.
        (Value::Object(_), Value::Null) => compare(at, old, &Value::Object(Default::default()), found),
        (Value::Null, Value::Object(_)) => compare(at, &Value::Object(Default::default()), new, found),
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (old, new) in old.iter().zip(new) {
                compare(at, old, new, found);
            }
        }
        (old, new) if old == new => {}
        _ => {
            let difference = Difference { names: at.clone() };
            if !found.contains(&difference) {
                found.push(difference);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use serde_json::json;

    use super::*;

    fn told(kind: &str, old: &Value, new: &Value) -> Vec<String> {
        let differences = differences(kind, old, new);
        differences.iter().map(|it| format!("{} {it}", it.operation())).collect()
    }

    fn deployment() -> Value {
        json!({
            "metadata": {"labels": {"a": "b"}, "resourceVersion": "1", "generation": 1},
            "spec": {"replicas": 1, "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "one"}]},
            }},
            "status": {"replicas": 1},
        })
    }

    #[test]
    fn a_change_is_told_by_where_it_is_and_what_it_is() {
        let old = deployment();
        for (change, is) in [
            (json!(["metadata", "labels", "team"]), "label metadata.labels.team"),
            (json!(["metadata", "annotations", "note"]), "annotate metadata.annotations.note"),
            (json!(["spec", "replicas"]), "scale spec.replicas"),
            (
                json!(["spec", "template", "metadata", "annotations", RESTARTED_AT]),
                "restart spec.template.metadata.annotations.kubectl.kubernetes.io/restartedAt",
            ),
            (json!(["spec", "template", "spec", "containers"]), "update spec.template.spec.containers"),
            (json!(["metadata", "ownerReferences"]), "update metadata.ownerReferences"),
        ] {
            let mut new = old.clone();
            let mut place = &mut new;
            for name in change.as_array().unwrap() {
                if place.is_null() {
                    *place = json!({});
                }
                place = place.as_object_mut().unwrap().entry(name.as_str().unwrap()).or_insert(Value::Null);
            }
            *place = json!("other");
            assert_eq!(told("Deployment", &old, &new), [is]);
            assert_eq!(told("Deployment", &new, &old), [is], "and back");
        }
    }

    #[test]
    fn what_is_counted_and_told_is_no_change_and_an_entry_of_a_list_is_told_by_its_field() {
        let old = deployment();
        let mut new = deployment();
        new["metadata"]["resourceVersion"] = json!("2");
        new["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
        new["status"]["replicas"] = json!(2);
        assert_eq!(told("Deployment", &old, &new), [""; 0]);
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("two");
        assert_eq!(told("Deployment", &old, &new), ["update spec.template.spec.containers.image"]);
    }

    #[test]
    fn what_the_clusters_programs_write_is_theirs_on_the_kinds_that_they_write_it_to() {
        let old = json!({"metadata": {}, "spec": {}});
        let new = json!({
            "metadata": {"annotations": {"volume.kubernetes.io/selected-node": "a"}, "finalizers": ["f"]},
            "spec": {"volumeName": "v"},
        });
        assert_eq!(told("PersistentVolumeClaim", &old, &new), [""; 0]);
        assert_eq!(told("ConfigMap", &old, &new).len(), 3);
    }
}
