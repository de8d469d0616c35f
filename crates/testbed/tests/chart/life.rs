//! Install, upgrade, roll back, uninstall, on a real API server with its controllers.

use std::time::Duration;

use multinic_testbed::program::Program;
use serde_json::Value;

use crate::helm::{CHART, root};
use crate::scripts::succeeded;
use crate::site::{NAMESPACE, RELEASE, Site, eventually};

#[test]
fn a_release_is_installed_upgraded_rolled_back_and_uninstalled_and_definitions_and_nics_stay() {
    let Some(site) = Site::new() else { return };
    site.install(&[]);
    assert_eq!(site.names("customresourcedefinitions").len(), 3);
    let programs = || site.names("deployments,daemonsets");
    assert_eq!(programs(), ["deployment.apps/multinic-controller", "daemonset.apps/multinic-agent"]);
    // Pods are admitted, and would run if there were nodes.
    eventually("a pod of the controller", || !site.names("pods").is_empty());
    for sample in ["nodeconfig", "password-secret"] {
        let file = format!("--filename=deploy/samples/{sample}.yaml");
        site.kubectl(&["apply", "--namespace", NAMESPACE, &file]);
    }

    let changed = ["--set", "agent.pollInterval=15s,viola.enabled=true"];
    site.upgrade(&changed);
    assert_eq!(site.agent_variable("POLL_INTERVAL").as_deref(), Some("15s"));
    assert_eq!(programs().len(), 3);
    let versions = || {
        let objects = ["daemonset/multinic-agent", "deployment/multinic-viola", "configmap/operator-config"];
        objects.map(|name| site.object(name)["metadata"]["generation"].clone())
    };
    let before = versions();
    site.upgrade(&changed);
    assert_eq!(versions(), before);

    let said = site
        .helm
        .refused(&[&["upgrade"], &RELEASE[..], &["--reuse-values", "--set", "agent.dataSource=db"]].concat());
    assert!(said.contains("database.host is empty"), "{said}");
    assert_eq!(site.agent_variable("DATA_SOURCE").as_deref(), Some("nodecr"));

    site.helm.run(&["rollback", "multinic", "1", "--namespace", NAMESPACE]);
    assert_eq!(site.agent_variable("POLL_INTERVAL"), None);
    assert_eq!(programs().len(), 2);

    site.helm.run(&["uninstall", "multinic", "--namespace", NAMESPACE]);
    eventually("the end of the programs", || site.of_release().is_empty());
    assert_eq!(site.names("customresourcedefinitions").len(), 3);
    assert_eq!(site.names("multinicnodeconfigs").len(), 1);
    assert_eq!(site.names("openstackconfigs").len(), 1);

    site.install(&["--set", "database.host=mariadb.example,database.password=of-the-test"]);
    assert_eq!(site.agent_variable("DATA_SOURCE").as_deref(), Some("db"));
    assert_eq!(site.object("configmap/operator-config")["data"]["SINKS"], "database");
    assert_eq!(site.names("secrets/multinic-external-database").len(), 1);
}

/// What an operator made for the whole cluster, or elsewhere.
fn of_operator(site: &Site) -> Vec<String> {
    let kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,\
                 validatingwebhookconfigurations,roles,rolebindings";
    let selector = "--selector=multinic.example.com/operator-namespace=multinic-system";
    let text = site.kubectl(&["get", kinds, "--namespace=default", selector, "--output=name"]);
    text.lines().map(str::to_owned).collect()
}

