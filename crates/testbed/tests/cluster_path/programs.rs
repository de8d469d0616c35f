//! The controller and Viola as processes.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use multinic_testbed::kubernetes::{Access, ControlPlane, FaultProxy};
use multinic_testbed::program::{Program, find};
use serde_json::Value;
use tempfile::TempDir;

use crate::http;
use crate::site::Site;
use crate::waiting::{run, wait};

pub const INVENTORY_TOKEN: &str = "inventory-reader-token";

/// The address in the last log line with this message.
pub fn address_of(log: &str, message: &str) -> Option<SocketAddr> {
    let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["msg"] == message).find_map(|line| line["address"].as_str()?.parse().ok())
}

fn start(subcommand: &str, variables: &[(String, String)], log: PathBuf) -> Program {
    let mut command = Command::new(find("multinic").expect("cargo build --bins"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.arg(subcommand).env_clear().env("PATH", path);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    Program::start(subcommand, command, log).unwrap()
}

/// How a controller is started, as often as a test wants.
pub struct Deployment {
    pub folder: TempDir,
    variables: Vec<(String, String)>,
    starts: Cell<u32>,
}

/// A running controller.
pub struct Controller {
    pub program: Program,
}

/// The service account of this name as a client, through the proxy if there is one.
pub fn service_account(site: &Site, plane: &ControlPlane, proxy: Option<&FaultProxy>, name: &str) -> Access {
    let access = run(plane.service_account(&site.namespace, name)).unwrap();
    match proxy {
        Some(proxy) => proxy.access(&access).at(&proxy.url()),
        None => access,
    }
}

impl Deployment {
    /// With the rights of the shipped roles, a ledger in SQLite, the nodes' objects in the site's namespace, and a cloud
    /// that is read every second.
    pub fn new(site: &Site, plane: &ControlPlane, proxy: Option<&FaultProxy>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let access = service_account(site, plane, proxy, "multinic-controller");
        access.write_kubeconfig(&folder.path().join("kubeconfig")).unwrap();
        fs::write(at("inventory-token"), INVENTORY_TOKEN).unwrap();
        let variables = [
            ("KUBECONFIG", at("kubeconfig")),
            ("POD_NAMESPACE", site.namespace.clone()),
            ("WATCH_NAMESPACE", site.namespace.clone()),
            ("POD_NAME", "controller".to_owned()),
            ("LEASE_DURATION", "3s".to_owned()),
            ("SINKS", "kubernetes".to_owned()),
            ("DATABASE_URL", format!("sqlite://{}", at("ledger.db"))),
            ("INVENTORY_ADDR", "127.0.0.1:0".to_owned()),
            ("INVENTORY_DB_PATH", at("inventory.db")),
            ("INVENTORY_TOKEN_FILE", at("inventory-token")),
            ("HEALTH_ADDR", "127.0.0.1".to_owned()),
            ("HEALTH_PORT", "0".to_owned()),
            ("LOG_LEVEL", "debug".to_owned()),
            ("POLL_FAST_INTERVAL", "1s".to_owned()),
            ("POLL_SLOW_INTERVAL", "1s".to_owned()),
            ("POLL_ERROR_INTERVAL", "1s".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { folder, variables, starts: Cell::new(0) }
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Starts one.
    pub fn start(&self, name: &str) -> Controller {
        let mut variables = self.variables.clone();
        variables.retain(|(known, _)| known != "POD_NAME");
        variables.push(("POD_NAME".to_owned(), name.to_owned()));
        self.starts.set(self.starts.get() + 1);
        let log = self.folder.path().join(format!("controller-{}.log", self.starts.get()));
        Controller { program: start("controller", &variables, log) }
    }
}

impl Controller {
    fn address(&self, message: &str) -> SocketAddr {
        wait(
            || format!("{message:?}\n{}", self.last_lines()),
            || address_of(&self.program.output(), message).is_some(),
        );
        address_of(&self.program.output(), message).unwrap()
    }

    /// A path of the inventory.
    pub fn inventory(&self, path: &str) -> (u16, String) {
        http::get(self.address("the inventory is served"), path, Some(INVENTORY_TOKEN))
    }

    /// Every record of the inventory.
    pub fn records(&self) -> Vec<Value> {
        self.try_records().unwrap()
    }

    /// The same; what it says where it is a file of its own and does not lead.
    pub fn try_records(&self) -> Result<Vec<Value>, String> {
        match self.inventory("/v1/inventory/node-configs") {
            (200, body) => Ok(serde_json::from_str(&body).unwrap()),
            (503, body) => Err(body),
            (status, body) => panic!("{status}: {body}"),
        }
    }

    /// A page of health or metrics.
    pub fn get(&self, path: &str) -> (u16, String) {
        http::get(self.address("health and metrics are served"), path, None)
    }

    /// Whether it is the one that works.
    pub fn leads(&self) -> bool {
        self.get("/metrics").1.lines().any(|line| line == "multinic_controller_leader 1")
    }

    pub fn last_lines(&self) -> String {
        format!("controller:\n{}", self.program.last_lines(25))
    }

    pub fn kill(mut self) {
        self.program.kill();
    }

    pub fn stop(mut self) {
        let status = self.program.terminate(Duration::from_secs(60)).unwrap();
        assert!(status.success(), "{status}\n{}", self.last_lines());
    }
}

/// A running Viola.
pub struct Viola {
    pub program: Program,
}

impl Viola {
    /// With a routing file in this folder that leads each provider to the cluster of its kubeconfig, and for callers that
    /// show this token.
    pub fn start(folder: &Path, targets: &[(&str, &Site, &Access)], token: &str) -> Self {
        let mut routing = "strict: true\ntargets:\n".to_owned();
        for (provider, site, access) in targets {
            let kubeconfig = folder.join(format!("{provider}.kubeconfig"));
            access.write_kubeconfig(&kubeconfig).unwrap();
            routing += &format!(
                "- providerId: {provider}\n  namespace: {}\n  kubeconfig: {}\n",
                site.namespace,
                kubeconfig.display()
            );
        }
        let at = |name: &str| folder.join(name).display().to_string();
        fs::write(at("routing.yaml"), routing).unwrap();
        fs::write(at("callers"), token).unwrap();
        let variables = [
            ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
            ("ROUTING_CONFIG", at("routing.yaml")),
            ("VIOLA_AUTH_TOKENS_FILE", at("callers")),
            ("HEALTH_ADDR", "127.0.0.1".to_owned()),
            ("HEALTH_PORT", "0".to_owned()),
            ("LOG_LEVEL", "debug".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let viola = Self { program: start("viola", &variables, folder.join("viola.log")) };
        wait(
            || viola.program.output(),
            || address_of(&viola.program.output(), "the Viola API is served").is_some(),
        );
        viola
    }

    pub fn url(&self) -> String {
        format!("http://{}", address_of(&self.program.output(), "the Viola API is served").unwrap())
    }

    /// A page of health or metrics.
    pub fn get(&self, path: &str) -> (u16, String) {
        let message = "health and metrics are served";
        wait(|| self.program.output(), || address_of(&self.program.output(), message).is_some());
        http::get(address_of(&self.program.output(), message).unwrap(), path, None)
    }
}
