//! An API server that comes and goes, and objects that are not what they should be.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, CustomResourceExt as _, ResourceExt as _};
use multinic_api::OpenstackConfig;
use multinic_controller::sinks::kubernetes::kubeconfig::choose_cryptography;
use multinic_testbed::kubernetes::{ControlPlane, FaultProxy};
use serde_json::json;

use crate::bench::{Bench, condition, logs, run, until};

/// An API server of its own.
fn control_plane() -> Option<ControlPlane> {
    choose_cryptography();
    ControlPlane::installed().then(|| ControlPlane::start().unwrap())
}

#[tokio::test]
async fn a_malformed_object_is_told_so_and_stops_nobody() {
    let Some(control_plane) = control_plane() else { return };
    // As an older definition would have let it in.
    let bench = Bench::on(&control_plane).await;
    let mut lax = OpenstackConfig::crd();
    let version = &mut lax.spec.versions[0];
    let schema = version.schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
    schema.properties.as_mut().unwrap().insert(
        "spec".to_owned(),
        JSONSchemaProps {
            type_: Some("object".to_owned()),
            x_kubernetes_preserve_unknown_fields: Some(true),
            ..JSONSchemaProps::default()
        },
    );
    schema.x_kubernetes_validations = None;
    control_plane.install_crd(&lax).await.unwrap();
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    bench.apply("bad", bench.spec(&[&one])).await;
    bench.apply("good", bench.spec(&[&two])).await;
    let controller = bench.start().await;
    bench.until_ready("bad").await;
    bench.until_ready("good").await;
    let patch = json!({"spec": {"vmNames": {"hush": "secret-of-the-object"}}});
    until("the lax definition is in use", async || {
        bench.api().patch("bad", &PatchParams::default(), &Patch::Merge(&patch)).await.is_ok()
    })
    .await;
    let status = bench.until_reason("bad", &["ConfigError"]).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("spec.vmNames") && !error.contains("secret-of-the-object"), "{error}");
    assert_eq!(bench.count().await, 2, "what it published stays");
    bench.cloud.attach(&two, &[&bench.subnet]).unwrap();
    bench.until_count(3).await;
    controller.stop().await;
}

