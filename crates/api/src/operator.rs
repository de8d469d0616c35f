//! `MultiNicOperator`: what the operator runs.

mod s3;

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, schema};

pub use s3::S3Target;

/// What the operator runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "multinic.example.com",
    version = "v1alpha1",
    kind = "MultiNicOperator",
    plural = "multinicoperators",
    singular = "multinicoperator",
    shortname = "mno",
    category = "multinic",
    label("app.kubernetes.io/part-of", "multinic"),
    doc = "What the operator runs: the controller, its database and the agents.",
    namespaced,
    status = "MultiNicOperatorStatus",
    derive = "PartialEq",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Controller", type_ = "string", json_path = ".status.controllerStatus.phase"),
    printcolumn(name = "Database", type_ = "string", json_path = ".status.databaseStatus.phase"),
    printcolumn(name = "Protection", type_ = "boolean", json_path = ".status.protectionStatus.active"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct MultiNicOperatorSpec {
    /// The controller.
    pub controller: ControllerSpec,
    /// The database.
    pub database: DatabaseSpec,
    /// The agents, one on each node; absent, the operator runs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentSpec>,
    /// Defaults of the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openstack: Option<OpenstackEndpoints>,
    /// What is protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<ProtectionSpec>,
    /// Who may talk to whom in the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicySpec>,
    /// When configurations are reconciled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile_trigger: Option<ReconcileTrigger>,
}

/// `spec.controller`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControllerSpec {
    /// Its image.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// How many; 1. One of them leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// Its limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
    /// Its probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_probe: Option<HealthProbe>,
    /// Further settings by the names of their environment variables, such as `VIOLA_ENDPOINT`. Fields of this object go before
    /// them. No secrets: these go into the Secret `operator-secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::settings)]
    pub settings: Option<BTreeMap<String, String>>,
}

/// `spec.agent`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// Its image.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// Its limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
    /// Where it reads what its node is to have: `nodecr` (its `MultiNicNodeConfig`) or `db` (the database that the operator
    /// runs); nodecr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::one_of(&["nodecr", "db"]))]
    pub data_source: Option<String>,
    /// Mount `/etc/sysconfig` and `/etc/udev/rules.d`, for nodes with ifcfg (RHEL and its kin up to 8) or wicked (SLES 15). Pods
    /// don't start on nodes without these folders; no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sysconfig: Option<bool>,
    /// Write the drop-in that keeps systemd-networkd from dropping routes and rules of others, and mount
    /// `/etc/systemd/networkd.conf.d` for it. It counts from networkd's next start; no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_drop_in: Option<bool>,
    /// Further settings by the names of their environment variables, such as `POLL_INTERVAL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::settings)]
    pub settings: Option<BTreeMap<String, String>>,
}

/// Limits of a container, as Kubernetes quantities.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourcesSpec {
    /// Such as `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::quantity)]
    pub cpu: Option<String>,
    /// Such as `128Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::quantity)]
    pub memory: Option<String>,
}

/// `spec.controller.healthProbe`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthProbe {
    /// The TCP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// `spec.database`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSpec {
    /// Whether the operator runs one.
    pub enabled: bool,
    /// Its image; `mariadb:10.11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The size of its volume; `10Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::quantity)]
    pub storage_size: Option<String>,
    /// Its limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
    /// Its accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<DatabaseCredentials>,
    /// Its Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<DatabaseService>,
    /// Its encryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DatabaseTls>,
    /// What becomes of its data and passwords when it is not wanted any more: `Retain` or `Delete`; Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::one_of(&["Retain", "Delete"]))]
    pub deletion_policy: Option<String>,
    /// Backups of the database that the operator runs; absent, there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupSpec>,
    /// A backup by its file's name, or `latest`: an empty server is filled from it before anybody reaches it. One that is not
    /// empty stays as it is, and the condition `Restored` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub restore_from: Option<String>,
    /// A server that the operator does not run, where `enabled` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalDatabase>,
}

/// `spec.database.backup`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = s3::one_target())]
pub struct BackupSpec {
    /// When: a cron expression of five fields.
    #[schemars(length(min = 1, max = 255))]
    pub schedule: String,
    /// The IANA time zone of the schedule; UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub timezone: Option<String>,
    /// What is kept; 14 backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<BackupRetention>,
    /// A PersistentVolumeClaim of your own for the backups, in the operator's namespace; without it the operator makes
    /// `multinic-backups`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(253))]
    pub claim_name: Option<String>,
    /// The size of the claim that the operator makes; `10Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::quantity)]
    pub storage_size: Option<String>,
    /// A bucket of an S3-compatible server in place of a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Target>,
}

/// `spec.database.backup.retention`. What is beyond either goes; the newest backup never does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupRetention {
    /// So many are kept at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub count: Option<i32>,
    /// None is kept that is older, such as `720h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::duration)]
    pub max_age: Option<String>,
}

/// `spec.database.external`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalDatabase {
    /// Its name or address.
    #[schemars(length(min = 1, max = 255))]
    pub host: String,
    /// The port; 3306.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// The database; multinic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub database: Option<String>,
    /// `disabled`, `verify` or `insecure`; verify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::one_of(&["disabled", "verify", "insecure"]))]
    pub tls: Option<String>,
    /// The Secret with the controller's `username` and `password`.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// Key of that Secret with the authority that signed the server's certificate, in PEM, to trust beside the system's. For
    /// `verify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(253))]
    pub ca_key: Option<String>,
}

