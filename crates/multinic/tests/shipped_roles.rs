//! The controller as it is shipped: with the settings of its ConfigMap and no right but those of its ServiceAccount.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use multinic_controller::sinks::kubernetes::kubeconfig::choose_cryptography;
use multinic_testbed::cloud_simulator::{Simulator, USER};
use multinic_testbed::kubernetes::ControlPlane;
use multinic_testbed::program::Program;
use serde_json::{Value, json};

const NAMESPACE: &str = "multinic-system";
const LIMIT: Duration = Duration::from_secs(120);

struct Kubectl {
    kubeconfig: PathBuf,
}

impl Kubectl {
    fn run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new("kubectl");
        command.args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
        command.env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", self.kubeconfig.parent().unwrap());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let text = self.run(&[arguments, &["-o", "json"]].concat(), "")?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    fn apply(&self, object: &Value) {
        self.run(&["apply", "-f", "-"], &object.to_string()).unwrap();
    }
}

/// Asks until the answer is the one that is waited for.
fn until<T>(what: &str, controller: &Program, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "not yet: {what}; the controller says:\n{}",
            controller.last_lines(30)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn config(cloud: &Simulator) -> Value {
    json!({
        "apiVersion": "multinic.example.com/v1alpha1", "kind": "OpenstackConfig",
        "metadata": {"name": "storage", "namespace": "team"},
        "spec": {
            "vmNames": ["worker-1", "worker-2"], "subnetName": "storage",
            "credentials": {
                "authURL": cloud.url().as_str(), "username": USER.0, "domainName": USER.1,
                "projectID": cloud.project().as_str(), "k8sProviderID": "here",
            },
            "secrets": {"passwordSecretRef": {"name": "openstack", "key": "password"}},
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_settings_and_rights_are_enough_from_a_configuration_to_its_end() {
    let kubectl_installed = Command::new("kubectl").args(["version", "--client"]).output();
    if !kubectl_installed.is_ok_and(|output| output.status.success()) {
        let required = std::env::var("MULTINIC_REAL_PARTS").as_deref() == Ok("required");
        assert!(!required, "MULTINIC_REAL_PARTS=required, and there is no kubectl");
        let _ = std::io::stderr().write_all(b"SKIPPED: the shipped roles, because there is no kubectl\n");
        return;
    }
    if !ControlPlane::installed() {
        return;
    }
    choose_cryptography();
    let folder = tempfile::tempdir().unwrap();
    let control_plane = ControlPlane::start().unwrap();
    let kubectl = Kubectl { kubeconfig: folder.path().join("admin.kubeconfig") };
    control_plane.admin().write_kubeconfig(&kubectl.kubeconfig).unwrap();
    kubectl.run(&["apply", "--server-side", "-k", "deploy/default"], "").unwrap();
    kubectl.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"], "").unwrap();

    let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let network = cloud.add_network("storage", Some(1450));
    let subnet = cloud.add_subnet(&network, "storage", "192.0.2.0/24".parse().unwrap()).unwrap();
    let servers = ["worker-1", "worker-2"].map(|name| cloud.add_server(name));
    for server in &servers {
        cloud.attach(server, &[&subnet]).unwrap();
    }
    kubectl.run(&["create", "namespace", "team"], "").unwrap();
    kubectl.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openstack", "namespace": "team"},
        "stringData": {"password": USER.2},
    }));

    let account = control_plane.service_account(NAMESPACE, "multinic-controller").await.unwrap();
    let kubeconfig = folder.path().join("controller.kubeconfig");
    account.write_kubeconfig(&kubeconfig).unwrap();
    let shipped = kubectl.json(&["get", "configmap", "operator-config", "-n", NAMESPACE]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_multinic"));
    command.arg("controller").env_clear();
    for (name, value) in shipped["data"].as_object().unwrap() {
        command.env(name, value.as_str().unwrap());
    }
    let database = format!("sqlite://{}", folder.path().join("multinic.db").display());
    command
        .envs([
            ("POD_NAME", "test"),
            ("POD_NAMESPACE", NAMESPACE),
            ("HEALTH_PORT", "0"),
            ("LOG_LEVEL", "debug"),
        ])
        .envs([("INVENTORY_ADDR", "127.0.0.1:0"), ("DATABASE_URL", &database)])
        .env("INVENTORY_DB_PATH", folder.path().join("inventory.db"))
        .env("KUBECONFIG", &kubeconfig);
    let mut controller = Program::start("controller", command, folder.path().join("controller.log")).unwrap();

    kubectl.apply(&config(&cloud));
    let node = until("the node's object", &controller, || {
        kubectl.json(&["get", "mnnc", "worker-1", "-n", NAMESPACE]).ok()
    });
    assert_eq!(node["spec"]["interfaces"][0]["name"], "multinic0", "{node}");
    until("the other node's object", &controller, || {
        kubectl.json(&["get", "mnnc", "worker-2", "-n", NAMESPACE]).ok()
    });
    until("Ready", &controller, || {
        let object = kubectl.json(&["get", "osc", "storage", "-n", "team"]).ok()?;
        let conditions = object["status"]["conditions"].as_array()?;
        let ready = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
        (ready && object["metadata"]["finalizers"] == json!(["multinic.io/cleanup"])).then_some(())
    });
    until("an event", &controller, || {
        let events = kubectl.json(&["get", "events.events.k8s.io", "-n", "team"]).ok()?;
        events["items"].as_array()?.iter().any(|event| event["regarding"]["name"] == "storage").then_some(())
    });
    let lease = kubectl.json(&["get", "lease", "multinic-controller", "-n", NAMESPACE]).unwrap();
    assert!(lease["spec"]["holderIdentity"].as_str().unwrap().starts_with("test"), "{lease}");

    // Its agent held it, and went with the node for good.
    let held = r#"{"metadata": {"finalizers": ["multinic.io/cleanup"]}}"#;
    kubectl.run(&["patch", "mnnc", "worker-2", "-n", NAMESPACE, "--type", "merge", "-p", held], "").unwrap();
    cloud.delete_server(&servers[1]).unwrap();
    kubectl.run(&["annotate", "osc", "storage", "-n", "team", "multinic.io/reconcile-at=now"], "").unwrap();
    until("the end of the object of a node that is gone", &controller, || {
        kubectl
            .json(&["get", "mnnc", "worker-2", "-n", NAMESPACE])
            .err()
            .filter(|said| said.contains("NotFound"))
    });

    kubectl.run(&["delete", "osc", "storage", "-n", "team", "--wait=false"], "").unwrap();
    until("the end of the node's object", &controller, || {
        kubectl
            .json(&["get", "mnnc", "worker-1", "-n", NAMESPACE])
            .err()
            .filter(|said| said.contains("NotFound"))
    });
    until("the end of the configuration", &controller, || {
        kubectl.json(&["get", "osc", "storage", "-n", "team"]).err().filter(|said| said.contains("NotFound"))
    });
    assert!(controller.terminate(LIMIT).unwrap().success());
    let log = controller.output();
    let refused: Vec<&str> =
        log.lines().filter(|line| line.contains("forbidden") || line.contains("needs the right")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(!log.contains(USER.2), "the password is in the log");
}
