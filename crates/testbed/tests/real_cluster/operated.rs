//! An operator that makes controller, agents and a MariaDB, as Helm installs it.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use multinic_testbed::cluster::mariadb_image::pack_mariadb;
use serde_json::{Value, json};

use crate::chart;
use crate::scene::{NAMESPACE, Scene, is_ready, node_name};

/// The node that has the database's volume, and so the database.
pub const NODE: usize = 0;
const IMAGE: &str = "localhost/mariadb:1";
const VOLUME: &str = "/srv/mariadb";

/// What an administrator has before: the image, and a volume for the claim.
pub fn prepare(scene: &Scene) {
    let archive = scene.cluster.folder().join("image.tar");
    pack_mariadb(IMAGE, &archive).unwrap();
    scene.cluster.import_image_into(NODE, &archive).unwrap();
    fs::remove_file(archive).unwrap();
    scene.cluster.guest(NODE).unwrap().run("mkdir", &[VOLUME]).unwrap();
    let on_node = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [node_name(NODE)] });
    scene.apply_objects(&[json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": "mariadb" },
        "spec": {
            "capacity": { "storage": "1Gi" },
            "accessModes": ["ReadWriteOnce"],
            "local": { "path": VOLUME },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [on_node] }] } },
        },
    })]);
}

/// What Helm is told: an operator with a database, and agents of this tag that read it.
pub fn values(agent_tag: &str) -> Value {
    json!({
        "image": { "tag": "1" },
        // They are the operator's.
        "agent": { "enabled": false },
        "operator": {
            "enabled": true,
            "spec": {
                "database": { "enabled": true, "image": IMAGE, "storageSize": "1Gi" },
                "agent": {
                    "image": format!("localhost/multinic-agent:{agent_tag}"),
                    "dataSource": "db",
                    "settings": { "POLL_INTERVAL": "1s" },
                },
            },
        },
    })
}

/// Runs Helm on the release, and waits until what these values want runs.
pub async fn helm(scene: &Scene, verb: &str, values: &Value) {
    let agent_image = values["operator"]["spec"]["agent"]["image"].as_str().unwrap().to_owned();
    let file = scene.cluster.folder().join("values.json");
    fs::write(&file, values.to_string()).unwrap();
    chart::release(scene, verb, &["--values", file.to_str().unwrap()]);
    wait_ready(scene).await;
    scene
        .until("agents of this image", async || {
            let images = chart::images(scene);
            (!images.contains(&agent_image)).then(|| images.join(", "))
        })
        .await;
    scene.wait_agents().await;
}

/// Waits until the operator says that all is as it should be, its database and agents are there, and it is right.
pub async fn wait_ready(scene: &Scene) {
    scene
        .until("an operator that is content", async || {
            let text = scene.kubectl(&["get", "mno/multinic", "--namespace", NAMESPACE, "--output=json"]);
            let object: Value = serde_json::from_str(&text).unwrap();
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
            let content = ready.is_some_and(|ready| {
                ready["status"] == "True" && ready["observedGeneration"] == object["metadata"]["generation"]
            });
            let there = ["multinic-operator", "multinic-controller", "mariadb"];
            let mut missing = there.into_iter();
            let pods: Api<Pod> = Api::namespaced(scene.client.clone(), NAMESPACE);
            let listed = pods.list(&ListParams::default()).await.unwrap().items;
            let runs = |name: &&str| {
                let mut own = listed.iter().filter(|pod| pod.name_any().starts_with(&format!("{name}-")));
                own.next().is_some_and(is_ready) && own.next().is_none()
            };
            match missing.find(|name| !runs(name)) {
                Some(name) => Some(format!("{name} is not ready")),
                None if !content => Some(object["status"].to_string()),
                None => None,
            }
        })
        .await;
    scene.wait_agents().await;
}

/// Ends the one pod of a program without time to end, and waits until it is gone.
pub async fn kill(scene: &Scene, program: &str) {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let pod = pod(scene, program).await;
    pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await.unwrap();
    scene
        .until("the end of a pod", async || {
            let still = pods.get_opt(&pod.name_any()).await.unwrap();
            still.filter(|still| still.uid() == pod.uid()).map(|still| still.name_any())
        })
        .await;
}

async fn pod(scene: &Scene, program: &str) -> Pod {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let labelled = ListParams::default().labels(&format!("app.kubernetes.io/name={program}"));
    pods.list(&labelled).await.unwrap().items.remove(0)
}

/// What the database answers, to its administrator in its container: no other way in has to be there.
pub fn sql(scene: &Scene, database: &str, sql: &str) -> Result<String, String> {
    let of = |what: &str, path: &str| {
        let output = format!("--output=jsonpath={path}");
        scene.kubectl(&["get", what, "--namespace", NAMESPACE, "--ignore-not-found", &output])
    };
    let container = of("pod/mariadb-0", "{.status.containerStatuses[0].containerID}");
    let container = container.strip_prefix("containerd://").ok_or("there is no database")?.to_owned();
    let password = STANDARD.decode(of("secret/multinic-database", "{.data.root-password}")).unwrap();
    let login = format!("--password={}", String::from_utf8(password).unwrap());
    let guest = scene.cluster.guest(NODE).unwrap();
    let arguments =
        ["--namespace", "k8s.io", "tasks", "exec", "--exec-id", "sql", "--user", "999:999", &container];
    let client = ["mariadb", "--no-defaults", "--user=root", &login, "--socket=/run/mysqld/mysqld.sock"];
    let query = ["--batch", "--skip-column-names", "--execute", sql, database];
    let all = [&arguments[..], &client, &query].concat();
    guest.run("/opt/kubernetes/ctr", &all).map_err(|error| error.to_string())
}
