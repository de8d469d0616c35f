//! The chart and the scripts, as an administrator uses them on nodes that run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use multinic_testbed::kubernetes::{self, Access};

use crate::scene::{NAMESPACE, Scene};

/// The chart as `helm` takes it, with images that the nodes have.
const RELEASE: [&str; 6] = [
    "multinic",
    "charts/multinic",
    "--namespace",
    NAMESPACE,
    "--set",
    "image.registry=localhost,controller.podAnnotations.by=test",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A program in the project's folder, with a way to the cluster and with Helm and kubectl on the search path.
fn command(scene: &Scene, access: &Access, program: &str) -> Command {
    let kubeconfig = scene.cluster.folder().join("kubeconfig");
    access.write_kubeconfig(&kubeconfig).unwrap();
    // kubectl is beside it.
    let programs = kubernetes::helm().unwrap().parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut command = Command::new(program);
    command.current_dir(root());
    command.env("PATH", path).env("HOME", scene.cluster.folder()).env("KUBECONFIG", kubeconfig);
    command
}

fn run(scene: &Scene, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = command(scene, scene.cluster.access(), program);
    command.args(arguments).envs(variables.iter().copied()).output().unwrap()
}

/// Runs Helm on the release, and waits until what it changed runs.
pub async fn helm(scene: &Scene, verb: &str, texts: &str) {
    helm_with(scene, verb, texts, "").await;
}

/// The same with values that are no texts.
pub async fn helm_with(scene: &Scene, verb: &str, texts: &str, values: &str) {
    release(scene, verb, &["--set-string", texts, "--set", values]);
    scene.wait_agents().await;
    let deployments: Api<Deployment> = Api::namespaced(scene.client.clone(), NAMESPACE);
    scene
        .until("a controller", async || {
            let controller = deployments.get("multinic-controller").await.unwrap();
            let generation = controller.metadata.generation;
            let status = controller.status.unwrap_or_default();
            let ready = status.observed_generation == generation
                && status.updated_replicas == Some(1)
                && status.ready_replicas == Some(1)
                && status.replicas == Some(1);
            (!ready).then(|| format!("{status:?}"))
        })
        .await;
}

/// Runs Helm on the release, and no more.
pub fn release(scene: &Scene, verb: &str, values: &[&str]) {
    let arguments = match verb {
        "rollback" => vec![verb, "multinic", "--namespace", NAMESPACE],
        _ => [&[verb], &RELEASE[..], values].concat(),
    };
    let output = run(scene, "helm", &arguments, &[]);
    assert!(output.status.success(), "helm {verb}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Takes the release away; what was said where that failed.
pub fn uninstall(scene: &Scene) -> Result<(), String> {
    let arguments = ["uninstall", "multinic", "--namespace", NAMESPACE, "--timeout", "3m"];
    let output = run(scene, "helm", &arguments, &[]);
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// What of ours the whole cluster has, or a namespace of others.
pub fn left(scene: &Scene) -> Vec<String> {
    let kinds = "customresourcedefinitions,clusterroles,clusterrolebindings,validatingadmissionpolicies,\
                 validatingadmissionpolicybindings,validatingwebhookconfigurations,roles,rolebindings";
    let text = scene.kubectl(&["get", kinds, "--namespace=default", "--output=name"]);
    text.lines().filter(|name| name.contains("multinic")).map(str::to_owned).collect()
}

/// Whether something else holds the object of a node, as an agent does that cannot take its NICs away.
pub fn hold(scene: &Scene, node: usize, is_held: bool) {
    let name = crate::scene::node_name(node);
    let operation = if is_held {
        r#"[{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/held"}]"#
    } else {
        r#"[{"op": "remove", "path": "/metadata/finalizers"}]"#
    };
    let arguments = ["patch", "mnnc", &name, "--namespace", NAMESPACE, "--type=json", "--patch", operation];
    scene.kubectl(&arguments);
}

/// The images of agents and controller.
pub fn images(scene: &Scene) -> Vec<String> {
    let path = "--output=jsonpath={..image}";
    let text = scene.kubectl(&["get", "daemonsets,deployments", "--namespace", NAMESPACE, path]);
    let mut images: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    images.sort();
    images
}

/// Runs a script of `scripts/`, which has to succeed, and returns what it says.
pub fn script(scene: &Scene, name: &str, variables: &[(&str, &str)]) -> String {
    succeeded(&run(scene, &format!("scripts/{name}"), &[], variables))
}

/// The same on a machine of the nodes' network.
pub fn script_among_nodes(scene: &Scene, name: &str, variables: &[(&str, &str)]) -> String {
    let access = scene.cluster.control_plane().admin();
    let mut command = command(scene, access, &format!("scripts/{name}"));
    command.envs(variables.iter().copied());
    succeeded(&scene.cluster.net().run(|| command.output()).unwrap().unwrap())
}

fn succeeded(output: &Output) -> String {
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    said
}
