//! The handle by which a cluster is changed and asked.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use super::error::file;
use super::way_in::way_in;
use super::{ClusterError, kubelet, network};
use crate::guest::{Guest, NetworkManagement, Nic, Release, Rootfs};
use crate::kubernetes::{Access, ControlPlane, Dns, Scheduler};
use crate::node::{NetNs, Switch};
use crate::relay::relay;

/// Two busy cores need most of it; an idle machine four seconds for each node.
const READY_LIMIT: Duration = Duration::from_secs(180);

/// What a node is to be.
#[derive(Debug, Clone, Copy)]
pub struct NodeSpec {
    /// Its Debian.
    pub release: Release,
    /// Who configures its NICs.
    pub network: NetworkManagement,
}

/// A running cluster. Its nodes are `node-1`, `node-2`, …; here they are numbered from 0. It ends with its handle.
pub struct Cluster {
    nodes: Vec<Guest>,
    _dns: Dns,
    _scheduler: Scheduler,
    control_plane: ControlPlane,
    net: NetNs,
    access: Access,
    switch: Arc<Switch>,
    folder: PathBuf,
}

impl Cluster {
    /// Whether this machine can have one. If not, says so on standard error.
    ///
    /// # Panics
    /// Where it cannot and the environment says that real parts are required.
    pub fn supported() -> bool {
        Rootfs::supported() && ControlPlane::nodes_installed()
    }

    /// Starts one and waits until its nodes are ready.
    ///
    /// # Errors
    /// Where a part is missing or does not come up.
    pub fn start(specs: &[NodeSpec]) -> Result<Self, ClusterError> {
        let switch = Arc::new(Switch::new()?);
        let net = NetNs::new("control-plane")?;
        let count = u8::try_from(specs.len()).map_err(|_| ClusterError::NoNode(specs.len()))?;
        network::connect(&net, &switch, count)?;
        let (control_plane, scheduler, dns) = net.run(|| {
            // No kube-proxy is there that would lead the API server to webhooks: it goes to their pods itself.
            let options = ControlPlane::options().argument("--enable-aggregator-routing=true");
            let mut control_plane = options.address(network::CONTROL_PLANE.into()).start()?;
            control_plane.start_controllers()?;
            let scheduler = control_plane.start_scheduler()?;
            let dns = control_plane.start_dns()?;
            Ok::<_, ClusterError>((control_plane, scheduler, dns))
        })??;
        // That one goes even if this process is killed.
        let folder = control_plane.folder().join("cluster");
        std::fs::create_dir(&folder).map_err(file(&folder))?;
        let at = way_in(&net, control_plane.address())?;
        let access = control_plane.admin().at(&format!("https://{at}"));
        let mut nodes = Vec::new();
        for (number, spec) in (1..).zip(specs) {
            let rootfs = Rootfs::get(spec.release, spec.network)?;
            let mut guest = Guest::new(&rootfs, &format!("node-{number}"), &switch)?;
            guest.plug(network::nic(number)?)?;
            for (path, content, mode) in network::files(number, count, spec.network)? {
                guest.write(path, &content, mode)?;
            }
            kubelet::install(&mut guest, number, &control_plane)?;
            nodes.push(guest);
        }
        let pause = folder.join("pause.tar");
        kubelet::pause_image(&pause)?;
        let (_dns, _scheduler) = (dns, scheduler);
        let mut cluster = Self { nodes, _dns, _scheduler, control_plane, net, access, switch, folder };
        let results: Vec<Result<(), ClusterError>> = thread::scope(|scope| {
            let boots = (1..).zip(&mut cluster.nodes).map(|(number, guest)| {
                scope.spawn(move || {
                    guest.boot()?;
                    kubelet::start(guest, number)
                })
            });
            // All are started before the first is waited for.
            let boots: Vec<_> = boots.collect();
            let join = |boot: thread::ScopedJoinHandle<'_, _>| {
                boot.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            boots.into_iter().map(join).collect()
        });
        results.into_iter().collect::<Result<(), _>>()?;
        cluster.wait_ready()?;
        cluster.import_image(&pause)?;
        Ok(cluster)
    }

    /// A client of the administrator, bound to the Tokio runtime within which this is called.
    ///
    /// # Errors
    /// Where no client can be made.
    pub fn client(&self) -> Result<Client, ClusterError> {
        Ok(self.access.client()?)
    }

    /// The administrator's way in, from this machine.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The control plane. Its address is within [`Self::net`].
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// The network namespace of the control plane, which nodes and pods reach at 10.210.0.2.
    pub fn net(&self) -> &NetNs {
        &self.net
    }

    /// The switch that the nodes' NICs are plugged into.
    pub fn switch(&self) -> &Arc<Switch> {
        &self.switch
    }

