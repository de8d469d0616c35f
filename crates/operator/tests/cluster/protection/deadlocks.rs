//! Nobody waits for an operator that is not there, and nothing of its own is in its way.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::hands::{GLASS, Try, condition, key, served, spec, started, until_heard};
use crate::bench::{NAMESPACE, WEEK, apply, own_certificate, shipped};

#[tokio::test]
async fn the_namespace_goes_with_all_that_is_in_it_while_the_operator_is_down() {
    let Some((mut bench, admin)) = started(spec(true, &[])).await else { return };
    until_heard(&bench, &admin, false, false).await;
    bench.stop().await;
    let namespaces: Api<Namespace> = Api::all(admin.client.clone());
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await.unwrap();
    bench
        .until("the namespace is gone", async || {
            bench.be_the_kubelet().await;
            namespaces.get_opt(NAMESPACE).await.unwrap().is_none()
        })
        .await;
    // What is of the whole cluster goes with the namespace, the webhooks among it.
    bench.until("nothing is left", async || bench.made().await.is_empty()).await;
}

#[tokio::test]
async fn while_the_operator_is_down_deleting_is_refused_changing_is_not_and_it_finds_its_way_back() {
    let Some((mut bench, admin)) = started(spec(true, &[])).await else { return };
    until_heard(&bench, &admin, false, false).await;
    bench.stop().await;
    let controller = key("apps", "Deployment", "multinic-controller");
    let volume = key("", "PersistentVolumeClaim", "mysql-storage-mariadb-0");
    let unlabelled = Try::Change(json!({"metadata": {"labels": {"multinic.example.com/protected": null}}}));
    for (key, what, words) in [
        (&controller, &Try::Delete, "failed calling webhook"),
        (&volume, &Try::Delete, "cannot be made again"),
        (&controller, &unlabelled, "by these labels"),
    ] {
        let said = admin.tries(key, what).await.unwrap_err();
        assert!(said.contains(words), "{said}");
    }
    // What it puts back itself when it is here again passes, and so does what breaks the glass.
    let service = key("", "Service", "multinic-controller");
    bench.meddle("apps", "Deployment", "multinic-controller", json!({"spec": {"replicas": 3}})).await;
    bench
        .meddle(
            "",
            "Service",
            "multinic-controller",
            json!({"metadata": {"annotations": {GLASS: "because"}}}),
        )
        .await;
    service.api(admin.client.clone()).delete(&service.name, &DeleteParams::default()).await.unwrap();
    // The garbage collector needs nobody.
    bench.operators().delete("multinic", &DeleteParams::default()).await.unwrap();
    bench
        .until("all that it owned is gone", async || {
            !bench
                .made()
                .await
                .keys()
                .any(|name| name.starts_with("Deployment") || name.starts_with("DaemonSet"))
        })
        .await;

    bench.want("multinic", spec(true, &[])).await;
    bench.run_asked(own_certificate(WEEK)).await;
    bench.until_running("multinic").await;
    until_heard(&bench, &admin, false, false).await;
    let deployment = bench.get("apps", "Deployment", "multinic-controller").await.unwrap();
    assert_eq!(deployment["spec"]["replicas"], json!(1));
}

#[tokio::test]
async fn an_operator_that_cannot_carry_its_spec_out_answers_and_renews_its_certificate_nevertheless() {
    let Some((mut bench, admin)) = started(spec(true, &[])).await else { return };
    until_heard(&bench, &admin, false, false).await;
    let mut wrong = spec(true, &[]);
    wrong["reconcileTrigger"] = json!({"interval": "1s"});
    bench.want("multinic", wrong).await;
    let refused =
        async || condition(&bench, "Stalled").await.is_some_and(|(_, reason)| reason == "InvalidSpec");
    bench.until("it is refused", refused).await;
    let first = served(&bench).await;
    bench.stop().await;
    // Of another lifetime, so that it is renewed soon.
    bench.run_asked(own_certificate(Duration::from_secs(30))).await;
    let service = key("", "Service", "mariadb");
    bench
        .until("who deletes something is told why not", async || {
            let said = admin.tries(&service, &Try::Delete).await.unwrap_err();
            said.contains("kept by the MultiNicOperator")
        })
        .await;
    bench.until("another certificate is made", async || served(&bench).await != first).await;
    let second = served(&bench).await;
    bench.until("and another one", async || served(&bench).await != second).await;
    let said = admin.tries(&service, &Try::Delete).await.unwrap_err();
    assert!(said.contains("kept by the MultiNicOperator"), "{said}");
    assert_eq!(condition(&bench, "ProtectionActive").await, Some(("True".to_owned(), "Active".to_owned())));
    // And what is wanted of protection is carried out.
    let mut wrong = spec(false, &[]);
    wrong["reconcileTrigger"] = json!({"interval": "1s"});
    bench.want("multinic", wrong).await;
    until_heard(&bench, &admin, true, true).await;
}

#[tokio::test]
async fn neither_an_upgrade_nor_another_image_of_the_operator_itself_is_in_anybodys_way() {
    let Some((bench, admin)) = started(spec(true, &[])).await else { return };
    until_heard(&bench, &admin, false, false).await;
    // What the operator upgrades.
    let mut other = spec(true, &[]);
    other["controller"]["image"] = json!("multinic:2");
    other["database"]["enabled"] = json!(false);
    bench.want("multinic", other).await;
    bench.until_running("multinic").await;
    let deployment = bench.get("apps", "Deployment", "multinic-controller").await.unwrap();
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], json!("multinic:2"));
    assert_eq!(bench.get("apps", "StatefulSet", "mariadb").await, None);
    // What people upgrade: it is theirs, whatever it is labelled with.
    for object in shipped(&["deployment.yaml"]) {
        apply(&bench.client, &object).await;
    }
    let operator = key("apps", "Deployment", "multinic-operator");
    let labels = json!({
        "app.kubernetes.io/managed-by": "multinic-operator",
        "multinic.example.com/operator-namespace": NAMESPACE,
        "multinic.example.com/protected": "true",
    });
    bench.meddle("apps", "Deployment", "multinic-operator", json!({"metadata": {"labels": labels}})).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "operator", "image": "multinic:2"}]}}}});
    let unlabelled = json!({"metadata": {"labels": {"multinic.example.com/protected": null}}});
    for what in [Try::Change(image), Try::Change(unlabelled), Try::Scale(0), Try::Delete] {
        assert_eq!(admin.tries(&operator, &what).await, Ok(()), "{what:?}");
    }
}

#[tokio::test]
async fn after_an_api_server_was_started_anew_all_is_as_it_was() {
    let Some((mut bench, admin)) = started(spec(true, &[])).await else { return };
    until_heard(&bench, &admin, false, false).await;
    bench.control_plane.restart().unwrap();
    until_heard(&bench, &admin, false, false).await;
    // The operator's own way is free, and it writes nothing but what is wanted.
    let mut other = spec(true, &[]);
    other["controller"]["image"] = json!("multinic:2");
    bench.want("multinic", other).await;
    bench.until_running("multinic").await;
    let parameters = PatchParams::default();
    let patch = Patch::Merge(json!({"spec": {"paused": true}}));
    let api = key("apps", "Deployment", "multinic-controller").api(admin.client.clone());
    api.patch("multinic-controller", &parameters, &patch).await.unwrap_err();
}
