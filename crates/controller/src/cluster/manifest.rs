//! From an object of the API server to the value that the planner takes, with the Secrets that it names.

use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use multinic_api::openstack_config::{
    CredentialsSpec, InterfaceOptionsSpec, OpenstackConfigSpec, SecretsSpec, SettingsSpec, Sink, TargetSpec,
};
use multinic_api::{OpenstackConfigStatus, OptionsSpec, SecretKeyRef};
use multinic_core::InterfaceOptions;
use multinic_core::config::{
    self, ConfigErrors, Defaults, FieldError, Manifest, Metadata, OpenstackConfig, OptionRules, Settings,
    SomeOptions, Spec, SpecCredentials, parse,
};
use secrecy::{ExposeSecret, SecretString};

use super::clouds_yaml::{CloudEntry, DEFAULT_CLOUD, entry};
use super::secrets::Secrets;
use super::watch::key;

/// The Secret in which the older operator looked for Contrabass' key in every configuration's namespace.
const CONTRABASS_SECRET: (&str, &str) = ("contrabass-encrypt-key", "CONTRABASS_ENCRYPT_KEY");

/// A configuration with everything that its Secrets say.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// For the planner.
    pub config: OpenstackConfig,
    /// Where it wants to be published; none for the controller's own choice.
    pub sinks: Option<Vec<Sink>>,
    /// Another cluster or namespace.
    pub target: Option<TargetSpec>,
    /// What is said to Viola.
    pub viola: ViolaAccess,
    /// The fields that hold a secret in clear.
    pub inline_secrets: Vec<&'static str>,
}

/// What a configuration says about Viola, in place of the controller's own settings.
#[derive(Debug, Clone, Default)]
pub struct ViolaAccess {
    /// Its base URL.
    pub endpoint: Option<String>,
    /// The time limit of a request.
    pub timeout: Option<String>,
    /// Whether its certificate is not verified.
    pub insecure: Option<bool>,
    /// The bearer token.
    pub token: Option<SecretString>,
}

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// By field.
    pub errors: ConfigErrors,
    /// Whether it may mend itself without the object being changed: a Secret is missing, or the API server failed.
    pub passing: bool,
    /// Whether it was the API server that failed, or a right that is missing: that says nothing about the Secret.
    pub trouble: bool,
}

/// Reads an object's spec. It is read by itself, so that a malformed one stops no other.
pub fn spec_of(object: &DynamicObject) -> Result<OpenstackConfigSpec, ConfigErrors> {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    serde_path_to_error::deserialize(spec).map_err(|error| {
        let path = match error.path().to_string().as_str() {
            "." => "spec".to_owned(),
            path => format!("spec.{path}"),
        };
        ConfigErrors(vec![FieldError { field: path, problem: shape(&error.inner().to_string()) }])
    })
}

/// The parser's words without the value, which may be a password.
fn shape(text: &str) -> String {
    if let Some((_, expected)) = text.rsplit_once(", expected ") {
        return format!("has the wrong form: it should be {expected}");
    }
    match text.strip_prefix("missing field ") {
        Some(field) => format!("the field {field} is missing"),
        None => "cannot be read".to_owned(),
    }
}

/// Reads an object's status. One that cannot be read only loses the times of its transitions.
pub fn status_of(object: &DynamicObject) -> OpenstackConfigStatus {
    let status = object.data.get("status").cloned().unwrap_or_default();
    serde_json::from_value(status).unwrap_or_default()
}

/// The state of DOWN ports as an earlier process left it.
pub fn down_ports_of(status: &OpenstackConfigStatus) -> Option<multinic_core::fleet::pace::DownPortRetry> {
    let retry = status.down_port_retry.as_ref()?;
    let last_attempt: Timestamp = retry.last_attempt.as_ref()?.parse().ok()?;
    Some(multinic_core::fleet::pace::DownPortRetry {
        hash: retry.hash.clone()?,
        last_attempt,
        fast_attempts: retry.fast_attempts.and_then(|count| u32::try_from(count).ok())?,
    })
}

