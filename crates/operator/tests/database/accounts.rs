//! What the accounts that the operator makes may do, and what not; and that nobody is locked out while they change.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use multinic_core::desired::{NicReport, Outcome};
use multinic_operator::credentials::{Account, Credentials, Progress, credentials};
use multinic_store::{AgentSource, DatabaseSettings, Store};
use multinic_testbed::mariadb::MariaDb;
use multinic_testbed::publication::one_nic;
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, MySqlConnection};

use crate::server::{Server, does, fresh, spec};

const ALL: Progress = Progress { server: true, programs: true };

fn secret(credentials: &Credentials) -> Secret {
    let metadata = ObjectMeta { annotations: Some(credentials.annotations()), ..ObjectMeta::default() };
    Secret { metadata, data: Some(credentials.data()), ..Secret::default() }
}

async fn login(server: &Server, account: &Account) -> Result<MySqlConnection, String> {
    server.login(&account.user, account.password.expose_secret(), "multinic").await
}

fn settings(server: &Server, account: &Account) -> DatabaseSettings {
    let (user, password) = (&account.user, account.password.expose_secret());
    DatabaseSettings::from_url(&format!("mysql://{user}:{password}@127.0.0.1:{}/multinic", server.port))
        .unwrap()
}

async fn all_denied(connection: &mut MySqlConnection, statements: &[&str]) {
    for sql in statements {
        let refused = does(connection, sql).await.expect_err(sql);
        assert!(refused.contains("denied"), "{sql}: {refused}");
    }
}

#[tokio::test]
async fn the_controller_may_do_all_with_its_own_tables_and_nothing_else() {
    if !MariaDb::installed() {
        return;
    }
    let mut server = Server::new();
    let first = credentials(&spec("writer", None), None, Progress::default(), fresh());
    server.start(&first);
    let mut writer = login(&server, &first.current.controller).await.unwrap();
    does(&mut writer, "CREATE TABLE notes (id INT PRIMARY KEY, text VARCHAR(20))").await.unwrap();
    does(&mut writer, "INSERT INTO notes VALUES (1, 'kept')").await.unwrap();
    let denied =
        ["CREATE DATABASE other", "DROP TABLE notes", "CREATE USER mallory", "SELECT * FROM mysql.user"];
    all_denied(&mut writer, &denied).await;
    let store = Store::open(&settings(&server, &first.current.controller)).await.unwrap();
    store.migrate().await.unwrap();
    assert!(!store.position().await.unwrap().epoch.is_empty());
    // The administrator comes by the socket only.
    let root = first.root_password.expose_secret();
    assert!(server.login("root", root, "mysql").await.is_err());
    assert!(server.login("writer", "wrong", "multinic").await.unwrap_err().contains("denied"));
    // On a folder that was prepared before.
    server.stop();
    server.prepare();
    server.start(&first);
    let mut writer = login(&server, &first.current.controller).await.unwrap();
    let (text,): (String,) = sqlx::query_as("SELECT text FROM notes").fetch_one(&mut writer).await.unwrap();
    assert_eq!(text, "kept");
}

#[tokio::test]
async fn a_server_is_up_when_all_accounts_are_there_and_not_before() {
    if !MariaDb::installed() {
        return;
    }
    let mut server = Server::new();
    let accounts = credentials(&spec("writer", None), None, Progress::default(), fresh());
    let whole = String::from_utf8(accounts.data()[&accounts.init_key()].0.clone()).unwrap();
    server.start(&accounts);
    login(&server, &accounts.current.controller).await.unwrap();
    assert_eq!(server.probe(&accounts), Ok(()));
    // What an earlier start has left says nothing of this one.
    let last =
        whole.lines().position(|line| line.starts_with("CREATE TABLE mysql.multinic_accounts")).unwrap();
    for place in [1, last] {
        let mut lines: Vec<&str> = whole.lines().collect();
        lines.insert(place, "ALTER USER 'nobody-at-all'@'localhost' IDENTIFIED BY 'x';");
        server.start_with(format!("{}\n", lines.join("\n")).as_bytes());
        // It answers by now.
        let _ = login(&server, &accounts.current.controller).await;
        assert!(server.probe(&accounts).is_err(), "it stopped at line {place}");
        assert!(server.log().contains("nobody-at-all"), "{}", server.log());
    }
    // Nor do others, which a kubelet may have given it that has not heard of the last.
    let others = credentials(&spec("writer", Some("another")), Some(&secret(&accounts)), ALL, fresh());
    server.start(&accounts);
    login(&server, &accounts.current.controller).await.unwrap();
    assert!(server.probe(&others).unwrap_err().contains("Unknown column"));
    // Data of the first generation lack accounts that others have.
    server.start_with(format!("{whole}DROP USER 'root'@'localhost';\n").as_bytes());
    login(&server, &accounts.current.controller).await.unwrap();
    server.start(&accounts);
    login(&server, &accounts.current.controller).await.unwrap();
    assert_eq!(server.probe(&accounts), Ok(()));
}

