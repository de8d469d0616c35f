//! The database: what is made for it, who knows its passwords, and what becomes of its data.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use multinic_operator::apply::carry_out;
use multinic_operator::object::{Object, Owner};
use multinic_operator::observe::{Observed, observe};
use multinic_operator::plan::plan;
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE};

fn spec(more: &Value) -> Value {
    let mut spec = json!({
        "controller": {"image": "multinic:1"},
        "database": {"enabled": true},
    });
    for (name, value) in more.as_object().unwrap() {
        spec["database"][name] = value.clone();
    }
    spec
}

async fn passwords(bench: &Bench) -> Option<Vec<String>> {
    let secrets: Api<Secret> = Api::namespaced(bench.client.clone(), NAMESPACE);
    let data = secrets.get_opt("multinic-database").await.unwrap()?.data.unwrap();
    let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
    Some(["root-password", "password", "agent-password"].map(text).to_vec())
}

/// The template that pods of the server and of the controller are made of.
async fn templates(bench: &Bench) -> [Value; 2] {
    let server = bench.get("apps", "StatefulSet", "mariadb").await.unwrap();
    let controller = bench.get("apps", "Deployment", "multinic-controller").await.unwrap();
    [server, controller].map(|object| object["spec"]["template"].clone())
}

const DATABASE: [&str; 5] = [
    "PersistentVolumeClaim mysql-storage-mariadb-0",
    "Secret multinic-database",
    "Secret multinic-database-tls",
    "Service mariadb",
    "StatefulSet mariadb",
];

#[tokio::test]
async fn a_database_has_passwords_that_nobody_sees_and_data_that_outlive_it() {
    let Some(bench) = Bench::start().await else { return };
    bench.want("multinic", spec(&json!({"storageSize": "2Gi"}))).await;
    bench.until_running("multinic").await;
    let made = bench.made().await;
    for name in DATABASE {
        assert!(made.contains_key(name), "{name} is not in {made:?}");
    }
    let status = bench.status("multinic").await;
    assert_eq!(status.database_status.unwrap().ready_replicas, Some(1));
    assert!(status.conditions.iter().any(|it| it.type_ == "DatabaseReady" && it.status == "True"));
    let volume = bench.get("", "PersistentVolumeClaim", "mysql-storage-mariadb-0").await.unwrap();
    assert_eq!(volume["spec"]["resources"]["requests"]["storage"], json!("2Gi"));
    let settings = bench.get("", "ConfigMap", "operator-config").await.unwrap();
    assert_eq!(settings["data"]["DB_HOST"], json!(format!("mariadb.{NAMESPACE}.svc")));

    let first = passwords(&bench).await.unwrap();
    let seen = [settings, json!(templates(&bench).await), json!(bench.status("multinic").await)];
    for password in &first {
        assert_eq!(password.len(), 32);
        assert!(!seen.iter().any(|value| value.to_string().contains(password)));
    }

    // Without its Secret there are other passwords, and everybody is started with them.
    let before = templates(&bench).await;
    bench
        .until("pods of other passwords", async || {
            // A turn that has read it before writes it once more.
            if passwords(&bench).await.is_some_and(|known| known == first) {
                bench.delete("", "Secret", "multinic-database").await;
            }
            let now = templates(&bench).await;
            now[0] != before[0] && now[1] != before[1]
        })
        .await;
    let second = passwords(&bench).await.unwrap();
    assert!(first.iter().zip(&second).all(|(first, second)| first != second));
    bench.until_running("multinic").await;

    // A password that the spec names is the one; others stay.
    let named = spec(&json!({"storageSize": "2Gi", "credentials": {"password": "not-a-real-one"}}));
    bench.want("multinic", named).await;
    bench
        .until("the new password is in use", async || {
            bench.be_the_kubelet().await;
            let is_rotating = |it: &multinic_api::Condition| it.type_ == "CredentialsRotating";
            passwords(&bench).await.unwrap()[1] == "not-a-real-one"
                && !bench.status("multinic").await.conditions.iter().any(is_rotating)
        })
        .await;
    bench.until_running("multinic").await;
    let third = passwords(&bench).await.unwrap();
    assert_eq!(third, [second[0].clone(), "not-a-real-one".to_owned(), second[2].clone()]);

    bench.operators().delete("multinic", &DeleteParams::default()).await.unwrap();
    bench
        .until("all but data and passwords is gone", async || {
            bench.made().await.into_keys().collect::<Vec<_>>() == [DATABASE[0], DATABASE[1]]
        })
        .await;

    // Made again, it has its data and its passwords back; and they go where that is wanted.
    bench.want("multinic", spec(&json!({"storageSize": "2Gi", "deletionPolicy": "Delete"}))).await;
    bench.until_running("multinic").await;
    assert_eq!(passwords(&bench).await.unwrap(), third);
    bench.operators().delete("multinic", &DeleteParams::default()).await.unwrap();
    bench.until("nothing is left", async || bench.made().await.is_empty()).await;
}

