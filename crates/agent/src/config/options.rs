//! The options, defined once: each is a flag, an environment variable (the name in angle brackets of `--help`) and a
//! key of the configuration file.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use multinic_core::NodeName;
use multinic_core::options::{METRIC_BASE, TABLE_BASE};
use multinic_host::backend::Backend;
use multinic_telemetry::logs::{LogError, LogFormat, LogLevels};

use super::duration;
use crate::doctor::DoctorArgs;

const DETAILS: &str = "\
Every option is also an environment variable, whose name stands in angle brackets, and a key of the --config file in
lower case (`poll_interval: 30s`). A flag goes before the environment, the environment before the file. Variables that
are set to nothing count as not set.

Secrets are no flags, since everybody on the node can read the arguments of a process:
  DB_PASSWORD       the database user's password; or --db-password-file
  DATABASE_URL      mysql://user:password@host:port/name, mariadb://… or sqlite:///path; goes before DB_HOST and others

Examples:
  multinic-agent                                       run, configured by the environment
  multinic-agent plan                                  say what would be done, and touch nothing
  multinic-agent plan --output json                    the same for scripts
  multinic-agent once --log-format text                one pass now
  multinic-agent run --data-source nodecr              run on the node's object in Kubernetes
  multinic-agent doctor                                say what on this node would do harm
  multinic-agent doctor --database                     say whether the agent can work with its database
  multinic-agent cleanup                               say what would be taken away
  multinic-agent cleanup --yes                         take away every NIC, address and file of MultiNIC on this node

Exit codes:
  0  run: stopped by SIGTERM or SIGINT; once: every NIC is as desired; plan: planned; cleanup: nothing of ours is left,
     or it was only asked what would go
  1  a wrong option, an unreadable source, or a node that cannot be worked on: nothing was done; RUN_MODE=job: every NIC
     failed, or some did and JOB_COMPLETE_ON_PARTIAL_FAILURE is false, or a clean-up left something
  2  undo: a change could not be undone; once: a NIC failed, was refused or is not there; cleanup: something could not be taken away; doctor: a NIC is not to
     be configured as things are, or with --database, the agent cannot work with its database";

/// The agent of a node: it finds NICs by their MAC, configures them, verifies them, repairs them and reports.
#[derive(Debug, Parser)]
#[command(name = "multinic-agent", version, about, after_long_help = DETAILS, args_override_self = true)]
#[command(after_help = "Examples, exit codes and secrets: --help")]
pub struct CommandLine {
    /// A YAML file with options.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// The options.
    #[command(flatten)]
    pub options: Options,

    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Keep the node as desired, until SIGTERM (default)
    Run,
    /// Make one pass, report, and say by the exit code how it went
    Once,
    /// Say what would be done, and touch nothing
    Plan {
        /// For people or for scripts
        #[arg(long, short, value_enum, default_value_t = PlanOutput::Text)]
        output: PlanOutput,
    },
    /// Say what on this node would do harm, and how to mend it; needs no database
    Doctor(DoctorArgs),
    /// Undo what an agent that died left half done; needs no database. What the node's systemd starts
    Undo,
    /// Take everything of MultiNIC away from this node; needs no database
    Cleanup {
        /// Do it, instead of saying what would be done
        #[arg(long)]
        yes: bool,
    },
}

/// The form in which a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanOutput {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// Where the desired state is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DataSource {
    /// A database.
    Db,
    /// The node's object in Kubernetes.
    Nodecr,
}

/// How the node keeps the configuration of its NICs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkBackend {
    /// As is found.
    Auto,
    /// netplan(5).
    Netplan,
    /// systemd.network(5).
    Networkd,
    /// Keyfiles of NetworkManager.
    #[value(name = "networkmanager")]
    NetworkManager,
    /// `/etc/sysconfig/network-scripts`.
    Ifcfg,
    /// `/etc/sysconfig/network` of SUSE.
    Wicked,
}

