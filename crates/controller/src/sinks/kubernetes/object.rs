//! The object that a wish asks for.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use kube::api::ObjectMeta;
use multinic_api::node_config::InterfaceSpec;
use multinic_api::{
    INSTANCE_ID_LABEL, MultiNicNodeConfig, MultiNicNodeConfigSpec, NODE_NAME_LABEL, PROVIDER_ID_LABEL,
};
use multinic_core::NodeConfig;

use super::ledger::owners_text;
use crate::sinks::payload::InterfacePayload;
use crate::sinks::wish::NodeWish;
use crate::sinks::{INTERFACE_OWNERS_ANNOTATION, SinkError};

/// The labels that an object of ours has.
const LABELS: [&str; 3] = [NODE_NAME_LABEL, INSTANCE_ID_LABEL, PROVIDER_ID_LABEL];

/// Whether a name can be an object's: a DNS subdomain in lower case (RFC 1123), as the API server checks it.
pub(crate) fn is_object_name(name: &str) -> bool {
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let end = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        end(bytes.first())
            && end(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

/// Whether a text can be the value of a label.
fn is_label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && end(bytes.first())
        && end(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The labels of a node's object. What cannot be a label's value is left out, since nothing but selections by people
/// depends on it.
pub(crate) fn labels(node: &str, instance: Option<&str>, provider: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, value) in LABELS.into_iter().zip([Some(node), instance, provider]) {
        match value {
            Some(value) if is_label_value(value) => {
                labels.insert(key.to_owned(), value.to_owned());
            }
            Some("") | None => {}
            Some(value) => {
                tracing::warn!(node_name = node, label = key, value, "not a label's value: left out");
            }
        }
    }
    labels
}

/// The object that a wish with at least one NIC asks for.
pub(crate) fn wanted(wish: &NodeWish, namespace: &str) -> Result<MultiNicNodeConfig, SinkError> {
    let NodeWish { provider, config: NodeConfig { node, instance, interfaces }, owners, options } = wish;
    if !is_object_name(node.as_str()) {
        return Err(SinkError::ObjectName { node: node.clone() });
    }
    let spec = MultiNicNodeConfigSpec {
        node_name: node.to_string(),
        instance_id: Some(instance.to_string()),
        interfaces: interfaces
            .iter()
            .map(|(slot, nic)| InterfacePayload::new(*slot, nic, options.get(&nic.port)).into())
            .collect(),
    };
    let mut object = MultiNicNodeConfig::new(node.as_str(), spec);
    let owners = owners_text(owners);
    object.metadata = ObjectMeta {
        name: Some(node.to_string()),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels(node.as_str(), Some(instance.as_str()), provider.as_deref())),
        annotations: Some(BTreeMap::from([(INTERFACE_OWNERS_ANNOTATION.to_owned(), owners)])),
        ..ObjectMeta::default()
    };
    Ok(object)
}

impl From<InterfacePayload> for InterfaceSpec {
    fn from(payload: InterfacePayload) -> Self {
        let InterfacePayload {
            id,
            port_id,
            name,
            mac_address,
            address,
            cidr,
            addresses,
            mtu,
            device_id,
            network_id,
            subnet_id,
            options,
            device_name: _,
        } = payload;
        Self {
            id,
            port_id,
            name,
            mac_address: mac_address.to_ascii_lowercase(),
            address,
            cidr,
            addresses,
            mtu,
            network_id,
            subnet_id,
            device_id,
            options,
        }
    }
}

/// An object's content as numbers, to be compared within one process. Ten thousand objects as they are would not fit into
/// the memory that a controller should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    spec: u64,
    owners: u64,
    /// 0 where the label is absent.
    labels: [u64; 3],
}

impl Content {
    /// Of an object.
    pub fn of(object: &MultiNicNodeConfig) -> Self {
        let labels = object.metadata.labels.as_ref();
        let label =
            |key: &str| labels.and_then(|labels| labels.get(key)).map_or(0, |value| number(value) | 1);
        let owners = object.metadata.annotations.as_ref();
        let owners = owners.and_then(|annotations| annotations.get(INTERFACE_OWNERS_ANNOTATION));
        Self { spec: spec_number(&object.spec), owners: number(&owners), labels: LABELS.map(label) }
    }

    /// Whether an object with this content is what an object with that one is to be.
    pub fn satisfies(self, wanted: Self) -> bool {
        let labels = self.labels.into_iter().zip(wanted.labels);
        self.spec == wanted.spec
            && self.owners == wanted.owners
            // A label that we leave out may be somebody else's.
            && labels.into_iter().all(|(is, wanted)| wanted == 0 || is == wanted)
    }
}

/// A number that is another for another value, within one process.
pub(crate) fn number(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The order of the NICs says nothing: to the API server the list is a map.
fn spec_number(spec: &MultiNicNodeConfigSpec) -> u64 {
    let MultiNicNodeConfigSpec { node_name, instance_id, interfaces } = spec;
    let mut nics: Vec<u64> = interfaces.iter().map(nic_number).collect();
    nics.sort_unstable();
    number(&(node_name, instance_id, nics))
}

fn nic_number(nic: &InterfaceSpec) -> u64 {
    let InterfaceSpec {
        id,
        port_id,
        name,
        mac_address,
        address,
        cidr,
        addresses,
        mtu,
        network_id,
        subnet_id,
        device_id,
        options,
    } = nic;
    let first = (id, port_id, name, mac_address, address, cidr);
    number(&(first, (addresses, mtu, network_id, subnet_id, device_id, options)))
}

/// Whether two specs say the same.
pub(crate) fn same_spec(one: &MultiNicNodeConfigSpec, other: &MultiNicNodeConfigSpec) -> bool {
    spec_number(one) == spec_number(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_name_is_what_the_api_server_takes() {
        for name in ["a", "worker-1", "worker-1.example", "0.0"] {
            assert!(is_object_name(name), "{name}");
        }
        for name in ["", "Worker-1", "a_b", "-a", "a-", "a..b", "a.-b", "a/b", &"a".repeat(254)] {
            assert!(!is_object_name(name), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_a_label_is_left_out() {
        let long = "a".repeat(64);
        assert_eq!(labels(&long, Some("server a"), Some("")), BTreeMap::new());
        let labels = labels("Worker_1.x", None, Some("p-1"));
        assert_eq!(labels.get(NODE_NAME_LABEL).map(String::as_str), Some("Worker_1.x"));
        assert_eq!(labels.get(PROVIDER_ID_LABEL).map(String::as_str), Some("p-1"));
    }
}
