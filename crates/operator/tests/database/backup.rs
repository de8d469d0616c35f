//! Backups of a real MariaDB by its own programs, and their way back.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use multinic_operator::backup::archive::{Archive as _, LATEST, Record, Retention};
use multinic_operator::backup::folder::Folder;
use multinic_operator::backup::report::Report;
use multinic_operator::backup::{BackupError, Restored, Restoring, Source, make, restore};
use multinic_operator::credentials::{Credentials, Progress, credentials};
use multinic_store::{DatabaseSettings, Store};
use multinic_testbed::mariadb::MariaDb;
use multinic_testbed::publication::one_nic;
use secrecy::ExposeSecret as _;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{Connection as _, MySqlConnection};

use crate::server::{Server, does, fresh, spec};

pub const KEEP_ALL: Retention = Retention { count: None, age: None };

/// Whether the server and the client's programs are there; where `mariadb-dump` is not, says so.
fn installed() -> bool {
    if !MariaDb::installed() {
        return false;
    }
    let is_there = Command::new("mariadb-dump").arg("--version").output().is_ok();
    let is_required = std::env::var("MULTINIC_REAL_PARTS").as_deref() == Ok("required");
    assert!(is_there || !is_required, "mariadb-dump not found: install mariadb-client");
    if !is_there {
        eprintln!("SKIPPED: tests of backups, because mariadb-dump is not installed");
    }
    is_there
}

/// A server with a ledger that has one NIC in it.
pub struct Scene {
    server: Server,
    accounts: Credentials,
    folder: tempfile::TempDir,
}