impl NetworkBackend {
    /// The one that is asked for; none: what is found.
    pub fn backend(self) -> Option<Backend> {
        match self {
            Self::Auto => None,
            Self::Netplan => Some(Backend::Netplan),
            Self::Networkd => Some(Backend::Networkd),
            Self::NetworkManager => Some(Backend::NetworkManager),
            Self::Ifcfg => Some(Backend::Ifcfg),
            Self::Wicked => Some(Backend::Wicked),
        }
    }
}

/// How long the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RunMode {
    /// Until SIGTERM.
    Service,
    /// One pass.
    Job,
}

/// What a job does instead of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AgentAction {
    /// Take everything of ours away.
    Cleanup,
}

/// The options of all commands.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The name under which the source knows this node; else MY_NODE_NAME, else the host name up to its first dot
    #[arg(long, global = true, help_heading = "Node")]
    pub node_name: Option<NodeName>,
    /// Addresses by which the cluster knows this node, separated by commas: their NICs are never touched. Unless given,
    /// the address from which the node speaks to the world over its default route
    #[arg(long, global = true, value_delimiter = ',', help_heading = "Node")]
    pub node_ip: Vec<IpAddr>,
    /// Where the node's file system is mounted; / when the agent runs on the node itself
    #[arg(long, global = true, default_value = "/", help_heading = "Node")]
    pub host_root: PathBuf,
    /// How the node keeps the configuration of its NICs; auto looks at what is there, what runs, and the distribution
    #[arg(long, global = true, value_enum, default_value_t = NetworkBackend::Auto, help_heading = "Node")]
    pub network_backend: NetworkBackend,
    /// How many slots a node may use where the source leaves the choice to it
    #[arg(long, global = true, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=64), help_heading = "Node")]
    pub max_interfaces: u8,
    /// How many copies of each replaced file are kept in /var/lib/multinic/backups
    #[arg(long, global = true, default_value_t = 10, help_heading = "Node")]
    pub backup_keep: usize,
    /// Plan and log, but change nothing and report nothing
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), help_heading = "Node")]
    pub dry_run: bool,

    /// Whether ARP stays with the interface that has the address: arp_ignore=1 and arp_announce=2. This and the following
    /// hold for interfaces of which the source says nothing else; the database says nothing of them at all
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = BoolishValueParser::new(), help_heading = "Interfaces")]
    pub network_set_arp_sysctls: bool,
    /// Whether packets are dropped only if they could not be answered at all: rp_filter=2. Otherwise it is left as it is
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), help_heading = "Interfaces")]
    pub network_set_rp_filter_loose: bool,
    /// Whether what is sent from an interface's address leaves by it, by a table and a rule of its own
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), help_heading = "Interfaces")]
    pub network_policy_routing_enabled: bool,
    /// The table of multinicN is this plus N
    #[arg(long, global = true, default_value_t = TABLE_BASE, help_heading = "Interfaces")]
    pub network_routing_table_base: u32,
    /// The metric of routes of multinicN is this plus N; 0 is 100
    #[arg(long, global = true, default_value_t = METRIC_BASE, help_heading = "Interfaces")]
    pub network_route_metric: u32,
    /// Whether the main table has no route to the interface's own network; needs NETWORK_POLICY_ROUTING_ENABLED
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), help_heading = "Interfaces")]
    pub network_noprefixroute: bool,
    /// How long after a change began the node goes back by itself if this agent died meanwhile; and the most that may pass
    /// until what worked before a change works again after it. Half a minute at least
    #[arg(long, global = true, default_value = "120s", value_parser = duration::parse_safe_apply, help_heading = "Safety")]
    pub safe_apply_timeout: Duration,
    /// Where a copy of this program is put for that, as the node sees it; not on a file system that is mounted noexec
    #[arg(
        long,
        global = true,
        default_value = "/var/lib/multinic/bin/multinic-agent",
        help_heading = "Safety"
    )]
    pub undo_program: PathBuf,
    /// Whether NICs are changed where nothing on the node would go back if this agent died in the middle: no systemd, no
    /// access to its bus, or nothing may be run there. The next start does it then
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), help_heading = "Safety")]
    pub allow_unarmed: bool,

    /// Write the drop-in to this node that keeps systemd-networkd from dropping routes and rules of others, where networkd runs
    /// and it is not there: at the start of run, once and a job, or by doctor. It counts from networkd's next start, which is
    /// left to you
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), help_heading = "Safety")]
    pub install_dropin: bool,

    /// Where the desired state is read: db, a database; nodecr, the object MultiNicNodeConfig/NODE_NAME
    #[arg(long, global = true, value_enum, default_value_t = DataSource::Db, help_heading = "Source")]
    pub data_source: DataSource,
    /// The namespace of that object
    #[arg(long, global = true, default_value = "multinic-system", value_parser = namespace, help_heading = "Source")]
    pub node_cr_namespace: String,
    /// A kubeconfig, where this is no pod with a service account
    #[arg(long, global = true, help_heading = "Source")]
    pub kubeconfig: Option<PathBuf>,
    /// How long an object must be older than it was before that is accepted, such as after a restore of etcd
    #[arg(long, global = true, default_value = "10m", value_parser = duration::parse, help_heading = "Source")]
    pub stale_confirm: Duration,
    /// The prefix of the node's label PREFIX/interfaces
    #[arg(long, global = true, default_value = "multinic.io", value_parser = key_prefix, help_heading = "Source")]
    pub k8s_label_prefix: String,
    /// The prefix of the node's annotation PREFIX/interfaces
    #[arg(long, global = true, default_value = "multinic.io", value_parser = key_prefix, help_heading = "Source")]
    pub k8s_annotation_prefix: String,
    /// Where the kernel says which server this is; compared with spec.instanceId of the object
    #[arg(long, global = true, default_value = "/sys/class/dmi/id/product_uuid", help_heading = "Source")]
    pub product_uuid_file: PathBuf,

    /// service: until SIGTERM; job: one pass, and a termination message
    #[arg(long, global = true, value_enum, default_value_t = RunMode::Service, help_heading = "Job")]
    pub run_mode: RunMode,
    /// What a job does instead of a pass: take everything of MultiNIC away
    #[arg(long, global = true, value_enum, help_heading = "Job")]
    pub agent_action: Option<AgentAction>,
    /// Whether a job of which some NICs failed has succeeded
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = BoolishValueParser::new(), help_heading = "Job")]
    pub job_complete_on_partial_failure: bool,
    /// Where a job leaves its message, if there is such a file
    #[arg(long, global = true, default_value = "/dev/termination-log", help_heading = "Job")]
    pub termination_log: PathBuf,

    /// The database server
    #[arg(long, global = true, help_heading = "Database")]
    pub db_host: Option<String>,
    /// Its port; 3306 unless given
    #[arg(long, global = true, help_heading = "Database")]
    pub db_port: Option<u16>,
    /// The user to log in as (or DB_USERNAME)
    #[arg(long, global = true, help_heading = "Database")]
    pub db_user: Option<String>,
    /// A file with the password, instead of DB_PASSWORD
    #[arg(long, global = true, help_heading = "Database")]
    pub db_password_file: Option<PathBuf>,
    /// The database (or DB_DATABASE); multinic unless given
    #[arg(long, global = true, help_heading = "Database")]
    pub db_name: Option<String>,
    /// disabled, verify or insecure; verify where a CA file is given, else disabled
    #[arg(long, global = true, help_heading = "Database")]
    pub db_tls: Option<String>,
    /// A PEM file of certificate authorities to trust besides the system's (or DB_CA_FILE)
    #[arg(long, global = true, help_heading = "Database")]
    pub db_tls_ca: Option<PathBuf>,
    /// How long to wait for a connection; 10s unless given
    #[arg(long, global = true, value_parser = duration::parse_positive, help_heading = "Database")]
    pub db_connect_timeout: Option<Duration>,
    /// How long to wait for the answer to a statement; 30s unless given
    #[arg(long, global = true, value_parser = duration::parse_positive, help_heading = "Database")]
    pub db_statement_timeout: Option<Duration>,

    /// How often the source is read; sooner after a change, half as often when it is quiet
    #[arg(long, global = true, default_value = "30s", value_parser = duration::parse_positive, help_heading = "Pace")]
    pub poll_interval: Duration,
    /// Whether failed reads lengthen the interval
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = BoolishValueParser::new(), help_heading = "Pace")]
    pub backoff_enabled: bool,
    /// The longest interval after failed reads; ten poll intervals unless given
    #[arg(long, global = true, value_parser = duration::parse_positive, help_heading = "Pace")]
    pub backoff_max_interval: Option<Duration>,
    /// By how much each failed read in a row lengthens the interval
    #[arg(long, global = true, default_value_t = 2.0, value_parser = multiplier, help_heading = "Pace")]
    pub backoff_multiplier: f64,
    /// How often everything is checked without any event; events are what normally starts a repair
    #[arg(long, global = true, default_value = "5m", value_parser = duration::parse_positive, help_heading = "Pace")]
    pub full_pass_interval: Duration,

    /// How long a NIC must be missing from complete reads before it is taken away; a tombstone needs no time
    #[arg(long, global = true, default_value = "10m", value_parser = duration::parse, help_heading = "Removal")]
    pub absence_confirm: Duration,
    /// The same where the source names no NIC of this node any more
    #[arg(long, global = true, default_value = "1h", value_parser = duration::parse, help_heading = "Removal")]
    pub absence_confirm_all: Duration,

    /// The addresses on which health and metrics are served, separated by commas; loopback and the node's own address
    /// unless given, so that nothing listens on the NICs that are configured here
    #[arg(long, global = true, value_delimiter = ',', help_heading = "Health and logs")]
    pub health_addr: Vec<IpAddr>,
    /// Their port; 0 takes a free one and logs it
    #[arg(long, global = true, default_value_t = 8080, help_heading = "Health and logs")]
    pub health_port: u16,
    /// trace, debug, info, warn, error, off; or a list such as info,multinic_host=debug
    #[arg(long, global = true, default_value = "info", value_parser = log_levels, help_heading = "Health and logs")]
    pub log_level: LogLevels,
    /// json or text
    #[arg(long, global = true, default_value = "json", value_parser = log_format, help_heading = "Health and logs")]
    pub log_format: LogFormat,
}