/// Reads an object with its Secrets.
pub async fn resolve(
    client: &Client,
    object: &DynamicObject,
    defaults: &Defaults,
) -> Result<Resolved, Unresolved> {
    let spec = spec_of(object).map_err(|errors| Unresolved { errors, passing: false, trouble: false })?;
    let namespace = object.namespace().unwrap_or_default();
    let mut secrets = Secrets::new(client.clone(), &namespace);
    let mut errors = Vec::new();
    let taken = take(spec, &mut secrets, defaults, &mut errors).await;
    if !errors.is_empty() {
        let trouble = secrets.in_trouble();
        return Err(Unresolved { errors: ConfigErrors(errors), passing: true, trouble });
    }
    let Taken { spec, defaults, sinks, target, viola, inline_secrets } = taken;
    let manifest = Manifest {
        api_version: "multinic.example.com/v1alpha1".to_owned(),
        kind: "OpenstackConfig".to_owned(),
        metadata: Metadata {
            name: object.name_any(),
            namespace: Some(namespace),
            annotations: object.annotations().clone(),
        },
        spec,
        status: None,
    };
    match parse(&manifest, &defaults) {
        Ok(config) => {
            // The object's own name, which the parser need not read as the API server does.
            let config = OpenstackConfig { key: key(object), ..config };
            Ok(Resolved { config, sinks, target, viola, inline_secrets })
        }
        Err(errors) => Err(Unresolved { errors, passing: false, trouble: false }),
    }
}

struct Taken {
    spec: Spec,
    defaults: Defaults,
    sinks: Option<Vec<Sink>>,
    target: Option<TargetSpec>,
    viola: ViolaAccess,
    inline_secrets: Vec<&'static str>,
}

/// Takes every field of a spec, and what the Secrets say in place of them.
async fn take(
    spec: OpenstackConfigSpec,
    secrets: &mut Secrets,
    defaults: &Defaults,
    errors: &mut Vec<FieldError>,
) -> Taken {
    let OpenstackConfigSpec {
        subnet_ids,
        subnet_id,
        subnet_name,
        vm_name,
        vm_names,
        credentials,
        settings,
        secrets: references,
        sinks,
        target,
        options,
        interface_options,
    } = spec;
    let SecretsSpec {
        contrabass_encrypt_key_secret_ref,
        password_secret_ref,
        application_credential_secret_ref,
        clouds_secret_ref,
        viola_token_secret_ref,
    } = references.unwrap_or_default();
    let mut inline_secrets = Vec::new();
    let (mut settings, mut viola) = take_settings(settings.unwrap_or_default());
    let cloud = credentials.cloud.clone();
    let mut credentials = take_credentials(credentials);
    let mut defaults = defaults.clone();

    let mut read = async |field: &str, reference: Option<SecretKeyRef>| -> Option<SecretString> {
        let SecretKeyRef { name, key } = reference?;
        match secrets.text(field, name.trim(), key.trim()).await {
            Ok(value) => Some(value),
            Err(error) => {
                errors.push(error);
                None
            }
        }
    };
    if let Some(password) = read("spec.secrets.passwordSecretRef", password_secret_ref).await {
        credentials.password = Some(without_line_end(&password));
    } else if credentials.password.is_some() {
        inline_secrets.push("spec.credentials.password");
    }
    let field = "spec.secrets.applicationCredentialSecretRef";
    if let Some(secret) = read(field, application_credential_secret_ref).await {
        credentials.application_credential_secret = Some(without_line_end(&secret));
    } else if credentials.application_credential_secret.is_some() {
        inline_secrets.push("spec.credentials.applicationCredentialSecret");
    }
    viola.token = read("spec.secrets.violaTokenSecretRef", viola_token_secret_ref).await;
    let named = contrabass_encrypt_key_secret_ref.is_some();
    let mut key = read("spec.secrets.contrabassEncryptKeySecretRef", contrabass_encrypt_key_secret_ref).await;
    let clouds_field = "spec.secrets.cloudsSecretRef";
    let clouds = read(clouds_field, clouds_secret_ref.clone()).await;
    if let (Some(text), Some(reference)) = (clouds, &clouds_secret_ref) {
        match entry(
            &text,
            cloud.as_deref().map(str::trim).filter(|it| !it.is_empty()).unwrap_or(DEFAULT_CLOUD),
        ) {
            Ok(entry) => fill_from_clouds(&mut credentials, &mut settings, entry, errors),
            Err(problem) => errors.push(FieldError {
                field: clouds_field.to_owned(),
                problem: format!("the key {:?} of Secret {} {problem}", reference.key, reference.name),
            }),
        }
    }
    if credentials.openstack_provider_id.is_some() && !named {
        let (name, secret_key) = CONTRABASS_SECRET;
        match secrets.optional("spec.secrets.contrabassEncryptKeySecretRef", name, secret_key).await {
            Ok(found) => key = found,
            // A right that is missing for a Secret that nobody named is no error while there is another key.
            Err(_) if settings.contrabass_encrypt_key.is_some() || defaults.contrabass_key.is_some() => {}
            Err(error) => errors.push(error),
        }
    }
    match key {
        Some(key) => {
            let key = key.expose_secret().trim().to_owned();
            if !matches!(key.len(), 16 | 24 | 32) {
                errors.push(FieldError {
                    field: "spec.secrets.contrabassEncryptKeySecretRef".to_owned(),
                    problem: format!("the Secret's key has {} bytes: an AES key has 16, 24 or 32", key.len()),
                });
            }
            defaults.contrabass_key = Some(key.into());
            settings.contrabass_encrypt_key = None;
        }
        None if settings.contrabass_encrypt_key.is_some() => {
            inline_secrets.push("spec.settings.contrabassEncryptKey");
        }
        None => {}
    }
    let (options, interface_options) = take_options(options.as_ref(), interface_options.as_deref(), errors);
    let spec = Spec {
        subnet_ids: subnet_ids.unwrap_or_default(),
        subnet_id,
        subnet_name,
        vm_name,
        vm_names: vm_names.unwrap_or_default(),
        credentials,
        settings,
        secrets: config::SecretRefs::default(),
        options,
        interface_options,
    };
    Taken { spec, defaults, sinks, target, viola, inline_secrets }
}

