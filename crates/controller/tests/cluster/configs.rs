//! What configurations say, and what becomes of it.

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use multinic_testbed::cloud_simulator::{Provider, encrypt};
use serde_json::json;

use crate::bench::{Bench, PASSWORD, condition, until};

#[tokio::test]
async fn a_configuration_that_is_applied_is_published_and_says_so() {
    let Some(bench) = Bench::new().await else { return };
    let controller = bench.start().await;
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let status = bench.until_ready("a").await;
    assert_eq!(bench.count().await, 1);
    assert_eq!(bench.agent_reads("worker-1").await.nics.len(), 1);
    assert_eq!(status.interfaces, Some(1));
    assert!(status.last_synced_at.is_some() && status.last_error.is_none());
    for (type_, expected) in
        [("Ready", "True"), ("Degraded", "False"), ("CloudReachable", "True"), ("Published", "True")]
    {
        assert_eq!(condition(&status, type_).0, expected, "{type_}");
    }
    assert!(
        status.conditions.iter().all(|it| it.type_ != "Reconciling" && it.type_ != "Stalled"),
        "{status:?}"
    );
    until("there are events", async || {
        let reasons = bench.event_reasons("a").await;
        reasons.contains(&"Synced".to_owned()) && reasons.contains(&"InlineSecret".to_owned())
    })
    .await;
    // A port more is one interface more.
    bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
    bench.until_count(2).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_pass_in_which_nothing_changed_writes_nothing() {
    let Some(bench) = Bench::new().await else { return };
    let controller = bench.start().await;
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    bench.until_reason("a", &["NoChange"]).await;
    let before = bench.get("a").await.unwrap();
    let reads = bench.cloud.count("/v2.0/ports");
    until("the cloud was read often", async || bench.cloud.count("/v2.0/ports") > reads + 5).await;
    let after = bench.get("a").await.unwrap();
    assert_eq!(before.metadata.resource_version, after.metadata.resource_version);
    controller.stop().await;
}

#[tokio::test]
async fn a_wrong_field_is_named_and_stops_nobody_else() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    let mut wrong = bench.spec(&[&server]);
    wrong["settings"] = json!({"openstackCAFile": "/nowhere/ca.pem"});
    bench.apply("wrong", wrong).await;
    bench.apply("good", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    bench.until_ready("good").await;
    let status = bench.until_reason("wrong", &["KeystoneError", "ConfigError"]).await;
    assert!(status.last_error.unwrap().contains("/nowhere/ca.pem"));
    assert_eq!(bench.count().await, 1);
    controller.stop().await;
}

#[tokio::test]
async fn a_secret_that_is_missing_is_named_with_its_field_and_taken_when_it_comes() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec_with_secret(&[&server])).await;
    let controller = bench.start().await;
    let status = bench.until_reason("a", &["ConfigError"]).await;
    let error = status.last_error.clone().unwrap();
    assert!(error.contains("spec.secrets.passwordSecretRef"), "{error}");
    assert!(
        error.contains(&format!("{}/cloud", bench.namespace)) && error.contains("\"password\""),
        "{error}"
    );
    assert_eq!(condition(&status, "Stalled").0, "True");
    bench.write_secret("cloud", &[("other", "x")]).await;
    until("the missing key is named", async || {
        bench.status("a").await.last_error.is_some_and(|error| error.contains("has no key \"password\""))
    })
    .await;
    bench.write_secret("cloud", &[("password", PASSWORD)]).await;
    bench.until_ready("a").await;
    assert!(!bench.event_reasons("a").await.contains(&"InlineSecret".to_owned()));
    controller.stop().await;
}

#[tokio::test]
async fn a_secret_that_rotates_is_taken_up_and_nothing_goes_meanwhile() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.write_secret("cloud", &[("password", PASSWORD)]).await;
    bench.apply("a", bench.spec_with_secret(&[&server])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    bench.cloud.set_password("operator", "another-password").unwrap();
    bench.cloud.expire_tokens();
    let status = bench.until_reason("a", &["KeystoneError"]).await;
    assert_eq!(condition(&status, "CloudReachable").0, "False");
    assert_eq!(bench.count().await, 1);
    bench.write_secret("cloud", &[("password", "another-password\n")]).await;
    bench.until_ready("a").await;
    assert_eq!(bench.count().await, 1);
    controller.stop().await;
}

