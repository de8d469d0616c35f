//! An inventory that is served, and what goes into it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use clap::Parser;
use multinic_controller::inventory::Inventory;
use multinic_controller::inventory::access::Access;
use multinic_controller::inventory::server::Limits;
use multinic_controller::inventory::settings::InventoryArgs;
use multinic_store::inventory::{Entry, RecordKey};
use multinic_store::{DatabaseSettings, Store};
use multinic_telemetry::shutdown::{Shutdown, ShutdownRequest};
use multinic_testbed::mariadb::MariaDb;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

static SERVER: LazyLock<Option<MariaDb>> =
    LazyLock::new(|| MariaDb::installed().then(|| MariaDb::start().expect("a MariaDB server")));

/// An empty database on the server that these tests share, if it is installed.
pub async fn mariadb(name: &str) -> Option<Store> {
    let server = SERVER.as_ref()?;
    server.create_database(name).unwrap();
    Some(Store::open(&DatabaseSettings::from_url(&server.url(name)).unwrap()).await.unwrap())
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    inventory: InventoryArgs,
}

pub fn settings(arguments: &[&str]) -> InventoryArgs {
    Command::parse_from(["multinic"].iter().chain(arguments)).inventory
}

pub struct Served {
    pub inventory: Inventory,
    pub at: SocketAddr,
    pub client: Client,
    request: ShutdownRequest,
    task: JoinHandle<()>,
}

impl Served {
    pub async fn new(inventory: Inventory) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (request, shutdown) = Shutdown::by_hand();
        let served = inventory.clone();
        let task = tokio::spawn(async move { served.serve(listener, shutdown).await });
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { inventory, at, client, request, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "application/json");
        response.json().await.unwrap()
    }

    /// Status and text of an answer in text.
    pub async fn text(&self, path: &str) -> (u16, String) {
        let response = self.get(path).await;
        let status = response.status().as_u16();
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8", "{path}");
        (status, response.text().await.unwrap())
    }

    pub async fn stop(self) {
        self.request.now();
        tokio::time::timeout(Duration::from_secs(60), self.task).await.expect("it stops").unwrap();
    }
}

/// A served inventory in a SQLite file of its own.
pub struct Bench {
    pub served: Served,
    pub folder: TempDir,
}

impl std::ops::Deref for Bench {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(&[], Limits::default(), None).await
    }

    pub async fn with(arguments: &[&str], limits: Limits, access: Option<Access>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("inventory.db");
        let mut all = vec!["--inventory-db-path", path.to_str().unwrap()];
        all.extend(arguments);
        let inventory = Inventory::open(&settings(&all), None).await.unwrap().with_limits(limits);
        let inventory = match access {
            Some(access) => inventory.with_access(access),
            None => inventory,
        };
        Self { served: Served::new(inventory).await, folder }
    }
}

pub fn config(node: &str, instance: &str, mtu: u32) -> Value {
    json!({"nodeName": node, "instanceId": instance, "interfaces": [{
        "id": 0, "portId": format!("port-{node}"), "name": "multinic0", "macAddress": "fa:16:3e:00:00:01",
        "address": "10.0.0.10", "cidr": "10.0.0.0/24", "mtu": mtu, "deviceId": instance,
        "networkId": "net-a", "subnetId": "sub-a", "addresses": ["10.0.0.10/24"],
    }]})
}

pub fn entry(provider: &str, node: &str, instance: &str) -> Entry {
    Entry::new(provider, &config(node, instance, 1450)).unwrap()
}

pub fn changed(provider: &str, node: &str, instance: &str, mtu: u32) -> Entry {
    Entry::new(provider, &config(node, instance, mtu)).unwrap()
}

pub fn key(provider: &str, node: &str) -> RecordKey {
    RecordKey { provider_id: provider.into(), node_name: node.into() }
}

pub fn names(records: &Value) -> Vec<String> {
    let name = |record: &Value| {
        format!("{}/{}", record["providerId"].as_str().unwrap(), record["nodeName"].as_str().unwrap())
    };
    records.as_array().unwrap().iter().map(name).collect()
}

/// Waits for something that takes as long as the machine needs.
pub async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !check().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
