//! What the operator's loop shows of itself to probes and people.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A loop that has not turned for so long is stuck: it turns every few minutes, and each request of a pass has a time limit.
const STUCK: Duration = Duration::from_secs(1800);

/// Shared between the loop and the health pages.
#[derive(Debug)]
pub struct Pulse(Mutex<Beat>);

#[derive(Debug)]
struct Beat {
    turned: Instant,
    passed: bool,
    error: Option<String>,
    phase: Option<&'static str>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self(Mutex::new(Beat { turned: Instant::now(), passed: false, error: None, phase: None }))
    }
}

impl Pulse {
    /// A turn was made; `phase` is that of the `MultiNicOperator`, if there is one.
    pub(crate) fn passed(&self, phase: Option<&'static str>) {
        self.with(|beat| *beat = Beat { turned: Instant::now(), passed: true, error: None, phase });
    }

    /// A turn failed as a whole.
    pub(crate) fn failed(&self, error: String) {
        self.with(|beat| {
            beat.turned = Instant::now();
            beat.error = Some(error);
        });
    }

    /// Whether the loop turns. An API server that is down does not make restarting useful.
    pub fn live(&self) -> Result<(), String> {
        let age = self.with(|beat| beat.turned.elapsed());
        if age < STUCK { Ok(()) } else { Err(format!("the loop has not turned for {} s", age.as_secs())) }
    }

    /// Whether a first turn was made.
    pub fn ready(&self) -> Result<(), String> {
        self.with(|beat| match (&beat.error, beat.passed) {
            (_, true) => Ok(()),
            (Some(error), false) => Err(error.clone()),
            (None, false) => Err("the first turn is not done yet".to_owned()),
        })
    }

    /// The health document: `healthy`, `degraded` (the `MultiNicOperator` is not `Running`), `unhealthy` (the last turn failed).
    pub fn document(&self) -> Value {
        self.with(|beat| {
            let status = match (&beat.error, beat.phase) {
                (Some(_), _) => "unhealthy",
                (None, None | Some("Running")) => "healthy",
                (None, Some(_)) => "degraded",
            };
            json!({ "status": status, "error": beat.error, "phase": beat.phase })
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Beat) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
