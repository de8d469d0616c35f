//! TLS as the operator sets it up: whom programs take for their server, and that one that runs takes up another certificate.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use multinic_operator::backup::archive::Retention;
use multinic_operator::backup::folder::Folder;
use multinic_operator::backup::{Source, make};
use multinic_operator::credentials::{Credentials, Progress, credentials};
use multinic_operator::shown::shown;
use multinic_operator::tls::{Keys, keys};
use multinic_store::{DatabaseSettings, Store, StoreError, Tls};
use multinic_testbed::mariadb::MariaDb;
use secrecy::ExposeSecret as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::{ConnectOptions as _, MySqlConnection, Row as _};

use crate::server::{Server, does, fresh, hosts, spec};

const PATIENCE: Duration = Duration::from_secs(120);

fn days_ago(days: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(24 * days)
}

/// A server that looks for another certificate every second.
struct Scene {
    server: Server,
    accounts: Credentials,
}

impl Scene {
    fn new(shown: &Keys) -> Self {
        let server = Server::new();
        server.show(shown);
        let accounts = credentials(&spec("writer", None), None, Progress::default(), fresh());
        let mut scene = Self { server, accounts };
        scene.start_with("");
        scene
    }

    /// Starts the server, or starts it again, with this after all that the Secret holds.
    fn start_with(&mut self, sql: &str) {
        let own = String::from_utf8(self.accounts.data()[&self.accounts.init_key()].0.clone()).unwrap();
        assert!(own.contains("EVERY 1 MINUTE"), "{own}");
        let own = own.replace("EVERY 1 MINUTE", "EVERY 1 SECOND");
        self.server.start_with(format!("{own}{sql}").as_bytes());
    }

    /// The file with the authorities that a client trusts.
    fn trusting(&self, name: &str, keys: &Keys) -> PathBuf {
        let path = self.server.folder.path().join(name);
        fs::write(&path, &keys.pair.authority).unwrap();
        path
    }

