//! What the chart says and what the documentation says are one.

use std::fs;

use serde_json::Value;

use crate::helm::{CHART, root};

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn pages(names: &[&str]) -> String {
    names.iter().map(|name| read(&format!("docs/{name}.md"))).collect()
}

/// Every key of the values, as `--set` takes it.
fn keys(at: &str, value: &Value, found: &mut Vec<String>) {
    // What is a map of its user's own is one key.
    let own =
        ["config", "operatorConfig", "nodeSelector", "podAnnotations", "labels", "resources", "affinity"];
    let last = at.rsplit('.').next().unwrap_or_default();
    match value {
        Value::Object(fields) if !own.contains(&last) => {
            for (name, value) in fields {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                keys(&at, value, found);
            }
        }
        _ => found.push(at.to_owned()),
    }
}

#[test]
fn the_readme_has_every_key() {
    let values: Value = serde_saphyr::from_str(&read(&format!("{CHART}/values.yaml"))).unwrap();
    let readme = read(&format!("{CHART}/README.md"));
    let mut all = Vec::new();
    keys("", &values, &mut all);
    assert!(all.len() > 60, "{all:?}");
    let missing: Vec<_> = all.iter().filter(|key| !readme.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn variables_that_values_may_name_are_those_of_the_documentation() {
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).unwrap();
    let pages = pages(&["configuration", "inventory", "viola"]);
    for part in ["operatorConfig", "agent/properties/config", "viola/properties/config"] {
        let names = schema.pointer(&format!("/properties/{part}/properties")).unwrap();
        let names: Vec<&String> = names.as_object().unwrap().keys().collect();
        assert!(names.len() > 10, "{part}: {names:?}");
        for name in names {
            assert!(pages.contains(&format!("`{name}`")), "{part}: {name} is in no page");
        }
    }
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let page = pages(&["operations"]);
    let mut count = 0;
    for file in ["rules.yaml", "dashboard.json"] {
        let text = read(&format!("{CHART}/monitoring/{file}"));
        for word in text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
            let metric = word.strip_suffix("_bucket").or_else(|| word.strip_suffix("_count")).unwrap_or(word);
            if metric.starts_with("multinic_") {
                assert!(
                    page.contains(&format!("`{metric}`")),
                    "{file}: {metric} is not in docs/operations.md"
                );
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count}");
}