#[tokio::test]
async fn an_api_server_that_restarts_loses_nothing() {
    let Some(mut control_plane) = control_plane() else { return };
    let bench = Bench::on(&control_plane).await;
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    bench.apply("a", bench.spec(&[&one])).await;
    bench.apply("b", bench.spec(&[&two])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    bench.until_ready("b").await;
    control_plane.kill();
    // What is known goes on being carried out, but a VM that is gone from a spec, and a spec itself, wait.
    bench.cloud.attach(&one, &[&bench.subnet]).unwrap();
    bench.until_count(3).await;
    until("the watch is known to be broken", async || {
        controller
            .metric("multinic_controller_watch_restarts_total")
            .parse::<u64>()
            .is_ok_and(|count| count > 0)
    })
    .await;
    control_plane.restart().unwrap();
    bench.apply("a", bench.spec(&[&one, &two])).await;
    bench.until_ready("a").await;
    bench.delete("b").await;
    bench.until_gone("b").await;
    assert_eq!(bench.count().await, 3, "a wants all of it");
    controller.stop().await;
}

#[tokio::test]
async fn a_definition_that_is_briefly_away_removes_nothing() {
    let Some(control_plane) = control_plane() else { return };
    let bench = Bench::on(&control_plane).await;
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    let slots = bench.slots().await;
    // It is deleted, and with it every configuration; then all of that comes back, as a reinstallation does it.
    let definitions: Api<CustomResourceDefinition> = Api::all(bench.client.clone());
    let name = OpenstackConfig::crd_name();
    definitions.delete(name, &DeleteParams::default()).await.unwrap();
    until("the definition is gone", async || definitions.get_opt(name).await.unwrap().is_none()).await;
    until("the watch broke", async || {
        controller
            .metric("multinic_controller_watch_restarts_total")
            .parse::<u64>()
            .is_ok_and(|count| count > 1)
    })
    .await;
    assert_eq!(bench.slots().await, slots);
    control_plane.install_crd(&OpenstackConfig::crd()).await.unwrap();
    until("it is listed again", async || bench.api().list(&Default::default()).await.is_ok()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.slots().await, slots);
    bench.apply("a", bench.spec(&[&server])).await;
    bench.until_ready("a").await;
    assert_eq!(bench.slots().await, slots);
    assert!(bench.agent_reads("worker-1").await.tombstones.is_empty());
    controller.stop().await;
}

#[tokio::test]
async fn a_version_that_is_not_served_for_a_while_removes_nothing() {
    let Some(control_plane) = control_plane() else { return };
    let bench = Bench::on(&control_plane).await;
    let server = bench.add_node("worker-1");
    let object = bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    let mut away = OpenstackConfig::crd();
    let version = away.spec.versions[0].clone();
    away.spec.versions[0].served = false;
    let definitions: Api<CustomResourceDefinition> = Api::all(bench.client.clone());
    let parameters = PatchParams::apply("multinic-testbed").force();
    definitions.patch(&away.name_any(), &parameters, &Patch::Apply(&away)).await.unwrap();
    until("the objects cannot be listed", async || bench.api().list(&Default::default()).await.is_err())
        .await;
    until("the watch broke", async || {
        controller
            .metric("multinic_controller_watch_restarts_total")
            .parse::<u64>()
            .is_ok_and(|count| count > 0)
    })
    .await;
    assert_eq!(bench.count().await, 1);
    away.spec.versions[0] = version;
    definitions.patch(&away.name_any(), &parameters, &Patch::Apply(&away)).await.unwrap();
    until("they can again", async || bench.api().list(&Default::default()).await.is_ok()).await;
    bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
    bench.until_count(2).await;
    assert_eq!(condition(&bench.until_ready("a").await, "Ready").0, "True");
    assert_eq!(bench.get("a").await.unwrap().uid(), object.uid());
    controller.stop().await;
}

#[tokio::test]
async fn no_secret_is_in_anything_that_is_written() {
    let Some(bench) = Bench::new().await else { return };
    let logs = logs();
    let secrets = ["hush-password", "hush-rotated", "hush-app-secret"];
    bench.cloud.set_password("operator", secrets[0]).unwrap();
    let server = bench.add_node("worker-1");
    bench.write_secret("cloud", &[("password", secrets[0])]).await;
    bench.apply("a", bench.spec_with_secret(&[&server])).await;
    let mut inline = bench.spec(&[&server]);
    inline["credentials"]["password"] = json!(secrets[1]);
    bench.apply("inline", inline).await;
    bench
        .write_secret("clouds", &[("clouds.yaml", "clouds:\n  openstack:\n    auth: hush-app-secret\n")])
        .await;
    let spec = json!({
        "vmNames": [server.as_str()], "subnetIDs": [bench.subnet.as_str()], "credentials": {"cloud": "openstack"},
        "secrets": {"cloudsSecretRef": {"name": "clouds", "key": "clouds.yaml"}},
    });
    bench.apply("clouds", spec).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    bench.until_reason("inline", &["KeystoneError"]).await;
    bench.until_reason("clouds", &["ConfigError"]).await;
    until("there are events", async || bench.events().await.len() >= 3).await;
    let mut texts = vec![
        serde_json::to_string(&bench.events().await).unwrap(),
        String::from_utf8_lossy(&std::fs::read(bench.folder.path().join("multinic.db")).unwrap())
            .into_owned(),
    ];
    for name in ["a", "inline", "clouds"] {
        texts.push(serde_json::to_string(&bench.status(name).await).unwrap());
    }
    texts.push(String::from_utf8_lossy(&logs.lock().unwrap()).into_owned());
    assert!(texts.iter().all(|text| text.len() > 100), "{texts:?}");
    for secret in secrets {
        assert!(texts.iter().all(|text| !text.contains(secret)), "{secret} is somewhere");
    }
    controller.stop().await;
}

#[tokio::test]
async fn conflicts_cut_watches_and_versions_that_are_gone_lose_and_double_nothing() {
    let Some(bench) = Bench::new().await else { return };
    let control_plane = ControlPlane::shared().unwrap();
    let proxy = FaultProxy::start(control_plane).unwrap();
    let (mut setup, registry) = bench.setup(&["--leader-elect=false"]);
    setup.config = proxy.access(control_plane.admin()).config().unwrap();
    proxy.conflict_once(true);
    proxy.limit_watches(Some(Duration::from_millis(50)..Duration::from_millis(400)));
    proxy.expire_next("openstackconfigs", 3);
    let controller = run(setup, registry).await;
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    bench.apply("a", bench.spec(&[&one])).await;
    bench.apply("b", bench.spec(&[&two])).await;
    bench.until_ready("a").await;
    bench.until_ready("b").await;
    let slots = bench.slots().await;
    assert_eq!(slots.len(), 2);
    bench.cloud.attach(&one, &[&bench.subnet]).unwrap();
    bench.until_count(3).await;
    bench.delete("b").await;
    bench.until_gone("b").await;
    bench.until_count(2).await;
    proxy.set_unavailable(true);
    bench.cloud.attach(&one, &[&bench.subnet]).unwrap();
    bench.until_count(3).await;
    proxy.heal();
    until("its object has all of them", async || {
        let objects: Api<multinic_api::MultiNicNodeConfig> =
            Api::namespaced(bench.client.clone(), &bench.namespace);
        objects.get("worker-1").await.is_ok_and(|object| object.spec.interfaces.len() == 3)
    })
    .await;
    bench.until_ready("a").await;
    let now = bench.slots().await;
    assert!(slots.iter().all(|(mac, name)| now.get(mac).is_none_or(|now| now == name)));
    assert!(bench.agent_reads("worker-1").await.tombstones.is_empty());
    controller.stop().await;
}

#[tokio::test]
async fn only_what_is_documented_is_asked_of_the_api_server_and_nothing_is_written_at_rest() {
    let Some(bench) = Bench::new().await else { return };
    let control_plane = ControlPlane::shared().unwrap();
    let proxy = FaultProxy::start(control_plane).unwrap();
    let (mut setup, registry) = bench.setup(&[]);
    setup.config = proxy.access(control_plane.admin()).config().unwrap();
    let controller = run(setup, registry).await;
    let server = bench.add_node("worker-1");
    bench.write_secret("cloud", &[("password", crate::bench::PASSWORD)]).await;
    bench.apply("a", bench.spec_with_secret(&[&server])).await;
    bench.until_reason("a", &["NoChange"]).await;
    proxy.forget();
    let reads = bench.cloud.count("/v2.0/ports");
    until("the cloud was read often", async || bench.cloud.count("/v2.0/ports") > reads + 8).await;
    let written: Vec<_> = proxy
        .counts()
        .into_keys()
        .filter(|(verb, resource)| !matches!(verb.as_str(), "get" | "list" | "watch") && resource != "leases")
        .collect();
    assert_eq!(written, []);
    bench.delete("a").await;
    bench.until_gone("a").await;
    let rights = [
        ("openstackconfigs", &["get", "list", "watch", "patch"][..]),
        ("openstackconfigs/status", &["patch"]),
        ("secrets", &["get"]),
        ("customresourcedefinitions", &["get"]),
        ("events", &["create", "patch"]),
        ("nodes", &["get"]),
        ("leases", &["get", "create", "update"]),
        ("multinicnodeconfigs", &["get", "list", "watch", "create", "patch", "delete"]),
    ];
    for (verb, resource) in proxy.counts().into_keys() {
        let verbs = rights.iter().find(|(right, _)| *right == resource).map(|(_, verbs)| *verbs);
        assert!(verbs.is_some_and(|verbs| verbs.contains(&verb.as_str())), "{verb} {resource}");
    }
    controller.stop().await;
}
