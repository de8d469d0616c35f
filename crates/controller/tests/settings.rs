//! Settings: from flags and variables, the same for both.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::time::Duration;

use clap::{Args, Command, FromArgMatches};
use multinic_controller::settings::{CloudArgs, PassArgs, without_empty_variables};
use multinic_core::config::Defaults;

fn read(args: &[&str], key: Option<&str>) -> Result<Defaults, String> {
    let command = PassArgs::augment_args(CloudArgs::augment_args(Command::new("controller")));
    let args = ["controller"].iter().chain(args);
    let matches =
        without_empty_variables(command).try_get_matches_from(args).map_err(|error| error.to_string())?;
    let (clouds, pass) =
        (CloudArgs::from_arg_matches(&matches).unwrap(), PassArgs::from_arg_matches(&matches).unwrap());
    clouds.defaults(&pass, |_| key.map(str::to_owned)).map_err(|error| error.to_string())
}

#[test]
fn a_key_that_cannot_be_one_is_an_error_at_start_that_names_the_variable_and_not_the_key() {
    let error = read(&[], Some("too-short")).unwrap_err();
    assert!(error.starts_with("CONTRABASS_ENCRYPT_KEY has 9 bytes"), "{error}");
    assert!(read(&[], Some("0123456789abcdef\n")).is_ok());
    assert!(read(&[], None).unwrap().contrabass_key.is_none());
}

#[test]
fn an_interface_that_there_is_not_is_an_error_at_start() {
    let error = read(&["--openstack-endpoint-interface", "publik"], None).unwrap_err();
    assert!(error.contains("publik") && error.contains("internal"), "{error}");
}

/// Every variable of the older programs that a configuration's cloud depends on: something else than its default has an effect.
#[test]
fn every_variable_has_its_effect() {
    type Effect = fn(&Defaults) -> bool;
    let effects: [(&str, &str, Effect); 18] = [
        ("CONTRABASS_ENDPOINT", "http://c", |it| it.contrabass_endpoint.is_some()),
        ("CONTRABASS_TIMEOUT", "7s", |it| it.contrabass_timeout == Some(Duration::from_secs(7))),
        ("CONTRABASS_INSECURE_TLS", "True", |it| it.contrabass_insecure),
        ("OPENSTACK_TIMEOUT", "7s", |it| it.openstack_timeout == Some(Duration::from_secs(7))),
        ("OPENSTACK_INSECURE_TLS", "1", |it| it.openstack_insecure),
        ("OPENSTACK_CA_FILE", "/ca", |it| it.openstack_ca_file == Some("/ca".into())),
        ("OPENSTACK_AUTH_URL", "http://k", |it| it.auth_url.is_some()),
        ("OPENSTACK_NEUTRON_ENDPOINT", "http://n", |it| it.neutron_endpoint.is_some()),
        ("OPENSTACK_NOVA_ENDPOINT", "http://n", |it| it.nova_endpoint.is_some()),
        ("OPENSTACK_ENDPOINT_INTERFACE", "admin", |it| it.endpoint_interface.as_deref() == Some("admin")),
        ("OPENSTACK_ENDPOINT_REGION", "r", |it| it.endpoint_region.as_deref() == Some("r")),
        ("OPENSTACK_NODE_NAME_METADATA_KEY", "k", |it| it.node_name_key.as_deref() == Some("k")),
        ("OPENSTACK_PORT_ALLOWED_STATUSES", "DOWN,BUILD", |it| {
            it.port_statuses == Some(vec!["DOWN".to_owned(), "BUILD".to_owned()])
        }),
        ("DOWN_PORT_FAST_RETRY_MAX", "9", |it| it.cadence.down_retries == 9),
        ("POLL_FAST_INTERVAL", "7s", |it| it.cadence.fast == Duration::from_secs(7)),
        ("POLL_SLOW_INTERVAL", "77m", |it| it.cadence.slow == Duration::from_secs(77 * 60)),
        ("POLL_ERROR_INTERVAL", "7s", |it| it.cadence.error == Duration::from_secs(7)),
        ("POLL_FAST_WINDOW", "7s", |it| it.cadence.window == Duration::from_secs(7)),
    ];
    let before = read(&[], None).unwrap();
    let command = PassArgs::augment_args(CloudArgs::augment_args(Command::new("controller")));
    for (variable, value, is_so) in effects {
        assert!(!is_so(&before), "{variable} has that effect by default");
        let of = |arg: &&clap::Arg| arg.get_env().is_some_and(|name| name == variable);
        let flag = command.get_arguments().find(of).unwrap().get_long().unwrap();
        assert!(is_so(&read(&[&format!("--{flag}={value}")], None).unwrap()), "{variable}={value}");
    }
}

#[test]
fn up_to_64_nics_can_be_allowed() {
    for (count, allowed) in [("1", true), ("64", true), ("65", false), ("0", false)] {
        assert_eq!(read(&["--max-interfaces", count], None).is_ok(), allowed, "{count}");
    }
}
