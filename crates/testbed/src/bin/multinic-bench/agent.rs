//! The agent on real kernel links: how soon a NIC is configured, how soon repaired, and what it costs to wait.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipnet::IpNet;
use multinic_core::MacAddr;
use multinic_host::netlink::Netlink;
use multinic_store::{DatabaseSettings, Store};
use multinic_testbed::node::{NetNs, Switch};
use multinic_testbed::program::{Program, find};
use multinic_testbed::publication::one_nic;

use crate::figures::{Figures, Times, memory, processor_ticks};

/// How many times each is measured. The 99th percentile needs a hundred.
const ROUNDS: usize = 120;
/// Rounds that are not counted: the first of each kind loads pages and, where netplan is installed, asks it once.
const WARM_UP: usize = 5;
const CONFIGURED_P50: f64 = 20.0;
const CONFIGURED_P99: f64 = 100.0;
const REPAIRED_P99: f64 = 100.0;
const MEMORY_MIB: f64 = 12.0;
/// How long the agent is watched while nothing happens.
const IDLE: Duration = Duration::from_secs(60);
/// At most one wake-up in 5 s.
const WAKE_UPS: f64 = 0.2;
const PATIENCE: Duration = Duration::from_secs(10);

struct Bench {
    node: NetNs,
    switch: Switch,
    root: PathBuf,
    agent: Program,
    mac: MacAddr,
    net: IpNet,
}

pub fn measure(figures: &mut Figures) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut bench = start(folder.path())?;
    figures.note("agent, one NIC in a namespace, SQLite, debug assertions off");
    let bare = bare_calls(&mut bench, folder.path())?;
    let configured = configured(&mut bench)?;
    let repaired = repaired(&mut bench)?;
    figures.value("bare rtnetlink calls and one fsynced file: p50", bare.text(50));
    figures.value("  p99", bare.text(99));
    figures.limit(
        "NIC appears → verified and committed: p50",
        configured.milliseconds(50),
        "ms",
        CONFIGURED_P50,
    );
    figures.limit("  p99", configured.milliseconds(99), "ms", CONFIGURED_P99);
    figures.value(
        "  p50 in terms of the bare calls",
        format!("× {:.1}", configured.milliseconds(50) / bare.milliseconds(50)),
    );
    figures.value("address removed → there again: p50", repaired.text(50));
    figures.limit("  p99", repaired.milliseconds(99), "ms", REPAIRED_P99);
    idle(figures, &mut bench)
}

fn start(folder: &Path) -> anyhow::Result<Bench> {
    let (node, switch) = (NetNs::new("bench")?, Switch::new()?);
    let root = folder.join("root");
    fs::create_dir_all(root.join("etc/netplan"))?;
    let mac: MacAddr = "fa:16:3e:00:00:01".parse()?;
    let net: IpNet = "10.99.0.10/24".parse()?;
    let database = folder.join("multinic.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(&DatabaseSettings::sqlite(&database)).await?;
        store.publish(&one_nic("bench", mac, net)?).await?;
        store.close().await;
        anyhow::Ok(())
    })?;
    let mut command = Command::new(find("multinic-agent")?);
    command.args([
        "run",
        "--node-name",
        "bench",
        "--poll-interval",
        "30s",
        "--health-addr",
        "127.0.0.1",
        "--allow-unarmed",
        "--host-root",
    ]);
    command.arg(&root).env("DATABASE_URL", format!("sqlite://{}", database.display()));
    // As deploy/agent has it.
    command.env("MALLOC_ARENA_MAX", "1");
    let log = folder.join("agent.log");
    let agent = node.run(|| Program::start("multinic-agent", command, log))??;
    let mut bench = Bench { node, switch, root, agent, mac, net };
    bench.wait("the agent to read its desired state", |bench| {
        Ok(bench.agent.output().contains("the source was read"))
    })?;
    Ok(bench)
}

