use std::time::Duration;

use multinic_store::{DatabaseSettings, Target};
use secrecy::ExposeSecret;

use super::*;

fn load_from(words: &[&str], variables: &[(&str, &str)]) -> Result<Request, ConfigError> {
    let words = std::iter::once("multinic-agent").chain(words.iter().copied()).map(OsString::from);
    load(words.collect::<Vec<_>>(), |name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let file = file("poll_interval: 10s\nmax_interfaces: 20\nhealth_port: 9000\n");
    let config = file.path().to_str().unwrap();
    let variables = [("POLL_INTERVAL", "20s"), ("MAX_INTERFACES", "30")];
    for words in [
        vec!["--config", config, "--poll-interval", "5s"],
        vec!["--config", config, "once", "--poll-interval", "5s"],
        vec!["once", "--poll-interval=5s", "--config", config],
    ] {
        let settings = load_from(&words, &variables).unwrap().settings;
        assert_eq!(settings.poll.base, Duration::from_secs(5), "{words:?}");
        assert_eq!(settings.max_interfaces, 30);
        assert_eq!(settings.health_port, 9000);
    }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let settings = load_from(&[], &[("NODE_NAME", "n")]).unwrap().settings;
    assert_eq!(settings.poll.base, Duration::from_secs(30));
    assert_eq!(settings.poll.longest, Duration::from_secs(300));
    assert_eq!(settings.poll.multiplier, 2.0);
    assert!(settings.poll.backoff);
    assert_eq!(settings.health_port, 8080);
    assert_eq!(settings.max_interfaces, 10);
    assert_eq!(settings.absence, multinic_core::node::absence::AbsenceRules::default());
    assert!(!settings.dry_run);
}

#[test]
fn a_backend_is_found_or_asked_for_by_its_name() {
    let backend = |variables: &[(&str, &str)]| load_from(&[], variables).unwrap().settings.network_backend;
    assert_eq!(backend(&[]), None);
    assert_eq!(backend(&[("NETWORK_BACKEND", "auto")]), None);
    for expected in multinic_host::backend::Backend::ALL {
        assert_eq!(backend(&[("NETWORK_BACKEND", expected.name())]), Some(expected));
    }
}

#[test]
fn a_value_that_cannot_be_parsed_is_an_error_that_names_the_variable() {
    for (variable, value) in [
        ("POLL_INTERVAL", "30"),
        ("POLL_INTERVAL", "0s"),
        ("BACKOFF_MULTIPLIER", "0.5"),
        ("BACKOFF_ENABLED", "perhaps"),
        ("HEALTH_PORT", "70000"),
        ("HEALTH_ADDR", "localhost"),
        ("MAX_INTERFACES", "65"),
        ("MAX_INTERFACES", "0"),
        ("NODE_NAME", "a b"),
        ("NODE_IP", "10.0.0.300"),
        ("LOG_LEVEL", "inof"),
        ("LOG_FORMAT", "xml"),
        ("ABSENCE_CONFIRM", "later"),
        ("DRY_RUN", "maybe"),
        ("DB_PORT", "port"),
        ("DATA_SOURCE", "file"),
        ("NETWORK_BACKEND", "ifupdown"),
        ("NODE_CR_NAMESPACE", "A/b"),
        ("K8S_LABEL_PREFIX", "a/b"),
        ("STALE_CONFIRM", "later"),
        ("RUN_MODE", "cron"),
        ("AGENT_ACTION", "destroy"),
        ("SAFE_APPLY_TIMEOUT", "29s"),
    ] {
        let error = load_from(&[], &[(variable, value)]).unwrap_err().to_string();
        assert!(error.contains(variable) && error.contains(value), "{variable}={value}: {error}");
        let flag = format!("--{}={value}", variable.replace('_', "-").to_lowercase());
        let error = load_from(&[&flag], &[]).unwrap_err().to_string();
        assert!(error.contains(variable), "{flag}: {error}");
    }
}

#[test]
fn a_wrong_value_in_the_file_names_the_key_and_the_file() {
    let file = file("agent: {check_interval: soon}");
    let path = file.path().to_str().unwrap();
    let error = load_from(&["--config", path], &[]).unwrap_err().to_string();
    assert!(error.contains("agent.check_interval") && error.contains(path), "{error}");
}

#[test]
fn booleans_are_read_as_people_write_them() {
    let dry =
        |words: &[&str], variables: &[(&str, &str)]| load_from(words, variables).unwrap().settings.dry_run;
    assert!(dry(&["--dry-run"], &[]));
    assert!(dry(&["plan", "--dry-run"], &[]));
    assert!(dry(&[], &[("DRY_RUN", "1")]));
    assert!(!dry(&["--dry-run=false"], &[("DRY_RUN", "true")]));
    assert!(!load_from(&[], &[("BACKOFF_ENABLED", "false")]).unwrap().settings.poll.backoff);
}

#[test]
fn the_commands_are_those_of_the_help() {
    let command = |words: &[&str]| load_from(words, &[]).map(|request| request.command);
    assert_eq!(command(&[]).unwrap(), Command::Run);
    assert_eq!(command(&["run"]).unwrap(), Command::Run);
    assert_eq!(command(&["plan", "--output", "json"]).unwrap(), Command::Plan { output: PlanOutput::Json });
    assert_eq!(command(&["cleanup", "--yes"]).unwrap(), Command::Cleanup { yes: true });
    assert!(command(&["claenup"]).is_err());
}

#[test]
fn the_database_is_named_by_any_of_its_contract_names() {
    let variables = [
        ("DB_HOST", "db"),
        ("DB_PORT", "30305"),
        ("DB_USERNAME", "u"),
        ("DB_PASSWORD", "s3cret"),
        ("DB_DATABASE", "multinic_db"),
    ];
    let database = load_from(&[], &variables).unwrap().settings.database().unwrap();
    let Target::MySql { host, port, user, password, name } = database.target else { panic!() };
    assert_eq!((host.as_str(), port, user.as_str(), name.as_str()), ("db", 30305, "u", "multinic_db"));
    assert_eq!(password.expose_secret(), "s3cret");
}

#[test]
fn a_password_may_come_from_a_file_without_its_line_break() {
    let file = file("s3cret\n");
    let variables =
        [("DB_HOST", "db"), ("DB_USER", "u"), ("DB_PASSWORD_FILE", file.path().to_str().unwrap())];
    let database = load_from(&[], &variables).unwrap().settings.database().unwrap();
    let Target::MySql { password, .. } = database.target else { panic!() };
    assert_eq!(password.expose_secret(), "s3cret");
    let both = [variables.as_slice(), &[("DB_PASSWORD", "x")]].concat();
    assert!(matches!(load_from(&[], &both), Err(ConfigError::TwoPasswords)));
}

#[test]
fn secrets_show_neither_in_settings_nor_in_errors() {
    let variables = [("DATABASE_URL", "mysql://u:s3cret@db:x/y"), ("DB_PASSWORD", "s3cret")];
    let settings = load_from(&[], &variables).unwrap().settings;
    assert!(!format!("{settings:?}").contains("s3cret"));
    let error = settings.database().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    assert!(error.to_string().contains("DATABASE_URL"), "{error}");
}

#[test]
fn a_missing_database_is_named_only_by_the_commands_that_need_it() {
    let settings = load_from(&["cleanup"], &[]).unwrap().settings;
    assert!(settings.database().unwrap_err().to_string().contains("DB_HOST"));
}

#[test]
fn the_source_is_the_database_unless_the_object_is_asked_for() {
    let source = |variables: &[(&str, &str)]| load_from(&[], variables).unwrap().settings.data_source;
    assert_eq!(source(&[]), DataSource::Db);
    assert_eq!(source(&[("DATA_SOURCE", "db")]), DataSource::Db);
    assert_eq!(source(&[("DATA_SOURCE", "nodecr")]), DataSource::Nodecr);
    let resource = load_from(&[], &[("K8S_LABEL_PREFIX", "a.example")]).unwrap().settings.resource;
    assert_eq!(resource.namespace, "multinic-system");
    assert_eq!(
        (resource.prefixes.label.as_str(), resource.prefixes.annotation.as_str()),
        ("a.example", "multinic.io")
    );
}

#[test]
fn a_clean_up_is_no_way_to_begin_a_service() {
    let action = ("AGENT_ACTION", "cleanup");
    assert!(matches!(load_from(&[], &[action]), Err(ConfigError::ActionOfService)));
    let settings = load_from(&[], &[action, ("RUN_MODE", "job")]).unwrap().settings;
    assert_eq!((settings.run_mode, settings.action), (RunMode::Job, Some(AgentAction::Cleanup)));
    assert!(settings.complete_on_partial_failure);
}

#[test]
fn an_sqlite_url_is_a_database() {
    let settings = load_from(&[], &[("DATABASE_URL", "sqlite:///tmp/x.db")]).unwrap().settings;
    let DatabaseSettings { target: Target::Sqlite { path }, .. } = settings.database().unwrap() else {
        panic!()
    };
    assert_eq!(path, PathBuf::from("/tmp/x.db"));
}

#[test]
fn the_help_names_the_exit_codes_and_teaches_by_example() {
    let help = CommandLine::command().render_long_help().to_string();
    for text in ["Exit codes:", "multinic-agent plan --output json", "DB_PASSWORD", "<POLL_INTERVAL>"] {
        assert!(help.contains(text), "{text}");
    }
}

#[test]
fn options_of_interfaces_are_those_of_the_second_agent_with_defaults_of_their_own() {
    let options = |variables: &[(&str, &str)]| load_from(&[], variables).unwrap().settings.options;
    let slot = multinic_core::Slot::new(3).unwrap();
    let resolved = options(&[]).resolve(slot);
    assert_eq!(resolved, multinic_core::NicOptions { strict_arp: true, ..Default::default() });
    let all = options(&[
        ("NETWORK_SET_ARP_SYSCTLS", "false"),
        ("NETWORK_SET_RP_FILTER_LOOSE", "true"),
        ("NETWORK_POLICY_ROUTING_ENABLED", "true"),
        ("NETWORK_ROUTING_TABLE_BASE", "500"),
        ("NETWORK_ROUTE_METRIC", "0"),
        ("NETWORK_NOPREFIXROUTE", "true"),
    ]);
    let resolved = all.resolve(slot);
    let source_routing = resolved.source_routing.unwrap();
    assert_eq!((source_routing.table, source_routing.metric, source_routing.priority()), (503, 103, 10_503));
    assert!(resolved.no_prefix_route && !resolved.strict_arp);
    assert_eq!(resolved.rp_filter, Some(multinic_core::options::ReversePath::Loose));
}

#[test]
fn options_that_do_not_go_together_name_their_variables() {
    for (variables, name) in [
        (&[("NETWORK_NOPREFIXROUTE", "true")][..], "NETWORK_NOPREFIXROUTE"),
        (&[("NETWORK_ROUTING_TABLE_BASE", "253")], "NETWORK_ROUTING_TABLE_BASE"),
        (&[("NETWORK_ROUTE_METRIC", "4000000000")], "NETWORK_ROUTE_METRIC"),
    ] {
        let error = load_from(&[], variables).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
    let error = load_from(&[], &[("NETWORK_NOPREFIXROUTE", "true")]).unwrap_err().to_string();
    assert!(error.contains("NETWORK_POLICY_ROUTING_ENABLED") && !error.contains("options."), "{error}");
}
