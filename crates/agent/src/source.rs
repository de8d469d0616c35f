//! Where the desired state is read and reports go: the tables of a database, or the node's Kubernetes object.

use std::net::IpAddr;

use multinic_core::desired::{DesiredState, EntryId, NicReport};
use multinic_store::{AgentSource, StoreError};

use crate::facts::Facts;
use crate::node_resource::read::Refusal;
use crate::node_resource::watched::WatchedNews;
use crate::node_resource::{NodeResource, ResourceError};

/// The source.
#[derive(Debug)]
pub enum Source {
    /// A database.
    Database(Box<AgentSource>),
    /// The node's object.
    Resource(Box<NodeResource>),
}

/// Why the source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The database.
    #[error(transparent)]
    Database(#[from] StoreError),
    /// The object.
    #[error(transparent)]
    Resource(#[from] ResourceError),
}

/// Tells when there is something new in the source.
#[derive(Debug)]
pub struct SourceNews(Option<WatchedNews>);

impl SourceNews {
    /// Returns when something is new; never for a database, which tells nothing by itself.
    pub async fn changed(&mut self) {
        match &mut self.0 {
            Some(news) => news.changed().await,
            None => std::future::pending().await,
        }
    }
}

impl Source {
    /// The addresses by which it is reached.
    pub async fn addresses(&self) -> Result<Vec<IpAddr>, SourceError> {
        Ok(match self {
            Self::Database(database) => database.database_addresses().await?,
            Self::Resource(resource) => resource.addresses().await?,
        })
    }

    /// This node's desired state as of one moment.
    pub async fn read(&mut self) -> Result<DesiredState, SourceError> {
        Ok(match self {
            Self::Database(database) => database.read().await?,
            Self::Resource(resource) => resource.read().await?,
        })
    }

    /// The last read is used.
    pub fn agree(&mut self) {
        if let Self::Resource(resource) = self {
            resource.agree();
        }
    }

    /// What tells of changes after this moment.
    pub fn news(&self) -> SourceNews {
        match self {
            Self::Database(_) => SourceNews(None),
            Self::Resource(resource) => SourceNews(Some(resource.news())),
        }
    }

    /// Writes what a database is to know, entry by entry. An object is told by [`Self::passed`].
    pub async fn report(&self, reports: &[NicReport], released: &[EntryId]) -> Result<(), SourceError> {
        match self {
            Self::Database(database) => Ok(database.report(reports, released).await?),
            Self::Resource(_) => Ok(()),
        }
    }

    /// Tells an object what a pass found.
    pub fn passed(&self, facts: impl FnOnce() -> Facts, nothing_left: bool) {
        if let Self::Resource(resource) = self {
            resource.passed(facts(), nothing_left);
        }
    }

    /// Tells an object that it is not used.
    pub fn refused(&mut self, refusal: Refusal, nothing_ours: bool) {
        if let Self::Resource(resource) = self {
            resource.refused(refusal, nothing_ours);
        }
    }

    /// Waits until everything that was told is written.
    pub async fn finish(self) {
        if let Self::Resource(resource) = self {
            resource.finish().await;
        }
    }

    /// Its name for logs.
    pub fn place(&self) -> String {
        match self {
            Self::Database(database) => database.place().to_string(),
            Self::Resource(resource) => resource.place(),
        }
    }
}
