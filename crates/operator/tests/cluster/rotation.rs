//! Passwords change while programs run: a real API server, and a real MariaDB that is started with what the Secret holds
//! whenever the pod of the server would be.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use multinic_testbed::mariadb::MariaDb;
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE};
use crate::server::Server;

fn spec(rotation: &str) -> Value {
    json!({
        "controller": {"image": "multinic:1"},
        "agent": {"image": "multinic-agent:1", "dataSource": "db"},
        "database": {"enabled": true, "credentials": {"rotation": rotation}, "backup": {"schedule": "0 3 * * *"}},
    })
}

async fn secret(bench: &Bench) -> Secret {
    let secrets: Api<Secret> = Api::namespaced(bench.client.clone(), NAMESPACE);
    secrets.get("multinic-database").await.unwrap()
}

fn text(secret: &Secret, key: &str) -> String {
    let bytes =
        secret.data.as_ref().unwrap().get(key).unwrap_or_else(|| panic!("{key} is not in the Secret"));
    String::from_utf8(bytes.0.clone()).unwrap()
}

/// What the server does when it starts.
fn init(secret: &Secret) -> String {
    let revision = &secret.metadata.annotations.as_ref().unwrap()["multinic.example.com/server-revision"];
    text(secret, &format!("init.{revision}.sql"))
}

/// The key of the password that pods of a workload read.
async fn key_of(bench: &Bench, kind: &str, name: &str) -> String {
    let object = bench.get("apps", kind, name).await.unwrap();
    let volumes = object["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == json!("mariadb")).unwrap();
    volume["secret"]["items"][0]["key"].as_str().unwrap().to_owned()
}

async fn server_revision(bench: &Bench) -> String {
    let server = bench.get("apps", "StatefulSet", "mariadb").await.unwrap();
    let template = &server["spec"]["template"];
    let annotations = &template["metadata"]["annotations"];
    let revision = annotations["multinic.example.com/server-revision"].as_str().unwrap();
    let probe = template["spec"]["containers"][0]["startupProbe"]["exec"]["command"].to_string();
    assert!(probe.contains(revision), "{revision} is not what is asked for: {probe}");
    revision.to_owned()
}

async fn rotating(bench: &Bench) -> Option<String> {
    let status = bench.status("multinic").await;
    let found = status.conditions.into_iter().find(|condition| condition.type_ == "CredentialsRotating")?;
    found.reason
}

/// Every program that runs is let in by the server that runs.
async fn everybody_is_let_in(bench: &Bench, server: &Server) {
    for (kind, name) in [("Deployment", "multinic-controller"), ("DaemonSet", "multinic-agent")] {
        let key = key_of(bench, kind, name).await;
        let user = key.strip_prefix("password.").unwrap();
        let password = text(&secret(bench).await, &key);
        server.login(user, &password, "multinic").await.unwrap_or_else(|why| panic!("{user}: {why}"));
    }
    let (user, password) = account_of_backups(bench).await;
    server.login(&user, &password, "multinic").await.unwrap_or_else(|why| panic!("a backup, {user}: {why}"));
}

/// What a backup would log in with that is made now.
async fn account_of_backups(bench: &Bench) -> (String, String) {
    let job = bench.get("batch", "CronJob", "multinic-backup").await.unwrap();
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let named = |list: &Value, name: &str| {
        list.as_array().unwrap().iter().find(|it| it["name"] == json!(name)).unwrap().clone()
    };
    let user = named(&pod["containers"][0]["env"], "DB_USER")["value"].as_str().unwrap().to_owned();
    let volume = named(&pod["volumes"], "mariadb");
    let key = volume["secret"]["items"][0]["key"].as_str().unwrap();
    (user, text(&secret(bench).await, key))
}

#[tokio::test]
async fn passwords_change_and_no_program_that_runs_is_ever_locked_out() {
    if !MariaDb::installed() {
        return;
    }
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec("spring")).await;
    bench.until_running("multinic").await;
    let mut server = Server::new();
    server.start_with(init(&secret(&bench).await).as_bytes());
    everybody_is_let_in(&bench, &server).await;
    let first = secret(&bench).await;
    let old = [text(&first, "username"), text(&first, "agent-username")];
    let old_passwords = [text(&first, "password"), text(&first, "agent-password")];
    let mut started_with = server_revision(&bench).await;

    bench.want("multinic", spec("summer")).await;
    let mut steps = Vec::new();
    bench
        .until("the rotation is over", async || {
            let revision = server_revision(&bench).await;
            if revision != started_with {
                // Nobody uses what the server does not have yet.
                everybody_is_let_in(&bench, &server).await;
                server.start_with(init(&secret(&bench).await).as_bytes());
                started_with = revision;
            }
            everybody_is_let_in(&bench, &server).await;
            if let Some(step) = rotating(&bench).await.filter(|step| steps.last() != Some(step)) {
                steps.push(step);
            }
            bench.be_the_kubelet().await;
            !steps.is_empty() && rotating(&bench).await.is_none()
        })
        .await;
    // The first may be over between two looks.
    assert!(["Preparing", "Moving"].map(str::to_owned).ends_with(&steps), "{steps:?}");
    bench.until_running("multinic").await;
    // The server's last start.
    server.start_with(init(&secret(&bench).await).as_bytes());
    everybody_is_let_in(&bench, &server).await;
    for (user, password) in old.iter().zip(&old_passwords) {
        let refused = server.login(user, password, "multinic").await.unwrap_err();
        assert!(refused.contains("denied"), "{user}: {refused}");
    }
    let last = secret(&bench).await;
    assert_eq!([text(&last, "username"), text(&last, "agent-username")], ["multinic-b", "multinic-agent-b"]);
    assert!(!last.data.unwrap().contains_key("password.multinic"));
    // And nothing moves any more.
    let made = bench.made().await;
    bench
        .meddle("", "ConfigMap", "operator-config", json!({"metadata": {"labels": {"look": "again"}}}))
        .await;
    bench
        .until("a turn", async || {
            let now = bench.made().await;
            now.iter().any(|(name, version)| name.starts_with("ConfigMap") && made.get(name) != Some(version))
        })
        .await;
    assert_eq!(secret(&bench).await.metadata.resource_version, last.metadata.resource_version);
}

