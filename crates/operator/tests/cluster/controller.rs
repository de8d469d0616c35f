//! The controller: what is made for it, changed, put back and taken away.

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE};

fn spec() -> Value {
    json!({
        "controller": {"image": "registry.example/multinic:1"},
        "database": {"enabled": false},
    })
}

/// Everything that there is for one controller.
const ALL: [&str; 12] = [
    "ClusterRole multinic-controller",
    "ClusterRoleBinding multinic-controller",
    "ConfigMap operator-config",
    "Deployment multinic-controller",
    "Role multinic-controller",
    "RoleBinding multinic-controller",
    "Service multinic-controller",
    "ServiceAccount multinic-controller",
    "ValidatingAdmissionPolicy multinic-controller-configs",
    "ValidatingAdmissionPolicy multinic-controller-secrets",
    "ValidatingAdmissionPolicyBinding multinic-controller-configs",
    "ValidatingAdmissionPolicyBinding multinic-controller-secrets",
];

#[tokio::test]
async fn a_controller_comes_with_all_that_it_needs_and_goes_with_its_operator() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec()).await;
    bench.until_running("multinic").await;
    let made: Vec<String> = bench.made().await.into_keys().collect();
    assert_eq!(made, ALL);

    let operator = bench.operators().get("multinic").await.unwrap();
    let uid = operator.metadata.uid.unwrap();
    let deployment = bench.get("apps", "Deployment", "multinic-controller").await.unwrap();
    assert_eq!(deployment["metadata"]["ownerReferences"][0]["uid"], json!(uid));
    assert_eq!(deployment["metadata"]["ownerReferences"][0]["controller"], json!(true));
    assert_eq!(deployment["metadata"]["labels"]["multinic.example.com/protected"], json!("true"));
    assert_eq!(deployment["metadata"]["labels"]["app.kubernetes.io/managed-by"], json!("multinic-operator"));
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], json!("registry.example/multinic:1"));
    let role = bench.get("rbac.authorization.k8s.io", "ClusterRole", "multinic-controller").await.unwrap();
    assert_eq!(role["metadata"]["ownerReferences"][0]["kind"], json!("Namespace"));

    let status = operator.status.unwrap();
    let controller = status.controller_status.unwrap();
    assert_eq!((controller.ready_replicas, controller.desired_replicas), (Some(1), Some(1)));
    assert_eq!(controller.phase.as_deref(), Some("Running"));
    for type_ in ["Ready", "ControllerReady"] {
        let condition = status.conditions.iter().find(|it| it.type_ == type_).unwrap();
        assert_eq!(condition.status, "True", "{condition:?}");
    }

    bench.operators().delete("multinic", &DeleteParams::default()).await.unwrap();
    bench.until("nothing is left", async || bench.made().await.is_empty()).await;
}

#[tokio::test]
async fn what_others_change_or_delete_is_as_it_was_and_then_nothing_is_written_any_more() {
    let Some(mut bench) = Bench::start().await else { return };
    bench.want("multinic", spec()).await;
    bench.until_running("multinic").await;

    let replicas = json!({"spec": {"replicas": 0}});
    bench.meddle("apps", "Deployment", "multinic-controller", replicas).await;
    bench.delete("", "Service", "multinic-controller").await;
    let rules = json!({"rules": []});
    bench.meddle("rbac.authorization.k8s.io", "ClusterRole", "multinic-controller", rules).await;
    bench.delete("rbac.authorization.k8s.io", "RoleBinding", "multinic-controller").await;
    let setting = json!({"data": {"POLL_FAST_INTERVAL": "1s"}});
    bench.meddle("", "ConfigMap", "operator-config", setting).await;
    let label = json!({"metadata": {"labels": {"multinic.example.com/protected": null}}});
    bench.meddle("", "ServiceAccount", "multinic-controller", label).await;
    bench.until("all is back", async || {
        let get = async |group, kind, name| bench.get(group, kind, name).await.unwrap_or_default();
        get("apps", "Deployment", "multinic-controller").await["spec"]["replicas"] == json!(1)
            && get("", "Service", "multinic-controller").await != Value::Null
            && get("rbac.authorization.k8s.io", "ClusterRole", "multinic-controller").await["rules"][0] != Value::Null
            && get("rbac.authorization.k8s.io", "RoleBinding", "multinic-controller").await != Value::Null
            && get("", "ConfigMap", "operator-config").await["data"]["POLL_FAST_INTERVAL"] == json!("20s")
            && get("", "ServiceAccount", "multinic-controller").await["metadata"]["labels"]
                ["multinic.example.com/protected"]
                == json!("true")
    })
    .await;
    bench.until_running("multinic").await;

    // Passes of a second operator's process find nothing to write.
    bench.stop().await;
    let before =
        (bench.made().await, bench.operators().get("multinic").await.unwrap().metadata.resource_version);
    bench.run();
    bench.want("another", spec()).await;
    bench
        .until("a turn was made", async || bench.status("another").await.phase.as_deref() == Some("Error"))
        .await;
    let after =
        (bench.made().await, bench.operators().get("multinic").await.unwrap().metadata.resource_version);
    assert_eq!(before, after);
    let status = bench.status("another").await;
    assert!(status.message.unwrap().contains("multinic is carried out"));
}