#[tokio::test]
async fn an_older_operators_stateful_set_gives_way_and_its_volume_stays() {
    let Some(mut bench) = Bench::empty().await else { return };
    let old = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {
            "name": "mariadb", "namespace": NAMESPACE,
            "labels": {"multinic.example.com/managed-by-operator": "multinic"},
        },
        "spec": {
            "serviceName": "mariadb",
            "selector": {"matchLabels": {"app": "mariadb"}},
            "template": {
                "metadata": {"labels": {"app": "mariadb"}},
                "spec": {"containers": [{"name": "mariadb", "image": "mariadb:10.6"}]},
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "mysql-storage"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}},
            }],
        },
    });
    crate::bench::apply(&bench.client, &old).await;
    let name = "mysql-storage-mariadb-0";
    bench
        .until("the old volume", async || bench.get("", "PersistentVolumeClaim", name).await.is_some())
        .await;
    let uid = bench.get("", "PersistentVolumeClaim", name).await.unwrap()["metadata"]["uid"].clone();
    bench.run();
    bench.want("multinic", spec(&json!({"image": "mariadb:11.4"}))).await;
    bench.until_running("multinic").await;
    let new = bench.get("apps", "StatefulSet", "mariadb").await.unwrap();
    assert_eq!(new["spec"]["template"]["spec"]["containers"][0]["image"], json!("mariadb:11.4"));
    assert_eq!(new["spec"]["volumeClaimTemplates"], Value::Null);
    assert_eq!(bench.get("", "PersistentVolumeClaim", name).await.unwrap()["metadata"]["uid"], uid);
}

#[tokio::test]
async fn a_database_of_ones_own_is_reached_by_a_secret_and_nothing_is_made_for_it() {
    let Some(bench) = Bench::start().await else { return };
    let external = json!({
        "host": "db.example", "port": 3307, "secretName": "mine", "caKey": "authority.pem",
    });
    let mut wanted = spec(&json!({"external": external}));
    wanted["database"]["enabled"] = json!(false);
    bench.want("multinic", wanted.clone()).await;
    bench.until_running("multinic").await;
    let made = bench.made().await;
    assert!(!DATABASE.iter().any(|name| made.contains_key(*name)), "{made:?}");
    let settings = bench.get("", "ConfigMap", "operator-config").await.unwrap()["data"].clone();
    for (name, value) in [
        ("DB_HOST", "db.example"),
        ("DB_PORT", "3307"),
        ("DB_NAME", "multinic"),
        ("DB_TLS", "verify"),
        ("DB_TLS_CA", "/etc/multinic/database/ca.crt"),
        ("DB_PASSWORD_FILE", "/etc/multinic/database/password"),
    ] {
        assert_eq!(settings[name], json!(value), "{name}");
    }
    let [container, volumes] = ["/spec/containers/0", "/spec/volumes"];
    let deployment = bench.get("apps", "Deployment", "multinic-controller").await.unwrap();
    let template = &deployment["spec"]["template"];
    let user = template.pointer(container).unwrap()["env"].as_array().unwrap();
    let user = user.iter().find(|variable| variable["name"] == json!("DB_USER")).unwrap();
    assert_eq!(user["valueFrom"]["secretKeyRef"], json!({"name": "mine", "key": "username"}));
    assert!(template.pointer(volumes).unwrap().to_string().contains("authority.pem"));

    wanted["database"]["enabled"] = json!(true);
    bench.want("multinic", wanted).await;
    bench
        .until("it is refused", async || bench.status("multinic").await.phase.as_deref() == Some("Error"))
        .await;
    assert!(bench.status("multinic").await.message.unwrap().contains("spec.database.external"));
}

