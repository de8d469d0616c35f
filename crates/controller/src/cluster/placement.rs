//! Where what a configuration publishes is delivered to.

use std::collections::BTreeSet;

use multinic_api::openstack_config::{OpenstackConfigSpec, Sink, TargetSpec};
use multinic_core::ConfigKey;
use multinic_core::config::{FieldError, OptionRules};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use super::manifest::{Resolved, ViolaAccess, options_of};
use crate::sinks::viola::ViolaArgs;
use crate::sinks::{SinkError, ViolaSettings};
use multinic_core::duration;

/// The controller's own choice, for configurations that make none.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// `SINKS`; empty for `kubernetes`, and `viola` where there is one.
    pub sinks: Vec<Sink>,
    /// `NODE_CR_NAMESPACE`.
    pub namespace: String,
    /// Viola.
    pub viola: ViolaArgs,
}

/// A namespace of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The Secret with the kubeconfig (its namespace, name and key); none for this cluster.
    pub kubeconfig: Option<(String, String, String)>,
    /// The namespace.
    pub namespace: String,
}

impl Target {
    /// For people.
    pub fn name(&self) -> String {
        match &self.kubeconfig {
            None => format!("namespace {}", self.namespace),
            Some((namespace, name, _)) => {
                format!("namespace {} by Secret {namespace}/{name}", self.namespace)
            }
        }
    }
}

/// A Viola, with how it is spoken to.
#[derive(Debug, Clone)]
pub struct Viola {
    /// Tells it from others; a token is in it only as a digest.
    pub id: String,
    /// How it is spoken to.
    pub settings: ViolaSettings,
}

/// Where what a configuration publishes is delivered to. The database is not among it: everything is there.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    /// The `k8sProviderID`.
    pub provider: Option<String>,
    /// As objects.
    pub kubernetes: Option<Target>,
    /// To Viola.
    pub viola: Option<Viola>,
    /// What the configuration itself says of where to, as a hash: another place with the same choice is the controller's.
    pub choice: String,
    /// What the configuration itself says of how to speak to Viola.
    pub access: ViolaAccess,
    /// Which NIC gets which options there.
    pub options: OptionRules,
    /// It stands in for that of a configuration which is not there, whose provider nobody knows.
    pub assumed: bool,
}

/// Where something is delivered to, for as long as anything may be there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Location {
    /// As objects.
    Kubernetes(Target),
    /// To the Viola with this base URL, for a provider.
    Viola {
        /// The base URL.
        endpoint: String,
        /// The `k8sProviderID`; empty for none.
        provider: String,
    },
}

impl Location {
    /// For people.
    pub fn name(&self) -> String {
        match self {
            Self::Kubernetes(target) => target.name(),
            Self::Viola { endpoint, provider } => format!("Viola {endpoint} for provider {provider:?}"),
        }
    }

    /// For the ledger.
    pub fn text(&self) -> String {
        // Texts and lists of them have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Placement {
    /// Where that is.
    pub fn locations(&self) -> BTreeSet<Location> {
        let viola = self.viola.as_ref().map(|viola| Location::Viola {
            endpoint: viola.settings.endpoint.to_string(),
            provider: self.provider.clone().unwrap_or_default(),
        });
        self.kubernetes.clone().map(Location::Kubernetes).into_iter().chain(viola).collect()
    }

    /// The options, for the ledger.
    pub fn options_text(&self) -> Option<String> {
        // Texts, numbers and lists of them have a JSON form.
        serde_json::to_string(&self.options).ok()
    }

    /// Whether another one says the same.
    pub fn is_same(&self, other: &Self) -> bool {
        let id = |placement: &Self| placement.viola.as_ref().map(|viola| viola.id.clone());
        self.provider == other.provider
            && self.kubernetes == other.kubernetes
            && id(self) == id(other)
            && self.choice == other.choice
            && self.options == other.options
    }
}

impl Defaults {
    /// The target that a spec names, if it is to be delivered as objects.
    pub fn target_of(
        &self,
        key: &ConfigKey,
        sinks: Option<&[Sink]>,
        target: Option<&TargetSpec>,
    ) -> Option<Target> {
        self.sinks(sinks, false).contains(&Sink::Kubernetes).then(|| self.target(key, target))
    }

    /// For a configuration whose Secrets cannot be read; none where they matter.
    pub fn place_without_secrets(&self, key: &ConfigKey, spec: &OpenstackConfigSpec) -> Option<Placement> {
        let endpoint = spec.settings.as_ref().and_then(|settings| settings.viola_endpoint.as_ref());
        let endpoint = endpoint.filter(|endpoint| !endpoint.trim().is_empty());
        let sinks = self.sinks(spec.sinks.as_deref(), endpoint.is_some());
        let provider = spec.credentials.k8s_provider_id.as_deref().map(str::trim);
        let options = options_of(spec)?;
        (!sinks.contains(&Sink::Viola)).then(|| Placement {
            provider: provider.filter(|provider| !provider.is_empty()).map(str::to_owned),
            kubernetes: self.target_of(key, spec.sinks.as_deref(), spec.target.as_ref()),
            viola: None,
            choice: choice(spec.sinks.as_deref(), spec.target.as_ref(), endpoint.map(String::as_str)),
            access: ViolaAccess::default(),
            options,
            assumed: false,
        })
    }

