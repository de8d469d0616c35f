//! `enableAutoRecovery: false`: what others change is told and left, and what the user wants is carried out nevertheless.

use serde_json::{Value, json};

use crate::bench::Bench;

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
