//! From a manifest to the value: every rule that a user can break, with the field that breaks it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::{Digest, Sha256};
use url::Url;

use super::{
    Annotations, CONFIRM_REMOVALS, Cadence, CloudAccess, Credentials, Defaults, Endpoints, Manifest,
    OpenstackConfig, OptionRules, SPEC_HASH_PREFIX, SecretKeyRef, Selection, Settings, Spec, StatusFilter,
    SubnetSelector, Tls, VmRef,
};
use crate::ProjectId;

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The path of the field.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

/// Everything that is wrong with a configuration, so that a user mends it in one go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<FieldError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, FieldError { field, problem }) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{field}: {problem}")?;
        }
        Ok(())
    }
}

/// Checks a manifest. What it leaves out comes from `defaults`, and then from the contract's own defaults.
pub fn parse(manifest: &Manifest, defaults: &Defaults) -> Result<OpenstackConfig, ConfigErrors> {
    let mut fields = Fields::default();
    if manifest.api_version != "multinic.example.com/v1alpha1" {
        fields
            .wrong("apiVersion", format!("{:?} is not multinic.example.com/v1alpha1", manifest.api_version));
    }
    if manifest.kind != "OpenstackConfig" {
        fields.wrong("kind", format!("{:?} is not OpenstackConfig", manifest.kind));
    }
    if manifest.metadata.name.trim().is_empty() {
        fields.wrong("metadata.name", "is empty");
    }
    let spec = &manifest.spec;
    let selection = selection(&mut fields, spec, defaults);
    let cloud = cloud(&mut fields, spec, defaults);
    let options = OptionRules::parse(spec).unwrap_or_else(|errors| {
        fields.0.extend(errors);
        OptionRules::default()
    });
    let cadence = cadence(&mut fields, &spec.settings, &defaults.cadence);
    match (selection, cloud) {
        (Some(selection), Some(cloud)) if fields.0.is_empty() => Ok(OpenstackConfig {
            spec_hash: spec_hash(spec, &cloud),
            key: manifest.metadata.key(),
            selection,
            cloud,
            cadence,
            options,
            k8s_provider_id: text(spec.credentials.k8s_provider_id.as_ref()),
            confirmed_removals: confirmed_removals(&manifest.metadata.annotations),
        }),
        _ => Err(ConfigErrors(fields.0)),
    }
}

/// See [`OpenstackConfig::spec_hash`].
fn spec_hash(spec: &Spec, cloud: &CloudAccess) -> String {
    #[derive(Serialize)]
    struct Scope<'a> {
        selection: Option<Selection>,
        identity: &'a str,
        project: Option<&'a ProjectId>,
        neutron: Option<String>,
        region: Option<String>,
    }
    let identity = match &cloud.credentials {
        Credentials::Password { auth_url, .. } | Credentials::ApplicationCredential { auth_url, .. } => {
            auth_url.as_str()
        }
        Credentials::Provider { provider_id, .. } => provider_id,
    };
    let neutron = text(spec.settings.openstack_neutron_endpoint.as_ref());
    let scope = Scope {
        // What is wrong with it was said already; here it is read without the controller's settings.
        selection: selection(&mut Fields::default(), spec, &Defaults::default()),
        identity,
        project: cloud.project.as_ref(),
        neutron: neutron.or_else(|| text(spec.credentials.network_endpoint.as_ref())),
        region: text(spec.settings.openstack_endpoint_region.as_ref()),
    };
    // Only maps with keys that are not texts fail to serialise, and there is none.
    let json = serde_json::to_vec(&scope).unwrap_or_default();
    let hex = Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    SPEC_HASH_PREFIX.chars().chain(hex.chars()).take(64).collect()
}

#[derive(Default)]
struct Fields(Vec<FieldError>);

impl Fields {
    fn wrong(&mut self, field: &str, problem: impl Into<String>) {
        self.0.push(FieldError { field: field.to_owned(), problem: problem.into() });
    }

    fn require<T>(&mut self, field: &str, value: Option<T>, what: &str) -> Option<T> {
        if value.is_none() {
            self.wrong(field, format!("is required: {what}"));
        }
        value
    }

