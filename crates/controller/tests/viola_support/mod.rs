//! A Viola API in front of a real API server.

#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kube::{Api, CustomResourceExt as _};
use multinic_api::MultiNicNodeConfig;
use multinic_controller::sinks::kubernetes::kubeconfig::choose_cryptography;
use multinic_controller::viola::Viola;
use multinic_controller::viola::settings::{Settings, StartError};
use multinic_controller::viola::target::Link;
use multinic_telemetry::shutdown::{Shutdown, ShutdownRequest};
use multinic_testbed::kubernetes::ControlPlane;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A generous time for anything that happens by itself.
pub const LIMIT: Duration = Duration::from_secs(60);

pub struct World {
    pub shared: &'static ControlPlane,
    pub namespace: String,
    pub api: Api<MultiNicNodeConfig>,
    folder: TempDir,
}

impl World {
    /// None where there is no API server to test on.
    pub async fn new() -> Option<Self> {
        if !ControlPlane::installed() {
            return None;
        }
        choose_cryptography();
        let shared = ControlPlane::shared().unwrap();
        shared.install_crd(&MultiNicNodeConfig::crd()).await.unwrap();
        let namespace = shared.new_namespace("viola").await.unwrap();
        let api = Api::namespaced(shared.client().unwrap(), &namespace);
        let folder = tempfile::tempdir().unwrap();
        shared.admin().write_kubeconfig(&folder.path().join("admin")).unwrap();
        Some(Self { shared, namespace, api, folder })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everybody to the shared cluster.
    pub fn settings(&self) -> Settings {
        let local = Some(Link::Kubeconfig(self.file("admin")));
        Settings { namespace: self.namespace.clone(), local, ..bare_settings(None) }
    }

    pub fn routing(&self, text: &str) -> Settings {
        let path = self.file("routing.yaml");
        std::fs::write(&path, text).unwrap();
        Settings { routing: Some(path), ..self.settings() }
    }

    pub async fn server(&self) -> Server {
        Server::start(self.settings()).await
    }

    pub async fn get(&self, name: &str) -> MultiNicNodeConfig {
        self.api.get(name).await.unwrap()
    }
}

pub fn bare_settings(routing: Option<PathBuf>) -> Settings {
    Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        namespace: "default".to_owned(),
        routing,
        local: None,
        limit: Duration::from_secs(60),
        tokens: None,
        tls: None,
    }
}

#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    routing: Option<PathBuf>,
    local: Option<Link>,
    namespace: String,
    stop: ShutdownRequest,
    running: JoinHandle<()>,
    client: reqwest::Client,
}

impl Server {
    pub async fn start(settings: Settings) -> Self {
        Self::try_start(settings).await.unwrap()
    }

    pub async fn try_start(settings: Settings) -> Result<Self, StartError> {
        let (routing, local) = (settings.routing.clone(), settings.local.clone());
        let namespace = settings.namespace.clone();
        let viola = Viola::start(settings, &mut Registry::default()).await?;
        let (stop, shutdown) = Shutdown::by_hand();
        let address = viola.address();
        let running = tokio::spawn(viola.serve(shutdown));
        Ok(Self { address, routing, local, namespace, stop, running, client: reqwest::Client::new() })
    }

    pub async fn restart(self) -> Self {
        let Self { address: _, routing, local, namespace, stop, running, client } = self;
        drop(client);
        stop.now();
        running.await.unwrap();
        Self::start(Settings { namespace, local, ..bare_settings(routing) }).await
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn post_text(&self, provider: Option<&str>, body: &str) -> (u16, String) {
        let url = format!("{}/v1/k8s/multinic/node-configs", self.url());
        let mut request = self.client.post(url).body(body.to_owned());
        if let Some(provider) = provider {
            request = request.header("x-provider-id", provider);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn post(&self, provider: Option<&str>, body: &Value) -> (u16, Value) {
        let (status, text) = self.post_text(provider, &body.to_string()).await;
        let body = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status} {text}: {error}"));
        (status, body)
    }

    pub async fn post_as(&self, token: Option<&str>, body: &Value) -> u16 {
        let url = format!("{}/v1/k8s/multinic/node-configs", self.url());
        let mut request = self.client.post(url).body(body.to_string());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap().status().as_u16()
    }

    pub async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let url = format!("{}{path}", self.url());
        let answer = self.client.request(method.parse().unwrap(), url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn status(&self, method: &str, path: &str) -> u16 {
        let url = format!("{}{path}", self.url());
        self.client.request(method.parse().unwrap(), url).send().await.unwrap().status().as_u16()
    }
}

/// A node as an operator posts it: a MAC address in capitals, and no list of addresses.
pub fn node(name: &str, nics: &[u8]) -> Value {
    let nic = |n: &u8| {
        json!({
            "id": n, "portId": format!("port-{n}"), "name": format!("multinic{n}"),
            "macAddress": format!("FA:16:3E:00:00:{n:02X}"), "address": format!("10.0.0.{}", n + 10),
            "cidr": "10.0.0.0/24", "mtu": 1450, "deviceId": "server-a", "networkId": "net-a", "subnetId": "subnet-a"
        })
    };
    let interfaces: Vec<Value> = nics.iter().map(nic).collect();
    json!({"nodeName": name, "instanceId": "server-a", "interfaces": interfaces})
}

pub async fn until(what: &str, check: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !check().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub mod cluster {
    use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleRef, Subject};
    use kube::Api;
    use kube::api::{ObjectMeta, PostParams};
    use multinic_testbed::kubernetes::ControlPlane;
    use secrecy::ExposeSecret as _;

    /// The token of a service account that may do everything.
    pub async fn admin_account(plane: &ControlPlane, namespace: &str, name: &str) -> String {
        let account = plane.service_account(namespace, name).await.unwrap();
        let binding = ClusterRoleBinding {
            metadata: ObjectMeta { name: Some(format!("{namespace}-{name}")), ..ObjectMeta::default() },
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".to_owned(),
                kind: "ClusterRole".to_owned(),
                name: "cluster-admin".to_owned(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: name.to_owned(),
                namespace: Some(namespace.to_owned()),
                ..Subject::default()
            }]),
        };
        let bindings: Api<ClusterRoleBinding> = Api::all(plane.client().unwrap());
        bindings.create(&PostParams::default(), &binding).await.unwrap();
        account.token().unwrap().expose_secret().to_owned()
    }
}
