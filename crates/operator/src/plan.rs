//! From what is wanted and what is there: what is to be applied and what is to go. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kinds::{Key, NETWORK_POLICY};
use crate::object::{OPERATOR, OPERATOR_NAMESPACE, Object, Owner, label};
use crate::observe::Observed;
use crate::protection::judge::broken;
use crate::webhook::is_part;

/// What a pass is to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Objects to apply, in this order. Those that are as they are wanted are among them: the API server compares.
    pub apply: Vec<Object>,
    /// Objects that are left as they are, since somebody broke the glass.
    pub held: Vec<Object>,
    /// Objects to remove, in this order.
    pub remove: Vec<Removal>,
    /// Whether numbers of pods stay that others have set.
    pub keeps_scale: bool,
    /// What cannot be done, and why.
    pub refused: Vec<(Key, String)>,
}

/// An object that is to go, as it was seen: one that is made anew under its name meanwhile stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Which.
    pub key: Key,
    /// Its UID.
    pub uid: Option<String>,
}

/// Compares.
///
/// Only what bears this operator's labels goes, and in its own namespace only what it owns too: a label alone is easily
/// copied.
pub fn plan(owner: &Owner, desired: Vec<Object>, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let wanted: BTreeSet<Key> = desired.iter().map(|object| object.key.clone()).collect();
    for object in desired {
        match observed.objects.get(&object.key) {
            Some(metadata) if !owner.is_near(metadata) => {
                plan.refused.push((object.key, belongs_to(metadata)));
            }
            Some(metadata) if broken(metadata).is_some() && !is_part(&object.key) => plan.held.push(object),
            _ => plan.apply.push(object),
        }
    }
    for (key, metadata) in observed.objects.iter().rev() {
        let is_ours = owner.is_of(metadata)
            && (key.namespace.as_deref() != Some(&owner.namespace) || owner.owns(metadata));
        if is_ours && !wanted.contains(key) && metadata.deletion_timestamp.is_none() {
            plan.remove.push(removal(key, metadata));
        }
    }
    // Wherever this ends, nothing is denied that another policy is still to let through.
    plan.apply.sort_by_key(|object| denies_the_rest(&object.key));
    plan.remove.sort_by_key(|removal| !denies_the_rest(&removal.key));
    plan
}

/// Whether it is the NetworkPolicy that denies what no other one lets through.
pub(crate) fn denies_the_rest(key: &Key) -> bool {
    key.is(NETWORK_POLICY, "multinic-default-deny")
}

/// What is left of operators of this namespace that are not there any more. What is in their namespace goes by itself: the
/// garbage collector sees that its owner is gone. `names` are those of a complete list.
pub fn left_over(namespace: &str, names: &BTreeSet<String>, observed: &Observed) -> Vec<Removal> {
    let left = observed.objects.iter().rev().filter(|(key, metadata)| {
        key.namespace.as_deref() != Some(namespace)
            && label(metadata, OPERATOR_NAMESPACE).is_some_and(|of| of == namespace)
            && label(metadata, OPERATOR).is_some_and(|operator| !names.contains(operator))
            && metadata.deletion_timestamp.is_none()
    });
    left.map(|(key, metadata)| removal(key, metadata)).collect()
}

fn removal(key: &Key, metadata: &ObjectMeta) -> Removal {
    Removal { key: key.clone(), uid: metadata.uid.clone() }
}

fn belongs_to(metadata: &ObjectMeta) -> String {
    let said = |name| label(metadata, name).map_or("?", String::as_str);
    format!(
        "it belongs to the MultiNicOperator {} of the namespace {}: a cluster has one",
        said(OPERATOR),
        said(OPERATOR_NAMESPACE)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use k8s_openapi::api::core::v1::Secret;
    use k8s_openapi::api::networking::v1::NetworkPolicy;

    use super::*;

    #[test]
    fn the_rest_is_denied_last_and_let_through_first() {
        let owner = Owner::of_tests();
        let named = |name: &str| ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let policy = |name: &str| NetworkPolicy { metadata: named(name), ..NetworkPolicy::default() };
        let names = ["multinic-api-servers", "multinic-default-deny", "multinic-webhook"];
        let mut objects: Vec<Object> =
            names.iter().map(|name| Object::new(&owner, &policy(name)).unwrap()).collect();
        let secret = Secret { metadata: named("a"), ..Secret::default() };
        objects.push(Object::new(&owner, &secret).unwrap());
        let there = objects.iter().map(|object| {
            let metadata = serde_json::from_value(object.content["metadata"].clone()).unwrap();
            (object.key.clone(), metadata)
        });
        let there = Observed { objects: there.collect() };
        let made = plan(&owner, objects, &Observed { objects: Default::default() });
        assert_eq!(made.apply.last().unwrap().key.name, "multinic-default-deny");
        assert_eq!(made.apply.len(), 4);
        let gone = plan(&owner, Vec::new(), &there);
        assert_eq!(gone.remove.first().unwrap().key.name, "multinic-default-deny");
        assert_eq!(gone.remove.len(), 4);
    }
}
