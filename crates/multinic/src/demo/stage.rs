//! The stage: cloud, database, controller, nodes with their agents. Everything ends with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use multinic_core::{MacAddr, NetworkId, ServerId, SubnetId};
use multinic_store::{AgentSource, DatabaseSettings, Store};
use multinic_telemetry::shutdown::Shutdown;
use multinic_testbed::cloud_simulator::{Attached, Simulator};
use multinic_testbed::node::{NetNs, NewRoute, Switch};
use multinic_testbed::program::{Program, find};
use rtnetlink::packet_route::route::RouteProtocol;
use tempfile::TempDir;

use super::Args;
use super::kernel::{Nic, look};

/// Everything that plays.
pub struct Stage {
    pub cloud: Simulator,
    pub nodes: Vec<Node>,
    pub networks: Vec<Network>,
    pub store: Store,
    pub switch: Switch,
    pub folder: TempDir,
    /// NICs that were ours and are not any more.
    pub detached: Vec<MacAddr>,
    /// Ctrl-C and SIGTERM: the stage is struck, and nothing is left behind.
    pub shutdown: Shutdown,
    database: DatabaseSettings,
    controller: Program,
}

/// A network of the simulated cloud, with a switch behind it.
pub struct Network {
    pub id: NetworkId,
    pub name: String,
    pub ipv4: SubnetId,
    pub ipv6: SubnetId,
    pub mtu: u16,
}

/// A node: a server of the cloud, and a namespace with an agent.
pub struct Node {
    pub name: String,
    pub server: ServerId,
    pub net: NetNs,
    pub root: PathBuf,
    pub nics: Vec<Attached>,
    agent: Program,
}

/// The MTU of the overlay networks of most clouds, and one for storage.
const MTUS: [u16; 2] = [1450, 9000];

impl Stage {
    /// Builds it up.
    pub async fn build(args: &Args) -> anyhow::Result<Self> {
        let shutdown = Shutdown::on_signals()?;
        let folder = tempfile::Builder::new().prefix("multinic-demo-").tempdir()?;
        let agent = find("multinic-agent")?;
        let cloud =
            Simulator::start(([127, 0, 0, 1], 0).into()).await.context("cannot start the simulated cloud")?;
        let networks = networks(&cloud, args.nics)?;
        let database = folder.path().join("multinic.db");
        let url = format!("sqlite://{}", database.display());
        let database = DatabaseSettings::sqlite(&database);
        let store = Store::open(&database).await?;
        let switch = Switch::new()?;
        let mut nodes = Vec::new();
        for number in 1..=args.nodes {
            nodes.push(Node::start(number, &cloud, &switch, folder.path(), &agent, &url)?);
        }
        let configs = folder.path().join("configs");
        fs::create_dir(&configs)?;
        fs::write(configs.join("demo.yaml"), manifest(&cloud, &nodes, &networks))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("controller").arg("--standalone").arg(&configs);
        command.args(["--log-format", "text", "--health-addr", "127.0.0.1", "--health-port", "0"]);
        command.env("DATABASE_URL", &url);
        let controller = Program::start("controller", command, folder.path().join("controller.log"))?;
        Ok(Self {
            cloud,
            nodes,
            networks,
            store,
            switch,
            folder,
            detached: Vec::new(),
            shutdown,
            database,
            controller,
        })
    }

