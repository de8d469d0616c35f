//! docs/security.md has every rule of every role that is shipped, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::helm::{Helm, key, root};

/// Values with which all roles are there: two releases, since the operator's has no controller of its own.
const RELEASES: [&str; 2] = [
    "viola.enabled=true,uninstall.cleanNodes=true,agent.dataSource=db,database.host=db,database.existingSecret=db",
    "operator.enabled=true",
];

/// Who has the rights of roles that are bound to nobody.
const PEOPLE: &str = "-";

fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

fn words(rule: &Value, field: &str) -> Vec<String> {
    let list = rule[field].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// A rule as the page has it: where, on what, which verbs.
fn row(place: &str, rule: &Value) -> String {
    let (groups, names) = (words(rule, "apiGroups"), words(rule, "resourceNames"));
    let mut what = quoted(&[words(rule, "resources"), words(rule, "nonResourceURLs")].concat());
    if groups.iter().any(|group| !group.is_empty()) {
        what += &format!(" of {}", quoted(&groups));
    }
    if !names.is_empty() {
        what += &format!(", named {}", quoted(&names));
    }
    format!("| {place} | {what} | {} | ", words(rule, "verbs").join(", "))
}

/// The rows of each ServiceAccount.
fn shipped(helm: &Helm) -> BTreeMap<String, BTreeSet<String>> {
    let all = RELEASES.map(|values| helm.template(&["--set", values])).concat();
    let objects: BTreeMap<String, Value> = all.into_iter().map(|object| (key(&object), object)).collect();
    let mut rows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let roles = objects.values().filter(|object| ["Role", "ClusterRole"].contains(&text(object, "/kind")));
    for role in roles {
        let is_of_role = |binding: &&Value| {
            text(binding, "/roleRef/kind") == text(role, "/kind")
                && text(binding, "/roleRef/name") == text(role, "/metadata/name")
                && text(binding, "/metadata/namespace") == text(role, "/metadata/namespace")
        };
        let account =
            objects.values().find(is_of_role).map_or(PEOPLE, |binding| text(binding, "/subjects/0/name"));
        let place = match text(role, "/metadata/namespace") {
            "" => "everywhere".to_owned(),
            namespace => format!("`{namespace}`"),
        };
        for rule in role["rules"].as_array().unwrap() {
            let place = if account == PEOPLE {
                quoted(&[text(role, "/metadata/name").to_owned()])
            } else {
                place.clone()
            };
            assert!(
                rows.entry(account.to_owned()).or_default().insert(row(&place, rule)),
                "{account}: {rule} twice"
            );
        }
    }
    rows
}

/// The rows of the page below the heading of each account, without their reasons.
fn told() -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let mut rows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for section in page.split("\n### ").skip(1) {
        let (heading, text) = section.split_once('\n').unwrap();
        let account = heading.split('`').nth(1).unwrap_or(PEOPLE);
        let text = text.split("\n## ").next().unwrap();
        let table = text.lines().filter(|line| line.starts_with("| ")).skip(1);
        for line in table {
            let (rule, reason) = line.strip_suffix(" |").unwrap().rsplit_once(" | ").unwrap();
            assert!(reason.len() > 10, "{line}: without a reason");
            assert!(
                rows.entry(account.to_owned()).or_default().insert(format!("{rule} | ")),
                "{line}: twice"
            );
        }
    }
    rows
}

#[test]
fn the_page_of_security_has_each_rule_of_each_role_with_its_reason() {
    let Some(helm) = Helm::installed() else { return };
    let (shipped, told) = (shipped(&helm), told());
    assert!(shipped.len() > 5 && shipped.values().flatten().count() > 60, "{shipped:#?}");
    for account in shipped.keys().chain(told.keys()) {
        let nothing = BTreeSet::new();
        let [shipped, told] = [&shipped, &told].map(|rows| rows.get(account).unwrap_or(&nothing));
        let missing: Vec<_> = shipped.difference(told).collect();
        let surplus: Vec<_> = told.difference(shipped).collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "{account}: not in docs/security.md {missing:#?}, or in no role {surplus:#?}"
        );
    }
}
