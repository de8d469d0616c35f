//! `enableAutoRecovery: false`: what others change is told and left, and what the user wants is carried out nevertheless.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use multinic_operator::observe::observe;
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE, WEEK, apply, own_certificate};

fn spec(recovers: bool, replicas: i32) -> Value {
    json!({
        "controller": {"image": "multinic:1", "replicas": replicas},
        "database": {"enabled": false},
        "protection": {"enableAutoRecovery": recovers},
    })
}

async fn drift(bench: &Bench) -> Option<String> {
    let status = bench.status("multinic").await;
    status.conditions.into_iter().find(|it| it.type_ == "Drifted")?.message
}

#[tokio::test]
async fn without_recovery_what_others_do_is_told_and_left_until_the_spec_changes() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec(false, 1)).await;
    bench.until_running("multinic").await;
    assert_eq!(drift(&bench).await, None);

    bench.delete("", "Service", "multinic-controller").await;
    bench.meddle("apps", "Deployment", "multinic-controller", json!({"spec": {"replicas": 2}})).await;
    bench
        .until("both are told", async || {
            drift(&bench).await.is_some_and(|it| {
                it.contains("Service multinic-controller") && it.contains("Deployment multinic-controller")
            })
        })
        .await;
    assert_eq!(bench.get("", "Service", "multinic-controller").await, None);
    assert!(!drift(&bench).await.unwrap().contains("ConfigMap"));

    // What the user wants anew is carried out, and so is all the rest.
    bench.want("multinic", spec(false, 3)).await;
    bench.until_running("multinic").await;
    let deployment = bench.get("apps", "Deployment", "multinic-controller").await.unwrap();
    assert_eq!(deployment["spec"]["replicas"], json!(3));
    assert!(bench.get("", "Service", "multinic-controller").await.is_some());
    bench.until("nothing is told any more", async || drift(&bench).await.is_none()).await;
}

#[tokio::test]
async fn what_is_as_it_is_wanted_is_not_written_although_others_tell_of_it() {
    let Some(mut bench) = Bench::empty().await else { return };
    bench.run_asked(own_certificate(WEEK)).await;
    let spec = json!({
        "controller": {"image": "multinic:1", "replicas": 2},
        "agent": {"image": "multinic-agent:1", "dataSource": "db"},
        "database": {"enabled": true, "backup": {"schedule": "0 3 * * *"}, "restoreFrom": "latest"},
        "protection": {"enableMutationPrevention": true},
    });
    bench.want("multinic", spec).await;
    bench.until_running("multinic").await;
    // The controller manager writes what it found of a policy, and a field manager's time has whole seconds.
    bench
        .until("policies were looked at, and a second has passed", async || {
            let mut newest = Timestamp::UNIX_EPOCH;
            for (key, metadata) in observe(&bench.client, NAMESPACE).await.unwrap().objects {
                let managers = metadata.managed_fields.unwrap_or_default();
                newest =
                    managers.iter().filter_map(|it| Some(it.time.as_ref()?.0)).fold(newest, Timestamp::max);
                if key.kind.name == "ValidatingAdmissionPolicy"
                    && !managers.iter().any(|it| it.subresource.as_deref() == Some("status"))
                {
                    return false;
                }
            }
            Timestamp::now().as_second() > newest.as_second() + 1
        })
        .await;
    let before = bench.made().await;
    bench.turn("multinic").await;
    let after = bench.made().await;
    let written: Vec<_> = after.iter().filter(|(name, version)| before.get(*name) != Some(version)).collect();
    assert!(written.is_empty(), "{written:?}");
    for reason in ["ChangedBack", "MadeAgain"] {
        assert_eq!(bench.events(reason).await, [""; 0], "{reason}");
    }
}

#[tokio::test]
async fn what_no_operator_makes_is_left_alone_whatever_its_labels_say() {
    let Some(bench) = Bench::start().await else { return };
    for operator in ["multinic", "gone"] {
        let labels = json!({
            "app.kubernetes.io/managed-by": "multinic-operator",
            "multinic.example.com/managed-by-operator": operator,
            "multinic.example.com/operator-namespace": NAMESPACE,
        });
        let metadata = json!({"name": format!("of-{operator}"), "labels": labels});
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata});
        apply(&bench.client, &role).await;
    }
    bench.want("multinic", spec(true, 1)).await;
    bench.until_running("multinic").await;
    for operator in ["multinic", "gone"] {
        let name = format!("of-{operator}");
        assert!(bench.get("rbac.authorization.k8s.io", "ClusterRole", &name).await.is_some());
    }
}

fn with_database(rotation: &str, more: &Value) -> Value {
    let mut spec = json!({
        "controller": {"image": "multinic:1"},
        "agent": {"image": "multinic-agent:1", "dataSource": "db"},
        "database": {"enabled": true, "credentials": {"rotation": rotation}},
        "protection": {"enableAutoRecovery": false},
    });
    for (name, value) in more.as_object().unwrap() {
        spec["database"][name] = value.clone();
    }
    spec
}

async fn template(bench: &Bench, kind: &str, name: &str) -> Value {
    bench.get("apps", kind, name).await.unwrap()["spec"]["template"].clone()
}

async fn until_nothing_is_rotating(bench: &Bench) {
    bench
        .until("no accounts change", async || {
            bench.be_the_kubelet().await;
            let object = bench.operators().get("multinic").await.unwrap();
            let status = object.status.unwrap_or_default();
            status.observed_generation == object.metadata.generation
                && !status.conditions.iter().any(|it| it.type_ == "CredentialsRotating")
        })
        .await;
}