/// `spec.database.credentials`. What is not given is generated.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseCredentials {
    /// The administrator's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_password: Option<String>,
    /// The database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Any text, such as a date. Another one than before: all get new passwords, but for those that are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub rotation: Option<String>,
    /// Any text, such as a date. Another one than before: a rotation that is under way waits for no program any more. Whoever
    /// has only the old passwords by then, such as the agent of a node that is away, is locked out until he has the new ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub end_rotation: Option<String>,
}

/// Without any content: it may be a password.
impl std::fmt::Debug for DatabaseCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseCredentials").finish_non_exhaustive()
    }
}

/// `spec.database.service`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseService {
    /// `ClusterIP`, `NodePort` or `LoadBalancer`; ClusterIP.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::one_of(&["ClusterIP", "NodePort", "LoadBalancer"]))]
    pub type_: Option<String>,
    /// The port on every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub node_port: Option<i32>,
    /// The port; 3306.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub port: Option<i32>,
}

/// `spec.database.tls`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseTls {
    /// Whether the server has a certificate by an authority that the operator makes, and controller, agents and backups talk to
    /// no other server; yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// `spec.openstack`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenstackEndpoints {
    /// Keystone.
    #[schemars(transform = schema::url)]
    pub identity_endpoint: String,
    /// Neutron.
    #[schemars(transform = schema::url)]
    pub network_endpoint: String,
    /// Nova.
    #[schemars(transform = schema::url)]
    pub compute_endpoint: String,
}

/// `spec.protection`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProtectionSpec {
    /// Refuse what others change or delete of what the operator made; no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_mutation_prevention: Option<bool>,
    /// Put back what others changed; yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_auto_recovery: Option<bool>,
    /// What others may do nevertheless: `scale`, `restart`, `label`, `annotate`, `update`, `delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::texts(64, 64))]
    pub allowed_operations: Option<Vec<String>>,
}

/// `spec.networkPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// Whether NetworkPolicies let only those talk to each other in the operator's namespace who have to; no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Addresses of nodes and API servers beside those that Nodes name as their `InternalIP`.
    #[serde(rename = "nodeCIDRs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::cidrs)]
    pub node_cidrs: Option<Vec<String>>,
    /// What the controller reaches outside of the cluster: OpenStack, Contrabass, a database or a Viola of one's own. With `enabled`
    /// there has to be one.
    #[serde(rename = "openstackCIDRs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::cidrs)]
    pub openstack_cidrs: Option<Vec<String>>,
    /// Where the server of `spec.database.backup.s3` is, if that is outside of the cluster: backups reach nothing else there.
    #[serde(rename = "backupCIDRs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::cidrs)]
    pub backup_cidrs: Option<Vec<String>>,
}

/// `spec.reconcileTrigger`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileTrigger {
    /// `immediate`, `scheduled`, `manual` or `webhook`; immediate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::one_of(&["immediate", "scheduled", "manual", "webhook"]))]
    pub mode: Option<String>,
    /// Between two passes of `scheduled`; 5m, at least 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::duration)]
    pub interval: Option<String>,
    /// A cron expression for `scheduled`, in place of the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub schedule: Option<String>,
    /// The IANA time zone of the schedule; UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub timezone: Option<String>,
    /// Whether a changed configuration is carried out at once in every mode.
    #[serde(rename = "immediateOnCRChange", default, skip_serializing_if = "Option::is_none")]
    pub immediate_on_cr_change: Option<bool>,
}

/// What the operator sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct MultiNicOperatorStatus {
    /// `Running`, `Pending` or `Error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// A sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `ControllerReady`, `DatabaseReady`, `AgentReady`, `ProtectionActive`, `BackupFresh`,
    /// `Restored`, `CredentialsRotating`, `DatabaseCertificateFresh`.
    #[serde(default)]
    #[schemars(transform = schema::conditions)]
    pub conditions: Vec<Condition>,
    /// When this status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
    /// The controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_status: Option<ComponentStatus>,
    /// The database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_status: Option<ComponentStatus>,
    /// The agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_status: Option<ComponentStatus>,
    /// The protection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection_status: Option<ProtectionStatus>,
    /// The newest backup that was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<LastBackup>,
    /// The `spec.database.restoreFrom` that the server was filled from: it acts once, and another one acts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
    /// The restoration that this speaks of, and since which generation of the spec it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_asked: Option<RestoreAsked>,
    /// With `enableAutoRecovery: false`: a digest of each object as it was carried out last. What is wanted otherwise is carried out,
    /// and what is otherwise was changed by others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub carried_out: BTreeMap<String, String>,
}

/// A restoration that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreAsked {
    /// `spec.database.restoreFrom`.
    pub from: String,
    /// The generation of the spec that asked for it.
    pub generation: i64,
    /// The UID of the server's claim, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
}

/// A backup of the database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// When it was begun.
    pub time: String,
    /// The name of its file.
    pub file: String,
    /// The size of that, in bytes.
    pub size_bytes: i64,
    /// Rows of all tables.
    pub rows: i64,
    /// Whether it was restored into a scratch server, which then had the same rows in every table.
    pub verified: bool,
    /// The PersistentVolumeClaim that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_name: Option<String>,
    /// The URL that it is under, where that is a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// One component.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// `Running`, `Pending` or `Error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// How many are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// How many there should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// When this last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
}

/// What the protection did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProtectionStatus {
    /// Whether changes by others are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// How many were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prevented_mutations: Option<i64>,
    /// When the last one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_protection_event: Option<String>,
}
