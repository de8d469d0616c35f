//! One connection and the statements that go over it, the same for both kinds of database.

use std::time::Duration;

use futures_util::TryStreamExt;
use secrecy::ExposeSecret;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPoolOptions, MySqlRow, MySqlSslMode};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySql, MySqlPool, Row as _, Sqlite, SqlitePool};
use tokio::time::timeout;

use crate::dialect::Dialect;
use crate::error::{Place, StoreError, connecting};
use crate::settings::{DatabaseSettings, Target, Tls};

/// A value for a placeholder.
#[derive(Debug, Clone)]
pub(crate) enum Arg {
    Text(String),
    Int(i64),
    Null,
}

impl Arg {
    pub(crate) fn text(value: &(impl ToString + ?Sized)) -> Self {
        Self::Text(value.to_string())
    }

    pub(crate) fn optional<T: ToString>(value: Option<T>) -> Self {
        value.map_or(Self::Null, |value| Self::text(&value))
    }

    pub(crate) fn optional_int(value: Option<impl Into<i64>>) -> Self {
        value.map_or(Self::Null, |value| Self::Int(value.into()))
    }
}

/// A row of an answer. Columns are numbered from 0.
pub(crate) enum Row<'a> {
    MySql(&'a MySqlRow),
    Sqlite(&'a SqliteRow),
}

impl Row<'_> {
    /// A column of text.
    pub(crate) fn text(&self, column: usize) -> Result<Option<&str>, sqlx::Error> {
        match self {
            // Unchecked: the server labels the same text differently by table, charset and version.
            Row::MySql(row) => row.try_get_unchecked(column),
            Row::Sqlite(row) => row.try_get(column),
        }
    }

    /// A column of whole numbers.
    pub(crate) fn int(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        match self {
            Row::MySql(row) => row.try_get_unchecked(column),
            Row::Sqlite(row) => row.try_get(column),
        }
    }
}

/// How connections are made.
#[derive(Clone)]
pub(crate) enum Connector {
    MySql(Box<MySqlConnectOptions>),
    Sqlite(Box<SqliteConnectOptions>),
}

impl Connector {
    /// `creating`: the controller makes a SQLite file that is not there; an agent does not.
    pub(crate) fn new(settings: &DatabaseSettings, creating: bool) -> Self {
        match &settings.target {
            Target::MySql { host, port, user, password, name } => {
                let options = MySqlConnectOptions::new()
                    .host(host)
                    .port(*port)
                    .username(user)
                    .password(password.expose_secret())
                    .database(name)
                    // Times are UTC on the wire; the driver would set this too, but nothing else may change it.
                    .timezone(Some("+00:00".to_owned()))
                    .disable_statement_logging();
                let options = match &settings.tls {
                    Tls::Disabled => options.ssl_mode(MySqlSslMode::Disabled),
                    Tls::Unverified => options.ssl_mode(MySqlSslMode::Required),
                    Tls::Verified { ca_file } => {
                        let options = options.ssl_mode(MySqlSslMode::VerifyIdentity);
                        match ca_file {
                            Some(file) => options.ssl_ca(file),
                            None => options,
                        }
                    }
                };
                Self::MySql(Box::new(options))
            }
            Target::Sqlite { path } => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(creating)
                    .foreign_keys(true)
                    .busy_timeout(settings.statement_timeout)
                    // Of each connection, in KiB: the operating system keeps the file's pages too.
                    .pragma("cache_size", "-256")
                    .disable_statement_logging();
                Self::Sqlite(Box::new(options))
            }
        }
    }

    pub(crate) fn pool(self, settings: &DatabaseSettings) -> Pool {
        match self {
            Self::MySql(options) => Pool::MySql(
                MySqlPoolOptions::new()
                    .max_connections(settings.pool_size)
                    .acquire_timeout(settings.connect_timeout)
                    .after_connect(|connection, _| Box::pin(async move { prepare_mysql(connection).await }))
                    .connect_lazy_with(*options),
            ),
            Self::Sqlite(options) => Pool::Sqlite(
                SqlitePoolOptions::new()
                    .max_connections(settings.pool_size)
                    .acquire_timeout(settings.connect_timeout)
                    .connect_lazy_with(*options),
            ),
        }
    }
}

/// A transaction must see one state throughout, whatever the server's own default is.
async fn prepare_mysql(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(connection).await?;
    Ok(())
}

/// The controller's connections.
#[derive(Clone)]
pub(crate) enum Pool {
    MySql(MySqlPool),
    Sqlite(SqlitePool),
}

enum Link {
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
    PooledMySql(PoolConnection<MySql>),
    PooledSqlite(PoolConnection<Sqlite>),
}

/// A connection in use. Dropped in the middle of a transaction or of an answer, it is closed, not reused.
pub(crate) struct Session {
    link: Option<Link>,
    place: Place,
    statement_timeout: Duration,
    /// Whether a transaction or an answer is unfinished.
    busy: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.busy {
            match self.link.take() {
                Some(Link::PooledMySql(connection)) => drop(connection.detach()),
                Some(Link::PooledSqlite(connection)) => drop(connection.detach()),
                _ => (),
            }
        }
    }
}

