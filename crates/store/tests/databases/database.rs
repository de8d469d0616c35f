//! A database of either kind, empty, for one test.

use std::path::PathBuf;
use std::sync::LazyLock;

use multinic_core::desired::DesiredState;
use multinic_store::{AgentSource, DatabaseSettings, Store};
use multinic_testbed::mariadb::MariaDb;
use sqlx::{ConnectOptions, Row};
use tempfile::TempDir;

static SERVER: LazyLock<Option<MariaDb>> =
    LazyLock::new(|| MariaDb::installed().then(|| MariaDb::start().expect("a MariaDB server")));

/// The server that the tests of this binary share, if it is installed.
pub fn server() -> Option<&'static MariaDb> {
    SERVER.as_ref()
}

pub enum Database {
    Sqlite { folder: TempDir },
    MariaDb { server: &'static MariaDb, name: String },
}

impl Database {
    pub fn sqlite() -> Self {
        Self::Sqlite { folder: tempfile::tempdir().unwrap() }
    }

    pub fn mariadb(test: &str) -> Option<Self> {
        let server = server()?;
        let name: String = test.chars().rev().take(60).collect::<String>().chars().rev().collect();
        server.create_database(&name).unwrap();
        Some(Self::MariaDb { server, name })
    }

    fn file(folder: &TempDir) -> PathBuf {
        folder.path().join("state.db")
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    pub fn settings(&self) -> DatabaseSettings {
        match self {
            Self::Sqlite { folder } => DatabaseSettings::sqlite(Self::file(folder)),
            Self::MariaDb { server, name } => DatabaseSettings::from_url(&server.url(name)).unwrap(),
        }
    }

    pub async fn store(&self) -> Store {
        Store::open(&self.settings()).await.unwrap()
    }

    pub fn agent(&self, node: &str) -> AgentSource {
        AgentSource::new(&self.settings(), node.parse().unwrap())
    }

    pub async fn read(&self, node: &str) -> DesiredState {
        self.agent(node).read().await.unwrap()
    }

    /// Runs statements past the store and returns rows as lines, columns between tabs.
    pub async fn sql(&self, statements: &str) -> String {
        match self {
            Self::Sqlite { folder } => {
                let options = sqlx::sqlite::SqliteConnectOptions::new()
                    .filename(Self::file(folder))
                    .create_if_missing(true)
                    .foreign_keys(false);
                let mut connection = options.connect().await.unwrap();
                let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).fetch_all(&mut connection).await;
                let rows = rows.unwrap_or_else(|error| panic!("{statements}: {error}"));
                let cell = |row: &sqlx::sqlite::SqliteRow, at| {
                    row.try_get_unchecked::<Option<String>, _>(at).unwrap().unwrap_or_else(|| "NULL".into())
                };
                let line = |row: &sqlx::sqlite::SqliteRow| {
                    (0..row.len()).map(|at| cell(row, at)).collect::<Vec<_>>().join("\t")
                };
                let lines = rows.iter().map(line).collect::<Vec<_>>().join("\n");
                sqlx::Connection::close(connection).await.unwrap();
                lines
            }
            Self::MariaDb { server, name } => server
                .sql(name, statements)
                .unwrap_or_else(|error| panic!("{statements}: {error}"))
                .trim_end()
                .to_owned(),
        }
    }

    /// From here on every row that is inserted, changed or deleted in this table is an error.
    pub async fn forbid_writes(&self, table: &str) {
        for act in ["INSERT", "UPDATE", "DELETE"] {
            let trigger = format!("CREATE TRIGGER no_{act}_{table} BEFORE {act} ON {table}");
            let sql = if self.is_sqlite() {
                format!("{trigger} BEGIN SELECT RAISE(ABORT, 'no writes'); END")
            } else {
                format!("{trigger} FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no writes'")
            };
            self.sql(&sql).await;
        }
    }

    pub async fn allow_writes(&self, table: &str) {
        for act in ["INSERT", "UPDATE", "DELETE"] {
            self.sql(&format!("DROP TRIGGER no_{act}_{table}")).await;
        }
    }
}

pub const TABLES: [&str; 8] = [
    "multinic_meta",
    "multi_subnet",
    "node_table",
    "multi_interface",
    "multi_removal",
    "multi_slot",
    "cr_state",
    "multi_place",
];

/// Makes two tests of one body, on SQLite and on MariaDB.
#[macro_export]
macro_rules! on_both {
    ($(async fn $name:ident($db:ident) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn body($db: &$crate::database::Database) $body

            #[tokio::test]
            async fn on_sqlite() {
                body(&$crate::database::Database::sqlite()).await;
            }

            #[tokio::test]
            async fn on_mariadb() {
                if let Some(database) = $crate::database::Database::mariadb(stringify!($name)) {
                    body(&database).await;
                }
            }
        }
    )*};
}
