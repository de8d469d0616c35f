//! A whole batch, checked before anything is applied. Every entry that is wrong is named by its place.

use std::collections::HashSet;
use std::fmt;

use kube::api::ObjectMeta;
use multinic_api::node_config::InterfaceSpec;
use multinic_api::{MultiNicNodeConfig, MultiNicNodeConfigSpec};
use multinic_core::{Addresses, InterfaceName, InterfaceOptions, MacAddr, Mtu, Slot};
use serde_json::Value;

use crate::sinks::kubernetes::object::{is_object_name, labels};
use crate::sinks::{InterfacePayload, NodePayload};

/// How many NICs a node can have.
const MOST_INTERFACES: usize = Slot::MAX as usize + 1;
/// What a node without a name is told.
const BLANK: &str = "is blank";
/// How many characters a text has at most, as in the definition of the resource.
const LONGEST: usize = 255;
/// How many addresses a NIC has at most, likewise.
const MOST_ADDRESSES: usize = 64;
/// How many mistakes an answer names.
const MOST_MISTAKES: usize = 50;

/// What to do for one node.
#[derive(Debug)]
pub struct Order {
    /// The node, which is the object's name.
    pub node: String,
    /// The object; none where it is to be deleted.
    pub object: Option<MultiNicNodeConfig>,
}

/// Why a batch is refused as a whole. The texts are those of the older program, where it had the case.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not a JSON array of nodes.
    Json(String),
    /// Nothing in it.
    Empty,
    /// Places and what is wrong there.
    Mistakes(Vec<(String, String)>),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(problem) => write!(f, "invalid json: {problem}"),
            Self::Empty => f.write_str("empty payload"),
            Self::Mistakes(mistakes) => {
                // The older program said just this.
                if mistakes.iter().any(|(_, problem)| problem == BLANK) {
                    f.write_str("nodeName is required\n")?;
                }
                for (at, (place, problem)) in mistakes.iter().take(MOST_MISTAKES).enumerate() {
                    let end = if at == 0 { "" } else { "\n" };
                    write!(f, "{end}{place}: {problem}")?;
                }
                match mistakes.len().saturating_sub(MOST_MISTAKES) {
                    0 => Ok(()),
                    more => write!(f, "\nand {more} more"),
                }
            }
        }
    }
}

/// Reads the body. Fields that are not known are ignored; a missing list of interfaces is not an empty one.
///
/// # Errors
/// Where it is no array of nodes, or an empty one.
pub fn read(body: &[u8]) -> Result<Vec<NodePayload>, Refused> {
    let values: Vec<Value> =
        serde_json::from_slice(body).map_err(|error| Refused::Json(error.to_string()))?;
    if values.is_empty() {
        return Err(Refused::Empty);
    }
    let node = |(at, value): (usize, Value)| {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let dot = if path.starts_with('[') || path == "." { "" } else { "." };
            let path = if path == "." { String::new() } else { path };
            Refused::Json(format!("[{at}]{dot}{path}: {}", error.into_inner()))
        })
    };
    values.into_iter().enumerate().map(node).collect()
}

/// Checks every node and makes the objects.
///
/// # Errors
/// Where at least one is wrong.
pub fn orders(
    nodes: Vec<NodePayload>,
    provider: Option<&str>,
    namespace: &str,
) -> Result<Vec<Order>, Refused> {
    let mut mistakes = Vec::new();
    let mut names = HashSet::new();
    let mut orders = Vec::with_capacity(nodes.len());
    for (at, NodePayload { node_name, instance_id, interfaces }) in nodes.into_iter().enumerate() {
        let name = node_name.trim();
        let place = format!("[{at}].nodeName");
        if name.is_empty() {
            mistakes.push((place, BLANK.to_owned()));
        } else if !is_object_name(&node_name) {
            let problem = format!(
                "{node_name:?} cannot be the name of a Kubernetes object, and so not of a node: lower-case letters, \
                 digits, '-' and '.', with a letter or digit at both ends of each part"
            );
            mistakes.push((place, problem));
        } else if !names.insert(node_name.clone()) {
            mistakes.push((place, format!("{node_name:?} is there twice")));
        }
        if instance_id.chars().count() > LONGEST {
            mistakes.push((format!("[{at}].instanceId"), too_long(&instance_id)));
        }
        let interfaces = check_all(at, interfaces, &mut mistakes);
        let instance = Some(instance_id.trim()).filter(|id| !id.is_empty());
        let object = (!interfaces.is_empty()).then(|| {
            let spec = MultiNicNodeConfigSpec {
                node_name: node_name.clone(),
                instance_id: instance.map(str::to_owned),
                interfaces,
            };
            let mut object = MultiNicNodeConfig::new(&node_name, spec);
            object.metadata = ObjectMeta {
                name: Some(node_name.clone()),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels(&node_name, instance, provider)),
                ..ObjectMeta::default()
            };
            object
        });
        orders.push(Order { node: node_name, object });
    }
    if mistakes.is_empty() { Ok(orders) } else { Err(Refused::Mistakes(mistakes)) }
}