    fn url(&mut self, field: &str, value: Option<String>) -> Option<Url> {
        match value?.parse::<Url>() {
            // A URL is shown in logs and errors, so no part of it may be a secret.
            Ok(url) if url.password().is_some() || !url.username().is_empty() => {
                self.wrong(field, "has a user name or password in it; give them in their own fields");
                None
            }
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
            Ok(url) => {
                self.wrong(field, format!("{url} is not an http or https URL with a host"));
                None
            }
            Err(error) => {
                self.wrong(field, format!("is not a URL: {error}"));
                None
            }
        }
    }

    fn duration(&mut self, field: &str, value: Option<&String>) -> Option<SignedDuration> {
        let text = value.map(|text| text.trim()).filter(|text| !text.is_empty())?;
        // The one duration that the older programs read without a unit.
        if text == "0" {
            return Some(SignedDuration::ZERO);
        }
        match text.parse::<SignedDuration>() {
            Ok(duration) => Some(duration),
            Err(_) => {
                self.wrong(field, format!("invalid duration: {text:?} is not of the form 30s, 2m or 1h30m"));
                None
            }
        }
    }

    /// A time limit: positive, or the default.
    fn timeout(&mut self, field: &str, value: Option<&String>, default: Option<Duration>) -> Duration {
        let default = default.unwrap_or(Duration::from_secs(30));
        match self.duration(field, value).map(Duration::try_from) {
            None => default,
            Some(Ok(limit)) if !limit.is_zero() => limit,
            Some(_) => {
                self.wrong(field, "invalid duration: a time limit must be greater than zero");
                default
            }
        }
    }
}

