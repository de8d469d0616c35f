//! The steps by which a person finds out why an agent cannot work with its database.

use std::net::TcpListener;

use multinic_store::check::{CheckError, Checked, Found, Step};
use multinic_store::{AgentSource, DatabaseSettings, StoreError, Tls};
use multinic_testbed::mariadb::MariaDb;

use crate::database::{Database, server};
use crate::on_both;
use crate::world::*;

const PASSWORD: &str = "s3cret-of-the-agent";
/// The least that docs/operations.md gives to agents.
const GRANTS: [&str; 5] = [
    "SELECT, UPDATE (netplan_success, observed_name, observed_addresses, last_error, observed_at, modified_at) ON {}.multi_interface",
    "SELECT, UPDATE (released_at) ON {}.multi_removal",
    "SELECT ON {}.multi_subnet",
    "SELECT ON {}.node_table",
    "SELECT ON {}.multinic_meta",
];

async fn check(settings: &DatabaseSettings, node: &str) -> Vec<Checked> {
    let steps = AgentSource::new(settings, node.parse().unwrap()).check().await;
    for Checked { outcome, .. } in &steps {
        let text = match outcome {
            Ok(found) => format!("{found:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!text.contains(PASSWORD), "{text}");
    }
    steps
}

async fn check_url(url: &str) -> Vec<Checked> {
    check(&DatabaseSettings::from_url(url).unwrap(), "node-a").await
}

/// The step that failed, which is the last, and why.
#[track_caller]
fn failed(steps: Vec<Checked>) -> (Step, CheckError) {
    assert!(steps.iter().rev().skip(1).all(|checked| checked.outcome.is_ok()), "{steps:?}");
    let Checked { step, outcome, .. } = steps.into_iter().next_back().unwrap();
    (step, outcome.unwrap_err())
}

#[track_caller]
fn found(steps: Vec<Checked>) -> Vec<(Step, Found)> {
    steps.into_iter().map(|Checked { step, outcome, .. }| (step, outcome.unwrap())).collect()
}

/// A user with these rights on this database.
fn user(server: &MariaDb, name: &str, grants: &[&str]) -> String {
    let grants = grants.iter().map(|grant| format!("GRANT {} TO '{name}'@'%';", grant.replace("{}", name)));
    let grants: String = grants.collect();
    let user = format!("CREATE OR REPLACE USER '{name}'@'%' IDENTIFIED BY '{PASSWORD}'; {grants}");
    server.sql("", &user).unwrap();
    format!("mysql://{name}:{PASSWORD}@127.0.0.1:{}/{name}", server.port())
}

on_both! {
    async fn a_database_that_is_in_order_passes_every_step_and_is_as_before(db) {
        let store = db.store().await;
        store.publish(&publication([nic("node-a", 0, 1), nic("node-a", 1, 2)])).await.unwrap();
        db.forbid_writes("multi_interface").await;
        db.forbid_writes("multi_removal").await;
        let steps = found(check(&db.settings(), "node-a").await);
        let names: Vec<Step> = steps.iter().map(|(step, _)| *step).collect();
        let way: &[Step] = if db.is_sqlite() { &[Step::File] } else { &[Step::Name, Step::Connection, Step::Login] };
        assert_eq!(names, [&[Step::Database], way, &[Step::Tables, Step::Rows, Step::Rights]].concat());
        assert!(steps.contains(&(Step::Tables, Found::Tables(Vec::new()))), "{steps:?}");
        let rows = Found::Rows { node_known: true, interfaces: 2, unusable: 0 };
        assert!(steps.contains(&(Step::Rows, rows)), "{steps:?}");
    }

    async fn a_node_without_rows_is_told_and_is_no_failure(db) {
        let store = db.store().await;
        store.publish(&publication([nic("node-a", 0, 1)])).await.unwrap();
        let steps = found(check(&db.settings(), "node-x").await);
        let rows = Found::Rows { node_known: false, interfaces: 0, unusable: 0 };
        assert!(steps.contains(&(Step::Rows, rows)), "{steps:?}");
    }

    async fn a_database_without_the_tables_is_told(db) {
        db.sql("CREATE TABLE other (id INT)").await;
        let (step, error) = failed(check(&db.settings(), "node-a").await);
        assert_eq!(step, Step::Tables);
        assert!(error.to_string().contains("multi_interface"), "{error}");
    }

    async fn what_older_tables_lack_is_named(db) {
        db.store().await;
        db.sql("DROP TABLE multi_removal").await;
        let steps = found(check(&db.settings(), "node-a").await);
        assert!(steps.contains(&(Step::Tables, Found::Tables(vec!["multi_removal".to_owned()]))), "{steps:?}");
    }
}

#[tokio::test]
async fn the_least_rights_that_are_documented_are_enough_and_none_may_be_missing() {
    let name = "check_rights";
    let Some(database) = Database::mariadb(name) else { return };
    let server = server().unwrap();
    database.store().await;
    let url = user(server, name, &GRANTS);
    found(check_url(&url).await);
    for (revoked, expected) in [
        ("UPDATE (last_error) ON {}.multi_interface", Step::Rights),
        ("UPDATE (released_at) ON {}.multi_removal", Step::Rights),
        ("SELECT ON {}.multinic_meta", Step::Rows),
    ] {
        let url = user(server, name, &GRANTS);
        server.sql("", &format!("REVOKE {} FROM '{name}'@'%'", revoked.replace("{}", name))).unwrap();
        let (step, error) = failed(check_url(&url).await);
        assert_eq!(step, expected, "{revoked}: {error}");
        assert!(error.to_string().contains("denied"), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_password_fails_at_the_login() {
    let Some(server) = server() else { return };
    let url = format!("mysql://multinic:{PASSWORD}@127.0.0.1:{}/mysql", server.port());
    let (step, error) = failed(check_url(&url).await);
    assert_eq!(step, Step::Login);
    assert!(matches!(error, CheckError::Store(StoreError::LoginRefused { .. })), "{error}");
}

#[tokio::test]
async fn tls_that_the_server_does_not_offer_fails_at_the_login() {
    let Some(database) = Database::mariadb("check_no_tls") else { return };
    let settings = DatabaseSettings { tls: Tls::Unverified, ..database.settings() };
    let (step, error) = failed(check(&settings, "node-a").await);
    assert_eq!(step, Step::Login);
    assert!(matches!(error, CheckError::Store(StoreError::Tls { .. })), "{error}");
}

#[tokio::test]
async fn a_host_that_does_not_resolve_fails_at_its_name() {
    let (step, error) = failed(check_url(&format!("mysql://u:{PASSWORD}@db.invalid/net")).await);
    assert_eq!(step, Step::Name);
    assert!(error.to_string().contains("db.invalid"), "{error}");
}

#[tokio::test]
async fn a_port_on_which_nobody_listens_fails_at_the_connection() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (step, error) = failed(check_url(&format!("mysql://u:{PASSWORD}@127.0.0.1:{port}/net")).await);
    assert_eq!(step, Step::Connection);
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[tokio::test]
async fn a_file_that_is_not_there_fails_at_the_file_and_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let (step, error) = failed(check(&DatabaseSettings::sqlite(&path), "node-a").await);
    assert_eq!(step, Step::File);
    assert!(error.to_string().contains("state.db"), "{error}");
    assert!(!path.exists());
}
