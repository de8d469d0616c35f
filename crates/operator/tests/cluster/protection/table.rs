//! The table: who may do what to which object.

use kube::api::{DeleteParams, ListParams};
use multinic_operator::observe::observe;
use serde_json::json;

use super::hands::{GLASS, Hand, RBAC, Try, condition, key, said, spec, started, until_heard};
use crate::bench::{Bench, NAMESPACE};

const PEOPLE: [&str; 2] = ["admin", "system:serviceaccount:flux-system:helm-controller"];
/// As the cluster's own programs are named, one by one or all together.
const CLUSTER: [&str; 8] = [
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
    "system:serviceaccount:kube-system:daemon-set-controller",
    "system:serviceaccount:kube-system:pvc-protection-controller",
    "system:kube-controller-manager",
    "system:kube-scheduler",
];
const OPERATOR: &str = "system:serviceaccount:multinic-system:multinic-operator";
const AUTOSCALER: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
const UNLABELLED: &str = "multinic.example.com/protected";

/// What may be done, or words of the refusal.
type Answer = Result<(), &'static str>;

fn label(name: &str, value: Option<&str>) -> Try {
    Try::Change(json!({"metadata": {"labels": {name: value}}}))
}

async fn check(hand: &Hand, group: &str, kind: &str, name: &str, what: &Try, answer: Answer) {
    let came = hand.tries(&key(group, kind, name), what).await;
    let row = format!("{}: {what:?} {kind} {name}", hand.name);
    match (came, answer) {
        (Ok(()), Ok(())) => {}
        (Err(said), Err(words)) => {
            assert!(said.contains(words), "{row}: {words:?} is not in {said}");
            assert!(said.contains("Forbidden") || said.contains("denied"), "{row}: {said}");
        }
        (came, answer) => panic!("{row} came to {came:?} in place of {answer:?}"),
    }
}

/// Everybody, at everything that there is: nobody but the operator and the cluster deletes it, or takes off what it is known by.
async fn every_object(bench: &Bench, people: &[Hand], cluster: &[Hand]) {
    let everything = observe(&bench.client, NAMESPACE).await.unwrap().objects;
    assert!(everything.len() > 30, "{everything:?}");
    for key in everything.keys() {
        // No API server asks anybody about these, so that nobody is locked out.
        let is_asked_about = key.kind.group != "admissionregistration.k8s.io";
        for (hand, may) in
            people.iter().map(|it| (it, !is_asked_about)).chain(cluster.iter().map(|it| (it, true)))
        {
            for what in [Try::Delete, label(UNLABELLED, None), label(UNLABELLED, Some("no"))] {
                let came = hand.tries(key, &what).await;
                assert_eq!(came.is_ok(), may, "{}: {what:?} {key}: {came:?}", hand.name);
            }
        }
    }
}

