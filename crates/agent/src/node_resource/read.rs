//! What an object asks for, in the form that every source has.

use multinic_api::desired_nic::desired_nic;
use multinic_core::desired::{DesiredState, EntryId, InvalidEntry, Position, Reported, Silence};
use multinic_core::{MacAddr, NodeName};
use serde::Deserialize;
use serde_json::Value;

use super::firmware::ProductUuid;
use super::object::NodeObject;

/// Why an object is not used at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// A stable CamelCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// The spec, with each interface as it was written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: String,
    #[serde(default)]
    instance_id: Option<String>,
    #[serde(default)]
    interfaces: Vec<Value>,
}

/// Reads an object, or that there is none.
pub fn desired(
    object: Option<&NodeObject>,
    node: &NodeName,
    firmware: Option<ProductUuid>,
) -> Result<DesiredState, Refusal> {
    // One that goes without our finalizer, or is to go without a clean-up, is as good as gone.
    let Some(object) = object.filter(|object| !object.deleting || (object.is_held() && !object.orphan))
    else {
        return Ok(DesiredState { silence: Silence::NoObject, ..DesiredState::default() });
    };
    let spec = Spec::deserialize(&object.spec)
        .map_err(|error| Refusal { reason: "InvalidSpec", message: format!("spec: {error}") })?;
    check_identity(&spec, node, firmware)?;
    let position = Some(Position::of_object(&object.uid, object.generation));
    if object.deleting {
        let silence = Silence::Deleted;
        return Ok(DesiredState { node_known: true, position, silence, ..DesiredState::default() });
    }
    let mut state =
        DesiredState { node_known: true, position, silence: Silence::NotListed, ..DesiredState::default() };
    for (at, value) in spec.interfaces.iter().enumerate() {
        let entry = EntryId(i64::try_from(at).unwrap_or(i64::MAX));
        match desired_nic(entry, object.generation, value) {
            Ok(nic) => state.nics.push(nic),
            Err(reason) => state.invalid.push(InvalidEntry {
                entry,
                revision: object.generation,
                mac: mac(value),
                reason,
                reported: Reported::default(),
            }),
        }
    }
    Ok(state)
}

fn check_identity(spec: &Spec, node: &NodeName, firmware: Option<ProductUuid>) -> Result<(), Refusal> {
    if spec.node_name != node.as_str() {
        let message = format!("spec.nodeName is {:?}, and this node is {node}", spec.node_name);
        return Err(Refusal { reason: "NodeMismatch", message });
    }
    let instance = spec.instance_id.as_deref().map(str::trim).filter(|id| !id.is_empty());
    match (instance, firmware) {
        (Some(instance), Some(firmware)) if !firmware.is(instance) => {
            let message = format!(
                "spec.instanceId is {instance:?}, and the firmware of this node says {firmware}: the object is about \
                 another server; nothing is changed"
            );
            Err(Refusal { reason: "InstanceMismatch", message })
        }
        _ => Ok(()),
    }
}

