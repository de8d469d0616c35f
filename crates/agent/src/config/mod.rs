//! The agent's configuration: flags, environment and file brought together, checked, and turned into settings.
//!
//! * [`options`]: the one definition.
//! * `environment`, `file`: the two other places that values come from.
//! * [`Settings`]: what the rest of the agent sees.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use secrecy::SecretString;

pub mod duration;
mod environment;
mod file;
pub mod options;
mod settings;

pub use file::FileError;
pub use options::{
    AgentAction, Command, CommandLine, DataSource, NetworkBackend, Options, PlanOutput, RunMode,
};
pub use settings::{DatabaseSecrets, NodeNameOrigin, Settings};

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line is wrong, or it asks for help.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The file is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// A value of the environment or of the file is wrong.
    #[error("{name} ({place}): {reason}")]
    Value {
        /// The variable, or the key in the file.
        name: String,
        /// Where it was set.
        place: String,
        /// What it was set to, and what is wrong with that.
        reason: String,
    },
    /// An action without the mode that it belongs to.
    #[error("AGENT_ACTION=cleanup takes everything away and ends, so it needs RUN_MODE=job")]
    ActionOfService,
    /// Options of interfaces do not go together.
    #[error("{variable}: {problem}")]
    Options {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The database's settings are wrong.
    #[error(transparent)]
    Database(#[from] multinic_store::SettingsError),
    /// The password file cannot be read.
    #[error("DB_PASSWORD_FILE: cannot read {path}: {source}")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Two passwords.
    #[error("DB_PASSWORD and DB_PASSWORD_FILE are both set: set one of them")]
    TwoPasswords,
    /// No usable name for this node.
    #[error("NODE_NAME is not set, and the host name {hostname:?} cannot stand in: {reason}")]
    NodeName {
        /// What the kernel says.
        hostname: String,
        /// Why that is no name.
        reason: String,
    },
}

/// What was asked for, before anything is opened.
#[derive(Debug)]
pub struct Request {
    /// The command.
    pub command: Command,
    /// The settings.
    pub settings: Settings,
}

/// Brings everything together. `lookup` reads the environment.
pub fn load(
    arguments: impl IntoIterator<Item = OsString>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Request, ConfigError> {
    let definition = CommandLine::command();
    let known: Vec<String> = definition
        .get_arguments()
        .map(|arg| arg.get_id().to_string())
        .filter(|id| !matches!(id.as_str(), "config" | "help" | "version"))
        .collect();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Parsed twice: the first time for the file's name, and for what is wrong with the command line alone.
    let config = parse(arguments.clone())?.config;
    let from_environment = environment::read(&known, &lookup);
    let from_file = config.as_deref().map(|path| file::read(path, &known)).transpose()?.unwrap_or_default();

    let mut layers = Vec::new();
    for (option, (value, key)) in &from_file.values {
        layers.push((
            option,
            value,
            key,
            config.as_deref().map_or_else(String::new, |path| path.display().to_string()),
        ));
    }
    for (option, (value, variable)) in &from_environment.values {
        layers.push((option, value, variable, "environment".to_owned()));
    }
    let mut secrets = DatabaseSecrets::default();
    let mut words: Vec<OsString> = arguments.first().cloned().into_iter().collect();
    for (option, value, name, place) in layers {
        match option.as_str() {
            "db_password" => secrets.password = Some(SecretString::from(value.as_str())),
            "database_url" => secrets.url = Some(SecretString::from(value.as_str())),
            _ => {
                let word = OsString::from(format!("--{}={value}", option.replace('_', "-")));
                if let Err(reason) = check(&word) {
                    let said = reason.contains(&format!("{value:?}"));
                    let reason = if said { reason } else { format!("{value:?}: {reason}") };
                    return Err(ConfigError::Value { name: name.clone(), place, reason });
                }
                words.push(word);
            }
        }
    }
    // The last of several values counts, so what the user typed comes last.
    words.extend(arguments.into_iter().skip(1));
    let CommandLine { config: _, options, command } = parse(words)?;
    let mut ignored = from_environment.ignored;
    ignored.extend(from_file.ignored);
    let settings = Settings::new(options, secrets, ignored)?;
    Ok(Request { command: command.unwrap_or(Command::Run), settings })
}

fn parse(words: Vec<OsString>) -> Result<CommandLine, clap::Error> {
    let matches = CommandLine::command().try_get_matches_from(words)?;
    CommandLine::from_arg_matches(&matches)
}

/// What is wrong with one option, alone.
fn check(word: &OsString) -> Result<(), String> {
    let Err(error) = parse(vec![OsString::from("multinic-agent"), word.clone()]) else { return Ok(()) };
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    Err(cause.unwrap_or_else(|| match error.kind() {
        ErrorKind::InvalidValue => "not one of the values that are possible".to_owned(),
        kind => kind.to_string(),
    }))
}

/// A path of the node's, seen from within our own file system.
pub fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests;
