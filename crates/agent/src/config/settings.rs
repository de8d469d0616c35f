//! What the rest of the agent sees of its configuration.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use multinic_core::node::absence::AbsenceRules;
use multinic_core::node::poll::PollRules;
use multinic_core::options::{ReversePath, SourceRoutingOptions};
use multinic_core::{InterfaceOptions, NodeName};
use multinic_host::backend::Backend;
use multinic_store::{DatabaseParts, DatabaseSettings};
use multinic_telemetry::logs::{LogFormat, LogLevels};
use secrecy::SecretString;

use super::{AgentAction, ConfigError, DataSource, Options, RunMode};
use crate::node_resource::node_keys::KeyPrefixes;
use crate::node_resource::resource::ResourceSettings;

/// How many complete reads must have shown an absence, whatever the time between them.
const ABSENCE_READS: u32 = 3;
/// The longest wait after errors, as a multiple of the usual one, where none is given.
const BACKOFF_FACTOR: u32 = 10;

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name under which the source knows this node.
    pub node: NodeName,
    /// Where that name comes from.
    pub node_origin: NodeNameOrigin,
    /// Addresses by which the cluster knows the node, as far as they were given.
    pub node_addresses: Vec<IpAddr>,
    /// The node's file system.
    pub host_root: PathBuf,
    /// How the node keeps the configuration of its NICs; none: as is found.
    pub network_backend: Option<Backend>,
    /// How many slots the node may use where the source leaves the choice to it.
    pub max_interfaces: u8,
    /// What is said of every interface of which the source does not.
    pub options: InterfaceOptions,
    /// How many copies are kept of each file.
    pub backup_keep: usize,
    /// How long a change may take before the node goes back by itself.
    pub safe_apply: Duration,
    /// Where the program is put that does that, as the node sees it.
    pub undo_program: PathBuf,
    /// Whether NICs are changed where nothing would.
    pub allow_unarmed: bool,
    /// Whether the drop-in is written that keeps networkd from dropping what others set.
    pub install_dropin: bool,
    /// Plan and log only.
    pub dry_run: bool,
    /// Where the desired state is read.
    pub data_source: DataSource,
    /// How the node's object is found.
    pub resource: ResourceSettings,
    /// How long an object must be older than it was before that is accepted.
    pub stale_confirm: Duration,
    /// How long the agent runs.
    pub run_mode: RunMode,
    /// What a job does instead of a pass.
    pub action: Option<AgentAction>,
    /// Whether a job of which some NICs failed has succeeded.
    pub complete_on_partial_failure: bool,
    /// Where a job leaves its message.
    pub termination_log: PathBuf,
    /// The parts of the database's address; put together only by the commands that need it.
    pub database: DatabaseParts,
    /// When to read the source.
    pub poll: PollRules,
    /// How often to check everything without any event.
    pub full_pass: Duration,
    /// How long an absence must last.
    pub absence: AbsenceRules,
    /// Where health and metrics are served; empty: on loopback and the node's own addresses.
    pub health_addresses: Vec<IpAddr>,
    /// The port of all of them.
    pub health_port: u16,
    /// Which events are logged.
    pub log_levels: LogLevels,
    /// In which form.
    pub log_format: LogFormat,
    /// Variables and keys of the older programs that are set and have no effect.
    pub ignored: Vec<String>,
}

/// Where the node's name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeNameOrigin {
    /// It was configured.
    Configured,
    /// It is the host name up to its first dot, as the older agents had it.
    HostName,
}

/// What is read from the environment and the file only.
#[derive(Debug, Clone, Default)]
pub struct DatabaseSecrets {
    /// `DATABASE_URL`.
    pub url: Option<SecretString>,
    /// `DB_PASSWORD`.
    pub password: Option<SecretString>,
}