fn mac(value: &Value) -> Option<MacAddr> {
    value.get("macAddress")?.as_str()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(spec: &Value) -> NodeObject {
        let metadata =
            json!({"name": "n", "uid": "u", "generation": 3, "finalizers": ["multinic.io/cleanup"]});
        NodeObject::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())
    }

    fn read(interfaces: &Value) -> DesiredState {
        let object = object(&json!({"nodeName": "n", "interfaces": interfaces}));
        desired(Some(&object), &"n".parse().unwrap(), None).unwrap()
    }

    fn reason(interface: &Value) -> String {
        let state = read(&json!([interface]));
        assert!(state.nics.is_empty());
        state.invalid[0].reason.clone()
    }

    const MAC: &str = "FA:16:3E:00:00:01";

    #[test]
    fn the_slot_is_the_name_s_else_the_id_else_the_place() {
        let slots = |interfaces: &Value| {
            let nics = read(interfaces).nics;
            nics.iter().map(|nic| nic.slot.unwrap().number()).collect::<Vec<_>>()
        };
        let other = "fa:16:3e:00:00:02";
        let named = json!([{"macAddress": MAC, "name": "multinic7", "id": 2, "mtu": 1500},
                           {"macAddress": other, "name": "multinic0", "mtu": 1500}]);
        assert_eq!(slots(&named), [7, 0]);
        let counted =
            json!([{"macAddress": MAC, "id": 4, "mtu": 1500}, {"macAddress": other, "id": 5, "mtu": 1500}]);
        assert_eq!(slots(&counted), [4, 5]);
        let bare = json!([{"macAddress": MAC, "mtu": 1500}, {"macAddress": other, "id": 0, "mtu": 1500}]);
        assert_eq!(slots(&bare), [1, 2]);
    }

    #[test]
    fn both_forms_of_addresses_are_read_and_none_means_none() {
        let addresses = |interface: &Value| read(&json!([interface])).nics[0].addresses.to_string();
        let pair = json!({"macAddress": MAC, "mtu": 1450, "address": "10.0.0.5", "cidr": "10.0.0.0/24"});
        assert_eq!(addresses(&pair), "10.0.0.5/24");
        let list = json!({"macAddress": MAC, "mtu": 1450, "addresses": ["10.0.0.5/24", "fd00::5/64"]});
        assert_eq!(addresses(&list), "10.0.0.5/24, fd00::5/64");
        assert_eq!(addresses(&json!({"macAddress": MAC, "mtu": 1450, "cidr": "10.0.0.0/24"})), "");
    }

    #[test]
    fn options_are_read_and_a_wrong_one_names_its_field() {
        let options = json!({"rpFilter": "loose", "sourceRouting": {"enabled": true}, "routes": [{"to": "10.8.0.0/16"}]});
        let nic = json!({"macAddress": MAC, "mtu": 1450, "addresses": ["10.0.0.5/24"], "options": options});
        let read = read(&json!([nic])).nics[0].options.clone();
        assert_eq!(read, serde_json::from_value(options).unwrap());
        let nic = json!({"macAddress": MAC, "mtu": 1450, "options": {"routes": [{"to": "x"}]}});
        assert!(reason(&nic).starts_with("options.routes[0].to: "), "{}", reason(&nic));
        let nic = json!({"macAddress": MAC, "mtu": 1450, "options": {"rpFilter": "tight"}});
        assert!(reason(&nic).contains("tight"), "{}", reason(&nic));
    }

    #[test]
    fn what_is_wrong_names_its_field_and_keeps_its_mac() {
        assert!(reason(&json!({"macAddress": MAC})).starts_with("mtu: "));
        assert!(reason(&json!({"macAddress": MAC, "mtu": 1450, "address": "10.0.0.5"})).contains("cidr"));
        assert!(reason(&json!({"macAddress": MAC, "mtu": 1450, "name": "eth0"})).starts_with("name: "));
        assert!(reason(&json!({"macAddress": MAC, "mtu": 1450, "id": 64})).starts_with("id: "));
        assert!(
            reason(&json!({"macAddress": MAC, "mtu": 1450, "addresses": ["10.0.0.5"]}))
                .starts_with("addresses: ")
        );
        assert!(reason(&json!({"macAddress": "01:00:5e:00:00:01", "mtu": 1450})).starts_with("macAddress: "));
        let state = read(&json!([{"macAddress": MAC}, {"macAddress": "ff:ff:ff:ff:ff:ff", "mtu": 1500}]));
        assert_eq!(state.invalid[0].mac, MAC.parse().ok());
        assert_eq!(state.invalid[1].mac, None);
    }

    #[test]
    fn an_object_about_another_server_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("product_uuid");
        std::fs::write(&file, "00112233-4455-6677-8899-AABBCCDDEEFF\n").unwrap();
        let firmware = ProductUuid::read(&file);
        let refused = |spec: &Value, firmware| {
            desired(Some(&object(spec)), &"n".parse().unwrap(), firmware).err().map(|refusal| refusal.reason)
        };
        let with = |id: &str| json!({"nodeName": "n", "instanceId": id, "interfaces": []});
        assert_eq!(refused(&with("00112233-4455-6677-8899-aabbccddeeff"), firmware), None);
        assert_eq!(
            refused(&with("00112233-4455-6677-8899-aabbccddee00"), firmware),
            Some("InstanceMismatch")
        );
        assert_eq!(refused(&with("00112233-4455-6677-8899-aabbccddee00"), None), None);
        assert_eq!(refused(&with(""), firmware), None);
        assert_eq!(refused(&json!({"nodeName": "m", "interfaces": []}), firmware), Some("NodeMismatch"));
        assert_eq!(refused(&json!({"interfaces": 3}), firmware), Some("InvalidSpec"));
    }

    #[test]
    fn a_deletion_counts_only_while_we_hold_our_finalizer() {
        let mut object = object(&json!({"nodeName": "n", "interfaces": [{"macAddress": MAC, "mtu": 1500}]}));
        let silence =
            |object: &NodeObject| desired(Some(object), &"n".parse().unwrap(), None).unwrap().silence;
        assert_eq!(silence(&object), Silence::NotListed);
        object.deleting = true;
        assert_eq!(silence(&object), Silence::Deleted);
        object.orphan = true;
        assert_eq!(silence(&object), Silence::NoObject);
        object.orphan = false;
        object.finalizers = vec!["somebody/else".to_owned()];
        assert_eq!(silence(&object), Silence::NoObject);
        assert_eq!(desired(None, &"n".parse().unwrap(), None).unwrap().silence, Silence::NoObject);
    }
}
