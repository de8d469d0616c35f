//! A controller over a namespace of a real API server, a simulated cloud and a SQLite ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::{Args as _, Command, FromArgMatches as _};
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config, CustomResourceExt as _, ResourceExt as _};
use multinic_api::{OpenstackConfig, OpenstackConfigStatus};
use multinic_controller::cluster::metrics::ClusterMetrics;
use multinic_controller::cluster::settings::ClusterArgs;
use multinic_controller::cluster::{Cluster, Setup, watch};
use multinic_controller::metrics::Metrics;
use multinic_controller::sinks::kubernetes::kubeconfig::choose_cryptography;
use multinic_controller::sinks::viola::ViolaArgs;
use multinic_core::config::{Cadence, Defaults};
use multinic_core::desired::DesiredState;
use multinic_core::fleet::FleetLimits;
use multinic_core::published::Published;
use multinic_core::{ServerId, SubnetId};
use multinic_openstack::Gate;
use multinic_store::{AgentSource, DatabaseSettings, Store};
use multinic_telemetry::shutdown::{Shutdown, ShutdownRequest};
use multinic_testbed::cloud_simulator::Simulator;
use multinic_testbed::kubernetes::ControlPlane;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub const PASSWORD: &str = "operator-password";

/// The machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub struct Bench {
    config: Config,
    pub client: Client,
    pub namespace: String,
    pub cloud: Simulator,
    pub subnet: SubnetId,
    pub store: Store,
    pub settings: DatabaseSettings,
    pub folder: TempDir,
}

/// A running controller. It is stopped hard when it is dropped.
pub struct Running {
    stop: ShutdownRequest,
    task: JoinHandle<()>,
    pub registry: Arc<Mutex<Registry>>,
    pub webhook: Option<std::net::SocketAddr>,
    pub ready: Box<dyn Fn() -> Result<(), String>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        self.stop.now();
    }
}

impl Running {
    /// As SIGTERM does.
    pub async fn stop(mut self) {
        self.stop.now();
        (&mut self.task).await.unwrap();
    }

    /// As SIGKILL does.
    pub fn kill(self) {
        self.task.abort();
    }

    pub fn metric(&self, name: &str) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry.lock().unwrap()).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().to_owned()).next().unwrap_or_default()
    }
}

impl Bench {
    /// On the API server that all tests share; none where there is none.
    pub async fn new() -> Option<Self> {
        if !ControlPlane::installed() {
            return None;
        }
        choose_cryptography();
        Some(Self::on(ControlPlane::shared().unwrap()).await)
    }

