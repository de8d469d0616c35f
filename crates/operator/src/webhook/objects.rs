//! What makes API servers ask: the manifests of `deploy/protection`, filled in. Pure.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::certificates::SECRET;
use super::conditions::expression;
use crate::kinds::{ADMISSION, KINDS, Key};
use crate::manifests::ProtectionManifests;

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

/// Fills in what the manifests cannot know: whom to trust, at which port, who the operator is, and which kinds it makes; and
/// the conditions, of which they have the names.
pub(super) fn filled(
    manifests: &ProtectionManifests,
    namespace: &str,
    user: &str,
    port: u16,
    trusted: &str,
) -> ProtectionManifests {
    let mut manifests = manifests.clone();
    let said = |conditions: Option<&mut Value>| {
        for condition in conditions.and_then(Value::as_array_mut).into_iter().flatten() {
            let name = condition.get("name").and_then(Value::as_str).unwrap_or_default();
            if let Some(said) = expression(name, namespace, user)
                && let Some(condition) = condition.as_object_mut()
            {
                condition.insert("expression".to_owned(), json!(said));
            }
        }
    };
    for object in manifests.protecting.iter_mut().chain([&mut manifests.configurations]) {
        for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
            said(webhook.get_mut("matchConditions"));
            fill_webhook(webhook, port, trusted);
        }
        said(object.pointer_mut("/spec/matchConditions"));
        let rules = object.pointer_mut("/spec/matchConstraints/resourceRules").and_then(Value::as_array_mut);
        if let Some(rules) = rules {
            *rules = rules.iter().flat_map(|rule| every_kind(rule, true)).collect();
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
        *rules = rules.iter().flat_map(|rule| every_kind(rule, false)).collect();
    }
}

/// A rule that names no resources is for every kind that the operator makes, but for the kinds of this very configuration: for
/// these no API server asks anybody, so that a mistake in them can be mended. With `status`, for the status of these as well.
fn every_kind(rule: &Value, status: bool) -> Vec<Value> {
    if rule.get("resources").is_some() {
        return vec![rule.clone()];
    }
    let mut groups: Vec<&str> =
        KINDS.iter().map(|kind| kind.group).filter(|group| *group != ADMISSION).collect();
    groups.sort_unstable();
    groups.dedup();
    let of = |group: &str| {
        let plurals = KINDS.iter().filter(|kind| kind.group == group).map(|kind| kind.plural);
        let resources: Vec<String> = plurals
            .flat_map(|plural| [Some(plural.to_owned()), status.then(|| format!("{plural}/status"))])
            .flatten()
            .collect();
        json!({
            "operations": rule.get("operations"), "apiGroups": [group], "apiVersions": ["*"],
            "resources": resources, "scope": "*",
        })
    };
    groups.into_iter().map(of).collect()
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
            let webhooks = object["webhooks"].as_array().into_iter().flatten();
            let places = webhooks.chain([&object["spec"]]);
            for condition in places.filter_map(|it| it["matchConditions"].as_array()).flatten() {
                assert!(condition["expression"].is_string(), "{condition}");
            }
        }
        for object in filled.protecting.iter().chain([&filled.configurations]) {
            for webhook in object["webhooks"].as_array().into_iter().flatten() {
                assert_eq!(webhook["clientConfig"]["service"]["port"], json!(4711));
                assert_eq!(webhook["clientConfig"]["caBundle"], json!("UEVN"));
                assert!(webhook["rules"][0]["resources"].is_array());
            }
        }
    }
}
