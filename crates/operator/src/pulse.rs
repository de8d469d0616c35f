//! What the operator's loop shows of itself to probes and people.

use multinic_telemetry::pulse::Outcome;
use serde_json::{Value, json};

use crate::component::Phase;

/// Of the operator's loop.
pub type Pulse = multinic_telemetry::pulse::Pulse<Carried>;

/// The phase of the `MultiNicOperator`; none where there is no such object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried(pub Option<Phase>);

impl Outcome for Carried {
    fn is_degraded(&self) -> bool {
        self.0.is_some_and(|phase| phase != Phase::Running)
    }

    fn told(&self) -> (&'static str, Value) {
        ("phase", json!(self.0.map(Phase::as_str)))
    }
}