    pub async fn on(control_plane: &ControlPlane) -> Self {
        control_plane.install_crd(&OpenstackConfig::crd()).await.unwrap();
        control_plane.install_crd(&multinic_api::MultiNicNodeConfig::crd()).await.unwrap();
        let namespace = control_plane.new_namespace("cluster").await.unwrap();
        let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        let network = cloud.add_network("blue", Some(1450));
        let subnet = cloud.add_subnet(&network, "blue-v4", "10.20.0.0/24".parse().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings::sqlite(folder.path().join("multinic.db"));
        let store = Store::open(&settings).await.unwrap();
        let client = control_plane.client().unwrap();
        let config = control_plane.admin().config().unwrap();
        Self { config, client, namespace, cloud, subnet, store, settings, folder }
    }

    fn matches(&self, more: &[&str]) -> clap::ArgMatches {
        let command = ViolaArgs::augment_args(ClusterArgs::augment_args(Command::new("controller")));
        let namespace = format!("--watch-namespace={}", self.namespace);
        let own = format!("--pod-namespace={}", self.namespace);
        let args = ["controller", &own, "--reconcile-addr=127.0.0.1", "--reconcile-port=0"];
        // Its own, unless something else is said.
        let is_said = more.iter().any(|arg| arg.starts_with("--watch-namespace"));
        let watched = (!is_said).then_some(namespace.as_str());
        command.try_get_matches_from(args.iter().copied().chain(watched).chain(more.iter().copied())).unwrap()
    }

    pub fn args(&self, more: &[&str]) -> ClusterArgs {
        ClusterArgs::from_arg_matches(&self.matches(more)).unwrap()
    }

    fn viola(&self, more: &[&str]) -> ViolaArgs {
        ViolaArgs::from_arg_matches(&self.matches(more)).unwrap()
    }

    pub fn setup(&self, more: &[&str]) -> (Setup, Registry) {
        let mut registry = Registry::default();
        let cadence = Cadence {
            fast: Duration::from_millis(200),
            slow: Duration::from_millis(200),
            error: Duration::from_millis(500),
            ..Cadence::default()
        };
        let setup = Setup {
            config: self.config.clone(),
            args: self.args(more),
            store: self.store.clone(),
            gate: Gate::new(4),
            limits: FleetLimits::default(),
            retention: Duration::from_secs(7 * 24 * 3600),
            defaults: Defaults { cadence, ..Defaults::default() },
            confirmed: Default::default(),
            inventory: None,
            viola: self.viola(more),
            environment: |_| None,
            metrics: Metrics::register(&mut registry),
            cluster_metrics: ClusterMetrics::register(&mut registry),
        };
        (setup, registry)
    }

    /// Somebody else's hand in the ledger.
    pub async fn sql(&self, statement: &'static str) {
        let ledger = SqliteConnectOptions::new().filename(self.folder.path().join("multinic.db"));
        let mut connection = ledger.connect().await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    }

    /// A back-up of the ledger as it is now.
    pub async fn copy_ledger(&self, to: &std::path::Path) {
        let ledger = SqliteConnectOptions::new().filename(self.folder.path().join("multinic.db"));
        let mut connection = ledger.connect().await.unwrap();
        let to = to.to_str().unwrap().to_owned();
        sqlx::query("VACUUM INTO ?").bind(to).execute(&mut connection).await.unwrap();
    }

    /// The only controller.
    pub async fn start(&self) -> Running {
        self.start_with(&["--leader-elect=false"]).await
    }

    pub async fn start_with(&self, more: &[&str]) -> Running {
        let (setup, registry) = self.setup(more);
        run(setup, registry).await
    }

    pub fn add_node(&self, name: &str) -> ServerId {
        let server = self.cloud.add_server(name);
        self.cloud.attach(&server, &[&self.subnet]).unwrap();
        server
    }

    /// A Node of this name, which is in no namespace.
    pub async fn make_node(&self, name: &str) -> Api<Node> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        nodes.create(&PostParams::default(), &Node { metadata, ..Node::default() }).await.unwrap();
        nodes
    }

    pub fn spec(&self, vms: &[&ServerId]) -> Value {
        let vms: Vec<&str> = vms.iter().map(|id| id.as_str()).collect();
        json!({
            "vmNames": vms,
            "subnetIDs": [self.subnet.as_str()],
            "credentials": {
                "authURL": self.cloud.url().as_str(),
                "username": "operator",
                "password": PASSWORD,
                "domainName": "Default",
                "projectID": self.cloud.project().as_str(),
            },
        })
    }

    /// The same with the password in the Secret `cloud`.
    pub fn spec_with_secret(&self, vms: &[&ServerId]) -> Value {
        let mut spec = self.spec(vms);
        spec["credentials"].as_object_mut().unwrap().remove("password");
        spec["secrets"] = json!({"passwordSecretRef": {"name": "cloud", "key": "password"}});
        spec
    }

    pub fn api(&self) -> Api<DynamicObject> {
        watch::configs(self.client.clone(), Some(&self.namespace))
    }

    pub async fn apply(&self, name: &str, spec: Value) -> DynamicObject {
        self.apply_annotated(name, spec, json!({})).await
    }

    pub async fn apply_annotated(&self, name: &str, spec: Value, annotations: Value) -> DynamicObject {
        let object = json!({
            "apiVersion": "multinic.example.com/v1alpha1",
            "kind": "OpenstackConfig",
            "metadata": {"name": name, "annotations": annotations},
            "spec": spec,
        });
        let parameters = PatchParams::apply("test").force();
        self.api().patch(name, &parameters, &Patch::Apply(object)).await.unwrap()
    }