    /// Makes a server of this machine's loopback reachable for nodes and pods. Returns host and port for them.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub fn expose(&self, target: std::net::SocketAddr) -> Result<std::net::SocketAddr, ClusterError> {
        let at = network::CONTROL_PLANE.into();
        Ok((at, relay(&self.net, at, target)?).into())
    }

    /// A node's guest.
    ///
    /// # Errors
    /// Where there is no such node.
    pub fn guest(&self, node: usize) -> Result<&Guest, ClusterError> {
        self.nodes.get(node).ok_or(ClusterError::NoNode(node))
    }

    /// A node's own address, which the network namespace of the control plane reaches.
    ///
    /// # Errors
    /// Where there is no such node.
    pub fn address(&self, node: usize) -> Result<Ipv4Addr, ClusterError> {
        self.guest(node)?;
        let number = u8::try_from(node + 1).map_err(|_| ClusterError::NoNode(node))?;
        Ok(network::node_address(number))
    }

    fn guest_mut(&mut self, node: usize) -> Result<&mut Guest, ClusterError> {
        self.nodes.get_mut(node).ok_or(ClusterError::NoNode(node))
    }

    /// Plugs a NIC into a node.
    ///
    /// # Errors
    /// Where there is no such node or the kernel refuses.
    pub fn plug(&mut self, node: usize, nic: Nic) -> Result<(), ClusterError> {
        Ok(self.guest_mut(node)?.plug(nic)?)
    }

    /// Pulls a NIC out of a node.
    ///
    /// # Errors
    /// Where there is no such node or NIC, or the kernel refuses.
    pub fn unplug(&mut self, node: usize, mac: multinic_core::MacAddr) -> Result<(), ClusterError> {
        Ok(self.guest_mut(node)?.unplug(mac)?)
    }

    /// Reboots a node cleanly. Its kubelet does not start by itself: what is there before any pod can be seen.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn reboot(&mut self, node: usize) -> Result<(), ClusterError> {
        Ok(self.guest_mut(node)?.reboot()?)
    }

    /// Cuts a node's power and boots it. Its kubelet does not start by itself.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn reset(&mut self, node: usize) -> Result<(), ClusterError> {
        Ok(self.guest_mut(node)?.reset()?)
    }

    /// Starts kubelet, containerd and kube-proxy of a node that has booted. Does not wait until the node is ready.
    ///
    /// # Errors
    /// Where they cannot be started.
    pub fn start_kubelet(&self, node: usize) -> Result<(), ClusterError> {
        let number = u8::try_from(node + 1).map_err(|_| ClusterError::NoNode(node))?;
        kubelet::start(self.guest(node)?, number)
    }

    /// Makes the image in an OCI archive known to every node, under the name that the archive gives it. Containers need an
    /// `imagePullPolicy` other than `Always`.
    ///
    /// # Errors
    /// Where a node refuses it.
    pub fn import_image(&self, archive: &Path) -> Result<(), ClusterError> {
        self.nodes.iter().try_for_each(|guest| kubelet::import(guest, archive))
    }

    /// The same for one node.
    ///
    /// # Errors
    /// Where there is no such node, or it refuses the image.
    pub fn import_image_into(&self, node: usize, archive: &Path) -> Result<(), ClusterError> {
        kubelet::import(self.guest(node)?, archive)
    }

    /// Makes an image that a node has known to it under another name with tag too, as another version of the same content.
    ///
    /// # Errors
    /// Where there is no such node, or it does not have the image.
    pub fn tag_image(&self, node: usize, reference: &str, other: &str) -> Result<(), ClusterError> {
        kubelet::tag(self.guest(node)?, reference, other)
    }

    /// What the containers of a pod wrote on a node, container after container, each line as kubelet keeps it.
    ///
    /// # Errors
    /// Where there is no such node.
    pub fn logs(&self, node: usize, namespace: &str, pod: &str) -> Result<String, ClusterError> {
        let folder = self.guest(node)?.path("/var/log/pods");
        let mut files: Vec<PathBuf> = Vec::new();
        let entries = |folder: &Path| {
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
        };
        for pod_folder in entries(&folder) {
            let name = pod_folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(&format!("{namespace}_{pod}")) {
                files.extend(
                    entries(&pod_folder).flat_map(|container| entries(&container).collect::<Vec<_>>()),
                );
            }
        }
        files.sort();
        let texts = files.iter().map(|path| std::fs::read(path).unwrap_or_default());
        Ok(texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect())
    }

    /// Waits until all nodes are ready.
    ///
    /// # Errors
    /// Where they don't become that.
    pub fn wait_ready(&self) -> Result<(), ClusterError> {
        // On a thread of its own, so that callers may be within a runtime or not.
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(file("a Tokio runtime"))?.block_on(self.ready())
            });
            watch.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    async fn ready(&self) -> Result<(), ClusterError> {
        let nodes: Api<Node> = Api::all(self.client()?);
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let found = nodes.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
            let is_ready = |guest: &&Guest| {
                found.iter().any(|node| node.name_any() == guest.name() && condition(node, "Ready"))
            };
            let missing: Vec<&Guest> = self.nodes.iter().filter(|guest| !is_ready(guest)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let names = missing.iter().map(|guest| guest.name()).collect::<Vec<_>>().join(", ");
                let logs = missing.iter().map(|guest| guest.read("/var/log/kubelet.log").unwrap_or_default());
                let log = logs.map(|log| crate::guest::tail(&log, 15)).collect::<Vec<_>>().join("\n--\n");
                return Err(ClusterError::NotReady { nodes: names, limit: READY_LIMIT, log });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// A folder that goes with the cluster.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn condition(node: &Node, name: &str) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == name && condition.status == "True")
    })
}
