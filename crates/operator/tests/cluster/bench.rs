//! A control plane with an operator, and hands for what no kubelet does here.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::http::Request;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::client::Body;
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt as _};
use multinic_api::{MultiNicOperator, MultiNicOperatorStatus, definitions};
use multinic_operator::Operator;
use multinic_operator::kinds::{KINDS, Key, Kind};
use multinic_operator::metrics::Metrics;
use multinic_operator::observe::observe;
use multinic_operator::settings::{OperatorArgs, WebhookArgs};
use multinic_telemetry::shutdown::{Shutdown, ShutdownRequest};
use multinic_testbed::kubernetes::ControlPlane;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub const NAMESPACE: &str = "multinic-system";
/// Where the API server says that it is. It listens on loopback, which API servers do not tell anybody.
pub const ADVERTISED: &str = "10.40.0.5";
/// Two busy cores need a part of it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Turns in which nothing is written, one after another, before it counts as calm.
const CALM: usize = 5;
/// Until then. Two busy cores need a part of it.
const REST: Duration = Duration::from_secs(180);
pub const WEEK: Duration = Duration::from_secs(7 * 86_400);

pub struct Bench {
    // Before the control plane, without which it would complain.
    running: Option<(ShutdownRequest, JoinHandle<()>)>,
    pub client: Client,
    pub control_plane: ControlPlane,
    as_shipped: Client,
    /// Where API servers ask, once they did.
    port: u16,
    /// Those of all operators that ran here but for such as ran beside another.
    metrics: Metrics,
}

impl Bench {
    /// With the definitions and `deploy/operator`, and without an operator that runs. None where a part is missing that is not
    /// required.
    pub async fn empty() -> Option<Self> {
        if !ControlPlane::controllers_installed() {
            return None;
        }
        let mut control_plane =
            ControlPlane::options().argument(&format!("--advertise-address={ADVERTISED}")).start().unwrap();
        control_plane.start_controllers().unwrap();
        for definition in definitions::all() {
            control_plane.install_crd(&definition).await.unwrap();
        }
        let client = control_plane.client().unwrap();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        namespaces.patch(NAMESPACE, &PatchParams::apply("test"), &Patch::Apply(namespace)).await.unwrap();
        for object in shipped(&["serviceaccount.yaml", "rbac.yaml"]) {
            apply(&client, &object).await;
        }
        let account = control_plane.service_account(NAMESPACE, "multinic-operator").await.unwrap();
        let mut config = account.config().unwrap();
        config.default_retry = false;
        let as_shipped = Client::try_from(config).unwrap();
        Some(Self { running: None, client, control_plane, as_shipped, port: 0, metrics: Metrics::default() })
    }

    /// The same with an operator that runs.
    pub async fn start() -> Option<Self> {
        let mut bench = Self::empty().await?;
        bench.run();
        Some(bench)
    }

    /// Starts the operator.
    pub fn run(&mut self) {
        self.running = Some(self.start_one(self.metrics.clone()));
    }

    /// Starts another one beside it, whose turns do not count.
    pub fn run_another(&self) -> (ShutdownRequest, JoinHandle<()>) {
        self.start_one(Metrics::default())
    }

    fn start_one(&self, metrics: Metrics) -> (ShutdownRequest, JoinHandle<()>) {
        let (request, shutdown) = Shutdown::by_hand();
        (request, tokio::spawn(self.operator(own_certificate(WEEK), metrics).run(shutdown)))
    }

    fn operator(&self, webhook: WebhookArgs, metrics: Metrics) -> Operator {
        let args =
            OperatorArgs { pod_namespace: NAMESPACE.to_owned(), pod_name: Some("test".to_owned()), webhook };
        Operator::new(self.as_shipped.clone(), &args, metrics).unwrap()
    }

