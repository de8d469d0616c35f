//! When a configuration is carried out.

use std::time::Duration;

use multinic_api::RECONCILE_AT_ANNOTATION;
use multinic_controller::sinks::kubernetes::kubeconfig::choose_cryptography;
use multinic_testbed::kubernetes::ControlPlane;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bench::{Bench, Running, condition, until};
use crate::moves::Scene;
use crate::sinks::Viola;

/// A while in which something that should not happen would have happened: three of the cloud's polls.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(800)).await;
}

async fn attach_more(bench: &Bench, server: &multinic_core::ServerId) {
    bench.cloud.attach(server, &[&bench.subnet]).unwrap();
}

async fn post(controller: &Running, method: &str, path: &str, token: Option<&str>) -> u16 {
    let mut stream = TcpStream::connect(controller.webhook.unwrap()).await.unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\n{token}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn manual_carries_out_changes_and_what_is_asked_for_by_annotation() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start_with(&["--leader-elect=false", "--reconcile-mode=manual"]).await;
    bench.until_ready("a").await;
    attach_more(&bench, &server).await;
    a_while().await;
    assert_eq!(bench.count().await, 1);
    bench.annotate("a", RECONCILE_AT_ANNOTATION, "now").await;
    bench.until_count(2).await;
    until("the request is answered", async || {
        bench.status("a").await.last_handled_reconcile_at.as_deref() == Some("now")
    })
    .await;
    attach_more(&bench, &server).await;
    a_while().await;
    assert_eq!(bench.count().await, 2);
    controller.stop().await;
    // A new process does not take an old request for a new one.
    let controller = bench.start_with(&["--leader-elect=false", "--reconcile-mode=manual"]).await;
    a_while().await;
    assert_eq!(bench.count().await, 2);
    bench.annotate("a", RECONCILE_AT_ANNOTATION, "again").await;
    bench.until_count(3).await;
    controller.stop().await;
}

