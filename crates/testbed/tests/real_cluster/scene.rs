//! A cluster with the images and manifests that the project ships.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt as _};
use multinic_testbed::cluster::{Cluster, NodeSpec, image};
use multinic_testbed::guest::{NetworkManagement, Nic, Release};
use multinic_testbed::kubernetes::ControlPlane;
use multinic_testbed::mariadb::MariaDb;
use multinic_testbed::node::NetNs;
use multinic_testbed::program::find;
use serde_json::{Value, json};

use crate::nics::{Wanted, Watch};
use crate::operated;

pub const NAMESPACE: &str = "multinic-system";

/// A pod without one of its rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    NetAdmin,
    Sysctls,
    /// The folder with the system bus.
    Run,
}

/// A patch of the agents' pods, as the documentation has them.
fn of_agents(pod: &Value) -> String {
    let daemon_set = json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": "multinic-agent", "namespace": NAMESPACE },
        "spec": { "template": { "spec": pod } },
    });
    format!("- patch: '{daemon_set}'\n")
}

/// A patch of the agents' container.
fn of_container(fields: &Value) -> String {
    let mut container = json!({ "name": "agent" });
    container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    of_agents(&json!({ "containers": [container] }))
}

/// For nodes of which some keep their profiles there.
fn with_sysconfig() -> String {
    let folder = json!({ "path": "/etc/sysconfig", "type": "DirectoryOrCreate" });
    of_agents(&json!({ "volumes": [{ "name": "sysconfig", "hostPath": folder }] }))
}

fn on_database() -> String {
    let url = json!({ "secretKeyRef": { "name": "operator-secret", "key": "DATABASE_URL" } });
    of_container(&json!({ "env": [
        { "name": "DATA_SOURCE", "value": "db" },
        { "name": "POLL_INTERVAL", "value": "1s" },
        { "name": "DATABASE_URL", "valueFrom": url },
    ] }))
}

impl Without {
    fn patch(self) -> String {
        let mount = |path: &str| {
            of_container(&json!({ "volumeMounts": [{ "mountPath": path, "$patch": "delete" }] }))
        };
        match self {
            Self::NetAdmin => "- target: {kind: DaemonSet}
  patch: |-
    - op: remove
      path: /spec/template/spec/containers/0/securityContext/capabilities/add
"
            .to_owned(),
            Self::Sysctls => mount("/host/proc/sys/net"),
            Self::Run => mount("/host/run"),
        }
    }
}

/// The label that all keys of ours on a `Node` share.
const KEY: &str = "multinic.io/interfaces";
const AGENTS: &str = "app.kubernetes.io/name=multinic-agent";
/// A pod takes ten seconds while the machine compiles something else, and a new database a minute while it does more.
const PATIENCE: Duration = Duration::from_secs(240);
pub const NODES: [NodeSpec; 3] = [
    NodeSpec { release: Release::Bookworm, network: NetworkManagement::Netplan },
    NodeSpec { release: Release::Trixie, network: NetworkManagement::Networkd },
    NodeSpec { release: Release::Trixie, network: NetworkManagement::NetworkManager },
];

/// One of each kind that there are guests of.
pub const EVERY_KIND: [NodeSpec; 4] = [
    NODES[0],
    NODES[1],
    NODES[2],
    NodeSpec { release: Release::Bookworm, network: NetworkManagement::Ifcfg },
];

pub fn node_name(node: usize) -> String {
    format!("node-{}", node + 1)
}

/// How a pod comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// It is deleted.
    Gracefully,
    /// It is deleted without time to end.
    AtOnce,
    /// Its process is killed, and the same pod goes on with another.
    Process,
}

/// Where the agents read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Object,
    Database,
}

/// What is deployed.
#[derive(Debug, Clone, Copy)]
pub struct Deployed {
    /// A folder below `deploy`.
    pub what: &'static str,
    pub agent_tag: &'static str,
    pub source: Source,
    pub without: Option<Without>,
}

pub struct Scene {
    pub cluster: Cluster,
    pub nodes: &'static [NodeSpec],
    pub client: Client,
    pub deployed: Deployed,
    /// The ledger, if it is on this machine. Else the operator has it.
    pub database: Option<MariaDb>,
}

pub const DATABASE: &str = "multinic";

impl Scene {
    /// Nodes with three network managers, and the definitions.
    pub fn start(what: &'static str) -> Self {
        Self::on(&NODES, what)
    }

