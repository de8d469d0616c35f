//! What was published, with what became of it, for people and programs to read.
//!
//! One [`Record`] per provider and node: the configuration as it was sent, and what the node's agent saw. Every change
//! of a record has a revision of its own, so that a reader can ask for what changed since, and one number says whether
//! anything did. Records are written only when they change.
//!
//! They live in a SQLite file of their own, or beside the shared tables on a MariaDB or MySQL server, where every
//! replica of the controller sees the same.

mod hash;
mod import;
mod observed;
mod read;
mod record;
mod write;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Place, StoreError};
use crate::migrate::migrate;
use crate::schema::INVENTORY;
use crate::session::{Connector, Pool, Session};
use crate::settings::{DatabaseSettings, Target};
use crate::store::Store;

pub use hash::{go_json, node_hash};
pub use import::{ImportError, Imported};
pub use observed::{NodeObservation, Observed, ObservedInterface};
pub use read::{Change, NodeSummary, Page, Position, ProviderSummary};
pub use record::{Entry, EntryError, Filter, Record, RecordKey};
pub use write::Written;

/// How many records one page holds at most.
pub const MAX_PAGE: u32 = 1000;
/// How often a transaction is run again that the server sacrificed for another's.
const RACES: u32 = 4;
/// How long a record that is gone can still be told to those who watch.
pub const TOMBSTONES: Duration = Duration::from_secs(24 * 3600);

/// The inventory's tables. Clones share their connections.
#[derive(Clone)]
pub struct InventoryStore {
    settings: Arc<DatabaseSettings>,
    pool: Pool,
    tombstones: Duration,
}

/// Runs a transaction, again if the server sacrificed it for another's. Not a function of a closure: the compiler would not
/// see that the future can go from one thread to another.
macro_rules! racing {
    ($store:ident, $session:ident => $act:expr) => {{
        let mut races = 0;
        loop {
            let $session = &mut $store.session().await?;
            match $act.await {
                Err(error) if error.lost_a_race() && races < RACES => races += 1,
                done => break done,
            }
        }
    }};
}