#[tokio::test]
async fn without_immediate_on_change_a_changed_configuration_waits_and_keeps_what_it_published() {
    let Some(bench) = Bench::new().await else { return };
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    bench.apply("a", bench.spec(&[&one, &two])).await;
    let args =
        ["--leader-elect=false", "--reconcile-mode=manual", "--reconcile-immediate-on-cr-change=false"];
    let controller = bench.start_with(&args).await;
    until("it says that it waits", async || {
        condition(&bench.status("a").await, "Reconciling").1 == "WaitingForTrigger"
    })
    .await;
    assert_eq!(bench.count().await, 0);
    bench.annotate("a", RECONCILE_AT_ANNOTATION, "1").await;
    bench.until_count(2).await;
    bench.until_ready("a").await;
    bench.apply("a", bench.spec(&[&one])).await;
    bench.annotate("a", "other", "change").await;
    a_while().await;
    assert_eq!(bench.count().await, 2);
    controller.stop().await;
    // Also for a process that does not remember the spec of before.
    let controller = bench.start_with(&args).await;
    a_while().await;
    assert_eq!(bench.count().await, 2);
    bench.annotate("a", RECONCILE_AT_ANNOTATION, "2").await;
    bench.until_count(1).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_change_of_place_that_waits_is_not_carried_out_by_another_process_either() {
    let Some(scene) = Scene::new().await else { return };
    let bench = &scene.bench;
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    bench.apply("a", bench.spec(&[&one])).await;
    let args =
        ["--leader-elect=false", "--reconcile-mode=manual", "--reconcile-immediate-on-cr-change=false"];
    let controller = bench.start_with(&args).await;
    bench.annotate("a", RECONCILE_AT_ANNOTATION, "1").await;
    bench.until_ready("a").await;
    controller.stop().await;
    bench.apply("a", scene.there(bench.spec(&[&one]))).await;
    let controller = bench.start_with(&args).await;
    // What is asked for of another is delivered together with everything that is due.
    bench.apply_annotated("b", bench.spec(&[&two]), json!({RECONCILE_AT_ANNOTATION: "1"})).await;
    bench.until_ready("b").await;
    scene.until_counts("worker-2", (Some(1), None)).await;
    assert_eq!(scene.counts("worker-1").await, (Some(1), None));
    bench.annotate("a", RECONCILE_AT_ANNOTATION, "2").await;
    scene.until_counts("worker-1", (None, Some(1))).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_schedule_carries_out_at_its_times_only() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let args = ["--leader-elect=false", "--reconcile-mode=scheduled", "--reconcile-schedule"];
    // In the year of a test there is no such day any more: it begins with a pass, and that is all.
    let controller = bench.start_with(&[&args[..], &["0 0 29 2 *"]].concat()).await;
    bench.until_ready("a").await;
    attach_more(&bench, &server).await;
    a_while().await;
    assert_eq!(bench.count().await, 1);
    controller.stop().await;
    let controller =
        bench.start_with(&[&args[..], &["*/2 * * * * *", "--reconcile-timezone=Asia/Seoul"]].concat()).await;
    bench.until_count(2).await;
    attach_more(&bench, &server).await;
    bench.until_count(3).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_failed_read_is_tried_again_in_every_mode() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.cloud.set_password("operator", "another").unwrap();
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start_with(&["--leader-elect=false", "--reconcile-mode=manual"]).await;
    bench.until_reason("a", &["KeystoneError"]).await;
    bench.cloud.set_password("operator", crate::bench::PASSWORD).unwrap();
    bench.until_ready("a").await;
    assert_eq!(bench.count().await, 1);
    controller.stop().await;
}

#[tokio::test]
async fn what_is_asked_for_is_done_in_every_namespace_that_is_served() {
    if !ControlPlane::installed() {
        return;
    }
    choose_cryptography();
    // Its own: nobody else's configurations are in it.
    let control_plane = ControlPlane::start().unwrap();
    let mut bench = Bench::on(&control_plane).await;
    let other = control_plane.new_namespace("other").await.unwrap();
    let namespaces = [bench.namespace.clone(), other];
    let servers = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    for (namespace, server) in namespaces.iter().zip(&servers) {
        bench.namespace.clone_from(namespace);
        bench.apply("a", bench.spec(&[server])).await;
    }
    let args = ["--leader-elect=false", "--reconcile-mode=manual", "--watch-namespace="];
    let controller = bench.start_with(&args).await;
    for namespace in &namespaces {
        bench.namespace.clone_from(namespace);
        bench.until_ready("a").await;
    }
    servers.iter().for_each(|server| bench.cloud.attach(server, &[&bench.subnet]).map(drop).unwrap());
    a_while().await;
    assert_eq!(bench.count().await, 2);
    for (namespace, count) in namespaces.iter().zip([3, 4]) {
        bench.namespace.clone_from(namespace);
        bench.annotate("a", RECONCILE_AT_ANNOTATION, "now").await;
        bench.until_count(count).await;
    }
    controller.stop().await;
}

#[tokio::test]
async fn a_webhook_asks_for_one_configuration_and_lets_in_whoever_has_the_token() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let token = bench.folder.path().join("token");
    std::fs::write(&token, "the-token\n").unwrap();
    let file = format!("--reconcile-token-file={}", token.display());
    let controller = bench.start_with(&["--leader-elect=false", "--reconcile-mode=webhook", &file]).await;
    bench.until_ready("a").await;
    attach_more(&bench, &server).await;
    let path = format!("/v1/reconcile/{}/a", bench.namespace);
    for (method, path, token, expected) in [
        ("POST", path.as_str(), None, 401),
        ("POST", &path, Some("other"), 401),
        ("GET", &path, Some("the-token"), 405),
        ("POST", "/v1/reconcile/nowhere/a", Some("the-token"), 404),
        ("POST", &format!("{path}-not"), Some("the-token"), 404),
        // These would be other requests of the API server.
        ("POST", &format!("{path}%2Fstatus"), Some("the-token"), 404),
        ("POST", &format!("{path}%3FdryRun=All%26x="), Some("the-token"), 404),
        ("POST", "/v1/other", Some("the-token"), 404),
    ] {
        assert_eq!(post(&controller, method, path, token).await, expected, "{method} {path} {token:?}");
    }
    a_while().await;
    assert_eq!(bench.count().await, 1);
    assert_eq!(post(&controller, "POST", &path, Some("the-token")).await, 202);
    bench.until_count(2).await;
    // It rotates.
    std::fs::write(&token, "the-next").unwrap();
    assert_eq!(post(&controller, "POST", &path, Some("the-token")).await, 401);
    assert_eq!(post(&controller, "POST", &path, Some("the-next")).await, 202);
    controller.stop().await;
}

