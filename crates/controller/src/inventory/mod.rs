//! The inventory: what was published for each node, and what became of it, over HTTP.
//!
//! * [`settings`]: flags, environment variables, defaults.
//! * [`access`]: who may read.
//! * [`http`]: the paths of both generations of the older program, paging, tags, the watch, the API's description.
//! * [`reports`]: what agents report, beside what was published.
//! * [`server`]: connections, TLS, and the end of readers that do not read.
//!
//! It is written by the replica that leads and served by every one: [`Inventory::serve`] waits for no election. One that
//! keeps it in a file of its own and does not lead answers 503, since its file is of the day when it led last. It is read-only
//! over HTTP.

pub mod access;
pub mod http;
pub mod reports;
pub mod server;
pub mod settings;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multinic_store::inventory::{
    Entry, ImportError, InventoryStore, NodeObservation, Observed, RecordKey, Written,
};
use multinic_store::{Store, StoreError};
use multinic_telemetry::connections::{self, Tls};
use multinic_telemetry::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::watch;

use access::{Access, AccessError};
use server::{Limits, TlsError};
use settings::InventoryArgs;

/// How often those who watch learn of another replica's changes: one row is read, and only while somebody watches.
const POLL: Duration = Duration::from_secs(1);

/// Why there is no inventory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InventoryError {
    /// The folder of the SQLite file.
    #[error("INVENTORY_DB_PATH: the folder {} cannot be made: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database.
    #[error("the inventory cannot be kept: {0}")]
    Store(#[from] StoreError),
    /// An older program's file.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Tokens.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port.
    #[error("cannot listen on {address} for the inventory: {source}; choose another INVENTORY_ADDR")]
    Bind {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
}

/// The inventory. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Inventory {
    store: Option<InventoryStore>,
    access: Arc<Access>,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    /// The last revision that this process knows of.
    revision: Arc<watch::Sender<u64>>,
    /// Whether it is in a file that no other process writes to.
    own_file: bool,
    /// Whether what is in it is what there is.
    current: Arc<watch::Sender<bool>>,
    /// Nodes whose records were written and may have been observed before; no more of them than the fleet has.
    fresh: Arc<Mutex<BTreeSet<String>>>,
}

/// Changes the store, if there is one, and tells those who watch. Not a function of a closure: the compiler would not see
/// that the future can go from one thread to another.
macro_rules! told {
    ($inventory:ident, $store:ident => $change:expr) => {{
        let Some($store) = &$inventory.store else { return Ok(Written::default()) };
        let written = $change.await;
        if let Ok(Written { revision: Some(revision), .. }) = &written {
            $inventory.heard_of(*revision);
        }
        written
    }};
}

impl Inventory {
    /// Opens the inventory: beside the shared tables where those are on a server, so that replicas agree, else in its
    /// SQLite file. Takes an older program's file in. One that is turned off keeps nothing.
    pub async fn open(settings: &InventoryArgs, database: Option<&Store>) -> Result<Self, InventoryError> {
        let store = match database {
            _ if !settings.inventory_enabled => None,
            Some(database) if database.is_server() => Some(InventoryStore::beside(database).await?),
            _ => Some(open_file(&settings.database_path()).await?),
        };
        if let Some(store) = &store
            && let Some(imported) = store.import(&settings.old_path()).await?
        {
            tracing::info!(
                records = imported.found, new = imported.written, file = %imported.kept.display(),
                "an older program's inventory was taken in; its file is kept"
            );
        }
        let access = Access::of(settings).await?;
        let tls = settings.inventory_tls_cert_file.clone().zip(settings.inventory_tls_key_file.clone());
        let tls = tls.map(|(certificate, key)| server::tls_files(certificate, key)).transpose()?;
        Ok(Self {
            store,
            access: Arc::new(access),
            tls: tls.map(Arc::new),
            limits: Limits::default(),
            revision: Arc::new(watch::Sender::new(0)),
            own_file: !database.is_some_and(Store::is_server),
            current: Arc::new(watch::Sender::new(true)),
            fresh: Arc::default(),
        })
    }

