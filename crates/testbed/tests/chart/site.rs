//! A cluster with its controllers, and its administrator's programs.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use multinic_testbed::kubernetes::ControlPlane;
use multinic_testbed::program::find;
use serde_json::Value;

use crate::helm::{CHART, Helm, kubectl_installed, root};

pub const NAMESPACE: &str = "multinic-system";
pub const RELEASE: [&str; 3] = ["multinic", CHART, "--namespace=multinic-system"];

/// A cluster without nodes, whose controllers work, and its administrator's Helm and kubectl.
pub struct Site {
    pub helm: Helm,
    control_plane: ControlPlane,
}

impl Site {
    pub fn new() -> Option<Self> {
        let helm = Helm::installed()?;
        if !kubectl_installed() || !ControlPlane::controllers_installed() {
            return None;
        }
        let mut control_plane = ControlPlane::start().unwrap();
        control_plane.start_controllers().unwrap();
        control_plane.admin().write_kubeconfig(&helm.kubeconfig()).unwrap();
        Some(Self { helm, control_plane })
    }

    pub fn install(&self, arguments: &[&str]) {
        self.helm.run(&[&["install"], &RELEASE[..], &["--create-namespace"], arguments].concat());
    }

    pub fn upgrade(&self, arguments: &[&str]) {
        self.helm.run(&[&["upgrade"], &RELEASE[..], arguments].concat());
    }

    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> String {
        let mut command = self.command("kubectl");
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a script, with these variables.
    pub fn script(&self, path: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = self.command(path);
        command.args(arguments).envs(variables.iter().copied()).output().unwrap()
    }

    /// Runs commands of a page, which have to succeed.
    pub fn shell(&self, place: &str, commands: &str) {
        let output = self.command("bash").args(["-euo", "pipefail", "-c", commands]).output().unwrap();
        let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
        assert!(output.status.success(), "{place}:\n{commands}\n{said}");
    }

    /// A program with the administrator's home, in the project's folder.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(root()).env("PATH", self.helm.path()).env("HOME", self.helm.home());
        command.env("KUBECONFIG", self.helm.kubeconfig());
        command
    }

    /// Starts one of our programs as if it were in a pod of this account.
    pub fn command_as(&self, account: &str, program: &str) -> Command {
        let kubeconfig = self.helm.home().join(account);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let access = runtime.block_on(self.control_plane.service_account(NAMESPACE, account)).unwrap();
        access.write_kubeconfig(&kubeconfig).unwrap();
        let mut command = Command::new(find(program).unwrap());
        command.env_clear().env("KUBECONFIG", kubeconfig).env("POD_NAMESPACE", NAMESPACE);
        command
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "")
    }

    /// Names of objects, such as `deployment.apps/multinic-viola`.
    pub fn names(&self, kinds: &str) -> Vec<String> {
        let arguments = ["get", kinds, "--namespace", NAMESPACE, "--output=name", "--ignore-not-found"];
        self.kubectl(&arguments).lines().map(str::to_owned).collect()
    }

    pub fn object(&self, name: &str) -> Value {
        let arguments = ["get", name, "--namespace", NAMESPACE, "--output=json"];
        serde_json::from_str(&self.kubectl(&arguments)).unwrap()
    }

    /// A variable of the agent.
    pub fn agent_variable(&self, name: &str) -> Option<String> {
        let daemon_set = self.object("daemonset/multinic-agent");
        let variables = daemon_set["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
        let found = variables.iter().find(|variable| variable["name"] == name)?;
        Some(found["value"].as_str().unwrap().to_owned())
    }

    /// What of the chart is in the cluster, in and outside of its namespace.
    pub fn of_release(&self) -> Vec<String> {
        let kinds = "deployments,daemonsets,services,configmaps,secrets,serviceaccounts,roles,rolebindings,clusterroles,\
                     clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,networkpolicies,\
                     poddisruptionbudgets,validatingwebhookconfigurations";
        let selector = "--selector=app.kubernetes.io/part-of=multinic";
        let text = self.kubectl(&["get", kinds, "--all-namespaces", selector, "--output=name"]);
        text.lines().map(str::to_owned).collect()
    }
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(100));
    }
}
