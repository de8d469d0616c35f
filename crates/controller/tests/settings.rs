//! Settings: from flags and variables, the same for both.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

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

#[test]
fn up_to_64_nics_can_be_allowed() {
    for (count, allowed) in [("1", true), ("64", true), ("65", false), ("0", false)] {
        assert_eq!(read(&["--max-interfaces", count], None).is_ok(), allowed, "{count}");
    }
}
