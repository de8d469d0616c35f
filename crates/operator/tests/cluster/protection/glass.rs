//! What is refused is counted, what is done by breaking the glass is recorded and left, and what is allowed stays.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::hands::{GLASS, Try, condition, key, spec, started, until_heard};
use crate::bench::{Bench, WEEK, own_certificate};

async fn prevented(bench: &Bench) -> i64 {
    let status = bench.status("multinic").await.protection_status;
    status.and_then(|status| status.prevented_mutations).unwrap_or(0)
}

#[tokio::test]
async fn what_is_refused_is_counted_once_for_all_and_told_together() {
    let Some((mut bench, admin)) = started(spec(true, &[])).await else { return };
    until_heard(&bench, &admin, false, false).await;
    assert_eq!(prevented(&bench).await, 0, "what was only tried is not counted");
    let api = key("apps", "Deployment", "multinic-controller").api(admin.client.clone());
    let version = async || bench.operators().get("multinic").await.unwrap().metadata.resource_version;
    let mut versions = vec![version().await];
    let scaled = json!({"spec": {"replicas": 5}});
    for _ in 0..40 {
        let refused = api
            .patch("multinic-controller", &PatchParams::default(), &Patch::Merge(&scaled))
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("spec.controller.replicas"), "{refused}");
        versions.push(version().await);
    }
    bench.until("all are counted", async || prevented(&bench).await == 40).await;
    versions.dedup();
    assert!(versions.len() < 10, "the status was written {} times for 40 refusals", versions.len());
    let status = bench.status("multinic").await.protection_status.unwrap();
    assert_eq!(status.active, Some(true));
    assert!(status.last_protection_event.unwrap().ends_with('Z'));
    bench
        .until("an event tells who tried what", async || {
            let told = bench.events("MutationPrevented").await;
            told.iter().any(|note| note.contains("admin: update Deployment multinic-controller"))
        })
        .await;

    // Counts are of the object, and go on where they were.
    bench.stop().await;
    bench.run_asked(own_certificate(WEEK)).await;
    until_heard(&bench, &admin, false, false).await;
    api.delete("multinic-controller", &Default::default()).await.unwrap_err();
    bench.until("one more is counted", async || prevented(&bench).await == 41).await;
}

