//! `doctor --database` as a program: what it prints and its exit codes. It needs no root and no node.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing loudly; the lints' own exemption does not reach their helpers"
)]

use std::process::{Command, Output, Stdio};

use multinic_store::{DatabaseSettings, Store};
use multinic_testbed::mariadb::MariaDb;
use serde_json::Value;

const SECRET: &str = "s3cret-of-the-agent";

/// Runs it with this environment and no other. The node's file system is one that cannot be opened.
fn doctor(output: &str, variables: &[(&str, &str)]) -> Output {
    let done = Command::new(env!("CARGO_BIN_EXE_multinic-agent"))
        .args(["doctor", "--database", "--output", output])
        .env_clear()
        .env("HOST_ROOT", "/nonexistent")
        .env("NODE_NAME", "worker-1")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    for stream in [&done.stdout, &done.stderr] {
        assert!(!String::from_utf8_lossy(stream).contains(SECRET), "{done:?}");
    }
    done
}

/// Makes the tables.
fn migrate(settings: &DatabaseSettings) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Store::open(settings).await.unwrap().migrate().await.unwrap() });
}

#[test]
fn each_step_is_a_line_and_a_node_without_rows_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    migrate(&DatabaseSettings::sqlite(&path));
    let url = format!("sqlite://{}", path.display());
    let done = doctor("text", &[("DATABASE_URL", &url)]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let text = String::from_utf8(done.stdout).unwrap();
    let begins: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    let expected = [
        ["ok", "database"],
        ["ok", "file"],
        ["ok", "tables"],
        ["warn", "rows"],
        ["mend:", "NODE_NAME"],
        ["ok", "rights"],
    ];
    assert_eq!(begins, expected, "{text}");
    assert!(text.contains("worker-1"), "{text}");
}

#[test]
fn settings_that_name_no_database_are_an_error_of_their_own() {
    let done = doctor("text", &[("DB_HOST", "db.invalid"), ("DB_PASSWORD", SECRET)]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("DB_USER"), "{done:?}");
}

#[test]
fn a_host_that_does_not_resolve_is_told_with_what_to_do() {
    let variables = [("DB_HOST", "db.invalid"), ("DB_USER", "agent"), ("DB_PASSWORD", SECRET)];
    let done = doctor("text", &variables);
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    let text = String::from_utf8(done.stdout).unwrap();
    for part in ["fail name", "db.invalid", "mend: correct DB_HOST"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn a_refused_login_is_told_for_scripts() {
    if !MariaDb::installed() {
        return;
    }
    let server = MariaDb::start().unwrap();
    server.create_database("net").unwrap();
    let port = server.port().to_string();
    let place = [("DB_HOST", "127.0.0.1"), ("DB_PORT", &*port), ("DB_USER", "multinic"), ("DB_NAME", "net")];
    let done = doctor("json", &[&place[..], &[("DB_PASSWORD", SECRET)]].concat());
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    let document: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(document["node"], "worker-1");
    let steps = document["steps"].as_array().unwrap();
    let ends: Vec<(&str, &str)> = steps
        .iter()
        .map(|step| (step["step"].as_str().unwrap(), step["severity"].as_str().unwrap()))
        .collect();
    assert_eq!(ends, [("database", "ok"), ("name", "ok"), ("connection", "ok"), ("login", "fail")]);
    assert!(steps[3]["mend"].as_str().unwrap().contains("DB_PASSWORD"), "{document}");
    assert!(steps.iter().all(|step| step["milliseconds"].is_u64()), "{document}");

    migrate(&DatabaseSettings::from_url(&server.url("net")).unwrap());
    let done = doctor("json", &[&place[..], &[("DB_PASSWORD", server.password())]].concat());
    assert_eq!(done.status.code(), Some(0), "{done:?}");
}
