//! Everybody says the same of a node: its kernel, its object and that one's status, its Node, and the inventory.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::node::{Nic, Node};
use crate::programs::Controller;
use crate::site::Site;
use crate::waiting::wait_until_right;

/// What one of them says of one NIC: name, MAC address, addresses, MTU.
type Told = BTreeSet<(String, String, BTreeSet<String>, Option<u64>)>;

fn texts(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The list, or the pair of the older programs where there is none.
fn addresses(entry: &Value) -> BTreeSet<String> {
    match (&entry["addresses"], entry["address"].as_str(), entry["cidr"].as_str()) {
        (Value::Null, Some(address), Some(cidr)) => {
            let prefix = cidr.split('/').nth(1).unwrap_or_default();
            BTreeSet::from([format!("{address}/{prefix}")])
        }
        (list, ..) => texts(list),
    }
}

fn told(list: &Value, mac: &str, with_mtu: bool) -> Told {
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let entries = list.as_array().into_iter().flatten();
    let entries = entries.map(|entry| {
        let mtu = if with_mtu { entry["mtu"].as_u64() } else { None };
        (text(entry, "name"), text(entry, mac), addresses(entry), mtu)
    });
    entries.collect()
}

fn wanted(nics: &[&Nic], with_mtu: bool) -> Told {
    let entry = |nic: &&Nic| {
        (nic.name(), nic.mac.to_string(), nic.addresses.clone(), with_mtu.then_some(u64::from(nic.mtu)))
    };
    nics.iter().map(entry).collect()
}

fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().find(|it| it["type"] == type_).map_or(&Value::Null, |it| &it["status"])
}

/// What is wrong with the node's object or with what its agent reports, if something is.
pub fn wrong_in_cluster(site: &Site, node: &Node, nics: &[&Nic]) -> Option<String> {
    if let Some(problem) = nics.iter().find_map(|nic| node.wrong_with(nic)) {
        return Some(problem);
    }
    let Some(object) = site.object(&node.name) else { return Some(format!("{} has no object", node.name)) };
    let status = &object["status"];
    let ports = |list: &Value, key: &str| -> BTreeSet<String> {
        list.as_array()
            .into_iter()
            .flatten()
            .map(|it| it[key].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let all_ports: BTreeSet<String> = nics.iter().map(|nic| nic.port.clone()).collect();
    let known = site.node(&node.name);
    let label = &known["metadata"]["labels"]["multinic.io/interfaces"];
    let annotation = known["metadata"]["annotations"]["multinic.io/interfaces"].as_str().unwrap_or("null");
    let annotation: Value = serde_json::from_str(annotation).unwrap();
    let works = annotation.as_array().is_some_and(|all| all.iter().all(|it| it["state"] == "Configured"));
    let checks = [
        ("spec", told(&object["spec"]["interfaces"], "macAddress", true) == wanted(nics, true)),
        ("spec's ports", ports(&object["spec"]["interfaces"], "portId") == all_ports),
        ("observedGeneration", status["observedGeneration"] == object["metadata"]["generation"]),
        ("state", status["state"] == "Configured"),
        ("Ready", *condition(status, "Ready") == "True"),
        ("interfaceStatuses", told(&status["interfaceStatuses"], "macAddress", true) == wanted(nics, true)),
        ("label", *label == json!(nics.len().to_string())),
        ("annotation", told(&annotation, "mac", false) == wanted(nics, false)),
        ("annotation's ports", ports(&annotation, "port") == all_ports),
        ("annotation's states", works),
    ];
    let (what, _) = checks.into_iter().find(|(_, right)| !right)?;
    Some(format!("{what} of {}: object {object:#}\nlabel {label}, annotation {annotation:#}", node.name))
}

/// What is wrong with the inventory's record of a node. What agents report to another cluster is not known to it.
pub fn wrong_in_inventory(
    controller: &Controller,
    provider: &str,
    node: &str,
    nics: &[&Nic],
    observed: bool,
) -> Option<String> {
    let records = match controller.try_records() {
        Ok(records) => records,
        Err(refusal) => return Some(refusal),
    };
    let own: Vec<&Value> = records.iter().filter(|record| record["nodeName"] == node).collect();
    let [record] = own.as_slice() else { return Some(format!("{node} in the inventory: {records:#?}")) };
    let checks = [
        ("providerId", record["providerId"] == provider),
        ("config", told(&record["config"]["interfaces"], "macAddress", true) == wanted(nics, true)),
        ("observed state", !observed || record["observed"]["state"] == "Configured"),
        (
            "observed interfaces",
            !observed || told(&record["observed"]["interfaces"], "macAddress", true) == wanted(nics, true),
        ),
    ];
    let (what, _) = checks.into_iter().find(|(_, right)| !right)?;
    Some(format!("{what} in the inventory: {record:#}"))
}

/// What is wrong with a configuration's status.
pub fn wrong_in_config(site: &Site, name: &str, interfaces: usize) -> Option<String> {
    let config = site.config(name).unwrap_or_default();
    let status = &config["status"];
    let right = *condition(status, "Ready") == "True"
        && *condition(status, "Published") == "True"
        && *condition(status, "CloudReachable") == "True"
        && *condition(status, "Degraded") == "False"
        && condition(status, "Reconciling").is_null()
        && condition(status, "Stalled").is_null()
        && status["interfaces"] == json!(interfaces)
        && status["observedGeneration"] == config["metadata"]["generation"]
        && status["lastSyncedAt"].is_string()
        && status["lastError"].is_null();
    (!right).then(|| format!("status of {name}: {status:#}"))
}

/// Waits until everybody agrees that this node has these NICs, and that the configuration has no others.
#[track_caller]
pub fn wait_agreed(site: &Site, controller: &Controller, config: &str, node: &Node, nics: &[&Nic]) {
    let wrong = || {
        wrong_in_cluster(site, node, nics)
            .or_else(|| wrong_in_config(site, config, nics.len()))
            .or_else(|| wrong_in_inventory(controller, "provider-1", &node.name, nics, true))
    };
    wait_until_right(wrong, || format!("{}\n{}", controller.last_lines(), node.last_lines()));
}

/// That exactly these nodes have objects and records, each once.
#[track_caller]
pub fn assert_nodes(site: &Site, controller: &Controller, nodes: &[&Node]) {
    let names: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let objects = site.objects();
    let found: Vec<&str> = objects.iter().filter_map(|it| it["metadata"]["name"].as_str()).collect();
    assert_eq!((found.len(), found.into_iter().collect()), (names.len(), names.clone()), "{objects:#?}");
    let records = controller.records();
    let found: Vec<&str> = records.iter().filter_map(|it| it["nodeName"].as_str()).collect();
    assert_eq!((found.len(), found.into_iter().collect()), (names.len(), names), "{records:#?}");
}
