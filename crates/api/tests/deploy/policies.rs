//! Real calls with the controller's token, and the admission policies that say what RBAC cannot.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use multinic_api::{CLEANUP_FINALIZER, MultiNicNodeConfig, OpenstackConfig};
use serde_json::{Value, json};

use crate::kubectl::Site;

const OURS: &str = "multinic-system";
const OTHER: &str = "elsewhere";

async fn site() -> Option<(Site, Client, OpenstackConfig)> {
    let site = Site::deployed()?;
    site.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    site.kubectl(&["create", "namespace", OTHER]);
    site.kubectl(&["apply", "-n", OTHER, "-f", "deploy/samples/first-generation.yaml"]);
    let config = Api::<OpenstackConfig>::namespaced(site.client(), OTHER).get("legacy").await.unwrap();
    let controller = site.control_plane.service_account(OURS, "multinic-controller").await.unwrap();
    let client = controller.client().unwrap();
    Some((site, client, config))
}

fn refused<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> String {
    match answer {
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => status.message.clone(),
        other => panic!("was not refused: {other:?}"),
    }
}

fn secret(name: &str, owner: Option<&OpenstackConfig>) -> Secret {
    let owner = owner.map(|owner| OwnerReference {
        api_version: "multinic.example.com/v1alpha1".to_owned(),
        kind: "OpenstackConfig".to_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap(),
        controller: Some(true),
        block_owner_deletion: None,
    });
    let mut secret = Secret { type_: Some("Opaque".to_owned()), ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.owner_references = owner.map(|owner| vec![owner]);
    secret.string_data = Some([("RABBITMQ_USER".to_owned(), "a".to_owned())].into());
    secret
}

/// A policy is in force a moment after it was applied.
async fn until_in_force(client: &Client) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), OTHER);
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    let deadline = Instant::now() + Duration::from_secs(60);
    while secrets.create(&parameters, &secret("probe", None)).await.is_ok() {
        assert!(Instant::now() < deadline, "the policy is not in force");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let configs: Api<OpenstackConfig> = Api::namespaced(client.clone(), OTHER);
    let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = Patch::Merge(json!({"spec": {"vmName": "probe"}}));
    while configs.patch("legacy", &parameters, &patch).await.is_ok() {
        assert!(Instant::now() < deadline, "the policy is not in force");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_controller_changes_of_a_configuration_its_finalizer_annotations_and_status() {
    let Some((site, client, _)) = site().await else { return };
    until_in_force(&client).await;
    let configs: Api<OpenstackConfig> = Api::namespaced(client.clone(), OTHER);
    let merge =
        async |patch: Value| configs.patch("legacy", &PatchParams::default(), &Patch::Merge(patch)).await;

    assert_eq!(
        Api::<OpenstackConfig>::all(client.clone()).list(&ListParams::default()).await.unwrap().items.len(),
        1
    );
    merge(json!({"metadata": {"finalizers": [CLEANUP_FINALIZER]}})).await.unwrap();
    merge(json!({"metadata": {"annotations": {"multinic.io/reconcile-at": "now"}}})).await.unwrap();
    let status = json!({
        "apiVersion": "multinic.example.com/v1alpha1", "kind": "OpenstackConfig",
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Synced"}]},
    });
    let manager = PatchParams::apply("multinic-controller").force();
    configs.patch_status("legacy", &manager, &Patch::Apply(status)).await.unwrap();

    let said = refused(merge(json!({"spec": {"vmName": "worker-4"}})).await);
    assert!(said.contains("does not change the spec"), "{said}");
    let said =
        refused(merge(json!({"metadata": {"finalizers": [CLEANUP_FINALIZER, "example.com/other"]}})).await);
    assert!(said.contains("no finalizer but multinic.io/cleanup"), "{said}");
    refused(configs.delete("legacy", &DeleteParams::default()).await);

    // The administrator is not the controller, and what he put there stays.
    let finalizers = [CLEANUP_FINALIZER, "example.com/other"].join("\",\"");
    let patch = format!("{{\"metadata\":{{\"finalizers\":[\"{finalizers}\"]}}}}");
    site.kubectl(&["patch", "osc", "legacy", "-n", OTHER, "--type=merge", "-p", &patch]);
    refused(merge(json!({"metadata": {"finalizers": []}})).await);
    merge(json!({"metadata": {"finalizers": ["example.com/other"]}})).await.unwrap();
}

#[tokio::test]
async fn the_controller_writes_no_secret_but_a_configurations_broker() {
    let Some((site, client, config)) = site().await else { return };
    until_in_force(&client).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), OTHER);
    let post = PostParams::default();

    secrets.create(&post, &secret("rabbitmq-legacy", Some(&config))).await.unwrap();
    let there = secrets.get("rabbitmq-legacy").await.unwrap();
    assert_eq!(there.data.unwrap()["RABBITMQ_USER"].0, b"a");
    let change = Patch::Merge(json!({"stringData": {"RABBITMQ_USER": "b"}}));
    secrets.patch("rabbitmq-legacy", &PatchParams::default(), &change).await.unwrap();

    for (name, owner) in
        [("rabbitmq-other", Some(&config)), ("tls", Some(&config)), ("rabbitmq-legacy-2", None)]
    {
        let said = refused(secrets.create(&post, &secret(name, owner)).await);
        assert!(said.contains("rabbitmq-<name> of an OpenstackConfig"), "{said}");
    }
    let mut token = secret("rabbitmq-legacy", Some(&config));
    token.type_ = Some("kubernetes.io/service-account-token".to_owned());
    token.metadata.annotations =
        Some([("kubernetes.io/service-account.name".to_owned(), "default".to_owned())].into());
    secrets.delete("rabbitmq-legacy", &DeleteParams::default()).await.unwrap_err();
    site.kubectl(&["delete", "secret", "rabbitmq-legacy", "-n", OTHER]);
    let said = refused(secrets.create(&post, &token).await);
    assert!(said.contains("Opaque"), "{said}");

    // Somebody else's, whatever its name.
    site.kubectl(&["create", "secret", "generic", "rabbitmq-legacy", "-n", OTHER, "--from-literal=a=b"]);
    let owners = secret("rabbitmq-legacy", Some(&config)).metadata.owner_references;
    let take = Patch::Merge(json!({"metadata": {"ownerReferences": owners}}));
    refused(secrets.patch("rabbitmq-legacy", &PatchParams::default(), &take).await);
    refused(secrets.list(&ListParams::default()).await);
}