    /// Judges readers in another way than the settings say.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = Arc::new(access);
        self
    }

    /// Other limits than the default ones.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Says whether this process writes to it from now on, or another one: a file of its own is out of date then, and nobody
    /// gets to see it.
    pub fn is_written(&self, here: bool) {
        self.current.send_replace(here || !self.own_file);
    }

    /// The tables, unless the inventory is turned off.
    pub fn store(&self) -> Option<&InventoryStore> {
        self.store.as_ref()
    }

    /// Brings records up to these; writes what differs. Call it with what was published.
    pub async fn apply(&self, entries: &[Entry]) -> Result<Written, StoreError> {
        let written = told!(self, store => store.apply(entries));
        if written.as_ref().is_ok_and(|written| written.records > 0) {
            self.fresh().extend(entries.iter().map(|entry| entry.key().node_name.clone()));
        }
        written
    }

    /// Takes the records of nodes away that are gone.
    pub async fn remove(&self, keys: &[RecordKey]) -> Result<Written, StoreError> {
        told!(self, store => store.remove(keys))
    }

    /// Takes every record of a provider away whose node is not among these. The list must be complete: a read that
    /// failed is no evidence that a node is gone.
    pub async fn prune(&self, provider: &str, keep: &BTreeSet<String>) -> Result<Written, StoreError> {
        told!(self, store => store.prune(provider, keep))
    }

    /// Sets what a node's status says, for controllers that read it from a `MultiNicNodeConfig`. Writes only where it
    /// says something else than before.
    pub async fn observe(
        &self,
        provider: &str,
        node: &str,
        observed: &Observed,
    ) -> Result<Written, StoreError> {
        told!(self, store => store.observe(provider, node, observed))
    }

    /// The same for nodes that are known by name and server, whatever their provider.
    pub async fn observe_nodes(&self, nodes: &[NodeObservation]) -> Result<Written, StoreError> {
        told!(self, store => store.observe_nodes(nodes))
    }

    fn heard_of(&self, revision: u64) {
        self.revision.send_if_modified(|known| {
            let news = *known < revision;
            *known = revision.max(*known);
            news
        });
    }

    /// Nodes whose records were written and may have been observed before.
    fn fresh(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the port that the settings name.
    pub async fn bind(&self, settings: &InventoryArgs) -> Result<TcpListener, InventoryError> {
        let address = settings.address();
        let listener = address.bind().await;
        let listener =
            listener.map_err(|source| InventoryError::Bind { address: address.to_string(), source })?;
        if !settings.asks_for_tokens() && !address.is_loopback() {
            tracing::warn!(
                %address,
                "the inventory is open to everybody who reaches it: set INVENTORY_TOKEN_FILE or INVENTORY_TOKEN_REVIEW"
            );
        }
        Ok(listener)
    }

    /// Answers until a stop is requested; then readers have a moment to take what they asked for.
    pub async fn serve(&self, listener: TcpListener, shutdown: Shutdown) {
        let router = http::router(self, shutdown.clone());
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, tls = self.tls.is_some(), "the inventory is served");
        }
        let poll = self.poll();
        let limits = self.limits.of_connections();
        let serve = connections::serve("inventory", listener, router, self.tls.clone(), limits, shutdown);
        tokio::select! {
            () = serve => (),
            () = poll => (),
        }
    }

    /// Learns of other replicas' changes while somebody watches.
    async fn poll(&self) {
        let Some(store) = &self.store else { return std::future::pending().await };
        loop {
            tokio::time::sleep(POLL).await;
            if self.revision.receiver_count() == 0 {
                continue;
            }
            match store.position().await {
                Ok(position) => self.heard_of(position.revision),
                Err(error) => tracing::warn!(%error, "the inventory's revision cannot be read"),
            }
        }
    }
}

async fn open_file(path: &Path) -> Result<InventoryStore, InventoryError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|source| InventoryError::Folder { path: folder.to_owned(), source })?;
    }
    Ok(InventoryStore::open(path).await?)
}