    /// These nodes, and the definitions.
    pub fn on(nodes: &'static [NodeSpec], what: &'static str) -> Self {
        let cluster = Cluster::start(nodes).unwrap();
        let deployed = Deployed { what, agent_tag: "1", source: Source::Object, without: None };
        let scene = Self { client: cluster.client().unwrap(), cluster, nodes, deployed, database: None };
        for program in ["multinic", "multinic-agent"] {
            let archive = scene.cluster.folder().join("image.tar");
            let [first, second] = ["1", "2"].map(|tag| format!("localhost/{program}:{tag}"));
            image::pack_program(&find(program).unwrap(), &first, &archive).unwrap();
            scene.cluster.import_image(&archive).unwrap();
            fs::remove_file(archive).unwrap();
            (0..nodes.len()).for_each(|node| scene.cluster.tag_image(node, &first, &second).unwrap());
        }
        for folder in ["crds", "namespace"] {
            scene.kubectl(&["apply", "--server-side", "--kustomize", &deploy(folder)]);
        }
        scene.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
        scene
    }

    /// A MariaDB on this machine for controller and agents.
    pub fn add_database(&mut self) {
        let database = MariaDb::start().unwrap();
        database.create_database(DATABASE).unwrap();
        let address = format!("{}:{}", database.host(), database.port()).parse().unwrap();
        let seen = self.cluster.expose(address).unwrap();
        let url =
            format!("mysql://{}:{}@{seen}/{DATABASE}", multinic_testbed::mariadb::USER, database.password());
        self.apply_objects(&[json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": "operator-secret", "namespace": NAMESPACE },
            "stringData": { "DATABASE_URL": url },
        })]);
        self.database = Some(database);
    }

    /// Brings what is deployed up to date, as a user does: with a kustomization over the one that is shipped. Waits until
    /// its agents are ready.
    pub async fn deploy(&self) {
        let Deployed { what, agent_tag, source, without } = self.deployed;
        let folder = tempfile::tempdir_in(self.cluster.folder()).unwrap();
        let way_up = "../".repeat(folder.path().canonicalize().unwrap().components().count() - 1);
        let below = |folder: &str| format!("{way_up}{}", deploy(folder).trim_start_matches('/'));
        let base = below(what);
        let has_ifcfg = self.nodes.iter().any(|node| node.network == NetworkManagement::Ifcfg);
        let components = if has_ifcfg { below("components/sysconfig") } else { String::new() };
        let mut kustomization = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{base}]\n\
             components: [{components}]\nimages:\n\
             - {{name: multinic, newName: localhost/multinic, newTag: \"1\"}}\n\
             - {{name: multinic-agent, newName: localhost/multinic-agent, newTag: \"{agent_tag}\"}}\n\
             patches:\n"
        );
        kustomization += &without.map_or_else(String::new, Without::patch);
        if has_ifcfg {
            kustomization += &with_sysconfig();
        }
        if source == Source::Database {
            kustomization += &on_database();
        }
        fs::write(folder.path().join("kustomization.yaml"), kustomization).unwrap();
        self.kubectl(&["apply", "--server-side", "--kustomize", folder.path().to_str().unwrap()]);
        self.wait_agents().await;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        for pod in pods.list(&ListParams::default().labels(AGENTS)).await.unwrap() {
            let image = pod.spec.unwrap().containers[0].image.clone();
            assert_eq!(image, Some(format!("localhost/multinic-agent:{agent_tag}")));
        }
    }

    pub fn apply_objects(&self, objects: &[Value]) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let file = self.cluster.folder().join("objects.json");
        fs::write(&file, list.to_string()).unwrap();
        self.kubectl(&["apply", "--server-side", "--filename", file.to_str().unwrap()]);
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let kubeconfig = self.cluster.folder().join("kubeconfig");
        self.cluster.access().write_kubeconfig(&kubeconfig).unwrap();
        let mut command = Command::new(ControlPlane::node_programs().unwrap().join("kubectl"));
        let output = command.arg("--kubeconfig").arg(kubeconfig).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "kubectl {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Everything that helps to understand a failure.
    pub async fn tell(&self) -> String {
        let mut text =
            self.kubectl(&["get", "nodes,pods,openstackconfigs,mnnc", "--all-namespaces", "--output=wide"]);
        text += &self.kubectl(&["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]);
        for node in 0..self.nodes.len() {
            let logs = self.cluster.logs(node, NAMESPACE, "multinic").unwrap();
            let lines: Vec<&str> = logs.lines().collect();
            text += &format!("\n--- {}\n", node_name(node));
            text += &lines[lines.len().saturating_sub(25)..].join("\n");
        }
        text
    }

    pub async fn until(&self, what: &str, mut fault: impl AsyncFnMut() -> Option<String>) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(fault) = fault().await {
            if Instant::now() > deadline {
                panic!("{what} did not come about: {fault}\n{}", self.tell().await);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until an agent of the DaemonSet's present state is ready on every node.
    pub async fn wait_agents(&self) {
        let sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), NAMESPACE);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let nodes: Api<Node> = Api::all(self.client.clone());
        self.until("an agent on every node", async || {
            for node in nodes.list(&ListParams::default()).await.unwrap() {
                let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
                if !conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True") {
                    return Some("a node is not ready".to_owned());
                }
            }
            let Some(set) = sets.get_opt("multinic-agent").await.unwrap() else {
                return Some("there are no agents".to_owned());
            };
            let generation = set.metadata.generation;
            let status = set.status.unwrap_or_default();
            let count = i32::try_from(self.nodes.len()).unwrap();
            let updated = status.observed_generation == generation
                && status.updated_number_scheduled == Some(count)
                && status.number_ready == count;
            let listed = pods.list(&ListParams::default().labels(AGENTS)).await.unwrap().items;
            // The status may be older than the death of a pod.
            let alive = listed.iter().filter(|pod| is_ready(pod)).count();
            let missing = [alive, listed.len()] != [self.nodes.len(); 2];
            (!updated || missing).then(|| format!("{status:?}"))
        })
        .await;
    }

    /// As a hypervisor does.
    pub fn plug(&mut self, node: usize, wanted: &Wanted, name: &str) {
        let network = "tenant".to_owned();
        let nic = Nic { mac: wanted.mac, name: name.to_owned(), mtu: wanted.mtu, network };
        self.cluster.plug(node, nic).unwrap();
    }

    /// The kernel shows name, MTU, UP and address.
    pub async fn wait_configured(&self, node: usize, name: &str, wanted: &Wanted) {
        let guest = self.cluster.guest(node).unwrap();
        self.until(name, async || wanted.fault(guest, name)).await;
    }

    pub async fn wait_released(&self, node: usize, wanted: &Wanted) {
        let guest = self.cluster.guest(node).unwrap();
        self.until("a NIC without its address", async || {
            wanted.is_addressed(guest).then(|| wanted.address.to_string())
        })
        .await;
    }

    /// What the agent reports is these NICs, and no other: where it reads, and with an object as its source on the `Node`
    /// too.
    pub async fn wait_reported(&self, node: usize, wanted: &[&Wanted]) {
        let name = node_name(node);
        let nodes: Api<Node> = Api::all(self.client.clone());
        let mut macs: Vec<String> = wanted.iter().map(|nic| nic.mac.to_string()).collect();
        macs.sort();
        self.until("a true report", async || {
            let reported = match self.deployed.source {
                Source::Object => self.reported_in_object(&name),
                Source::Database => self.reported_in_database(&name),
            };
            let node = nodes.get(&name).await.unwrap();
            let label = node.labels().get(KEY).cloned();
            let annotation = node.annotations().get(KEY).cloned().unwrap_or_default();
            // With a database as their source, agents say nothing to Kubernetes.
            let on_node = self.deployed.source == Source::Database
                || (label == Some(wanted.len().to_string())
                    && macs.iter().all(|mac| annotation.contains(mac)));
            (reported.as_ref() != Ok(&macs) || !on_node)
                .then(|| format!("{reported:?}, label {label:?}, annotation {annotation}"))
        })
        .await;
    }

    /// Waits until the node's object says something in its status.
    pub async fn wait_status(&self, node: usize, words: &str) {
        let name = node_name(node);
        self.until(words, async || {
            let text = self.kubectl(&["get", "mnnc", &name, "--namespace", NAMESPACE, "--output=json"]);
            let object: Value = serde_json::from_str(&text).unwrap();
            let status = object["status"].to_string();
            (!status.contains(words)).then_some(status)
        })
        .await;
    }

    /// Waits until the one configuration's condition `Ready` is this.
    pub async fn wait_config(&self, ready: &str) {
        let path = "--output=jsonpath={.items[*].status.conditions[?(@.type=='Ready')]['status','message']}";
        self.until("a configuration's state", async || {
            let said = self.kubectl(&["get", "openstackconfigs", "--namespace", NAMESPACE, path]);
            (!said.starts_with(ready)).then_some(said)
        })
        .await;
    }

    /// Waits until the agents of a node have said something in their logs more often than so.
    pub async fn wait_logged(&self, node: usize, words: &str, before: usize) {
        self.until(words, async || (self.logged(node, words) <= before).then(|| "not yet".to_owned())).await;
    }

    /// How often they have.
    pub fn logged(&self, node: usize, words: &str) -> usize {
        self.cluster.logs(node, NAMESPACE, "multinic-agent").unwrap().matches(words).count()
    }

    /// Waits until the agent of a node has gone through that many more passes.
    pub async fn wait_passes(&self, node: usize, count: f64) {
        let passes = || metric(self.cluster.guest(node).unwrap().net(), "multinic_polling_cycles_total ");
        let before = passes();
        self.until("more passes", async || (passes() < before + count).then(|| passes().to_string())).await;
    }

    /// The MACs, where all is as the object asks.
    fn reported_in_object(&self, name: &str) -> Result<Vec<String>, String> {
        let text = self.kubectl(&["get", "mnnc", name, "--namespace", NAMESPACE, "--output=json"]);
        let object: Value = serde_json::from_str(&text).unwrap();
        let status = &object["status"];
        if status["observedGeneration"] != object["metadata"]["generation"] || status["state"] != "Configured"
        {
            return Err(status.to_string());
        }
        let listed = status["interfaceStatuses"].as_array().cloned().unwrap_or_default();
        let mut macs: Vec<String> =
            listed.iter().map(|one| one["macAddress"].as_str().unwrap_or_default().to_owned()).collect();
        macs.sort();
        Ok(macs)
    }

    fn reported_in_database(&self, name: &str) -> Result<Vec<String>, String> {
        let sql = format!(
            "SELECT LOWER(macaddress) FROM multi_interface WHERE attached_node_name = '{name}' AND netplan_success = 1 \
             AND deleted_at IS NULL ORDER BY 1"
        );
        let rows = match &self.database {
            Some(database) => database.sql(DATABASE, &sql).map_err(|error| error.to_string())?,
            None => operated::sql(self, &operated::Login::root(self), DATABASE, &sql)?,
        };
        Ok(rows.lines().map(str::to_owned).collect())
    }

    pub fn watch(&self, node: usize, wanted: &[&Wanted]) -> Watch {
        Watch::start(self.cluster.guest(node).unwrap().net(), wanted)
    }

    /// Packets go from a node to a NIC of another.
    pub fn assert_reaches(&self, node: usize, wanted: &Wanted) {
        let address = wanted.address.addr().to_string();
        self.cluster.guest(node).unwrap().run("ping", &["-c", "1", "-W", "10", &address]).unwrap();
    }
}

