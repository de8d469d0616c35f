//! Wrong manifests, one per rule: each is refused with words that name the field and the fix.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use multinic_api::definitions;
use serde_json::{Value, json};

use crate::{Cluster, manifest, merge};

const USER: &str = "config-1b-full";
const PROVIDER: &str = "config-2-full";
const CLOUDS: &str = "config-ours";
const NODE: &str = "node-full";
const OPERATOR: &str = "operator-ours";

/// What is wrong: a manifest that is right, a merge patch that makes it wrong, the field and words of the refusal.
type Wrong = (&'static str, Value, &'static str, &'static str);

fn wrong_configs() -> Vec<Wrong> {
    let reference = json!({"name": "a", "key": "b"});
    let spec = |spec: Value| json!({ "spec": spec });
    let credentials = |credentials: Value| json!({"spec": {"credentials": credentials}});
    let application = json!({
        "username": null, "password": null, "applicationCredentialID": "id", "applicationCredentialSecret": "x"
    });
    let application = |change: Value| {
        let mut credentials = application.clone();
        merge(&mut credentials, &change);
        json!({"spec": {"credentials": credentials}})
    };
    vec![
        (USER, spec(json!({"vmNames": null})), "spec.vmNames", "name at least one VM, by UUID or by name"),
        (USER, spec(json!({"vmNames": [], "vmName": " "})), "spec.vmNames", "in vmNames or vmName"),
        (USER, spec(json!({"vmNames": ["worker-1", " "]})), "spec.vmNames[1]", "is blank: name a VM"),
        (USER, spec(json!({"vmNames": "worker-1"})), "spec.vmNames", "must be of type array"),
        (USER, spec(json!({"vmName": 1})), "spec.vmName", "must be of type string"),
        (USER, spec(json!({"subnetName": " "})), "spec.subnetIDs", "give subnetIDs, subnetID or subnetName"),
        (PROVIDER, spec(json!({"subnetIDs": [""], "subnetName": null})), "spec.subnetIDs", "SubnetRequired"),
        (USER, spec(json!({"credentials": null})), "spec.credentials", "give exactly one of"),
        (USER, credentials(json!({"openstackProviderID": "x"})), "spec.credentials", "give exactly one of"),
        (USER, credentials(json!({"applicationCredentialID": "x"})), "spec.credentials", "exactly one"),
        (CLOUDS, credentials(json!({"providerID": "x"})), "spec.credentials", "secrets.cloudsSecretRef"),
        (
            PROVIDER,
            credentials(json!({"openstackProviderID": ""})),
            "spec.credentials",
            "openstackProviderID",
        ),
        (PROVIDER, credentials(json!({"providerID": "x"})), "spec.credentials.providerID", "remove it"),
        (
            PROVIDER,
            credentials(json!({"projectID": null})),
            "spec.credentials.projectID",
            "give the id of the project",
        ),
        (
            USER,
            credentials(json!({"projectID": ""})),
            "spec.credentials.projectID",
            "give the id of the project",
        ),
        (USER, credentials(json!({"domainName": null})), "spec.credentials.domainName", "such as Default"),
        (
            USER,
            credentials(json!({"password": ""})),
            "spec.credentials.password",
            "secrets.passwordSecretRef (better)",
        ),
        (
            USER,
            spec(json!({"secrets": {"passwordSecretRef": reference}})),
            "spec.credentials.password",
            "remove it here",
        ),
        (
            USER,
            application(json!({"applicationCredentialSecret": null})),
            "spec.credentials.applicationCredentialSecret",
            "secrets.applicationCredentialSecretRef (better)",
        ),
        (
            USER,
            {
                let mut both = application(json!({}));
                both["spec"]["secrets"] = json!({"applicationCredentialSecretRef": reference});
                both
            },
            "spec.credentials.applicationCredentialSecret",
            "remove it here",
        ),
        (
            USER,
            credentials(json!({"cloud": "a"})),
            "spec.credentials.cloud",
            "secrets.cloudsSecretRef, or remove it",
        ),
        (
            CLOUDS,
            credentials(json!({"k8sProviderID": ""})),
            "spec.credentials.k8sProviderID",
            "take viola out of sinks",
        ),
        (
            CLOUDS,
            spec(json!({"sinks": ["database"]})),
            "spec.target",
            "add kubernetes to sinks, or remove it",
        ),
        (CLOUDS, spec(json!({"sinks": []})), "spec.sinks", "at least 1 items"),
        (CLOUDS, spec(json!({"sinks": ["database", "database"]})), "spec.sinks[1]", "Duplicate value"),
        (CLOUDS, spec(json!({"sinks": ["files"]})), "spec.sinks[0]", "supported values: \"database\""),
        (CLOUDS, spec(json!({"target": {"namespace": "A"}})), "spec.target.namespace", "should match"),
        (
            CLOUDS,
            spec(json!({"secrets": {"cloudsSecretRef": {"key": null}}})),
            "spec.secrets.cloudsSecretRef.key",
            "Required",
        ),
        (
            CLOUDS,
            spec(json!({"secrets": {"cloudsSecretRef": {"name": ""}}})),
            "spec.secrets.cloudsSecretRef.name",
            "at least 1",
        ),
        (
            PROVIDER,
            spec(json!({"settings": {"pollFastInterval": "soon"}})),
            "spec.settings.pollFastInterval",
            "such as 30s, 2m or 1h30m",
        ),
        (
            PROVIDER,
            spec(json!({"settings": {"violaEndpoint": "http://a:b@c"}})),
            "spec.settings.violaEndpoint",
            "without a user name or password",
        ),
        (
            PROVIDER,
            spec(json!({"settings": {"downPortFastRetryMax": "5"}})),
            "spec.settings.downPortFastRetryMax",
            "must be of type integer",
        ),
        (
            PROVIDER,
            spec(json!({"settings": {"pollInterval": "5s"}})),
            "spec.settings.pollInterval",
            "unknown field",
        ),
    ]
}

fn wrong_nodes() -> Vec<Wrong> {
    let spec = |spec: Value| json!({ "spec": spec });
    let interfaces = |list: Value| json!({"spec": {"interfaces": list}});
    let (mac, other) = ("fa:16:3e:00:00:01", "fa:16:3e:00:00:02");
    vec![
        (NODE, spec(json!({"nodeName": "another"})), "spec.nodeName", "must be the same as metadata.name"),
        (NODE, spec(json!({"nodeName": null})), "spec.nodeName", "Required value"),
        (NODE, spec(json!({"interfaces": null})), "spec.interfaces", "Required value"),
        (NODE, interfaces(json!([])), "spec.interfaces", "at least 1 items"),
        (NODE, interfaces(json!([{"id": 1}])), "spec.interfaces[0].macAddress", "Required value"),
        (
            NODE,
            interfaces(json!([{"macAddress": "fa-16-3e-00-00-01"}])),
            "spec.interfaces[0].macAddress",
            "should match",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac}, {"macAddress": mac}])),
            "spec.interfaces[1]",
            "Duplicate value",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac}, {"macAddress": mac.to_uppercase()}])),
            "spec.interfaces",
            "two entries have the same macAddress",
        ),
        (
            NODE,
            interfaces(
                json!([{"macAddress": mac, "name": "multinic1"}, {"macAddress": other, "name": "multinic1"}]),
            ),
            "spec.interfaces",
            "two entries have the same name",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac, "id": 2}, {"macAddress": other, "id": 2}])),
            "spec.interfaces",
            "two entries have the same id",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac, "id": 2, "name": "multinic1"}])),
            "spec.interfaces[0].id",
            "must be the N of the name multinicN",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac, "id": 64}])),
            "spec.interfaces[0].id",
            "less than or equal to 63",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac, "name": "eth0"}])),
            "spec.interfaces[0].name",
            "should match",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac, "name": "multinic64"}])),
            "spec.interfaces[0].name",
            "should match",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac, "name": "multinic01"}])),
            "spec.interfaces[0].name",
            "should match",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac, "address": "10.0.0.1/24"}])),
            "spec.interfaces[0].address",
            "without a prefix length",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac, "cidr": "10.0.0.0"}])),
            "spec.interfaces[0].cidr",
            "with its prefix length",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac, "addresses": [""]}])),
            "spec.interfaces[0].addresses[0]",
            "with its prefix length",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac, "mtu": 67}])),
            "spec.interfaces[0].mtu",
            "greater than or equal to 68",
        ),
        (
            NODE,
            interfaces(json!([{"macAddress": mac, "mtu": 65536}])),
            "spec.interfaces[0].mtu",
            "less than or equal to 65535",
        ),
    ]
}