    pub async fn annotate(&self, name: &str, key: &str, value: &str) {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        self.api().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn delete(&self, name: &str) {
        self.api().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn write_secret(&self, name: &str, data: &[(&str, &str)]) {
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
            string_data: Some(
                data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ),
            ..Secret::default()
        };
        let _ = self.secrets().delete(name, &DeleteParams::default()).await;
        self.secrets().create(&PostParams::default(), &secret).await.unwrap();
    }

    pub async fn delete_secret(&self, name: &str) {
        self.secrets().delete(name, &DeleteParams::default()).await.unwrap();
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn get(&self, name: &str) -> Option<DynamicObject> {
        self.api().get_opt(name).await.unwrap()
    }

    pub async fn status(&self, name: &str) -> OpenstackConfigStatus {
        let object = self.get(name).await.unwrap();
        serde_json::from_value(object.data.get("status").cloned().unwrap_or_else(|| json!({}))).unwrap()
    }

    /// Waits until `Ready` has this reason; returns the status.
    pub async fn until_reason(&self, name: &str, reasons: &[&str]) -> OpenstackConfigStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status(name).await;
            let (_, reason, message) = condition(&status, "Ready");
            let generation = self.get(name).await.unwrap().metadata.generation;
            if reasons.contains(&reason.as_str()) && status.observed_generation == generation {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{name} is {reason} ({message}) and not {reasons:?}: {status:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn until_ready(&self, name: &str) -> OpenstackConfigStatus {
        self.until_reason(name, &["Synced", "NoChange"]).await
    }

    pub async fn published(&self) -> Published {
        self.store.published().await.unwrap()
    }

    pub async fn count(&self) -> usize {
        self.published().await.interfaces.len()
    }

    pub async fn until_count(&self, count: usize) {
        until(&format!("{count} interfaces are published"), async || self.count().await == count).await;
    }

    pub async fn until_gone(&self, name: &str) {
        until(&format!("{name} is gone"), async || self.get(name).await.is_none()).await;
    }

    pub async fn slots(&self) -> BTreeMap<String, String> {
        let rows = self.published().await.interfaces;
        rows.iter().map(|row| (row.mac().to_string(), row.slot.unwrap().interface().to_string())).collect()
    }

    pub async fn agent_reads(&self, node: &str) -> DesiredState {
        AgentSource::new(&self.settings, node.parse().unwrap()).read().await.unwrap()
    }

    pub async fn events(&self) -> Vec<Event> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        events.list(&ListParams::default()).await.unwrap().items
    }

    /// The reasons of the events about a configuration.
    pub async fn event_reasons(&self, name: &str) -> Vec<String> {
        let events = self.events().await;
        let about = |event: &&Event| {
            event.regarding.as_ref().is_some_and(|regarding| regarding.name.as_deref() == Some(name))
        };
        events.iter().filter(about).filter_map(|event| event.reason.clone()).collect()
    }

    pub async fn finalizers(&self, name: &str) -> Vec<String> {
        self.get(name).await.unwrap().finalizers().to_vec()
    }
}

/// Everything that this process logs from now on.
pub fn logs() -> Arc<Mutex<Vec<u8>>> {
    static LOGS: std::sync::OnceLock<Arc<Mutex<Vec<u8>>>> = std::sync::OnceLock::new();
    let logs = LOGS.get_or_init(|| {
        let logs = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&logs);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || Writer(Arc::clone(&writer)));
        subscriber.init();
        logs
    });
    Arc::clone(logs)
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub async fn run(setup: Setup, registry: Registry) -> Running {
    let cluster = Cluster::start(setup).await.unwrap();
    let webhook = cluster.webhook_address();
    let ready = Box::new(cluster.ready());
    let (stop, shutdown) = Shutdown::by_hand();
    let task = tokio::spawn(async { cluster.run(shutdown).await.unwrap() });
    Running { stop, task, registry: Arc::new(Mutex::new(registry)), webhook, ready }
}

/// The same on a thread of its own, as the program is, with something else that happens there.
pub fn run_beside(
    setup: Setup,
    registry: Registry,
    beside: impl Future<Output = ()> + Send + 'static,
) -> Running {
    let (stop, shutdown) = Shutdown::by_hand();
    let task = tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster::start(setup).await.unwrap();
            tokio::spawn(beside);
            cluster.run(shutdown).await.unwrap();
        });
    });
    let registry = Arc::new(Mutex::new(registry));
    Running { stop, task, registry, webhook: None, ready: Box::new(|| Ok(())) }
}

/// Status, reason and message of a condition; empty if it is not there.
pub fn condition(status: &OpenstackConfigStatus, type_: &str) -> (String, String, String) {
    let Some(condition) = status.conditions.iter().find(|condition| condition.type_ == type_) else {
        return Default::default();
    };
    (
        condition.status.clone(),
        condition.reason.clone().unwrap_or_default(),
        condition.message.clone().unwrap_or_default(),
    )
}

pub async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
