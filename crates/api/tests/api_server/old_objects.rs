//! Objects that were there before the rules: they can still be worked with, and deleted.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use multinic_api::definitions;
use multinic_testbed::kubernetes::ControlPlane;
use serde_json::{Value, json};

use crate::{manifest, merge, objects_of};

fn without_rules(schema: &mut JSONSchemaProps) {
    schema.x_kubernetes_validations = None;
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        without_rules(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut schema.items {
        without_rules(item);
    }
}

fn as_before(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        without_rules(version.schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap());
    }
    definition
}

#[tokio::test]
async fn what_was_there_before_the_rules_can_be_annotated_reported_on_and_deleted() {
    if !ControlPlane::installed() {
        return;
    }
    let control_plane = ControlPlane::start().unwrap();
    let client = control_plane.client().unwrap();
    for definition in definitions::all() {
        control_plane.install_crd(&as_before(definition)).await.unwrap();
    }
    let mut config = manifest("config-1b-minimal");
    config["spec"]["vmNames"] = json!([]);
    let mut node = manifest("node-unnamed");
    node["spec"]["nodeName"] = json!("another-node");
    node["spec"]["interfaces"][1]["id"] = json!(1);
    for object in [&mut config, &mut node] {
        merge(object, &json!({"metadata": {"finalizers": ["multinic.io/cleanup"]}}));
        let typed = serde_json::from_value(object.clone()).unwrap();
        objects_of(&client, "default", object).create(&PostParams::default(), &typed).await.unwrap();
    }
    for definition in definitions::all() {
        control_plane.install_crd(&definition).await.unwrap();
    }
    // The new rules are there when a new object is refused.
    for object in [&config, &node] {
        let mut other = object.clone();
        other["metadata"]["name"] = json!("other");
        let typed = serde_json::from_value(other).unwrap();
        let objects = objects_of(&client, "default", object);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while let Ok(taken) = objects.create(&PostParams::default(), &typed).await {
            assert!(std::time::Instant::now() < deadline, "still taken: {taken:?}");
            let name = taken.metadata.name.unwrap();
            objects
                .patch(
                    &name,
                    &PatchParams::default(),
                    &Patch::Merge(json!({"metadata": {"finalizers": null}})),
                )
                .await
                .unwrap();
            objects.delete(&name, &DeleteParams::default()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    let version = client.apiserver_version().await.unwrap();
    for object in [&config, &node] {
        let objects = objects_of(&client, "default", object);
        let name = object["metadata"]["name"].as_str().unwrap();
        let change = async |patch: Value| {
            let patched = objects.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.unwrap_or_else(|error| panic!("{name}: {patch}: {error}"));
        };
        change(json!({"metadata": {"annotations": {"multinic.io/reconcile-at": "now"}}})).await;
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        let reported = objects.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await;
        // Kubernetes 1.30 looks at the unchanged spec again when a status is written; 1.36 does not.
        assert!(reported.is_ok() || version.minor == "30", "{name}: {reported:?}");
        objects.delete(name, &DeleteParams::default()).await.unwrap();
        change(json!({"metadata": {"finalizers": null}})).await;
        assert!(objects.get_opt(name).await.unwrap().is_none(), "{name} is still there");
    }
}
