//! The server as the manifest starts it, with the accounts that the operator makes, on a real MariaDB.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use multinic_api::operator::{DatabaseCredentials, DatabaseSpec};
use multinic_operator::credentials::{Credentials, credentials};
use multinic_operator::manifests::Manifests;
use multinic_testbed::mariadb::MariaDb;
use multinic_testbed::program::Program;
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, MySqlConnection};

/// A busy machine needs a part of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that is run by the commands of the manifest, in a folder in place of its volumes.
struct Server {
    folder: tempfile::TempDir,
    port: u16,
    program: Option<Program>,
}

impl Server {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["var/lib/mysql", "run/mysqld", "etc/multinic", "tmp"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let server = Self { folder, port, program: None };
        server.prepare();
        server
    }

    /// A command of the manifest, for this folder, this port and this user.
    fn command(&self, arguments: &[String]) -> Command {
        let here = |path: &str| format!("={}{path}", self.folder.path().display());
        let arguments = arguments.iter().map(|argument| match argument.as_str() {
            "--bind-address=*" => "--bind-address=127.0.0.1".to_owned(),
            "--port=3306" => format!("--port={}", self.port),
            other => other.replacen("=/", &here("/"), 1),
        });
        let arguments: Vec<String> = arguments.collect();
        let mut command = Command::new(&arguments[0]);
        command.args(&arguments[1..]).env("TMPDIR", self.folder.path().join("tmp"));
        if nix::unistd::geteuid().is_root() {
            command.arg("--user=root");
        }
        command
    }

    fn prepare(&self) {
        let pod = pod();
        let container = &pod.init_containers.unwrap()[0];
        let output = self.command(container.command.as_ref().unwrap()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts it, or starts it again, with these accounts.
    fn start(&mut self, credentials: &Credentials) {
        self.program = None;
        let sql = &credentials.data()["init.sql"].0;
        fs::write(self.folder.path().join("etc/multinic/init.sql"), sql).unwrap();
        let pod = pod();
        let command = self.command(pod.containers[0].command.as_ref().unwrap());
        let log: PathBuf = self.folder.path().join("log");
        self.program = Some(Program::start("mariadbd", command, log).unwrap());
    }

    async fn login(&self, user: &str, password: &str, database: &str) -> Result<MySqlConnection, String> {
        let url = format!("mysql://{user}:{password}@127.0.0.1:{}/{database}?ssl-mode=disabled", self.port);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match MySqlConnection::connect(&url).await {
                Ok(connection) => return Ok(connection),
                // It does not listen yet.
                Err(sqlx::Error::Io(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

fn pod() -> k8s_openapi::api::core::v1::PodSpec {
    Manifests::of("any").unwrap().database.stateful_set.spec.unwrap().template.spec.unwrap()
}

fn spec(user: &str, password: Option<&str>) -> DatabaseSpec {
    let credentials = DatabaseCredentials {
        user: Some(user.to_owned()),
        password: password.map(str::to_owned),
        ..DatabaseCredentials::default()
    };
    DatabaseSpec { enabled: true, credentials: Some(credentials), ..DatabaseSpec::default() }
}

fn fresh() -> impl FnMut() -> String {
    let mut count = 0;
    move || {
        count += 1;
        format!("generated{count}")
    }
}

async fn does(connection: &mut MySqlConnection, sql: &'static str) -> Result<(), String> {
    sqlx::query(sql).execute(connection).await.map(drop).map_err(|error| error.to_string())
}

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
