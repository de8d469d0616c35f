//! Every setting of the operator, each once: a flag, its environment variable, its default.

use clap::Args;

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
}

impl OperatorArgs {
    /// The name of this process.
    pub fn identity(&self) -> String {
        let host =
            || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        self.pod_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(host)
    }
}
