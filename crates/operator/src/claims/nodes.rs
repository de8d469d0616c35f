//! Hardware addresses that nodes lay claim to. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use multinic_core::MacAddr;
use serde_json::Value;

use super::Name;

/// An API server passes on so much, and people read no more.
const MOST: usize = 8;

/// What one `MultiNicNodeConfig` lays claim to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    macs: BTreeSet<MacAddr>,
}

impl Node {
    /// That of an object. What is no hardware address the schema refuses.
    pub fn of(object: &DynamicObject) -> Option<Self> {
        let interfaces = object.data.pointer("/spec/interfaces")?.as_array()?;
        let texts = interfaces.iter().filter_map(|it| it.get("macAddress").and_then(Value::as_str));
        Some(Self { macs: texts.filter_map(|text| text.parse().ok()).collect() })
    }
}

/// A NIC that another node has too. Neutron's addresses are unique within a network only, and a port may be on its way from one
/// node to another: so it is not refused.
pub fn warnings(name: &Name, node: &Node, all: &BTreeMap<Name, Node>) -> Vec<String> {
    let others = all.iter().filter(|(other, _)| *other != name);
    let same =
        others.flat_map(|(other, theirs)| node.macs.intersection(&theirs.macs).map(move |mac| (other, mac)));
    let warning = |((_, other), mac): (&Name, &MacAddr)| {
        format!("{mac} is also a NIC of node {other}: right only while its port moves, or in another network")
    };
    same.take(MOST).map(warning).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use serde_json::json;

    use super::*;

    fn node(macs: &[&str]) -> Node {
        let interfaces: Vec<Value> = macs.iter().map(|mac| json!({"macAddress": mac})).collect();
        let object = json!({
            "apiVersion": "multinic.io/v1alpha1", "kind": "MultiNicNodeConfig", "metadata": {},
            "spec": {"interfaces": interfaces},
        });
        Node::of(&serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn a_nic_of_another_node_is_told_with_that_node_and_ones_own_is_not() {
        let name = |text: &str| ("here".to_owned(), text.to_owned());
        let all = BTreeMap::from([
            (name("a"), node(&["fa:16:3e:00:00:01"])),
            (name("b"), node(&["fa:16:3e:00:00:02"])),
        ]);
        let warned = |macs: &[&str]| warnings(&name("a"), &node(macs), &all);
        assert_eq!(warned(&["FA:16:3E:00:00:01", "no address"]), [""; 0]);
        let said = warned(&["FA:16:3E:00:00:02"]);
        assert!(
            said.len() == 1 && said[0].starts_with("fa:16:3e:00:00:02 is also a NIC of node b"),
            "{said:?}"
        );
    }
}
