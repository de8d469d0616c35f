//! Where Viola is and how it is spoken to.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use secrecy::SecretString;
use url::Url;

use crate::sinks::SinkError;
use multinic_core::duration;

/// The settings of one Viola.
#[derive(Debug, Clone)]
pub struct ViolaSettings {
    /// Its base URL, to which `/v1/k8s/multinic/node-configs` is added.
    pub endpoint: Url,
    /// Time limit of one request.
    pub timeout: Duration,
    /// Its certificate is not verified. Only ever true because a user asked for it by name.
    pub insecure: bool,
    /// A PEM file of certification authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The bearer token.
    pub token: Option<SecretString>,
    /// A file with the bearer token, read before each delivery. Goes before [`Self::token`].
    pub token_file: Option<PathBuf>,
    /// How many nodes a request holds at most. Requests also stay below the 4 MiB that Viola takes.
    pub batch: usize,
    /// How often a request is tried again that failed in a way that passes.
    pub retries: usize,
}

impl ViolaSettings {
    /// A Viola with the defaults.
    pub fn new(endpoint: Url) -> Self {
        Self {
            endpoint,
            timeout: Duration::from_secs(30),
            insecure: false,
            ca_file: None,
            token: None,
            token_file: None,
            batch: 500,
            retries: 3,
        }
    }
}

/// The controller's flags for Viola.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Viola")]
pub struct ViolaArgs {
    /// Viola's base URL, for configurations without a violaEndpoint.
    #[arg(long, env = "VIOLA_ENDPOINT")]
    pub viola_endpoint: Option<Url>,
    /// Time limit of a request to Viola.
    #[arg(long, env = "VIOLA_TIMEOUT", value_parser = duration::parse_positive, default_value = "30s")]
    pub viola_timeout: Duration,
    /// Do not verify Viola's certificate.
    #[arg(long, env = "VIOLA_INSECURE_TLS", default_value_t = false, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub viola_insecure_tls: bool,
    /// PEM file of certification authorities to trust beside the system's.
    #[arg(long, env = "VIOLA_CA_FILE")]
    pub viola_ca_file: Option<PathBuf>,
    /// File with the bearer token for Viola, instead of the environment variable VIOLA_TOKEN; read again when it changes.
    #[arg(long, env = "VIOLA_TOKEN_FILE")]
    pub viola_token_file: Option<PathBuf>,
}

impl ViolaArgs {
    /// The settings for an endpoint: that of a configuration, or the controller's own where that is none. `environment`
    /// looks up what is secret and so no flag: `VIOLA_TOKEN`. The token is for the controller's own endpoint: it is not
    /// sent to another origin that a configuration names.
    ///
    /// # Errors
    /// Where there is no endpoint.
    pub fn settings(
        &self,
        endpoint: Option<&Url>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<ViolaSettings, SinkError> {
        let missing = || SinkError::Setting {
            setting: "VIOLA_ENDPOINT",
            problem: "is not set, and neither is spec.settings.violaEndpoint".to_owned(),
        };
        let endpoint = endpoint.or(self.viola_endpoint.as_ref()).ok_or_else(missing)?;
        let own = self.viola_endpoint.as_ref().is_none_or(|own| own.origin() == endpoint.origin());
        let token = environment("VIOLA_TOKEN").map(|token| SecretString::from(token.trim()));
        Ok(ViolaSettings {
            timeout: self.viola_timeout,
            insecure: self.viola_insecure_tls,
            ca_file: self.viola_ca_file.clone(),
            token: token.filter(|_| own),
            token_file: self.viola_token_file.clone().filter(|_| own),
            ..ViolaSettings::new(endpoint.clone())
        })
    }
}
