//! The kustomizations and samples.

use std::collections::BTreeMap;
use std::fs;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::kubectl::{Site, root};

#[test]
fn everything_applies_first_as_a_dry_run_and_then_truly_and_again() {
    let Some(site) = Site::empty() else { return };
    // A dry run makes neither the namespace nor the definitions that the rest of it needs.
    for folder in ["deploy/crds", "deploy/namespace"] {
        site.kubectl(&["apply", "--server-side", "-k", folder]);
    }
    site.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    let all = site.kubectl(&["kustomize", "deploy/default"]);
    let apply = |arguments: &[&str]| {
        let arguments = [&["apply", "-f", "-", "-o", "name"], arguments].concat();
        let mut names: Vec<String> = site.kubectl_with(&arguments, &all).lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    let dry = apply(&["--server-side", "--dry-run=server"]);
    let truly = apply(&["--server-side"]);
    assert_eq!(dry, truly);
    for name in [
        "deployment.apps/multinic-controller",
        "deployment.apps/multinic-viola",
        "daemonset.apps/multinic-agent",
    ] {
        assert!(truly.iter().any(|applied| applied == name), "{name} is not among {truly:?}");
    }
    // Nothing changes when it is applied once more.
    let versions = || {
        let path = "jsonpath={..resourceVersion}";
        let text = site.kubectl(&["get", "-n", "multinic-system", "all,cm,role,sa", "-o", path]);
        let mut versions: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        versions.sort();
        versions
    };
    let before = versions();
    apply(&["--server-side"]);
    assert_eq!(versions(), before);

    site.kubectl(&["apply", "-k", "deploy/samples"]);
    let configs = site.kubectl(&["get", "osc", "-n", "multinic-system", "-o", "name"]);
    assert_eq!(configs.lines().count(), 5, "{configs}");
    let everything = site.kubectl(&["get", "multinic", "-A", "-o", "name"]);
    assert_eq!(everything.lines().count(), 7, "{everything}");
    for short in ["mnc", "mnnc", "mno"] {
        assert_eq!(site.kubectl(&["get", short, "-A", "-o", "name"]).lines().count(), 1);
    }
}

#[test]
fn every_sample_and_example_applies_by_itself() {
    let Some(site) = Site::empty() else { return };
    site.kubectl(&["apply", "--server-side", "-k", "deploy/crds"]);
    site.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    site.kubectl(&["create", "namespace", "multinic-system"]);
    let mut count = 0;
    for folder in ["deploy/samples", "examples"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_manifest = name.ends_with(".yaml") && name != "kustomization.yaml";
            // There are examples of other files too.
            if is_manifest && fs::read_to_string(&path).unwrap().contains("\nkind: ") {
                site.kubectl(&["apply", "-f", path.to_str().unwrap()]);
                count += 1;
            }
        }
    }
    assert!(count >= 12, "only {count}");
}

/// Everything of the default deployment with one of the components, applied.
fn apply_with(site: &Site, component: &str) -> String {
    let folder = root().join(format!("target/kustomize-{component}"));
    fs::create_dir_all(&folder).unwrap();
    let component = format!("../../deploy/components/{component}");
    let text = json!({"resources": ["../../deploy/default"], "components": [component]});
    fs::write(folder.join("kustomization.yaml"), text.to_string()).unwrap();
    let all = site.kubectl(&["kustomize", folder.to_str().unwrap()]);
    fs::remove_dir_all(&folder).unwrap();
    site.kubectl_with(&["apply", "--server-side", "-f", "-"], &all);
    all
}

#[test]
fn the_database_may_be_on_a_volume() {
    let Some(site) = Site::empty() else { return };
    let all = apply_with(&site, "persistence");
    assert!(all.contains("claimName: multinic-controller") && all.contains("type: Recreate"));
}