#[tokio::test]
async fn who_may_do_what_to_which_object() {
    let Some((bench, admin)) = started(spec(true, &[])).await else { return };
    until_heard(&bench, &admin, false, false).await;
    let people = PEOPLE.map(|name| Hand::new(&bench, name));
    let cluster: Vec<Hand> = CLUSTER.iter().chain([&OPERATOR]).map(|name| Hand::new(&bench, name)).collect();
    let autoscaler = [Hand::new(&bench, AUTOSCALER)];
    assert_eq!(condition(&bench, "ProtectionActive").await, Some(("True".to_owned(), "Active".to_owned())));
    every_object(&bench, &people, &cluster).await;

    let image = |container: &str| {
        let containers = json!([{"name": container, "image": "other:1"}]);
        Try::Change(json!({"spec": {"template": {"spec": {"containers": containers}}}}))
    };
    let annotation = |name: &str| Try::Change(json!({"metadata": {"annotations": {name: "x"}}}));
    let restart = Try::Change(json!({"spec": {"template": {"metadata": {"annotations":
        {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}}}}}));
    let replicas = Try::Change(json!({"spec": {"replicas": 2}}));
    let setting = Try::Change(json!({"data": {"LOG_LEVEL": "debug"}}));
    let password = Try::Change(json!({"data": {"password": "eA=="}}));
    let (controller, agent, database) = ("multinic-controller", "multinic-agent", "mariadb");
    let volume = "mysql-storage-mariadb-0";
    let rows: Vec<(&str, &str, &str, Try, Answer)> = vec![
        ("apps", "Deployment", controller, image("controller"), Err("set spec.controller.image there")),
        ("apps", "DaemonSet", agent, image("agent"), Err("set spec.agent.image there")),
        ("apps", "StatefulSet", database, image("mariadb"), Err("set spec.database.image there")),
        ("apps", "Deployment", controller, replicas.clone(), Err("set spec.controller.replicas there")),
        ("apps", "Deployment", controller, Try::Scale(2), Err("set spec.controller.replicas there")),
        // What changes nothing is nobody's business.
        ("apps", "Deployment", controller, Try::Scale(1), Ok(())),
        ("apps", "StatefulSet", database, Try::Scale(0), Err("is not scaled by others")),
        (
            "apps",
            "Deployment",
            controller,
            restart.clone(),
            Err("spec.protection.allowedOperations (restart)"),
        ),
        ("apps", "Deployment", controller, label("team", Some("a")), Err("allowedOperations (label)")),
        ("apps", "Deployment", controller, annotation("note"), Err("allowedOperations (annotate)")),
        ("", "ConfigMap", "operator-config", setting, Err("set spec.controller.settings there")),
        ("", "Secret", "multinic-database", password, Err("set spec.database.credentials there")),
        ("", "Secret", "multinic-database", Try::Delete, Err("cannot be made again")),
        ("", "PersistentVolumeClaim", volume, Try::Delete, Err("cannot be made again")),
        (
            "",
            "Service",
            database,
            Try::Delete,
            Err("with spec.database.enabled: false the operator removes it"),
        ),
        ("apps", "DaemonSet", agent, Try::Delete, Err("without spec.agent the operator removes it")),
        (
            RBAC,
            "ClusterRole",
            controller,
            Try::Change(json!({"rules": []})),
            Err("no field of it says otherwise"),
        ),
        (RBAC, "ClusterRole", controller, Try::Delete, Err("it goes with its MultiNicOperator")),
        ("", "ServiceAccount", agent, label(UNLABELLED, None), Err("knows multinic-agent by these labels")),
        (
            "apps",
            "Deployment",
            controller,
            Try::Change(json!({"metadata": {"ownerReferences": null}})),
            Err("the owner of multinic-controller is its MultiNicOperator"),
        ),
        // Nor by the back door.
        (
            "",
            "PersistentVolumeClaim",
            volume,
            Try::Status(json!({"metadata": {"labels": {UNLABELLED: null}}})),
            Err("by these labels"),
        ),
        (
            "",
            "PersistentVolumeClaim",
            volume,
            Try::Status(json!({"status": {"allocatedResources": {"storage": "1Gi"}}})),
            Ok(()),
        ),
        // Storage and load balancers write there, wherever their programs run.
        ("", "PersistentVolumeClaim", volume, annotation("volume.kubernetes.io/selected-node"), Ok(())),
        ("", "Service", database, annotation("metallb.io/address-pool"), Ok(())),
        (
            "",
            "Service",
            database,
            Try::Change(json!({"spec": {"type": "NodePort"}})),
            Err("spec.database.service.type"),
        ),
        // With a reason, everything.
        ("apps", "Deployment", controller, annotation(GLASS), Ok(())),
        (
            "apps",
            "Deployment",
            controller,
            Try::Change(json!({"metadata": {"annotations": {GLASS: "why"}}, "spec": {"replicas": 0}})),
            Ok(()),
        ),
        (
            "apps",
            "Deployment",
            controller,
            Try::Change(json!({"metadata": {"annotations": {GLASS: " "}}, "spec": {"replicas": 0}})),
            Err("spec.controller.replicas"),
        ),
    ];
    for (group, kind, name, what, answer) in &rows {
        for hand in &people {
            check(hand, group, kind, name, what, *answer).await;
        }
        for hand in &cluster {
            // None of these scales anything by way of `scale`.
            let is_none = matches!(what, Try::Scale(_)) && hand.name != OPERATOR;
            check(hand, group, kind, name, what, if is_none { *answer } else { Ok(()) }).await;
        }
    }
    // Who deletes a whole collection names no object, and is told which one is in his way.
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let made = ListParams::default().labels("multinic.example.com/protected=true");
    for (kind, name) in [("Service", "multinic-controller"), ("PersistentVolumeClaim", volume)] {
        let all = key("", kind, "").api(admin.client.clone());
        let why = said(all.delete_collection(&dry, &made).await).unwrap_err();
        assert!(why.contains(name) || why.contains("mariadb"), "{why}");
        let garbage_collector = key("", kind, "").api(cluster[0].client.clone());
        garbage_collector.delete_collection(&dry, &made).await.unwrap();
    }
    // An autoscaler is somebody's, though it runs with the cluster's programs.
    check(&autoscaler[0], "apps", "Deployment", controller, &Try::Scale(2), Err("is not scaled by others"))
        .await;

    // What is named is allowed, and nothing beside it.
    bench.want("multinic", spec(true, &["scale", "restart", "label", "Delete", "dance"])).await;
    until_heard(&bench, &admin, true, true).await;
    let both = Try::Change(json!({"spec": {"replicas": 2, "paused": true}}));
    let rows: Vec<(&str, &str, &str, Try, Answer)> = vec![
        ("apps", "Deployment", controller, Try::Scale(2), Ok(())),
        ("apps", "Deployment", controller, replicas, Ok(())),
        ("apps", "Deployment", controller, restart, Ok(())),
        ("apps", "Deployment", controller, label("team", Some("a")), Ok(())),
        ("", "Service", database, Try::Delete, Ok(())),
        ("apps", "Deployment", controller, both, Err("(spec.paused)")),
        ("apps", "Deployment", controller, annotation("note"), Err("allowedOperations (annotate)")),
        ("apps", "Deployment", controller, label(UNLABELLED, None), Err("knows multinic-controller by")),
        ("", "PersistentVolumeClaim", volume, Try::Delete, Err("cannot be made again")),
    ];
    for (group, kind, name, what, answer) in &rows {
        for hand in &people {
            check(hand, group, kind, name, what, *answer).await;
        }
    }
    bench
        .until("a word that nobody knows is told", async || {
            let status = bench.status("multinic").await;
            let active = status.conditions.into_iter().find(|it| it.type_ == "ProtectionActive").unwrap();
            active.message.unwrap().contains("and not: dance")
        })
        .await;

    // Switched off, everybody may do everything, and nothing asks any more.
    bench.want("multinic", spec(false, &[])).await;
    until_heard(&bench, &admin, true, true).await;
    bench
        .until("policy and webhooks are gone", async || {
            !bench.made().await.keys().any(|name| name.contains("multinic-operator-protection"))
        })
        .await;
    bench
        .until("API servers have heard that the policy is gone", async || {
            admin.tries(&key("", "PersistentVolumeClaim", volume), &Try::Delete).await.is_ok()
        })
        .await;
    check(&admin, "apps", "Deployment", controller, &label(UNLABELLED, None), Ok(())).await;
    assert_eq!(
        condition(&bench, "ProtectionActive").await,
        Some(("False".to_owned(), "Disabled".to_owned()))
    );
    assert_eq!(bench.status("multinic").await.protection_status.unwrap().active, Some(false));
}