#[tokio::test]
async fn nodes_objects_and_the_lease_are_the_controllers_in_its_own_namespace_only() {
    // The site ends when it is dropped.
    let Some((_site, client, _)) = site().await else { return };
    let apply = PatchParams::apply("multinic-controller").force();
    let object = json!({
        "apiVersion": "multinic.io/v1alpha1", "kind": "MultiNicNodeConfig", "metadata": {"name": "worker-1"},
        "spec": {"nodeName": "worker-1", "interfaces": [{"macAddress": "fa:16:3e:00:00:01"}]},
    });
    let nodes = |namespace| Api::<MultiNicNodeConfig>::namespaced(client.clone(), namespace);
    nodes(OURS).patch("worker-1", &apply, &Patch::Apply(&object)).await.unwrap();
    refused(nodes(OTHER).patch("worker-1", &apply, &Patch::Apply(&object)).await);
    let status = json!({"apiVersion": "multinic.io/v1alpha1", "kind": "MultiNicNodeConfig", "status": {"state": "Configured"}});
    refused(nodes(OURS).patch_status("worker-1", &apply, &Patch::Apply(status)).await);
    nodes(OURS).delete("worker-1", &DeleteParams::default()).await.unwrap();

    let leases = |namespace| Api::<Lease>::namespaced(client.clone(), namespace);
    let lease = |name: &str| {
        let mut lease = Lease::default();
        lease.metadata.name = Some(name.to_owned());
        lease
    };
    let post = PostParams::default();
    let made = leases(OURS).create(&post, &lease("multinic-controller")).await.unwrap();
    leases(OURS).replace("multinic-controller", &post, &made).await.unwrap();
    refused(leases(OTHER).create(&post, &lease("multinic-controller")).await);

    let event = |namespace: &str| -> Event {
        serde_json::from_value(json!({
            "metadata": {"name": "worker-1.1", "namespace": namespace}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "multinic.io/controller", "reportingInstance": "a", "action": "Publish",
            "reason": "Published", "type": "Normal", "regarding": {"kind": "Node", "name": "worker-1"},
        }))
        .unwrap()
    };
    Api::<Event>::namespaced(client.clone(), "default").create(&post, &event("default")).await.unwrap();
    refused(Api::<Event>::namespaced(client.clone(), "default").list(&ListParams::default()).await);
    refused(Api::<ServiceAccount>::namespaced(client.clone(), OURS).list(&ListParams::default()).await);
}