impl Session {
    /// Takes a connection of the pool.
    pub(crate) async fn from_pool(pool: &Pool, settings: &DatabaseSettings) -> Result<Self, StoreError> {
        let link = match pool {
            Pool::MySql(pool) => pool.acquire().await.map(Link::PooledMySql),
            Pool::Sqlite(pool) => pool.acquire().await.map(Link::PooledSqlite),
        };
        let link = link.map_err(|source| match source {
            sqlx::Error::PoolTimedOut => timed_out(settings),
            source => connecting(settings.place(), source),
        })?;
        Ok(Self::over(link, settings))
    }

    /// Makes a connection of its own.
    pub(crate) async fn connect(
        connector: &Connector,
        settings: &DatabaseSettings,
    ) -> Result<Self, StoreError> {
        if let Tls::Verified { ca_file: Some(path) } = &settings.tls {
            // The driver's own error does not say which file it is about.
            let readable = std::fs::File::open(path).map(drop);
            readable.map_err(|source| StoreError::CaFile {
                place: settings.place(),
                path: path.clone(),
                source,
            })?;
        }
        let connect = async {
            match connector {
                Connector::MySql(options) => {
                    let mut connection = options.connect().await?;
                    prepare_mysql(&mut connection).await?;
                    Ok(Link::MySql(connection))
                }
                Connector::Sqlite(options) => options.connect().await.map(Link::Sqlite),
            }
        };
        match timeout(settings.connect_timeout, connect).await {
            Ok(Ok(link)) => Ok(Self::over(link, settings)),
            Ok(Err(source)) => Err(connecting(settings.place(), source)),
            Err(_) => Err(timed_out(settings)),
        }
    }

    fn over(link: Link, settings: &DatabaseSettings) -> Self {
        Self {
            link: Some(link),
            place: settings.place(),
            statement_timeout: settings.statement_timeout,
            busy: false,
        }
    }

    /// Says good-bye to the server, which would otherwise count an aborted client.
    pub(crate) async fn close(mut self) {
        let limit = self.statement_timeout;
        // Everything is committed by now: a good-bye that fails loses nothing.
        let _ = match self.link.take() {
            Some(Link::MySql(connection)) => timeout(limit, connection.close()).await,
            Some(Link::Sqlite(connection)) => timeout(limit, connection.close()).await,
            _ => return,
        };
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match &self.link {
            Some(Link::Sqlite(_) | Link::PooledSqlite(_)) => Dialect::Sqlite,
            _ => Dialect::MySql,
        }
    }

    pub(crate) async fn begin_read(&mut self) -> Result<(), StoreError> {
        let sql = self.dialect().begin_read();
        self.command("beginning to read", sql).await?;
        self.busy = true;
        Ok(())
    }

    pub(crate) async fn begin_write(&mut self) -> Result<(), StoreError> {
        let sql = self.dialect().begin_write();
        self.command("beginning to write", sql).await?;
        self.busy = true;
        Ok(())
    }

    pub(crate) async fn commit(&mut self) -> Result<(), StoreError> {
        self.command("committing", "COMMIT").await?;
        self.busy = false;
        Ok(())
    }

    /// Ends a transaction that is to leave nothing behind.
    pub(crate) async fn roll_back(&mut self) -> Result<(), StoreError> {
        self.command("rolling back", "ROLLBACK").await?;
        self.busy = false;
        Ok(())
    }

    /// Runs a statement without placeholders, also one that cannot be prepared.
    pub(crate) async fn command(&mut self, attempted: &'static str, sql: &str) -> Result<(), StoreError> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let limit = self.statement_timeout;
        let was_busy = std::mem::replace(&mut self.busy, true);
        let run = async {
            match self.link.as_mut().ok_or(sqlx::Error::PoolClosed)? {
                Link::MySql(link) => sql.execute(link).await.map(drop),
                Link::PooledMySql(link) => sql.execute(&mut **link).await.map(drop),
                Link::Sqlite(link) => sql.execute(link).await.map(drop),
                Link::PooledSqlite(link) => sql.execute(&mut **link).await.map(drop),
            }
        };
        let done = timeout(limit, run).await;
        self.settle(attempted, done, was_busy)
    }

    /// Runs a statement and says how many rows it touched.
    pub(crate) async fn execute(
        &mut self,
        attempted: &'static str,
        sql: &str,
        args: Vec<Arg>,
    ) -> Result<u64, StoreError> {
        let limit = self.statement_timeout;
        let was_busy = std::mem::replace(&mut self.busy, true);
        let run = async {
            match self.link.as_mut().ok_or(sqlx::Error::PoolClosed)? {
                Link::MySql(link) => execute_mysql(link, sql, args).await,
                Link::PooledMySql(link) => execute_mysql(link, sql, args).await,
                Link::Sqlite(link) => execute_sqlite(link, sql, args).await,
                Link::PooledSqlite(link) => execute_sqlite(link, sql, args).await,
            }
        };
        let done = timeout(limit, run).await;
        self.settle(attempted, done, was_busy)
    }

