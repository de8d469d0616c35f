//! A node as the Viola API and the inventory write it, in JSON.
//!
//! The older programs left `id` out where it was 0 and `mtu` where it was unknown, so both are optional when read and
//! always written.

use std::sync::Arc;

use multinic_api::OptionsSpec;
use multinic_core::{Addresses, Interface, InterfaceOptions, NodeConfig, Slot};
use multinic_store::inventory::{go_json, node_hash};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::wish::NodeWish;

/// One node with its NICs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NodeConfig)]
pub struct NodePayload {
    /// The node's name, which is also the name of its MultiNicNodeConfig.
    #[schema(required, min_length = 1, max_length = 253, example = "worker-1")]
    #[serde(default)]
    pub node_name: String,
    /// The UUID of the Nova server that the node is.
    #[schema(example = "11111111-2222-3333-4444-555555555555")]
    #[serde(default)]
    pub instance_id: String,
    /// The node's NICs. An empty list: it has lost the last one.
    #[schema(max_items = 64)]
    pub interfaces: Vec<InterfacePayload>,
}

/// One NIC. The order of the fields is that of the older programs, whose hashes depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NodeInterface)]
pub struct InterfacePayload {
    /// The N of `multinicN`. Where a name is given beside it, the name decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 63, example = 0)]
    pub id: Option<i64>,
    /// The Neutron port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_id: Option<String>,
    /// The link's name on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^multinic[0-9]+$", example = "multinic0")]
    pub name: Option<String>,
    /// The port's MAC address.
    #[schema(required, pattern = "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$", example = "fa:16:3e:00:00:01")]
    #[serde(default)]
    pub mac_address: String,
    /// The first IPv4 address, else the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10.0.0.10")]
    pub address: Option<String>,
    /// The subnet of `address` in network form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10.0.0.0/24")]
    pub cidr: Option<String>,
    /// Every address with its prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 64, example = json!(["10.0.0.10/24"]))]
    pub addresses: Option<Vec<String>>,
    /// The MTU in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 68, maximum = 65535, example = 1450)]
    pub mtu: Option<i64>,
    /// The Nova server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The Neutron network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_id: Option<String>,
    /// The Neutron subnet of `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
    /// What it is to be like beyond its addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, example = json!({"sourceRouting": {"enabled": true}}))]
    pub options: Option<OptionsSpec>,
    /// Accepted, and without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
}

impl NodePayload {
    /// SHA-256 in lower-case hex of [`Self::canonical`]: equal hashes, equal wishes. The older programs' hash of the same
    /// node.
    pub fn hash(&self) -> Result<String, serde_json::Error> {
        Ok(node_hash(&serde_json::to_string(self)?))
    }

    /// The same without lists of addresses that say no more than `address` and `cidr` do: the older programs know no such
    /// list.
    #[must_use]
    pub fn without_what_follows(mut self) -> Self {
        for nic in &mut self.interfaces {
            let pair = Addresses::reconcile(None, nic.address.as_deref(), nic.cidr.as_deref()).ok();
            let list =
                nic.addresses.iter().map(|list| Addresses::parse(list.iter().map(String::as_str)).ok());
            if list.eq([pair]) {
                nic.addresses = None;
            }
        }
        self
    }

    /// The node as compact JSON, byte for byte as Go's encoder writes it.
    pub fn canonical(&self) -> Result<String, serde_json::Error> {
        Ok(go_json(&serde_json::to_string(self)?))
    }
}

impl From<&NodeWish> for NodePayload {
    fn from(wish: &NodeWish) -> Self {
        let NodeWish { provider: _, config: NodeConfig { node, instance, interfaces }, owners: _, options } =
            wish;
        let payload =
            |(slot, nic): (&Slot, &Arc<Interface>)| InterfacePayload::new(*slot, nic, options.get(&nic.port));
        Self {
            node_name: node.to_string(),
            instance_id: instance.to_string(),
            interfaces: interfaces.iter().map(payload).collect(),
        }
    }
}

