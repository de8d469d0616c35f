//! Every setting of the controller, each once: a flag, its environment variable, its default.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use clap::builder::{OsStr, Resettable};
use multinic_core::config::{Cadence, Defaults};
use multinic_core::duration;
use multinic_core::fleet::FleetLimits;
use multinic_core::names::Slot;
use multinic_openstack::{Key, KeyError};
use multinic_store::{DatabaseParts, DatabaseSettings, SettingsError};
use multinic_telemetry::logs::{LogFormat, LogLevels};
use secrecy::SecretString;
use url::Url;

/// What a configuration gets where it is silent, and the bounds of a pass.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Clouds")]
pub struct CloudArgs {
    /// Contrabass' base URL, for configurations with an openstackProviderID.
    #[arg(long, env = "CONTRABASS_ENDPOINT")]
    pub contrabass_endpoint: Option<Url>,
    /// Time limit of a request to Contrabass.
    #[arg(long, env = "CONTRABASS_TIMEOUT", value_parser = duration::parse_positive, default_value = "30s")]
    pub contrabass_timeout: Duration,
    /// Do not verify Contrabass' certificate.
    #[arg(long, env = "CONTRABASS_INSECURE_TLS", default_value_t = false, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub contrabass_insecure_tls: bool,
    /// Time limit of a request to Keystone, Neutron or Nova.
    #[arg(long, env = "OPENSTACK_TIMEOUT", value_parser = duration::parse_positive, default_value = "30s")]
    pub openstack_timeout: Duration,
    /// Do not verify the certificates of Keystone, Neutron and Nova.
    #[arg(long, env = "OPENSTACK_INSECURE_TLS", default_value_t = false, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub openstack_insecure_tls: bool,
    /// PEM file of certification authorities to trust beside the system's.
    #[arg(long, env = "OPENSTACK_CA_FILE")]
    pub openstack_ca_file: Option<PathBuf>,
    /// Keystone's URL, with or without /v3, for configurations without an authURL.
    #[arg(long, env = "OPENSTACK_AUTH_URL")]
    pub openstack_auth_url: Option<Url>,
    /// Neutron's URL in place of the catalog's.
    #[arg(long, env = "OPENSTACK_NEUTRON_ENDPOINT")]
    pub openstack_neutron_endpoint: Option<Url>,
    /// Nova's URL in place of the catalog's.
    #[arg(long, env = "OPENSTACK_NOVA_ENDPOINT")]
    pub openstack_nova_endpoint: Option<Url>,
    /// Which of the catalog's interfaces to use: public, internal or admin.
    #[arg(long, env = "OPENSTACK_ENDPOINT_INTERFACE", default_value = "public", value_parser = ["public", "internal", "admin"])]
    pub openstack_endpoint_interface: String,
    /// Which of the catalog's regions to use; needed where it has several.
    #[arg(long, env = "OPENSTACK_ENDPOINT_REGION")]
    pub openstack_endpoint_region: Option<String>,
    /// Key of the server metadata that holds the node's name.
    #[arg(long, env = "OPENSTACK_NODE_NAME_METADATA_KEY")]
    pub openstack_node_name_metadata_key: Option<String>,
    /// Port statuses with which a NIC is taken up, by commas; `*` for any.
    #[arg(
        long,
        env = "OPENSTACK_PORT_ALLOWED_STATUSES",
        value_delimiter = ',',
        default_value = "ACTIVE,DOWN"
    )]
    pub openstack_port_allowed_statuses: Vec<String>,
    /// How many requests to one server of a cloud, such as its Neutron, may be in flight.
    #[arg(long, env = "OPENSTACK_MAX_REQUESTS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub openstack_max_requests: u16,
}

/// How often clouds are read, and how much a pass may do.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Passes")]
pub struct PassArgs {
    /// Interval of reads after a change.
    #[arg(long, env = "POLL_FAST_INTERVAL", value_parser = duration::parse_positive, default_value = "20s")]
    pub poll_fast_interval: Duration,
    /// Interval of reads when nothing has changed for a while.
    #[arg(long, env = "POLL_SLOW_INTERVAL", value_parser = duration::parse_positive, default_value = "2m")]
    pub poll_slow_interval: Duration,
    /// Interval of reads after an error.
    #[arg(long, env = "POLL_ERROR_INTERVAL", value_parser = duration::parse_positive, default_value = "30s")]
    pub poll_error_interval: Duration,
    /// How long after a change reads stay fast.
    #[arg(long, env = "POLL_FAST_WINDOW", value_parser = duration::parse, default_value = "3m")]
    pub poll_fast_window: Duration,
    /// How many fast reads a set of DOWN ports earns.
    #[arg(long, env = "DOWN_PORT_FAST_RETRY_MAX", default_value_t = 5)]
    pub down_port_fast_retry_max: u32,
    /// How many NICs a node may have.
    #[arg(long, env = "MAX_INTERFACES", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=i64::from(Slot::MAX) + 1))]
    pub max_interfaces: u8,
    /// How long a tombstone is kept for nodes that were away.
    #[arg(long, env = "TOMBSTONE_RETENTION", value_parser = duration::parse_positive, default_value = "168h")]
    pub tombstone_retention: Duration,
}

