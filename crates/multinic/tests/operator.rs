//! The operator as a program: found by a kubeconfig, at work, seen by its pages, and stopped by SIGTERM.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::{Api, CustomResourceExt as _};
use multinic_api::MultiNicOperator;
use multinic_controller::sinks::kubernetes::kubeconfig::choose_cryptography;
use multinic_testbed::kubernetes::ControlPlane;
use multinic_testbed::program::Program;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(90);

async fn until<T>(what: &str, operator: &Program, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not yet: {what}; it says:\n{}", operator.last_lines(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn ask(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn the_program_makes_what_is_wanted_and_shows_what_it_does() {
    if !ControlPlane::installed() {
        return;
    }
    choose_cryptography();
    let control_plane = ControlPlane::start().unwrap();
    control_plane.install_crd(&MultiNicOperator::crd()).await.unwrap();
    let namespace = control_plane.new_namespace("program").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    control_plane.admin().write_kubeconfig(&kubeconfig).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_multinic"));
    command.arg("operator").env_clear().env("KUBECONFIG", &kubeconfig).env("POD_NAMESPACE", &namespace);
    command.envs([
        ("HEALTH_ADDR", "127.0.0.1"),
        ("HEALTH_PORT", "0"),
        ("METRICS_PORT", "0"),
        ("WEBHOOK_PORT", "0"),
    ]);
    let mut operator = Program::start("operator", command, folder.path().join("log")).unwrap();
    let pages: Vec<String> = until("both ports", &operator, async || {
        let log = operator.output();
        let lines = log.lines().filter(|line| line.contains("health and metrics are served"));
        let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let pages: Vec<String> = lines.map(|line| line["address"].as_str().unwrap().to_owned()).collect();
        (pages.len() == 2).then_some(pages)
    })
    .await;
    let is_ready = async || ask(&pages[0], "/readyz").starts_with("HTTP/1.1 200").then_some(());
    until("it is ready", &operator, is_ready).await;
    assert!(ask(&pages[0], "/healthz").contains("\"healthy\""));

    let operators: Api<MultiNicOperator> = Api::namespaced(control_plane.client().unwrap(), &namespace);
    let object = json!({
        "apiVersion": "multinic.example.com/v1alpha1", "kind": "MultiNicOperator",
        "metadata": {"name": "multinic"},
        "spec": {"controller": {"image": "multinic:1"}, "database": {"enabled": false}},
    });
    operators.patch("multinic", &PatchParams::apply("test"), &Patch::Apply(object)).await.unwrap();
    // Nobody makes pods of a Deployment here.
    until("it is carried out", &operator, async || {
        let status = operators.get("multinic").await.unwrap().status?;
        (status.phase.as_deref() == Some("Pending") && status.observed_generation == Some(1)).then_some(())
    })
    .await;
    let is_degraded = async || ask(&pages[0], "/healthz").contains("\"degraded\"").then_some(());
    until("its health says so", &operator, is_degraded).await;
    for page in &pages {
        let metrics = ask(page, "/metrics");
        for name in [
            "multinic_operator_reconcile_total{status=\"success\"}",
            "multinic_operator_reconcile_duration_seconds_count{operator=\"multinic\"}",
            "multinic_operator_object_changes_total{change=\"made\"}",
            "multinic_component_status{component=\"controller\"",
            "multinic_protection_active{operator=\"multinic\"} 0",
            "multinic_webhook_certificate_end_timestamp_seconds ",
        ] {
            assert!(metrics.contains(name), "{name} is not in {metrics}");
        }
    }
    assert!(operator.terminate(PATIENCE).unwrap().success());
}
