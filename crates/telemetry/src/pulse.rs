//! What the loop of a process shows of itself to probes and people.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use crate::pages::{HealthDocument, Pages};

/// A loop that has not turned for so long is stuck: a pass is bounded by the time limits of its requests, and even thousands of
/// them take less.
const STUCK: Duration = Duration::from_secs(1800);

/// What a pass came to; the default is what is told before there was one.
pub trait Outcome: Default + Send + 'static {
    /// Whether something is not as it should be although the pass was made.
    fn is_degraded(&self) -> bool;

    /// What the health document says of it: a key and its value.
    fn told(&self) -> (&'static str, Value);
}

/// Shared between the loop and the pages.
#[derive(Debug)]
pub struct Pulse<T>(Mutex<Beat<T>>);

#[derive(Debug)]
struct Beat<T> {
    turned: Instant,
    passed: bool,
    last: T,
    error: Option<String>,
}

impl<T: Default> Default for Pulse<T> {
    fn default() -> Self {
        Self(Mutex::new(Beat { turned: Instant::now(), passed: false, last: T::default(), error: None }))
    }
}

impl<T: Outcome> Pulse<T> {
    /// The loop turned.
    pub fn turn(&self) {
        self.with(|beat| beat.turned = Instant::now());
    }

    /// A pass was made.
    pub fn passed(&self, last: T) {
        self.with(|beat| *beat = Beat { turned: Instant::now(), passed: true, last, error: None });
    }

    /// A pass failed as a whole.
    pub fn failed(&self, error: &impl std::fmt::Display) {
        self.with(|beat| {
            beat.turned = Instant::now();
            beat.error = Some(error.to_string());
        });
    }

    /// Whether the loop turns. What is down elsewhere does not make restarting useful.
    ///
    /// # Errors
    /// Where it does not: how long.
    pub fn live(&self) -> Result<(), String> {
        let age = self.with(|beat| beat.turned.elapsed());
        if age < STUCK { Ok(()) } else { Err(format!("the loop has not turned for {} s", age.as_secs())) }
    }

    /// Whether a first pass was made.
    ///
    /// # Errors
    /// Where it was not: why, if that is known.
    pub fn ready(&self) -> Result<(), String> {
        self.with(|beat| match (&beat.error, beat.passed) {
            (_, true) => Ok(()),
            (Some(error), false) => Err(error.clone()),
            (None, false) => Err("the first pass is not done yet".to_owned()),
        })
    }

    /// The health document: `healthy`, `degraded`, or `unhealthy` (the last pass failed).
    pub fn document(&self) -> Value {
        self.with(|beat| {
            let status = match &beat.error {
                Some(_) => "unhealthy",
                None if beat.last.is_degraded() => "degraded",
                None => "healthy",
            };
            let (key, value) = beat.last.told();
            json!({ "status": status, "error": beat.error, key: value })
        })
    }

    /// The pages that show it, with these metrics.
    pub fn pages(self: &Arc<Self>, registry: Registry) -> Pages {
        let [live, ready, health] = [Arc::clone(self), Arc::clone(self), Arc::clone(self)];
        Pages {
            registry,
            live: Box::new(move || live.live()),
            ready: Box::new(move || ready.ready()),
            health: Box::new(move || HealthDocument::ok(health.document())),
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Beat<T>) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Failing(usize);

    impl Outcome for Failing {
        fn is_degraded(&self) -> bool {
            self.0 > 0
        }

        fn told(&self) -> (&'static str, Value) {
            ("failing", json!(self.0))
        }
    }

    #[test]
    fn what_is_shown_follows_the_passes() {
        let pulse = Pulse::<Failing>::default();
        assert!(pulse.ready().is_err() && pulse.live().is_ok());
        pulse.failed(&"no database");
        assert_eq!(pulse.ready(), Err("no database".to_owned()));
        pulse.passed(Failing(1));
        assert_eq!(pulse.document(), json!({ "status": "degraded", "error": null, "failing": 1 }));
        pulse.failed(&"no database");
        assert_eq!(pulse.document(), json!({ "status": "unhealthy", "error": "no database", "failing": 1 }));
        assert!(pulse.ready().is_ok());
        pulse.passed(Failing(0));
        assert_eq!(pulse.document()["status"], "healthy");
    }
}