impl Settings {
    /// Checks what the options' own parsers could not see.
    pub fn new(
        options: Options,
        secrets: DatabaseSecrets,
        ignored: Vec<String>,
    ) -> Result<Self, ConfigError> {
        let Options {
            node_name,
            node_ip,
            host_root,
            network_backend,
            max_interfaces,
            backup_keep,
            dry_run,
            network_set_arp_sysctls,
            network_set_rp_filter_loose,
            network_policy_routing_enabled,
            network_routing_table_base,
            network_route_metric,
            network_noprefixroute,
            safe_apply_timeout,
            undo_program,
            allow_unarmed,
            install_dropin,
            data_source,
            node_cr_namespace,
            kubeconfig,
            stale_confirm,
            k8s_label_prefix,
            k8s_annotation_prefix,
            product_uuid_file,
            run_mode,
            agent_action,
            job_complete_on_partial_failure,
            termination_log,
            db_host,
            db_port,
            db_user,
            db_password_file,
            db_name,
            db_tls,
            db_tls_ca,
            db_connect_timeout,
            db_statement_timeout,
            poll_interval,
            backoff_enabled,
            backoff_max_interval,
            backoff_multiplier,
            full_pass_interval,
            absence_confirm,
            absence_confirm_all,
            health_addr,
            health_port,
            log_level,
            log_format,
        } = options;
        let DatabaseSecrets { url, password } = secrets;
        if agent_action.is_some() && run_mode != RunMode::Job {
            return Err(ConfigError::ActionOfService);
        }
        let options = InterfaceOptions {
            vlan: None,
            strict_arp: Some(network_set_arp_sysctls),
            rp_filter: network_set_rp_filter_loose.then_some(ReversePath::Loose),
            source_routing: SourceRoutingOptions {
                enabled: Some(network_policy_routing_enabled),
                table_base: Some(network_routing_table_base),
                metric: Some(network_route_metric),
            },
            no_prefix_route: Some(network_noprefixroute),
            routes: Vec::new(),
        };
        options.check().map_err(|error| ConfigError::Options {
            variable: match error.field.as_str() {
                "options.noPrefixRoute" => "NETWORK_NOPREFIXROUTE",
                "options.sourceRouting.tableBase" => "NETWORK_ROUTING_TABLE_BASE",
                _ => "NETWORK_ROUTE_METRIC",
            },
            problem: error.problem.replace("options.sourceRouting.enabled", "NETWORK_POLICY_ROUTING_ENABLED"),
        })?;
        let password = match (password, db_password_file) {
            (Some(_), Some(_)) => return Err(ConfigError::TwoPasswords),
            (password, None) => password,
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                // Editors and `echo` end files with a line break, which is no part of a password.
                Ok(text) => Some(SecretString::from(text.trim_end_matches(['\r', '\n']))),
                Err(source) => return Err(ConfigError::PasswordFile { path, source }),
            },
        };
        let (node, node_origin) = match node_name {
            Some(node) => (node, NodeNameOrigin::Configured),
            None => (short_host_name()?, NodeNameOrigin::HostName),
        };
        Ok(Self {
            node,
            node_origin,
            node_addresses: node_ip,
            host_root,
            network_backend: network_backend.backend(),
            max_interfaces,
            options,
            backup_keep,
            safe_apply: safe_apply_timeout,
            undo_program,
            allow_unarmed,
            install_dropin,
            dry_run,
            data_source,
            resource: ResourceSettings {
                kubeconfig,
                namespace: node_cr_namespace,
                product_uuid_file,
                prefixes: KeyPrefixes { label: k8s_label_prefix, annotation: k8s_annotation_prefix },
            },
            stale_confirm,
            run_mode,
            action: agent_action,
            complete_on_partial_failure: job_complete_on_partial_failure,
            termination_log,
            database: DatabaseParts {
                url,
                host: db_host,
                port: db_port,
                user: db_user,
                password,
                name: db_name,
                tls: db_tls,
                tls_ca: db_tls_ca,
                pool_size: None,
                connect_timeout: db_connect_timeout,
                statement_timeout: db_statement_timeout,
            },
            poll: PollRules {
                base: poll_interval,
                backoff: backoff_enabled,
                multiplier: backoff_multiplier,
                longest: backoff_max_interval.unwrap_or(poll_interval * BACKOFF_FACTOR),
            },
            full_pass: full_pass_interval,
            absence: AbsenceRules {
                some: absence_confirm,
                all: absence_confirm_all.max(absence_confirm),
                reads: ABSENCE_READS,
            },
            health_addresses: health_addr,
            health_port,
            log_levels: log_level,
            log_format,
            ignored,
        })
    }

    /// The database, for the commands that need it.
    pub fn database(&self) -> Result<DatabaseSettings, ConfigError> {
        Ok(DatabaseSettings::from_parts(self.database.clone())?)
    }
}

/// The host name up to its first dot: what the older agents took, and what the controller publishes for servers whose
/// guests got their domain from elsewhere.
fn short_host_name() -> Result<NodeName, ConfigError> {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let hostname = hostname.trim();
    let short = hostname.split('.').next().unwrap_or_default();
    short.parse().map_err(|error: multinic_core::NameError| ConfigError::NodeName {
        hostname: hostname.to_owned(),
        reason: error.to_string(),
    })
}
