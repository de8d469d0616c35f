//! What the controller's loop shows of itself to probes and people.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A loop that has not turned for so long is stuck: a pass is bounded by the time limits of its requests, and even
/// thousands of proofs of removal take less.
const STUCK: Duration = Duration::from_secs(1800);

/// Shared between the loop and the health pages.
#[derive(Debug)]
pub struct Pulse(Mutex<Beat>);

#[derive(Debug)]
struct Beat {
    turned: Instant,
    ready: usize,
    failing: usize,
    passed: bool,
    error: Option<String>,
}

impl Default for Pulse {
    fn default() -> Self {
        let beat = Beat { turned: Instant::now(), ready: 0, failing: 0, passed: false, error: None };
        Self(Mutex::new(beat))
    }
}

impl Pulse {
    /// The loop turned.
    pub fn turn(&self) {
        self.with(|beat| beat.turned = Instant::now());
    }

    /// A pass was made.
    pub fn passed(&self, ready: usize, failing: usize) {
        self.with(|beat| {
            *beat = Beat { turned: Instant::now(), ready, failing, passed: true, error: None };
        });
    }

    /// A pass failed as a whole.
    pub fn failed(&self, error: &impl std::fmt::Display) {
        self.with(|beat| {
            beat.turned = Instant::now();
            beat.error = Some(error.to_string());
        });
    }

    /// Whether the loop turns. A database or cloud that is down does not make restarting useful.
    pub fn live(&self) -> Result<(), String> {
        let age = self.with(|beat| beat.turned.elapsed());
        if age < STUCK { Ok(()) } else { Err(format!("the loop has not turned for {} s", age.as_secs())) }
    }

    /// Whether a first pass was made.
    pub fn ready(&self) -> Result<(), String> {
        self.with(|beat| match (&beat.error, beat.passed) {
            (_, true) => Ok(()),
            (Some(error), false) => Err(error.clone()),
            (None, false) => Err("the first pass is not done yet".to_owned()),
        })
    }

    /// The health document: `healthy`, `degraded` (a configuration fails), `unhealthy` (the last pass failed).
    pub fn document(&self) -> Value {
        self.with(|beat| {
            let status = match (&beat.error, beat.failing) {
                (Some(_), _) => "unhealthy",
                (None, 0) => "healthy",
                (None, _) => "degraded",
            };
            json!({
                "status": status,
                "error": beat.error,
                "configs": { "ready": beat.ready, "failing": beat.failing },
            })
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Beat) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
