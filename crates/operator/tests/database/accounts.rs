//! What the accounts that the operator makes may do, and what not.

use k8s_openapi::api::core::v1::Secret;
use multinic_operator::credentials::credentials;
use multinic_testbed::mariadb::MariaDb;
use secrecy::ExposeSecret as _;
use sqlx::Connection as _;

use crate::server::{Server, does, fresh, spec};

#[tokio::test]
async fn accounts_are_those_of_the_secret_after_each_start_and_may_do_their_work_only() {
    if !MariaDb::installed() {
        return;
    }
    let mut server = Server::new();
    let first = credentials(&spec("writer", None), None, fresh());
    server.start(&first);
    let password = first.password.expose_secret();
    let mut writer = server.login("writer", password, "multinic").await.unwrap();
    does(&mut writer, "CREATE TABLE notes (id INT PRIMARY KEY, text VARCHAR(20))").await.unwrap();
    does(&mut writer, "INSERT INTO notes VALUES (1, 'kept')").await.unwrap();
    for sql in
        ["CREATE DATABASE other", "DROP TABLE notes", "CREATE USER mallory", "SELECT * FROM mysql.user"]
    {
        let refused = does(&mut writer, sql).await.unwrap_err();
        assert!(refused.contains("denied"), "{sql}: {refused}");
    }
    let agent = first.agent_password.expose_secret();
    let mut agent = server.login("multinic-agent", agent, "multinic").await.unwrap();
    does(&mut agent, "UPDATE notes SET text = 'seen'").await.unwrap();
    for sql in ["INSERT INTO notes VALUES (2, 'no')", "DELETE FROM notes", "CREATE TABLE mine (id INT)"] {
        let refused = does(&mut agent, sql).await.unwrap_err();
        assert!(refused.contains("denied"), "{sql}: {refused}");
    }
    // The administrator comes by the socket only.
    let root = first.root_password.expose_secret();
    assert!(server.login("root", root, "mysql").await.is_err());
    assert!(server.login("writer", "wrong", "multinic").await.unwrap_err().contains("denied"));

    // Another user with a password that needs quoting, on a folder that was prepared before.
    server.prepare();
    let known = Secret { data: Some(first.data()), ..Secret::default() };
    let second = credentials(&spec("other", Some("it's \\ here")), Some(&known), fresh());
    server.start(&second);
    let mut other = server.login("other", "it%27s%20%5C%20here", "multinic").await.unwrap();
    let (text,): (String,) = sqlx::query_as("SELECT text FROM notes").fetch_one(&mut other).await.unwrap();
    assert_eq!(text, "seen");
    assert!(server.login("writer", password, "multinic").await.unwrap_err().contains("denied"));
    does(&mut other, "INSERT INTO notes VALUES (2, 'more')").await.unwrap();
}

#[tokio::test]
async fn the_controllers_account_is_enough_for_its_ledger() {
    if !MariaDb::installed() {
        return;
    }
    let mut server = Server::new();
    let accounts = credentials(&spec("multinic", None), None, fresh());
    server.start(&accounts);
    let password = accounts.password.expose_secret();
    server.login("multinic", password, "multinic").await.unwrap().close().await.unwrap();
    let url = format!("mysql://multinic:{password}@127.0.0.1:{}/multinic", server.port);
    let settings = multinic_store::DatabaseSettings::from_url(&url).unwrap();
    let store = multinic_store::Store::open(&settings).await.unwrap();
    assert!(!store.position().await.unwrap().epoch.is_empty());
}
