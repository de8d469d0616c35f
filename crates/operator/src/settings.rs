//! Every setting of the operator, each once: a flag, its environment variable, its default.

use std::time::Duration;

use clap::Args;
use multinic_core::duration;

/// Where the operator works and who it is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct OperatorArgs {
    /// The namespace of the operator itself and of the MultiNicOperator that it carries out.
    #[arg(long, env = "POD_NAMESPACE", default_value = "multinic-system")]
    pub pod_namespace: String,
    /// The name of this process in events. [default: the host's name]
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// How API servers ask.
    #[command(flatten)]
    pub webhook: WebhookArgs,
}

/// How API servers ask.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Webhook")]
pub struct WebhookArgs {
    /// A Secret with the server's certificate, such as cert-manager makes: tls.crt, tls.key, ca.crt. [default: the operator makes
    /// its own]
    #[arg(long, env = "WEBHOOK_CERT_SECRET")]
    pub webhook_cert_secret: Option<String>,
    /// How long a certificate that the operator makes is valid; another is made when a third of that is left.
    #[arg(long, env = "WEBHOOK_CERT_LIFETIME", default_value = "2160h", value_parser = duration::parse_positive)]
    pub webhook_cert_lifetime: Duration,
}

impl OperatorArgs {
    /// The name of this process.
    pub fn identity(&self) -> String {
        let host =
            || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        self.pod_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(host)
    }
}
