//! `multinic backup` with a bucket, as a person runs it: a real MariaDB, a real S3-compatible server with TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use multinic_testbed::mariadb::{MariaDb, USER};
use multinic_testbed::program::find;
use multinic_testbed::s3::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY};

const LEDGER: &str = "ledger";
const COUNT: &str = "SELECT COUNT(*), SUM(n) FROM nics";

struct Scene {
    folder: tempfile::TempDir,
    database: MariaDb,
    server: S3Server,
}

impl Scene {
    fn new() -> Option<Self> {
        let is_there = MariaDb::installed() && Command::new("mariadb-dump").arg("--version").output().is_ok();
        if !is_there || !S3Server::installed() {
            return None;
        }
        let database = MariaDb::start().unwrap();
        database.create_database(LEDGER).unwrap();
        database
            .sql(LEDGER, "CREATE TABLE nics (n INT PRIMARY KEY); INSERT INTO nics VALUES (1), (2), (40)")
            .unwrap();
        let server = S3Server::start_with_tls().unwrap();
        server.make_bucket("backups").unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        fs::write(folder.path().join("id"), ACCESS_KEY_ID).unwrap();
        fs::write(folder.path().join("key"), SECRET_ACCESS_KEY).unwrap();
        Some(Self { folder, database, server })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn backup(&self, words: &[&str]) -> Output {
        let mut command = Command::new(find("multinic").expect("cargo build --bins"));
        command.arg("backup").args(words).args(["--s3-bucket", "backups", "--s3-endpoint"]);
        command.arg(self.server.endpoint()).arg("--s3-ca").arg(self.server.ca_file());
        if !words.contains(&"list") {
            command.arg("--work").arg(self.path("work")).arg("--report").arg(self.path("report"));
        }
        if words.contains(&"make") {
            let port = self.database.port().to_string();
            command.envs([("DB_HOST", self.database.host()), ("DB_PORT", &port), ("DB_NAME", LEDGER)]);
            command.envs([("DB_USER", USER), ("DB_PASSWORD", self.database.password())]);
        }
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command.arg("--s3-access-key-id-file").arg(self.path("id"));
        command.arg("--s3-secret-access-key-file").arg(self.path("key"));
        command.output().unwrap()
    }

    fn done(&self, words: &[&str]) -> String {
        let output = self.backup(words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn names(&self) -> Vec<String> {
        let list = self.done(&["list"]);
        list.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_database_is_backed_up_to_a_bucket_and_comes_back_from_it() {
    let Some(mut scene) = Scene::new() else { return };
    scene.done(&["make"]);
    let names = scene.names();
    assert_eq!(names.len(), 1, "{names:?}");
    let report = fs::read_to_string(scene.path("report")).unwrap();
    assert!(report.contains(&names[0]) && report.contains("\"rows\":3"), "{report}");

    // Somebody's typing error, in the log as in the report.
    fs::write(scene.path("key"), "another").unwrap();
    let failed = scene.backup(&["make"]);
    assert!(!failed.status.success());
    let said =
        format!("{}{}", String::from_utf8_lossy(&failed.stderr), String::from_utf8_lossy(&failed.stdout));
    let report = fs::read_to_string(scene.path("report")).unwrap();
    for text in [&said, &report] {
        assert!(
            text.contains("SignatureDoesNotMatch") && text.contains("s3.secretAccessKeySecretRef"),
            "{text}"
        );
        assert!(!text.contains("another") && !text.contains("X-Amz-Signature"), "{text}");
    }
    fs::write(scene.path("key"), SECRET_ACCESS_KEY).unwrap();

    scene.database.sql(LEDGER, "INSERT INTO nics VALUES (500)").unwrap();
    let counted = scene.database.sql(LEDGER, COUNT).unwrap();
    scene.done(&["make", "--keep-count", "1"]);
    let newest = scene.names();
    assert!(newest.len() == 1 && newest != names, "{newest:?}");

    // Everything is lost.
    let data = scene.database.lose_data().unwrap();
    let said = scene.done(&["restore", "--data", &data.display().to_string(), "--database", LEDGER]);
    assert!(said.contains(&newest[0]) && said.contains("4 rows"), "{said}");
    scene.database.restart().unwrap();
    assert_eq!(scene.database.sql(LEDGER, COUNT).unwrap(), counted);
}
