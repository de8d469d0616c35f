//! Metrics of the controller's work with Kubernetes.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles to the metrics; clones share them.
#[derive(Debug, Clone, Default)]
pub struct ClusterMetrics {
    /// How often the watch of the configurations had to begin anew.
    pub watch_restarts: Counter,
    /// Whether this process leads: 1 or 0.
    pub leader: Gauge,
    /// How often this process became the leader.
    pub elections: Counter,
    /// Interfaces whose configuration is not there and was not deleted before our eyes.
    pub orphans: Gauge,
    /// Nodes whose objects are ahead of the ledger and lose nothing before clouds were read.
    pub ledger_stale: Gauge,
    deliveries: Family<DeliveryLabels, Counter>,
    status_writes: Family<ResultLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    sink: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl ClusterMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self { watch_restarts, leader, elections, orphans, ledger_stale, deliveries, status_writes } =
            metrics.clone();
        registry.register(
            "multinic_controller_watch_restarts",
            "Times that the watch of the OpenstackConfigs began anew",
            watch_restarts,
        );
        registry.register("multinic_controller_leader", "Whether this process leads", leader);
        registry.register(
            "multinic_controller_elections",
            "Times that this process became the leader",
            elections,
        );
        registry.register(
            "multinic_controller_orphaned_interfaces",
            "Published interfaces whose OpenstackConfig is not there and was not seen to be deleted",
            orphans,
        );
        registry.register(
            "multinic_controller_ledger_stale_nodes",
            "Nodes whose objects were written from another ledger or a newer state of this one, and lose nothing before \
             clouds were read",
            ledger_stale,
        );
        registry.register(
            "multinic_controller_deliveries",
            "Nodes delivered to a sink, by what became of it",
            deliveries,
        );
        registry.register(
            "multinic_controller_status_writes",
            "Writes of OpenstackConfigs' statuses",
            status_writes,
        );
        metrics
    }

    /// One node was delivered to a sink, or not.
    pub fn delivered(&self, sink: &'static str, result: &'static str) {
        self.deliveries.get_or_create(&DeliveryLabels { sink, result }).inc();
    }

    /// One status was written, or not.
    pub fn status_written(&self, succeeded: bool) {
        let result = if succeeded { "success" } else { "error" };
        self.status_writes.get_or_create(&ResultLabel { result }).inc();
    }
}
