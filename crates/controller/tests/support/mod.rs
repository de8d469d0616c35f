//! A controller over a directory, a simulated cloud and a SQLite database.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use multinic_controller::metrics::Metrics;
use multinic_controller::pass::Controller;
use multinic_controller::standalone::{Standalone, StandaloneError, Summary};
use multinic_core::config::Defaults;
use multinic_core::desired::DesiredState;
use multinic_core::fleet::FleetLimits;
use multinic_core::published::Published;
use multinic_core::{ServerId, SubnetId};
use multinic_openstack::Gate;
use multinic_store::{AgentSource, DatabaseSettings, Store};
use multinic_testbed::cloud_simulator::Simulator;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tempfile::TempDir;

pub struct Bench {
    pub cloud: Simulator,
    pub subnet: SubnetId,
    pub store: Store,
    pub standalone: Standalone,
    pub directory: PathBuf,
    settings: DatabaseSettings,
    metrics: Registry,
    _folder: TempDir,
}

#[allow(dead_code, reason = "each test file uses its part")]
impl Bench {
    /// A cloud with one network and subnet, an empty directory and an empty database.
    pub async fn new() -> Self {
        let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        let network = cloud.add_network("blue", Some(1450));
        let subnet = cloud.add_subnet(&network, "blue-v4", "10.20.0.0/24".parse().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("configs");
        std::fs::create_dir(&directory).unwrap();
        let settings = DatabaseSettings::sqlite(folder.path().join("multinic.db"));
        let store = Store::open(&settings).await.unwrap();
        let (standalone, metrics) = standalone(store.clone(), &directory, &[]);
        Self { cloud, subnet, store, standalone, directory, settings, metrics, _folder: folder }
    }

    /// A controller that was just started, over what the one before left.
    pub fn restart(&mut self, confirmed: &[&str]) {
        (self.standalone, self.metrics) = standalone(self.store.clone(), &self.directory, confirmed);
    }

    /// The same, with a directory that counts as settled only after a while.
    pub fn restart_settling_in(&mut self, settling: Duration) {
        let (standalone, metrics) = standalone(self.store.clone(), &self.directory, &[]);
        (self.standalone, self.metrics) = (standalone.settling(settling), metrics);
    }

    /// The value of a metric of the controller since it was started, 0 while it has none.
    pub fn metric(&self, name_and_labels: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.metrics).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// The database as somebody else opens it.
    pub async fn other_store(&self) -> Store {
        Store::open(&self.settings).await.unwrap()
    }

    pub fn agent(&self, node: &str) -> AgentSource {
        AgentSource::new(&self.settings, node.parse().unwrap())
    }

    pub fn config(&self, name: &str, vms: &[&ServerId]) -> String {
        let vms: Vec<&str> = vms.iter().map(|id| id.as_str()).collect();
        self.config_of(name, &vms, &[self.subnet.as_str()], "")
    }

    pub fn config_of(&self, name: &str, vms: &[&str], subnets: &[&str], settings: &str) -> String {
        // Every pass of a test reads the cloud, however soon it comes.
        let lines = |items: &[&str]| items.iter().map(|item| format!("\n    - {item}")).collect::<String>();
        format!(
            "apiVersion: multinic.example.com/v1alpha1\nkind: OpenstackConfig\nmetadata:\n  name: {name}\nspec:\n  \
             vmNames:{}\n  subnetIDs:{}\n  credentials:\n    authURL: {}\n    username: operator\n    password: operator-password\n    \
             domainName: Default\n    projectID: {}\n  settings:\n    pollFastInterval: 1ns\n    pollSlowInterval: 1ns\n{settings}",
            lines(vms),
            lines(subnets),
            self.cloud.url(),
            self.cloud.project(),
        )
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.directory.join(file), text).unwrap();
    }

    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.directory.join(file)).unwrap();
    }

    pub async fn pass(&mut self) -> Summary {
        self.try_pass().await.unwrap()
    }

    pub async fn try_pass(&mut self) -> Result<Summary, StandaloneError> {
        self.standalone.once().await
    }

    pub async fn published(&self) -> Published {
        self.store.published().await.unwrap()
    }

    /// The names that each node is to have, by MAC.
    pub async fn names(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut nodes: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for row in self.published().await.interfaces {
            let name = row.slot.unwrap().interface().to_string();
            nodes.entry(row.node.to_string()).or_default().insert(row.mac().to_string(), name);
        }
        nodes
    }

    pub async fn agent_reads(&self, node: &str) -> DesiredState {
        self.agent(node).read().await.unwrap()
    }

    /// The status that was written beside the files.
    pub fn status(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(format!("default.{name}.status.yaml"))).unwrap()
    }
}

fn standalone(store: Store, directory: &std::path::Path, confirmed: &[&str]) -> (Standalone, Registry) {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let week = Duration::from_secs(7 * 24 * 3600);
    let controller = Controller::new(store, Gate::new(4), FleetLimits::default(), week, metrics);
    let confirmed: BTreeSet<String> = confirmed.iter().map(|digest| (*digest).to_owned()).collect();
    // A test writes its files whole.
    let standalone = Standalone::new(controller, directory.to_owned(), None, Defaults::default(), confirmed);
    (standalone.settling(Duration::ZERO), registry)
}
