//! The database that an operator runs: who may do what in it, other passwords, and its loss. The nodes keep their NICs.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use multinic_testbed::cluster::Cluster;
use multinic_testbed::kubernetes;
use serde_json::{Value, json};

use crate::feed::Feed;
use crate::nics::Wanted;
use crate::operated::{self, Login};
use crate::scene::{DATABASE, NAMESPACE, Scene, Source};

const NO_REMOVALS: &str = "on its word nothing is taken away";
/// More reads than the rules ask for before an absence is believed.
const MANY_READS: f64 = 8.0;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a Kubernetes of its own: make test-cluster"]
async fn nics_outlive_other_passwords_and_the_loss_of_a_database_that_is_restored() {
    if !Cluster::supported() || kubernetes::helm().is_none() {
        return;
    }
    let mut scene = Scene::start("default");
    scene.deployed.source = Source::Database;
    operated::prepare(&scene);
    operated::add_volume(&scene, "backups", "multinic-backups");
    let mut values = operated::values("1");
    let spec = &mut values["operator"]["spec"];
    spec["database"]["backup"] = json!({ "schedule": "0 3 * * *", "storageSize": "1Gi" });
    // Every absence is believed at once, so that nothing but another epoch holds a NIC.
    spec["agent"]["settings"]["ABSENCE_CONFIRM"] = json!("0s");
    operated::helm(&scene, "install", &values).await;
    let mut feed = Feed::cloud(&scene);
    let nics = feed.one_for_each(&mut scene).await;
    operated::wait_condition(&scene, "DatabaseCertificateFresh", "Fresh").await;
    let mut watches = [0, 1, 2].map(|node| scene.watch(node, &[&nics[node]]));
    everybody_may_do_his_own_and_no_more(&scene);
    other_passwords_lock_out_the_old_ones(&mut scene, &mut feed, &nics).await;
    watches.iter_mut().for_each(|watch| watch.assert_kept());
    everybody_may_do_his_own_and_no_more(&scene);
    a_lost_database_is_restored(&mut scene, &mut feed, &nics).await;
    watches.iter_mut().for_each(|watch| watch.assert_kept());
    everybody_may_do_his_own_and_no_more(&scene);
}

/// By the server that runs, as it refuses or does it.
fn everybody_may_do_his_own_and_no_more(scene: &Scene) {
    let agent = (
        Login::agent(scene),
        &[
            "UPDATE multi_interface SET netplan_success = netplan_success, observed_name = observed_name",
            "UPDATE multi_removal SET released_at = released_at",
            "SELECT COUNT(*) FROM multi_interface JOIN multi_subnet JOIN node_table JOIN multinic_meta",
        ][..],
        &[
            "UPDATE multi_interface SET macaddress = macaddress",
            "UPDATE multi_interface SET netplan_success = 1, attached_node_name = 'node-2'",
            "UPDATE multi_removal SET node_name = node_name",
            "UPDATE multinic_meta SET value = value",
            "INSERT INTO node_table SELECT * FROM node_table",
            "DELETE FROM multi_interface",
            "CREATE TABLE another (id INT)",
            "SELECT * FROM cr_state",
            "SELECT * FROM mysql.user",
        ][..],
    );
    let controller = (
        Login::controller(scene),
        &["CREATE TABLE another (id INT); INSERT INTO another VALUES (1); UPDATE another SET id = 2; \
             ALTER TABLE another ADD INDEX (id); DELETE FROM another"][..],
        &[
            "DROP TABLE another",
            "CREATE DATABASE another",
            "CREATE USER another",
            "GRANT SELECT ON multinic.* TO 'multinic-backup'@'%'",
            "SET GLOBAL max_connections = 7",
            "SELECT 1 INTO OUTFILE '/tmp/another'",
            "SELECT * FROM mysql.user",
        ][..],
    );
    let backup = (
        Login::backup(scene),
        &["SELECT COUNT(*) FROM cr_state"][..],
        &["UPDATE multinic_meta SET value = value", "DELETE FROM cr_state", "SELECT * FROM mysql.user"][..],
    );
    for (login, allowed, denied) in [agent, controller, backup] {
        for sql in allowed {
            operated::sql(scene, &login, DATABASE, sql).unwrap();
        }
        for sql in denied {
            let refused = operated::sql(scene, &login, DATABASE, sql).expect_err(sql);
            assert!(refused.contains("denied"), "{}: {sql}: {refused}", login.user);
        }
    }
    operated::sql(scene, &Login::root(scene), DATABASE, "DROP TABLE another").unwrap();
}