type Mistakes = Vec<(String, String)>;

fn check_all(node: usize, interfaces: Vec<InterfacePayload>, mistakes: &mut Mistakes) -> Vec<InterfaceSpec> {
    if interfaces.len() > MOST_INTERFACES {
        let problem =
            format!("{} are more than the {MOST_INTERFACES} that a node can have", interfaces.len());
        mistakes.push((format!("[{node}].interfaces"), problem));
        return Vec::new();
    }
    let (mut macs, mut slots) = (HashSet::new(), HashSet::new());
    let mut specs = Vec::with_capacity(interfaces.len());
    for (at, nic) in interfaces.into_iter().enumerate() {
        let mut wrong = |field: &str, problem: String| {
            mistakes.push((format!("[{node}].interfaces[{at}].{field}"), problem));
        };
        let nic = without_empty(nic);
        match nic.mac_address.parse::<MacAddr>() {
            Ok(mac) if !macs.insert(mac) => wrong("macAddress", format!("{mac} is there twice")),
            Ok(_) => {}
            Err(error) => wrong("macAddress", error.to_string()),
        }
        let named = nic.name.as_deref().map(str::parse::<InterfaceName>).transpose();
        let numbered = nic.id.map(Slot::new).transpose();
        let slot = match (named, numbered) {
            (Err(error), _) => {
                wrong("name", error.to_string());
                None
            }
            // The name decides: older programs leave an id of 0 out.
            (Ok(Some(name)), _) => Some(("name", name.slot())),
            (Ok(None), Err(error)) => {
                wrong("id", error.to_string());
                None
            }
            (Ok(None), Ok(slot)) => slot.map(|slot| ("id", slot)),
        };
        // Without a name, an id of 0 may stand for none.
        let counts = slot.filter(|(field, slot)| *field == "name" || slot.number() > 0);
        if let Some((field, slot)) = counts
            && !slots.insert(slot)
        {
            wrong(field, format!("{} is there twice", slot.interface()));
        }
        for (field, text) in [
            ("portId", &nic.port_id),
            ("deviceId", &nic.device_id),
            ("networkId", &nic.network_id),
            ("subnetId", &nic.subnet_id),
        ] {
            if let Some(text) = text.as_ref().filter(|text| text.chars().count() > LONGEST) {
                wrong(field, too_long(text));
            }
        }
        check_addresses(&nic, &mut wrong);
        if let Some(Err(error)) = nic.options.as_ref().map(InterfaceOptions::try_from) {
            wrong(&error.field, error.problem);
        }
        let name = nic.name.clone();
        let mut spec = InterfaceSpec::from(nic);
        if let (Some(_), Some((_, slot))) = (name, slot) {
            spec.id = Some(slot.number().into());
        }
        specs.push(spec);
    }
    specs
}

fn too_long(text: &str) -> String {
    format!("has {} characters, and {LONGEST} are the most", text.chars().count())
}

fn check_addresses(nic: &InterfacePayload, wrong: &mut impl FnMut(&str, String)) {
    let count = nic.addresses.as_ref().map_or(0, Vec::len);
    if count > MOST_ADDRESSES {
        wrong("addresses", format!("{count} are more than the {MOST_ADDRESSES} that a NIC can have"));
    }
    let list = nic.addresses.as_ref().map(|list| Addresses::parse(list.iter().map(String::as_str)));
    let addresses = match list.transpose() {
        Ok(list) => match Addresses::reconcile(list, nic.address.as_deref(), nic.cidr.as_deref()) {
            Ok(addresses) => Some(addresses),
            Err(error) => {
                wrong("address", error.to_string());
                None
            }
        },
        Err(error) => {
            wrong("addresses", error.to_string());
            None
        }
    };
    match nic.mtu.map(Mtu::new).transpose() {
        Ok(Some(mtu)) => {
            if let Some(Err(error)) = addresses.map(|addresses| mtu.carries(&addresses)) {
                wrong("mtu", error.to_string());
            }
        }
        Ok(None) => {}
        Err(error) => wrong("mtu", error.to_string()),
    }
}