#[tokio::test]
async fn a_webhook_may_ask_the_api_server_who_somebody_is() {
    let Some(bench) = Bench::new().await else { return };
    let control_plane = ControlPlane::shared().unwrap();
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start_with(&["--leader-elect=false", "--reconcile-token-review=true"]).await;
    let path = format!("/v1/reconcile/{}/a", bench.namespace);
    let token = |name: &'static str| async {
        let account = control_plane.service_account(&bench.namespace, name).await.unwrap();
        secrecy::ExposeSecret::expose_secret(account.token().unwrap()).to_owned()
    };
    let (may, may_not) = (token("may").await, token("may-not").await);
    let roles: kube::Api<k8s_openapi::api::rbac::v1::Role> =
        kube::Api::namespaced(bench.client.clone(), &bench.namespace);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "ask"},
        "rules": [{"apiGroups": ["multinic.example.com"], "resources": ["openstackconfigs"], "verbs": ["patch"]}]});
    roles.create(&Default::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings: kube::Api<k8s_openapi::api::rbac::v1::RoleBinding> =
        kube::Api::namespaced(bench.client.clone(), &bench.namespace);
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "ask"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "ask"},
        "subjects": [{"kind": "ServiceAccount", "name": "may", "namespace": bench.namespace}]});
    bindings.create(&Default::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    until("the role is known", async || post(&controller, "POST", &path, Some(&may)).await == 202).await;
    assert_eq!(post(&controller, "POST", &path, Some(&may_not)).await, 403);
    assert_eq!(post(&controller, "POST", &path, Some("nobody")).await, 401);
    controller.stop().await;

    // A token that would open the API server too is not one to be sent around.
    let args = [
        "--leader-elect=false",
        "--reconcile-token-review=true",
        "--reconcile-token-audiences=multinic,other",
    ];
    let controller = bench.start_with(&args).await;
    let accounts: kube::Api<k8s_openapi::api::core::v1::ServiceAccount> =
        kube::Api::namespaced(bench.client.clone(), &bench.namespace);
    let of = async |audience: &str| {
        let request = serde_json::from_value(json!({"spec": {"audiences": [audience]}})).unwrap();
        let answer = accounts.create_token_request("may", &Default::default(), &request).await.unwrap();
        answer.status.unwrap().token
    };
    assert_eq!(post(&controller, "POST", &path, Some(&may)).await, 401);
    assert_eq!(post(&controller, "POST", &path, Some(&of("somebody else").await)).await, 401);
    for audience in ["multinic", "other"] {
        assert_eq!(post(&controller, "POST", &path, Some(&of(audience).await)).await, 202, "{audience}");
    }
    controller.stop().await;
}

#[tokio::test]
async fn what_cannot_be_delivered_is_said_in_every_mode_before_a_cloud_is_read() {
    let Some(bench) = Bench::new().await else { return };
    let (viola, url) = Viola::start().await;
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let args = ["--leader-elect=false", "--reconcile-mode=manual", "--sinks=viola", "--viola-endpoint", &url];
    let controller = bench.start_with(&args).await;
    bench.until_ready("a").await;
    controller.stop().await;
    *viola.refuses.lock().unwrap() = Some("worker-1");
    let reads = bench.cloud.total_requests();
    let controller = bench.start_with(&args).await;
    let status = bench.until_reason("a", &["ViolaPostError"]).await;
    assert_eq!(condition(&status, "Published").0, "False");
    assert_eq!(condition(&status, "Degraded").0, "True");
    *viola.refuses.lock().unwrap() = None;
    let status = bench.until_ready("a").await;
    assert_eq!(condition(&status, "Published").0, "True");
    assert_eq!((condition(&status, "Degraded").0.as_str(), status.last_error), ("False", None));
    assert_eq!(bench.cloud.total_requests(), reads, "nobody asked for it");
    controller.stop().await;
}