fn wrong_operators() -> Vec<Wrong> {
    let spec = |spec: Value| json!({ "spec": spec });
    let backup = |backup: Value| json!({"spec": {"database": {"backup": backup}}});
    vec![
        (OPERATOR, spec(json!({"controller": null})), "spec.controller", "Required value"),
        (
            OPERATOR,
            spec(json!({"controller": {"settings": {"violaEndpoint": "x"}}})),
            "spec.controller.settings",
            "environment variables in capitals",
        ),
        (OPERATOR, spec(json!({"controller": {"image": ""}})), "spec.controller.image", "at least 1 chars"),
        (
            OPERATOR,
            spec(json!({"controller": {"replicas": -1}})),
            "spec.controller.replicas",
            "greater than or equal to 0",
        ),
        (
            OPERATOR,
            spec(json!({"controller": {"resources": {"cpu": "much"}}})),
            "spec.controller.resources.cpu",
            "such as 500m",
        ),
        (OPERATOR, spec(json!({"database": {"enabled": null}})), "spec.database.enabled", "Required value"),
        (
            OPERATOR,
            spec(json!({"database": {"service": {"type": "None"}}})),
            "spec.database.service.type",
            "\"NodePort\"",
        ),
        (
            OPERATOR,
            spec(json!({"database": {"service": {"port": 70000}}})),
            "spec.database.service.port",
            "65535",
        ),
        (
            OPERATOR,
            spec(json!({"openstack": {"computeEndpoint": null}})),
            "spec.openstack.computeEndpoint",
            "Required",
        ),
        (
            OPERATOR,
            spec(json!({"openstack": {"computeEndpoint": "nova"}})),
            "spec.openstack.computeEndpoint",
            "with a host",
        ),
        (
            OPERATOR,
            spec(json!({"reconcileTrigger": {"mode": "often"}})),
            "spec.reconcileTrigger.mode",
            "\"scheduled\"",
        ),
        (
            OPERATOR,
            spec(json!({"reconcileTrigger": {"interval": "often"}})),
            "spec.reconcileTrigger.interval",
            "30s",
        ),
        (
            OPERATOR,
            backup(json!({"claimName": "backups"})),
            "spec.database.backup.s3",
            "take claimName and storageSize away, or s3",
        ),
        (OPERATOR, backup(json!({"storageSize": "1Gi"})), "spec.database.backup.s3", "in place of a volume"),
        (
            OPERATOR,
            backup(json!({"s3": {"endpoint": "HTTP://minio.example:9000"}})),
            "spec.database.backup.s3.endpoint",
            "set allowHttp to true",
        ),
        (
            OPERATOR,
            backup(json!({"s3": {"bucket": "https://minio.example/a"}})),
            "spec.database.backup.s3.bucket",
            "no URL or path",
        ),
        (
            OPERATOR,
            backup(json!({"s3": {"prefix": "clusters/../one"}})),
            "spec.database.backup.s3.prefix",
            "as clusters/one",
        ),
        (
            OPERATOR,
            backup(json!({"s3": {"secretAccessKeySecretRef": null}})),
            "spec.database.backup.s3.secretAccessKeySecretRef",
            "Required",
        ),
    ]
}