    async fn login(&self, authorities: &PathBuf) -> Result<MySqlConnection, sqlx::Error> {
        let account = &self.accounts.current.controller;
        let options = MySqlConnectOptions::new()
            .host("localhost")
            .port(self.server.port)
            .username(&account.user)
            .password(account.password.expose_secret())
            .database("multinic")
            .ssl_mode(MySqlSslMode::VerifyIdentity)
            .ssl_ca(authorities);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match options.connect().await {
                // It does not listen yet.
                Err(sqlx::Error::Io(error))
                    if error.kind() == ErrorKind::ConnectionRefused && Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                done => return done,
            }
        }
    }

    /// When the certificate ends that new connections are shown.
    async fn end(&self, authorities: &PathBuf) -> String {
        let mut connection = self.login(authorities).await.unwrap();
        let status = sqlx::query("SHOW STATUS LIKE 'Ssl_server_not_after'");
        status.fetch_one(&mut connection).await.unwrap().get(1)
    }

    async fn until_another_than(&self, end: &str, authorities: &PathBuf) {
        let deadline = Instant::now() + PATIENCE;
        while self.end(authorities).await == end {
            assert!(Instant::now() < deadline, "{end} is still shown");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn settings(&self, authorities: PathBuf) -> DatabaseSettings {
        let account = &self.accounts.current.controller;
        let (user, password) = (&account.user, account.password.expose_secret());
        let url = format!("mysql://{user}:{password}@localhost:{}/multinic", self.server.port);
        let tls = Tls::Verified { ca_file: Some(authorities) };
        DatabaseSettings { tls, ..DatabaseSettings::from_url(&url).unwrap() }
    }

    fn back_up(&self, authorities: PathBuf) -> Result<u64, String> {
        let source = Source {
            host: "localhost".to_owned(),
            port: self.server.port,
            user: self.accounts.current.backup.user.clone(),
            password: self.accounts.current.backup.password.clone(),
            database: "multinic".to_owned(),
            authority: Some(authorities),
        };
        let work = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let made = make(&source, &Folder::new(folder.path()), work.path(), Retention::default());
        made.map(|record| record.rows()).map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_by_the_server_that_runs_and_no_connection_ends() {
    if !MariaDb::installed() {
        return;
    }
    let first = keys(None, &hosts(), days_ago(300)).unwrap();
    let second = keys(Some(&first.secret(None)), &hosts(), Timestamp::now()).unwrap();
    assert_ne!(first.pair.certificate, second.pair.certificate);
    let scene = Scene::new(&first);
    let authorities = scene.trusting("authorities", &first);
    let mut open = scene.login(&authorities).await.unwrap();
    let end = scene.end(&authorities).await;
    scene.server.show(&second);
    scene.until_another_than(&end, &authorities).await;
    does(&mut open, "SELECT 1").await.unwrap();
    // Programs that are not started with the authority yet.
    let account = &scene.accounts.current.controller;
    scene.server.login(&account.user, account.password.expose_secret(), "multinic").await.unwrap();
}

#[tokio::test]
async fn what_a_server_shows_is_seen_without_an_account() {
    if !MariaDb::installed() {
        return;
    }
    let hosts = [hosts(), vec!["mariadb".to_owned()]].concat();
    let own = keys(None, &hosts, Timestamp::now()).unwrap();
    let scene = Scene::new(&own);
    drop(scene.login(&scene.trusting("authorities", &own)).await.unwrap());
    let address = (Ipv4Addr::LOCALHOST, scene.server.port).into();
    let in_days = |days: i64| Timestamp::now() + SignedDuration::from_hours(24 * days);
    let reason = async |keys: &Keys, now| {
        shown(address, &keys.pair.authority, now).await.map(|seen| (seen.is_fresh, seen.reason))
    };
    // A look that a busy machine is too slow for sees nothing.
    let until = async |keys: &Keys, now, expected| {
        let deadline = Instant::now() + PATIENCE;
        while reason(keys, now).await != Some(expected) {
            assert!(Instant::now() < deadline, "never {expected:?}: {:?}", reason(keys, now).await);
        }
    };
    until(&own, Timestamp::now(), (true, "Fresh")).await;
    until(&own, in_days(330), (true, "Fresh")).await;
    until(&own, in_days(340), (false, "NotRenewed")).await;
    // One that its clients take not, such as one that has ended.
    let another = keys(None, &hosts, Timestamp::now()).unwrap();
    until(&another, Timestamp::now(), (false, "Refused")).await;
    let ended = keys(None, &hosts, days_ago(366)).unwrap();
    let scene = Scene::new(&ended);
    let address = (Ipv4Addr::LOCALHOST, scene.server.port).into();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = shown(address, &ended.pair.authority, Timestamp::now()).await;
        match seen {
            Some(seen) => break assert_eq!(seen.reason, "Refused", "{seen:?}"),
            // It does not listen yet.
            None => assert!(Instant::now() < deadline, "nothing is seen"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Nobody is there.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let nobody = (Ipv4Addr::LOCALHOST, port).into();
    assert_eq!(shown(nobody, &own.pair.authority, Timestamp::now()).await, None);
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_on_data_that_lack_the_administrator() {
    if !MariaDb::installed() {
        return;
    }
    let first = keys(None, &hosts(), days_ago(300)).unwrap();
    let second = keys(Some(&first.secret(None)), &hosts(), Timestamp::now()).unwrap();
    let mut scene = Scene::new(&first);
    let authorities = scene.trusting("authorities", &first);
    // As the first generation left them.
    for left in ["DROP USER 'root'@'localhost';\n", ""] {
        drop(scene.login(&authorities).await.unwrap());
        scene.start_with(left);
    }
    let end = scene.end(&authorities).await;
    scene.server.show(&second);
    scene.until_another_than(&end, &authorities).await;
}

#[tokio::test]
async fn programs_and_backups_take_nobody_else_for_their_server() {
    if !MariaDb::installed() {
        return;
    }
    let own = keys(None, &hosts(), Timestamp::now()).unwrap();
    let scene = Scene::new(&own);
    let authorities = scene.trusting("authorities", &own);
    // Until it listens.
    drop(scene.login(&authorities).await.unwrap());
    let store = Store::open(&scene.settings(authorities.clone())).await.unwrap();
    store.migrate().await.unwrap();
    assert!(scene.back_up(authorities).unwrap() > 0);

    let others = keys(None, &hosts(), Timestamp::now()).unwrap();
    let others = scene.trusting("others", &others);
    let refused = Store::open(&scene.settings(others.clone())).await.err().unwrap();
    assert!(matches!(refused, StoreError::Tls { .. }), "{refused}");
    let refused = scene.back_up(others).unwrap_err();
    assert!(refused.contains("SSL") || refused.contains("certificate"), "{refused}");

    // By the same authority, for other names.
    let mut known = own.secret(None);
    known.data.as_mut().unwrap().remove("tls.crt");
    let misnamed = keys(Some(&known), &["elsewhere".to_owned()], Timestamp::now()).unwrap();
    let scene = Scene::new(&misnamed);
    let authorities = scene.trusting("authorities", &own);
    let refused = scene.login(&authorities).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    assert!(scene.back_up(authorities).is_err());
}

#[tokio::test]
async fn while_one_authority_follows_another_both_are_trusted() {
    if !MariaDb::installed() {
        return;
    }
    let oldest = keys(None, &hosts(), days_ago(365 * 8 + 10)).unwrap();
    let before = keys(Some(&oldest.secret(None)), &hosts(), days_ago(100)).unwrap();
    let published = keys(Some(&before.secret(None)), &hosts(), Timestamp::now()).unwrap();
    assert_eq!(published.pair.certificate, before.pair.certificate);
    let mut known = published.secret(None);
    known.data.as_mut().unwrap().remove("tls.crt");
    let after = keys(Some(&known), &hosts(), Timestamp::now()).unwrap();

    let scene = Scene::new(&before);
    let old = scene.trusting("old", &before);
    let both = scene.trusting("both", &published);
    let end = scene.end(&old).await;
    assert_eq!(scene.end(&both).await, end);
    scene.server.show(&after);
    scene.until_another_than(&end, &both).await;
    let refused = scene.login(&old).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    let mut open = scene.login(&both).await.unwrap();
    does(&mut open, "CREATE TABLE notes (id INT)").await.unwrap();
    does(&mut open, "INSERT INTO notes VALUES (1)").await.unwrap();
    assert_eq!(scene.back_up(both).unwrap(), 1);
}
