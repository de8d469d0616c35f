//! The agent on its node's object: how soon a change of it is in the kernel.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use multinic_api::{MultiNicNodeConfig, definitions};
use multinic_core::MacAddr;
use multinic_host::netlink::Netlink;
use multinic_testbed::kubernetes::ControlPlane;
use multinic_testbed::node::{NetNs, Switch};
use multinic_testbed::program::{Program, find};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::agent::is_shown;
use crate::figures::{Figures, Times};

/// How many changes are measured. The 99th percentile needs a hundred.
const ROUNDS: u8 = 120;
/// Rounds that are not counted, as for the agent on a database.
const WARM_UP: u8 = 5;
const CHANGED_P99: f64 = 250.0;
const PATIENCE: Duration = Duration::from_secs(20);
/// The name of the node, and so of its object.
const NODE: &str = "bench";

struct Bench<'a> {
    runtime: &'a Runtime,
    objects: Api<MultiNicNodeConfig>,
    node: NetNs,
    agent: Program,
    mac: MacAddr,
}

pub fn measure(figures: &mut Figures, plane: &ControlPlane) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (node, switch) = (NetNs::new(NODE)?, Switch::new()?);
    let mac: MacAddr = "fa:16:3e:00:00:01".parse()?;
    switch.plug(&node, mac, "ens4", 1500, NODE)?;
    let (namespace, objects) = runtime.block_on(prepare(plane))?;
    let inside = plane.reach_from(&node, Ipv4Addr::LOCALHOST.into())?;
    let kubeconfig = folder.path().join("kubeconfig");
    plane.admin().at(&inside).write_kubeconfig(&kubeconfig)?;
    let agent = start(&node, folder.path(), &kubeconfig, &namespace)?;
    let bench = Bench { runtime: &runtime, objects, node, agent, mac };
    let times = bench.changes()?;
    figures.note("agent on its MultiNicNodeConfig, real API server, one NIC in a namespace");
    figures.value("object changed → NIC verified and committed: p50", times.text(50));
    figures.limit("  p99", times.milliseconds(99), "ms", CHANGED_P99);
    Ok(())
}

/// Everything that the agent finds in the cluster but the object itself.
async fn prepare(plane: &ControlPlane) -> anyhow::Result<(String, Api<MultiNicNodeConfig>)> {
    for definition in definitions::all() {
        plane.install_crd(&definition).await?;
    }
    let namespace = plane.new_namespace("resource").await?;
    let client = plane.client()?;
    let metadata = ObjectMeta { name: Some(NODE.to_owned()), ..ObjectMeta::default() };
    let node = Node { metadata, ..Node::default() };
    Api::all(client.clone()).create(&PostParams::default(), &node).await?;
    let objects = Api::namespaced(client, &namespace);
    Ok((namespace, objects))
}

fn start(node: &NetNs, folder: &Path, kubeconfig: &Path, namespace: &str) -> anyhow::Result<Program> {
    let root = folder.join("root");
    fs::create_dir_all(root.join("etc/netplan"))?;
    let mut command = Command::new(find("multinic-agent")?);
    command
        .args(["run", "--node-name", NODE, "--health-addr", "127.0.0.1", "--allow-unarmed", "--host-root"])
        .arg(&root);
    command.env("DATA_SOURCE", "nodecr").env("KUBECONFIG", kubeconfig).env("NODE_CR_NAMESPACE", namespace);
    // This machine has firmware too, which knows nothing of the node.
    command.env("PRODUCT_UUID_FILE", "/nowhere");
    // As deploy/agent has it.
    command.env("MALLOC_ARENA_MAX", "1");
    let log = folder.join("agent.log");
    Ok(node.run(|| Program::start("multinic-agent", command, log))??)
}

impl Bench<'_> {
    /// From the API server's answer to a change of the address to the kernel showing it and the agent saying that it has
    /// verified and committed it.
    fn changes(&self) -> anyhow::Result<Times> {
        let mut times = Times::default();
        for round in 0..WARM_UP + ROUNDS {
            let net = Ipv4Net::new(Ipv4Addr::new(10, 99, 0, 10 + round), 24)?.into();
            let before = self.reports();
            self.apply(net)?;
            let took = self.watch(net, before, Instant::now())?;
            if round >= WARM_UP {
                times.push(took);
            }
        }
        Ok(times)
    }

    /// As the controller does it.
    fn apply(&self, net: IpNet) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "multinic.io/v1alpha1",
            "kind": "MultiNicNodeConfig",
            "metadata": {"name": NODE},
            "spec": {"nodeName": NODE, "interfaces": [{
                "id": 0, "name": "multinic0", "macAddress": self.mac, "addresses": [net], "mtu": 1450,
                "portId": "90000000-0000-4000-8000-000000000001",
            }]},
        });
        let parameters = PatchParams::apply("multinic-controller").force();
        self.runtime.block_on(self.objects.patch(NODE, &parameters, &Patch::Apply(object)))?;
        Ok(())
    }

    fn watch(&self, net: IpNet, reports: usize, since: Instant) -> anyhow::Result<Duration> {
        self.node.run(|| -> anyhow::Result<Duration> {
            let netlink = Netlink::open()?;
            while !(is_shown(&netlink, self.mac, net)? && self.reports() > reports) {
                let late = since.elapsed() > PATIENCE;
                ensure!(!late, "{net} is not configured:\n{}", self.agent.last_lines(10));
                std::thread::sleep(Duration::from_micros(100));
            }
            Ok(since.elapsed())
        })?
    }

    /// How many changes the agent says it has made: it says so after verification and commit.
    fn reports(&self) -> usize {
        let output = self.agent.output();
        output.matches("interface configured").count() + output.matches("interface updated").count()
    }
}
