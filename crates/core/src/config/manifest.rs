//! The shapes in which users write an `OpenstackConfig`: both generations of the older programs in one.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{ConfigKey, InterfaceOptions};

/// A whole document. Unknown keys are errors: a misspelt key would otherwise be a setting without effect.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// `multinic.example.com/v1alpha1`.
    pub api_version: String,
    /// `OpenstackConfig`.
    pub kind: String,
    /// Name, namespace, annotations.
    pub metadata: Metadata,
    /// What the user wants.
    pub spec: Spec,
    /// Whatever a dump of a cluster has there; not read.
    #[serde(default)]
    pub status: Option<serde::de::IgnoredAny>,
}

/// The part of the metadata that is read; the rest is allowed, since dumps of a cluster have much of it.
#[derive(Clone, Default, Deserialize)]
pub struct Metadata {
    /// The object's name.
    pub name: String,
    /// The namespace, `default` if absent.
    pub namespace: Option<String>,
    /// Annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Metadata {
    /// The configuration's key, also of one that can't be parsed: both parts trimmed, `default` for no namespace.
    pub fn key(&self) -> ConfigKey {
        let namespace = self.namespace.as_deref().map(str::trim).filter(|text| !text.is_empty());
        ConfigKey::new(namespace.unwrap_or("default"), self.name.trim())
    }
}

/// Without the annotations' values: `kubectl apply` keeps the whole manifest in one of them, secrets and all.
impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, namespace, annotations } = self;
        f.debug_struct("Metadata")
            .field("name", name)
            .field("namespace", namespace)
            .field("annotations", &annotations.keys())
            .finish()
    }
}

/// `spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// Subnets by id, in the order of slots. Wins over the two below.
    #[serde(rename = "subnetIDs", default)]
    pub subnet_ids: Vec<String>,
    /// One subnet by id. Wins over the name.
    #[serde(rename = "subnetID")]
    pub subnet_id: Option<String>,
    /// One subnet by its name.
    pub subnet_name: Option<String>,
    /// One VM, by name or UUID.
    pub vm_name: Option<String>,
    /// VMs, by name or UUID.
    #[serde(default)]
    pub vm_names: Vec<String>,
    /// Who we are in the cloud.
    #[serde(default)]
    pub credentials: SpecCredentials,
    /// Everything that has a default.
    #[serde(default)]
    pub settings: Settings,
    /// References to Secrets.
    #[serde(default)]
    pub secrets: SecretRefs,
    /// Options of every NIC.
    #[serde(default)]
    pub options: InterfaceOptions,
    /// Options of some of them.
    #[serde(default)]
    pub interface_options: Vec<SomeOptions>,
}

/// `spec.interfaceOptions[]`: options of the NICs of a port, or of a subnet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SomeOptions {
    /// The subnet of the NIC's first address.
    #[serde(rename = "subnetID")]
    pub subnet_id: Option<String>,
    /// The NIC's port.
    #[serde(rename = "portID")]
    pub port_id: Option<String>,
    /// The options.
    pub options: InterfaceOptions,
}

/// `spec.credentials`: by provider id, by application credential or by password.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpecCredentials {
    /// Contrabass' key of the cloud.
    #[serde(rename = "openstackProviderID", alias = "providerID")]
    pub openstack_provider_id: Option<String>,
    /// Sent as `x-provider-id`; key of the inventory.
    #[serde(rename = "k8sProviderID")]
    pub k8s_provider_id: Option<String>,
    /// The project.
    #[serde(rename = "projectID")]
    pub project_id: Option<String>,
    /// Keystone, with or without `/v3`.
    #[serde(rename = "authURL")]
    pub auth_url: Option<String>,
    /// The user's name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The name of the user's domain, such as `Default`.
    pub domain_name: Option<String>,
    /// An application credential's id.
    #[serde(rename = "applicationCredentialID")]
    pub application_credential_id: Option<String>,
    /// Its secret.
    pub application_credential_secret: Option<String>,
    /// In place of the catalog's network endpoint.
    pub network_endpoint: Option<String>,
    /// In place of the catalog's compute endpoint.
    pub compute_endpoint: Option<String>,
}

impl std::fmt::Debug for SpecCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpecCredentials").finish_non_exhaustive()
    }
}

/// `spec.settings`.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_docs)] // Each has the name of the variable in `Defaults` that it overrides.
pub struct Settings {
    pub contrabass_endpoint: Option<String>,
    pub contrabass_encrypt_key: Option<String>,
    pub contrabass_timeout: Option<String>,
    #[serde(rename = "contrabassInsecureTLS")]
    pub contrabass_insecure_tls: Option<bool>,
    pub viola_endpoint: Option<String>,
    pub viola_timeout: Option<String>,
    #[serde(rename = "violaInsecureTLS")]
    pub viola_insecure_tls: Option<bool>,
    pub openstack_timeout: Option<String>,
    #[serde(rename = "openstackInsecureTLS")]
    pub openstack_insecure_tls: Option<bool>,
    #[serde(rename = "openstackCAFile")]
    pub openstack_ca_file: Option<String>,
    pub openstack_neutron_endpoint: Option<String>,
    pub openstack_nova_endpoint: Option<String>,
    pub openstack_endpoint_interface: Option<String>,
    pub openstack_endpoint_region: Option<String>,
    pub openstack_node_name_metadata_key: Option<String>,
    pub openstack_port_allowed_statuses: Option<Vec<String>>,
    pub down_port_fast_retry_max: Option<i32>,
    pub poll_fast_interval: Option<String>,
    pub poll_slow_interval: Option<String>,
    pub poll_error_interval: Option<String>,
    pub poll_fast_window: Option<String>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

/// `spec.secrets`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRefs {
    /// Where the AES key of Contrabass' passwords is.
    pub contrabass_encrypt_key_secret_ref: Option<SecretKeyRef>,
}

/// One key of a Secret in the configuration's namespace.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretKeyRef {
    /// The Secret.
    pub name: String,
    /// The key within it.
    pub key: String,
}
