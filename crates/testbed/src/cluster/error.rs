//! What can go wrong with a cluster.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::guest::GuestError;
use crate::kubernetes::KubernetesError;
use crate::node::NodeError;
use crate::relay::RelayError;

/// Why there is no cluster, or why it did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The control plane.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// A guest.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The network.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A way between the cluster and this machine.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// Nodes did not become ready.
    #[error("{nodes} not ready within {} s; {log}", limit.as_secs())]
    NotReady {
        /// Which.
        nodes: String,
        /// How long they had.
        limit: Duration,
        /// The ends of their kubelets' logs.
        log: String,
    },
    /// There is no such node.
    #[error("there is no node {0}")]
    NoNode(usize),
    /// A file could not be written or read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Names the file.
pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ClusterError {
    move |source| ClusterError::File { path: path.into(), source }
}