    /// Starts the operator, and lets API servers ask it. Nobody routes to pods here, so its Service is a name for this machine.
    pub async fn run_asked(&mut self, webhook: WebhookArgs) {
        let operator = self.operator(webhook, self.metrics.clone());
        let listening = operator.webhook().bind(Ipv4Addr::LOCALHOST.into(), self.port).unwrap();
        self.port = listening.port();
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "multinic-operator"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        });
        let services: Api<Service> = Api::namespaced(self.client.clone(), NAMESPACE);
        let parameters = PatchParams::apply("test");
        services.patch("multinic-operator", &parameters, &Patch::Apply(service)).await.unwrap();
        let (request, shutdown) = Shutdown::by_hand();
        let both = async move {
            tokio::join!(operator.run(shutdown.clone()), listening.serve(shutdown));
        };
        self.running = Some((request, tokio::spawn(both)));
    }

    /// Stops the operator.
    pub async fn stop(&mut self) {
        let (request, task) = self.running.take().unwrap();
        request.now();
        task.await.unwrap();
    }

    /// Ends the operator wherever it is just now, as a node does that loses its power.
    pub async fn kill(&mut self) {
        let (_request, task) = self.running.take().unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }

    /// How many turns were made.
    fn turns(&self) -> u64 {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let counts = text.lines().filter(|line| line.starts_with("multinic_operator_reconcile_total"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Returns after a turn that began after this call.
    pub async fn turn(&self, name: &str) {
        // The first may have begun before.
        for _ in 0..2 {
            let before = self.turns();
            let look = json!({"metadata": {"annotations": {"look": format!("again after {before}")}}});
            self.operators().patch(name, &PatchParams::default(), &Patch::Merge(look)).await.unwrap();
            self.until("a turn was made", async || self.turns() > before).await;
        }
    }

    /// What events of this reason say.
    pub async fn events(&self, reason: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), NAMESPACE);
        let list = events.list(&ListParams::default()).await.unwrap();
        let found = list.items.into_iter().filter(|event| event.reason.as_deref() == Some(reason));
        found.filter_map(|event| event.note).collect()
    }

    pub fn operators(&self) -> Api<MultiNicOperator> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Says what is wanted, as a user's `kubectl apply` does.
    pub async fn want(&self, name: &str, spec: Value) {
        self.try_want(name, spec).await.unwrap();
    }

    /// The same, where the API server may refuse it.
    pub async fn try_want(&self, name: &str, spec: Value) -> kube::Result<MultiNicOperator> {
        let object = json!({
            "apiVersion": "multinic.example.com/v1alpha1", "kind": "MultiNicOperator",
            "metadata": {"name": name}, "spec": spec,
        });
        self.operators().patch(name, &PatchParams::apply("user").force(), &Patch::Apply(object)).await
    }

    pub async fn status(&self, name: &str) -> MultiNicOperatorStatus {
        self.operators().get(name).await.unwrap().status.unwrap_or_default()
    }

    /// Waits until the spec as it is now is carried out, and all is ready; what there is of pods is made ready.
    pub async fn until_running(&self, name: &str) {
        self.until(&format!("{name} is Running"), async || {
            self.be_the_kubelet().await;
            let object = self.operators().get(name).await.unwrap();
            let status = object.status.unwrap_or_default();
            status.observed_generation == object.metadata.generation
                && status.phase.as_deref() == Some("Running")
        })
        .await;
    }

    pub async fn until(&self, what: &str, mut is: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is().await {
            if Instant::now() > deadline {
                let list = self.operators().list(&ListParams::default()).await.unwrap();
                let statuses: Vec<_> = list.items.into_iter().map(|object| object.status).collect();
                panic!("waited in vain until {what}: {statuses:#?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn get(&self, group: &str, kind: &str, name: &str) -> Option<Value> {
        let key = key(group, kind, name);
        let object = key.api(self.client.clone()).get_opt(name).await.unwrap();
        object.map(|object| serde_json::to_value(object).unwrap())
    }

    /// Changes an object as somebody else.
    pub async fn meddle(&self, group: &str, kind: &str, name: &str, patch: Value) {
        let api = key(group, kind, name).api(self.client.clone());
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Deletes the object of this path.
    pub async fn forget(&self, path: &str, name: &str) {
        let request = Request::delete(format!("{path}/{name}")).body(Body::empty()).unwrap();
        self.client.send(request).await.unwrap();
    }

    pub async fn delete(&self, group: &str, kind: &str, name: &str) {
        let api = key(group, kind, name).api(self.client.clone());
        api.delete(name, &DeleteParams::background()).await.unwrap();
    }

    /// Everything that an operator made, with its version.
    pub async fn made(&self) -> BTreeMap<String, String> {
        let observed = observe(&self.client, NAMESPACE).await.unwrap();
        let objects = observed.objects.into_iter();
        objects.map(|(key, metadata)| (key.to_string(), metadata.resource_version.unwrap())).collect()
    }

    /// All objects and their versions, and what is told of them.
    pub async fn versions(&self, name: &str) -> BTreeMap<String, String> {
        let mut versions = self.made().await;
        let told = self.status(name).await.last_updated.unwrap_or_default();
        versions.insert("what is told".to_owned(), told);
        versions
    }

    /// Returns when nothing was written in some turns.
    pub async fn until_calm(&self, name: &str) {
        let deadline = Instant::now() + REST;
        let mut calm = 0;
        while calm < CALM {
            let before = self.versions(name).await;
            self.turn(name).await;
            let after = self.versions(name).await;
            let written: Vec<_> = after.iter().filter(|(name, it)| before.get(*name) != Some(it)).collect();
            calm = if before == after { calm + 1 } else { 0 };
            assert!(Instant::now() < deadline, "it does not come to rest: {written:?}");
            self.be_the_kubelet().await;
        }
    }

    /// Every pod says that it runs and is ready.
    pub async fn be_the_kubelet(&self) {
        self.be_the_kubelet_of("").await;
    }

    /// The same for pods whose names begin so.
    pub async fn be_the_kubelet_of(&self, begin: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        for pod in pods.list(&ListParams::default()).await.unwrap() {
            let is_ready = |pod: &Pod| {
                let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
                conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
            };
            let name = pod.name_any();
            if !name.starts_with(begin) {
                continue;
            }
            if pod.metadata.deletion_timestamp.is_some() {
                let at_once = DeleteParams::default().grace_period(0);
                let _ = pods.delete(&name, &at_once).await;
            } else if !is_ready(&pod) {
                let status = json!({"status": {
                    "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                }});
                // It may be gone by now.
                let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
            }
        }
    }
}

/// A certificate that the operator makes itself.
pub fn own_certificate(lifetime: Duration) -> WebhookArgs {
    WebhookArgs { webhook_cert_secret: None, webhook_cert_lifetime: lifetime }
}

fn key(group: &str, kind: &str, name: &str) -> Key {
    let kind = Kind::find(group, kind).unwrap_or_else(|| panic!("{group} {kind} among {KINDS:?}"));
    let namespace = kind.is_namespaced.then(|| NAMESPACE.to_owned());
    Key { kind, namespace, name: name.to_owned() }
}

/// Objects of `deploy/operator`.
pub fn shipped(files: &[&str]) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/operator");
    let texts = files.iter().map(|file| fs::read_to_string(folder.join(file)).unwrap());
    texts.flat_map(|text| serde_saphyr::from_multiple::<Value>(&text).unwrap()).collect()
}

/// Applies any object of a kind that the operator knows.
pub async fn apply(client: &Client, object: &Value) {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let group = text("/apiVersion").unwrap().split_once('/').map_or("", |(group, _)| group);
    let kind = Kind::find(group, text("/kind").unwrap()).unwrap();
    let resource: ApiResource = kind.resource();
    let api: Api<DynamicObject> = match text("/metadata/namespace") {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = text("/metadata/name").unwrap();
    api.patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await.unwrap();
}
