//! Backups: what is made for them, what is told of them, and that they outlive everything.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE};

fn spec(database: &Value) -> Value {
    let mut spec = json!({"controller": {"image": "multinic:1"}, "database": {"enabled": true}});
    for (name, value) in database.as_object().unwrap() {
        spec["database"][name] = value.clone();
    }
    spec
}

/// The condition: its status, its reason and its message.
async fn condition(bench: &Bench, type_: &str) -> Option<(String, String, String)> {
    let status = bench.status("multinic").await;
    let found = status.conditions.into_iter().find(|condition| condition.type_ == type_)?;
    Some((found.status, found.reason?, found.message?))
}

async fn until_told(bench: &Bench, type_: &str, reason: &str) -> (String, String) {
    bench
        .until(&format!("{type_} says {reason}"), async || {
            condition(bench, type_).await.is_some_and(|(_, said, _)| said == reason)
        })
        .await;
    let (status, _, message) = condition(bench, type_).await.unwrap();
    (status, message)
}

/// A pod of the CronJob, as its controller makes them, that ends with these words.
async fn backup_ends(bench: &Bench, name: &str, code: i32, words: &Value) {
    let pods: Api<Pod> = Api::namespaced(bench.client.clone(), NAMESPACE);
    let job = bench.get("batch", "CronJob", "multinic-backup").await.unwrap();
    let mut pod = job["spec"]["jobTemplate"]["spec"]["template"].clone();
    pod["metadata"]["name"] = json!(name);
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let ended = json!({"exitCode": code, "finishedAt": now, "startedAt": now, "message": words.to_string()});
    let container = json!({"name": "backup", "image": "x", "imageID": "x", "ready": false, "restartCount": 0,
        "state": {"terminated": ended}});
    let status = json!({"status": {"phase": if code == 0 { "Succeeded" } else { "Failed" },
        "containerStatuses": [container]}});
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

#[tokio::test]
async fn backups_are_made_by_the_clock_and_what_came_of_them_is_told() {
    let Some(bench) = Bench::start().await else { return };
    let backup = json!({"schedule": "0 3 * * *", "timezone": "Asia/Seoul", "storageSize": "3Gi",
        "retention": {"count": 5, "maxAge": "720h"}});
    bench.want("multinic", spec(&json!({"image": "mariadb:11.4", "backup": backup}))).await;
    bench.until_running("multinic").await;
    let job = bench.get("batch", "CronJob", "multinic-backup").await.unwrap()["spec"].clone();
    assert_eq!((&job["schedule"], &job["timeZone"]), (&json!("0 3 * * *"), &json!("Asia/Seoul")));
    let pod = &job["jobTemplate"]["spec"]["template"]["spec"];
    assert_eq!(pod["initContainers"][0]["image"], json!("multinic:1"));
    let container = &pod["containers"][0];
    assert_eq!(container["image"], json!("mariadb:11.4"));
    for argument in ["--keep-count=5", "--keep-age=720h", "--folder=/backups"] {
        assert!(
            container["args"].as_array().unwrap().contains(&json!(argument)),
            "{argument} is not in {container}"
        );
    }
    let user = json!({"name": "DB_USER", "value": "multinic-backup"});
    assert!(container["env"].as_array().unwrap().contains(&user), "{container}");
    let claim = bench.get("", "PersistentVolumeClaim", "multinic-backups").await.unwrap();
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], json!("3Gi"));
    let (status, message) = until_told(&bench, "BackupFresh", "NoBackupYet").await;
    assert!(status == "False" && message.contains("T18:00:00Z"), "{message}");

    let begun = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60);
    let time = begun.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let made = json!({"backedUp": {"time": time, "file": "multinic-1.sql", "size": 7, "rows": 3}});
    backup_ends(&bench, "first", 0, &made).await;
    let (status, _) = until_told(&bench, "BackupFresh", "Fresh").await;
    assert_eq!(status, "True");
    let last = bench.status("multinic").await.last_backup.unwrap();
    assert_eq!((last.time.as_str(), last.rows, last.size_bytes, last.verified), (time.as_str(), 3, 7, true));

    // A failure is told; the last good one stays known, also when no pod tells of it any more.
    backup_ends(&bench, "second", 1, &json!({"failed": {"error": "no space left"}})).await;
    let (status, message) = until_told(&bench, "BackupFresh", "BackupFailed").await;
    assert!(status == "False" && message.contains("no space left"), "{message}");
    let pods: Api<Pod> = Api::namespaced(bench.client.clone(), NAMESPACE);
    for name in ["first", "second"] {
        pods.delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }
    until_told(&bench, "BackupFresh", "Fresh").await;
    assert_eq!(bench.status("multinic").await.last_backup.unwrap().file, "multinic-1.sql");

    // A claim of one's own is used as it is; the other stays, whatever happens.
    let backup = json!({"schedule": "0 4 * * *", "claimName": "mine"});
    bench.want("multinic", spec(&json!({"deletionPolicy": "Delete", "backup": backup}))).await;
    bench.until_running("multinic").await;
    let job = bench.get("batch", "CronJob", "multinic-backup").await.unwrap();
    assert!(job.to_string().contains(r#""claimName":"mine""#), "{job}");
    bench.operators().delete("multinic", &DeleteParams::default()).await.unwrap();
    let claim = "PersistentVolumeClaim multinic-backups";
    bench
        .until("only the backups are left", async || {
            bench.made().await.into_keys().collect::<Vec<_>>() == [claim]
        })
        .await;
}

/// A bucket, with a key in two Secrets.
fn bucket() -> Value {
    json!({"endpoint": "https://minio.example:9000", "bucket": "backups", "prefix": "clusters/one",
        "accessKeyIdSecretRef": {"name": "id", "key": "user"},
        "secretAccessKeySecretRef": {"name": "multinic-s3", "key": "password"},
        "caSecretRef": {"name": "multinic-s3", "key": "ca"}})
}

#[tokio::test]
async fn backups_go_to_a_bucket_with_keys_that_no_pod_shows() {
    let Some(bench) = Bench::start().await else { return };
    let backup = json!({"schedule": "0 3 * * *", "s3": bucket()});
    bench.want("multinic", spec(&json!({"backup": backup, "restoreFrom": "latest"}))).await;
    bench.until_running("multinic").await;
    let job = bench.get("batch", "CronJob", "multinic-backup").await.unwrap()["spec"].clone();
    let job = &job["jobTemplate"]["spec"]["template"]["spec"];
    let server = bench.get("apps", "StatefulSet", "mariadb").await.unwrap();
    let server = &server["spec"]["template"]["spec"];
    assert_eq!(bench.get("", "PersistentVolumeClaim", "multinic-backups").await, None, "nobody needs it");
    for (pod, container) in [(job, &job["containers"][0]), (server, &server["initContainers"][2])] {
        let arguments: Vec<&str> =
            container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for argument in [
            "--s3-endpoint=https://minio.example:9000",
            "--s3-bucket=backups",
            "--s3-prefix=clusters/one",
            "--s3-access-key-id-file=/etc/multinic/s3/access-key-id",
            "--s3-secret-access-key-file=/etc/multinic/s3/secret-access-key",
            "--s3-ca=/etc/multinic/s3/ca.crt",
        ] {
            assert!(arguments.contains(&argument), "{argument} is not in {arguments:?}");
        }
        assert!(!arguments.iter().any(|it| it.starts_with("--folder")), "{arguments:?}");
        let volumes = pod["volumes"].as_array().unwrap();
        assert!(!volumes.iter().any(|volume| volume["name"] == json!("backups")), "{volumes:?}");
        let keys = volumes.iter().find(|volume| volume["name"] == json!("s3")).unwrap();
        let sources: Vec<_> = keys["projected"]["sources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|source| {
                let item = &source["secret"]["items"][0];
                [&source["secret"]["name"], &item["key"], &item["path"]].map(|it| it.as_str().unwrap())
            })
            .collect();
        assert_eq!(
            sources,
            [
                ["id", "user", "access-key-id"],
                ["multinic-s3", "password", "secret-access-key"],
                ["multinic-s3", "ca", "ca.crt"]
            ]
        );
        let mount = json!({"name": "s3", "mountPath": "/etc/multinic/s3", "readOnly": true});
        assert!(container["volumeMounts"].as_array().unwrap().contains(&mount), "{container}");
    }

    let begun = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60);
    let time = begun.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let made = json!({"backedUp": {"time": time, "file": "multinic-1.sql", "size": 7, "rows": 3}});
    backup_ends(&bench, "first", 0, &made).await;
    assert_eq!(until_told(&bench, "BackupFresh", "Fresh").await.0, "True");
    let last = bench.status("multinic").await.last_backup.unwrap();
    let location = "https://minio.example:9000/backups/clusters/one/";
    assert_eq!((last.location.as_deref(), last.claim_name), (Some(location), None));
    // What is elsewhere does not count, and counts again where it is.
    let claim = json!({"schedule": "0 3 * * *"});
    bench.want("multinic", spec(&json!({"backup": claim}))).await;
    until_told(&bench, "BackupFresh", "NoBackupYet").await;
    bench.want("multinic", spec(&json!({"backup": backup}))).await;
    until_told(&bench, "BackupFresh", "Fresh").await;
    let mut policies = spec(&json!({"backup": backup, "restoreFrom": "latest"}));
    policies["networkPolicy"] =
        json!({"enabled": true, "openstackCIDRs": ["10.20.0.0/16"], "backupCIDRs": ["10.21.0.7/32"]});
    bench.want("multinic", policies).await;
    bench.until_running("multinic").await;
    for name in ["multinic-backups-elsewhere", "multinic-restored-from-elsewhere"] {
        let policy = bench.get("networking.k8s.io", "NetworkPolicy", name).await.unwrap();
        assert_eq!(policy["spec"]["egress"], json!([{"to": [{"ipBlock": {"cidr": "10.21.0.7/32"}}]}]));
    }
    let both = json!({"schedule": "0 3 * * *", "s3": bucket(), "claimName": "mine"});
    let refused = bench.try_want("multinic", spec(&json!({"backup": both}))).await.unwrap_err().to_string();
    assert!(refused.contains("spec.database.backup.s3") && refused.contains("take claimName"), "{refused}");
}

