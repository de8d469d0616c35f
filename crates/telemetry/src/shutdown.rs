//! SIGTERM and SIGINT as a value to wait for.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Told when the process is to stop. Clones are told together.
#[derive(Debug, Clone)]
pub struct Shutdown {
    requested: watch::Receiver<bool>,
}

/// Asks for a stop from within the process.
#[derive(Debug)]
pub struct ShutdownRequest {
    request: watch::Sender<bool>,
}

impl Shutdown {
    /// Listens for SIGTERM (Kubernetes, systemd) and SIGINT (a terminal). Must be called within a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (request, shutdown) = Self::by_hand();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping; the change at hand is finished first");
            request.now();
        });
        Ok(shutdown)
    }

    /// One that is requested by a call.
    pub fn by_hand() -> (ShutdownRequest, Self) {
        let (request, requested) = watch::channel(false);
        (ShutdownRequest { request }, Self { requested })
    }

    /// Returns once a stop is requested.
    pub async fn requested(&mut self) {
        if self.requested.wait_for(|requested| *requested).await.is_err() {
            // Nobody is left who could ask: that is not a request.
            std::future::pending::<()>().await;
        }
    }

    /// Whether a stop was requested, as far as the runtime has heard of it.
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Whether a stop was requested by now. Work that does not wait for anything keeps a runtime of one thread from
    /// hearing of signals; this lets it listen.
    pub async fn is_requested_by_now(&self) -> bool {
        // First the signal is taken in, which wakes the task that waits for it; then that task runs.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        self.is_requested()
    }
}

impl ShutdownRequest {
    /// Requests the stop.
    pub fn now(&self) {
        self.request.send_replace(true);
    }
}
