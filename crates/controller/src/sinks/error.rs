//! Why a delivery failed.

use std::collections::BTreeSet;

use multinic_core::{ConfigKey, NodeName};

/// What a sink could not do. It names what was asked of whom, quotes answers in part only, and never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// What is there is not known yet, so nothing is compared with it or written over it.
    #[error("{place}: what is there has not been read yet: {problem}")]
    NotRead {
        /// The namespace.
        place: String,
        /// Why not.
        problem: String,
    },
    /// The node's name cannot be an object's.
    #[error(
        "node {node}: its name cannot be the name of a Kubernetes object (lower-case letters, digits, '-' and '.', with \
         a letter or digit at both ends of each part); rename the server, or name the node in its metadata \
         (openstackNodeNameMetadataKey)"
    )]
    ObjectName {
        /// The node.
        node: NodeName,
    },
    /// The object is somebody else's, and so not ours to delete.
    #[error("{object} was not written by {manager}, so it is not deleted; delete it if nobody needs it")]
    Foreign {
        /// The object.
        object: String,
        /// Our field manager.
        manager: String,
    },
    /// The object is of another ledger, or of a newer state of this one: nothing is taken out of it.
    #[error("node {node}: {problem}")]
    LedgerStale {
        /// The node.
        node: NodeName,
        /// Which ledgers, what stays, until when.
        problem: String,
        /// The configurations that have a NIC of the node.
        owners: BTreeSet<ConfigKey>,
    },
    /// The cluster keeps less than was written.
    #[error(
        "{object}: the cluster does not keep everything that was applied; its definition of MultiNicNodeConfig is an \
         older one: apply that of `multinic crds`"
    )]
    NotKept {
        /// The object.
        object: String,
    },
    /// The API server refused or failed.
    #[error("{action} {object}: {problem}")]
    Kubernetes {
        /// `apply`, `delete`, …
        action: &'static str,
        /// The object.
        object: String,
        /// What the server or the connection said.
        problem: String,
        /// The HTTP status; none where there was no answer.
        status: Option<u16>,
    },
    /// The kubeconfig of another cluster cannot be used.
    #[error("kubeconfig: {0}")]
    Kubeconfig(String),
    /// Viola refused or failed.
    #[error("POST {url}: {problem}")]
    Viola {
        /// Where to.
        url: String,
        /// What it or the connection said.
        problem: String,
        /// The HTTP status; none where there was no answer.
        status: Option<u16>,
    },
    /// Viola accepted the batch and not this node.
    #[error("POST {url}: {code}: {message}")]
    ViolaNode {
        /// Where to.
        url: String,
        /// Its word for the error.
        code: String,
        /// What it said.
        message: String,
    },
    /// Viola does not take away what a node had. The node keeps NICs that it should not have.
    #[error(
        "node {node} keeps its NICs in the business cluster, because the removal was refused: POST {url}: {problem}"
    )]
    RemovalNotPropagated {
        /// The node.
        node: NodeName,
        /// Where to.
        url: String,
        /// What Viola said.
        problem: String,
        /// The HTTP status; none where the refusal was one of this node alone.
        status: Option<u16>,
    },
    /// The settings of Viola cannot be used.
    #[error("{setting}: {problem}")]
    Setting {
        /// The setting by its environment variable.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl SinkError {
    /// The reason under which it is reported in a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotRead { .. }
            | Self::ObjectName { .. }
            | Self::Foreign { .. }
            | Self::NotKept { .. }
            | Self::Kubernetes { .. } => "KubernetesApplyError",
            Self::Kubeconfig(_) | Self::Setting { .. } => "ConfigError",
            Self::Viola { .. } | Self::ViolaNode { .. } => "ViolaPostError",
            Self::RemovalNotPropagated { .. } => "RemovalNotPropagated",
            Self::LedgerStale { .. } => "LedgerStale",
        }
    }

    /// Whether there was no answer at all: others who are asked now would not get one either.
    pub fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::NotRead { .. } | Self::Kubernetes { status: None, .. } | Self::Viola { status: None, .. }
        )
    }

    /// Whether the same delivery can succeed later without anybody changing a setting, a name or a right.
    pub fn retry(&self) -> bool {
        match self {
            Self::NotRead { .. } => true,
            Self::Kubernetes { status, .. } | Self::Viola { status, .. } => passes(*status),
            Self::ViolaNode { code, .. } => passes(code.parse().ok()),
            Self::RemovalNotPropagated { .. } | Self::LedgerStale { .. } => true,
            Self::ObjectName { .. }
            | Self::Foreign { .. }
            | Self::NotKept { .. }
            | Self::Kubeconfig(_)
            | Self::Setting { .. } => false,
        }
    }
}

/// By commas.
pub(crate) fn names(owners: &BTreeSet<ConfigKey>) -> String {
    owners.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether what ended with this status can end otherwise by itself. Without a status there was no answer.
pub(crate) fn passes(status: Option<u16>) -> bool {
    status.is_none_or(|status| matches!(status, 408 | 409 | 410 | 429 | 500..=599))
}
