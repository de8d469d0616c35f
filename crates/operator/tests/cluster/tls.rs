//! TLS of the database that the operator runs: who has which of its keys, and what becomes of them.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE};

fn spec(tls: Option<bool>, recovers: bool) -> Value {
    let mut spec = json!({
        "controller": {"image": "multinic:1"},
        "agent": {"image": "multinic-agent:1", "dataSource": "db"},
        "database": {"enabled": true, "backup": {"schedule": "0 3 * * *"}},
        "protection": {"enableAutoRecovery": recovers},
    });
    if let Some(tls) = tls {
        spec["database"]["tls"] = json!({"enabled": tls});
    }
    spec
}

fn secrets(bench: &Bench) -> Api<Secret> {
    Api::namespaced(bench.client.clone(), NAMESPACE)
}

/// Certificate, key and authorities; none while there is no Secret, or a part of it is missing.
async fn kept(bench: &Bench) -> Option<[String; 3]> {
    let data = secrets(bench).get_opt("multinic-database-tls").await.unwrap()?.data?;
    let [certificate, key, authorities] = ["tls.crt", "tls.key", "ca.crt"]
        .map(|key| Some(String::from_utf8(data.get(key)?.0.clone()).unwrap()));
    Some([certificate?, key?, authorities?])
}

/// Takes the certificate away, until there is another one.
async fn lose(bench: &Bench, certificate: &str) {
    let lost = json!({"data": {"tls.crt": null}});
    let api = secrets(bench);
    bench
        .until("another certificate", async || {
            let now = kept(bench).await;
            // A turn that has read it before writes it once more.
            if now.as_ref().is_some_and(|now| now[0] == certificate) {
                let parameters = PatchParams::default();
                api.patch("multinic-database-tls", &parameters, &Patch::Merge(&lost)).await.unwrap();
            }
            now.is_some_and(|now| now[0] != certificate)
        })
        .await;
}

/// The pod template of each program that has to do with the database.
async fn templates(bench: &Bench) -> [Value; 4] {
    let get = async |group, kind, name| bench.get(group, kind, name).await.unwrap()["spec"].clone();
    [
        get("apps", "StatefulSet", "mariadb").await["template"].clone(),
        get("apps", "Deployment", "multinic-controller").await["template"].clone(),
        get("apps", "DaemonSet", "multinic-agent").await["template"].clone(),
        get("batch", "CronJob", "multinic-backup").await["jobTemplate"]["spec"]["template"].clone(),
    ]
}

/// The keys of the Secret that pods of a template see.
fn seen(template: &Value) -> Vec<&str> {
    let volumes = template["spec"]["volumes"].as_array().unwrap().iter();
    let of_tls = volumes.filter(|volume| volume["secret"]["secretName"] == json!("multinic-database-tls"));
    let items = of_tls.flat_map(|volume| volume["secret"]["items"].as_array().unwrap());
    items.map(|item| item["key"].as_str().unwrap()).collect()
}

/// A variable of the container, or a setting of the controller.
async fn setting(bench: &Bench, template: &Value, name: &str) -> Value {
    let variables = template["spec"]["containers"][0]["env"].as_array().into_iter().flatten();
    let found = variables.into_iter().find(|variable| variable["name"] == json!(name));
    if let Some(found) = found {
        return found["value"].clone();
    }
    bench.get("", "ConfigMap", "operator-config").await.unwrap()["data"][name].clone()
}

#[tokio::test]
async fn the_server_has_its_key_and_programs_the_authority_and_nobody_the_authoritys_key() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec(None, true)).await;
    bench.until_running("multinic").await;
    let templates_before = templates(&bench).await;
    let [server, programs @ ..] = &templates_before;
    assert_eq!(seen(server), ["tls.crt", "tls.key"]);
    let command = server["spec"]["containers"][0]["command"].to_string();
    assert!(command.contains("--ssl-cert=") && command.contains("--ssl-key="), "{command}");
    for program in programs {
        assert_eq!(seen(program), ["ca.crt"]);
        assert_eq!(setting(&bench, program, "DB_TLS").await, json!("verify"));
        let file = setting(&bench, program, "DB_TLS_CA").await;
        let folder = file.as_str().unwrap().strip_suffix("/ca.crt").unwrap();
        let mounts = program["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["mountPath"] == json!(folder)).unwrap();
        assert_eq!((&mount["name"], &mount["readOnly"]), (&json!("mariadb-ca"), &json!(true)));
    }

    // What is lost of the certificate is made anew by the same authority, and nobody is started again for it.
    let [certificate, key, authorities] = kept(&bench).await.unwrap();
    lose(&bench, &certificate).await;
    let now = kept(&bench).await.unwrap();
    assert!(now[1] != key && now[2] == authorities);
    // And so is all of it.
    bench
        .until("another authority", async || {
            let now = kept(&bench).await;
            if now.as_ref().is_some_and(|now| now[2] == authorities) {
                bench.delete("", "Secret", "multinic-database-tls").await;
            }
            now.is_some_and(|now| now[2] != authorities)
        })
        .await;
    bench.until_running("multinic").await;
    assert_eq!(templates(&bench).await, templates_before);
}

#[tokio::test]
async fn a_certificate_is_renewed_where_others_changes_are_left_as_they_are() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec(None, false)).await;
    bench.until_running("multinic").await;
    let [certificate, ..] = kept(&bench).await.unwrap();
    lose(&bench, &certificate).await;
    let status = bench.status("multinic").await;
    assert!(!status.conditions.iter().any(|condition| condition.type_ == "Drifted"), "{status:?}");
    // And where the spec cannot be carried out.
    let mut wrong = spec(None, false);
    wrong["reconcileTrigger"] = json!({"interval": "1s"});
    bench.want("multinic", wrong).await;
    bench
        .until("it is refused", async || bench.status("multinic").await.phase.as_deref() == Some("Error"))
        .await;
    let [certificate, ..] = kept(&bench).await.unwrap();
    lose(&bench, &certificate).await;
    bench.delete("", "Secret", "multinic-database-tls").await;
    bench.until("all of it is made anew", async || kept(&bench).await.is_some()).await;
}

#[tokio::test]
async fn a_database_without_tls_has_none_of_it_and_gets_it_in_place() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec(Some(false), true)).await;
    bench.until_running("multinic").await;
    assert!(!bench.made().await.contains_key("Secret multinic-database-tls"));
    for template in &templates(&bench).await {
        assert!(seen(template).is_empty());
        let text = template.to_string();
        for word in ["--ssl", "--event-scheduler", "multinic-tls", "mariadb-ca"] {
            assert!(!text.contains(word), "{word} is in {text}");
        }
        assert_eq!(setting(&bench, template, "DB_TLS").await, Value::Null);
    }
    bench.want("multinic", spec(None, true)).await;
    bench.until_running("multinic").await;
    assert_eq!(seen(&templates(&bench).await[0]), ["tls.crt", "tls.key"]);
    // Programs hear of it once the server is up with it.
    bench
        .until("programs insist on it", async || {
            bench.be_the_kubelet().await;
            let [_, programs @ ..] = templates(&bench).await;
            programs.iter().all(|program| seen(program) == ["ca.crt"])
        })
        .await;
    bench.want("multinic", spec(Some(false), true)).await;
    bench.until_running("multinic").await;
    bench
        .until("the keys are gone", async || !bench.made().await.contains_key("Secret multinic-database-tls"))
        .await;
}