#[tokio::test]
async fn without_recovery_the_operators_own_steps_are_carried_out_to_the_end() {
    let Some(bench) = Bench::start().await else { return };
    let restored =
        json!({"tls": {"enabled": false}, "backup": {"schedule": "0 3 * * *"}, "restoreFrom": "latest"});
    bench.want("multinic", with_database("spring", &restored)).await;
    bench.until_running("multinic").await;

    // The container that restored goes, and what somebody did meanwhile stays.
    bench.meddle("apps", "Deployment", "multinic-controller", json!({"spec": {"replicas": 2}})).await;
    bench.until("it is told", async || drift(&bench).await.is_some()).await;
    restored_by_its_pod(&bench).await;
    bench
        .until("it is done once", async || {
            let server = template(&bench, "StatefulSet", "mariadb").await;
            !server.to_string().contains("--from=latest")
        })
        .await;
    bench.until_running("multinic").await;
    bench.turn("multinic").await;
    let told = drift(&bench).await.unwrap();
    assert!(told.ends_with(": Deployment multinic-controller"), "{told}");
    let deployment = bench.get("apps", "Deployment", "multinic-controller").await.unwrap();
    assert_eq!(deployment["spec"]["replicas"], json!(2));

    // Accounts change in four steps, and TLS in two.
    for rotation in ["summer", "autumn"] {
        let mut wanted = with_database(rotation, &restored);
        if rotation == "autumn" {
            wanted["database"]["tls"] = json!({"enabled": true});
        }
        bench.want("multinic", wanted).await;
        until_nothing_is_rotating(&bench).await;
        bench.until_running("multinic").await;
        bench
            .until("what was is forgotten, and nothing is told", async || {
                bench.be_the_kubelet().await;
                let secret = bench.get("", "Secret", "multinic-database").await.unwrap();
                let data = secret["data"].as_object().unwrap();
                data.keys().filter(|key| key.starts_with("init.")).count() == 1
                    && !data.keys().any(|key| key.starts_with("previous-"))
                    && drift(&bench).await.is_none()
            })
            .await;
    }
    bench
        .until("programs insist on the certificate", async || {
            bench.be_the_kubelet().await;
            let config = bench.get("", "ConfigMap", "operator-config").await.unwrap();
            config["data"]["DB_TLS"] == json!("verify")
        })
        .await;
    bench.until_running("multinic").await;
    bench.turn("multinic").await;
    assert_eq!(drift(&bench).await, None);
}

/// The pod of the server says that it was filled.
async fn restored_by_its_pod(bench: &Bench) {
    let words = json!({"restored": {"file": "multinic-1.sql", "rows": 12}}).to_string();
    let state = json!({"terminated": {"exitCode": 0, "message": words}});
    let container = json!({"name": "restore", "image": "x", "imageID": "x", "ready": true, "restartCount": 0,
        "state": state});
    let patch = json!({"status": {"initContainerStatuses": [container]}});
    let pods: Api<Pod> = Api::namespaced(bench.client.clone(), NAMESPACE);
    pods.patch_status("mariadb-0", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    bench.turn("multinic").await;
}

#[tokio::test]
async fn without_recovery_passwords_that_others_changed_or_took_are_left_and_nobody_is_started_for_them() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", with_database("spring", &json!({}))).await;
    bench.until_running("multinic").await;
    let programs =
        [("StatefulSet", "mariadb"), ("Deployment", "multinic-controller"), ("DaemonSet", "multinic-agent")];
    let mut before = Vec::new();
    for (kind, name) in programs {
        before.push(template(&bench, kind, name).await);
    }
    let told = "not as wanted, and left so: Secret multinic-database";
    let other = json!({"data": {"agent-password": "b3RoZXI="}});
    bench.meddle("", "Secret", "multinic-database", other).await;
    bench.until("the change is told", async || drift(&bench).await.as_deref() == Some(told)).await;
    bench.delete("", "Secret", "multinic-database").await;
    bench.turn("multinic").await;
    assert_eq!(drift(&bench).await.as_deref(), Some(told));
    assert_eq!(bench.get("", "Secret", "multinic-database").await, None);
    for ((kind, name), before) in programs.into_iter().zip(before) {
        assert_eq!(template(&bench, kind, name).await, before, "{kind} {name}");
    }
    bench.want("multinic", with_database("summer", &json!({}))).await;
    bench
        .until("the next spec is carried out as a whole", async || {
            bench.be_the_kubelet().await;
            bench.get("", "Secret", "multinic-database").await.is_some() && drift(&bench).await.is_none()
        })
        .await;
}

#[tokio::test]
async fn without_recovery_a_pass_that_fails_puts_nothing_back_either() {
    let Some(bench) = Bench::start().await else { return };
    // The operator takes nobody's Secret, so that every pass fails.
    let metadata = json!({"name": "multinic-database", "namespace": NAMESPACE});
    apply(&bench.client, &json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})).await;
    bench.want("multinic", with_database("spring", &json!({}))).await;
    let service = async || bench.get("", "Service", "multinic-controller").await;
    bench
        .until("the rest is carried out", async || {
            let status = bench.status("multinic").await;
            status.phase.as_deref() == Some("Error") && service().await.is_some()
        })
        .await;
    bench.delete("", "Service", "multinic-controller").await;
    bench
        .until("it is told", async || {
            drift(&bench).await.is_some_and(|it| it.contains("Service multinic-controller"))
        })
        .await;
    bench.turn("multinic").await;
    assert_eq!(service().await, None);
    assert_eq!(bench.status("multinic").await.phase.as_deref(), Some("Error"));
}