#[tokio::test]
async fn a_wrong_manifest_is_refused_with_its_field_and_what_to_do() {
    let Some(cluster) = Cluster::new().await else { return };
    let mut said = String::new();
    for (base, patch, field, words) in [wrong_configs(), wrong_nodes(), wrong_operators()].concat() {
        let mut object = manifest(base);
        object.as_object_mut().unwrap().remove("status");
        merge(&mut object, &patch);
        let refusal = cluster.refusal(&object).await;
        assert!(refusal.contains(field) && refusal.contains(words), "{patch} of {base}: {refusal}");
        // Where the object as a whole is quoted, so is a password.
        assert!(!refusal.contains("not-a-real-one"), "{patch} of {base}: {refusal}");
        said.push_str(&refusal);
    }
    for definition in definitions::all() {
        for version in &definition.spec.versions {
            let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            for message in messages(schema) {
                assert!(said.contains(&message), "no manifest breaks the rule: {message}");
            }
        }
    }
}

/// The messages of all rules.
fn messages(schema: &JSONSchemaProps) -> BTreeSet<String> {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    let mut found: BTreeSet<String> = rules.map(|rule| rule.message.clone().unwrap()).collect();
    for property in schema.properties.iter().flat_map(|properties| properties.values()) {
        found.extend(messages(property));
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        found.extend(messages(item));
    }
    found
}