#[tokio::test]
async fn a_server_is_filled_before_it_starts_and_the_pod_says_what_came_of_it() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec(&json!({"restoreFrom": "latest"}))).await;
    bench
        .until("it is refused without a place", async || {
            bench
                .status("multinic")
                .await
                .message
                .is_some_and(|text| text.contains("spec.database.restoreFrom"))
        })
        .await;
    let backup = json!({"schedule": "0 3 * * *"});
    bench.want("multinic", spec(&json!({"restoreFrom": "latest", "backup": backup}))).await;
    bench.until_running("multinic").await;
    until_told(&bench, "Restored", "Pending").await;
    let server = bench.get("apps", "StatefulSet", "mariadb").await.unwrap();
    let pod = &server["spec"]["template"]["spec"];
    let names: Vec<_> =
        pod["initContainers"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["prepare", "program", "restore"]);
    let arguments = pod["initContainers"][2]["args"].as_array().unwrap();
    for argument in ["--from=latest", "--database=multinic", "--data=/var/lib/mysql", "--folder=/backups"] {
        assert!(arguments.contains(&json!(argument)), "{argument} is not in {arguments:?}");
    }
    let pods: Api<Pod> = Api::namespaced(bench.client.clone(), NAMESPACE);
    for (words, status, reason) in [
        (json!({"failed": {"error": "no backup latest"}}), "False", "RestoreFailed"),
        (json!({"notEmpty": {"rows": 12}}), "False", "NotEmpty"),
        (json!({"restored": {"file": "multinic-1.sql", "rows": 12}}), "True", "Restored"),
    ] {
        let ended = json!({"exitCode": 0, "message": words.to_string()});
        let container = json!({"name": "restore", "image": "x", "imageID": "x", "ready": true, "restartCount": 0,
            "state": {"terminated": ended}});
        let patch = json!({"status": {"initContainerStatuses": [container]}});
        pods.patch_status("mariadb-0", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        // Its pods are looked at when something of it changes.
        bench
            .meddle("apps", "StatefulSet", "mariadb", json!({"metadata": {"annotations": {"look": reason}}}))
            .await;
        let (told, message) = until_told(&bench, "Restored", reason).await;
        assert_eq!(told, status, "{message}");
    }
    // It is not asked for again, whatever becomes of the data; what else is asked for is.
    let restores = async |from: &str| {
        let server = bench.get("apps", "StatefulSet", "mariadb").await.unwrap();
        server["spec"]["template"]["spec"].to_string().contains(&format!("--from={from}"))
    };
    bench.until("it is done once", async || !restores("latest").await).await;
    bench.until_running("multinic").await;
    assert_eq!(until_told(&bench, "Restored", "Restored").await.0, "True");
    assert_eq!(bench.status("multinic").await.restored_from.as_deref(), Some("latest"));
    let named = json!({"restoreFrom": "multinic-1.sql", "backup": backup});
    bench.want("multinic", spec(&named)).await;
    bench.until("another one", async || restores("multinic-1.sql").await).await;
    until_told(&bench, "Restored", "Pending").await;
    bench.want("multinic", spec(&json!({"backup": backup}))).await;
    bench.until_running("multinic").await;
    assert_eq!(condition(&bench, "Restored").await, None);
    assert_eq!(bench.status("multinic").await.restored_from, None);
    let server = bench.get("apps", "StatefulSet", "mariadb").await.unwrap();
    assert_eq!(server["spec"]["template"]["spec"]["initContainers"].as_array().unwrap().len(), 1);
}

