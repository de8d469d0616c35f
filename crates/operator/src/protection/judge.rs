//! Whether what somebody does to an object of the operator's is allowed, and what he is told if not. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde_json::Value;

use super::advice;
use super::change::{Difference, Operation, differences};
use crate::object::{MANAGED_BY, MANAGER, OPERATOR, OPERATOR_NAMESPACE, PROTECTED, label};

/// Annotation of an object that somebody has to change in an emergency: why. The operator leaves it as it is then.
pub const BREAK_GLASS: &str = "multinic.example.com/break-glass";
/// More places than these tell nobody more.
const MOST_PLACES: usize = 3;

/// What a `MultiNicOperator` says of its protection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The namespace of the operator and of what it makes.
    pub namespace: String,
    /// Operations that are allowed to everybody who has the right.
    pub allowed: BTreeSet<Operation>,
}

/// Whether it may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allowed,
    /// It may, since somebody says that it must.
    Broken {
        /// Why.
        reason: String,
    },
    /// It may not.
    Denied {
        /// How to do it instead.
        message: String,
    },
}

/// What is asked about.
#[derive(Debug)]
pub struct Question<'a> {
    /// `Deployment`.
    pub kind: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// What it is now.
    pub old: &'a ObjectMeta,
    /// What is done.
    pub act: Act<'a>,
}

/// What is done to an object.
#[derive(Debug)]
pub enum Act<'a> {
    /// It is another afterwards.
    Update {
        /// As it is.
        old: &'a DynamicObject,
        /// As it would be.
        new: &'a DynamicObject,
    },
    /// It has another number of pods afterwards, by way of its `scale`.
    Scale,
    /// It is gone afterwards.
    Delete,
}

/// The reason in an object's break-glass annotation, if there is one.
pub fn broken(metadata: &ObjectMeta) -> Option<&str> {
    let reason = metadata.annotations.as_ref()?.get(BREAK_GLASS)?;
    Some(reason.trim()).filter(|reason| !reason.is_empty())
}

impl Rules {
    /// Whether an object is one that an operator of this namespace made and keeps.
    pub fn concern(&self, metadata: &ObjectMeta) -> bool {
        label(metadata, PROTECTED).is_some_and(|value| value == "true")
            && label(metadata, MANAGED_BY).is_some_and(|value| value == MANAGER)
            && label(metadata, OPERATOR_NAMESPACE) == Some(&self.namespace)
    }

    /// Judges.
    pub fn judge(&self, question: &Question<'_>) -> Verdict {
        let Question { kind, name, old, act } = question;
        if !self.concern(old) || old.deletion_timestamp.is_some() {
            return Verdict::Allowed;
        }
        let (places, operations) = match act {
            Act::Update { old, new } => {
                let places = places(kind, old, new);
                let operations: BTreeSet<Operation> = places.iter().map(Difference::operation).collect();
                let (was, is) = (broken(&old.metadata), broken(&new.metadata));
                // With the annotation gone, what was done may be undone along with it.
                if let Some(reason) = is.or(was).filter(|_| !places.is_empty() || (is.is_some() && is != was))
                {
                    return Verdict::Broken { reason: reason.to_owned() };
                }
                (places, operations)
            }
            Act::Scale => (Vec::new(), BTreeSet::from([Operation::Scale])),
            Act::Delete => (Vec::new(), BTreeSet::from([Operation::Delete])),
        };
        if let Some(reason) = broken(old).filter(|_| !operations.is_empty()) {
            return Verdict::Broken { reason: reason.to_owned() };
        }
        let refused: Vec<Operation> = operations.difference(&self.allowed).copied().collect();
        match refused.as_slice() {
            [] => Verdict::Allowed,
            refused => Verdict::Denied { message: self.message(kind, name, old, &places, refused) },
        }
    }

    fn message(
        &self,
        kind: &str,
        name: &str,
        old: &ObjectMeta,
        places: &[Difference],
        refused: &[Operation],
    ) -> String {
        let namespace = &self.namespace;
        let operator = label(old, OPERATOR).map_or("?", String::as_str);
        let refused_places: Vec<&Difference> =
            places.iter().filter(|place| refused.contains(&place.operation())).collect();
        let told: Vec<String> = refused_places.iter().take(MOST_PLACES).map(ToString::to_string).collect();
        let more = match refused_places.len() > MOST_PLACES {
            true => ", and more",
            false => "",
        };
        let what = match (refused, told.as_slice()) {
            ([Operation::Delete], _) => "and is not deleted by others".to_owned(),
            (_, []) => "and is not scaled by others".to_owned(),
            (_, told) => format!("and others do not change it ({}{more})", told.join(", ")),
        };
        let how = match refused {
            [Operation::Delete] => advice::end(kind, name),
            // By way of `scale` there is no difference to look at.
            [Operation::Scale] if kind == "Deployment" => "set spec.controller.replicas there".to_owned(),
            _ => {
                let cloned: Vec<Difference> = refused_places.into_iter().cloned().collect();
                match advice::field(kind, name, &cloned) {
                    Some(field) => format!("set {field} there"),
                    None => "no field of it says otherwise".to_owned(),
                }
            }
        };
        let words: Vec<&str> = refused.iter().map(|operation| operation.as_str()).collect();
        format!(
            "{kind} {name} is kept by the MultiNicOperator {operator} in {namespace}, {what}: {how} \
             (kubectl edit mno {operator} -n {namespace}). To let others do it, name it in its \
             spec.protection.allowedOperations ({}); in an emergency, say why first: kubectl annotate {} {name} \
             {BREAK_GLASS}='<the reason>'",
            words.join(", "),
            kind.to_lowercase()
        )
    }
}