    /// For a configuration.
    pub fn place(
        &self,
        key: &ConfigKey,
        resolved: &Resolved,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Placement, FieldError> {
        let sinks = self.sinks(resolved.sinks.as_deref(), resolved.viola.endpoint.is_some());
        let kubernetes =
            sinks.contains(&Sink::Kubernetes).then(|| self.target(key, resolved.target.as_ref()));
        let viola = match sinks.contains(&Sink::Viola) {
            true => Some(self.viola(&resolved.viola, environment)?),
            false => None,
        };
        let Resolved { sinks, target, viola: access, .. } = resolved;
        let choice = choice(sinks.as_deref(), target.as_ref(), access.endpoint.as_deref());
        let (provider, access) = (resolved.config.k8s_provider_id.clone(), access.clone());
        let options = resolved.config.options.clone();
        Ok(Placement { provider, kubernetes, viola, choice, access, options, assumed: false })
    }

    /// For what was published from a configuration that is not there any more and of which nothing is known.
    pub fn place_unknown(&self, environment: &dyn Fn(&str) -> Option<String>) -> Placement {
        let sinks = self.sinks(None, false);
        let kubernetes = sinks
            .contains(&Sink::Kubernetes)
            .then(|| Target { kubeconfig: None, namespace: self.namespace.clone() });
        let viola =
            sinks.contains(&Sink::Viola).then(|| self.viola(&ViolaAccess::default(), environment).ok());
        Placement { kubernetes, viola: viola.flatten(), assumed: true, ..Placement::default() }
    }

    fn sinks(&self, own: Option<&[Sink]>, names_viola: bool) -> BTreeSet<Sink> {
        let own = own.filter(|own| !own.is_empty());
        let chosen = own.unwrap_or(&self.sinks);
        if chosen.is_empty() {
            let viola = names_viola || self.viola.viola_endpoint.is_some();
            return [Some(Sink::Kubernetes), viola.then_some(Sink::Viola)].into_iter().flatten().collect();
        }
        chosen.iter().copied().chain((own.is_none() && names_viola).then_some(Sink::Viola)).collect()
    }

    fn target(&self, key: &ConfigKey, target: Option<&TargetSpec>) -> Target {
        let namespace = target.and_then(|target| target.namespace.clone());
        let namespace = namespace.filter(|namespace| !namespace.trim().is_empty());
        let reference = target.and_then(|target| target.kubeconfig_secret_ref.as_ref());
        Target {
            kubeconfig: reference
                .map(|reference| (key.namespace.to_string(), reference.name.clone(), reference.key.clone())),
            namespace: namespace.unwrap_or_else(|| self.namespace.clone()),
        }
    }

    /// How a Viola is spoken to that a configuration has left.
    pub fn left_viola(
        &self,
        endpoint: &str,
        access: &ViolaAccess,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Viola, FieldError> {
        let access = ViolaAccess { endpoint: Some(endpoint.to_owned()), ..access.clone() };
        self.viola(&access, environment)
    }

    fn viola(
        &self,
        own: &ViolaAccess,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Viola, FieldError> {
        let wrong = |field: &str, problem: String| FieldError { field: field.to_owned(), problem };
        let endpoint = own.endpoint.as_deref().map(|text| {
            text.trim()
                .parse::<Url>()
                .map_err(|error| wrong("spec.settings.violaEndpoint", format!("is not a URL: {error}")))
        });
        let endpoint = endpoint.transpose()?;
        let settings = self.viola.settings(endpoint.as_ref(), environment);
        let mut settings = settings.map_err(|error: SinkError| {
            wrong("spec.settings.violaEndpoint", format!("is required with the sink viola ({error})"))
        })?;
        if let Some(timeout) = own.timeout.as_deref().map(str::trim).filter(|timeout| !timeout.is_empty()) {
            settings.timeout = duration::parse_positive(timeout)
                .map_err(|error| wrong("spec.settings.violaTimeout", format!("invalid duration: {error}")))?;
        }
        if let Some(insecure) = own.insecure {
            settings.insecure = insecure;
        }
        if let Some(token) = &own.token {
            settings.token = Some(token.expose_secret().trim().into());
            settings.token_file = None;
        }
        let token = settings.token.as_ref().map(|token| {
            let digest = Sha256::digest(token.expose_secret());
            digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>()
        });
        let ViolaSettings { endpoint, timeout, insecure, ca_file, token_file, .. } = &settings;
        let id = format!("{endpoint} {timeout:?} {insecure} {ca_file:?} {token_file:?} {token:?}");
        Ok(Viola { id, settings })
    }
}

fn choice(sinks: Option<&[Sink]>, target: Option<&TargetSpec>, endpoint: Option<&str>) -> String {
    // None of them is a map with keys that are no texts, so each has a JSON form.
    let text = serde_json::to_string(&(sinks, target, endpoint.map(str::trim))).unwrap_or_default();
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