#[tokio::test]
async fn agents_may_read_what_concerns_them_and_write_what_they_did() {
    if !MariaDb::installed() {
        return;
    }
    let mut server = Server::new();
    let accounts = credentials(&spec("multinic", None), None, Progress::default(), fresh());
    // Its rights are there before the tables are.
    server.start(&accounts);
    login(&server, &accounts.current.controller).await.unwrap().close().await.unwrap();
    let store = Store::open(&settings(&server, &accounts.current.controller)).await.unwrap();
    store.migrate().await.unwrap();
    let publication =
        one_nic("worker-1", "fa:16:3e:00:00:01".parse().unwrap(), "10.50.0.2/24".parse().unwrap());
    store.publish(&publication.unwrap()).await.unwrap();

    let account = &accounts.current.agent;
    let agent = AgentSource::new(&settings(&server, account), "worker-1".parse().unwrap());
    let read = agent.read().await.unwrap();
    let nic = &read.nics[0];
    for outcome in [
        Outcome::Failed { name: None, error: "not yet".to_owned() },
        Outcome::Applied { name: "multinic0".parse().unwrap(), addresses: nic.addresses.clone() },
    ] {
        let report = NicReport { entry: nic.entry, revision: nic.revision, outcome };
        agent.report(&[report], &[]).await.unwrap();
    }
    assert!(agent.read().await.unwrap().nics[0].reported.applied);
    let mut removal = login(&server, &accounts.current.controller).await.unwrap();
    let sql = "INSERT INTO multi_removal (node_name, macaddress, port_id, reason, revision) \
               VALUES ('worker-1', 'fa:16:3e:00:00:09', 'p', 'gone', 1)";
    does(&mut removal, sql).await.unwrap();
    let tombstone = agent.read().await.unwrap().tombstones[0].entry.unwrap();
    agent.report(&[], &[tombstone]).await.unwrap();
    assert!(agent.read().await.unwrap().tombstones.is_empty());

    let mut connection = login(&server, account).await.unwrap();
    all_denied(
        &mut connection,
        &[
            "UPDATE multi_interface SET macaddress = 'fa:16:3e:00:00:02'",
            "UPDATE multi_interface SET netplan_success = 1, attached_node_name = 'worker-2'",
            "UPDATE multi_removal SET node_name = 'worker-2'",
            "UPDATE multinic_meta SET value = 'mine'",
            "UPDATE multi_subnet SET cidr = '0.0.0.0/0'",
            "INSERT INTO multi_removal SELECT * FROM multi_removal",
            "DELETE FROM multi_interface",
            "DROP TABLE multi_interface",
            "CREATE TABLE mine (id INT)",
            "ALTER TABLE multi_interface ADD COLUMN mine INT",
            "SELECT * FROM cr_state",
            "SELECT * FROM multi_place",
            "SELECT * FROM mysql.user",
        ],
    )
    .await;
    let mut connection = login(&server, &accounts.current.backup).await.unwrap();
    does(&mut connection, "SELECT * FROM cr_state").await.unwrap();
    all_denied(&mut connection, &["UPDATE multinic_meta SET value = 'mine'", "DELETE FROM cr_state"]).await;
}

#[tokio::test]
async fn old_accounts_are_let_in_until_everybody_has_the_new_ones() {
    if !MariaDb::installed() {
        return;
    }
    let mut server = Server::new();
    let mut fresh = fresh();
    let first = credentials(&spec("writer", None), None, Progress::default(), &mut fresh);
    server.start(&first);
    let wanted = spec("other", Some("it's \\ here"));
    let mut now = first.clone();
    let mut users = Vec::new();
    loop {
        now = credentials(&wanted, Some(&secret(&now)), ALL, &mut fresh);
        server.start(&now);
        users.push(now.current.controller.user.clone());
        let is_let_in = login(&server, &first.current.controller).await;
        assert!(login_as(&server, &now.current.controller).await.is_ok());
        if now.other.is_none() {
            assert!(is_let_in.unwrap_err().contains("denied"));
            break;
        }
        assert!(is_let_in.is_ok(), "{users:?}");
    }
    assert_eq!(users, ["writer", "other", "other"]);
    login(&server, &now.current.agent).await.unwrap();
}

/// With a password that has to be quoted in a URL.
async fn login_as(server: &Server, account: &Account) -> Result<MySqlConnection, String> {
    let password =
        account.password.expose_secret().replace('\'', "%27").replace(' ', "%20").replace('\\', "%5C");
    server.login(&account.user, &password, "multinic").await
}
