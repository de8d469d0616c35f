//! The bound on requests in flight.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many requests may be in flight at once, over every cloud that shares the gate. Clones share the bound.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// Four: enough to hide the latency of a cloud, few enough that a fleet of configurations is no load on Neutron,
    /// whose API workers are about as many as its host has cores.
    pub const DEFAULT: usize = 4;

    /// A gate for `limit` requests, at least one.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// Waits for a place. It is held for one attempt of one request, never while something else is waited for.
    pub(crate) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.0.clone().acquire_owned().await.ok()
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(Self::DEFAULT)
    }
}
