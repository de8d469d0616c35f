//! Every setting of the controller in a cluster, each once: a flag, its environment variable, its default.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use multinic_api::openstack_config::Sink;

use super::triggers::{Mode, Times, TriggerError, Triggers};
use multinic_core::duration;

/// What the controller watches and who it is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct ClusterArgs {
    /// Follow the OpenstackConfigs of this namespace only. [default: all namespaces]
    #[arg(long, env = "WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// The namespace of the controller itself: of its Lease, and of MultiNicNodeConfigs unless NODE_CR_NAMESPACE says so.
    #[arg(long, env = "POD_NAMESPACE", default_value = "multinic-system")]
    pub pod_namespace: String,
    /// Namespace of the MultiNicNodeConfigs. [default: the controller's own]
    #[arg(long, env = "NODE_CR_NAMESPACE")]
    pub node_cr_namespace: Option<String>,
    /// Where nodes are published beside the ledger, for configurations without spec.sinks: kubernetes, viola, database, by
    /// commas. [default: kubernetes, and viola where VIOLA_ENDPOINT or a configuration names one]
    #[arg(long, env = "SINKS", value_delimiter = ',', value_parser = sink)]
    pub sinks: Vec<Sink>,
    /// The name of this process among others of its kind. [default: the host's name]
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// Work only while holding the Lease, so that several controllers may run.
    #[arg(long, env = "LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub leader_elect: bool,
    /// Name of the Lease.
    #[arg(long, env = "LEASE_NAME", default_value = "multinic-controller")]
    pub lease_name: String,
    /// How long another controller waits for one that is silent; a third of it is the interval of renewals.
    #[arg(long, env = "LEASE_DURATION", value_parser = lease_duration, default_value = "15s")]
    pub lease_duration: Duration,
    /// Lead with a ledger in a file of one's own although the Lease names another ledger.
    #[arg(long, env = "LEDGER_TAKEOVER", default_value_t = false, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub ledger_takeover: bool,
    /// When configurations are carried out: immediate, scheduled, manual or webhook.
    #[arg(long, env = "RECONCILE_MODE", default_value = "immediate")]
    pub reconcile_mode: Mode,
    /// Interval of the mode scheduled, at least 1m.
    #[arg(long, env = "RECONCILE_INTERVAL", value_parser = duration::parse_positive, default_value = "5m")]
    pub reconcile_interval: Duration,
    /// Cron expression of the mode scheduled, in place of the interval.
    #[arg(long, env = "RECONCILE_SCHEDULE")]
    pub reconcile_schedule: Option<String>,
    /// IANA time zone of that expression.
    #[arg(long, env = "RECONCILE_TIMEZONE", default_value = "UTC")]
    pub reconcile_timezone: String,
    /// Carry a changed configuration out at once in every mode.
    #[arg(long, env = "RECONCILE_IMMEDIATE_ON_CR_CHANGE", default_value_t = true, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub reconcile_immediate_on_cr_change: bool,
    /// Address of POST /v1/reconcile/{namespace}/{name}.
    #[arg(long, env = "RECONCILE_ADDR", default_value = "0.0.0.0")]
    pub reconcile_addr: IpAddr,
    /// Its port; 0 takes a free one.
    #[arg(long, env = "RECONCILE_PORT", default_value_t = 8083)]
    pub reconcile_port: u16,
    /// File with the bearer token that a POST has to show; it is read anew when it changes.
    #[arg(long, env = "RECONCILE_TOKEN_FILE")]
    pub reconcile_token_file: Option<PathBuf>,
    /// Accept tokens of ServiceAccounts and users that may patch the OpenstackConfig (TokenReview, SubjectAccessReview).
    #[arg(long, env = "RECONCILE_TOKEN_REVIEW", default_value_t = false, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub reconcile_token_review: bool,
    /// Audiences of which such a token must have one, by commas. [default: the API server's own]
    #[arg(long, env = "RECONCILE_TOKEN_AUDIENCES", value_delimiter = ',')]
    pub reconcile_token_audiences: Vec<String>,
}

/// Settings that contradict one another.
#[derive(Debug, thiserror::Error)]
pub enum ClusterSettingsError {
    /// The triggers.
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    /// A webhook that nobody may call.
    #[error(
        "RECONCILE_MODE is webhook, and nobody could call it: set RECONCILE_TOKEN_FILE or RECONCILE_TOKEN_REVIEW=true"
    )]
    NoCaller,
}

impl ClusterArgs {
    /// When configurations are carried out.
    pub fn triggers(&self) -> Result<Triggers, ClusterSettingsError> {
        let schedule = self.reconcile_schedule.as_deref();
        let times = Times::new(self.reconcile_interval, schedule, &self.reconcile_timezone)?;
        if self.reconcile_mode == Mode::Webhook && !self.takes_posts() {
            return Err(ClusterSettingsError::NoCaller);
        }
        Ok(Triggers { mode: self.reconcile_mode, times, on_change: self.reconcile_immediate_on_cr_change })
    }

    /// The namespace of MultiNicNodeConfigs.
    pub fn node_namespace(&self) -> &str {
        let own = self.node_cr_namespace.as_deref().map(str::trim);
        own.filter(|namespace| !namespace.is_empty()).unwrap_or(&self.pod_namespace)
    }

    /// Whether somebody may ask over HTTP.
    pub fn takes_posts(&self) -> bool {
        self.reconcile_token_file.is_some() || self.reconcile_token_review
    }

    /// The name of this process, which no other has: the host's, unless it is given, and a number.
    pub fn identity(&self) -> String {
        let host =
            || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let name = self.pod_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(host);
        let process = std::process::id();
        let time = jiff::Timestamp::now().as_nanosecond();
        format!("{name}_{process:x}{:x}", time & 0xffff_ffff)
    }
}

fn sink(text: &str) -> Result<Sink, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "kubernetes" => Ok(Sink::Kubernetes),
        "viola" => Ok(Sink::Viola),
        "database" => Ok(Sink::Database),
        _ => Err("is none of kubernetes, viola and database".to_owned()),
    }
}

/// Shorter ones would be lost to any hiccup of an API server; client-go's is 15 s.
fn lease_duration(text: &str) -> Result<Duration, String> {
    let duration = duration::parse_positive(text)?;
    if duration < Duration::from_secs(3) {
        return Err("must be at least 3s".to_owned());
    }
    Ok(duration)
}
