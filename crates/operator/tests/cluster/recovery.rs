//! `enableAutoRecovery: false`: what others change is told and left, and what the user wants is carried out nevertheless.

use jiff::Timestamp;
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