/// Which NIC gets which options, by a spec alone; none where something is wrong with them.
pub fn options_of(spec: &OpenstackConfigSpec) -> Option<OptionRules> {
    let mut errors = Vec::new();
    let (options, some) = take_options(spec.options.as_ref(), spec.interface_options.as_deref(), &mut errors);
    let spec = Spec { options, interface_options: some, ..Spec::default() };
    OptionRules::parse(&spec).ok().filter(|_| errors.is_empty())
}

fn take_options(
    all: Option<&OptionsSpec>,
    some: Option<&[InterfaceOptionsSpec]>,
    errors: &mut Vec<FieldError>,
) -> (InterfaceOptions, Vec<SomeOptions>) {
    let mut take = |place: &str, spec: &OptionsSpec| {
        InterfaceOptions::try_from(spec).unwrap_or_else(|error| {
            errors.push(FieldError { field: format!("{place}.{}", error.field), problem: error.problem });
            InterfaceOptions::default()
        })
    };
    let all = all.map(|spec| take("spec", spec)).unwrap_or_default();
    let some = some.unwrap_or_default().iter().enumerate().map(|(at, spec)| {
        let InterfaceOptionsSpec { subnet_id, port_id, options } = spec;
        let options = take(&format!("spec.interfaceOptions[{at}]"), options);
        SomeOptions { subnet_id: subnet_id.clone(), port_id: port_id.clone(), options }
    });
    (all, some.collect())
}

/// A password may begin or end with a blank, but a file made by an editor ends with a line end.
fn without_line_end(secret: &SecretString) -> String {
    secret.expose_secret().trim_end_matches(['\r', '\n']).to_owned()
}

fn take_credentials(given: CredentialsSpec) -> SpecCredentials {
    let CredentialsSpec {
        openstack_provider_id,
        provider_id,
        k8s_provider_id,
        project_id,
        auth_url,
        username,
        password,
        domain_name,
        application_credential_id,
        application_credential_secret,
        cloud: _,
        network_endpoint,
        compute_endpoint,
    } = given;
    SpecCredentials {
        openstack_provider_id: openstack_provider_id.or(provider_id),
        k8s_provider_id,
        project_id,
        auth_url,
        username,
        password,
        domain_name,
        application_credential_id,
        application_credential_secret,
        network_endpoint,
        compute_endpoint,
    }
}