impl Scene {
    pub async fn new() -> Option<Self> {
        if !installed() {
            return None;
        }
        let mut server = Server::new();
        let accounts = credentials(&spec("multinic", None), None, Progress::default(), fresh());
        server.start(&accounts);
        let folder = tempfile::tempdir().unwrap();
        for name in ["backups", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let scene = Self { server, accounts, folder };
        scene.sql("SELECT 1").await;
        let mac = "fa:16:3e:00:00:01".parse().unwrap();
        let publication = one_nic("worker-1", mac, "10.50.0.2/24".parse().unwrap()).unwrap();
        scene.store().await.publish(&publication).await.unwrap();
        Some(scene)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn login(&self) -> MySqlConnection {
        self.server
            .login("multinic", self.accounts.current.controller.password.expose_secret(), "multinic")
            .await
            .unwrap()
    }

    async fn sql(&self, sql: &str) {
        does(&mut self.login().await, sql).await.unwrap();
    }

    async fn store(&self) -> Store {
        let password = self.accounts.current.controller.password.expose_secret();
        let url = format!("mysql://multinic:{password}@127.0.0.1:{}/multinic", self.server.port);
        let store = Store::open(&DatabaseSettings::from_url(&url).unwrap()).await.unwrap();
        store.migrate().await.unwrap();
        store
    }

    pub fn source(&self) -> Source {
        Source {
            host: "127.0.0.1".to_owned(),
            port: self.server.port,
            user: self.accounts.current.backup.user.clone(),
            password: self.accounts.current.backup.password.clone(),
            database: "multinic".to_owned(),
            authority: None,
        }
    }

    fn make(&self, retention: Retention) -> Result<Record, BackupError> {
        make(&self.source(), &self.archive(), &self.path("work"), retention)
    }

    /// The tables are there, and nothing is in them.
    async fn empty(&self) {
        let mut login = self.login().await;
        let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'multinic'";
        let tables: Vec<(String,)> = sqlx::query_as(tables).fetch_all(&mut login).await.unwrap();
        sqlx::raw_sql("SET foreign_key_checks = 0").execute(&mut login).await.unwrap();
        for (table,) in tables {
            let delete = format!("DELETE FROM {table}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(delete)).execute(&mut login).await.unwrap();
        }
    }

    /// Everything is lost, and there is an empty server.
    pub fn destroy(&mut self) {
        self.server.stop();
        fs::remove_dir_all(self.server.data()).unwrap();
        fs::create_dir(self.server.data()).unwrap();
        self.server.prepare();
    }

    /// The server's data.
    pub fn data(&self) -> PathBuf {
        self.server.data()
    }

    /// The rows of a table, once the server runs again.
    pub async fn count(&mut self, table: &str) -> u64 {
        self.server.start(&self.accounts);
        self.sql("SELECT 1").await;
        let count = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        let count: (i64,) = sqlx::query_as(count).fetch_one(&mut self.login().await).await.unwrap();
        u64::try_from(count.0).unwrap()
    }

    fn restore(&self, from: &str) -> Result<Restored, BackupError> {
        self.restore_as(None, from)
    }

    fn restore_as(&self, request: Option<&str>, from: &str) -> Result<Restored, BackupError> {
        restore(&Restoring {
            archive: &self.archive(),
            from: from.to_owned(),
            request: request.map(str::to_owned),
            database: "multinic".to_owned(),
            data: self.server.data(),
            work: self.path("work"),
        })
    }

    fn archive(&self) -> Folder {
        Folder::new(&self.path("backups"))
    }
}

#[tokio::test]
async fn a_ledger_comes_back_as_it_was_but_for_its_epoch_and_is_not_filled_twice() {
    let Some(mut scene) = Scene::new().await else { return };
    // What needs quoting, and letters of everywhere.
    scene.sql("UPDATE multi_subnet SET subnet_name = 'it''s \\\\ \\n 네트워크 \u{1f980}'").await;
    let store = scene.store().await;
    let (position, published) = (store.position().await.unwrap(), store.published().await.unwrap());
    let record = scene.make(KEEP_ALL).unwrap();
    assert!(record.rows() > 4 && record.tables["multi_interface"] == 1, "{record:?}");
    assert_eq!(record.size, fs::metadata(scene.archive().path(&record.file)).unwrap().len());
    let report = serde_json::to_string(&Report::of_backup(&Ok(record.clone()))).unwrap();
    assert!(report.contains(&record.file) && report.len() < 4096, "{report}");

    store.close().await;
    scene.destroy();
    let filled = Restored::Filled { file: record.file.clone(), rows: record.rows() };
    assert_eq!(scene.restore(LATEST).unwrap(), filled);
    scene.server.start(&scene.accounts);
    let name = "SELECT subnet_name FROM multi_subnet";
    let name: (String,) = sqlx::query_as(name).fetch_one(&mut scene.login().await).await.unwrap();
    assert_eq!(name.0, "it's \\ \n 네트워크 \u{1f980}");
    let store = scene.store().await;
    let restored = store.position().await.unwrap();
    assert_eq!(restored.revision, position.revision);
    assert_ne!(restored.epoch, position.epoch, "who remembers the old one has to see that this is another");
    assert_eq!(store.published().await.unwrap().interfaces, published.interfaces);

    // Asked for again, as at every start of the pod, it stays as it is by now; another backup is refused.
    scene.sql("UPDATE multi_subnet SET subnet_name = 'newer'").await;
    store.close().await;
    scene.server.stop();
    assert_eq!(scene.restore(LATEST).unwrap(), filled);
    assert!(matches!(scene.restore(&record.file).unwrap(), Restored::NotEmpty { rows } if rows > 2));
    let anew = scene.restore_as(Some("latest since generation 7"), LATEST).unwrap();
    assert!(matches!(anew, Restored::NotEmpty { rows } if rows > 2), "nothing was restored by this request");
    scene.server.start(&scene.accounts);
    let name: (String,) = sqlx::query_as("SELECT subnet_name FROM multi_subnet")
        .fetch_one(&mut scene.login().await)
        .await
        .unwrap();
    assert_eq!(name.0, "newer");
}

#[tokio::test]
async fn a_server_that_holds_something_is_left_alone_and_one_with_empty_tables_holds_nothing() {
    let Some(mut scene) = Scene::new().await else { return };
    let record = scene.make(KEEP_ALL).unwrap();
    scene.server.stop();
    assert!(matches!(scene.restore(LATEST).unwrap(), Restored::NotEmpty { .. }));
    // A controller was there before, and published nothing yet.
    scene.destroy();
    scene.server.start(&scene.accounts);
    scene.sql("SELECT 1").await;
    scene.store().await.close().await;
    scene.server.stop();
    assert!(matches!(scene.restore(LATEST).unwrap(), Restored::Filled { .. }));
    // One that was interrupted half-way is filled anew.
    scene.destroy();
    scene.server.start(&scene.accounts);
    scene.sql("CREATE TABLE multi_interface (id INT); INSERT INTO multi_interface VALUES (1)").await;
    scene.server.stop();
    // A schema is a folder.
    let half_filled = scene.server.data().join("multinic_half_filled");
    fs::create_dir(&half_filled).unwrap();
    assert_eq!(
        scene.restore(LATEST).unwrap(),
        Restored::Filled { file: record.file.clone(), rows: record.rows() }
    );
    assert!(!half_filled.exists());
    scene.server.start(&scene.accounts);
    scene.sql("SELECT addresses FROM multi_interface").await;
    // Not if somebody went on with it as it was.
    scene.server.stop();
    fs::create_dir(&half_filled).unwrap();
    scene.server.start(&scene.accounts);
    scene.sql("SELECT 1").await;
    scene.server.stop();
    assert!(matches!(scene.restore("another").unwrap(), Restored::NotEmpty { .. }));
    // What was filled once and is empty by now is filled again.
    scene.server.start(&scene.accounts);
    scene.empty().await;
    scene.server.stop();
    assert!(matches!(scene.restore(LATEST).unwrap(), Restored::Filled { .. }));
    scene.server.start(&scene.accounts);
    scene.sql("SELECT addresses FROM multi_interface").await;
}

#[tokio::test]
async fn a_database_that_was_emptied_pushes_no_backup_out() {
    let Some(scene) = Scene::new().await else { return };
    let good = scene.make(KEEP_ALL).unwrap();
    scene.empty().await;
    let one = Retention { count: Some(1), age: None };
    let refused = scene.make(one).unwrap_err().to_string();
    assert!(refused.contains("the database is empty") && refused.contains(&good.file), "{refused}");
    assert_eq!(scene.archive().records().unwrap(), [good]);
}

#[tokio::test]
async fn what_cannot_be_verified_is_no_backup_and_takes_none_away() {
    let Some(mut scene) = Scene::new().await else { return };
    let good = scene.make(KEEP_ALL).unwrap();
    let wrong = Source { password: "wrong".into(), ..scene.source() };
    let failed = make(&wrong, &scene.archive(), &scene.path("work"), KEEP_ALL).unwrap_err();
    assert!(failed.to_string().contains("denied"), "{failed}");
    assert!(!failed.to_string().contains("wrong"), "{failed}");
    // Rows that no server takes again.
    scene
        .sql("CREATE TABLE odd (n INT CHECK (n > 5)); SET check_constraint_checks = 0; INSERT INTO odd VALUES (1)")
        .await;
    let failed = scene.make(Retention { count: Some(1), age: None }).unwrap_err();
    assert!(failed.to_string().contains("CONSTRAINT"), "{failed}");
    assert_eq!(scene.archive().records().unwrap(), std::slice::from_ref(&good));
    let names = fs::read_dir(scene.path("backups")).unwrap().flatten().map(|entry| entry.file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().ends_with("partial")));
    // One that was changed since.
    let broken = scene.archive().path(&good.file);
    let text = fs::read_to_string(&broken).unwrap();
    fs::write(&broken, text.replacen("fa:16:3e:00:00:01", "fa:16:3e:00:00:02", 1)).unwrap();
    scene.destroy();
    assert!(matches!(scene.restore(LATEST), Err(BackupError::Damaged { .. })));
    assert!(matches!(scene.restore("multinic-1.sql"), Err(BackupError::NotFound { .. })));
    fs::write(&broken, text).unwrap();
    let left: Vec<_> =
        fs::read_dir(scene.path("work")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name == "client.cnf"), "a password is left: {left:?}");
    // After a failure it is restored as if nothing had been.
    assert!(matches!(scene.restore(LATEST).unwrap(), Restored::Filled { .. }));
}

#[tokio::test]
async fn old_backups_go_when_a_new_one_was_verified() {
    let Some(scene) = Scene::new().await else { return };
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(scene.make(Retention { count: Some(2), age: None }).unwrap().file);
        // A name holds the second.
        let next = Record::name(jiff::Timestamp::now());
        while Record::name(jiff::Timestamp::now()) == next {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let kept: Vec<String> =
        scene.archive().records().unwrap().into_iter().map(|record| record.file).collect();
    assert_eq!(kept, [names[2].clone(), names[1].clone()]);
    scene.make(Retention { count: None, age: Some(Duration::from_nanos(1)) }).unwrap();
    assert_eq!(scene.archive().records().unwrap().len(), 1);
}

#[tokio::test]
async fn a_backup_of_a_ledger_that_is_written_all_the_while_is_one_moment_of_it() {
    let Some(scene) = Scene::new().await else { return };
    scene.sql("CREATE TABLE a (n INT PRIMARY KEY); CREATE TABLE b (n INT PRIMARY KEY)").await;
    let mut writer = scene.login().await;
    let writing = tokio::spawn(async move {
        for n in 0.. {
            let sql =
                format!("START TRANSACTION; INSERT INTO a VALUES ({n}); INSERT INTO b VALUES ({n}); COMMIT");
            if does(&mut writer, &sql).await.is_err() {
                return;
            }
        }
    });
    let (source, backups, work) = (scene.source(), scene.archive(), scene.path("work"));
    let record = tokio::task::spawn_blocking(move || make(&source, &backups, &work, KEEP_ALL)).await.unwrap();
    writing.abort();
    let record = record.unwrap();
    assert!(record.tables["a"] > 0);
    assert_eq!(record.tables["a"], record.tables["b"]);
}

#[tokio::test]
async fn a_dump_is_restored_by_hand_too_and_is_another_ledger_then() {
    let Some(scene) = Scene::new().await else { return };
    let store = scene.store().await;
    let before = store.position().await.unwrap();
    let record = scene.make(KEEP_ALL).unwrap();
    // As the administrator on the server, by the command of docs/backup.md.
    let options = scene.path("root.cnf");
    let root = scene.accounts.root_password.expose_secret();
    fs::write(&options, format!("[client]\nuser=root\npassword={root}\n")).unwrap();
    let socket = scene.server.folder.path().join("run/mysqld/mysqld.sock");
    let output = Command::new("mariadb")
        .arg(format!("--defaults-file={}", options.display()))
        .arg(format!("--socket={}", socket.display()))
        .arg("multinic")
        .stdin(fs::File::open(scene.archive().path(&record.file)).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let after = store.position().await.unwrap();
    assert_eq!(after.revision, before.revision);
    assert_ne!(after.epoch, before.epoch);
}

#[tokio::test]
async fn while_a_dump_is_restored_by_hand_nobody_sees_the_epoch_that_he_knows() {
    let Some(scene) = Scene::new().await else { return };
    let store = scene.store().await;
    let record = scene.make(KEEP_ALL).unwrap();
    let dump = fs::read_to_string(scene.archive().path(&record.file)).unwrap();
    let known = store.position().await.unwrap().epoch;
    let mut agent = scene.login().await;
    let mut epoch = async || {
        let sql = "SELECT value FROM multinic_meta WHERE name = 'epoch'";
        let found: Result<Option<(String,)>, _> = sqlx::query_as(sql).fetch_optional(&mut agent).await;
        found.ok().flatten().map(|(epoch,)| epoch)
    };
    assert_eq!(epoch().await.as_deref(), Some(known.as_str()));
    let options = MySqlConnectOptions::new()
        .socket(scene.server.folder.path().join("run/mysqld/mysqld.sock"))
        .username("root")
        .password(scene.accounts.root_password.expose_secret())
        .database("multinic");
    let mut root = MySqlConnection::connect_with(&options).await.unwrap();
    let (mut statements, mut seen) = (String::new(), 0);
    for line in dump.lines() {
        statements.push_str(line);
        statements.push('\n');
        // A table as a whole, its rows as a whole; between LOCK and UNLOCK nobody sees it.
        let is_whole =
            ["DROP TABLE", "UNLOCK TABLES", "-- Dump completed"].iter().any(|it| line.starts_with(it));
        if !is_whole {
            continue;
        }
        does(&mut root, &statements).await.unwrap();
        statements.clear();
        assert_ne!(epoch().await.as_deref(), Some(known.as_str()), "after {line}");
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
    let after = epoch().await;
    assert!(after.is_some() && after != Some(known));
}

#[tokio::test]
async fn over_tls_the_server_has_to_be_the_one_that_its_authority_knows() {
    if !installed() {
        return;
    }
    let server = MariaDb::start_with_tls().unwrap();
    let other = MariaDb::start_with_tls().unwrap();
    server.create_database("multinic").unwrap();
    server.sql("multinic", "CREATE TABLE notes (id INT); INSERT INTO notes VALUES (1)").unwrap();
    server.sql("", "ALTER USER multinic@'%' REQUIRE SSL").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = |authority: PathBuf| Source {
        host: "localhost".to_owned(),
        port: server.port(),
        user: multinic_testbed::mariadb::USER.to_owned(),
        password: server.password().into(),
        database: "multinic".to_owned(),
        authority: Some(authority),
    };
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    let make = |authority| make(&source(authority), &Folder::new(folder.path()), &work, KEEP_ALL);
    let refused = make(other.ca_file()).unwrap_err().to_string();
    assert!(refused.contains("SSL") || refused.contains("certificate"), "{refused}");
    assert_eq!(make(server.ca_file()).unwrap().tables["notes"], 1);
}
