//! `OpenstackConfig`: which VMs, which subnets, which credentials. Both shapes of the older programs in one schema.

mod rules;

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, OptionsSpec, SecretKeyRef, schema};

/// What a user declares.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "multinic.example.com",
    version = "v1alpha1",
    kind = "OpenstackConfig",
    plural = "openstackconfigs",
    singular = "openstackconfig",
    shortname = "osc",
    category = "multinic",
    label("app.kubernetes.io/part-of", "multinic"),
    doc = "Which VMs of which cloud get NICs in which subnets.",
    namespaced,
    status = "OpenstackConfigStatus",
    derive = "PartialEq",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "NICs", type_ = "integer", json_path = ".status.interfaces"),
    printcolumn(name = "Synced", type_ = "date", json_path = ".status.lastSyncedAt", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::some_vm(),
    validation = rules::some_subnet(),
    validation = rules::one_kind_of_credentials(),
    validation = rules::one_provider_id(),
    validation = rules::project(),
    validation = rules::domain(),
    validation = rules::some_password(),
    validation = rules::one_password(),
    validation = rules::some_application_secret(),
    validation = rules::one_application_secret(),
    validation = rules::cloud_of_a_file(),
    validation = rules::provider_for_viola(),
    validation = rules::target_for_kubernetes(),
)]
#[schemars(transform = schema::plain)]
pub struct OpenstackConfigSpec {
    /// Subnets by id, in the order of slots. Wins over subnetID and subnetName.
    #[serde(rename = "subnetIDs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::texts(1024, schema::NAME))]
    pub subnet_ids: Option<Vec<String>>,
    /// One subnet by id. Wins over the name.
    #[serde(rename = "subnetID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub subnet_id: Option<String>,
    /// One subnet by its name, which must be unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub subnet_name: Option<String>,
    /// One VM, by UUID or by name, beside those of vmNames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub vm_name: Option<String>,
    /// VMs, by UUID or by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::filled_texts(10_000, schema::NAME, "is blank: name a VM, or remove the entry"))]
    pub vm_names: Option<Vec<String>>,
    /// Who we are in the cloud.
    #[serde(default)]
    pub credentials: CredentialsSpec,
    /// Everything that has a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingsSpec>,
    /// References to Secrets in the configuration's namespace, in place of the inline forms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretsSpec>,
    /// Where the NICs of this configuration are published, in place of the controller's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub sinks: Option<Vec<Sink>>,
    /// Another cluster, or another namespace, for the sink `kubernetes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetSpec>,
    /// Options of every NIC of this configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<OptionsSpec>,
    /// Options of some of them, which go before those of all. Of several that mean a NIC, the first counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "atomic"))]
    pub interface_options: Option<Vec<InterfaceOptionsSpec>>,
}

/// Options of the NICs of a port, or of a subnet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceOptionsSpec {
    /// The subnet of the NIC's first address.
    #[serde(rename = "subnetID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub subnet_id: Option<String>,
    /// The NIC's port.
    #[serde(rename = "portID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub port_id: Option<String>,
    /// The options.
    pub options: OptionsSpec,
}

/// A place to publish to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sink {
    /// The SQL tables that agents read.
    Database,
    /// The Viola API.
    Viola,
    /// `MultiNicNodeConfig` objects.
    Kubernetes,
}

/// Where `MultiNicNodeConfig` objects are written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetSpec {
    /// The namespace; the controller's `NODE_CR_NAMESPACE` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// A kubeconfig of the cluster; this cluster if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret_ref: Option<SecretKeyRef>,
}

/// `spec.credentials`: by provider id, by application credential, by password, or from a `clouds.yaml`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSpec {
    /// Contrabass' key of the cloud.
    #[serde(rename = "openstackProviderID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub openstack_provider_id: Option<String>,
    /// An older name of `openstackProviderID`.
    #[serde(rename = "providerID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub provider_id: Option<String>,
    /// Sent to Viola as `x-provider-id`; key of the inventory.
    #[serde(rename = "k8sProviderID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub k8s_provider_id: Option<String>,
    /// The project.
    #[serde(rename = "projectID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub project_id: Option<String>,
    /// Keystone, with or without `/v3`; the controller's `OPENSTACK_AUTH_URL` if absent.
    #[serde(rename = "authURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::url)]
    pub auth_url: Option<String>,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub username: Option<String>,
    /// The password. Better: `spec.secrets.passwordSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::SECRET))]
    pub password: Option<String>,
    /// The name of the user's domain, such as `Default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub domain_name: Option<String>,
    /// An application credential's id.
    #[serde(rename = "applicationCredentialID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub application_credential_id: Option<String>,
    /// Its secret. Better: `spec.secrets.applicationCredentialSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::SECRET))]
    pub application_credential_secret: Option<String>,
    /// The cloud's name within the `clouds.yaml` of `spec.secrets.cloudsSecretRef`; `openstack` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub cloud: Option<String>,
    /// In place of the catalog's network endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::url)]
    pub network_endpoint: Option<String>,
    /// In place of the catalog's compute endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::url)]
    pub compute_endpoint: Option<String>,
}

/// Without any content: it may be a password.
impl std::fmt::Debug for CredentialsSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialsSpec").finish_non_exhaustive()
    }
}

