//! `multinic clean-cluster` on a real API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::path::Path;
use std::process::{Command, Output};

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use multinic_api::MultiNicOperator;
use multinic_controller::sinks::kubernetes::kubeconfig::choose_cryptography;
use multinic_operator::object::{MANAGED_BY, MANAGER, OPERATOR, OPERATOR_NAMESPACE};
use multinic_testbed::kubernetes::ControlPlane;
use serde_json::json;

fn clean(kubeconfig: &Path, namespace: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multinic"));
    command.args(["clean-cluster", "--yes", "--pod-namespace", namespace]).args(arguments).env_clear();
    command.env("KUBECONFIG", kubeconfig).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A role of the whole cluster, as the operator of a namespace makes it.
fn role(name: &str, namespace: &str, finalizers: &[&str]) -> ClusterRole {
    serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "labels": { MANAGED_BY: MANAGER, OPERATOR: "multinic", OPERATOR_NAMESPACE: namespace },
            "finalizers": finalizers,
        },
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_left_that_is_gone_goes_and_nothing_else() {
    if !ControlPlane::installed() {
        return;
    }
    choose_cryptography();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let control_plane = ControlPlane::start().unwrap();
    control_plane.admin().write_kubeconfig(&kubeconfig).unwrap();
    let namespace = control_plane.new_namespace("clean").await.unwrap();
    for definition in multinic_api::definitions::all() {
        control_plane.install_crd(&definition).await.unwrap();
    }
    let client = control_plane.client().unwrap();
    let operators: Api<MultiNicOperator> = Api::namespaced(client.clone(), &namespace);
    let operator = json!({
        "apiVersion": "multinic.example.com/v1alpha1", "kind": "MultiNicOperator",
        "metadata": { "name": "multinic", "finalizers": ["example.com/held"] }, "spec": { "controller": { "image": "multinic:latest" }, "database": { "enabled": false } },
    });
    operators.create(&PostParams::default(), &serde_json::from_value(operator).unwrap()).await.unwrap();
    let roles: Api<ClusterRole> = Api::all(client);
    for role in [
        role("multinic-controller", &namespace, &[]),
        // Of another operator, and of a name that no operator gives.
        role("multinic-agent", "elsewhere", &[]),
        role("of-somebody-else", &namespace, &[]),
    ] {
        roles.create(&PostParams::default(), &role).await.unwrap();
    }

    // An object that stays is named, and nothing is taken from it.
    let output = clean(&kubeconfig, &namespace, &["--patience=1ms", "--timeout=3s"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("left: MultiNicOperator {namespace}/multinic")), "{text}");
    assert!(roles.get_opt("multinic-controller").await.unwrap().is_some());

    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    operators.patch("multinic", &PatchParams::default(), &free).await.unwrap();
    // While there is patience, the operator is waited for.
    let output = clean(&kubeconfig, &namespace, &["--patience=1h", "--timeout=3s"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("left: ClusterRole multinic-controller"), "{text}");

    let output = clean(&kubeconfig, &namespace, &["--patience=1ms", "--timeout=2m"]);
    let text = said(&output);
    assert!(output.status.success() && text.contains("nothing is left"), "{text}");
    assert!(roles.get_opt("multinic-controller").await.unwrap().is_none());
    for kept in ["multinic-agent", "of-somebody-else"] {
        assert!(roles.get_opt(kept).await.unwrap().is_some(), "{kept}");
    }
}

#[test]
fn without_yes_nothing_is_done() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_multinic")).arg("clean-cluster").env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--yes"), "{}", said(&output));
}
