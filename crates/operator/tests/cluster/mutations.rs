//! Every field of the definition: another value has an effect, and taken away again it has none.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube::CustomResourceExt as _;
use multinic_api::MultiNicOperator;
use multinic_operator::observe::observe;
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE};

/// Fields whose effect is no object, or comes in steps that wait for pods.
const OTHER_EFFECTS: [&str; 4] = [
    // `tls.rs` and `protection/glass.rs` show it.
    "database.tls.enabled",
    // The webhook's.
    "protection.enableMutationPrevention",
    "protection.allowedOperations",
    // `recovery.rs` shows it.
    "protection.enableAutoRecovery",
];
/// Fields whose effect stays when they are taken away: passwords and data (`database.rs`), a volume that needs a class to
/// grow, and a number that Kubernetes leaves to a Service once it has it.
pub const LASTING: [&str; 9] = [
    "database.service.nodePort",
    "database.credentials.rootPassword",
    "database.credentials.password",
    "database.credentials.rotation",
    "database.credentials.endRotation",
    "database.credentials.user",
    "database.credentials.database",
    "database.storageSize",
    "database.backup.storageSize",
];

/// All that has to be there for a field to have an effect, or to be allowed.
pub fn base(path: &str) -> Value {
    let mut spec = json!({
        "controller": {"image": "multinic:1"},
        "agent": {"image": "multinic-agent:1"},
        "database": {"enabled": true},
    });
    if path.starts_with("database.external") {
        spec["database"] = json!({"enabled": false, "external": {"host": "a.example", "secretName": "mine"}});
    }
    if path.starts_with("openstack.") {
        // All three are there, or none.
        for name in ["identityEndpoint", "networkEndpoint", "computeEndpoint"] {
            spec["openstack"][name] = json!("http://one.example:1");
        }
    }
    if path.starts_with("database.backup") || path == "database.restoreFrom" {
        spec["database"]["backup"] = json!({"schedule": "0 3 * * *"});
    }
    if path.starts_with("database.backup.s3") || path == "networkPolicy.backupCIDRs" {
        let reference = json!({"name": "multinic-s3", "key": "key"});
        spec["database"]["backup"] = json!({"schedule": "0 3 * * *", "s3": {"bucket": "backups",
            "accessKeyIdSecretRef": reference, "secretAccessKeySecretRef": reference}});
        if path.starts_with("database.backup.s3.caSecretRef") {
            spec["database"]["backup"]["s3"]["caSecretRef"] = reference;
        }
    }
    if path.starts_with("networkPolicy") {
        spec["networkPolicy"] = json!({"openstackCIDRs": ["10.20.0.0/16"]});
        if path != "networkPolicy.enabled" {
            spec["networkPolicy"]["enabled"] = json!(true);
        }
    }
    spec
}

/// Another value for a field than any base or default has.
pub fn another(path: &str, schema: &JSONSchemaProps) -> Value {
    let last = path.rsplit('.').next().unwrap();
    match (path, last) {
        ("reconcileTrigger.mode", _) => return json!("manual"),
        ("database.external.tls", _) => return json!("insecure"),
        ("agent.dataSource", _) => return json!("db"),
        (
            "agent.sysconfig"
            | "agent.installDropIn"
            | "networkPolicy.enabled"
            | "database.backup.s3.allowHttp"
            | "database.backup.s3.forcePathStyle",
            _,
        ) => {
            return json!(true);
        }
        ("database.backup.s3.endpoint", _) => return json!("https://minio.example:9000"),
        (_, "nodeCIDRs" | "openstackCIDRs" | "backupCIDRs") => return json!(["10.30.0.0/16"]),
        ("database.service.type", _) => return json!("NodePort"),
        ("database.deletionPolicy", _) => return json!("Delete"),
        (_, "interval" | "maxAge") => return json!("7m"),
        (_, "schedule") => return json!("30 2 * * *"),
        (_, "timezone") => return json!("Asia/Seoul"),
        (_, "settings") => return json!({"LOG_LEVEL": "debug"}),
        (_, "path") => return json!("/alive"),
        (_, "cpu") => return json!("700m"),
        (_, "memory") => return json!("700Mi"),
        (_, "identityEndpoint" | "networkEndpoint" | "computeEndpoint") => {
            return json!("http://other.example:1");
        }
        _ => {}
    }
    match schema.type_.as_deref() {
        Some("integer") => json!(3),
        Some("boolean") => json!(false),
        Some("string") => json!("other"),
        other => panic!("{path}: a field of the type {other:?} needs a value here"),
    }
}

