//! The inventory under load: readers in parallel, of single nodes and of whole pages.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::body::{Body, Bytes};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::http::Request;
use hyper_util::rt::TokioIo;
use multinic_store::inventory::{Entry, InventoryStore};
use multinic_store::{DatabaseSettings, Store};
use multinic_testbed::mariadb::MariaDb;
use multinic_testbed::program::{Program, find};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::figures::{Figures, Times, memory};
use crate::fleet::{NICS, NODES};

/// How many read at once, each over a connection of its own.
const READERS: usize = 8;
/// How long one kind of read goes on at most, and how often.
const LONGEST: Duration = Duration::from_secs(10);
const MOST: usize = 10_000;
const PAGE: usize = 1000;
/// How many entries are written at once.
const BATCH: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn measure(figures: &mut Figures) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let ledger = format!("sqlite://{}", folder.path().join("multinic.db").display());
    runtime.block_on(async {
        let store = InventoryStore::open(&folder.path().join("inventory.db")).await?;
        fill(&store).await?;
        store.close().await;
        read(figures, "SQLite", folder.path(), &ledger).await
    })?;
    if MariaDb::installed() {
        let server = MariaDb::start()?;
        server.create_database("bench")?;
        let url = server.url("bench");
        runtime.block_on(async {
            let store = Store::open(&DatabaseSettings::from_url(&url)?).await?;
            fill(&InventoryStore::beside(&store).await?).await?;
            store.close().await;
            read(figures, "MariaDB", folder.path(), &url).await
        })?;
    }
    Ok(())
}

async fn fill(store: &InventoryStore) -> anyhow::Result<()> {
    for from in (0..NODES).step_by(BATCH) {
        let entries: Result<Vec<Entry>, _> =
            (from..NODES.min(from + BATCH)).map(|node| Entry::new("bench", &config(node))).collect();
        store.apply(&entries?).await?;
    }
    Ok(())
}

/// A node as Viola is sent it.
fn config(node: usize) -> Value {
    let id =
        |kind: usize, nic: u8| format!("{kind:08x}-0000-4000-8000-{:012x}", node * 64 + usize::from(nic));
    let interface = |nic: u8| {
        let address = format!("10.{nic}.{}.{}", node / 256, node % 256);
        json!({
            "id": nic, "portId": id(1, nic), "name": format!("multinic{nic}"),
            "macAddress": format!("fa:16:3e:{nic:02x}:{:02x}:{:02x}", node / 256, node % 256),
            "address": address, "cidr": format!("10.{nic}.0.0/16"), "addresses": [format!("{address}/16")],
            "mtu": 1450, "deviceId": id(2, 0), "networkId": id(3, nic), "subnetId": id(4, nic),
        })
    };
    let interfaces: Vec<Value> = (0..NICS).map(interface).collect();
    json!({"nodeName": name(node), "instanceId": id(2, 0), "interfaces": interfaces})
}

fn name(node: usize) -> String {
    format!("node-{node:05}")
}

/// Starts a controller on a database that is filled and reads from it.
async fn read(figures: &mut Figures, kind: &str, folder: &Path, database: &str) -> anyhow::Result<()> {
    let mut controller = start(folder, kind, database)?;
    let address = address(&mut controller).await?;
    figures.note(format!("inventory of {NODES} nodes × {NICS} ports in {kind}, {READERS} readers at once"));
    let key = |turn: usize| {
        // Far apart, so that no two reads in a row are of neighbours.
        let node = name(turn * 7919 % NODES);
        format!("/v1/interfaces/node-configs/{node}?providerId=bench")
    };
    let one = load(&address, &key, 1).await?;
    figures.value("one node by its key", format!("{:.0} /s", one.per_second));
    figures.value("  p50", one.times.text(50));
    figures.value("  p99", one.times.text(99));
    let starts = page_starts(&address).await?;
    let page = |turn: usize| starts.get(turn % starts.len()).cloned().unwrap_or_default();
    let pages = load(&address, &page, PAGE).await?;
    figures.value("page of 1000 nodes", format!("{:.1} /s", pages.per_second));
    figures.value("  p50", pages.times.text(50));
    figures.value("  p99", pages.times.text(99));
    let peak = memory(controller.pid(), "VmHWM:").context("the controller's memory cannot be read")?;
    figures.value("peak memory of the controller, which only serves", format!("{peak:.1} MiB"));
    Ok(())
}

