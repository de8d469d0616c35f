//! The database's volume grows where its class allows that, and where not, that is said and nothing else suffers.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE};

const CLAIM: &str = "mysql-storage-mariadb-0";

fn spec(size: &str) -> Value {
    json!({
        "controller": {"image": "multinic:1"},
        "database": {"enabled": true, "storageSize": size},
    })
}

/// A class that is the default, and a volume of it, as a provisioner makes them.
async fn with_class(bench: &Bench, grows: bool) {
    let classes: Api<StorageClass> = Api::all(bench.client.clone());
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.com/none",
        "metadata": {"name": "lab", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "allowVolumeExpansion": grows,
    });
    classes.create(&PostParams::default(), &serde_json::from_value(class).unwrap()).await.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(bench.client.clone());
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "one"},
        "spec": {
            "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "lab",
            "hostPath": {"path": "/nowhere"}, "claimRef": {"namespace": NAMESPACE, "name": CLAIM},
        },
    });
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
}

async fn claim(bench: &Bench) -> PersistentVolumeClaim {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(bench.client.clone(), NAMESPACE);
    claims.get(CLAIM).await.unwrap()
}

fn requested(claim: &PersistentVolumeClaim) -> &str {
    let resources = claim.spec.as_ref().unwrap().resources.as_ref().unwrap();
    resources.requests.as_ref().unwrap()["storage"].0.as_str()
}

async fn until_bound(bench: &Bench) {
    bench
        .until("the claim is bound", async || {
            let phase = claim(bench).await.status.and_then(|status| status.phase);
            phase.as_deref() == Some("Bound")
        })
        .await;
}

async fn server(bench: &Bench) -> (Value, Value) {
    let server = bench.get("apps", "StatefulSet", "mariadb").await.unwrap();
    (server["metadata"]["uid"].clone(), server["metadata"]["generation"].clone())
}

#[tokio::test]
async fn a_volume_grows_in_place_and_the_server_goes_on() {
    let Some(mut bench) = Bench::empty().await else { return };
    with_class(&bench, true).await;
    bench.run();
    bench.want("multinic", spec("2Gi")).await;
    bench.until_running("multinic").await;
    until_bound(&bench).await;
    let before = (claim(&bench).await.metadata.uid, server(&bench).await);
    bench.want("multinic", spec("5Gi")).await;
    bench.until("it is asked for", async || requested(&claim(&bench).await) == "5Gi").await;
    bench.until_running("multinic").await;
    assert_eq!((claim(&bench).await.metadata.uid, server(&bench).await), before);
    // Nothing shrinks: that is said, and what runs goes on.
    bench.want("multinic", spec("1Gi")).await;
    bench
        .until("it is refused", async || {
            let status = bench.status("multinic").await;
            status.observed_generation == Some(3)
                && status.phase.as_deref() == Some("Error")
                && status.message.is_some_and(|message| message.contains(CLAIM))
        })
        .await;
    assert_eq!(requested(&claim(&bench).await), "5Gi");
    assert_eq!(server(&bench).await, before.1);
}

#[tokio::test]
async fn where_the_class_does_not_let_it_grow_that_is_said_and_the_rest_is_carried_out() {
    let Some(mut bench) = Bench::empty().await else { return };
    with_class(&bench, false).await;
    bench.run();
    bench.want("multinic", spec("2Gi")).await;
    bench.until_running("multinic").await;
    until_bound(&bench).await;
    let mut wanted = spec("5Gi");
    wanted["controller"]["image"] = json!("multinic:2");
    bench.want("multinic", wanted).await;
    bench
        .until("it is said", async || {
            let status = bench.status("multinic").await;
            let message = status.message.unwrap_or_default();
            status.observed_generation == Some(2) && message.contains(CLAIM) && message.contains("resize")
        })
        .await;
    assert_eq!(requested(&claim(&bench).await), "2Gi");
    let controller = bench.get("apps", "Deployment", "multinic-controller").await.unwrap();
    assert_eq!(controller["spec"]["template"]["spec"]["containers"][0]["image"], json!("multinic:2"));
    // Taken back, all is well again.
    bench.want("multinic", spec("2Gi")).await;
    bench.until_running("multinic").await;
}
