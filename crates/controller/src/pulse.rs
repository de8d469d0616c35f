//! What the controller's loop shows of itself to probes and people.

use multinic_telemetry::pulse::Outcome;
use serde_json::{Value, json};

/// Of the controller's loop.
pub type Pulse = multinic_telemetry::pulse::Pulse<Counts>;

/// How configurations fared in a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that are as their spec wants it.
    pub ready: usize,
    /// Those that are not.
    pub failing: usize,
}

impl Outcome for Counts {
    fn is_degraded(&self) -> bool {
        self.failing > 0
    }

    fn told(&self) -> (&'static str, Value) {
        ("configs", json!({ "ready": self.ready, "failing": self.failing }))
    }
}
