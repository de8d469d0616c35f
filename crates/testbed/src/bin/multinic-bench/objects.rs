//! A fleet as MultiNicNodeConfig objects on a real API server: published by a controller that knows nothing, and then
//! looked at again.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hyper::http::Request;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use multinic_api::{MultiNicNodeConfig, OpenstackConfig, RECONCILE_AT_ANNOTATION, definitions};
use multinic_testbed::kubernetes::ControlPlane;
use multinic_testbed::program::{Program, find};
use serde_json::json;

use crate::figures::{Figures, memory, processor_ticks};
use crate::fleet::{Fleet, NICS, NODES};

/// The goal for a controller that holds a whole fleet.
const MEMORY_LIMIT_MIB: f64 = 150.0;
/// A pass in which nothing changed costs at most this part of the processor time of the cold one.
const UNCHANGED_PERCENT: f64 = 1.0;
/// How many passes without a change are measured.
const UNCHANGED: u32 = 3;
/// A cold pass that takes longer than this is broken rather than slow.
const PATIENCE: Duration = Duration::from_secs(900);
/// How often the API server is asked how far it is. Each time costs it something.
const ASKING: Duration = Duration::from_millis(500);
/// How long the controller must have used no processor time to be at rest.
const REST: Duration = Duration::from_secs(1);
const CONFIG: &str = "fleet";

struct Bench {
    client: Client,
    configs: Api<OpenstackConfig>,
    objects: Api<MultiNicNodeConfig>,
    controller: Program,
}

/// What the first pass took.
struct Cold {
    took: Duration,
    writing: Duration,
    ticks: u64,
    peak_mib: f64,
    synced: String,
}

pub fn measure(figures: &mut Figures, plane: &ControlPlane) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let folder = tempfile::tempdir()?;
    runtime.block_on(run(figures, plane, folder.path()))
}

async fn run(figures: &mut Figures, plane: &ControlPlane, folder: &Path) -> anyhow::Result<()> {
    for definition in definitions::all() {
        plane.install_crd(&definition).await?;
    }
    let namespace = plane.new_namespace("objects").await?;
    let client = plane.client()?;
    let configs = Api::namespaced(client.clone(), &namespace);
    let objects = Api::namespaced(client.clone(), &namespace);
    let fleet = Fleet::start().await?;
    let mut config = fleet.config();
    if let Some(credentials) = config.pointer_mut("/spec/credentials").and_then(|it| it.as_object_mut()) {
        // With a provider the controller keeps the inventory too.
        credentials.insert("k8sProviderID".to_owned(), json!("bench"));
    }
    configs.create(&PostParams::default(), &serde_json::from_value(config)?).await?;

    let started = Instant::now();
    let controller = start(plane, folder, &namespace)?;
    let mut bench = Bench { client, configs, objects, controller };
    let cold = bench.cold(started).await?;
    let size = bench.size_of_one().await?;
    let before = bench.writes().await?;
    // The first pass after a change looks at what came of it, and goes through everything for that.
    let settling = bench.unchanged(&cold.synced).await?;
    let (mut ticks, mut took, mut synced) = (0, Duration::ZERO, settling.synced);
    for _ in 0..UNCHANGED {
        let pass = bench.unchanged(&synced).await?;
        ticks += pass.ticks;
        took += pass.took;
        synced = pass.synced;
    }
    let peak = memory(bench.controller.pid(), "VmHWM:").context("the controller's memory cannot be read")?;
    let writes = bench.writes().await? - before;

    figures.note(format!("controller in a cluster, {NODES} nodes × {NICS} ports, real API server and etcd"));
    figures.value("cold pass, from start to Ready", format!("{:.1} s", cold.took.as_secs_f64()));
    #[allow(clippy::cast_precision_loss, reason = "ten thousand is exact")]
    let rate = NODES as f64 / cold.writing.as_secs_f64();
    figures.value("  objects per second, from the first to the last", format!("{rate:.0} /s"));
    figures.value("  size of an object with its managed fields", format!("{:.1} KiB", size / 1024.0));
    figures.value("  processor time", format!("{:.1} s", seconds(cold.ticks)));
    figures.limit("  peak memory", cold.peak_mib, "MiB", MEMORY_LIMIT_MIB);
    figures.value(
        "the pass after it, which sees that all is as it should be",
        format!("{:.1} s", settling.took.as_secs_f64()),
    );
    figures.value("  processor time", format!("{:.1} s", seconds(settling.ticks)));
    let took = took / UNCHANGED;
    figures.value("unchanged pass, from the request to the status", format!("{:.1} s", took.as_secs_f64()));
    let each = seconds(ticks) / f64::from(UNCHANGED);
    figures.value("  processor time", format!("{each:.2} s"));
    let percent = 100.0 * each / seconds(cold.ticks);
    figures.limit("  of the cold pass's", percent, "%", UNCHANGED_PERCENT);
    figures.value("  peak memory since the start", format!("{peak:.2} MiB"));
    figures.check("  no object is written", writes == 0);
    Ok(())
}

