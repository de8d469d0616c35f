//! What the program makes of its environment when it starts.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::path::Path;
use std::process::{Command, Output};

fn once(folder: &Path, variables: &[(&str, &str)]) -> Output {
    let configs = folder.join("configs");
    std::fs::create_dir_all(&configs).unwrap();
    Command::new(env!("CARGO_BIN_EXE_multinic"))
        .args(["controller", "--once", "--standalone"])
        .arg(configs)
        .env_clear()
        .env("DATABASE_URL", format!("sqlite://{}", folder.join("multinic.db").display()))
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let folder = tempfile::tempdir().unwrap();
    let variables = ["CONTRABASS_ENDPOINT", "OPENSTACK_NEUTRON_ENDPOINT", "POLL_FAST_INTERVAL", "DB_PORT"];
    let output = once(folder.path(), &variables.map(|name| (name, "")));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_variable_that_cannot_be_used_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in
        [("CONTRABASS_ENCRYPT_KEY", "secret"), ("POLL_SLOW_INTERVAL", "soon"), ("MAX_INTERFACES", "65")]
    {
        let output = once(folder.path(), &[(name, value)]);
        let said = String::from_utf8_lossy(&output.stderr).replace('-', "_").to_uppercase();
        assert!(!output.status.success() && said.contains(name), "{said}");
        assert!(!said.contains("SECRET"), "{said}");
    }
    assert!(!folder.path().join("multinic.db").exists(), "settings are checked before anything is done");
}
