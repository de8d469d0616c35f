//! The bound on requests in flight.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

/// How many requests may be in flight at once to one server (a host with its port), over all clients that share the gate.
/// A server that does not answer takes no other server's places. Clones share the bound.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Servers>);

/// A host with its port.
type Server = (String, Option<u16>);

#[derive(Debug)]
struct Servers {
    limit: usize,
    /// As many as clouds have services.
    known: Mutex<HashMap<Server, Arc<Semaphore>>>,
}

impl Gate {
    /// Four: enough to hide the latency of a cloud, few enough that a fleet of configurations is no load on Neutron,
    /// whose API workers are about as many as its host has cores.
    pub const DEFAULT: usize = 4;

    /// A gate for `limit` requests to each server, at least one.
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Servers { limit, known: Mutex::default() }))
    }

    /// Waits for a place. It is held for one attempt of one request, never while something else is waited for.
    pub(crate) async fn enter(&self, url: &Url) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.server(url).acquire_owned().await.ok()
    }

    fn server(&self, url: &Url) -> Arc<Semaphore> {
        let Servers { limit, known } = &*self.0;
        let server = (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default());
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(server).or_insert_with(|| Arc::new(Semaphore::new(*limit))))
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(Self::DEFAULT)
    }
}
