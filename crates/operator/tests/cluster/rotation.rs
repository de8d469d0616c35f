//! Passwords change while programs run: a real API server, and a real MariaDB that is started with what the Secret holds
//! whenever the pod of the server would be.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use multinic_testbed::mariadb::MariaDb;
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE};
use crate::server::Server;

fn spec(rotation: &str) -> Value {
    json!({
        "controller": {"image": "multinic:1"},
        "agent": {"image": "multinic-agent:1", "dataSource": "db"},
        "database": {"enabled": true, "credentials": {"rotation": rotation}},
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
    server.start_with(text(&secret(&bench).await, "init.sql").as_bytes());
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
                server.start_with(text(&secret(&bench).await, "init.sql").as_bytes());
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
    assert_eq!(steps, ["Preparing", "Moving"]);
    bench.until_running("multinic").await;
    // The server's last start.
    server.start_with(text(&secret(&bench).await, "init.sql").as_bytes());
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
