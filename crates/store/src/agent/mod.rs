//! An agent's side of the database.

pub mod check;
mod entry;
mod layout;
mod read;
mod report;

use std::net::IpAddr;

use multinic_core::NodeName;
use multinic_core::desired::{DesiredState, EntryId, NicReport};

use crate::error::{Place, StoreError};
use crate::session::{Connector, Session};
use crate::settings::{DatabaseSettings, Target};
use layout::Layout;

/// One node's view of the database.
///
/// It holds no connection: every [`read`](Self::read) and every [`report`](Self::report) makes one and closes it, since
/// seconds of work may lie between the two, and a server admits fewer connections than a fleet has nodes.
#[derive(Clone)]
pub struct AgentSource {
    settings: DatabaseSettings,
    connector: Connector,
    node: NodeName,
}

impl AgentSource {
    /// Keeps the settings; nothing is connected yet.
    pub fn new(settings: &DatabaseSettings, node: NodeName) -> Self {
        Self { settings: settings.clone(), connector: Connector::new(settings, false), node }
    }

    /// Reads this node's desired state as of one moment.
    ///
    /// Tables that the controller has not upgraded are read as far as their columns go. An unknown node is no error
    /// (`node_known` is false); a missing table is.
    pub async fn read(&self) -> Result<DesiredState, StoreError> {
        let mut session = self.connect().await?;
        let state = self.read_over(&mut session).await?;
        session.close().await;
        Ok(state)
    }

    async fn connect(&self) -> Result<Session, StoreError> {
        Session::connect(&self.connector, &self.settings).await
    }

    async fn read_over(&self, session: &mut Session) -> Result<DesiredState, StoreError> {
        match read::read(session, &self.node, &Layout::current()).await {
            Err(error) if error.lacks_table_or_column() => {
                session.roll_back().await?;
                let layout = Layout::find(session).await?;
                read::read(session, &self.node, &layout).await
            }
            done => done,
        }
    }

    /// Writes what became of entries, and which tombstones are carried out.
    ///
    /// A report about content that the controller has replaced meanwhile is dropped: the next read shows the newer one.
    /// Tables that the controller has not upgraded take as much of it as they have columns.
    pub async fn report(&self, reports: &[NicReport], released: &[EntryId]) -> Result<(), StoreError> {
        if reports.is_empty() && released.is_empty() {
            return Ok(());
        }
        let mut session = self.connect().await?;
        match report::write(&mut session, &self.node, &Layout::current(), reports, released).await {
            Err(error) if error.lacks_table_or_column() => {
                session.roll_back().await?;
                let layout = Layout::find(&mut session).await?;
                report::write(&mut session, &self.node, &layout, reports, released).await?;
            }
            done => done?,
        }
        session.close().await;
        Ok(())
    }

    /// Whether the database can be reached. It logs in and says good-bye: a server counts connections that break off before
    /// that, and locks a host out after too many (`max_connect_errors`).
    pub async fn reach(&self) -> Result<(), StoreError> {
        self.connect().await?.close().await;
        Ok(())
    }

    /// Whether it is on another host, or a file.
    pub fn is_remote(&self) -> bool {
        matches!(self.settings.target, Target::MySql { .. })
    }

    /// The addresses that the database's name resolves to, so that a NIC on the way to it can be told. None for a file.
    pub async fn database_addresses(&self) -> Result<Vec<IpAddr>, StoreError> {
        match &self.settings.target {
            Target::Sqlite { .. } => Ok(Vec::new()),
            Target::MySql { host, port, .. } => {
                let found = tokio::net::lookup_host((host.as_str(), *port));
                let found =
                    tokio::time::timeout(self.settings.connect_timeout, found).await.map_err(|_| {
                        StoreError::TimedOut {
                            place: self.place(),
                            attempted: "resolving the database's name",
                            after: self.settings.connect_timeout,
                        }
                    })?;
                let found = found.map_err(|error| StoreError::Unreachable {
                    place: self.place(),
                    source: sqlx::Error::Io(error),
                })?;
                let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
                addresses.sort_unstable();
                addresses.dedup();
                Ok(addresses)
            }
        }
    }

    /// The database's name for logs.
    pub fn place(&self) -> Place {
        self.settings.place()
    }

    /// The node.
    pub fn node(&self) -> &NodeName {
        &self.node
    }
}

impl std::fmt::Debug for AgentSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentSource")
            .field("settings", &self.settings)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
