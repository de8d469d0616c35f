//! What makes API servers ask: the manifests of `deploy/protection`, filled in. Pure.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::certificates::SECRET;
use crate::kinds::{ADMISSION, KINDS, Key};
use crate::manifests::ProtectionManifests;
use crate::object::MANAGER;

/// The names of all but the Secret.
const NAMES: [&str; 2] = ["multinic-operator-protection", "multinic-operator-configurations"];

/// Whether an object is one of those that make API servers ask. The operator keeps these right even where it leaves others as
/// they are: a certificate has to be renewed.
pub fn is_part(key: &Key) -> bool {
    match key.kind.group {
        ADMISSION => NAMES.contains(&key.name.as_str()),
        "" => key.kind.name == "Secret" && key.name == SECRET,
        _ => false,
    }
}

/// Fills in what the manifests cannot know: whom to trust, at which port, who the operator is, and which kinds it makes.
pub(super) fn filled(
    manifests: &ProtectionManifests,
    namespace: &str,
    user: &str,
    port: u16,
    trusted: &str,
) -> ProtectionManifests {
    let mut manifests = manifests.clone();
    let shipped = format!("system:serviceaccount:{namespace}:{MANAGER}");
    for object in manifests.protecting.iter_mut().chain([&mut manifests.configurations]) {
        rename(object, &shipped, user);
        for rules in ["/webhooks", "/spec/matchConstraints/resourceRules"] {
            let Some(found) = object.pointer_mut(rules).and_then(Value::as_array_mut) else { continue };
            match rules {
                "/webhooks" => found.iter_mut().for_each(|webhook| fill_webhook(webhook, port, trusted)),
                _ => *found = found.iter().flat_map(every_kind).collect(),
            }
        }
    }
    manifests
}

fn fill_webhook(webhook: &mut Value, port: u16, trusted: &str) {
    if let Some(service) = webhook.pointer_mut("/clientConfig/service").and_then(Value::as_object_mut) {
        service.insert("port".to_owned(), json!(port));
    }
    // None: that of a certificate that everybody trusts.
    if !trusted.is_empty()
        && let Some(config) = webhook.pointer_mut("/clientConfig").and_then(Value::as_object_mut)
    {
        config.insert("caBundle".to_owned(), json!(ByteString(trusted.as_bytes().to_vec())));
    }
    if let Some(rules) = webhook.get_mut("rules").and_then(Value::as_array_mut) {
        *rules = rules.iter().flat_map(every_kind).collect();
    }
}

/// A rule that names no resources is for every kind that the operator makes, but for the kinds of this very configuration: for
/// these no API server asks anybody, so that a mistake in them can be mended.
fn every_kind(rule: &Value) -> Vec<Value> {
    if rule.get("resources").is_some() {
        return vec![rule.clone()];
    }
    let mut groups: Vec<&str> =
        KINDS.iter().map(|kind| kind.group).filter(|group| *group != ADMISSION).collect();
    groups.sort_unstable();
    groups.dedup();
    let of = |group: &str| {
        let resources: Vec<&str> =
            KINDS.iter().filter(|kind| kind.group == group).map(|kind| kind.plural).collect();
        json!({
            "operations": rule.get("operations"), "apiGroups": [group], "apiVersions": ["*"],
            "resources": resources, "scope": "*",
        })
    };
    groups.into_iter().map(of).collect()
}

/// Puts the operator's own account in the place of the one that the manifests name.
fn rename(value: &mut Value, shipped: &str, user: &str) {
    match value {
        // As a literal of CEL, in which a quotation mark would end it.
        Value::String(text) if text.contains(shipped) => {
            let user = user.replace('\\', "\\\\").replace('"', "\\\"");
            *text = text.replace(shipped, &user);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, shipped, user)),
        Value::Object(fields) => fields.values_mut().for_each(|field| rename(field, shipped, user)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use super::*;
    use crate::manifests::Manifests;

    #[test]
    fn every_kind_is_protected_but_those_that_no_api_server_asks_about() {
        let manifests = Manifests::of("here").unwrap().protection;
        let filled = filled(&manifests, "here", "somebody \"else\"", 4711, "PEM");
        let text = json!(filled.protecting).to_string();
        for kind in &KINDS {
            let name = format!("\"{}\"", kind.plural);
            assert_eq!(text.contains(&name), kind.group != ADMISSION, "{name} in {text}");
        }
        assert!(
            text.contains(r#"!= \"somebody \\\"else\\\"\""#) && !text.contains("here:multinic-operator"),
            "{text}"
        );
        for object in filled.protecting.iter().chain([&filled.configurations]) {
            for webhook in object["webhooks"].as_array().into_iter().flatten() {
                assert_eq!(webhook["clientConfig"]["service"]["port"], json!(4711));
                assert_eq!(webhook["clientConfig"]["caBundle"], json!("UEVN"));
                assert!(webhook["rules"][0]["resources"].is_array());
            }
        }
    }
}