/// The pod of the server says that it was filled, and the operator is told to look.
async fn filled(bench: &Bench) {
    let words = json!({"restored": {"file": "multinic-1.sql", "rows": 12}}).to_string();
    let container = json!({"name": "restore", "image": "x", "imageID": "x", "ready": true, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "message": words}}});
    let patch = json!({"status": {"initContainerStatuses": [container]}});
    let pods: Api<Pod> = Api::namespaced(bench.client.clone(), NAMESPACE);
    pods.patch_status("mariadb-0", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn pod_of_the_server(bench: &Bench) -> Option<Pod> {
    let pods: Api<Pod> = Api::namespaced(bench.client.clone(), NAMESPACE);
    pods.get_opt("mariadb-0").await.unwrap()
}

#[tokio::test]
async fn a_restoration_that_was_taken_away_and_asked_for_again_at_once_is_made_again() {
    let Some(mut bench) = Bench::start().await else { return };
    let spec_of = |from: Option<&str>| {
        spec(&json!({"backup": {"schedule": "0 3 * * *"}, "restoreFrom": from.unwrap_or_default()}))
    };
    bench.want("multinic", spec_of(Some("latest"))).await;
    bench.until_running("multinic").await;
    let first = pod_of_the_server(&bench).await.unwrap().metadata.uid;
    filled(&bench).await;
    // Once where the operator knows what came of the first one, and once where its pod is still there and says that of it.
    for knows in [false, true] {
        if knows {
            bench.turn("multinic").await;
            assert_eq!(until_told(&bench, "Restored", "Restored").await.0, "True");
        }
        bench.stop().await;
        bench.want("multinic", spec_of(None)).await;
        bench.delete("", "PersistentVolumeClaim", "mysql-storage-mariadb-0").await;
        bench.want("multinic", spec_of(Some("latest"))).await;
        bench.run();
        until_told(&bench, "Restored", "Pending").await;
        bench
            .until("another pod is to fill the server", async || {
                bench.be_the_kubelet().await;
                let pod = pod_of_the_server(&bench).await;
                pod.is_some_and(|pod| {
                    pod.metadata.uid != first && json!(pod.spec).to_string().contains("--from=latest")
                })
            })
            .await;
        assert_eq!(bench.status("multinic").await.restored_from, None);
        bench.until_running("multinic").await;
        filled(&bench).await;
    }
    bench.turn("multinic").await;
    assert_eq!(until_told(&bench, "Restored", "Restored").await.0, "True");
    // What else is changed asks for nothing again.
    let mut other = spec_of(Some("latest"));
    other["controller"]["replicas"] = json!(2);
    bench.want("multinic", other.clone()).await;
    bench.until_running("multinic").await;
    assert_eq!(until_told(&bench, "Restored", "Restored").await.0, "True");
    // Nor do several changes of which the operator sees the last alone.
    let pod = pod_of_the_server(&bench).await.unwrap().metadata.uid;
    bench.stop().await;
    for replicas in [3, 2] {
        other["controller"]["replicas"] = json!(replicas);
        bench.want("multinic", other.clone()).await;
    }
    bench.run();
    bench.until_running("multinic").await;
    bench.turn("multinic").await;
    assert_eq!(until_told(&bench, "Restored", "Restored").await.0, "True");
    assert_eq!(pod_of_the_server(&bench).await.unwrap().metadata.uid, pod);
}