/// Without its credentials and settings: parts of them are secret.
impl std::fmt::Debug for OpenstackConfigSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenstackConfigSpec")
            .field("subnet_ids", &self.subnet_ids)
            .field("subnet_id", &self.subnet_id)
            .field("subnet_name", &self.subnet_name)
            .field("vm_name", &self.vm_name)
            .field("vm_names", &self.vm_names)
            .field("sinks", &self.sinks)
            .field("target", &self.target)
            .field("options", &self.options)
            .field("interface_options", &self.interface_options)
            .finish_non_exhaustive()
    }
}

/// `spec.settings`. Durations are texts such as `30s`, `2m`, `1h30m`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SettingsSpec {
    /// Contrabass' base URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::url)]
    pub contrabass_endpoint: Option<String>,
    /// The AES key of Contrabass' passwords. Better: `spec.secrets.contrabassEncryptKeySecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::SECRET))]
    pub contrabass_encrypt_key: Option<String>,
    /// Time limit of a request to Contrabass; 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::duration)]
    pub contrabass_timeout: Option<String>,
    /// Don't verify Contrabass' certificate.
    #[serde(rename = "contrabassInsecureTLS", default, skip_serializing_if = "Option::is_none")]
    pub contrabass_insecure_tls: Option<bool>,
    /// Viola's base URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::url)]
    pub viola_endpoint: Option<String>,
    /// Time limit of a request to Viola; 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::duration)]
    pub viola_timeout: Option<String>,
    /// Don't verify Viola's certificate.
    #[serde(rename = "violaInsecureTLS", default, skip_serializing_if = "Option::is_none")]
    pub viola_insecure_tls: Option<bool>,
    /// Time limit of a request to Keystone, Neutron or Nova; 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::duration)]
    pub openstack_timeout: Option<String>,
    /// Don't verify the certificates of Keystone, Neutron and Nova.
    #[serde(rename = "openstackInsecureTLS", default, skip_serializing_if = "Option::is_none")]
    pub openstack_insecure_tls: Option<bool>,
    /// A PEM file, in the controller's file system, of certification authorities to trust beside the system's.
    #[serde(rename = "openstackCAFile", default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::PLACE))]
    pub openstack_ca_file: Option<String>,
    /// In place of the catalog's network endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::url)]
    pub openstack_neutron_endpoint: Option<String>,
    /// In place of the catalog's compute endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::url)]
    pub openstack_nova_endpoint: Option<String>,
    /// `public`, `internal` or `admin`; public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::one_of(&["public", "internal", "admin"]))]
    pub openstack_endpoint_interface: Option<String>,
    /// The region; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub openstack_endpoint_region: Option<String>,
    /// The key of the server metadata that holds the node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(schema::NAME))]
    pub openstack_node_name_metadata_key: Option<String>,
    /// The port statuses with which a NIC is taken up; ACTIVE and DOWN. `*` is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::texts(64, 64))]
    pub openstack_port_allowed_statuses: Option<Vec<String>>,
    /// How many fast reads a set of DOWN ports earns before they become slow; 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_port_fast_retry_max: Option<i32>,
    /// How often the cloud is read after a change; 20s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::duration)]
    pub poll_fast_interval: Option<String>,
    /// How often when nothing changes; 2m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::duration)]
    pub poll_slow_interval: Option<String>,
    /// How often after an error; 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::duration)]
    pub poll_error_interval: Option<String>,
    /// How long after a change reads stay fast; 3m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::duration)]
    pub poll_fast_window: Option<String>,
}

/// Without any content: it may be a key.
impl std::fmt::Debug for SettingsSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SettingsSpec").finish_non_exhaustive()
    }
}

/// `spec.secrets`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretsSpec {
    /// The AES key of Contrabass' passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrabass_encrypt_key_secret_ref: Option<SecretKeyRef>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
    /// The application credential's secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_credential_secret_ref: Option<SecretKeyRef>,
    /// A `clouds.yaml` with everything about the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clouds_secret_ref: Option<SecretKeyRef>,
    /// The bearer token for Viola.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viola_token_secret_ref: Option<SecretKeyRef>,
}

/// What the controller made of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct OpenstackConfigStatus {
    /// `Ready`, `Reconciling`, `Stalled`, `Degraded`, `CloudReachable`, `Published`, `RemovalNotPropagated`.
    #[serde(default)]
    #[schemars(transform = schema::conditions)]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the published state was last known to agree with the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub last_synced_at: Option<String>,
    /// The message of the last failure, without secrets; absent on success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Everything that could not be done as the spec wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problems: Option<Vec<String>>,
    /// How many interfaces are published from this configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<i64>,
    /// The digest of removals that wait for a person, for the annotation `multinic.io/confirm-removals`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_removals: Option<String>,
    /// How often ports that are DOWN were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_port_retry: Option<DownPortRetry>,
    /// The value of the annotation `multinic.io/reconcile-at` that was carried out last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Not written; objects of the first generation have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Not written; objects of the first generation have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Not written; objects of the first generation have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
    /// Not written; objects of the first generation have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_info: Option<BTreeMap<String, String>>,
    /// Not written; objects of the first generation have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_network_infos: Option<Vec<BTreeMap<String, String>>>,
}

/// How often ports that are DOWN were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownPortRetry {
    /// SHA-256 in hex of the sorted ids of these ports, joined by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// When they were last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub last_attempt: Option<String>,
    /// How many fast reads they had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_attempts: Option<i32>,
}