/// Does what the pod of the Job would do on a node.
fn run_job(site: &Site) {
    let pods = "--selector=batch.kubernetes.io/job-name=multinic-uninstall";
    let list = || {
        let text = site.kubectl(&["get", "pods", "--namespace", NAMESPACE, pods, "--output=json"]);
        serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().unwrap().clone()
    };
    eventually("a pod of the Job", || !list().is_empty());
    let pod = list().remove(0);
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
    let containers = pod["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    let arguments: Vec<String> = serde_json::from_value(containers[0]["args"].clone()).unwrap();
    succeeded(&site.command_as(account, "multinic").args(arguments).output().unwrap());
    let name = pod["metadata"]["name"].as_str().unwrap();
    let done = r#"{"status": {"phase": "Succeeded"}}"#;
    let patch = ["patch", "pod", name, "--subresource=status", "--type=merge", "--patch", done];
    site.kubectl(&[&patch[..], &["--namespace", NAMESPACE]].concat());
}

#[test]
fn an_operator_takes_what_it_made_for_the_whole_cluster_with_it() {
    let Some(site) = Site::new() else { return };
    let values = "operator.enabled=true,agent.enabled=false,operator.spec.agent.dataSource=nodecr,\
                  operator.spec.agent.image=multinic-agent:1,\
                  operator.spec.protection.enableMutationPrevention=true";
    site.install(&["--set", values]);
    let mut command = site.command_as("multinic-operator", "multinic");
    let loopback = "127.0.0.1";
    command.arg("operator").env("HEALTH_ADDR", loopback).env("WEBHOOK_ADDR", loopback);
    for port in ["HEALTH_PORT", "METRICS_PORT", "WEBHOOK_PORT"] {
        command.env(port, "0");
    }
    let log = site.helm.home().join("operator.log");
    let mut operator = Program::start("operator", command, log).unwrap();
    let last = "validatingwebhookconfiguration.admissionregistration.k8s.io/multinic-operator-protection";
    eventually("all that it makes", || of_operator(&site).iter().any(|name| name == last));
    assert!(of_operator(&site).len() > 10, "{:?}", of_operator(&site));

    let arguments = ["uninstall", "multinic", "--namespace", NAMESPACE];
    std::thread::scope(|scope| {
        let uninstall = scope.spawn(|| site.helm.run(&arguments));
        run_job(&site);
        // Nothing of it is left when Helm goes on.
        assert_eq!(of_operator(&site), Vec::<String>::new());
        uninstall.join().unwrap();
    });
    operator.terminate(Duration::from_secs(60)).unwrap();
    eventually("the end of all others", || site.of_release().is_empty());
    assert_eq!(site.names("multinicoperators"), Vec::<String>::new());
    assert_eq!(site.names("customresourcedefinitions").len(), 3);
}

#[test]
fn definitions_of_another_version_are_named_with_what_to_do() {
    let Some(site) = Site::new() else { return };
    site.install(&[]);
    // An older one, which would lose fields without a word.
    let name = "multinicnodeconfigs.multinic.io";
    let older = r#"[{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns/0"}]"#;
    site.kubectl(&["patch", "customresourcedefinition", name, "--type=json", "--patch", older]);
    let upgrade = [&["upgrade"], &RELEASE[..]].concat();
    let said = site.helm.refused(&upgrade);
    assert!(said.contains(name) && said.contains("helm show crds"), "{said}");
    site.upgrade(&["--set", "crds.check=false"]);

    let definitions = site.helm.run(&["show", "crds", CHART]);
    let arguments = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
    site.kubectl_with(&arguments, &definitions);
    site.upgrade(&[]);
    // Those of `make install` are the same.
    site.kubectl(&["apply", "--server-side", "--force-conflicts", "--kustomize=deploy/crds"]);
    site.upgrade(&[]);
}

#[test]
fn a_namespace_that_takes_no_agents_is_named_before_anything_is_made() {
    let Some(site) = Site::new() else { return };
    site.kubectl(&["create", "namespace", NAMESPACE]);
    let label = |level: &str| {
        let label = format!("pod-security.kubernetes.io/enforce={level}");
        site.kubectl(&["label", "namespace", NAMESPACE, &label, "--overwrite"]);
    };
    label("restricted");
    let said = site.helm.refused(&[&["install"], &RELEASE[..]].concat());
    assert!(said.contains("kubectl label namespace multinic-system"), "{said}");
    assert_eq!(site.of_release(), Vec::<String>::new());
    site.install(&["--set", "agent.enabled=false"]);
    label("privileged");
    site.upgrade(&[]);
}

#[test]
fn every_set_of_values_is_taken_by_the_api_server() {
    let Some(site) = Site::new() else { return };
    site.install(&[]);
    let folder = root().join("crates/testbed/tests/chart/values");
    for entry in std::fs::read_dir(folder).unwrap() {
        let values = entry.unwrap().path();
        // The kinds of the Prometheus operator are not there.
        let without = "--set=metrics.serviceMonitor.enabled=false,metrics.prometheusRule.enabled=false";
        site.upgrade(&["--reset-values", "--values", values.to_str().unwrap(), without]);
    }
    site.upgrade(&["--reset-values"]);
}