#[tokio::test]
async fn what_cannot_be_carried_out_is_said_with_its_field_and_stops_nothing_that_runs() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec()).await;
    bench.until_running("multinic").await;
    let mut wrong = spec();
    wrong["controller"]["healthProbe"] = json!({"port": 8083});
    wrong["controller"]["settings"] = json!({"DB_HOST": "elsewhere"});
    wrong["reconcileTrigger"] =
        json!({"interval": "30s", "schedule": "0 0 30 2 *", "timezone": "Mars/Olympus"});
    bench.want("multinic", wrong).await;
    bench
        .until("it is said", async || bench.status("multinic").await.phase.as_deref() == Some("Error"))
        .await;
    let status = bench.status("multinic").await;
    let ready = status.conditions.iter().find(|it| it.type_ == "Ready").unwrap();
    assert_eq!(ready.reason.as_deref(), Some("InvalidSpec"));
    assert!(status.conditions.iter().any(|it| it.type_ == "Stalled" && it.status == "True"));
    let message = status.message.unwrap();
    for field in [
        "spec.controller.healthProbe.port",
        "spec.controller.settings.DB_HOST",
        "spec.reconcileTrigger.interval",
        "spec.reconcileTrigger.schedule",
        "spec.reconcileTrigger.timezone",
    ] {
        assert!(message.contains(field), "{field} is not in {message}");
    }
    assert_eq!(status.controller_status.unwrap().phase.as_deref(), Some("Running"));
    bench.want("multinic", spec()).await;
    bench.until_running("multinic").await;
    let status = bench.status("multinic").await;
    assert!(!status.conditions.iter().any(|it| it.type_ == "Stalled"), "{status:?}");
}

#[tokio::test]
async fn an_older_operators_finalizer_and_conditions_hold_nothing_up() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec()).await;
    let finalizer =
        json!({"metadata": {"finalizers": ["multinic.example.com/operator-finalizer", "example.com/mine"]}});
    let parameters = PatchParams::default();
    bench.operators().patch("multinic", &parameters, &Patch::Merge(finalizer)).await.unwrap();
    let old = json!({"status": {"conditions": [{"type": "databaseReady", "status": "False"}]}});
    bench.operators().patch_status("multinic", &parameters, &Patch::Merge(old)).await.unwrap();
    bench
        .until("the old one is off", async || {
            let object = bench.operators().get("multinic").await.unwrap();
            let conditions = object.status.unwrap_or_default().conditions;
            object.metadata.finalizers == Some(vec!["example.com/mine".to_owned()])
                && !conditions.is_empty()
                && !conditions.iter().any(|it| it.type_ == "databaseReady")
        })
        .await;
    // While somebody else holds it, what is of the whole cluster goes already.
    bench.operators().delete("multinic", &DeleteParams::default()).await.unwrap();
    bench
        .until("the role is gone", async || {
            bench.get("rbac.authorization.k8s.io", "ClusterRole", "multinic-controller").await.is_none()
        })
        .await;
    let none = json!({"metadata": {"finalizers": null}});
    bench.operators().patch("multinic", &parameters, &Patch::Merge(none)).await.unwrap();
    bench.until("nothing is left", async || bench.made().await.is_empty()).await;
}

#[tokio::test]
async fn the_deletion_of_the_namespace_waits_for_nobody() {
    let Some(mut bench) = Bench::start().await else { return };
    bench.want("multinic", spec()).await;
    bench.until_running("multinic").await;
    // It goes at some time of a namespace's deletion.
    bench.stop().await;
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(bench.client.clone());
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await.unwrap();
    bench
        .until("the namespace is gone", async || {
            bench.be_the_kubelet().await;
            namespaces.get_opt(NAMESPACE).await.unwrap().is_none()
        })
        .await;
    bench.until("nothing is left", async || bench.made().await.is_empty()).await;
}