    /// Runs a query and hands each row to `take` as it arrives. The time limit is for each row.
    pub(crate) async fn each_row(
        &mut self,
        attempted: &'static str,
        sql: &str,
        args: Vec<Arg>,
        take: &mut (dyn FnMut(&Row<'_>) -> Result<(), RowError> + Send),
    ) -> Result<(), StoreError> {
        let limit = self.statement_timeout;
        let was_busy = std::mem::replace(&mut self.busy, true);
        let place = self.place.clone();
        let done = match self.link.as_mut() {
            None => Ok(Err(Stop::Sql(sqlx::Error::PoolClosed))),
            Some(Link::MySql(link)) => rows_mysql(link, sql, args, limit, take).await,
            Some(Link::PooledMySql(link)) => rows_mysql(link, sql, args, limit, take).await,
            Some(Link::Sqlite(link)) => rows_sqlite(link, sql, args, limit, take).await,
            Some(Link::PooledSqlite(link)) => rows_sqlite(link, sql, args, limit, take).await,
        };
        let done = match done {
            Ok(Err(Stop::Row(error))) => return Err(error.at(place)),
            Ok(Err(Stop::Sql(error))) => Ok(Err(error)),
            Ok(Ok(())) => Ok(Ok(())),
            Err(elapsed) => Err(elapsed),
        };
        self.settle(attempted, done, was_busy)
    }

    fn settle<T>(
        &mut self,
        attempted: &'static str,
        done: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
        was_busy: bool,
    ) -> Result<T, StoreError> {
        match done {
            Ok(Ok(value)) => {
                self.busy = was_busy;
                Ok(value)
            }
            Ok(Err(source)) => {
                // The server answered: the connection itself is in order.
                if source.as_database_error().is_some() {
                    self.busy = was_busy;
                }
                Err(StoreError::Statement { place: self.place.clone(), attempted, source })
            }
            Err(_) => Err(StoreError::TimedOut {
                place: self.place.clone(),
                attempted,
                after: self.statement_timeout,
            }),
        }
    }
}

fn timed_out(settings: &DatabaseSettings) -> StoreError {
    StoreError::TimedOut { place: settings.place(), attempted: "connecting", after: settings.connect_timeout }
}

/// What is wrong with a row of an answer.
pub(crate) enum RowError {
    /// A column that could not be taken out of the answer.
    Column(sqlx::Error),
    /// A column whose content is not what it should be.
    Content { table: &'static str, row: String, column: &'static str, reason: String },
}

impl From<sqlx::Error> for RowError {
    fn from(error: sqlx::Error) -> Self {
        Self::Column(error)
    }
}

impl RowError {
    fn at(self, place: Place) -> StoreError {
        match self {
            Self::Column(source) => StoreError::Statement { place, attempted: "reading a row", source },
            Self::Content { table, row, column, reason } => {
                StoreError::Row { place, table, row, column, reason }
            }
        }
    }
}

enum Stop {
    Sql(sqlx::Error),
    Row(RowError),
}

type Timed<T> = Result<T, tokio::time::error::Elapsed>;

// Statements stay prepared. To close one is a message without an answer, and what is sent after such a one waits for
// the server's delayed acknowledgement of it (40 ms on Linux), because the driver leaves Nagle's algorithm on.
macro_rules! on {
    ($database:ty, $link:ty, $row:path, $execute:ident, $rows:ident) => {
        async fn $execute(link: &mut $link, sql: &str, args: Vec<Arg>) -> Result<u64, sqlx::Error> {
            let mut query = sqlx::query::<$database>(AssertSqlSafe(sql.to_owned()));
            for arg in args {
                query = match arg {
                    Arg::Text(text) => query.bind(text),
                    Arg::Int(number) => query.bind(number),
                    Arg::Null => query.bind(None::<String>),
                };
            }
            Ok(query.execute(link).await?.rows_affected())
        }

        async fn $rows(
            link: &mut $link,
            sql: &str,
            args: Vec<Arg>,
            limit: Duration,
            take: &mut (dyn FnMut(&Row<'_>) -> Result<(), RowError> + Send),
        ) -> Timed<Result<(), Stop>> {
            let mut query = sqlx::query::<$database>(AssertSqlSafe(sql.to_owned()));
            for arg in args {
                query = match arg {
                    Arg::Text(text) => query.bind(text),
                    Arg::Int(number) => query.bind(number),
                    Arg::Null => query.bind(None::<String>),
                };
            }
            let mut rows = query.fetch(link);
            loop {
                match timeout(limit, rows.try_next()).await? {
                    Ok(Some(row)) => {
                        if let Err(error) = take(&$row(&row)) {
                            return Ok(Err(Stop::Row(error)));
                        }
                    }
                    Ok(None) => return Ok(Ok(())),
                    Err(error) => return Ok(Err(Stop::Sql(error))),
                }
            }
        }
    };
}

on!(MySql, MySqlConnection, Row::MySql, execute_mysql, rows_mysql);
on!(Sqlite, SqliteConnection, Row::Sqlite, execute_sqlite, rows_sqlite);