#[tokio::test]
async fn a_clouds_yaml_in_a_secret_says_everything_about_the_cloud() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    let project = bench.cloud.project().clone();
    bench.cloud.add_application_credential("app-id", "app-secret", "operator", &project).unwrap();
    let file = format!(
        "clouds:\n  mine:\n    auth_type: v3applicationcredential\n    auth:\n      auth_url: {}\n      \
         application_credential_id: app-id\n      application_credential_secret: app-secret\n    region_name: RegionOne\n",
        bench.cloud.url()
    );
    bench.write_secret("clouds", &[("clouds.yaml", &file)]).await;
    let spec = json!({
        "vmNames": [server.as_str()],
        "subnetIDs": [bench.subnet.as_str()],
        "credentials": {"cloud": "mine"},
        "secrets": {"cloudsSecretRef": {"name": "clouds", "key": "clouds.yaml"}},
    });
    bench.apply("a", spec).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    assert_eq!(bench.count().await, 1);
    controller.stop().await;
}

#[tokio::test]
async fn a_subnet_that_is_not_there_is_the_reason() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    let mut spec = bench.spec(&[&server]);
    spec["subnetIDs"] = json!(["11111111-2222-3333-4444-555555555555"]);
    bench.apply("a", spec).await;
    let controller = bench.start().await;
    let status = bench.until_reason("a", &["SubnetNotFound"]).await;
    assert_eq!(condition(&status, "Stalled").0, "True");
    controller.stop().await;
}

#[tokio::test]
async fn a_vm_taken_out_of_the_spec_loses_its_interfaces_and_the_slot_stays_with_the_other() {
    let Some(bench) = Bench::new().await else { return };
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    bench.apply("a", bench.spec(&[&one, &two])).await;
    let controller = bench.start().await;
    bench.until_count(2).await;
    bench.apply("a", bench.spec(&[&one])).await;
    bench.until_count(1).await;
    assert_eq!(bench.agent_reads("worker-2").await.tombstones.len(), 1);
    controller.stop().await;
}

#[tokio::test]
async fn the_state_of_down_ports_survives_a_restart() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.cloud.add_server("worker-1");
    let port = bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
    bench.cloud.set_status(&port.port, "DOWN").unwrap();
    let mut spec = bench.spec(&[&server]);
    spec["settings"] = json!({"downPortFastRetryMax": 1000});
    bench.apply("a", spec).await;
    let controller = bench.start().await;
    until("it was looked at three times", async || {
        let retry = bench.status("a").await.down_port_retry;
        retry.and_then(|retry| retry.fast_attempts).is_some_and(|attempts| attempts >= 3)
    })
    .await;
    controller.stop().await;
    let before = bench.status("a").await.down_port_retry.unwrap();
    let controller = bench.start().await;
    until("it goes on", async || {
        bench
            .status("a")
            .await
            .down_port_retry
            .is_some_and(|retry| retry.fast_attempts > before.fast_attempts)
    })
    .await;
    assert_eq!(bench.status("a").await.down_port_retry.unwrap().hash, before.hash);
    controller.stop().await;
}

#[tokio::test]
async fn a_node_is_told_of_what_is_published_for_it_and_only_of_changes() {
    let Some(bench) = Bench::new().await else { return };
    let name = format!("of-{}", bench.namespace);
    bench.make_node(&name).await;
    let server = bench.add_node(&name);
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    let events: Api<Event> = Api::namespaced(bench.client.clone(), "default");
    let told = async || {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        let about = |event: &Event| {
            let regarding = event.regarding.as_ref()?;
            let is_meant =
                regarding.kind.as_deref() == Some("Node") && regarding.name.as_ref() == Some(&name);
            is_meant.then(|| (event.reason.clone().unwrap(), event.type_.clone().unwrap()))
        };
        all.iter().filter_map(about).collect::<Vec<_>>()
    };
    until("it is told", async || !told().await.is_empty()).await;
    let reads = bench.cloud.count("/v2.0/ports");
    until("passes were made", async || bench.cloud.count("/v2.0/ports") > reads + 4).await;
    assert_eq!(told().await, [("InterfacesPublished".to_owned(), "Normal".to_owned())]);
    controller.stop().await;
}