/// Ends the agent's pod of a node, and waits until it has begun to.
pub async fn kill_agent(scene: &Scene, node: usize, how: Kill) {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let on_node = ListParams::default().labels(AGENTS).fields(&format!("spec.nodeName={}", node_name(node)));
    let pod = pods.list(&on_node).await.unwrap().items.remove(0);
    let restarts = |pod: &Pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone());
        statuses.unwrap_or_default().first().map_or(0, |status| status.restart_count)
    };
    match how {
        Kill::Gracefully | Kill::AtOnce => {
            let mut parameters = DeleteParams::default();
            if how == Kill::AtOnce {
                parameters = parameters.grace_period(0);
            }
            pods.delete(&pod.name_any(), &parameters).await.unwrap();
            scene
                .until("the end of a pod", async || {
                    let still = pods.get_opt(&pod.name_any()).await.unwrap();
                    still.filter(|still| still.uid() == pod.uid()).map(|still| still.name_any())
                })
                .await;
        }
        Kill::Process => {
            scene.cluster.guest(node).unwrap().run("pkill", &["-KILL", "-x", "multinic-agent"]).unwrap();
            scene
                .until("a restart", async || {
                    let now = pods.get(&pod.name_any()).await.unwrap();
                    (restarts(&now) <= restarts(&pod)).then(|| "not yet".to_owned())
                })
                .await;
        }
    }
}

/// What the agent on a node says of itself on the node's loopback.
fn metric(node: &NetNs, name: &str) -> f64 {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 18080)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    };
    let page = node.run(ask).unwrap();
    let value = page.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap_or_else(|| panic!("{page}")).parse().unwrap()
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

fn deploy(folder: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(folder);
    let path: PathBuf = root.canonicalize().unwrap();
    path.to_str().unwrap().to_owned()
}
