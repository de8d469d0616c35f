//! The agent's process.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use multinic_testbed::node::NetNs;
use multinic_testbed::program::{freeze, thaw};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::database::{NODE, Nic};
use crate::world::{World, wait_until};

/// Often enough for a test that waits for reads.
pub const OFTEN: (&str, &str) = ("POLL_INTERVAL", "200ms");
/// So seldom that what happens meanwhile is due to events.
pub const SELDOM: (&str, &str) = ("POLL_INTERVAL", "30m");

/// The program with the environment of a node, without any of this process's own.
pub fn command(world: &World, variables: &[(&str, &str)]) -> Command {
    let mut command = world.node.command(env!("CARGO_BIN_EXE_multinic-agent"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("DATABASE_URL", world.database.url())
        .env("NODE_NAME", NODE)
        .env("HOST_ROOT", world.root())
        // A namespace has no systemd that could be armed.
        .env("ALLOW_UNARMED", "true")
        .env("HEALTH_ADDR", "127.0.0.1")
        .env("HEALTH_PORT", "0")
        .env("LOG_LEVEL", "debug")
        .envs(variables.iter().copied());
    command
}

/// Runs a command of the agent to its end.
pub fn run(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(world, variables).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// One pass that is expected to end with this exit code.
#[track_caller]
pub fn once(world: &World, variables: &[(&str, &str)], expected: i32) {
    let output = run(world, &["once"], variables);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(expected), "{log}");
}

/// A running agent; killed when the test ends.
pub struct Agent {
    child: Child,
    log: PathBuf,
    node: NetNs,
    pages: SocketAddr,
}

impl Agent {
    /// Starts it and waits until its pages are served.
    pub fn start(world: &World, variables: &[(&str, &str)]) -> Self {
        let log = tempfile::Builder::new().suffix(".log").tempfile().unwrap().keep().unwrap();
        let child = command(world, variables)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.0)
            .spawn()
            .unwrap();
        let pages = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut agent = Self { child, log: log.1, node: world.node.clone(), pages };
        wait_until(|| agent.log(), || agent.logged("health and metrics are served").is_some());
        let line = agent.logged("health and metrics are served").unwrap();
        agent.pages = line["address"].as_str().unwrap().parse().unwrap();
        agent
    }

    /// The same, and waits until a pass over a read has ended.
    pub fn start_ready(world: &World, variables: &[(&str, &str)]) -> Self {
        let agent = Self::start(world, variables);
        wait_until(|| agent.log(), || agent.get("/readyz").0 == 200);
        agent
    }

    /// The same on a node with a NIC that is plugged, published and configured. Returns the link's index, too.
    #[track_caller]
    pub fn with_configured(world: &World, nic: &Nic, variables: &[(&str, &str)]) -> (Self, u32) {
        let link = world.plug(nic);
        world.database.publish(std::slice::from_ref(nic), &[]);
        let agent = Self::start_ready(world, variables);
        world.wait_configured(nic);
        (agent, link)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn lines(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The last line with this message.
    pub fn logged(&self, message: &str) -> Option<Value> {
        self.lines().into_iter().rev().find(|line| line["msg"] == message)
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path)
    }

    pub fn request(&self, method: &str, path: &str) -> (u16, String) {
        let text = self.node.run(|| {
            let mut stream = TcpStream::connect(self.pages).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            write!(stream, "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let text = text.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub fn document(&self) -> Value {
        serde_json::from_str(&self.get("/").1).unwrap()
    }

    /// The value of a sample, with its labels as they are written.
    pub fn metric(&self, sample: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{sample} is not in\n{text}")).parse().unwrap()
    }

    /// Waits until so many more cycles have ended.
    pub fn wait_cycles(&self, count: f64) {
        let cycles = || self.metric("multinic_polling_cycles_total");
        let enough = cycles() + count;
        wait_until(|| self.log(), || cycles() >= enough);
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Does something of which it sees nothing but the end.
    pub fn unseen(&self, act: impl FnOnce()) {
        freeze(self.pid());
        act();
        thaw(self.pid());
    }

    /// Whether it has stopped itself (`SIGSTOP`).
    pub fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    }

    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let log = self.log.clone();
        wait_until(
            || fs::read_to_string(&log).unwrap_or_default(),
            || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
        );
        status.unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only for one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the agent\n{}", self.log());
        }
        let _ = fs::remove_file(&self.log);
    }
}