#[tokio::test]
async fn configurations_of_one_project_share_a_token() {
    let Some(bench) = Bench::new().await else { return };
    for name in ["a", "b", "c"] {
        let server = bench.add_node(&format!("worker-{name}"));
        bench.apply(name, bench.spec(&[&server])).await;
    }
    let controller = bench.start().await;
    for name in ["a", "b", "c"] {
        bench.until_ready(name).await;
    }
    assert_eq!(bench.cloud.count("/v3/auth/tokens"), 1);
    controller.stop().await;
}

#[tokio::test]
async fn a_provider_of_contrabass_needs_its_key_and_leaves_a_secret_with_its_broker() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    let (key, iv) = ("0123456789abcdef", [7; 16]);
    let provider = Provider {
        keystone: bench.cloud.url().to_string(),
        admin: "operator".to_owned(),
        domain: "Default".to_owned(),
        encrypted_password: encrypt(key, PASSWORD, iv).unwrap(),
        encrypted_broker_password: encrypt(key, "broker-password", iv).unwrap(),
    };
    bench.cloud.set_provider("openstack-1", &provider);
    let spec = json!({
        "vmNames": [server.as_str()],
        "subnetIDs": [bench.subnet.as_str()],
        "credentials": {
            "openstackProviderID": "openstack-1",
            "k8sProviderID": "k8s-1",
            "projectID": bench.cloud.project().as_str(),
        },
        "settings": {"contrabassEndpoint": bench.cloud.url().as_str()},
    });
    bench.apply("a", spec).await;
    let controller = bench.start().await;
    let status = bench.until_reason("a", &["ConfigError"]).await;
    assert!(status.last_error.unwrap().contains("contrabassEncryptKey"));
    // Where the older operator looked for it.
    bench.write_secret("contrabass-encrypt-key", &[("CONTRABASS_ENCRYPT_KEY", "0123456789abcdef\n")]).await;
    bench.annotate("a", multinic_api::RECONCILE_AT_ANNOTATION, "now").await;
    bench.until_ready("a").await;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> =
        Api::namespaced(bench.client.clone(), &bench.namespace);
    until("the broker's Secret is there", async || secrets.get_opt("rabbitmq-a").await.unwrap().is_some())
        .await;
    let secret = secrets.get("rabbitmq-a").await.unwrap();
    let data = secret.data.unwrap();
    let value = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
    assert_eq!(value("RABBITMQ_URLS"), "amqp://127.0.0.1:5672");
    assert_eq!(
        (value("RABBITMQ_USER"), value("RABBITMQ_PASSWORD")),
        ("openstack".into(), "broker-password".into())
    );
    let owner = &secret.metadata.owner_references.unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str(), owner.controller),
        ("OpenstackConfig", "a", Some(true))
    );
    // It comes back, whatever somebody made of it.
    secrets.delete("rabbitmq-a", &DeleteParams::default()).await.unwrap();
    until("it is back", async || secrets.get_opt("rabbitmq-a").await.unwrap().is_some()).await;
    let user = async || secrets.get("rabbitmq-a").await.unwrap().data.unwrap()["RABBITMQ_USER"].0.clone();
    let edited = Patch::Merge(json!({"stringData": {"RABBITMQ_USER": "somebody"}}));
    secrets.patch("rabbitmq-a", &PatchParams::default(), &edited).await.unwrap();
    until("it is what it was", async || user().await == b"openstack").await;
    controller.stop().await;
    // One of somebody else stays what it is.
    bench.delete_secret("rabbitmq-a").await;
    bench.write_secret("rabbitmq-a", &[("RABBITMQ_USER", "somebody-else")]).await;
    let controller = bench.start().await;
    let reads = bench.cloud.count("/v2.0/ports");
    until("passes were made", async || bench.cloud.count("/v2.0/ports") > reads + 4).await;
    assert_eq!(user().await, b"somebody-else");
    controller.stop().await;
}
