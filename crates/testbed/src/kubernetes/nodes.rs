//! What a control plane needs besides for nodes on which pods really run.

use std::fs;
use std::path::PathBuf;

use super::binaries::{API_SERVER, CONTROLLERS, ETCD};
use super::error::file;
use super::guarded::Guarded;
use super::{ControlPlane, KubernetesError, binaries};

const SCHEDULER: &str = "kube-scheduler";
const DNS: &str = "coredns";
/// The names below which services are found.
pub(crate) const DOMAIN: &str = "cluster.local";
const PROGRAMS: [&str; 12] = [
    ETCD,
    API_SERVER,
    CONTROLLERS,
    SCHEDULER,
    DNS,
    "kubectl",
    "kubelet",
    "kube-proxy",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "runc",
];

/// A running kube-scheduler. It is killed when this is dropped.
#[derive(Debug)]
pub struct Scheduler(Guarded);

impl Scheduler {
    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.0.is_running()
    }
}

/// A running CoreDNS. It is killed when this is dropped.
#[derive(Debug)]
pub struct Dns(Guarded);

impl Dns {
    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.0.is_running()
    }
}

impl ControlPlane {
    /// Whether all programs of a cluster with real nodes are there. Where they are not, says so on standard error.
    ///
    /// # Panics
    /// Where they are not and the environment says that real parts are required.
    pub fn nodes_installed() -> bool {
        binaries::installed(&PROGRAMS)
    }

    /// The folder with the programs, those of a node among them.
    ///
    /// # Errors
    /// Where one of them is missing.
    pub fn node_programs() -> Result<PathBuf, KubernetesError> {
        let mut folder = PathBuf::new();
        for program in PROGRAMS {
            folder = binaries::find(program)?;
            folder.pop();
        }
        Ok(folder)
    }

    /// Starts kube-scheduler in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Where it is missing or cannot be started.
    pub fn start_scheduler(&self) -> Result<Scheduler, KubernetesError> {
        let program = binaries::find(SCHEDULER)?;
        let user = self.user("system:kube-scheduler", &[])?;
        user.write_kubeconfig(&self.folder().join("scheduler.kubeconfig"))?;
        let arguments = ["--kubeconfig=scheduler.kubeconfig", "--leader-elect=false", "--secure-port=0"];
        let arguments = arguments.map(str::to_owned);
        Ok(Scheduler(Guarded::start(self.folder(), &program, &arguments)?))
    }

    /// Starts CoreDNS in the network namespace of the calling thread, on port 53 of all its addresses. It knows the cluster's
    /// services (`mariadb.multinic-system.svc.cluster.local`) and nothing else.
    ///
    /// # Errors
    /// Where it is missing or cannot be started.
    pub fn start_dns(&self) -> Result<Dns, KubernetesError> {
        let program = binaries::find(DNS)?;
        self.admin().write_kubeconfig(&self.folder().join("dns.kubeconfig"))?;
        let settings = self.folder().join("dns.conf");
        let zone =
            format!(".:53 {{\n  errors\n  kubernetes {DOMAIN} {{\n    kubeconfig dns.kubeconfig\n  }}\n}}\n");
        fs::write(&settings, zone).map_err(file(&settings))?;
        let arguments = ["-conf".to_owned(), settings.display().to_string()];
        Ok(Dns(Guarded::start(self.folder(), &program, &arguments)?))
    }
}
