//! What the metrics say of the database beside the operations on it: the connections at work, and the end of its certificate.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use multinic_store::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// How often the server is asked for its certificate.
const LOOK: Duration = Duration::from_secs(300);

/// Asked at each scrape.
#[derive(Debug)]
struct Database {
    store: Store,
    /// In seconds since 1970; 0 where there is none.
    certificate_end: Arc<AtomicI64>,
}

/// Registers the metrics. What is returned keeps them up to date, without an end.
pub fn watch(registry: &mut Registry, store: Store) -> impl Future<Output = ()> + Send + use<> {
    let end = Arc::<AtomicI64>::default();
    registry
        .register_collector(Box::new(Database { store: store.clone(), certificate_end: Arc::clone(&end) }));
    async move {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            match store.certificate_end().await {
                Ok(found) => end.store(found.map_or(0, Timestamp::as_second), Ordering::Relaxed),
                // What was last seen goes on being said: one that has ended is a reason for an error.
                Err(error) => tracing::debug!(error = %error, "the database's certificate is not seen"),
            }
        }
    }
}

impl Collector for Database {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name, help, value: i64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let at_work = self.store.connections_at_work();
        gauge(
            "multinic_active_db_connections",
            "Connections to the database that are at work",
            i64::try_from(at_work).unwrap_or(i64::MAX),
        )?;
        match self.certificate_end.load(Ordering::Relaxed) {
            0 => Ok(()),
            end => gauge(
                "multinic_database_certificate_end_timestamp_seconds",
                "When the certificate ends that the database shows to those who connect",
                end,
            ),
        }
    }
}