/// Where it would be changed. The annotation that breaks the glass is no change of its own: it has to be set somehow.
fn places(kind: &str, old: &DynamicObject, new: &DynamicObject) -> Vec<Difference> {
    let value = |object: &DynamicObject| {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        if let Some(annotations) = value.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.remove(BREAK_GLASS);
        }
        value
    };
    differences(kind, &value(old), &value(new))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by failing loudly")]

    use serde_json::json;

    use super::*;

    fn rules(allowed: &[Operation]) -> Rules {
        Rules { namespace: "multinic-system".to_owned(), allowed: allowed.iter().copied().collect() }
    }

    fn object(change: impl FnOnce(&mut Value)) -> DynamicObject {
        let mut value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "multinic-controller", "labels": {
                "app.kubernetes.io/managed-by": "multinic-operator",
                "multinic.example.com/managed-by-operator": "multinic",
                "multinic.example.com/operator-namespace": "multinic-system",
                "multinic.example.com/protected": "true",
            }, "annotations": {}},
            "spec": {"replicas": 1},
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn update(rules: &Rules, old: &DynamicObject, new: &DynamicObject) -> Verdict {
        let act = Act::Update { old, new };
        rules.judge(&Question { kind: "Deployment", name: "multinic-controller", old: &old.metadata, act })
    }

    #[test]
    fn what_is_allowed_passes_and_nothing_beside_it() {
        let old = object(|_| {});
        let scaled = object(|it| it["spec"]["replicas"] = json!(2));
        let both = object(|it| {
            it["spec"]["replicas"] = json!(2);
            it["spec"]["paused"] = json!(true);
        });
        let none = rules(&[]);
        let scale = rules(&[Operation::Scale]);
        assert_eq!(update(&scale, &old, &scaled), Verdict::Allowed);
        let Verdict::Denied { message } = update(&none, &old, &scaled) else { panic!("it was allowed") };
        assert!(message.contains("set spec.controller.replicas"), "{message}");
        let Verdict::Denied { message } = update(&scale, &old, &both) else { panic!("it was allowed") };
        assert!(message.contains("(spec.paused)") && message.contains("(update)"), "{message}");
        assert_eq!(update(&none, &old, &old), Verdict::Allowed);
    }

    #[test]
    fn the_glass_is_broken_with_a_reason_only() {
        let none = rules(&[]);
        let old = object(|_| {});
        let with = |reason: &str, replicas: i32| {
            object(|it| {
                it["metadata"]["annotations"][BREAK_GLASS] = json!(reason);
                it["spec"]["replicas"] = json!(replicas);
            })
        };
        let broken = Verdict::Broken { reason: "the node burns".to_owned() };
        assert_eq!(update(&none, &old, &with("the node burns", 1)), broken, "that it is broken is told");
        assert_eq!(update(&none, &with("the node burns", 1), &old), Verdict::Allowed);
        assert_eq!(update(&none, &old, &with("the node burns", 0)), broken);
        assert_eq!(update(&none, &with("the node burns", 1), &with("the node burns", 0)), broken);
        assert_eq!(update(&none, &with("the node burns", 0), &old), broken);
        assert!(matches!(update(&none, &old, &with("  ", 0)), Verdict::Denied { .. }));
        let delete = |old: &DynamicObject| {
            let old = &old.metadata;
            none.judge(&Question { kind: "Deployment", name: "x", old, act: Act::Delete })
        };
        assert_eq!(delete(&with("the node burns", 1)), broken);
        assert!(matches!(delete(&old), Verdict::Denied { .. }));
    }

    #[test]
    fn what_another_made_or_what_is_going_is_nobodys_business_here() {
        let none = rules(&[]);
        let scaled = object(|it| it["spec"]["replicas"] = json!(2));
        for old in [
            object(|it| it["metadata"]["labels"] = json!({})),
            object(|it| it["metadata"]["labels"][OPERATOR_NAMESPACE] = json!("another")),
            object(|it| it["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
        ] {
            assert_eq!(update(&none, &old, &scaled), Verdict::Allowed);
        }
    }
}
