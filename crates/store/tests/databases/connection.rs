//! What goes wrong on the way to a server. Errors name the server and never the password.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use multinic_store::{AgentSource, DatabaseSettings, Store, StoreError, Tls};
use multinic_testbed::mariadb::MariaDb;

use crate::database::{Database, server};
use crate::world::*;

fn quick(url: &str) -> DatabaseSettings {
    let mut settings = DatabaseSettings::from_url(url).unwrap();
    settings.connect_timeout = Duration::from_secs(5);
    settings
}

async fn error_of(settings: &DatabaseSettings, password: &str) -> StoreError {
    let error = Store::open(settings).await.unwrap_err();
    let agent = AgentSource::new(settings, "node-a".parse().unwrap()).read().await.unwrap_err();
    assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&agent), "{error} / {agent}");
    for text in [format!("{error}"), format!("{error:?}")] {
        assert!(!text.contains(password), "{text}");
        assert!(text.contains("127.0.0.1"), "{text}");
    }
    error
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = error_of(&quick(&format!("mysql://u:s3cret@127.0.0.1:{port}/db")), "s3cret").await;
    assert!(matches!(error, StoreError::Unreachable { .. }) && error.retry(), "{error}");
    assert!(error.to_string().contains(&port.to_string()));
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut settings = quick(&format!("mysql://u:s3cret@127.0.0.1:{port}/db"));
    settings.connect_timeout = Duration::from_millis(300);
    let error = error_of(&settings, "s3cret").await;
    assert!(matches!(error, StoreError::TimedOut { .. }) && error.retry(), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_a_refused_login() {
    let Some(server) = server() else { return };
    let url = format!("mysql://multinic:s3cret@127.0.0.1:{}/mysql", server.port());
    let error = error_of(&quick(&url), "s3cret").await;
    assert!(matches!(error, StoreError::LoginRefused { .. }), "{error}");
    assert!(error.to_string().contains("DB_PASSWORD"), "{error}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let Some(server) = server() else { return };
    let error = error_of(&quick(&server.url("nowhere")), server.password()).await;
    assert!(matches!(error, StoreError::NoDatabase { .. }), "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test]
async fn tls_that_the_server_does_not_offer_is_an_error_and_not_plain_text() {
    let Some(database) = Database::mariadb("no_tls") else { return };
    for tls in [Tls::Verified { ca_file: None }, Tls::Unverified] {
        let settings = DatabaseSettings { tls, ..database.settings() };
        let error = Store::open(&settings).await.unwrap_err();
        assert!(matches!(error, StoreError::Tls { .. }), "{error}");
    }
    let plain = Store::open(&database.settings()).await.unwrap();
    assert_eq!(plain.certificate_end().await.unwrap(), None);
}

#[tokio::test]
async fn tls_is_verified_unless_it_is_turned_off_by_name() {
    if !MariaDb::installed() {
        return;
    }
    let server = MariaDb::start_with_tls().unwrap();
    server.create_database("net").unwrap();
    server.sql("", "ALTER USER multinic@'%' REQUIRE SSL").unwrap();
    let with = |tls| DatabaseSettings { tls, ..quick(&server.url("net")) };

    let store = Store::open(&with(Tls::Verified { ca_file: Some(server.ca_file()) })).await.unwrap();
    store.publish(&publication([nic("node-a", 0, 1)])).await.unwrap();
    assert!(store.certificate_end().await.unwrap().unwrap() > jiff::Timestamp::now());
    Store::open(&with(Tls::Unverified)).await.unwrap();

    let error = error_of(&with(Tls::Verified { ca_file: None }), server.password()).await;
    assert!(matches!(error, StoreError::Tls { .. }), "{error}");
    let error = error_of(&with(Tls::Disabled), server.password()).await;
    assert!(matches!(error, StoreError::LoginRefused { .. }), "{error}");
    let missing = Tls::Verified { ca_file: Some(PathBuf::from("/nonexistent/ca.pem")) };
    assert!(Store::open(&with(missing)).await.unwrap_err().to_string().contains("/nonexistent/ca.pem"));
}

#[tokio::test]
async fn a_server_that_stops_answering_is_given_up_and_comes_back() {
    if !MariaDb::installed() {
        return;
    }
    let mut server = MariaDb::start().unwrap();
    server.create_database("net").unwrap();
    let mut settings = quick(&server.url("net"));
    settings.connect_timeout = Duration::from_millis(500);
    settings.statement_timeout = Duration::from_millis(500);
    // The tables are made at leisure.
    let store = Store::open(&quick(&server.url("net"))).await.unwrap();
    let wanted = publication([nic("node-a", 0, 1)]);
    store.publish(&wanted).await.unwrap();
    let store = Store::open(&settings).await.unwrap();
    store.published().await.unwrap();

    server.freeze();
    let error = store.published().await.unwrap_err();
    assert!(matches!(error, StoreError::TimedOut { .. }) && error.retry(), "{error}");
    let agent = AgentSource::new(&settings, "node-a".parse().unwrap());
    assert!(agent.read().await.is_err());
    server.thaw();

    server.stop();
    assert!(store.publish(&wanted).await.unwrap_err().retry());
    assert!(matches!(agent.read().await.unwrap_err(), StoreError::Unreachable { .. }));
    server.restart().unwrap();
    let store = Store::open(&quick(&server.url("net"))).await.unwrap();
    assert_eq!(store.publish(&wanted).await.unwrap().unchanged, 1);
}

#[tokio::test]
async fn an_agent_holds_no_connection_between_polls() {
    let Some(database) = Database::mariadb("no_connection_held") else { return };
    let store = database.store().await;
    store.publish(&publication([nic("node-a", 0, 1)])).await.unwrap();
    store.close().await;
    let agent = database.agent("node-a");
    let entry = agent.read().await.unwrap().nics[0].entry;
    agent.report(&[applied(entry, 1, 0)], &[]).await.unwrap();
    let count =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND user = 'multinic'";
    // The server notices a good-bye a moment after it was said.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while database.sql(count).await != "0" {
        assert!(std::time::Instant::now() < deadline, "a connection is left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_way_to_the_database_is_known_by_its_addresses() {
    let settings = quick("mysql://u:p@localhost:3306/db");
    let found = AgentSource::new(&settings, "node-a".parse().unwrap()).database_addresses().await.unwrap();
    assert!(found.iter().all(std::net::IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    let file = DatabaseSettings::sqlite("/nonexistent/state.db");
    let agent = AgentSource::new(&file, "node-a".parse().unwrap());
    assert!(agent.database_addresses().await.unwrap().is_empty());
    assert!(agent.read().await.is_err(), "an agent makes no database");
    assert!(!PathBuf::from("/nonexistent").exists());
}