#[tokio::test]
async fn a_secret_that_the_operator_has_not_made_is_neither_taken_over_nor_read() {
    let Some(bench) = Bench::start().await else { return };
    let secrets: Api<Secret> = Api::namespaced(bench.client.clone(), NAMESPACE);
    for name in ["multinic-database", "multinic-database-tls"] {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "Helm"}},
            "stringData": {"password": "somebody's"},
        });
        let before = secrets.patch(name, &PatchParams::apply("helm"), &Patch::Apply(&secret)).await.unwrap();
        bench
            .want("multinic", json!({"controller": {"image": "multinic:1"}, "database": {"enabled": true}}))
            .await;
        let told = format!("Secret {name}: it was not made by this operator");
        bench
            .until("it is told", async || {
                bench.status("multinic").await.message.is_some_and(|message| message.contains(&told))
            })
            .await;
        bench.turn("multinic").await;
        let now = secrets.get(name).await.unwrap();
        assert_eq!((now.data, now.metadata.labels), (before.data, before.metadata.labels));
        assert_eq!(bench.get("apps", "StatefulSet", "mariadb").await, None, "it reads {name}");
        secrets.delete(name, &DeleteParams::default()).await.unwrap();
        bench.until_running("multinic").await;
        bench.operators().delete("multinic", &DeleteParams::default()).await.unwrap();
        bench
            .until("data are left, which others may take away", async || {
                bench.be_the_kubelet().await;
                bench.get("apps", "StatefulSet", "mariadb").await.is_none()
                    && bench.get("", "Secret", "multinic-database-tls").await.is_none()
            })
            .await;
        secrets.delete("multinic-database", &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn passwords_that_changed_after_they_were_read_are_not_written_over() {
    let Some(bench) = Bench::empty().await else { return };
    let namespaces: Api<Namespace> = Api::all(bench.client.clone());
    let owner = Owner {
        name: "multinic".to_owned(),
        uid: "1".to_owned(),
        namespace: NAMESPACE.to_owned(),
        namespace_uid: namespaces.get(NAMESPACE).await.unwrap().metadata.uid.unwrap(),
    };
    let secret = |password: &str| {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "multinic-database"},
            "data": {"password": ByteString(password.as_bytes().to_vec())}});
        Object::new(&owner, &secret).unwrap().lasting()
    };
    let turn = async |password: &str, seen: &Observed| {
        carry_out(&bench.client, plan(&owner, vec![secret(password)], seen), seen).await
    };
    // Two operators that see none, and then the same one.
    let mut seen = Observed::default();
    for (newer, stale) in [("first", "second"), ("third", "fourth")] {
        let done = turn(newer, &seen).await;
        assert_eq!(done.failures, [], "{newer}");
        let done = turn(stale, &seen).await;
        assert_eq!(done.failures.len(), 1, "{stale}: {:?}", done.changes);
        let secrets: Api<Secret> = Api::namespaced(bench.client.clone(), NAMESPACE);
        let there = secrets.get("multinic-database").await.unwrap().data.unwrap();
        assert_eq!(String::from_utf8_lossy(&there["password"].0), newer);
        seen = observe(&bench.client, NAMESPACE).await.unwrap();
    }
}
