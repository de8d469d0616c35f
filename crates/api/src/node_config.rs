//! `MultiNicNodeConfig`: the NICs of one node. Its name is the node's.

use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, OptionsSpec, schema};

/// What one node is to have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "multinic.io",
    version = "v1alpha1",
    kind = "MultiNicNodeConfig",
    plural = "multinicnodeconfigs",
    singular = "multinicnodeconfig",
    shortname = "mnnc",
    shortname = "mnc",
    category = "multinic",
    label("app.kubernetes.io/part-of", "multinic"),
    doc = "The NICs of one node, which its agent configures and reports on. It has the node's name.",
    namespaced,
    status = "MultiNicNodeConfigStatus",
    derive = "PartialEq",
    validation = named_as_its_node(),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct MultiNicNodeConfigSpec {
    /// The node; the object's own name is the same.
    #[schemars(length(min = 1, max = 253))]
    pub node_name: String,
    /// The Nova server: the UUID that the guest's firmware shows as its system UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub instance_id: Option<String>,
    /// The NICs, one per MAC address.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["macAddress"]))]
    #[x_kube(validation = unique_macs(), validation = unique_names(), validation = unique_ids())]
    pub interfaces: Vec<InterfaceSpec>,
}

/// One NIC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = id_of_name())]
pub struct InterfaceSpec {
    /// The N of `multinicN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 63))]
    pub id: Option<i64>,
    /// The Neutron port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub port_id: Option<String>,
    /// The link's name on the node, `multinic0` to `multinic63`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10), regex(pattern = "^multinic([0-9]|[1-5][0-9]|6[0-3])$"))]
    pub name: Option<String>,
    /// The port's MAC address.
    #[schemars(length(max = 17), regex(pattern = "^([0-9A-Fa-f]{2}[:]){5}([0-9A-Fa-f]{2})$"))]
    pub mac_address: String,
    /// The first IPv4 address, else the first. Beside `addresses`, both must agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::address)]
    pub address: Option<String>,
    /// The subnet of `address` in network form (`10.0.0.0/24`), or the address with its prefix (`10.0.0.10/24`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::cidr)]
    pub cidr: Option<String>,
    /// Every address with its prefix length, such as `10.0.0.10/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::cidrs)]
    pub addresses: Option<Vec<String>>,
    /// The MTU in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 68, max = 65535))]
    pub mtu: Option<i64>,
    /// The Neutron network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub network_id: Option<String>,
    /// The Neutron subnet of `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub subnet_id: Option<String>,
    /// The Nova server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub device_id: Option<String>,
    /// What it is to be like beyond its addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<OptionsSpec>,
}

/// The agent of a node reads the object of the node's name. Objects that disobeyed before the rule was there can still be
/// changed and deleted.
fn named_as_its_node() -> Rule {
    Rule::new(
        "self.metadata.name == self.spec.nodeName || \
         (oldSelf.hasValue() && oldSelf.value().spec.nodeName == self.spec.nodeName)",
    )
    .optional_old_self(true)
    .field_path(".spec.nodeName")
    .message("must be the same as metadata.name: the node's agent reads the object of the node's name")
}

/// The key of the list tells upper from lower case, a NIC does not. No reason is given to the rules on duplicates: with the
/// one that there is for them, the API server leaves the message out.
fn unique_macs() -> Rule {
    Rule::new("self.all(a, self.exists_one(b, a.macAddress.lowerAscii() == b.macAddress.lowerAscii()))")
        .message("two entries have the same macAddress, in upper or lower case: remove one")
}

fn unique_names() -> Rule {
    Rule::new("self.all(a, !has(a.name) || self.exists_one(b, has(b.name) && a.name == b.name))")
        .message("two entries have the same name: give each its own, or leave name out")
}

/// Zero is what older programs wrote for none.
fn unique_ids() -> Rule {
    Rule::new("self.all(a, !has(a.id) || a.id == 0 || self.exists_one(b, has(b.id) && a.id == b.id))")
        .message("two entries have the same id: give each its own, or leave id out")
}

fn id_of_name() -> Rule {
    // A name of another form has an error of its own.
    Rule::new(
        "!has(self.id) || !has(self.name) || !self.name.matches('^multinic[0-9]{1,2}$') \
         || int(self.name.substring(8)) == self.id",
    )
    .field_path(".id")
    .message("must be the N of the name multinicN: correct one of them, or leave id out")
}

/// What the node's agent verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct MultiNicNodeConfigStatus {
    /// All NICs together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// SHA-256 in hex of the JSON of the spec, with its keys sorted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_spec_hash: Option<String>,
    /// When the agent last acted on the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_processed: Option<String>,
    /// Not written; objects of older programs have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_job_name: Option<String>,
    /// `Ready`, `Reconciling`, `Stalled`, `Applied`, `Drifted`, `RolledBack`, `HostUnsafe`, `PersistUnchecked`,
    /// `ManagerNotTold`, `BackendDetected`.
    #[serde(default)]
    #[schemars(transform = schema::conditions)]
    pub conditions: Vec<Condition>,
    /// What became of each NIC.
    #[serde(default)]
    pub interface_statuses: Vec<InterfaceStatus>,
    /// When this status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
    /// When the NICs were last verified; written with the next change only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_interface_check: Option<String>,
    /// Whether the node can be worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ready: Option<bool>,
}

/// All NICs of a node together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum State {
    /// Nothing was done yet.
    Pending,
    /// Some are being worked on.
    InProgress,
    /// All are as asked, verified.
    Configured,
    /// At least one is not.
    Failed,
}

/// What became of one NIC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceStatus {
    /// The link's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The kernel's index of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_index: Option<i64>,
    /// The N of `multinicN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// The MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// The first IPv4 address that was verified, else the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The same with its prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// Every address that was verified, with its prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<String>>,
    /// The MTU in bytes that was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i64>,
    /// `InProgress`, `Configured` or `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// A stable CamelCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the kernel shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_state: Option<String>,
    /// When this entry last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
    /// When the NIC was last verified; written with the next change only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checked: Option<String>,
    /// When the NIC was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_configured: Option<String>,
    /// A sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