/// A controller that stands by, as its cluster does not answer. It serves as the leader does, and does nothing else.
fn start(folder: &Path, kind: &str, database: &str) -> anyhow::Result<Program> {
    let kubeconfig = folder.join("kubeconfig");
    let nowhere = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "nowhere",
        "clusters": [{"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}],
    });
    std::fs::write(&kubeconfig, nowhere.to_string())?;
    let mut command = Command::new(find("multinic")?);
    command.args(["controller", "--health-addr", "127.0.0.1", "--health-port", "0"]);
    command.args(["--inventory-addr", "127.0.0.1:0", "--inventory-db-path"]).arg(folder.join("inventory.db"));
    command.env("DATABASE_URL", database).env("KUBECONFIG", kubeconfig);
    Ok(Program::start("controller", command, folder.join(format!("{kind}.log")))?)
}

/// Where it serves the inventory, as its log says.
async fn address(controller: &mut Program) -> anyhow::Result<String> {
    let started = Instant::now();
    loop {
        let output = controller.output();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut served = lines.filter(|line| line["msg"] == "the inventory is served");
        if let Some(address) = served.next().as_ref().and_then(|line| line["address"].as_str()) {
            return Ok(address.to_owned());
        }
        let running = controller.is_running() && started.elapsed() < PATIENCE;
        ensure!(running, "the inventory is not served:\n{}", controller.last_lines(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The addresses of all pages, each of which begins where the one before ends.
async fn page_starts(address: &str) -> anyhow::Result<Vec<String>> {
    let first = format!("/v1/interfaces/node-configs?providerId=bench&limit={PAGE}");
    let (mut starts, mut next) = (Vec::new(), Some(first.clone()));
    let mut connection = connect(address).await?;
    while let Some(path) = next {
        let (_, token) = get(&mut connection, address, &path).await?;
        next = token.map(|token| format!("{first}&continue={token}"));
        starts.push(path);
    }
    ensure!(starts.len() == NODES.div_ceil(PAGE), "there are {} pages", starts.len());
    Ok(starts)
}

/// What came of one kind of read.
struct Load {
    per_second: f64,
    times: Times,
}

/// Reads from many connections at once. The answers must hold `records` records each.
async fn load(
    address: &str,
    path: &(impl Fn(usize) -> String + Sync),
    records: usize,
) -> anyhow::Result<Load> {
    let turn = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let readers = (0..READERS).map(|_| {
        let turn = Arc::clone(&turn);
        async move {
            let mut connection = connect(address).await?;
            let mut took = Vec::new();
            while started.elapsed() < LONGEST {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                if turn >= MOST {
                    break;
                }
                let path = path(turn);
                let asked = Instant::now();
                let (body, _) = get(&mut connection, address, &path).await?;
                took.push(asked.elapsed());
                // To count takes longer than to read: the first answer stands for those that follow.
                if took.len() == 1 {
                    let found = body.windows(13).filter(|text| text == b"\"providerId\":").count();
                    ensure!(found == records, "{path}: {found} records");
                }
            }
            anyhow::Ok(took)
        }
    });
    let done = futures_util::future::try_join_all(readers).await?;
    let elapsed = started.elapsed();
    let mut times = Times::default();
    done.into_iter().flatten().for_each(|took| times.push(took));
    #[allow(clippy::cast_precision_loss, reason = "some thousands are exact")]
    let per_second = times.count() as f64 / elapsed.as_secs_f64();
    Ok(Load { per_second, times })
}

async fn connect(address: &str) -> anyhow::Result<SendRequest<Body>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// An answer's body, and the token of the next page.
async fn get(
    connection: &mut SendRequest<Body>,
    address: &str,
    path: &str,
) -> anyhow::Result<(Bytes, Option<String>)> {
    connection.ready().await?;
    let request = Request::get(path).header("host", address).body(Body::empty())?;
    let answer = connection.send_request(request).await.with_context(|| path.to_owned())?;
    ensure!(answer.status().is_success(), "{path}: {}", answer.status());
    let token = answer.headers().get("x-continue").and_then(|token| token.to_str().ok()).map(str::to_owned);
    Ok((axum::body::to_bytes(Body::new(answer.into_body()), usize::MAX).await?, token))
}
