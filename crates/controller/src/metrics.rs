//! The controller's metrics. Every label has few values: no name, address or id is one.

use std::sync::Arc;
use std::time::Duration;

use multinic_core::fleet::Held;
use multinic_openstack::Observer;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::pass::Written;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    operation: &'static str,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Change {
    change: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Readiness {
    ready: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Looked {
    result: &'static str,
}

type Durations = Family<Call, Histogram, fn() -> Histogram>;

/// Handles to all metrics; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    openstack: Durations,
    database: Durations,
    looks: Family<Looked, Counter>,
    passes: Histogram,
    written: Family<Change, Counter>,
    configs: Family<Readiness, Gauge>,
    held: Gauge,
}

/// From a fast answer on loopback to a time limit.
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    /// Registers all metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            openstack: Family::new_with_constructor(histogram),
            database: Family::new_with_constructor(histogram),
            looks: Family::default(),
            passes: histogram(),
            written: Family::default(),
            configs: Family::default(),
            held: Gauge::default(),
        };
        let Self { openstack, database, looks, passes, written, configs, held } = metrics.clone();
        registry.register(
            "multinic_openstack_request_duration_seconds",
            "Duration of requests to OpenStack by operation and HTTP status (0: no answer)",
            openstack,
        );
        registry.register(
            "multinic_database_operation_duration_seconds",
            "Duration of database operations",
            database,
        );
        registry.register("multinic_controller_cloud_looks", "Looks at clouds by what they came to", looks);
        registry.register(
            "multinic_controller_pass_duration_seconds",
            "Duration of a pass over the fleet",
            passes,
        );
        registry.register(
            "multinic_controller_interfaces_written",
            "Interfaces added, changed and removed",
            written,
        );
        registry.register("multinic_controller_configs", "OpenstackConfigs by readiness", configs);
        registry.register("multinic_controller_removals_held", "Removals that wait for a person", held);
        metrics
    }

    /// For the clients of all clouds.
    pub fn observer(&self) -> Observer {
        let durations = self.openstack.clone();
        Arc::new(move |operation, status, duration: Duration| {
            let call = Call { operation, status: status.to_string() };
            durations.get_or_create(&call).observe(duration.as_secs_f64());
        })
    }

    /// One operation of the database.
    pub fn database(&self, operation: &'static str, succeeded: bool, duration: Duration) {
        let status = if succeeded { "success" } else { "error" }.to_owned();
        self.database.get_or_create(&Call { operation, status }).observe(duration.as_secs_f64());
    }

    /// One look at a configuration's cloud: whether it was found as it was before; none where that failed.
    pub fn look(&self, same: Option<bool>) {
        let result = match same {
            Some(true) => "same",
            Some(false) => "other",
            None => "failed",
        };
        self.looks.get_or_create(&Looked { result }).inc();
    }

    /// One pass, with how many configurations are as their spec wants it and how many are not.
    pub fn pass(
        &self,
        duration: Duration,
        (ready, failing): (usize, usize),
        written: &Written,
        held: Option<&Held>,
    ) {
        self.passes.observe(duration.as_secs_f64());
        for (change, count) in
            [("added", written.added), ("changed", written.changed), ("removed", written.removed)]
        {
            self.written.get_or_create(&Change { change }).inc_by(count);
        }
        for (label, count) in [("true", ready), ("false", failing)] {
            self.configs.get_or_create(&Readiness { ready: label }).set(count.try_into().unwrap_or(i64::MAX));
        }
        self.held.set(held.map_or(0, |held| held.count.try_into().unwrap_or(i64::MAX)));
    }
}