/// Where the database is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// Host of MariaDB or MySQL.
    #[arg(long, env = "DB_HOST")]
    pub db_host: Option<String>,
    /// Its port. [default: 3306]
    #[arg(long, env = "DB_PORT")]
    pub db_port: Option<u16>,
    /// The user to log in as.
    #[arg(long, env = "DB_USER")]
    pub db_user: Option<String>,
    /// A file with that user's password, instead of the environment variable DB_PASSWORD
    #[arg(long, env = "DB_PASSWORD_FILE")]
    pub db_password_file: Option<PathBuf>,
    /// Name of the database. [default: multinic]
    #[arg(long, env = "DB_NAME")]
    pub db_name: Option<String>,
    /// disabled, verify or insecure. [default: verify with --db-tls-ca, else disabled]
    #[arg(long, env = "DB_TLS")]
    pub db_tls: Option<String>,
    /// PEM file of certification authorities to trust beside the system's.
    #[arg(long, env = "DB_TLS_CA")]
    pub db_tls_ca: Option<PathBuf>,
    /// Connections held at most. [default: 4]
    #[arg(long, env = "DB_POOL_SIZE")]
    pub db_pool_size: Option<u32>,
    /// Time limit of a connection. [default: 10s]
    #[arg(long, env = "DB_CONNECT_TIMEOUT", value_parser = duration::parse_positive)]
    pub db_connect_timeout: Option<Duration>,
    /// Time limit of a statement. [default: 30s]
    #[arg(long, env = "DB_STATEMENT_TIMEOUT", value_parser = duration::parse_positive)]
    pub db_statement_timeout: Option<Duration>,
}

/// For whom the log is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// trace, debug, info, warn or error, or a list by target.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: LogLevels,
    /// json or text.
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
}

/// An empty variable is one that is not set: the older programs' manifests have many. Only an empty list of statuses says
/// something, that there is no filter.
pub fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        let says_something = arg.get_id() == "openstack_port_allowed_statuses";
        let value = arg.get_env().filter(|_| !says_something).and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    let command =
        command.mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::<OsStr>::Reset) } else { arg });
    command.mut_subcommands(without_empty_variables)
}

/// Why `CONTRABASS_ENCRYPT_KEY` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("CONTRABASS_ENCRYPT_KEY {0}")]
pub struct ContrabassKeyError(KeyError);

/// Why the database's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseArgsError {
    /// The password's file.
    #[error("DB_PASSWORD_FILE: cannot read {}: {source}", path.display())]
    PasswordFile {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A setting.
    #[error(transparent)]
    Setting(#[from] SettingsError),
}

impl DatabaseArgs {
    /// Puts the settings together. `environment` looks a variable up: what is secret (`DB_PASSWORD`, and `DATABASE_URL`,
    /// which may hold a password) is no flag, since everybody on the machine can read those; and the older programs' names.
    pub fn settings(
        self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<DatabaseSettings, DatabaseArgsError> {
        let password = match self.db_password_file {
            Some(path) => {
                let text = std::fs::read_to_string(&path);
                let text = text.map_err(|source| DatabaseArgsError::PasswordFile { path, source })?;
                Some(text.trim_end_matches(['\r', '\n']).into())
            }
            None => environment("DB_PASSWORD").map(SecretString::from),
        };
        let parts = DatabaseParts {
            url: environment("DATABASE_URL").map(SecretString::from),
            host: self.db_host,
            port: self.db_port,
            user: self.db_user.or_else(|| environment("DB_USERNAME")),
            password,
            name: self.db_name.or_else(|| environment("DB_DATABASE")),
            tls: self.db_tls,
            tls_ca: self.db_tls_ca,
            pool_size: self.db_pool_size,
            connect_timeout: self.db_connect_timeout,
            statement_timeout: self.db_statement_timeout,
        };
        Ok(DatabaseSettings::from_parts(parts)?)
    }
}

impl CloudArgs {
    /// What a configuration gets where it is silent. `environment` looks up what is secret and so no flag:
    /// `CONTRABASS_ENCRYPT_KEY`, which is an error here and not only where a configuration needs it.
    pub fn defaults(
        &self,
        pass: &PassArgs,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Defaults, ContrabassKeyError> {
        let contrabass_key = environment("CONTRABASS_ENCRYPT_KEY").map(|key| SecretString::from(key.trim()));
        contrabass_key.as_ref().map(Key::new).transpose().map_err(ContrabassKeyError)?;
        Ok(Defaults {
            contrabass_endpoint: self.contrabass_endpoint.clone(),
            contrabass_key,
            contrabass_timeout: Some(self.contrabass_timeout),
            contrabass_insecure: self.contrabass_insecure_tls,
            openstack_timeout: Some(self.openstack_timeout),
            openstack_insecure: self.openstack_insecure_tls,
            openstack_ca_file: self.openstack_ca_file.clone(),
            auth_url: self.openstack_auth_url.clone(),
            neutron_endpoint: self.openstack_neutron_endpoint.clone(),
            nova_endpoint: self.openstack_nova_endpoint.clone(),
            endpoint_interface: Some(self.openstack_endpoint_interface.clone()),
            endpoint_region: self.openstack_endpoint_region.clone(),
            node_name_key: self.openstack_node_name_metadata_key.clone(),
            port_statuses: Some(self.openstack_port_allowed_statuses.clone()),
            cadence: Cadence {
                fast: pass.poll_fast_interval,
                slow: pass.poll_slow_interval.max(pass.poll_fast_interval),
                error: pass.poll_error_interval,
                window: pass.poll_fast_window,
                down_retries: pass.down_port_fast_retry_max.max(1),
            },
        })
    }
}

impl PassArgs {
    /// The planner's limits.
    pub fn limits(&self) -> FleetLimits {
        FleetLimits { interfaces: self.max_interfaces }
    }
}