fn take_settings(given: SettingsSpec) -> (Settings, ViolaAccess) {
    let SettingsSpec {
        contrabass_endpoint,
        contrabass_encrypt_key,
        contrabass_timeout,
        contrabass_insecure_tls,
        viola_endpoint,
        viola_timeout,
        viola_insecure_tls,
        openstack_timeout,
        openstack_insecure_tls,
        openstack_ca_file,
        openstack_neutron_endpoint,
        openstack_nova_endpoint,
        openstack_endpoint_interface,
        openstack_endpoint_region,
        openstack_node_name_metadata_key,
        openstack_port_allowed_statuses,
        down_port_fast_retry_max,
        poll_fast_interval,
        poll_slow_interval,
        poll_error_interval,
        poll_fast_window,
    } = given;
    let viola = ViolaAccess {
        endpoint: viola_endpoint.clone().filter(|endpoint| !endpoint.trim().is_empty()),
        timeout: viola_timeout.clone(),
        insecure: viola_insecure_tls,
        token: None,
    };
    let settings = Settings {
        contrabass_endpoint,
        contrabass_encrypt_key: contrabass_encrypt_key.filter(|key| !key.trim().is_empty()),
        contrabass_timeout,
        contrabass_insecure_tls,
        viola_endpoint,
        viola_timeout,
        viola_insecure_tls,
        openstack_timeout,
        openstack_insecure_tls,
        openstack_ca_file,
        openstack_neutron_endpoint,
        openstack_nova_endpoint,
        openstack_endpoint_interface,
        openstack_endpoint_region,
        openstack_node_name_metadata_key,
        openstack_port_allowed_statuses,
        down_port_fast_retry_max,
        poll_fast_interval,
        poll_slow_interval,
        poll_error_interval,
        poll_fast_window,
    };
    (settings, viola)
}

/// What the spec itself says goes before the file.
fn fill_from_clouds(
    credentials: &mut SpecCredentials,
    settings: &mut Settings,
    entry: CloudEntry,
    errors: &mut Vec<FieldError>,
) {
    let CloudEntry { auth, region_name, interface, endpoint_type, verify, cacert } = entry;
    let super::clouds_yaml::Auth {
        auth_url,
        username,
        password,
        user_domain_name,
        domain_name,
        project_id,
        project_name,
        application_credential_id,
        application_credential_secret,
    } = auth;
    let fill = |field: &mut Option<String>, value: Option<String>| {
        if field.as_ref().is_none_or(|text| text.trim().is_empty()) {
            *field = value;
        }
    };
    fill(&mut credentials.auth_url, auth_url);
    fill(&mut credentials.project_id, project_id);
    fill(&mut credentials.application_credential_id, application_credential_id);
    fill(&mut credentials.application_credential_secret, application_credential_secret);
    // Files of both kinds have the user's name beside an application credential, as a comment of sorts.
    if credentials.application_credential_id.is_none() {
        fill(&mut credentials.username, username);
        fill(&mut credentials.password, password);
        fill(&mut credentials.domain_name, user_domain_name.or(domain_name));
        if credentials.project_id.is_none() && project_name.is_some() {
            errors.push(FieldError {
                field: "spec.credentials.projectID".to_owned(),
                problem: "the clouds.yaml names its project by name only, which is not unique; give its project_id there, or projectID here"
                    .to_owned(),
            });
        }
    }
    fill(&mut settings.openstack_endpoint_region, region_name);
    fill(&mut settings.openstack_endpoint_interface, interface.or(endpoint_type));
    fill(&mut settings.openstack_ca_file, cacert);
    settings.openstack_insecure_tls = settings.openstack_insecure_tls.or(verify.map(|verify| !verify));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(spec: &serde_json::Value) -> DynamicObject {
        let resource = kube::core::ApiResource::erase::<multinic_api::OpenstackConfig>(&());
        DynamicObject::new("a", &resource).within("default").data(json!({"spec": spec}))
    }

    #[test]
    fn a_malformed_spec_names_the_field_and_shows_no_value() {
        for (spec, field) in [
            (json!({"vmNames": 7, "credentials": {}}), "spec.vmNames"),
            (json!({"vmNames": ["a", {"hush": 1}], "credentials": {}}), "spec.vmNames[1]"),
            (json!({"credentials": {"password": ["hush"]}}), "spec.credentials.password"),
            (json!({"credentials": {}, "sinks": ["hush"]}), "spec.sinks[0]"),
            (json!({"credentials": {"authURL": 5}}), "spec.credentials.authURL"),
            (json!(null), "spec"),
            (json!("hush"), "spec"),
        ] {
            let errors = spec_of(&object(&spec)).unwrap_err();
            let text = errors.to_string();
            assert_eq!(errors.0.first().unwrap().field, field, "{text}");
            assert!(!text.contains("hush"), "{text}");
        }
    }
}
