//! Helm and kubectl as a user has them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use multinic_testbed::{kubernetes, real_parts};
use serde_json::Value;
use tempfile::TempDir;

pub const CHART: &str = "charts/multinic";

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The program, with a home of its own.
pub struct Helm {
    program: PathBuf,
    home: TempDir,
}

impl Helm {
    /// None where it is missing and not required.
    pub fn installed() -> Option<Self> {
        Some(Self { program: kubernetes::helm()?, home: tempfile::tempdir().unwrap() })
    }

    /// Where the kubeconfig is looked for.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("kubeconfig")
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A search path on which it is.
    pub fn path(&self) -> OsString {
        let own = self.program.parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap();
        let all = std::env::split_paths(&path).chain([own]);
        std::env::join_paths(all).unwrap()
    }

    /// Runs it in the project's folder.
    pub fn try_run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(root()).env("KUBECONFIG", self.kubeconfig());
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"] {
            command.env(folder, self.home.path());
        }
        command.output().unwrap()
    }

    /// Runs it, which has to succeed, and returns what it prints.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm {arguments:?}:\n{errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, which has to fail, and returns what it says.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        assert!(!output.status.success(), "helm {arguments:?} was not refused");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The chart's objects with these arguments, in the namespace `multinic-system`.
    pub fn template(&self, arguments: &[&str]) -> Vec<Value> {
        let fixed = ["template", "multinic", CHART, "--namespace", "multinic-system"];
        objects(&self.run(&[&fixed, arguments].concat()))
    }
}

/// Whether there is a kubectl. Where there is none, says so.
pub fn kubectl_installed() -> bool {
    let found = Command::new("kubectl").args(["version", "--client"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return true;
    }
    real_parts::skip("tests with kubectl", "there is none");
    false
}

/// The objects of a text with several documents.
pub fn objects(text: &str) -> Vec<Value> {
    let documents = serde_saphyr::from_multiple::<Value>(text).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// An object's kind, namespace and name.
pub fn key(object: &Value) -> String {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or("-");
    format!("{} {} {}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
}