#[tokio::test]
async fn behind_broken_glass_an_object_is_left_as_it_is_until_it_is_mended() {
    let Some((bench, admin)) = started(spec(true, &[])).await else { return };
    until_heard(&bench, &admin, false, false).await;
    let replicas = async || {
        let deployment = bench.get("apps", "Deployment", "multinic-controller").await.unwrap();
        deployment["spec"]["replicas"].clone()
    };
    let change = async |patch: Value| {
        let api = key("apps", "Deployment", "multinic-controller").api(admin.client.clone());
        api.patch("multinic-controller", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    change(json!({"metadata": {"annotations": {GLASS: "the cloud is on fire"}}})).await;
    change(json!({"spec": {"replicas": 0}})).await;
    bench
        .until("it is told", async || {
            let drifted = condition(&bench, "Drifted").await;
            drifted.is_some_and(|(_, reason)| reason == "GlassBroken")
                && bench.events("GlassBroken").await.iter().any(|note| {
                    note.contains("admin: update Deployment multinic-controller")
                        && note.contains("the cloud is on fire")
                })
        })
        .await;
    assert_eq!(replicas().await, json!(0));
    // Others are as they were before.
    bench
        .until("an object with whole glass is put back", async || {
            let gone = key("", "Service", "multinic-controller").api(bench.client.clone());
            let whole = bench.get("", "Service", "multinic-controller").await;
            assert!(gone.delete("multinic-controller", &Default::default()).await.is_err());
            whole.is_some()
        })
        .await;
    change(json!({"metadata": {"annotations": {GLASS: null}}})).await;
    bench.until("it is as wanted again", async || replicas().await == json!(1)).await;
    bench.until("that is told", async || condition(&bench, "Drifted").await.is_none()).await;
}

#[tokio::test]
async fn while_the_database_is_left_as_it_is_nobody_is_told_to_speak_otherwise_with_it() {
    let wanted = |tls: bool, rotation: Option<&str>| {
        let mut wanted = spec(true, &[]);
        wanted["database"]["tls"] = json!({"enabled": tls});
        if let Some(rotation) = rotation {
            wanted["database"]["credentials"] = json!({"rotation": rotation});
        }
        wanted
    };
    let Some((bench, admin)) = started(wanted(false, None)).await else { return };
    until_heard(&bench, &admin, false, false).await;
    let glass = async |reason: Value| {
        let api = key("apps", "StatefulSet", "mariadb").api(admin.client.clone());
        let patch = json!({"metadata": {"annotations": {GLASS: reason}}});
        api.patch("mariadb", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    let tls = async || bench.get("", "ConfigMap", "operator-config").await.unwrap()["data"]["DB_TLS"].clone();
    let accounts = async || bench.get("", "Secret", "multinic-database").await.unwrap()["data"].clone();
    let before = accounts().await;
    glass(json!("more memory, by hand")).await;
    bench.want("multinic", wanted(true, Some("summer"))).await;
    bench
        .until("the spec was looked at", async || {
            let object = bench.operators().get("multinic").await.unwrap();
            let seen = object.status.unwrap_or_default().observed_generation == object.metadata.generation;
            let drifted = condition(&bench, "Drifted").await;
            seen && drifted.is_some_and(|(_, reason)| reason == "GlassBroken")
        })
        .await;
    assert_eq!(tls().await, Value::Null);
    assert_eq!(accounts().await, before);
    glass(Value::Null).await;
    bench
        .until("programs insist on TLS", async || {
            bench.be_the_kubelet().await;
            tls().await == json!("verify")
        })
        .await;
    bench.until("accounts change", async || accounts().await != before).await;
}

#[tokio::test]
async fn a_reason_that_says_nothing_breaks_no_glass() {
    let Some((mut bench, admin)) = started(spec(true, &["label", "update", "delete"])).await else { return };
    until_heard(&bench, &admin, true, false).await;
    let volume = key("", "PersistentVolumeClaim", "mysql-storage-mariadb-0");
    let service = key("", "Service", "mariadb");
    for key in [&volume, &service] {
        let blank = json!({"metadata": {"annotations": {GLASS: " \t"}}});
        let api = key.api(admin.client.clone());
        api.patch(&key.name, &PatchParams::default(), &Patch::Merge(blank)).await.unwrap();
    }
    let unlabelled = Try::Change(json!({"metadata": {"labels": {"multinic.example.com/protected": null}}}));
    let refused = async |key, what: &Try, words: &str| {
        let said = admin.tries(key, what).await.unwrap_err();
        assert!(said.contains(words), "{what:?}: {said}");
    };
    refused(&volume, &Try::Delete, "cannot be made again").await;
    refused(&volume, &unlabelled, "by these labels").await;
    refused(&service, &unlabelled, "by these labels").await;
    // Nor where nobody is there to ask.
    bench.want("multinic", spec(true, &[])).await;
    until_heard(&bench, &admin, false, false).await;
    refused(&service, &Try::Delete, "kept by the MultiNicOperator").await;
    bench.stop().await;
    refused(&volume, &Try::Delete, "cannot be made again").await;
    refused(&service, &Try::Delete, "failed calling webhook").await;
    assert!(bench.events("GlassBroken").await.is_empty());
}

#[tokio::test]
async fn behind_the_broken_glass_of_the_passwords_nobody_is_started_again_and_again() {
    let Some((bench, admin)) = started(spec(true, &[])).await else { return };
    until_heard(&bench, &admin, false, false).await;
    let api = key("", "Secret", "multinic-database").api(admin.client.clone());
    let secret = bench.get("", "Secret", "multinic-database").await.unwrap();
    let init =
        secret["data"].as_object().unwrap().keys().find(|key| key.starts_with("init.")).unwrap().clone();
    for patch in [
        json!({"metadata": {"annotations": {GLASS: "the auditors are here"}}}),
        json!({"stringData": {init: "SELECT 1;"}}),
    ] {
        api.patch("multinic-database", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }
    let told = async || condition(&bench, "Drifted").await.is_some_and(|(_, reason)| reason == "GlassBroken");
    bench.until("it is told", told).await;
    let generation = async || {
        let server = bench.get("apps", "StatefulSet", "mariadb").await.unwrap();
        server["metadata"]["generation"].as_i64().unwrap()
    };
    let before = generation().await;
    // Turns, each seen by what it carries out.
    for port in 3307..3312 {
        let mut other = spec(true, &[]);
        other["database"]["service"] = json!({ "port": port });
        bench.want("multinic", other).await;
        bench
            .until("it is carried out", async || {
                let service = bench.get("", "Service", "mariadb").await.unwrap();
                service["spec"]["ports"][0]["port"] == json!(port)
            })
            .await;
    }
    assert!(generation().await <= before + 1, "the database was started again and again");
}

#[tokio::test]
async fn where_others_may_scale_their_number_stays_until_the_spec_changes() {
    let Some((bench, admin)) = started(spec(true, &["scale"])).await else { return };
    until_heard(&bench, &admin, false, true).await;
    let api = key("apps", "Deployment", "multinic-controller").api(admin.client.clone());
    let replicas = async || {
        let deployment = bench.get("apps", "Deployment", "multinic-controller").await.unwrap();
        deployment["spec"]["replicas"].clone()
    };
    let scaled = Patch::Merge(json!({"spec": {"replicas": 3}}));
    api.patch_scale("multinic-controller", &PatchParams::default(), &scaled).await.unwrap();
    // The operator had a look after that.
    bench
        .until("three are ready", async || {
            bench.be_the_kubelet().await;
            bench.status("multinic").await.controller_status.unwrap().ready_replicas == Some(3)
        })
        .await;
    assert_eq!(replicas().await, json!(3));
    let mut other = spec(true, &["scale"]);
    other["controller"]["replicas"] = json!(2);
    bench.want("multinic", other).await;
    bench.until_running("multinic").await;
    assert_eq!(replicas().await, json!(2));
}
