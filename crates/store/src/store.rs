//! The controller's side of the database.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use multinic_core::published::{Publication, Published};
use multinic_core::{ConfigKey, Interface};

use crate::error::{Place, StoreError};
use crate::mark::{Mark, Marker};
use crate::migrate::migrate;
use crate::publish::{PublishOutcome, publish};
use crate::purge::purge;
use crate::schema::SHARED;
use crate::session::{Arg, Connector, Pool, Session};
use crate::settings::DatabaseSettings;

/// How often a transaction is run again that the server sacrificed for another's.
const RACES: u32 = 4;

/// The database as the controller uses it. Clones share their connections.
#[derive(Clone)]
pub struct Store {
    settings: Arc<DatabaseSettings>,
    connector: Connector,
    pool: Pool,
    marker: Marker,
}

impl Store {
    /// Connects, and creates or upgrades the tables. A SQLite file is made if it is not there.
    pub async fn open(settings: &DatabaseSettings) -> Result<Self, StoreError> {
        let connector = Connector::new(settings, true);
        // A first connection outside the pool: the pool would hide a refused login behind its own time limit.
        let mut session = Session::connect(&connector, settings).await?;
        migrate(&mut session, &SHARED).await?;
        session.close().await;
        let pool = connector.clone().pool(settings);
        Ok(Self { settings: Arc::new(settings.clone()), connector, pool, marker: Marker::default() })
    }

    /// Creates what is missing in the tables. Writes nothing where nothing is.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        migrate(&mut self.session().await?, &SHARED).await
    }

    /// Reads everything that was published, as of one moment.
    ///
    /// Rows of older programs may lack parts: their `interface` is none. A row whose node name no node can have is
    /// left out with a warning, since no agent can ask for it.
    pub async fn published(&self) -> Result<Published, StoreError> {
        self.published_beside(&|_| None).await
    }

    /// The same beside interfaces that are `known` by their ports: what is equal is shared with them, and takes no memory of
    /// its own.
    pub async fn published_beside(
        &self,
        known: &(dyn Fn(&str) -> Option<Arc<Interface>> + Sync),
    ) -> Result<Published, StoreError> {
        let mut session = self.session().await?;
        session.begin_read().await?;
        let published = crate::published::read(&mut session, known).await?;
        session.commit().await?;
        Ok(published)
    }

    /// Tells whether anybody wrote something since an earlier mark: while it is the same, [`Self::published`] reads the same.
    /// No row is read.
    pub async fn mark(&self) -> Result<Mark, StoreError> {
        self.marker.mark(&self.connector, &self.pool, &self.settings).await
    }

    /// Publishes in one transaction: all of it or nothing. Only what differs is written; where nothing differs,
    /// nothing is.
    pub async fn publish(&self, publication: &Publication) -> Result<PublishOutcome, StoreError> {
        let mut races = 0;
        loop {
            let mut session = self.session().await?;
            match publish(&mut session, publication).await {
                Err(error) if error.lost_a_race() && races < RACES => races += 1,
                done => return done,
            }
        }
    }

    /// Deletes tombstones and removals that are older than this, and nodes and subnets that nothing names any more. Where
    /// removals have to be delivered, those stay that are not. Returns how many tombstones and removals went.
    pub async fn purge(&self, older_than: Duration, delivered: bool) -> Result<u64, StoreError> {
        let mut session = self.session().await?;
        session.begin_write().await?;
        let count = purge(&mut session, older_than, delivered).await?;
        session.commit().await?;
        Ok(count)
    }

    /// Forgets the spec hash of a configuration that is gone.
    pub async fn forget_config(&self, config: &ConfigKey) -> Result<(), StoreError> {
        let sql = "DELETE FROM cr_state WHERE cr_namespace = ? AND cr_name = ?";
        let args = vec![Arg::text(&config.namespace), Arg::text(&config.name)];
        self.session().await?.execute("forgetting a configuration", sql, args).await.map(drop)
    }

    /// The database's name for logs.
    pub fn place(&self) -> Place {
        self.settings.place()
    }

    /// How many connections are at work now, of the [`pool_size`](DatabaseSettings::pool_size) that there may be.
    pub fn connections_at_work(&self) -> u64 {
        let (size, idle) = match &self.pool {
            Pool::MySql(pool) => (pool.size(), pool.num_idle()),
            Pool::Sqlite(pool) => (pool.size(), pool.num_idle()),
        };
        u64::from(size).saturating_sub(idle.try_into().unwrap_or(u64::MAX))
    }

    /// When the certificate ends that the server shows to those who connect now. None without TLS, and where the server does not
    /// say it: MariaDB and MySQL do where they are linked with OpenSSL.
    pub async fn certificate_end(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut session = match &self.pool {
            Pool::Sqlite(_) => return Ok(None),
            // What a connection of the pool was shown may have been renewed since.
            Pool::MySql(_) => Session::connect(&self.connector, &self.settings).await?,
        };
        let mut end = None;
        session
            .each_row(
                "looking at the server's certificate",
                "SHOW SESSION STATUS LIKE 'Ssl_server_not_after'",
                Vec::new(),
                &mut |row| {
                    end = row.text(1)?.and_then(end_of_certificate);
                    Ok(())
                },
            )
            .await?;
        session.close().await;
        Ok(end)
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.marker.close().await;
        match &self.pool {
            Pool::MySql(pool) => pool.close().await,
            Pool::Sqlite(pool) => pool.close().await,
        }
    }

    /// The database's settings.
    pub(crate) fn settings(&self) -> &Arc<DatabaseSettings> {
        &self.settings
    }

    /// The connections.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) async fn session(&self) -> Result<Session, StoreError> {
        Session::from_pool(&self.pool, &self.settings).await
    }
}

/// Reads a time as OpenSSL says it: `Nov  2 09:30:00 2027 GMT`.
fn end_of_certificate(text: &str) -> Option<Timestamp> {
    let time = jiff::civil::DateTime::strptime("%b %d %H:%M:%S %Y GMT", text).ok()?;
    time.in_tz("UTC").ok().map(|time| time.timestamp())
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_as_openssl_says_it() {
        let end = |text| end_of_certificate(text).map(|end| end.to_string());
        assert_eq!(end("Nov  2 09:30:00 2027 GMT").as_deref(), Some("2027-11-02T09:30:00Z"));
        assert_eq!(end("Jan 31 23:59:59 2036 GMT").as_deref(), Some("2036-01-31T23:59:59Z"));
        assert_eq!(end(""), None);
    }
}