fn start(plane: &ControlPlane, folder: &Path, namespace: &str) -> anyhow::Result<Program> {
    let kubeconfig = folder.join("kubeconfig");
    plane.admin().write_kubeconfig(&kubeconfig)?;
    let mut command = Command::new(find("multinic")?);
    command.args(["controller", "--health-addr", "127.0.0.1", "--health-port", "0"]);
    command.args(["--pod-namespace", namespace, "--watch-namespace", namespace]);
    // No pass but those that are asked for.
    command.args(["--poll-fast-interval", "1h", "--poll-slow-interval", "1h"]);
    command.args(["--inventory-addr", "127.0.0.1:0", "--inventory-db-path"]).arg(folder.join("inventory.db"));
    command.env("DATABASE_URL", format!("sqlite://{}", folder.join("multinic.db").display()));
    command.env("KUBECONFIG", kubeconfig);
    // As deploy/controller has it.
    command.env("MALLOC_ARENA_MAX", "1");
    Ok(Program::start("controller", command, folder.join("controller.log"))?)
}

impl Bench {
    async fn cold(&mut self, started: Instant) -> anyhow::Result<Cold> {
        let (mut first, mut last) = (None, None);
        while last.is_none() {
            self.check(started)?;
            let count = self.count().await?;
            // The moment at which some were there already is as good as the first: they are counted from there on.
            if first.is_none() && count > 0 {
                first = Some(started.elapsed());
            }
            if count >= NODES {
                last = Some(started.elapsed());
            }
            tokio::time::sleep(ASKING).await;
        }
        let synced = self.synced(None, started).await?;
        let took = started.elapsed();
        let ticks = self.rest(started).await?;
        let pid = self.controller.pid();
        Ok(Cold {
            took,
            writing: last.unwrap_or_default() - first.unwrap_or_default(),
            ticks,
            peak_mib: memory(pid, "VmHWM:").context("the controller's memory cannot be read")?,
            synced,
        })
    }

    async fn unchanged(&mut self, before: &str) -> anyhow::Result<Pass> {
        let ticks = processor_ticks(self.controller.pid())?;
        let now = format!("{:?}", std::time::SystemTime::now());
        let patch = json!({"metadata": {"annotations": {RECONCILE_AT_ANNOTATION: now}}});
        let started = Instant::now();
        self.configs.patch_metadata(CONFIG, &PatchParams::default(), &Patch::Merge(patch)).await?;
        let synced = self.synced(Some(before), started).await?;
        let took = started.elapsed();
        Ok(Pass { took, ticks: self.rest(started).await? - ticks, synced })
    }

    /// Waits until the configuration is Ready, as of a later time than `before`, which is returned.
    async fn synced(&mut self, before: Option<&str>, started: Instant) -> anyhow::Result<String> {
        loop {
            self.check(started)?;
            let status = self.configs.get(CONFIG).await?.status.unwrap_or_default();
            let ready = status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
            match status.last_synced_at {
                Some(at) if ready && before != Some(at.as_str()) => return Ok(at),
                _ => tokio::time::sleep(ASKING).await,
            }
        }
    }

    /// Waits until the controller has nothing to do. Returns the processor time that it has used so far.
    async fn rest(&mut self, started: Instant) -> anyhow::Result<u64> {
        let mut ticks = processor_ticks(self.controller.pid())?;
        loop {
            self.check(started)?;
            tokio::time::sleep(REST).await;
            let now = processor_ticks(self.controller.pid())?;
            // A lease is renewed every few seconds.
            if now <= ticks + 1 {
                return Ok(now);
            }
            ticks = now;
        }
    }

    fn check(&mut self, started: Instant) -> anyhow::Result<()> {
        let said = || self.controller.last_lines(10);
        ensure!(started.elapsed() < PATIENCE, "not done after {} s:\n{}", PATIENCE.as_secs(), said());
        ensure!(self.controller.is_running(), "the controller ended:\n{}", self.controller.last_lines(10));
        Ok(())
    }

    /// How many objects there are.
    async fn count(&self) -> anyhow::Result<usize> {
        let list = self.objects.list_metadata(&ListParams::default().limit(1)).await?;
        let more = list.metadata.remaining_item_count.unwrap_or_default();
        Ok(list.items.len() + usize::try_from(more)?)
    }

    /// The size of an object in JSON.
    async fn size_of_one(&self) -> anyhow::Result<f64> {
        let list = self.objects.list(&ListParams::default().limit(1)).await?;
        let object = list.items.first().context("there is no object")?;
        let complete = object.spec.interfaces.len() == usize::from(NICS);
        ensure!(complete, "an object has {} interfaces", object.spec.interfaces.len());
        #[allow(clippy::cast_precision_loss, reason = "some kilobytes are exact")]
        Ok(serde_json::to_vec(object)?.len() as f64)
    }

    /// How many writes of objects the API server has taken.
    async fn writes(&self) -> anyhow::Result<u64> {
        let text = self.client.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        let of_objects = |line: &&str| {
            line.starts_with("apiserver_request_total{")
                && line.contains("resource=\"multinicnodeconfigs\"")
                && ["APPLY", "DELETE", "PATCH", "POST", "PUT"]
                    .iter()
                    .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
        };
        let counts =
            text.lines().filter(of_objects).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }
}

/// What a pass took in which nothing changed.
struct Pass {
    took: Duration,
    ticks: u64,
    synced: String,
}

/// Ticks of 10 ms in seconds.
fn seconds(ticks: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "processor time of minutes is exact")]
    let ticks = ticks as f64;
    ticks / 100.0
}
