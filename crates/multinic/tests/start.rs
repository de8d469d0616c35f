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
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(name), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
    assert!(!folder.path().join("multinic.db").exists(), "settings are checked before anything is done");
}

#[test]
fn a_file_goes_below_the_environment_and_its_faults_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("multinic.yaml");
    let once = |text: &str, variables: &[(&str, &str)]| {
        std::fs::write(&file, text).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_multinic"))
            .args(["controller", "--once", "--standalone"])
            .arg(folder.path())
            .arg("--config")
            .arg(&file)
            .env_clear()
            .env("DATABASE_URL", format!("sqlite://{}", folder.path().join("multinic.db").display()))
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = once("log_format: text\nopenstack_port_allowed_statuses: [ACTIVE]\n", &[]);
    assert!(code == Some(0) && !said.contains('{'), "the log is text: {code:?} {said}");
    // The environment's value is wrong, so it is the one that counts.
    let (code, said) = once("poll_slow_interval: 1m\n", &[("POLL_SLOW_INTERVAL", "soon")]);
    assert!(code == Some(1) && said.contains("POLL_SLOW_INTERVAL (environment)"), "{code:?} {said}");
    let (code, said) = once("poll_slow_interval: soon\n", &[]);
    assert!(
        code == Some(1) && said.contains("poll_slow_interval") && said.contains("multinic.yaml"),
        "{code:?} {said}"
    );
}
