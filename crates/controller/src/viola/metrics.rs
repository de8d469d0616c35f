//! The metrics of the Viola API. Every label has few values: no name, address or id is one.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::apply::Outcome;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Done {
    result: &'static str,
}

/// Handles to all metrics; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<Answered, Counter>,
    nodes: Family<Done, Counter>,
    durations: Histogram,
}

/// From a refusal at once to a time limit.
const SECONDS: [f64; 9] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0];

impl Metrics {
    /// Registers all metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            nodes: Family::default(),
            durations: Histogram::new(SECONDS),
        };
        let Self { requests, nodes, durations } = metrics.clone();
        registry.register("multinic_viola_requests", "Posts of node configurations by HTTP status", requests);
        registry.register("multinic_viola_nodes", "Nodes that were posted, by what became of them", nodes);
        registry.register(
            "multinic_viola_request_duration_seconds",
            "Duration of posts of node configurations",
            durations,
        );
        metrics
    }

    /// A request was answered.
    pub fn answered(&self, code: u16, elapsed: Duration) {
        self.requests.get_or_create(&Answered { code }).inc();
        self.durations.observe(elapsed.as_secs_f64());
    }

    /// A batch was worked on.
    pub fn worked(&self, outcome: &Outcome) {
        for result in &outcome.results {
            self.nodes.get_or_create(&Done { result: result.status }).inc();
        }
        for _ in &outcome.errors {
            self.nodes.get_or_create(&Done { result: "failed" }).inc();
        }
    }
}
