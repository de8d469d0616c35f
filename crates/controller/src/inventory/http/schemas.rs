//! The answers' forms, as they are described.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::sinks::NodePayload;

/// Every provider.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Providers {
    /// By their ids.
    pub(super) providers: Vec<Provider>,
}

/// One provider.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Provider {
    /// The Kubernetes provider's id.
    pub(super) provider_id: String,
    /// How many nodes it has.
    pub(super) node_count: u64,
    /// When the last of them changed.
    #[schema(format = DateTime)]
    pub(super) updated_at: String,
    /// By their names.
    pub(super) nodes: Vec<Node>,
}

/// One node in a summary.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Node {
    /// The Kubernetes provider's id.
    pub(super) provider_id: String,
    /// The node's name.
    pub(super) node_name: String,
    /// The Nova server.
    pub(super) instance_id: String,
    /// How many NICs it is to have.
    pub(super) interface_count: u64,
    /// When its configuration last changed.
    #[schema(format = DateTime)]
    pub(super) updated_at: String,
}

/// What was published for one node, and what became of it.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Record)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "described here, written by the store without a detour")]
pub(super) struct RecordBody {
    /// The Kubernetes provider's id.
    pub(super) provider_id: String,
    /// The node's name.
    pub(super) node_name: String,
    /// The Nova server.
    pub(super) instance_id: String,
    /// The configuration exactly as it was sent.
    pub(super) config: NodePayload,
    /// SHA-256 of the configuration's compact JSON.
    pub(super) last_config_hash: String,
    /// When the configuration last changed: RFC 3339, UTC, nanoseconds.
    #[schema(format = DateTime)]
    pub(super) updated_at: String,
    /// What the node's agent saw.
    pub(super) observed: Option<ObservedBody>,
}

/// What a node's agent saw.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Observed)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "described here, written by the store without a detour")]
pub(super) struct ObservedBody {
    /// `Pending`, `InProgress`, `Configured` or `Failed`.
    pub(super) state: String,
    /// When the agent reported it.
    #[schema(format = DateTime)]
    pub(super) observed_at: Option<String>,
    /// The NICs.
    pub(super) interfaces: Vec<ObservedInterfaceBody>,
}

/// What a node's agent saw of one NIC.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ObservedInterface)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "described here, written by the store without a detour")]
pub(super) struct ObservedInterfaceBody {
    /// The link's name.
    pub(super) name: Option<String>,
    /// The MAC address.
    pub(super) mac_address: String,
    /// The addresses that the kernel shows, with their prefix lengths.
    pub(super) addresses: Vec<String>,
    /// The MTU in bytes, where it was verified.
    pub(super) mtu: Option<u32>,
    /// `Pending`, `InProgress`, `Configured`, `Failed` or `Removing`.
    pub(super) status: String,
    /// Why, where it is not as it should be.
    pub(super) reason: Option<String>,
}