/// An empty text is one that is not there.
fn without_empty(nic: InterfacePayload) -> InterfacePayload {
    let some = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    InterfacePayload {
        id: nic.id,
        port_id: some(nic.port_id),
        name: some(nic.name),
        mac_address: nic.mac_address,
        address: some(nic.address),
        cidr: some(nic.cidr),
        addresses: nic.addresses,
        mtu: nic.mtu,
        device_id: some(nic.device_id),
        network_id: some(nic.network_id),
        subnet_id: some(nic.subnet_id),
        options: nic.options,
        device_name: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: &str) -> Result<Vec<Order>, String> {
        let nodes = read(json.as_bytes()).map_err(|refused| refused.to_string())?;
        orders(nodes, None, "default").map_err(|refused| refused.to_string())
    }

    fn node(nics: &str) -> String {
        format!(r#"[{{"nodeName":"worker-1","instanceId":"i","interfaces":[{nics}]}}]"#)
    }

    #[test]
    fn what_is_no_batch_is_told_in_the_older_words() {
        for (json, expected) in [
            ("{}", "invalid json: "),
            ("[", "invalid json: "),
            ("[]", "empty payload"),
            (r#"[{"nodeName":"a"}]"#, "invalid json: [0]: missing field `interfaces`"),
            (r#"[{"nodeName":"a","interfaces":null}]"#, "invalid json: [0].interfaces: invalid type: null"),
            (
                r#"[{"nodeName":"a","interfaces":[{"id":"x"}]}]"#,
                "invalid json: [0].interfaces[0].id: invalid type",
            ),
            (r#"[{"nodeName":" ","interfaces":[]}]"#, "nodeName is required\n[0].nodeName: is blank"),
        ] {
            let error = checked(json).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn every_mistake_is_named_by_its_place() {
        let good = r#"{"nodeName":"a","interfaces":[]}"#;
        let json = format!(
            r#"[{good},{good},{{"nodeName":"b","interfaces":[
                {{"macAddress":"x","name":"eth0"}},
                {{"macAddress":"fa:16:3e:00:00:01","name":"multinic1","mtu":0}},
                {{"macAddress":"FA:16:3E:00:00:01","name":"multinic1","address":"10.0.0.1"}},
                {{"macAddress":"fa:16:3e:00:00:02","id":64,"addresses":["10.0.0.1"]}},
                {{"macAddress":"fa:16:3e:00:00:03","options":{{"routes":[{{"to":"x"}}]}}}}
            ]}}]"#
        );
        let nodes = read(json.as_bytes()).unwrap();
        let Err(Refused::Mistakes(mistakes)) = orders(nodes, None, "default") else { panic!("accepted") };
        let places: Vec<&str> = mistakes.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(
            places,
            [
                "[1].nodeName",
                "[2].interfaces[0].macAddress",
                "[2].interfaces[0].name",
                "[2].interfaces[1].mtu",
                "[2].interfaces[2].macAddress",
                "[2].interfaces[2].name",
                "[2].interfaces[2].address",
                "[2].interfaces[3].id",
                "[2].interfaces[3].addresses",
                "[2].interfaces[4].options.routes[0].to",
            ]
        );
    }

    #[test]
    fn what_the_definition_would_not_take_is_a_mistake_too() {
        let long = "x".repeat(LONGEST + 1);
        let nic = |more: &str| node(&format!(r#"{{"macAddress":"fa:16:3e:00:00:01",{more}}}"#));
        let addresses = (0..=MOST_ADDRESSES).map(|at| format!(r#""10.0.{at}.1/24""#)).collect::<Vec<_>>();
        let routes = vec![r#"{"to":"10.0.0.0/8"}"#; 65];
        for (json, place) in [
            (nic(&format!(r#""portId":"{long}""#)), "interfaces[0].portId"),
            (nic(&format!(r#""deviceId":"{long}""#)), "interfaces[0].deviceId"),
            (nic(&format!(r#""networkId":"{long}""#)), "interfaces[0].networkId"),
            (nic(&format!(r#""subnetId":"{long}""#)), "interfaces[0].subnetId"),
            (nic(&format!(r#""addresses":[{}]"#, addresses.join(","))), "interfaces[0].addresses"),
            (
                nic(&format!(r#""options":{{"routes":[{}]}}"#, routes.join(","))),
                "interfaces[0].options.routes",
            ),
            (nic(r#""options":{"routes":[{"to":"10.0.0.0/8","metric":0}]}"#), "options.routes[0].metric"),
            (nic(r#""options":{"sourceRouting":{"tableBase":20001}}"#), "options.sourceRouting.tableBase"),
            (format!(r#"[{{"nodeName":"a","instanceId":"{long}","interfaces":[]}}]"#), "[0].instanceId"),
        ] {
            let error = checked(&json).unwrap_err();
            assert!(error.contains(place), "{place}: {error}");
        }
    }

    #[test]
    fn a_payload_of_the_older_operator_is_kept_whole() {
        let json = node(
            r#"{"portId":"p","name":"multinic0","macAddress":"FA:16:3E:00:00:01","address":"10.0.0.10","cidr":"10.0.0.0/24",
               "deviceId":"d","networkId":"n","subnetId":"s","deviceName":"x","unknown":1}"#,
        );
        let orders = checked(&json).unwrap();
        let spec = serde_json::to_value(&orders[0].object.as_ref().unwrap().spec.interfaces[0]).unwrap();
        let expected = serde_json::json!({
            "id": 0, "portId": "p", "name": "multinic0", "macAddress": "fa:16:3e:00:00:01", "address": "10.0.0.10",
            "cidr": "10.0.0.0/24", "deviceId": "d", "networkId": "n", "subnetId": "s"
        });
        assert_eq!(spec, expected);
    }

    #[test]
    fn a_name_that_no_node_can_have_is_refused_and_not_rewritten() {
        let error = checked(r#"[{"nodeName":"Worker_1","interfaces":[]}]"#).unwrap_err();
        assert!(error.contains("[0].nodeName: \"Worker_1\" cannot be"), "{error}");
    }
}