#[tokio::test]
async fn a_rotation_waits_for_a_server_that_does_not_come_up() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec("spring")).await;
    bench.until_running("multinic").await;
    bench.want("multinic", spec("summer")).await;
    // Nobody makes its pod ready.
    bench.until("it is begun", async || rotating(&bench).await.as_deref() == Some("Preparing")).await;
    let before = bench.status("multinic").await.last_updated;
    bench.delete("", "Service", "mariadb").await;
    bench.until("another turn", async || bench.get("", "Service", "mariadb").await.is_some()).await;
    assert_eq!(rotating(&bench).await.as_deref(), Some("Preparing"), "{before:?}");
    assert_eq!(key_of(&bench, "Deployment", "multinic-controller").await, "password.multinic");
    bench
        .until("it goes on", async || {
            bench.be_the_kubelet().await;
            rotating(&bench).await.is_none()
        })
        .await;
    assert_eq!(key_of(&bench, "Deployment", "multinic-controller").await, "password.multinic-b");
}

#[tokio::test]
async fn a_rotation_is_ended_by_what_is_said_while_programs_move_and_by_nothing_before() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec("spring")).await;
    bench.until_running("multinic").await;
    let wanted = |end: &str| {
        let mut spec = spec("summer");
        spec["database"]["credentials"]["endRotation"] = json!(end);
        spec
    };
    // Nobody makes the server's pod ready.
    bench.want("multinic", spec("summer")).await;
    bench.until("it is begun", async || rotating(&bench).await.as_deref() == Some("Preparing")).await;
    bench.want("multinic", wanted("early")).await;
    bench.turn("multinic").await;
    assert_eq!(rotating(&bench).await.as_deref(), Some("Preparing"));
    // Nor the controller's, which is then still started with the old account.
    bench
        .until("programs move", async || {
            bench.be_the_kubelet_of("mariadb").await;
            rotating(&bench).await.as_deref() == Some("Moving")
        })
        .await;
    bench.turn("multinic").await;
    assert_eq!(rotating(&bench).await.as_deref(), Some("Moving"));
    let now = secret(&bench).await;
    assert!(init(&now).contains("ALTER USER 'multinic'@'%'"), "the old account is gone");
    bench.want("multinic", wanted("now")).await;
    bench.until("it is ended", async || rotating(&bench).await.is_none()).await;
    let now = secret(&bench).await;
    assert!(init(&now).contains("DROP USER IF EXISTS 'multinic'@'%'"));
    assert!(!now.data.unwrap().contains_key("password.multinic"));
    assert_eq!(key_of(&bench, "Deployment", "multinic-controller").await, "password.multinic-b");
    bench.until_running("multinic").await;
}