impl InterfacePayload {
    /// The NIC of a slot, with everything that is known of it.
    pub fn new(slot: Slot, interface: &Interface, options: Option<&InterfaceOptions>) -> Self {
        let Interface { mac, port, network, subnet, device, addresses, cidr, mtu } = interface;
        let primary = addresses.primary();
        Self {
            id: Some(slot.number().into()),
            port_id: Some(port.to_string()),
            name: Some(slot.interface().to_string()),
            mac_address: mac.to_string(),
            address: primary.map(|net| net.addr().to_string()),
            // A cidr without an address is half a pair, which readers refuse.
            cidr: primary.map(|_| cidr.to_string()),
            addresses: Some(addresses.iter().map(|net| net.to_string()).collect()),
            mtu: Some(mtu.bytes().into()),
            device_id: Some(device.to_string()),
            network_id: Some(network.to_string()),
            subnet_id: Some(subnet.to_string()),
            options: options.map(OptionsSpec::from),
            device_name: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_node_of_the_older_programs_keeps_its_hash() {
        let text = concat!(
            r#"{"nodeName":"worker-1","instanceId":"11111111-2222-3333-4444-555555555555","interfaces":["#,
            r#"{"portId":"port-a","name":"multinic0","macAddress":"fa:16:3e:00:00:01","address":"10.0.0.10","#,
            r#""cidr":"10.0.0.0/24","mtu":1450,"deviceId":"11111111-2222-3333-4444-555555555555","#,
            r#""networkId":"net-a","subnetId":"sub-a"},"#,
            r#"{"id":1,"portId":"port-b","name":"multinic1","macAddress":"fa:16:3e:00:00:02","#,
            r#""address":"10.0.1.10","cidr":"10.0.1.0/24","deviceId":"11111111-2222-3333-4444-555555555555","#,
            r#""networkId":"net-b","subnetId":"sub-b"}]}"#
        );
        let node: NodePayload = serde_json::from_str(text).unwrap();
        assert_eq!(node.canonical().unwrap(), text);
        assert_eq!(node.hash().unwrap(), "7c311e96c1e8fda64742bac67ec4a81aa70812d628b1e44679218c1b28158786");
    }

    #[test]
    fn what_an_older_program_does_not_know_is_left_out_where_it_says_no_more() {
        let mut nic = serde_json::json!({
            "mac": "FA:16:3E:00:00:01", "port": "port-a", "network": "net-a", "subnet": "sub-a", "device": "server-a",
            "addresses": ["10.0.0.10/24"], "cidr": "10.0.0.0/24", "mtu": 1450
        });
        let keys = |nic: &serde_json::Value| {
            let config =
                serde_json::json!({"node": "worker-1", "instance": "server-a", "interfaces": {"0": nic}});
            let config = serde_json::from_value(config).unwrap();
            let wish = NodeWish { provider: None, config, owners: BTreeMap::new(), options: BTreeMap::new() };
            let payload = serde_json::to_value(NodePayload::from(&wish).without_what_follows()).unwrap();
            let keys: Vec<String> = payload["interfaces"][0].as_object().unwrap().keys().cloned().collect();
            keys.join(" ")
        };
        assert_eq!(keys(&nic), "address cidr deviceId id macAddress mtu name networkId portId subnetId");
        nic["addresses"] = serde_json::json!([]);
        assert_eq!(keys(&nic), "deviceId id macAddress mtu name networkId portId subnetId");
    }

    #[test]
    fn what_go_escapes_is_escaped() {
        let node = NodePayload {
            node_name: "a&b<c>\u{2028}".to_owned(),
            instance_id: String::new(),
            interfaces: Vec::new(),
        };
        let expected = r#"{"nodeName":"a\u0026b\u003cc\u003e\u2028","instanceId":"","interfaces":[]}"#;
        assert_eq!(node.canonical().unwrap(), expected);
    }

    #[test]
    fn the_first_slot_has_its_id_and_every_nic_its_mtu() {
        let config: NodeConfig = serde_json::from_value(serde_json::json!({
            "node": "worker-1", "instance": "server-a", "interfaces": {"0": {
                "mac": "FA:16:3E:00:00:01", "port": "port-a", "network": "net-a", "subnet": "sub-a", "device": "server-a",
                "addresses": ["fd00::10/64", "10.0.0.10/24"], "cidr": "10.0.0.0/24", "mtu": 1450
            }}
        }))
        .unwrap();
        let expected = serde_json::json!({"nodeName": "worker-1", "instanceId": "server-a", "interfaces": [{
            "id": 0, "portId": "port-a", "name": "multinic0", "macAddress": "fa:16:3e:00:00:01",
            "address": "10.0.0.10", "cidr": "10.0.0.0/24", "addresses": ["fd00::10/64", "10.0.0.10/24"],
            "mtu": 1450, "deviceId": "server-a", "networkId": "net-a", "subnetId": "sub-a"
        }]});
        let mut wish = NodeWish { provider: None, config, owners: BTreeMap::new(), options: BTreeMap::new() };
        assert_eq!(serde_json::to_value(NodePayload::from(&wish)).unwrap(), expected);
        // Two addresses are more than a pair can say.
        assert_eq!(serde_json::to_value(NodePayload::from(&wish).without_what_follows()).unwrap(), expected);
        let options = r#"{"strictArp": false, "routes": [{"to": "10.8.0.0/16", "via": "10.0.0.1"}]}"#;
        wish.options.insert("port-a".into(), serde_json::from_str(options).unwrap());
        let payload = serde_json::to_value(NodePayload::from(&wish)).unwrap();
        let expected: serde_json::Value = serde_json::from_str(options).unwrap();
        assert_eq!(payload["interfaces"][0]["options"], expected);
    }
}
