//! What can go wrong between this process and its database.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use multinic_core::PortId;

use crate::settings::Target;

/// A database, named for logs and errors: never with the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(Arc<str>);

impl Place {
    /// Names the database that settings point to.
    pub(crate) fn of(target: &Target) -> Self {
        Self(match target {
            Target::MySql { host, port, user, password: _, name } => {
                format!("database {name:?} at {host}:{port} as {user:?}").into()
            }
            Target::Sqlite { path } => format!("database file {}", path.display()).into(),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What failed, on which database, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No connection came about.
    #[error("cannot connect to {place}: {source}")]
    Unreachable {
        /// The database.
        place: Place,
        /// Why.
        source: sqlx::Error,
    },
    /// The server refused the login.
    #[error("{place} refused the login: {source}; check DB_USER, DB_PASSWORD and the user's grants")]
    LoginRefused {
        /// The database.
        place: Place,
        /// What the server said.
        source: sqlx::Error,
    },
    /// The server has no such database.
    #[error("{place} does not exist: create it, or correct DB_NAME")]
    NoDatabase {
        /// The database.
        place: Place,
    },
    /// TLS was asked for and did not come about.
    #[error(
        "no TLS with {place}: {source}; the server must offer it and its certificate must be trusted (DB_TLS_CA)"
    )]
    Tls {
        /// The database.
        place: Place,
        /// Why.
        source: sqlx::Error,
    },
    /// The file of certificate authorities cannot be read.
    #[error("cannot connect to {place}: {path} (DB_TLS_CA) cannot be read: {source}")]
    CaFile {
        /// The database.
        place: Place,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("{place} did not answer within {after:?}: {attempted}")]
    TimedOut {
        /// The database.
        place: Place,
        /// What was attempted.
        attempted: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// A statement failed.
    #[error("{place}: {attempted} failed: {source}")]
    Statement {
        /// The database.
        place: Place,
        /// What was attempted.
        attempted: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// A table or a row of it that everything rests on is missing.
    #[error("{place} has no {what}: the controller creates it when it starts")]
    Missing {
        /// The database.
        place: Place,
        /// The table, or the row.
        what: String,
    },
    /// The tables are not ones that can be upgraded.
    #[error("{place}: table {table} cannot be used: {reason}")]
    ForeignTable {
        /// The database.
        place: Place,
        /// The table.
        table: &'static str,
        /// Why.
        reason: String,
    },
    /// A row that cannot be read. What is remembered and cannot be read is not forgotten: it is an error.
    #[error("{place}: table {table}, row {row}, column {column}: {reason}; correct or delete the row")]
    Row {
        /// The database.
        place: Place,
        /// The table.
        table: &'static str,
        /// The row's id or key.
        row: String,
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else published since the state was read that a publication was decided on.
    #[error(
        "{place}: another controller published meanwhile (revision {found} in place of {read}); nothing of this one is \
         published, and it is decided anew; run one controller"
    )]
    Overtaken {
        /// The database.
        place: Place,
        /// The revision that was read.
        read: u64,
        /// The revision that is there.
        found: u64,
    },
    /// A publication that contradicts itself.
    #[error("port {port} is to be published twice, on {first} and on {second}")]
    PortTwice {
        /// The port.
        port: PortId,
        /// A node.
        first: String,
        /// Another, or the same.
        second: String,
    },
}

impl StoreError {
    /// Whether the same act can succeed later without anybody's doing.
    pub fn retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Overtaken { .. } => true,
            Self::Statement { source, .. } => matches!(
                code_of(source),
                // Lock wait, deadlock, table changed under the transaction, server shutting down, too many connections.
                None | Some(Code::Number(1205 | 1213 | 1412 | 1053 | 1040 | 1927) | Code::Busy)
            ),
            // An agent that starts before the controller, a login that is being set up: waiting helps.
            Self::CaFile { .. }
            | Self::Missing { .. }
            | Self::LoginRefused { .. }
            | Self::NoDatabase { .. }
            | Self::Tls { .. } => true,
            Self::ForeignTable { .. } | Self::Row { .. } | Self::PortTwice { .. } => false,
        }
    }

    /// Whether the server chose this transaction as the victim of a deadlock, so that it can be run again at once.
    pub(crate) fn lost_a_race(&self) -> bool {
        matches!(self, Self::Statement { source, .. }
            if matches!(code_of(source), Some(Code::Number(1205 | 1213 | 1412) | Code::Busy)))
    }

    /// Whether what [`Store::open`](crate::Store::open) makes is not there any more: the database was emptied meanwhile, or is
    /// another one.
    pub fn finds_no_tables(&self) -> bool {
        matches!(self, Self::Missing { .. }) || self.lacks_table_or_column()
    }

    /// Whether a table or a column was missing.
    pub(crate) fn lacks_table_or_column(&self) -> bool {
        matches!(self, Self::Statement { source, .. }
            if matches!(code_of(source), Some(Code::Number(1146 | 1054) | Code::NoSuch)))
    }
}

enum Code {
    Number(u16),
    Busy,
    NoSuch,
    Other,
}

fn code_of(error: &sqlx::Error) -> Option<Code> {
    let error = error.as_database_error()?;
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return Some(Code::Number(error.number()));
    }
    let code = error.code().and_then(|code| code.parse::<i32>().ok());
    Some(match code {
        // SQLite's primary code is in the low byte: 5 is SQLITE_BUSY, 6 SQLITE_LOCKED.
        Some(code) if matches!(code & 0xff, 5 | 6) => Code::Busy,
        // SQLite has one code, SQLITE_ERROR, for every statement that it cannot compile.
        Some(1)
            if error.message().contains("no such table") || error.message().contains("no such column") =>
        {
            Code::NoSuch
        }
        _ => Code::Other,
    })
}

/// Names what kept a connection from coming about.
pub(crate) fn connecting(place: Place, source: sqlx::Error) -> StoreError {
    match (&source, code_of(&source)) {
        // 1045 access denied, 1698 the same for a user without a password, 1251/2059 an unknown kind of login,
        // 1044 no right to this database.
        (_, Some(Code::Number(1045 | 1698 | 1251 | 2059 | 1044))) => {
            StoreError::LoginRefused { place, source }
        }
        (_, Some(Code::Number(1049))) => StoreError::NoDatabase { place },
        (sqlx::Error::Tls(_), _) => StoreError::Tls { place, source },
        (sqlx::Error::Io(io), _) if io.get_ref().is_some_and(|e| e.to_string().contains("certificate")) => {
            StoreError::Tls { place, source }
        }
        _ => StoreError::Unreachable { place, source },
    }
}