impl Bench {
    fn wait(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self)? {
            ensure!(self.agent.is_running(), "the agent ended:\n{}", self.agent.last_lines(10));
            ensure!(Instant::now() < deadline, "{what} did not come about:\n{}", self.agent.last_lines(10));
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    fn plug(&self) -> anyhow::Result<()> {
        self.switch.plug(&self.node, self.mac, "ens4", 1500, "bench")?;
        Ok(())
    }

    fn unplug(&mut self) -> anyhow::Result<()> {
        self.switch.unplug(self.mac)?;
        Ok(())
    }

    /// Whether the kernel shows everything, and the agent has committed it: the journal entry of the change is gone.
    fn is_done(&self, netlink: &Netlink, since: usize) -> anyhow::Result<bool> {
        Ok(is_shown(netlink, self.mac, self.net)? && self.reports() > since)
    }

    /// How many changes the agent says it has made: it says so after verification and commit.
    fn reports(&self) -> usize {
        let output = self.agent.output();
        output.matches("interface configured").count() + output.matches("interface repaired").count()
    }
}

/// Whether the kernel shows `multinic0` with this MAC, up, with this address and an MTU of 1450.
pub fn is_shown(netlink: &Netlink, mac: MacAddr, net: IpNet) -> anyhow::Result<bool> {
    let links = netlink.links()?;
    let Some(link) = links.iter().find(|link| link.mac == Some(mac)) else { return Ok(false) };
    let has_address =
        netlink.addresses()?.iter().any(|address| address.link == link.index && address.net == net);
    Ok(link.name == "multinic0" && link.up && link.mtu == 1450 && has_address)
}

/// From the moment at which the kernel has the NIC to the moment at which the agent has verified and committed it.
fn configured(bench: &mut Bench) -> anyhow::Result<Times> {
    let mut times = Times::default();
    for round in 0..WARM_UP + ROUNDS {
        let before = bench.reports();
        bench.plug()?;
        let appeared = Instant::now();
        let took = watch(bench, before, appeared)?;
        if round >= WARM_UP {
            times.push(took);
        }
        if round + 1 < WARM_UP + ROUNDS {
            bench.unplug()?;
        }
    }
    Ok(times)
}

/// From the removal of the address to its return.
fn repaired(bench: &mut Bench) -> anyhow::Result<Times> {
    let mut times = Times::default();
    // The agent repairs at once, and then ever less eagerly against somebody who keeps at it; a NIC that is new is
    // repaired at once again.
    for _ in 0..ROUNDS / 4 {
        let before = bench.reports();
        bench.unplug()?;
        bench.plug()?;
        watch(bench, before, Instant::now())?;
        let before = bench.reports();
        bench.node.remove_address("multinic0", bench.net)?;
        let removed = Instant::now();
        times.push(watch(bench, before, removed)?);
    }
    Ok(times)
}

fn watch(bench: &Bench, reports: usize, since: Instant) -> anyhow::Result<Duration> {
    bench.node.run(|| -> anyhow::Result<Duration> {
        let netlink = Netlink::open()?;
        while !bench.is_done(&netlink, reports)? {
            ensure!(since.elapsed() < PATIENCE, "the NIC is not configured:\n{}", bench.agent.last_lines(10));
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(since.elapsed())
    })?
}

/// What has to be done at the least: the same changes by rtnetlink, and one file that is safe on disk.
fn bare_calls(bench: &mut Bench, folder: &Path) -> anyhow::Result<Times> {
    use multinic_host::netlink::LinkRef;
    let other: MacAddr = "fa:16:3e:00:00:99".parse()?;
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let index = bench.switch.plug(&bench.node, other, "ens9", 1500, "bench")?;
        let file = folder.join("bare.yaml");
        let took = bench.node.run(|| -> anyhow::Result<Duration> {
            let netlink = Netlink::open()?;
            let started = Instant::now();
            let link = LinkRef { index, name: "ens9".to_owned() };
            netlink.rename(&link, "bare0")?;
            netlink.set_mtu(&link, 1450)?;
            netlink.add_address(&link, "10.98.0.1/24".parse()?, true)?;
            netlink.set_up(&link, true)?;
            let mut written = File::create(&file).context("cannot write a file")?;
            written.write_all(&[b'x'; 300])?;
            written.sync_all()?;
            Ok(started.elapsed())
        })??;
        times.push(took);
        bench.switch.unplug(other)?;
    }
    Ok(times)
}

fn idle(figures: &mut Figures, bench: &mut Bench) -> anyhow::Result<()> {
    // What follows a change soon (reads of the source that come earlier) is not idleness.
    std::thread::sleep(Duration::from_secs(45));
    let pid = bench.agent.pid();
    let processor = processor_ticks(pid)?;
    let started = Instant::now();
    let (mut wakes, mut switches, mut asleep) = (0_u32, switches_of(pid)?, true);
    while started.elapsed() < IDLE {
        std::thread::sleep(Duration::from_millis(100));
        let now = switches_of(pid)?;
        // A read of the source is one wake-up, however often it waits for the disk meanwhile.
        if now != switches && asleep {
            wakes += 1;
        }
        asleep = now == switches;
        switches = now;
    }
    let ticks = processor_ticks(pid)? - processor;
    let resident = memory(pid, "VmRSS:").context("the agent's memory cannot be read")?;
    figures.limit("resident memory after all that", resident, "MiB", MEMORY_MIB);
    figures.limit(
        "wake-ups per second when nothing happens",
        f64::from(wakes) / IDLE.as_secs_f64(),
        "/s",
        WAKE_UPS,
    );
    figures.value("  processor time in a minute", format!("{} ms", ticks * 10));
    ensure!(
        bench.root.join("etc/netplan/90-multinic0.yaml").exists(),
        "the file for the next boot is missing"
    );
    Ok(())
}

/// Voluntary context switches of all threads: each is a return from waiting.
fn switches_of(pid: u32) -> anyhow::Result<u64> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        total += line.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(total)
}