/// Every field of a spec.
pub fn fields() -> BTreeMap<String, JSONSchemaProps> {
    let definition = MultiNicOperator::crd();
    let schema = definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let mut fields = BTreeMap::new();
    leaves("", &schema.properties.as_ref().unwrap()["spec"], &mut fields);
    fields
}

/// Every field that holds a value itself, by its path below the spec.
fn leaves(path: &str, schema: &JSONSchemaProps, found: &mut BTreeMap<String, JSONSchemaProps>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if property.properties.is_some() {
            leaves(&path, property, found);
        } else {
            found.insert(path, property.clone());
        }
    }
}

pub fn set(spec: &mut Value, path: &str, value: Value) {
    let mut place = spec;
    for name in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[name];
    }
    *place = value;
}

/// All that the operator made, without what the API server counts and what is told of it.
pub async fn contents(bench: &Bench) -> BTreeMap<String, Value> {
    let observed = observe(&bench.client, NAMESPACE).await.unwrap();
    let mut contents = BTreeMap::new();
    for (key, metadata) in observed.objects {
        if metadata.deletion_timestamp.is_some() {
            continue;
        }
        let Some(object) = key.api(bench.client.clone()).get_opt(&key.name).await.unwrap() else { continue };
        let mut object = serde_json::to_value(object).unwrap();
        let metadata = &object["metadata"];
        object["metadata"] = json!({"labels": metadata["labels"], "owners": metadata["ownerReferences"]});
        object.as_object_mut().unwrap().remove("status");
        // They are the server's choice, and another one for an object that was made anew.
        for name in ["clusterIP", "clusterIPs", "volumeName"] {
            if let Some(spec) = object["spec"].as_object_mut() {
                spec.remove(name);
            }
        }
        object.as_object_mut().unwrap().remove("secrets");
        // What is generated is another each time.
        let is_secret = key.kind.name == "Secret";
        contents.insert(key.to_string(), if is_secret { json!("a secret") } else { object });
    }
    contents
}

async fn carried_out(bench: &Bench, spec: Value) -> BTreeMap<String, Value> {
    bench.want("multinic", spec).await;
    bench
        .until("it is carried out", async || {
            let object = bench.operators().get("multinic").await.unwrap();
            let status = object.status.unwrap_or_default();
            status.observed_generation == object.metadata.generation
                && status.phase.as_deref() != Some("Error")
        })
        .await;
    contents(bench).await
}

#[tokio::test]
async fn every_field_has_its_effect_and_none_when_it_is_taken_away() {
    let Some(bench) = Bench::start().await else { return };
    let fields = fields();
    assert!(fields.len() > 35, "{:?}", fields.keys());
    for path in OTHER_EFFECTS.iter().chain(&LASTING) {
        assert!(fields.contains_key(*path), "{path} is no field any more");
    }
    let mut last: Option<(Value, BTreeMap<String, Value>)> = None;
    for (path, schema) in &fields {
        if OTHER_EFFECTS.contains(&path.as_str()) || LASTING.contains(&path.as_str()) {
            continue;
        }
        let without = base(path);
        let mut with = without.clone();
        set(&mut with, path, another(path, schema));
        let before = match &last {
            Some((spec, contents)) if *spec == without => contents.clone(),
            _ => carried_out(&bench, without.clone()).await,
        };
        let during = carried_out(&bench, with).await;
        assert!(before != during, "{path} has no effect");
        let after = carried_out(&bench, without.clone()).await;
        for name in before.keys().chain(after.keys()) {
            assert_eq!(before.get(name), after.get(name), "{path} still has an effect");
        }
        last = Some((without, after));
    }
}