impl InventoryStore {
    /// Opens a SQLite file; makes it, readable by its owner alone, where it is not there. Its folder must be.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let settings = DatabaseSettings::sqlite(path);
        make_private(path, &settings)?;
        let connector = Connector::new(&settings, true);
        let mut session = Session::connect(&connector, &settings).await?;
        migrate(&mut session, &INVENTORY).await?;
        session.close().await;
        Ok(Self { pool: connector.pool(&settings), settings: Arc::new(settings), tombstones: TOMBSTONES })
    }

    /// Keeps the records beside the shared tables, over the same connections.
    pub async fn beside(store: &Store) -> Result<Self, StoreError> {
        migrate(&mut store.session().await?, &INVENTORY).await?;
        let (settings, pool) = (store.settings().clone(), store.pool().clone());
        Ok(Self { settings, pool, tombstones: TOMBSTONES })
    }

    /// Keeps what is gone for those who watch for as long as this, in place of [`TOMBSTONES`].
    #[must_use]
    pub fn keep_tombstones(mut self, duration: Duration) -> Self {
        self.tombstones = duration;
        self
    }

    /// Brings records up to these. One that is as it should be is not written; the others get a new `updated_at` and
    /// revision. What was observed of a node stays, unless the node is another server now.
    pub async fn apply(&self, entries: &[Entry]) -> Result<Written, StoreError> {
        racing!(self, session => write::apply(session, entries))
    }

    /// Takes records away.
    pub async fn remove(&self, keys: &[RecordKey]) -> Result<Written, StoreError> {
        racing!(self, session => write::remove(session, keys, self.tombstones))
    }

    /// Takes every record of this provider away whose node is not among these. Call it only with a complete list: a
    /// read that failed or is partial is no evidence that a node is gone.
    pub async fn prune(&self, provider: &str, keep: &BTreeSet<String>) -> Result<Written, StoreError> {
        racing!(self, session => write::prune(session, provider, keep, self.tombstones))
    }

    /// Sets what was observed of one node. Does nothing where the record is not there or already says so.
    pub async fn observe(
        &self,
        provider: &str,
        node: &str,
        observed: &Observed,
    ) -> Result<Written, StoreError> {
        let key = RecordKey { provider_id: provider.to_owned(), node_name: node.to_owned() };
        {
            let nodes = [(key, observed.clone())];
            racing!(self, session => write::observe(session, &nodes))
        }
    }

    /// Sets what was observed of nodes that are known by name and server: every provider's record of that node.
    pub async fn observe_nodes(&self, nodes: &[NodeObservation]) -> Result<Written, StoreError> {
        racing!(self, session => write::observe_nodes(session, nodes))
    }

    /// Takes an older program's `inventory.json` in, once, and sets the file aside as `inventory.json.imported`. A
    /// record that is here already stays. None where there is no such file.
    pub async fn import(&self, path: &Path) -> Result<Option<Imported>, ImportError> {
        let Some(old) = import::read(path)? else { return Ok(None) };
        let written = self.add_old(&old).await;
        let written = written.map_err(|source| ImportError::Store { path: path.to_owned(), source })?;
        let kept = import::set_aside(path)?;
        Ok(Some(Imported { found: old.len(), written: written.records, kept }))
    }

    async fn add_old(&self, old: &[import::OldRecord]) -> Result<Written, StoreError> {
        racing!(self, session => write::import(session, old))
    }

    /// How far the store is: cheap, one row of three.
    pub async fn position(&self) -> Result<Position, StoreError> {
        read::position(&mut self.session().await?).await
    }

    /// Records in the order of provider and node, after `after`, `limit` of them at most.
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<&RecordKey>,
        limit: u32,
    ) -> Result<Page, StoreError> {
        read::list(&mut self.session().await?, filter, after, limit).await
    }

    /// The providers with their nodes, in order.
    pub async fn providers(&self) -> Result<Vec<ProviderSummary>, StoreError> {
        let mut session = self.session().await?;
        session.begin_read().await?;
        let providers = read::providers(&mut session).await?;
        session.commit().await?;
        Ok(providers)
    }

    /// What changed after a revision, in the order of revisions, `limit` changes at most. Of a record that changed
    /// several times, the last change.
    pub async fn changes(&self, after: u64, limit: u32) -> Result<Vec<Change>, StoreError> {
        read::changes(&mut self.session().await?, after, limit).await
    }

    /// The database's name for logs.
    pub fn place(&self) -> Place {
        self.settings.place()
    }

    /// Closes the connections; those of the shared tables too, if they are shared.
    pub async fn close(&self) {
        match &self.pool {
            Pool::MySql(pool) => pool.close().await,
            Pool::Sqlite(pool) => pool.close().await,
        }
    }

    async fn session(&self) -> Result<Session, StoreError> {
        Session::from_pool(&self.pool, &self.settings).await
    }
}

impl Store {
    /// Whether other machines can reach this database too.
    pub fn is_server(&self) -> bool {
        matches!(self.settings().target, Target::MySql { .. })
    }

    /// What agents reported, of the nodes whose rows changed at or after `since`, and of those
    /// named by `also`; of every node where `since` is none.
    /// The second value is the `since` of the next call; it lies a little back, so that nothing that is being written
    /// at this moment is missed.
    pub async fn observations(
        &self,
        since: Option<&str>,
        also: &[String],
    ) -> Result<(Vec<NodeObservation>, String), StoreError> {
        let mut session = self.session().await?;
        session.begin_read().await?;
        let found = observed::read(&mut session, since, also).await?;
        session.commit().await?;
        Ok(found)
    }
}

impl std::fmt::Debug for InventoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InventoryStore").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Addresses and MACs of a whole fleet are not for every user of the machine.
fn make_private(path: &Path, settings: &DatabaseSettings) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(StoreError::Unreachable { place: settings.place(), source: sqlx::Error::Io(error) })
        }
        _ => Ok(()),
    }
}