    /// Waits until something holds, and says how long that took from `since`. What has not held for too long is an
    /// error that shows the end of the logs.
    pub fn wait<T>(
        &mut self,
        what: &str,
        since: Instant,
        mut holds: impl FnMut(&mut Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<(T, Duration)> {
        let deadline = Instant::now() + super::PATIENCE;
        loop {
            if let Some(result) = holds(self)? {
                return Ok((result, since.elapsed()));
            }
            ensure!(!self.shutdown.is_requested(), "interrupted");
            ensure!(
                self.controller.is_running(),
                "the controller ended:\n{}",
                self.controller.last_lines(10)
            );
            for node in &mut self.nodes {
                ensure!(
                    node.agent.is_running(),
                    "the agent of {} ended:\n{}",
                    node.name,
                    node.agent.last_lines(10)
                );
            }
            if Instant::now() >= deadline {
                let agents: Vec<String> = self
                    .nodes
                    .iter()
                    .map(|node| format!("{}: {}", node.name, node.agent.last_lines(4)))
                    .collect();
                anyhow::bail!(
                    "{what} did not come about within {} s\ncontroller: {}\n{}",
                    super::PATIENCE.as_secs(),
                    self.controller.last_lines(6),
                    agents.join("\n")
                );
            }
            // The kernel is asked often, so that the times are good to a millisecond.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The node of this place.
    pub fn node(&self, place: usize) -> anyhow::Result<&Node> {
        self.nodes.get(place).with_context(|| format!("there is no node {place}"))
    }

    /// The NICs that a node's kernel shows, by MAC.
    pub fn kernel(&self, place: usize) -> anyhow::Result<BTreeMap<MacAddr, Nic>> {
        look(&self.node(place)?.net)
    }

    /// The error that a node's agent reported for a NIC.
    pub async fn reported_error(&self, place: usize, mac: MacAddr) -> anyhow::Result<String> {
        let source = AgentSource::new(&self.database, self.node(place)?.name.parse()?);
        let deadline = Instant::now() + super::PATIENCE;
        while Instant::now() < deadline {
            let read = source.read().await?;
            let error = read.nics.into_iter().find(|nic| nic.mac == mac).and_then(|nic| nic.reported.error);
            if let Some(error) = error {
                return Ok(error);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("the agent reported no error for {mac}")
    }

    /// Ends everything in good order.
    pub fn end(mut self) -> anyhow::Result<()> {
        let limit = Duration::from_secs(10);
        for node in &mut self.nodes {
            let status = node.agent.terminate(limit)?;
            ensure!(status.success(), "the agent of {} ended with {status}", node.name);
        }
        let status = self.controller.terminate(limit)?;
        ensure!(status.success(), "the controller ended with {status}");
        Ok(())
    }
}

impl Node {
    /// The command by which a person gets into the node's namespace.
    pub fn enter(&self) -> String {
        let user = if super::sandbox::needs_user_namespace() { "-U --preserve-credentials " } else { "" };
        format!("nsenter -t {} {user}-n", self.agent.pid())
    }

    fn start(
        number: u8,
        cloud: &Simulator,
        switch: &Switch,
        folder: &Path,
        agent: &Path,
        database: &str,
    ) -> anyhow::Result<Self> {
        let name = format!("node-{number}");
        let server = cloud.add_server(&name);
        let net = NetNs::new(&name)?;
        let root = folder.join(&name);
        fs::create_dir_all(root.join("etc/netplan"))?;
        fs::write(root.join("etc/netplan/50-cloud-init.yaml"), CLOUD_INIT)?;
        management(switch, &net, number)?;
        let mut command = Command::new(agent);
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
        // A namespace has no systemd that would undo what a dead agent left.
        command.args(["run", "--allow-unarmed", "--host-root"]).arg(&root);
        command.env("DATABASE_URL", database);
        command.args(["--node-name", &name, "--poll-interval", "1s"]);
        command.args(["--log-format", "text", "--health-addr", "127.0.0.1"]);
        let log = folder.join(format!("{name}.log"));
        let agent = net.run(|| Program::start("multinic-agent", command, log))??;
        Ok(Self { name, server, net, root, nics: Vec::new(), agent })
    }
}

/// The NIC by which a node is reached: it has the default route, and must be the same at the end.
fn management(switch: &Switch, node: &NetNs, number: u8) -> anyhow::Result<()> {
    let mac = MacAddr::from_bytes([0x02, 0, 0, 0, 0, number])?;
    switch.plug(node, mac, "ens3", 1500, "management")?;
    node.add_address("ens3", format!("192.0.2.{}/24", 10 + number).parse()?, None)?;
    node.set_up("ens3")?;
    node.add_route(NewRoute {
        link: "ens3",
        to: "0.0.0.0/0".parse()?,
        gateway: Some("192.0.2.1".parse()?),
        protocol: RouteProtocol::Dhcp,
        table: 254,
        metric: 100,
    })?;
    Ok(())
}

/// What the guest's own tools left: it must be the same at the end.
pub const CLOUD_INIT: &str = "network:\n  version: 2\n  ethernets:\n    ens3:\n      dhcp4: true\n";

fn networks(cloud: &Simulator, count: u8) -> anyhow::Result<Vec<Network>> {
    let mut networks = Vec::new();
    for (number, mtu) in (1..=count).zip(MTUS.into_iter().cycle()) {
        let name = format!("net-{number}");
        let id = cloud.add_network(&name, Some(mtu.into()));
        let ipv4 =
            cloud.add_subnet(&id, &format!("{name}-v4"), format!("10.{}.0.0/24", 20 + number).parse()?)?;
        let ipv6 =
            cloud.add_subnet(&id, &format!("{name}-v6"), format!("fd00:{}::/64", 20 + number).parse()?)?;
        networks.push(Network { id, name, ipv4, ipv6, mtu });
    }
    Ok(networks)
}

fn manifest(cloud: &Simulator, nodes: &[Node], networks: &[Network]) -> String {
    let items = |list: Vec<&str>| list.iter().map(|item| format!("\n    - {item}")).collect::<String>();
    let (user, domain, password) = multinic_testbed::cloud_simulator::USER;
    format!(
        "apiVersion: multinic.example.com/v1alpha1
kind: OpenstackConfig
metadata:
  name: demo
spec:
  vmNames:{}
  subnetIDs:{}
  credentials:
    authURL: {}
    username: {user}
    password: {password}
    domainName: {domain}
    projectID: {}
  settings:
    pollFastInterval: 500ms
    pollSlowInterval: 500ms
",
        items(nodes.iter().map(|node| node.name.as_str()).collect()),
        items(networks.iter().map(|network| network.ipv4.as_str()).collect()),
        cloud.url(),
        cloud.project(),
    )
}