/// Nobody may change a StatefulSet.
fn refusing() -> [Value; 2] {
    let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["statefulsets"]});
    let metadata = json!({"name": "test-refuses"});
    [
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": metadata,
            "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "false"}]}}),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata, "spec": {"policyName": "test-refuses", "validationActions": ["Deny"]}}),
    ]
}

/// What a new pod of the server would do when it starts: the key that it mounts, and what that says.
async fn started_by(bench: &Bench) -> (String, String) {
    let server = bench.get("apps", "StatefulSet", "mariadb").await.unwrap();
    let volumes = server["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == json!("accounts")).unwrap();
    let key = volume["secret"]["items"][0]["key"].as_str().unwrap().to_owned();
    let said = text(&secret(bench).await, &key);
    (key, said)
}

#[tokio::test]
async fn a_server_that_cannot_be_changed_starts_again_with_what_it_was_made_for() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec("spring")).await;
    bench.until_running("multinic").await;
    let before = started_by(&bench).await;
    for object in refusing() {
        crate::bench::apply(&bench.client, &object).await;
    }
    let sets: Api<StatefulSet> = Api::namespaced(bench.client.clone(), NAMESPACE);
    let is_refused = async || {
        let look = json!({"metadata": {"annotations": {"look": "here"}}});
        let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
        sets.patch("mariadb", &parameters, &Patch::Merge(&look)).await.is_err()
    };
    bench.until("it is refused", is_refused).await;
    bench.want("multinic", spec("summer")).await;
    bench
        .until("it cannot be carried out", async || {
            let status = bench.status("multinic").await;
            status.message.is_some_and(|message| message.contains("StatefulSet mariadb"))
        })
        .await;
    bench.turn("multinic").await;
    assert!(secret(&bench).await.data.unwrap().contains_key("next-password"), "the new accounts are made");
    assert_eq!(started_by(&bench).await, before);

    for (kind, name) in
        ["ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"].map(|kind| (kind, "test-refuses"))
    {
        bench.delete("admissionregistration.k8s.io", kind, name).await;
    }
    bench.until("it is refused no more", async || !is_refused().await).await;
    bench.turn("multinic").await;
    bench
        .until("the rotation is over", async || {
            bench.be_the_kubelet().await;
            rotating(&bench).await.is_none() && started_by(&bench).await != before
        })
        .await;
    bench.until_running("multinic").await;
    bench
        .until("what was is forgotten", async || {
            let data = secret(&bench).await.data.unwrap();
            data.keys().filter(|key| key.starts_with("init.")).count() == 1
        })
        .await;
}

#[tokio::test]
async fn two_operators_at_once_come_to_rest_with_the_same() {
    let Some(bench) = Bench::start().await else { return };
    let (request, another) = bench.run_another();
    for rotation in ["spring", "summer"] {
        bench.want("multinic", spec(rotation)).await;
        bench.until_running("multinic").await;
        bench
            .until("no accounts change", async || {
                bench.be_the_kubelet().await;
                let told = bench.status("multinic").await;
                told.observed_generation
                    == bench.operators().get("multinic").await.unwrap().metadata.generation
                    && rotating(&bench).await.is_none()
            })
            .await;
        bench.until_running("multinic").await;
        bench.until_calm("multinic").await;
    }
    let now = secret(&bench).await;
    assert_eq!(now.metadata.annotations.as_ref().unwrap()["multinic.example.com/rotation"], "summer");
    for (kind, name, user) in
        [("Deployment", "multinic-controller", "username"), ("DaemonSet", "multinic-agent", "agent-username")]
    {
        assert_eq!(key_of(&bench, kind, name).await, format!("password.{}", text(&now, user)));
    }
    assert_eq!(started_by(&bench).await.1, init(&now));
    request.now();
    another.await.unwrap();
}
