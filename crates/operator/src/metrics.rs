//! The operator's metrics.

use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::apply::Change;
use crate::component::{Component, Phase};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    operator: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Which {
    component: &'static str,
    namespace: String,
    operator: String,
}

/// What became of a question of an API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It may be done.
    Allowed,
    /// It may, since somebody says that it must.
    Broken,
    /// It may not.
    Denied,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    operation: &'static str,
    decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Done {
    change: &'static str,
}

/// From a pass that finds all as it should be, to one against an API server that is slow.
const SECONDS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

/// Handles to all metrics; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    passes: Family<Outcome, Counter>,
    durations: Family<Of, Histogram, fn() -> Histogram>,
    components: Family<Which, Gauge>,
    changes: Family<Done, Counter>,
    decisions: Family<Decided, Counter>,
    protected: Family<Of, Gauge>,
    certificate_ends: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            passes: Family::default(),
            durations: Family::new_with_constructor(histogram),
            components: Family::default(),
            changes: Family::default(),
            decisions: Family::default(),
            protected: Family::default(),
            certificate_ends: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Shows all metrics in a registry. They may be in several.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "multinic_operator_reconcile",
            "Passes over a MultiNicOperator, by what came of them",
            self.passes.clone(),
        );
        registry.register(
            "multinic_operator_reconcile_duration_seconds",
            "How long a pass took, by MultiNicOperator",
            self.durations.clone(),
        );
        registry.register(
            "multinic_component_status",
            "Whether a component is ready (1) or not (0)",
            self.components.clone(),
        );
        registry.register(
            "multinic_operator_object_changes",
            "Objects that were made, changed or removed",
            self.changes.clone(),
        );
        registry.register(
            "multinic_protection_decisions",
            "Questions of API servers about objects of the operator, by what they were told",
            self.decisions.clone(),
        );
        registry.register(
            "multinic_protection_active",
            "Whether others are kept from changing what the operator made (1) or not (0)",
            self.protected.clone(),
        );
        registry.register(
            "multinic_webhook_certificate_end_timestamp_seconds",
            "When the certificate ends that the operator made for API servers; 0 for one of somebody else",
            self.certificate_ends.clone(),
        );
    }

    /// A pass was made.
    pub(crate) fn passed(&self, operator: &str, ok: bool, took: Duration) {
        let status = if ok { "success" } else { "error" };
        self.passes.get_or_create(&Outcome { status }).inc();
        self.durations.get_or_create(&Of { operator: operator.to_owned() }).observe(took.as_secs_f64());
    }

    /// A component is as it is.
    pub(crate) fn component(&self, name: &'static str, namespace: &str, operator: &str, is: &Component) {
        let which = Which { component: name, namespace: namespace.to_owned(), operator: operator.to_owned() };
        self.components.get_or_create(&which).set(i64::from(is.phase == Phase::Running));
    }

    /// A `MultiNicOperator` is not there any more.
    pub(crate) fn gone(&self) {
        self.components.clear();
        self.durations.clear();
        self.protected.clear();
    }

    /// An API server was answered.
    pub(crate) fn decided(&self, operation: &'static str, decision: Decision) {
        let decision = match decision {
            Decision::Allowed => "allowed",
            Decision::Broken => "broken",
            Decision::Denied => "denied",
        };
        self.decisions.get_or_create(&Decided { operation, decision }).inc();
    }

    /// Whether others are kept from changing things.
    pub(crate) fn protected(&self, operator: &str, is_active: bool) {
        self.protected.get_or_create(&Of { operator: operator.to_owned() }).set(i64::from(is_active));
    }

    /// When the operator's own certificate ends.
    pub(crate) fn certificate_ends(&self, at: Timestamp) {
        self.certificate_ends.set(at.as_second());
    }

    /// An object was written.
    pub(crate) fn changed(&self, change: Change) {
        let change = match change {
            Change::Made => "made",
            Change::Changed => "changed",
            Change::Removed => "removed",
        };
        self.changes.get_or_create(&Done { change }).inc();
    }
}
