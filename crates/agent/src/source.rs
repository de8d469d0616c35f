//! Where the desired state is read and reports go: the tables of a database, or the node's Kubernetes object.

use std::net::IpAddr;

use multinic_core::InterfaceOptions;
use multinic_core::desired::{DesiredState, EntryId, NicReport};
use multinic_core::node::doctor::Kubelet;
use multinic_host::probes::Reach;
use multinic_store::{AgentSource, StoreError};

use crate::facts::Facts;
use crate::node_resource::read::Refusal;
use crate::node_resource::watched::WatchedNews;
use crate::node_resource::{NodeResource, ResourceError};

/// The source.
#[derive(Debug)]
pub struct Source {
    place: Place,
    /// What the node says of every interface of which the source does not.
    options: InterfaceOptions,
}

/// Where it is.
#[derive(Debug)]
pub enum Place {
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
    /// A source, with what the node says of every interface of which the source does not.
    pub fn new(place: Place, options: InterfaceOptions) -> Self {
        Self { place, options }
    }

    /// The addresses by which it is reached.
    pub async fn addresses(&self) -> Result<Vec<IpAddr>, SourceError> {
        Ok(match &self.place {
            Place::Database(database) => database.database_addresses().await?,
            Place::Resource(resource) => resource.addresses().await?,
        })
    }

    /// How it is asked whether it can be reached; none for a file.
    pub fn reach(&self) -> Option<Reach> {
        match &self.place {
            Place::Database(database) => database.is_remote().then(|| {
                let database = database.clone();
                Reach::new(self.place(), move || {
                    let database = database.clone();
                    async move { database.reach().await.map_err(|error| error.to_string()) }
                })
            }),
            Place::Resource(resource) => Some(resource.reach()),
        }
    }

    /// Whether a read of it was an answer of another host, and not of what it said before.
    pub fn answers_reads(&self) -> bool {
        matches!(self.place, Place::Database(_))
    }

    /// How the kubelet was told of its node's address, as far as the cluster tells; a database knows nothing of it.
    pub async fn kubelet(&self) -> Option<Kubelet> {
        let Place::Resource(resource) = &self.place else { return None };
        let asked = resource.kubelet().await;
        asked.inspect_err(|error| tracing::debug!(%error, "the Node does not tell of its kubelet")).ok()
    }

    /// This node's desired state as of one moment.
    pub async fn read(&mut self) -> Result<DesiredState, SourceError> {
        let read = match &mut self.place {
            Place::Database(database) => database.read().await?,
            Place::Resource(resource) => resource.read().await?,
        };
        Ok(read.with_options(&self.options))
    }

    /// The last read is used.
    pub fn agree(&mut self) {
        if let Place::Resource(resource) = &mut self.place {
            resource.agree();
        }
    }

    /// What tells of changes after this moment.
    pub fn news(&self) -> SourceNews {
        match &self.place {
            Place::Database(_) => SourceNews(None),
            Place::Resource(resource) => SourceNews(Some(resource.news())),
        }
    }

    /// Writes what a database is to know, entry by entry. An object is told by [`Self::passed`].
    pub async fn report(&self, reports: &[NicReport], released: &[EntryId]) -> Result<(), SourceError> {
        match &self.place {
            Place::Database(database) => Ok(database.report(reports, released).await?),
            Place::Resource(_) => Ok(()),
        }
    }

    /// Tells an object what a pass found.
    pub fn passed(&self, facts: impl FnOnce() -> Facts, nothing_left: bool) {
        if let Place::Resource(resource) = &self.place {
            resource.passed(facts(), nothing_left);
        }
    }

    /// Tells an object that it is not used.
    pub fn refused(&mut self, refusal: Refusal, nothing_ours: bool) {
        if let Place::Resource(resource) = &mut self.place {
            resource.refused(refusal, nothing_ours);
        }
    }

    /// Waits until everything that was told is written.
    pub async fn finish(self) {
        if let Place::Resource(resource) = self.place {
            resource.finish().await;
        }
    }

    /// Its name for logs.
    pub fn place(&self) -> String {
        match &self.place {
            Place::Database(database) => database.place().to_string(),
            Place::Resource(resource) => resource.place(),
        }
    }
}
