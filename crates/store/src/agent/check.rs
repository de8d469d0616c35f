//! Whether an agent can work with its database: looked at step by step, and nothing is changed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::layout::Layout;
use super::{AgentSource, report};
use crate::error::{Place, StoreError};
use crate::session::Session;
use crate::settings::{Target, Tls};

/// What is looked at. A file has no name, connection and login; a server has no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Which database the settings name.
    Database,
    /// The server's name resolves.
    Name,
    /// A TCP connection comes about.
    Connection,
    /// TLS, where it is asked for, and the login.
    Login,
    /// The file is there and can be opened.
    File,
    /// The tables and columns are there.
    Tables,
    /// The node's rows can be read.
    Rows,
    /// What becomes of them can be written.
    Rights,
}

impl Step {
    /// Its name, in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Name => "name",
            Self::Connection => "connection",
            Self::Login => "login",
            Self::File => "file",
            Self::Tables => "tables",
            Self::Rows => "rows",
            Self::Rights => "rights",
        }
    }
}

/// A step that was made.
#[derive(Debug)]
pub struct Checked {
    /// Which.
    pub step: Step,
    /// How long it took.
    pub took: Duration,
    /// What was found.
    pub outcome: Result<Found, CheckError>,
}

/// What a step found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The database.
    Database(Place),
    /// The addresses of the server's name.
    Addresses(Vec<IpAddr>),
    /// The address that took the connection.
    Connected(SocketAddr),
    /// The server took the login over a connection of this kind.
    LoggedIn(Tls),
    /// The file was opened.
    Opened(PathBuf),
    /// The tables, but for these parts of newer ones.
    Tables(Vec<String>),
    /// The node's rows.
    Rows {
        /// Whether any table names the node.
        node_known: bool,
        /// How many interfaces the node is to have.
        interfaces: usize,
        /// How many rows cannot be used.
        unusable: usize,
    },
    /// What is reported can be written.
    Writable,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No address took a connection.
    #[error("no TCP connection: {}", .0.iter().map(|(to, error)| format!("{to}: {error}")).collect::<Vec<_>>().join("; "))]
    Connection(Vec<(SocketAddr, io::Error)>),
    /// The file cannot be opened.
    #[error("{path} cannot be opened: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The steps that were made so far.
#[derive(Default)]
struct Steps(Vec<Checked>);

impl Steps {
    /// Makes one. None: it failed, and what follows rests on it.
    async fn make<T>(
        &mut self,
        step: Step,
        act: impl Future<Output = Result<(Found, T), CheckError>>,
    ) -> Option<T> {
        let start = Instant::now();
        let (outcome, value) = match act.await {
            Ok((found, value)) => (Ok(found), Some(value)),
            Err(error) => (Err(error), None),
        };
        self.0.push(Checked { step, took: start.elapsed(), outcome });
        value
    }
}

impl AgentSource {
    /// Makes one step after another, up to the first that fails.
    pub async fn check(&self) -> Vec<Checked> {
        let mut steps = Steps::default();
        // How far it came is in the steps.
        let _ = self.check_all(&mut steps).await;
        steps.0
    }

    async fn check_all(&self, steps: &mut Steps) -> Option<()> {
        steps.make(Step::Database, async { Ok((Found::Database(self.place()), ())) }).await?;
        let mut session = match &self.settings.target {
            Target::MySql { port, .. } => {
                let addresses = steps.make(Step::Name, self.check_name()).await?;
                steps.make(Step::Connection, self.check_connection(&addresses, *port)).await?;
                steps.make(Step::Login, self.check_login()).await?
            }
            Target::Sqlite { path } => steps.make(Step::File, self.check_file(path.clone())).await?,
        };
        let layout = steps.make(Step::Tables, check_tables(&mut session)).await?;
        steps.make(Step::Rows, self.check_rows(&mut session)).await?;
        steps.make(Step::Rights, self.check_rights(&mut session, &layout)).await?;
        session.close().await;
        Some(())
    }

    async fn check_name(&self) -> Result<(Found, Vec<IpAddr>), CheckError> {
        let addresses = self.database_addresses().await?;
        Ok((Found::Addresses(addresses.clone()), addresses))
    }

    /// The connection breaks off before the login, which the server counts (`max_connect_errors`, 100 by default): the next
    /// login that succeeds sets that to nothing.
    async fn check_connection(&self, addresses: &[IpAddr], port: u16) -> Result<(Found, ()), CheckError> {
        let mut failed = Vec::new();
        for address in addresses {
            let address = SocketAddr::new(*address, port);
            let connected = timeout(self.settings.connect_timeout, TcpStream::connect(address)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(_) => return Ok((Found::Connected(address), ())),
                Err(error) => failed.push((address, error)),
            }
        }
        Err(CheckError::Connection(failed))
    }

    async fn check_login(&self) -> Result<(Found, Session), CheckError> {
        Ok((Found::LoggedIn(self.settings.tls.clone()), self.connect().await?))
    }

    async fn check_file(&self, path: PathBuf) -> Result<(Found, Session), CheckError> {
        // The driver's own error does not say why.
        let opened = tokio::fs::File::open(&path).await;
        opened.map_err(|source| CheckError::File { path: path.clone(), source })?;
        Ok((Found::Opened(path), self.connect().await?))
    }

    async fn check_rows(&self, session: &mut Session) -> Result<(Found, ()), CheckError> {
        let state = self.read_over(session).await?;
        let found = Found::Rows {
            node_known: state.node_known,
            interfaces: state.nics.len(),
            unusable: state.invalid.len(),
        };
        Ok((found, ()))
    }

    async fn check_rights(&self, session: &mut Session, layout: &Layout) -> Result<(Found, ()), CheckError> {
        report::rehearse(session, &self.node, layout).await?;
        Ok((Found::Writable, ()))
    }
}

async fn check_tables(session: &mut Session) -> Result<(Found, Layout), CheckError> {
    let layout = Layout::find(session).await?;
    Ok((Found::Tables(layout.missing()), layout))
}