async fn other_passwords_lock_out_the_old_ones(scene: &mut Scene, feed: &mut Feed, nics: &[Wanted; 3]) {
    let logins = |scene: &Scene| {
        [Login::agent(scene), Login::controller(scene), Login::backup(scene), Login::root(scene)]
    };
    wait_clients(scene).await;
    let old = logins(scene);
    operated::want(scene, &json!({ "database": { "credentials": { "rotation": "by hand" } } }));
    scene
        .until("other accounts in use", async || {
            let moved = Login::agent(scene) != old[0] && Login::controller(scene) != old[1];
            (!moved).then(|| operated::object(scene)["status"].to_string())
        })
        .await;
    scene.wait_agents().await;
    wait_clients(scene).await;
    for (old, new) in old.iter().zip(logins(scene)) {
        assert_ne!(*old, new);
        let refusal = async || match operated::sql(scene, old, "", "SELECT 1") {
            Err(refused) if refused.contains("Access denied for user") => None,
            other => Some(format!("{other:?}")),
        };
        scene.until(&format!("the end of {}", old.user), refusal).await;
        assert_eq!(operated::sql(scene, &new, "", "SELECT 1").unwrap().trim(), "1");
    }
    operated::wait_ready(scene).await;
    assert!(!operated::object(scene)["status"]["conditions"].to_string().contains("CredentialsRotating"));
    wait_clients(scene).await;

    // Everything works with them.
    let new = feed.attach(scene, 0).await;
    scene.plug(0, &new, "ens5");
    scene.wait_configured(0, "multinic1", &new).await;
    scene.wait_reported(0, &[&nics[0], &new]).await;
    feed.detach(scene, 0, &new).await;
    scene.wait_released(0, &new).await;
    scene.wait_reported(0, &[&nics[0]]).await;
    scene.cluster.unplug(0, new.mac).unwrap();
}

/// Waits until the pods of three agents and of a controller are there, all with passwords of the accounts that are in use.
async fn wait_clients(scene: &Scene) {
    scene
        .until("clients with the accounts that are in use", async || {
            let path = "--output=jsonpath={.items[*].spec.volumes[?(@.name=='mariadb')].secret.items[*].key}";
            let text = scene.kubectl(&["get", "pods", "--namespace", NAMESPACE, path]);
            let mut there: Vec<&str> =
                text.split_whitespace().filter_map(|key| key.strip_prefix("password.")).collect();
            there.sort_unstable();
            let (agent, controller) = (Login::agent(scene).user, Login::controller(scene).user);
            let mut wanted = [&agent, &agent, &agent, &controller];
            wanted.sort();
            (there != wanted).then_some(text)
        })
        .await;
}

