//! The label and the annotation of the `Node`: how many NICs it has, and which.

use multinic_core::MacAddr;
use serde_json::{Value, json};

use crate::facts::{Facts, LinkFacts, Stage};

/// The part of both keys after the prefix.
const NAME: &str = "interfaces";

/// The prefixes of the two keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefixes {
    /// Of the label.
    pub label: String,
    /// Of the annotation.
    pub annotation: String,
}

impl KeyPrefixes {
    /// A merge patch of the `Node` that says what is known: the count of NICs that work, and all of them as JSON.
    pub fn patch(&self, facts: &Facts) -> Value {
        let nics = facts.nics.iter().map(|nic| {
            let state = match nic.stage {
                Stage::Waiting => "InProgress",
                Stage::Configured => "Configured",
                Stage::Failed => "Failed",
            };
            entry(nic.mac, nic.link.as_ref(), nic.port.as_deref(), state)
        });
        let held = facts
            .held
            .iter()
            .filter(|held| held.link.is_some())
            .map(|held| entry(Some(held.mac), held.link.as_ref(), None, "Held"));
        let list: Vec<Value> = nics.chain(held).collect();
        let works = |entry: &&Value| matches!(entry["state"].as_str(), Some("Configured" | "Held"));
        let count = list.iter().filter(works).count();
        self.patch_of(&json!(count.to_string()), &json!(Value::from(list).to_string()))
    }

    /// A merge patch of the `Node` that takes both away.
    pub fn removal(&self) -> Value {
        self.patch_of(&Value::Null, &Value::Null)
    }

    fn patch_of(&self, label: &Value, annotation: &Value) -> Value {
        let label_key = format!("{}/{NAME}", self.label);
        let annotation_key = format!("{}/{NAME}", self.annotation);
        json!({ "metadata": { "labels": { label_key: label }, "annotations": { annotation_key: annotation } } })
    }
}

fn entry(mac: Option<MacAddr>, link: Option<&LinkFacts>, port: Option<&str>, state: &str) -> Value {
    let mut entry = json!({
        "name": link.map(|link| &link.name),
        "mac": mac,
        "addresses": link.map(|link| &link.addresses),
        "port": port,
        "state": state,
    });
    if let Some(map) = entry.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{HeldFacts, NicFacts};

    #[test]
    fn what_works_is_counted_and_everything_is_listed() {
        let link = |name: &str| LinkFacts {
            name: name.to_owned(),
            index: 1,
            up: true,
            mtu: 1500,
            addresses: vec!["10.0.0.1/24".to_owned()],
        };
        let nic = |stage, link| NicFacts {
            entry: 0,
            id: Some(0),
            mac: "fa:16:3e:00:00:01".parse().ok(),
            port: Some("p".to_owned()),
            link,
            stage,
            reason: String::new(),
            message: String::new(),
        };
        let facts = Facts {
            nics: vec![nic(Stage::Configured, Some(link("multinic0"))), nic(Stage::Failed, None)],
            held: vec![HeldFacts {
                mac: "fa:16:3e:00:00:02".parse().unwrap(),
                link: Some(link("multinic1")),
                why: String::new(),
            }],
            ..Facts::default()
        };
        let keys = KeyPrefixes { label: "a.example".to_owned(), annotation: "b.example".to_owned() };
        let patch = keys.patch(&facts);
        assert_eq!(patch["metadata"]["labels"]["a.example/interfaces"], "2");
        let text = patch["metadata"]["annotations"]["b.example/interfaces"].as_str().unwrap();
        let list: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            list[0],
            json!({"name": "multinic0", "mac": "fa:16:3e:00:00:01", "addresses": ["10.0.0.1/24"], "port": "p",
                   "state": "Configured"})
        );
        assert_eq!(list[1]["state"], "Failed");
        assert_eq!(list[2]["state"], "Held");
        assert!(keys.removal()["metadata"]["labels"]["a.example/interfaces"].is_null());
    }
}
