//! `multinic clean-nodes` on a real API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::path::Path;
use std::process::{Command, Output};

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use multinic_api::MultiNicNodeConfig;
use multinic_controller::sinks::kubernetes::kubeconfig::choose_cryptography;
use multinic_testbed::kubernetes::ControlPlane;
use serde_json::json;

fn clean(kubeconfig: &Path, namespace: &str, timeout: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multinic"));
    command.args(["clean-nodes", "--yes", "--pod-namespace", namespace, "--timeout", timeout]).env_clear();
    command.env("KUBECONFIG", kubeconfig).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn node(name: &str, finalizers: &[&str]) -> MultiNicNodeConfig {
    serde_json::from_value(json!({
        "apiVersion": "multinic.io/v1alpha1", "kind": "MultiNicNodeConfig",
        "metadata": {"name": name, "finalizers": finalizers},
        "spec": {"nodeName": name, "interfaces": [
            {"name": "multinic0", "macAddress": "fa:16:3e:00:00:01", "address": "192.0.2.1", "cidr": "192.0.2.0/24", "mtu": 1450},
        ]},
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_waited_for_and_the_one_that_does_not_answer_is_named() {
    if !ControlPlane::installed() {
        return;
    }
    choose_cryptography();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let mut control_plane = ControlPlane::start().unwrap();
    control_plane.admin().write_kubeconfig(&kubeconfig).unwrap();
    let namespace = control_plane.new_namespace("clean").await.unwrap();

    // Without definitions there is nothing.
    let output = clean(&kubeconfig, &namespace, "30s");
    assert!(
        output.status.success() && said(&output).contains("no configuration is left"),
        "{}",
        said(&output)
    );

    for definition in multinic_api::definitions::all() {
        control_plane.install_crd(&definition).await.unwrap();
    }
    let nodes: Api<MultiNicNodeConfig> = Api::namespaced(control_plane.client().unwrap(), &namespace);
    nodes.create(&PostParams::default(), &node("worker-1", &[])).await.unwrap();
    nodes.create(&PostParams::default(), &node("worker-2", &["multinic.io/cleanup"])).await.unwrap();
    let output = clean(&kubeconfig, &namespace, "3s");
    let text = said(&output);
    let (first, second) = (format!("{namespace}/worker-1"), format!("{namespace}/worker-2"));
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("gone: MultiNicNodeConfig {first}")), "{text}");
    assert!(text.contains(&format!("left: MultiNicNodeConfig {second}")), "{text}");
    assert!(text.contains("multinic.io/cleanup") && !text.contains("no node has"), "{text}");

    // A cluster that does not answer is no proof that nothing is there.
    control_plane.stop();
    let output = clean(&kubeconfig, &namespace, "3s");
    assert!(!output.status.success() && !said(&output).contains("no node has"), "{}", said(&output));
    control_plane.restart().unwrap();

    // As its agent does.
    let done = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    nodes.patch("worker-2", &PatchParams::default(), &done).await.unwrap();
    assert!(nodes.get_opt("worker-2").await.unwrap().is_none());
    let made = nodes.create(&PostParams::default(), &node("worker-3", &[])).await.unwrap();
    let output = clean(&kubeconfig, &namespace, "30s");
    assert!(output.status.success() && said(&output).contains(&made.name_any()), "{}", said(&output));
    assert!(nodes.delete("worker-3", &DeleteParams::default()).await.is_err());
}

#[test]
fn without_yes_nothing_is_done() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_multinic")).arg("clean-nodes").env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--yes"), "{}", said(&output));
}
