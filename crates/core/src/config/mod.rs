//! An `OpenstackConfig` as a value: which VMs, which subnets, which cloud, how often.
//!
//! [`Manifest`] is the shape in which users write it, [`parse()`] turns one into the value or says what is wrong.

mod manifest;
mod options;
mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Serialize;
use url::Url;

use crate::{ConfigKey, ProjectId, ServerId, SubnetId};

pub use manifest::{
    Manifest, Metadata, SecretKeyRef, SecretRefs, Settings, SomeOptions, Spec, SpecCredentials,
};
pub use options::{OptionRule, OptionRules};
pub use parse::{ConfigErrors, FieldError, parse};

/// Annotation by which a user confirms removals that were held, with the digest that the status shows.
pub const CONFIRM_REMOVALS: &str = "multinic.io/confirm-removals";

/// What a user declared, checked.
#[derive(Debug, Clone)]
pub struct OpenstackConfig {
    /// Its name.
    pub key: ConfigKey,
    /// Which NICs.
    pub selection: Selection,
    /// Of which cloud.
    pub cloud: CloudAccess,
    /// How often.
    pub cadence: Cadence,
    /// Key of the inventory and of Viola's routes; none in the older shape.
    pub k8s_provider_id: Option<String>,
    /// SHA-256 in hex, shortened to the 64 characters of its column, of what the spec itself says about which NICs are
    /// selected and where they are looked for. Secrets, time-outs and intervals are not in it, nor what the controller's
    /// own settings supply: changing those is not a change of what the user wants.
    pub spec_hash: String,
    /// What is said of its NICs beyond their addresses. No part of the hash: they select nothing.
    pub options: OptionRules,
    /// The digests of held removals that the user confirmed.
    pub confirmed_removals: BTreeSet<String>,
}

/// Marks a spec hash as ours: the older programs recorded hashes of other things in the same column of 64 characters.
pub const SPEC_HASH_PREFIX: &str = "v1:";

/// Which NICs a configuration wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Selection {
    /// The VMs, without repetition, in the user's order.
    pub vms: Vec<VmRef>,
    /// The subnets.
    pub subnets: SubnetSelector,
    /// The port statuses with which a NIC is taken up. One that was taken up stays, whatever its port's status.
    pub statuses: StatusFilter,
    /// The key of the server metadata that holds the node's name.
    pub node_name_key: Option<String>,
}

/// One VM as the user names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum VmRef {
    /// By Nova's UUID, in lower case.
    Id(ServerId),
    /// By its name, which must be unique in the project.
    Name(String),
}

/// The subnets that a configuration selects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum SubnetSelector {
    /// By id, in the user's order, which decides the order of slots.
    Ids(Vec<SubnetId>),
    /// By name, which must be unique among those the project sees.
    Name(String),
}

/// The port statuses with which a NIC is taken up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum StatusFilter {
    /// Any.
    Any,
    /// These, in capitals. A port without a status always passes.
    Only(BTreeSet<String>),
}

/// How to reach a cloud.
#[derive(Debug, Clone)]
pub struct CloudAccess {
    /// Who we are, and to whom we say it.
    pub credentials: Credentials,
    /// The project. May be absent with an application credential, which is bound to one.
    pub project: Option<ProjectId>,
    /// Which endpoints.
    pub endpoints: Endpoints,
    /// How the certificates of Keystone, Neutron and Nova are verified.
    pub tls: Tls,
    /// Time limit of one request to Keystone, Neutron or Nova.
    pub timeout: Duration,
}

/// Which endpoints of the catalog, or which URLs in place of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// In place of the catalog's entry of type `network`, with or without `/v2.0`.
    pub neutron: Option<Url>,
    /// In place of the catalog's entry of type `compute`, with or without `/v2.1`.
    pub nova: Option<Url>,
    /// `public`, `internal` or `admin`.
    pub interface: String,
    /// The region; none where the catalog has only one for the service.
    pub region: Option<String>,
}

/// How a server's certificate is verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Not at all. Only ever true because a user asked for it by name.
    pub insecure: bool,
    /// A PEM file of certification authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// Who we are in the cloud.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A user with a password.
    Password {
        /// Keystone, with or without `/v3`.
        auth_url: Url,
        /// The user's name.
        username: String,
        /// The name of the user's domain.
        domain: String,
        /// The password.
        password: SecretString,
    },
    /// An application credential.
    ApplicationCredential {
        /// Keystone, with or without `/v3`.
        auth_url: Url,
        /// The credential's id.
        id: String,
        /// Its secret.
        secret: SecretString,
    },
    /// A provider that Contrabass knows: it names Keystone, the administrator and the encrypted password.
    Provider {
        /// Contrabass' base URL.
        contrabass: Url,
        /// The key under which Contrabass knows the cloud.
        provider_id: String,
        /// The AES key of the passwords: 16, 24 or 32 bytes, checked when the configuration is read.
        key: SecretString,
        /// Time limit of the request to Contrabass.
        timeout: Duration,
        /// How Contrabass' certificate is verified.
        tls: Tls,
    },
}

/// How often the cloud is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cadence {
    /// After a change.
    pub fast: Duration,
    /// When nothing has changed for [`Self::window`].
    pub slow: Duration,
    /// After an error.
    pub error: Duration,
    /// How long after a change reads stay fast.
    pub window: Duration,
    /// How many fast reads a set of DOWN ports earns before they become slow.
    pub down_retries: u32,
}

impl Default for Cadence {
    fn default() -> Self {
        Self {
            fast: Duration::from_secs(20),
            slow: Duration::from_secs(120),
            error: Duration::from_secs(30),
            window: Duration::from_secs(180),
            down_retries: 5,
        }
    }
}

/// What the controller's own settings supply where a configuration is silent.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// Contrabass' base URL (`CONTRABASS_ENDPOINT`).
    pub contrabass_endpoint: Option<Url>,
    /// The AES key (`CONTRABASS_ENCRYPT_KEY`).
    pub contrabass_key: Option<SecretString>,
    /// `CONTRABASS_TIMEOUT`, 30 s.
    pub contrabass_timeout: Option<Duration>,
    /// `CONTRABASS_INSECURE_TLS`, false.
    pub contrabass_insecure: bool,
    /// `OPENSTACK_TIMEOUT`, 30 s.
    pub openstack_timeout: Option<Duration>,
    /// `OPENSTACK_INSECURE_TLS`, false.
    pub openstack_insecure: bool,
    /// `OPENSTACK_CA_FILE`.
    pub openstack_ca_file: Option<PathBuf>,
    /// Keystone's URL (`OPENSTACK_AUTH_URL`).
    pub auth_url: Option<Url>,
    /// `OPENSTACK_NEUTRON_ENDPOINT`.
    pub neutron_endpoint: Option<Url>,
    /// `OPENSTACK_NOVA_ENDPOINT`.
    pub nova_endpoint: Option<Url>,
    /// `OPENSTACK_ENDPOINT_INTERFACE`, `public`.
    pub endpoint_interface: Option<String>,
    /// `OPENSTACK_ENDPOINT_REGION`.
    pub endpoint_region: Option<String>,
    /// `OPENSTACK_NODE_NAME_METADATA_KEY`.
    pub node_name_key: Option<String>,
    /// `OPENSTACK_PORT_ALLOWED_STATUSES`, `ACTIVE,DOWN`.
    pub port_statuses: Option<Vec<String>>,
    /// `POLL_*` and `DOWN_PORT_FAST_RETRY_MAX`.
    pub cadence: Cadence,
}

/// Annotations of a manifest.
pub(crate) type Annotations = BTreeMap<String, String>;
