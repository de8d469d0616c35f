//! The configuration file: options under their own names, and the nested keys of the older programs' file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::duration;

/// What a file gives.
#[derive(Debug, Default)]
pub struct FileOptions {
    /// Values by option, `poll_interval` for instance, each with its key in the file.
    pub values: BTreeMap<String, (String, String)>,
    /// Keys of the older programs that have no effect.
    pub ignored: Vec<String>,
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no YAML mapping.
    #[error("the configuration file {path} is not a YAML mapping: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, and why.
        reason: String,
    },
    /// A key that nobody knows.
    #[error(
        "the configuration file {path} has an unknown key {key}; the keys are the options of --help in lower case with underscores"
    )]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key, with dots where it is nested.
        key: String,
    },
    /// A value of the wrong kind.
    #[error("the configuration file {path} has no usable value for {key}: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong, without the value.
        reason: &'static str,
    },
    /// Two keys for one option.
    #[error("the configuration file {path} gives {option} twice: as {first} and as {second}")]
    Twice {
        /// The file.
        path: PathBuf,
        /// The option.
        option: String,
        /// One key.
        first: String,
        /// The other.
        second: String,
    },
}

/// The nested keys of the older programs' file, and the options that they became.
const NESTED: [(&str, &str); 15] = [
    ("database.host", "db_host"),
    ("database.port", "db_port"),
    ("database.username", "db_user"),
    ("database.user", "db_user"),
    ("database.password", "db_password"),
    ("database.database", "db_name"),
    ("database.url", "database_url"),
    ("agent.check_interval", "poll_interval"),
    ("agent.node_name", "node_name"),
    ("kubernetes.kubeconfig", "kubeconfig"),
    ("kubernetes.label_prefix", "k8s_label_prefix"),
    ("kubernetes.annotation_prefix", "k8s_annotation_prefix"),
    ("netplan.dry_run", "dry_run"),
    ("logging.level", "log_level"),
    ("logging.format", "log_format"),
];

/// Keys of the older programs' file that meant something for their way of working only.
const WITHOUT_EFFECT: [&str; 9] = [
    "database.charset",
    "database.parse_time",
    "database.loc",
    "agent.retry_count",
    "agent.retry_interval",
    "netplan.config_path",
    "netplan.backup_path",
    "logging.output",
    "logging.file_path",
];

/// Options whose values are secret and must be texts: a number would have lost its leading zeros.
const SECRETS: [&str; 2] = ["db_password", "database_url"];

/// Reads a file. `known` are the options that exist, besides the secret ones.
pub fn read(path: &Path, known: &[String]) -> Result<FileOptions, FileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    parse(path, &text, known)
}

fn parse(path: &Path, text: &str, known: &[String]) -> Result<FileOptions, FileError> {
    let own_path = || path.to_owned();
    let tree: Option<BTreeMap<String, Value>> = serde_saphyr::from_str(text)
        .map_err(|error| FileError::Parse { path: own_path(), reason: error.to_string() })?;
    let mut found = FileOptions::default();
    let mut flat = Vec::new();
    for (key, value) in tree.unwrap_or_default() {
        match value {
            Value::Object(inner) => {
                flat.extend(inner.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)));
            }
            value => flat.push((key, value)),
        }
    }
    for (key, value) in flat {
        if WITHOUT_EFFECT.contains(&key.as_str()) {
            found.ignored.push(key);
            continue;
        }
        let nested = NESTED.iter().find(|(name, _)| *name == key).map(|(_, option)| (*option).to_owned());
        let own = || (known.contains(&key) || SECRETS.contains(&key.as_str())).then(|| key.clone());
        let Some(option) = nested.or_else(own) else {
            return Err(FileError::UnknownKey { path: own_path(), key });
        };
        let secret = SECRETS.contains(&option.as_str());
        let text = as_text(&value, secret).map_err(|reason| FileError::Value {
            path: own_path(),
            key: key.clone(),
            reason,
        })?;
        let Some(mut text) = text else { continue };
        if key == "agent.check_interval" {
            text = duration::seconds_to_duration(&text);
        }
        if let Some((_, first)) = found.values.insert(option.clone(), (text, key.clone())) {
            return Err(FileError::Twice { path: own_path(), option, first, second: key });
        }
    }
    Ok(found)
}

fn as_text(value: &Value, secret: bool) -> Result<Option<String>, &'static str> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ if secret => Err("it must be a text, in quotes"),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Array(list) => {
            let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            texts.map(|texts| Some(texts.join(","))).ok_or("it must be a list of texts")
        }
        Value::Object(_) => Err("it must be a single value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<FileOptions, FileError> {
        let known = ["poll_interval", "db_host", "db_port", "node_name", "node_ip", "dry_run", "log_level"];
        parse(Path::new("/etc/multinic/agent.yaml"), text, &known.map(str::to_owned))
    }

    #[test]
    fn options_and_the_nested_keys_of_the_older_file_are_read() {
        let found = read(
            "database: {host: db, port: 3307, password: '0123', charset: utf8mb4}\n\
             agent: {check_interval: 30, node_name: worker-1}\nnode_ip: [10.0.0.1, 'fd00::1']\ndry_run: true\n",
        )
        .unwrap();
        let value = |option: &str| found.values[option].0.clone();
        assert_eq!(value("db_host"), "db");
        assert_eq!(value("db_port"), "3307");
        assert_eq!(value("db_password"), "0123");
        assert_eq!(value("poll_interval"), "30s");
        assert_eq!(value("node_ip"), "10.0.0.1,fd00::1");
        assert_eq!(value("dry_run"), "true");
        assert_eq!(found.ignored, ["database.charset"]);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        for (text, key) in [("pol_interval: 3s", "pol_interval"), ("database: {hots: x}", "database.hots")] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("agent.yaml"), "{error}");
        }
    }

    #[test]
    fn a_secret_that_yaml_takes_for_a_number_is_an_error_that_does_not_show_it() {
        let error = read("database: {password: 12345}").unwrap_err().to_string();
        assert!(error.contains("database.password") && !error.contains("12345"), "{error}");
    }

    #[test]
    fn one_option_under_two_keys_is_an_error() {
        assert!(matches!(read("db_host: a\ndatabase: {host: b}"), Err(FileError::Twice { .. })));
    }

    #[test]
    fn an_empty_file_gives_nothing() {
        for text in ["", "# only a comment\n", "db_host:\n", "db_host: ''\n"] {
            assert!(read(text).unwrap().values.is_empty(), "{text:?}");
        }
    }
}
