//! Who holds which fields of an object, and how `spec.interfaces` becomes ours alone.
//!
//! The list is a map by MAC address, and server-side apply removes an entry only if nobody but the applier holds it: what
//! `kubectl create`, an older program or a person put there would stay for ever. So before we apply to such an object, the
//! record of who holds what (`metadata.managedFields`) is rewritten, as client-go's `csaupgrade` does it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};
use multinic_api::node_config::InterfaceSpec;
use serde_json::{Map, Value};

const SPEC: &str = "f:spec";
const INTERFACES: &str = "f:interfaces";

/// Whether the manager has applied the object.
pub(crate) fn is_applied_by(fields: &[ManagedFieldsEntry], manager: &str) -> bool {
    fields.iter().any(|entry| is_of(entry, manager))
}

/// Whether others hold something of `spec.interfaces`, or nobody does.
pub(crate) fn is_shared(fields: &[ManagedFieldsEntry], manager: &str) -> bool {
    fields.iter().any(|entry| !is_of(entry, manager) && holds_interfaces(entry))
}

/// Whether another than the manager wrote something of the spec, whoever holds it now.
pub(crate) fn is_written_beside(fields: &[ManagedFieldsEntry], manager: &str) -> bool {
    let holds = |entry: &ManagedFieldsEntry| {
        entry.fields_v1.as_ref().is_some_and(|FieldsV1(fields)| fields.get(SPEC).is_some())
    };
    fields.iter().any(|entry| !is_of(entry, manager) && holds(entry))
}

fn is_of(entry: &ManagedFieldsEntry, manager: &str) -> bool {
    entry.manager.as_deref() == Some(manager)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

fn holds_interfaces(entry: &ManagedFieldsEntry) -> bool {
    let fields = entry.fields_v1.as_ref().map(|FieldsV1(fields)| fields);
    fields.and_then(|fields| fields.get(SPEC)).is_some_and(|spec| spec.get(INTERFACES).is_some())
}

/// The same record with everything that is in `spec.interfaces` now held by this manager and by nobody else.
pub(crate) fn taken_over(
    fields: &[ManagedFieldsEntry],
    manager: &str,
    api_version: &str,
    interfaces: &[InterfaceSpec],
) -> Vec<ManagedFieldsEntry> {
    let mut entries: Vec<ManagedFieldsEntry> = fields.to_vec();
    for entry in entries.iter_mut().filter(|entry| !is_of(entry, manager)) {
        drop_interfaces(entry);
    }
    entries.retain(|entry| {
        entry
            .fields_v1
            .as_ref()
            .is_some_and(|FieldsV1(fields)| fields.as_object().is_none_or(|o| !o.is_empty()))
    });
    let ours = match entries.iter_mut().find(|entry| is_of(entry, manager)) {
        Some(ours) => ours,
        None => {
            entries.push(ManagedFieldsEntry {
                api_version: Some(api_version.to_owned()),
                fields_type: Some("FieldsV1".to_owned()),
                manager: Some(manager.to_owned()),
                operation: Some("Apply".to_owned()),
                time: Some(Time(Timestamp::now())),
                ..ManagedFieldsEntry::default()
            });
            let Some(ours) = entries.last_mut() else { return entries };
            ours
        }
    };
    // What we held in there is part of what is there; the rest of our fields stays.
    let FieldsV1(fields) = ours.fields_v1.get_or_insert_with(|| FieldsV1(Value::Object(Map::new())));
    if let Some(fields) = fields.as_object_mut() {
        let spec = fields.entry(SPEC).or_insert_with(|| Value::Object(Map::new()));
        if let Some(spec) = spec.as_object_mut() {
            spec.insert(INTERFACES.to_owned(), all_of(interfaces));
        }
    }
    entries
}

fn drop_interfaces(entry: &mut ManagedFieldsEntry) {
    let Some(FieldsV1(Value::Object(fields))) = &mut entry.fields_v1 else { return };
    let Some(Value::Object(spec)) = fields.get_mut(SPEC) else { return };
    spec.remove(INTERFACES);
    if spec.keys().all(|key| key == ".") {
        fields.remove(SPEC);
    }
}

/// Every field of every entry, in the notation of the record.
fn all_of(interfaces: &[InterfaceSpec]) -> Value {
    let mut list = Map::new();
    for interface in interfaces {
        let mut entry = Map::from_iter([(".".to_owned(), Value::Object(Map::new()))]);
        if let Ok(Value::Object(content)) = serde_json::to_value(interface) {
            entry.extend(content.into_iter().map(|(key, _)| (format!("f:{key}"), Value::Object(Map::new()))));
        }
        let key = serde_json::json!({ "macAddress": interface.mac_address });
        list.insert(format!("k:{key}"), Value::Object(entry));
    }
    Value::Object(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    #[test]
    fn the_list_changes_hands_and_nothing_else_does() {
        let old = [
            entry(
                "kubectl-create",
                "Update",
                serde_json::json!({"f:spec": {".": {}, "f:interfaces": {}, "f:nodeName": {}}, "f:metadata": {}}),
            ),
            entry("only-this", "Update", serde_json::json!({"f:spec": {".": {}, "f:interfaces": {}}})),
            entry("ours", "Apply", serde_json::json!({"f:metadata": {"f:labels": {}}})),
        ];
        assert!(is_shared(&old, "ours") && is_applied_by(&old, "ours"));
        let nic = InterfaceSpec { mac_address: "fa:16:3e:00:00:01".to_owned(), ..InterfaceSpec::default() };
        let new = taken_over(&old, "ours", "multinic.io/v1alpha1", &[nic]);
        assert!(!is_shared(&new, "ours"));
        let fields: Vec<_> = new.iter().map(|entry| entry.fields_v1.clone().unwrap().0).collect();
        assert_eq!(
            fields,
            [
                serde_json::json!({"f:spec": {".": {}, "f:nodeName": {}}, "f:metadata": {}}),
                serde_json::json!({
                    "f:metadata": {"f:labels": {}},
                    "f:spec": {"f:interfaces": {
                        "k:{\"macAddress\":\"fa:16:3e:00:00:01\"}": {".": {}, "f:macAddress": {}}
                    }}
                }),
            ]
        );
    }
}