async fn a_lost_database_is_restored(scene: &mut Scene, feed: &mut Feed, nics: &[Wanted; 3]) {
    // The backup knows one that goes after it, and nothing of one that comes after it.
    let goes = feed.attach(scene, 1).await;
    scene.plug(1, &goes, "ens5");
    scene.wait_configured(1, "multinic1", &goes).await;
    scene.wait_reported(1, &[&nics[1], &goes]).await;
    let job = ["create", "job", "--from=cronjob/multinic-backup", "backup-now", "--namespace", NAMESPACE];
    scene.kubectl(&job);
    operated::wait_condition(scene, "BackupFresh", "Fresh").await;
    let backup = operated::object(scene)["status"]["lastBackup"].clone();
    assert_eq!(backup["verified"], true, "{backup}");
    feed.detach(scene, 1, &goes).await;
    scene.wait_released(1, &goes).await;
    let comes = feed.attach(scene, 2).await;
    scene.plug(2, &comes, "ens5");
    scene.wait_configured(2, "multinic1", &comes).await;
    scene.wait_reported(2, &[&nics[2], &comes]).await;
    let mut watch = scene.watch(2, &[&nics[2], &comes]);

    // Nobody publishes. The database is lost with its volume, as docs/backup.md has it, and another is filled.
    operated::want(scene, &json!({ "controller": { "replicas": 0 } }));
    wait_no_controller(scene).await;
    let said = [1, 2].map(|node| scene.logged(node, NO_REMOVALS));
    operated::add_volume(scene, "mariadb-again", operated::CLAIM);
    let claim = format!("pvc/{}", operated::CLAIM);
    scene.kubectl(&["delete", &claim, "--namespace", NAMESPACE, "--wait=false"]);
    operated::want(scene, &json!({ "database": { "restoreFrom": "latest" } }));
    scene.kubectl(&["delete", "pod/mariadb-0", "--namespace", NAMESPACE, "--ignore-not-found"]);
    operated::wait_condition(scene, "Restored", "Restored").await;
    wait_no_restoration(scene).await;
    operated::wait_content(scene, &["multinic-operator", "mariadb"]).await;
    let ledger = "SELECT LOWER(macaddress) FROM multi_interface WHERE deleted_at IS NULL";
    let ledger = operated::sql(scene, &Login::root(scene), DATABASE, ledger).unwrap();
    let knows = |nic: &Wanted| ledger.contains(&nic.mac.to_string());
    assert!(nics.iter().all(knows) && knows(&goes) && !knows(&comes), "{ledger}");

    // One agent adds what it reads there, another takes nothing away for what it does not.
    scene.wait_configured(1, "multinic1", &goes).await;
    for node in [1, 2] {
        scene.wait_logged(node, NO_REMOVALS, said[node - 1]).await;
        scene.wait_passes(node, MANY_READS).await;
    }
    assert!(goes.is_addressed(scene.cluster.guest(1).unwrap()));
    watch.assert_kept();

    // Until the controller has published.
    operated::want(scene, &json!({ "controller": { "replicas": Value::Null } }));
    operated::wait_ready(scene).await;
    scene.wait_released(1, &goes).await;
    scene.wait_reported(1, &[&nics[1]]).await;
    scene.wait_reported(2, &[&nics[2], &comes]).await;
    watch.assert_kept();
    let new = feed.attach(scene, 0).await;
    scene.plug(0, &new, "ens6");
    scene.wait_configured(0, "multinic1", &new).await;
    scene.wait_reported(0, &[&nics[0], &new]).await;
    feed.detach(scene, 2, &comes).await;
    scene.wait_released(2, &comes).await;
    scene.wait_reported(2, &[&nics[2]]).await;
}

/// Waits until the server is started once more, without what filled it: that is done once.
async fn wait_no_restoration(scene: &Scene) {
    let containers = "--output=jsonpath={.spec.initContainers[*].name}{.metadata.deletionTimestamp}";
    scene
        .until("a server that is not to be filled", async || {
            let pod = ["get", "pod/mariadb-0", "--namespace", NAMESPACE, "--ignore-not-found", containers];
            let names = scene.kubectl(&pod);
            (names.trim() != "prepare").then_some(names)
        })
        .await;
    assert_eq!(operated::object(scene)["status"]["restoredFrom"], "latest");
}

async fn wait_no_controller(scene: &Scene) {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let controllers = ListParams::default().labels("app.kubernetes.io/name=multinic-controller");
    scene
        .until("the end of the controller", async || {
            let left = pods.list(&controllers).await.unwrap().items.len();
            (left > 0).then(|| left.to_string())
        })
        .await;
}
