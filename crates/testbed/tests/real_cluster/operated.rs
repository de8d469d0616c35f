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
const IMAGE: &str = "localhost/mariadb";
const CTR: &str = "/opt/kubernetes/ctr";
/// The claim of the database, as users know it.
pub const CLAIM: &str = "mysql-storage-mariadb-0";

/// What an administrator has before: two versions of the image, and a volume for the claim.
pub fn prepare(scene: &Scene) {
    let archive = scene.cluster.folder().join("image.tar");
    let [first, second] = ["1", "2"].map(|tag| format!("{IMAGE}:{tag}"));
    pack_mariadb(&first, &archive).unwrap();
    scene.cluster.import_image_into(NODE, &archive).unwrap();
    fs::remove_file(archive).unwrap();
    scene.cluster.tag_image(NODE, &first, &second).unwrap();
    add_volume(scene, "mariadb", CLAIM);
}

/// A volume on the database's node that a claim will have, and no other.
pub fn add_volume(scene: &Scene, name: &str, claim: &str) {
    let path = format!("/srv/{name}");
    scene.cluster.guest(NODE).unwrap().run("mkdir", &[&path]).unwrap();
    let on_node = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [node_name(NODE)] });
    scene.apply_objects(&[json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": name },
        "spec": {
            "capacity": { "storage": "1Gi" },
            "accessModes": ["ReadWriteOnce"],
            "claimRef": { "namespace": NAMESPACE, "name": claim },
            "local": { "path": path },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [on_node] }] } },
        },
    })]);
}

/// What Helm is told: an operator with a database, and agents that read it, all with images of this tag.
pub fn values(tag: &str) -> Value {
    json!({
        "image": { "tag": tag },
        // They are the operator's.
        "agent": { "enabled": false },
        "operator": {
            "enabled": true,
            "spec": {
                "database": { "enabled": true, "image": format!("{IMAGE}:{tag}"), "storageSize": "1Gi" },
                "agent": {
                    "image": format!("localhost/multinic-agent:{tag}"),
                    "dataSource": "db",
                    "settings": { "POLL_INTERVAL": "1s" },
                },
            },
        },
    })
}

/// Runs Helm on the release, and waits until what these values want runs, and nothing else.
pub async fn helm(scene: &Scene, verb: &str, values: &Value) {
    let file = scene.cluster.folder().join("values.json");
    fs::write(&file, values.to_string()).unwrap();
    chart::release(scene, verb, &["--values", file.to_str().unwrap()]);
    let tag = values["image"]["tag"].as_str().unwrap();
    let images = ["mariadb", "multinic-agent", "multinic"].map(|name| format!("localhost/{name}:{tag}"));
    scene
        .until("pods of these images alone", async || {
            let path = "--output=jsonpath={.items[*].spec.containers[*].image}";
            let text = scene.kubectl(&["get", "pods", "--namespace", NAMESPACE, path]);
            let mut running: Vec<&str> = text.split_whitespace().collect();
            running.sort_unstable();
            running.dedup();
            (running != images).then(|| running.join(", "))
        })
        .await;
    wait_ready(scene).await;
}

/// Waits until the operator says that all is as it should be, controller, database and agents are there, and it is right.
pub async fn wait_ready(scene: &Scene) {
    wait_content(scene, &["multinic-operator", "multinic-controller", "mariadb"]).await;
}

/// The same where these programs are to be there, besides the agents.
pub async fn wait_content(scene: &Scene, programs: &[&str]) {
    scene
        .until("an operator that is content", async || {
            let object = object(scene);
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
            let content = ready.is_some_and(|ready| {
                ready["status"] == "True" && ready["observedGeneration"] == object["metadata"]["generation"]
            });
            let pods: Api<Pod> = Api::namespaced(scene.client.clone(), NAMESPACE);
            let listed = pods.list(&ListParams::default()).await.unwrap().items;
            let runs = |name: &&str| {
                let mut own = listed.iter().filter(|pod| pod.name_any().starts_with(&format!("{name}-")));
                own.next().is_some_and(is_ready) && own.next().is_none()
            };
            match programs.iter().find(|name| !runs(name)) {
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

/// The `MultiNicOperator`.
pub fn object(scene: &Scene) -> Value {
    let text = scene.kubectl(&["get", "mno/multinic", "--namespace", NAMESPACE, "--output=json"]);
    serde_json::from_str(&text).unwrap()
}

/// Changes its spec, as an administrator does.
pub fn want(scene: &Scene, spec: &Value) {
    let patch = json!({ "spec": spec }).to_string();
    scene.kubectl(&["patch", "mno/multinic", "--namespace", NAMESPACE, "--type=merge", "--patch", &patch]);
}

/// Waits until one of its conditions is true for this reason.
pub async fn wait_condition(scene: &Scene, type_: &str, reason: &str) {
    scene
        .until(&format!("{type_}: {reason}"), async || {
            let object = object(scene);
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let mut own = conditions.iter().filter(|condition| condition["type"] == type_);
            let is_met = own.any(|condition| condition["status"] == "True" && condition["reason"] == reason);
            (!is_met).then(|| object["status"].to_string())
        })
        .await;
}

/// Somebody who logs in to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    password: String,
}

impl Login {
    pub fn root(scene: &Scene) -> Self {
        Self { user: "root".to_owned(), password: key(scene, "root-password") }
    }

    pub fn controller(scene: &Scene) -> Self {
        Self { user: key(scene, "username"), password: key(scene, "password") }
    }

    pub fn agent(scene: &Scene) -> Self {
        Self { user: key(scene, "agent-username"), password: key(scene, "agent-password") }
    }

    pub fn backup(scene: &Scene) -> Self {
        Self { user: key(scene, "backup-username"), password: key(scene, "backup-password") }
    }
}

/// What the Secret with the accounts has under a key.
fn key(scene: &Scene, key: &str) -> String {
    let output = format!("--output=jsonpath={{.data.{key}}}");
    let secret = ["get", "secret/multinic-database", "--namespace", NAMESPACE, "--ignore-not-found", &output];
    String::from_utf8(STANDARD.decode(scene.kubectl(&secret)).unwrap()).unwrap()
}

/// What the database answers, in its container: no other way in has to be there.
pub fn sql(scene: &Scene, login: &Login, database: &str, sql: &str) -> Result<String, String> {
    let path = "--output=jsonpath={.status.containerStatuses[0].containerID}";
    let pod = ["get", "pod/mariadb-0", "--namespace", NAMESPACE, "--ignore-not-found", path];
    let container = scene.kubectl(&pod);
    let container = container.strip_prefix("containerd://").ok_or("there is no database")?.to_owned();
    let [user, password] = [format!("--user={}", login.user), format!("--password={}", login.password)];
    let guest = scene.cluster.guest(NODE).unwrap();
    let arguments =
        ["--namespace", "k8s.io", "tasks", "exec", "--exec-id", "sql", "--user", "999:999", &container];
    let client = ["mariadb", "--no-defaults", &user, &password, "--socket=/run/mysqld/mysqld.sock"];
    let query = ["--batch", "--skip-column-names", "--execute", sql, database];
    let all = [&arguments[..], &client, &query].concat();
    guest.run(CTR, &all).map_err(|error| error.to_string())
}
