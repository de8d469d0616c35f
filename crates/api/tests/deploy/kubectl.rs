//! kubectl as a user has it, against a control plane of its own.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kube::Client;
use multinic_testbed::kubernetes::ControlPlane;
use tempfile::TempDir;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A control plane and a kubeconfig of its administrator.
pub struct Site {
    pub control_plane: ControlPlane,
    folder: TempDir,
}

impl Site {
    /// Nothing in it. None where a part is missing that is not required.
    pub fn empty() -> Option<Self> {
        if !kubectl_installed() || !ControlPlane::installed() {
            return None;
        }
        let control_plane = ControlPlane::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        control_plane.admin().write_kubeconfig(&folder.path().join("kubeconfig")).unwrap();
        Some(Self { control_plane, folder })
    }

    /// All of `deploy/default` in it.
    pub fn deployed() -> Option<Self> {
        let site = Self::empty()?;
        site.apply_default();
        Some(site)
    }

    pub fn apply_default(&self) {
        self.kubectl(&["apply", "--server-side", "-k", "deploy/default"]);
    }

    pub fn client(&self) -> Client {
        self.control_plane.client().unwrap()
    }

    /// A command in the project's folder, with the administrator's kubeconfig.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(root());
        command.env("KUBECONFIG", self.folder.path().join("kubeconfig"));
        // It would keep what it learns of servers that are no more.
        command.env("KUBECACHEDIR", self.folder.path());
        command
    }

    /// Runs kubectl, which has to succeed, and returns what it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        finish(self.command("kubectl", arguments), "")
    }

    /// The same with something on its standard input.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> String {
        finish(self.command("kubectl", arguments), input)
    }
}

/// Runs a command that has to succeed.
pub fn finish(mut command: Command, input: &str) -> String {
    let said = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}:\n{errors}\n{text}");
    text
}

fn kubectl_installed() -> bool {
    let found = Command::new("kubectl").args(["version", "--client"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return true;
    }
    let required = env::var("MULTINIC_REAL_PARTS").as_deref() == Ok("required");
    assert!(!required, "MULTINIC_REAL_PARTS=required, and there is no kubectl");
    // Not through the test harness, which hides what a passing test prints.
    let _ = std::io::stderr().write_all(b"SKIPPED: tests with kubectl, because there is none\n");
    false
}