fn text(value: Option<&String>) -> Option<String> {
    value.map(|text| text.trim()).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn unique<T: Clone + PartialEq>(list: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for item in list {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

fn confirmed_removals(annotations: &Annotations) -> BTreeSet<String> {
    let digests = annotations.get(CONFIRM_REMOVALS).map(String::as_str).unwrap_or_default();
    digests.split([',', ' ']).filter(|digest| !digest.is_empty()).map(str::to_owned).collect()
}

fn selection(fields: &mut Fields, spec: &Spec, defaults: &Defaults) -> Option<Selection> {
    let named = spec.vm_names.iter().chain(&spec.vm_name).filter_map(|name| text(Some(name)));
    let mut seen = std::collections::HashSet::new();
    let vms: Vec<VmRef> = named.map(vm_ref).filter(|vm| seen.insert(vm.clone())).collect();
    if vms.is_empty() {
        fields.wrong("spec.vmNames", "name at least one VM, by UUID or by name");
    }
    let ids = unique(spec.subnet_ids.iter().filter_map(|id| text(Some(id))));
    let ids = if ids.is_empty() { text(spec.subnet_id.as_ref()).into_iter().collect() } else { ids };
    let subnets = match (ids.is_empty(), text(spec.subnet_name.as_ref())) {
        (false, _) => Some(SubnetSelector::Ids(ids.into_iter().map(Into::into).collect())),
        (true, Some(name)) => Some(SubnetSelector::Name(name)),
        (true, None) => {
            fields.wrong("spec.subnetIDs", "SubnetRequired: give subnetIDs, subnetID or subnetName");
            None
        }
    };
    let statuses = spec.settings.openstack_port_allowed_statuses.as_ref().or(defaults.port_statuses.as_ref());
    let node_name_key = text(spec.settings.openstack_node_name_metadata_key.as_ref());
    Some(Selection {
        vms,
        subnets: subnets?,
        statuses: statuses.map_or_else(
            || StatusFilter::Only(["ACTIVE", "DOWN"].map(str::to_owned).into()),
            |list| status_filter(list),
        ),
        node_name_key: node_name_key.or_else(|| text(defaults.node_name_key.as_ref())),
    })
}

/// A UUID in Nova's form is an id; anything else is a name. Nova keeps ids in lower case.
fn vm_ref(text: String) -> VmRef {
    let groups: Vec<&str> = text.split('-').collect();
    let is_uuid = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_uuid { VmRef::Id(text.to_ascii_lowercase().into()) } else { VmRef::Name(text) }
}

fn status_filter(list: &[String]) -> StatusFilter {
    let usable: BTreeSet<String> = list
        .iter()
        .map(|status| status.trim().to_ascii_uppercase())
        .filter(|status| !status.is_empty())
        .collect();
    if usable.is_empty() || usable.contains("*") { StatusFilter::Any } else { StatusFilter::Only(usable) }
}

fn cloud(fields: &mut Fields, spec: &Spec, defaults: &Defaults) -> Option<CloudAccess> {
    let settings = &spec.settings;
    let mut endpoint = |setting: (&str, &Option<String>), beside: (&str, &Option<String>)| {
        let given = [setting, beside].into_iter();
        let (field, url) =
            given.map(|(field, url)| (field, text(url.as_ref()))).find(|(_, url)| url.is_some())?;
        fields.url(field, url)
    };
    let neutron = endpoint(
        ("spec.settings.openstackNeutronEndpoint", &settings.openstack_neutron_endpoint),
        ("spec.credentials.networkEndpoint", &spec.credentials.network_endpoint),
    );
    let nova = endpoint(
        ("spec.settings.openstackNovaEndpoint", &settings.openstack_nova_endpoint),
        ("spec.credentials.computeEndpoint", &spec.credentials.compute_endpoint),
    );
    let interface = text(settings.openstack_endpoint_interface.as_ref());
    if let Some(interface) = interface.as_deref().filter(|it| !matches!(*it, "public" | "internal" | "admin"))
    {
        let problem = format!("{interface:?} is not public, internal or admin");
        fields.wrong("spec.settings.openstackEndpointInterface", problem);
    }
    let endpoints = Endpoints {
        neutron: neutron.or_else(|| defaults.neutron_endpoint.clone()),
        nova: nova.or_else(|| defaults.nova_endpoint.clone()),
        interface: interface
            .or_else(|| defaults.endpoint_interface.clone())
            .unwrap_or_else(|| "public".to_owned()),
        region: text(settings.openstack_endpoint_region.as_ref())
            .or_else(|| defaults.endpoint_region.clone()),
    };
    let tls = Tls {
        insecure: settings.openstack_insecure_tls.unwrap_or(defaults.openstack_insecure),
        ca_file: text(settings.openstack_ca_file.as_ref())
            .map(Into::into)
            .or_else(|| defaults.openstack_ca_file.clone()),
    };
    let timeout = fields.timeout(
        "spec.settings.openstackTimeout",
        settings.openstack_timeout.as_ref(),
        defaults.openstack_timeout,
    );
    let project = text(spec.credentials.project_id.as_ref());
    if project.is_none() && text(spec.credentials.application_credential_id.as_ref()).is_none() {
        fields.wrong("spec.credentials.projectID", "is required: the project whose ports are read");
    }
    let credentials = credentials(fields, spec, defaults)?;
    Some(CloudAccess { credentials, project: project.map(Into::into), endpoints, tls, timeout })
}

fn credentials(fields: &mut Fields, spec: &Spec, defaults: &Defaults) -> Option<Credentials> {
    let given = &spec.credentials;
    let provider = text(given.openstack_provider_id.as_ref());
    let credential_id = text(given.application_credential_id.as_ref());
    let username = text(given.username.as_ref());
    let kinds = [provider.is_some(), credential_id.is_some(), username.is_some()];
    match kinds.iter().filter(|kind| **kind).count() {
        1 => {}
        0 => {
            fields.wrong(
                "spec.credentials",
                "give openstackProviderID (through Contrabass), applicationCredentialID or username",
            );
            return None;
        }
        _ => {
            fields.wrong(
                "spec.credentials",
                "give only one of openstackProviderID, applicationCredentialID and username",
            );
            return None;
        }
    }
    if let Some(provider_id) = provider {
        return contrabass(fields, spec, defaults, provider_id);
    }
    let auth_url = match text(given.auth_url.as_ref()) {
        Some(url) => fields.url("spec.credentials.authURL", Some(url)),
        None => fields.require(
            "spec.credentials.authURL",
            defaults.auth_url.clone(),
            "Keystone's URL (or set OPENSTACK_AUTH_URL)",
        ),
    };
    if let Some(id) = credential_id {
        let secret = fields.require(
            "spec.credentials.applicationCredentialSecret",
            text(given.application_credential_secret.as_ref()),
            "the application credential's secret",
        );
        return Some(Credentials::ApplicationCredential { auth_url: auth_url?, id, secret: secret?.into() });
    }
    // A password may begin or end with a blank.
    let password = given.password.clone().filter(|password| !password.is_empty());
    let password = fields.require("spec.credentials.password", password, "the user's password");
    let domain = fields.require(
        "spec.credentials.domainName",
        text(given.domain_name.as_ref()),
        "the name of the user's domain, such as Default",
    );
    Some(Credentials::Password {
        auth_url: auth_url?,
        username: username?,
        domain: domain?,
        password: password?.into(),
    })
}

fn contrabass(
    fields: &mut Fields,
    spec: &Spec,
    defaults: &Defaults,
    provider_id: String,
) -> Option<Credentials> {
    let settings = &spec.settings;
    let endpoint = fields
        .url("spec.settings.contrabassEndpoint", text(settings.contrabass_endpoint.as_ref()))
        .or_else(|| defaults.contrabass_endpoint.clone());
    if endpoint.is_none() && settings.contrabass_endpoint.is_none() {
        fields.wrong(
            "spec.settings.contrabassEndpoint",
            "is required with openstackProviderID (or set CONTRABASS_ENDPOINT)",
        );
    }
    let timeout = fields.timeout(
        "spec.settings.contrabassTimeout",
        settings.contrabass_timeout.as_ref(),
        defaults.contrabass_timeout,
    );
    // Resolved by whoever can read Secrets, and handed over as a default. One that is named and could not be resolved is
    // never replaced by the inline form.
    let reference = spec.secrets.contrabass_encrypt_key_secret_ref.as_ref();
    if let Some(SecretKeyRef { name, key }) = reference {
        for (field, value) in [("name", name), ("key", key)] {
            if value.trim().is_empty() {
                fields.wrong(&format!("spec.secrets.contrabassEncryptKeySecretRef.{field}"), "is empty");
            }
        }
    }
    let inline: Option<SecretString> =
        text(settings.contrabass_encrypt_key.as_ref()).filter(|_| reference.is_none()).map(Into::into);
    let key = inline.or_else(|| defaults.contrabass_key.clone());
    match &key {
        None if reference.is_some() => fields.wrong(
            "spec.secrets.contrabassEncryptKeySecretRef",
            "Secrets can't be read here; set CONTRABASS_ENCRYPT_KEY or spec.settings.contrabassEncryptKey instead",
        ),
        None => fields.wrong(
            "spec.settings.contrabassEncryptKey",
            "is required with openstackProviderID (or set CONTRABASS_ENCRYPT_KEY)",
        ),
        Some(key) => {
            let length = key.expose_secret().len();
            if !matches!(length, 16 | 24 | 32) {
                fields.wrong(
                    "spec.settings.contrabassEncryptKey",
                    format!("has {length} bytes: an AES key has 16, 24 or 32"),
                );
            }
        }
    }
    Some(Credentials::Provider {
        contrabass: endpoint?,
        provider_id,
        key: key?,
        timeout,
        tls: Tls {
            insecure: settings.contrabass_insecure_tls.unwrap_or(defaults.contrabass_insecure),
            ca_file: None,
        },
    })
}

/// The rules of the older operator: what is not positive takes the default, slow is never faster than fast.
fn cadence(fields: &mut Fields, settings: &Settings, defaults: &Cadence) -> Cadence {
    let mut interval = |field: &str, value: Option<&String>, default: Duration| {
        let given = fields.duration(&format!("spec.settings.{field}"), value);
        given
            .and_then(|given| Duration::try_from(given).ok())
            .filter(|given| !given.is_zero())
            .unwrap_or(default)
    };
    let fast = interval("pollFastInterval", settings.poll_fast_interval.as_ref(), defaults.fast);
    let slow = interval("pollSlowInterval", settings.poll_slow_interval.as_ref(), defaults.slow).max(fast);
    let error = interval("pollErrorInterval", settings.poll_error_interval.as_ref(), defaults.error);
    let window = fields.duration("spec.settings.pollFastWindow", settings.poll_fast_window.as_ref());
    let down_retries =
        settings.down_port_fast_retry_max.map_or(defaults.down_retries, |max| max.max(1).unsigned_abs());
    Cadence {
        fast,
        slow,
        error,
        window: window.map_or(defaults.window, |window| Duration::try_from(window).unwrap_or_default()),
        down_retries,
    }
}
