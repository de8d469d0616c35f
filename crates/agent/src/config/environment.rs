//! The environment: options under their own names and under those of the older programs.

use std::collections::BTreeMap;

use super::duration;

/// Older names of options, in the order in which they are looked at.
const ALIASES: [(&str, &str); 6] = [
    ("MY_NODE_NAME", "node_name"),
    ("DB_USERNAME", "db_user"),
    ("DB_DATABASE", "db_name"),
    ("DB_CA_FILE", "db_tls_ca"),
    ("AGENT_CHECK_INTERVAL", "poll_interval"),
    ("NETPLAN_DRY_RUN", "dry_run"),
];

/// Variables of the older programs that meant something for their way of working only.
const WITHOUT_EFFECT: [&str; 19] = [
    "AGENT_RETRY_COUNT",
    "AGENT_RETRY_INTERVAL",
    "BACKUP_DIR",
    "COMMAND_TIMEOUT",
    "DB_CHARSET",
    "DB_LOC",
    "DB_MAX_IDLE_CONNS",
    "DB_MAX_LIFETIME",
    "DB_MAX_OPEN_CONNS",
    "DB_PARSE_TIME",
    "LOG_FILE_PATH",
    "LOG_OUTPUT",
    "MAX_CONCURRENT_TASKS",
    "MAX_RETRIES",
    "NETPLAN_BACKUP_PATH",
    "NETPLAN_CONFIG_PATH",
    "PREFLIGHT_ALLOW_UP",
    "PRIVILEGED_MODE",
    "RETRY_DELAY",
];

/// What the environment gives.
#[derive(Debug, Default)]
pub struct EnvironmentOptions {
    /// Values by option, each with its variable.
    pub values: BTreeMap<String, (String, String)>,
    /// Variables of the older programs that are set and have no effect.
    pub ignored: Vec<String>,
}

/// Picks the known variables. Empty values count as not set: manifests often set variables to nothing.
pub fn read(known: &[String], lookup: impl Fn(&str) -> Option<String>) -> EnvironmentOptions {
    let set = |variable: &str| lookup(variable).filter(|value| !value.is_empty());
    let mut found = EnvironmentOptions::default();
    let secrets = ["db_password".to_owned(), "database_url".to_owned()];
    for option in known.iter().chain(&secrets) {
        let variable = option.to_uppercase();
        if let Some(value) = set(&variable) {
            found.values.insert(option.clone(), (value, variable));
        }
    }
    for (variable, option) in ALIASES {
        let Some(mut value) = set(variable) else { continue };
        if variable == "AGENT_CHECK_INTERVAL" {
            value = duration::seconds_to_duration(&value);
        }
        found.values.entry(option.to_owned()).or_insert((value, variable.to_owned()));
    }
    found.ignored =
        WITHOUT_EFFECT.iter().filter(|name| set(name).is_some()).map(|name| (*name).to_owned()).collect();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(variables: &[(&str, &str)]) -> EnvironmentOptions {
        let known = ["node_name", "db_user", "poll_interval"].map(str::to_owned);
        read(&known, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_newer_name_goes_before_the_older_one() {
        let found = read_from(&[("MY_NODE_NAME", "b"), ("NODE_NAME", "a"), ("DB_USERNAME", "u")]);
        assert_eq!(found.values["node_name"], ("a".to_owned(), "NODE_NAME".to_owned()));
        assert_eq!(found.values["db_user"], ("u".to_owned(), "DB_USERNAME".to_owned()));
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let found = read_from(&[("NODE_NAME", ""), ("MY_NODE_NAME", "b"), ("RUN_MODE", "")]);
        assert_eq!(found.values["node_name"].0, "b");
        assert!(found.ignored.is_empty());
    }

    #[test]
    fn variables_without_effect_are_named() {
        assert_eq!(read_from(&[("MAX_CONCURRENT_TASKS", "5")]).ignored, ["MAX_CONCURRENT_TASKS"]);
    }

    #[test]
    fn the_oldest_interval_is_in_seconds() {
        assert_eq!(read_from(&[("AGENT_CHECK_INTERVAL", "45")]).values["poll_interval"].0, "45s");
    }
}