/// Every text of a spec that has to be of a form, or one of some words, with its path.
fn texts_of_a_form(path: &[String], schema: &JSONSchemaProps, found: &mut Vec<Vec<String>>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = [path, std::slice::from_ref(name)].concat();
        let formed = property.x_kubernetes_validations.is_some() || property.enum_.is_some();
        if property.type_.as_deref() == Some("string") && formed {
            found.push(path);
        } else {
            texts_of_a_form(&path, property, found);
        }
    }
}

#[tokio::test]
async fn every_text_of_a_form_is_checked() {
    let Some(cluster) = Cluster::new().await else { return };
    let mut count = 0;
    for (definition, base) in definitions::all().iter().zip([PROVIDER, NODE, OPERATOR]) {
        let schema =
            definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let spec = &schema.properties.as_ref().unwrap()["spec"];
        let mut paths = Vec::new();
        texts_of_a_form(&["spec".to_owned()], spec, &mut paths);
        for path in paths {
            let mut object = manifest(base);
            object.as_object_mut().unwrap().remove("status");
            let patch = path.iter().rev().fold(json!("no such thing!"), |value, name| json!({ name: value }));
            merge(&mut object, &patch);
            let refusal = cluster.refusal(&object).await;
            assert!(refusal.contains(&path.join(".")), "{}: {refusal}", path.join("."));
            count += 1;
        }
    }
    assert!(count >= 20, "only {count}");
}

#[tokio::test]
async fn the_largest_objects_that_the_bounds_allow_are_taken() {
    let Some(cluster) = Cluster::new().await else { return };
    let mut config = manifest(PROVIDER);
    config.as_object_mut().unwrap().remove("status");
    let vms: Vec<String> = (0..10_000).map(|n| format!("3f2a1b0c-9d8e-4f7a-8b6c-{n:012x}")).collect();
    config["spec"]["vmNames"] = json!(vms);
    cluster.create(&config).await.unwrap();

    let mut node = manifest(NODE);
    node.as_object_mut().unwrap().remove("status");
    let addresses: Vec<String> =
        (0..64).map(|n| format!("fd00:1111:2222:3333:4444:5555:6666:{n:04x}/64")).collect();
    let interfaces: Vec<Value> = (0..64)
        .map(|n| {
            json!({
                "id": n, "name": format!("multinic{n}"), "macAddress": format!("FA:16:3E:00:00:{n:02X}"),
                "addresses": addresses, "mtu": 1500,
            })
        })
        .collect();
    node["spec"]["interfaces"] = json!(interfaces);
    cluster.create(&node).await.unwrap();
}
