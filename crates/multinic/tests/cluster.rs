//! The program in a cluster: found by a kubeconfig, ready, at work, and stopped by SIGTERM.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::{Api, CustomResourceExt as _};
use multinic_api::{MultiNicNodeConfig, OpenstackConfig};
use multinic_controller::sinks::kubernetes::kubeconfig::choose_cryptography;
use multinic_testbed::cloud_simulator::Simulator;
use multinic_testbed::kubernetes::ControlPlane;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(90);

struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
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
async fn a_kubeconfig_is_enough_to_follow_a_cluster() {
    if !ControlPlane::installed() {
        return;
    }
    choose_cryptography();
    let control_plane = ControlPlane::start().unwrap();
    for definition in [OpenstackConfig::crd(), MultiNicNodeConfig::crd()] {
        control_plane.install_crd(&definition).await.unwrap();
    }
    let namespace = control_plane.new_namespace("program").await.unwrap();
    let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let network = cloud.add_network("blue", Some(1450));
    let subnet = cloud.add_subnet(&network, "blue-v4", "10.20.0.0/24".parse().unwrap()).unwrap();
    let server = cloud.add_server("worker-1");
    cloud.attach(&server, &[&subnet]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    control_plane.admin().write_kubeconfig(&kubeconfig).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_multinic"))
        .arg("controller")
        .env_clear()
        .env("KUBECONFIG", &kubeconfig)
        .env("POD_NAMESPACE", &namespace)
        .env("DATABASE_URL", format!("sqlite://{}", folder.path().join("ledger.db").display()))
        .env("INVENTORY_DB_PATH", folder.path().join("inventory.db"))
        .env("INVENTORY_ADDR", "127.0.0.1:0")
        .env("HEALTH_ADDR", "127.0.0.1")
        .env("HEALTH_PORT", "0")
        .env("WATCH_NAMESPACE", "")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut controller = Controller(child);
    let log = BufReader::new(controller.0.stderr.take().unwrap());
    let (lines, said) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let health = loop {
        let line = said.recv_timeout(deadline - Instant::now()).expect("it says where its health is");
        let line: Value = serde_json::from_str(&line).unwrap();
        if line.to_string().contains("health and metrics are served") {
            break line["address"].as_str().unwrap().to_owned();
        }
    };
    until("it is ready", async || ask(&health, "/readyz").starts_with("HTTP/1.1 200")).await;
    let configs: Api<OpenstackConfig> = Api::namespaced(control_plane.client().unwrap(), &namespace);
    let object = json!({
        "apiVersion": "multinic.example.com/v1alpha1",
        "kind": "OpenstackConfig",
        "metadata": {"name": "a"},
        "spec": {
            "vmNames": [server.as_str()],
            "subnetIDs": [subnet.as_str()],
            "credentials": {
                "authURL": cloud.url().as_str(), "username": "operator", "password": "operator-password",
                "domainName": "Default", "projectID": cloud.project().as_str(),
            },
        },
    });
    configs.patch("a", &PatchParams::apply("test"), &Patch::Apply(object)).await.unwrap();
    until("the configuration is ready", async || {
        let status = configs.get("a").await.unwrap().status.unwrap_or_default();
        status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True")
    })
    .await;
    let nodes: Api<MultiNicNodeConfig> = Api::namespaced(control_plane.client().unwrap(), &namespace);
    assert_eq!(nodes.get("worker-1").await.unwrap().spec.interfaces.len(), 1);
    let metrics = ask(&health, "/metrics");
    // An API server ends watches of a kind whose definition was just installed, so there may have been one more.
    for start in ["multinic_controller_leader 1", "multinic_controller_watch_restarts_total "] {
        assert!(metrics.lines().any(|it| it.starts_with(start)), "{metrics}");
    }
    kill(Pid::from_raw(controller.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let mut ended = None;
    until("it ends", async || {
        ended = controller.0.try_wait().unwrap();
        ended.is_some()
    })
    .await;
    assert!(ended.unwrap().success());
    reader.join().unwrap();
    let text: Vec<String> = said.try_iter().collect();
    assert!(!text.join("\n").contains("operator-password"));
}

#[test]
fn without_a_cluster_and_a_directory_it_says_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_multinic"))
        .arg("controller")
        .env_clear()
        .env("HOME", folder.path())
        .env("DATABASE_URL", format!("sqlite://{}", folder.path().join("ledger.db").display()))
        .env("INVENTORY_ENABLED", "false")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("KUBECONFIG") && said.contains("--standalone"),
        "{said}"
    );
}