#[tokio::test]
async fn agents_may_have_the_folders_of_the_network_scripts_beside_all_others() {
    let Some(site) = Site::empty() else { return };
    apply_with(&site, "sysconfig");
    let agents: Api<DaemonSet> = Api::namespaced(site.client(), "multinic-system");
    let pod = agents.get("multinic-agent").await.unwrap().spec.unwrap().template.spec.unwrap();
    let mounts = pod.containers[0].volume_mounts.clone().unwrap();
    let volumes = pod.volumes.unwrap();
    let of_the_node = |path: &str| {
        let mount = mounts.iter().find(|mount| mount.mount_path == format!("/host{path}")).unwrap();
        let volume = volumes.iter().find(|volume| volume.name == mount.name).unwrap();
        let host_path = volume.host_path.clone().unwrap();
        assert_eq!(host_path.path, path);
        (mount.read_only, host_path.type_)
    };
    for path in ["/etc/sysconfig", "/etc/udev/rules.d"] {
        assert_eq!(of_the_node(path), (None, Some("Directory".to_owned())), "{path}");
    }
    for path in ["/etc/netplan", "/var/lib/multinic", "/run"] {
        of_the_node(path);
    }
}

#[tokio::test]
async fn the_controller_is_let_in_by_the_network_policy_of_viola() {
    let Some(site) = Site::deployed() else { return };
    let policies: Api<NetworkPolicy> = Api::namespaced(site.client(), "multinic-system");
    let policy = policies.get("multinic-viola").await.unwrap().spec.unwrap();
    let labels = async |name: &str| {
        let deployments: Api<Deployment> = Api::namespaced(site.client(), "multinic-system");
        let template = deployments.get(name).await.unwrap().spec.unwrap().template;
        template.metadata.unwrap().labels.unwrap()
    };
    let selects = |selector: &LabelSelector, labels: &BTreeMap<String, String>| {
        assert_eq!(selector.match_expressions, None);
        let wanted = selector.match_labels.clone().unwrap_or_default();
        wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    assert!(selects(&policy.pod_selector.unwrap(), &labels("multinic-viola").await));
    let rules = policy.ingress.unwrap();
    let to_api = |rule: &&NetworkPolicyIngressRule| {
        let named = |port: &NetworkPolicyPort| port.port == Some(IntOrString::String("http".to_owned()));
        rule.ports.iter().flatten().any(named)
    };
    let rule = rules.iter().find(to_api).unwrap();
    let clients: Vec<_> = rule.from.iter().flatten().filter_map(|peer| peer.pod_selector.as_ref()).collect();
    let controller = labels("multinic-controller").await;
    assert!(
        !clients.is_empty() && clients.iter().any(|selector| selects(selector, &controller)),
        "{controller:?}"
    );
}

#[tokio::test]
async fn tokens_that_open_the_api_server_count_nowhere_else() {
    let Some(site) = Site::deployed() else { return };
    let configs: Api<ConfigMap> = Api::namespaced(site.client(), "multinic-system");
    let data = configs.get("operator-config").await.unwrap().data.unwrap();
    for name in ["INVENTORY_TOKEN_AUDIENCES", "RECONCILE_TOKEN_AUDIENCES"] {
        assert_eq!(data.get(name).map(String::as_str), Some("multinic"), "{name}");
    }
}

#[tokio::test]
async fn controller_and_viola_are_pods_that_the_strictest_standard_takes() {
    let Some(site) = Site::deployed() else { return };
    let client = site.client();
    let labels = [("pod-security.kubernetes.io/enforce", "restricted")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let metadata =
        ObjectMeta { name: Some("strict".to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "multinic-system");
    for name in ["multinic-controller", "multinic-viola"] {
        site.kubectl(&["create", "serviceaccount", "-n", "strict", name]);
        let template = deployments.get(name).await.unwrap().spec.unwrap().template;
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..template.metadata.unwrap() };
        let pod = Pod { metadata, spec: template.spec, status: None };
        Api::<Pod>::namespaced(client.clone(), "strict").create(&PostParams::default(), &pod).await.unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let strict = container.security_context.as_ref().unwrap();
        assert_eq!(strict.read_only_root_filesystem, Some(true), "{name}");
        assert!(container.liveness_probe.is_some() && container.readiness_probe.is_some(), "{name}");
        assert!(container.resources.as_ref().unwrap().requests.is_some(), "{name}");
    }
}