fn multiplier(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 1.0 && number.is_finite() => Ok(number),
        _ => Err("is not a number of 1 or more".to_owned()),
    }
}

/// A DNS label (RFC 1123), as the name of a namespace is one.
fn namespace(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = (1..=63).contains(&text.len()) && text.bytes().all(inner);
    if good && !text.starts_with('-') && !text.ends_with('-') {
        Ok(text.to_owned())
    } else {
        Err("is not the name of a namespace".to_owned())
    }
}

/// The part before the slash of a label's or annotation's key: a DNS subdomain.
fn key_prefix(text: &str) -> Result<String, String> {
    if text.len() <= 253 && text.split('.').all(|label| namespace(label).is_ok()) {
        Ok(text.to_owned())
    } else {
        Err("is not a DNS name, such as multinic.io".to_owned())
    }
}

fn log_levels(text: &str) -> Result<LogLevels, String> {
    text.parse().map_err(|error| without_name(&error))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    text.parse().map_err(|error| without_name(&error))
}

/// Whoever shows these errors names the option already.
fn without_name(error: &LogError) -> String {
    let text = error.to_string();
    text.split_once(": ").map_or_else(|| text.clone(), |(_, reason)| reason.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn the_value_name_of_every_option_is_its_environment_variable() {
        for arg in CommandLine::command().get_arguments().filter(|arg| arg.get_id() != "config") {
            let (Some(long), Some(names)) = (arg.get_long(), arg.get_value_names()) else { continue };
            assert_eq!(names[0].as_str(), long.replace('-', "_").to_uppercase());
        }
    }
}
