//! The agent's metrics, under the names, types and labels that dashboards of the older agents know.

use std::time::Duration;

use multinic_core::InterfaceName;
use multinic_core::node::Drift;
use multinic_core::node::doctor::Finding;
use multinic_core::node::observed::Observed;
use multinic_core::node::preflight::Obstacle;
use multinic_host::backend::Backend;
use multinic_host::failures::Failed;
use multinic_host::{ROLLBACK_FAILED, ROLLED_BACK};
use multinic_telemetry::process::ProcessFigures;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds; the default buckets of the older agents' library.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// All labels of drift; `cidr` is an address with another prefix length, as the older agents had it.
const DRIFT_LABELS: [&str; 11] = [
    "missing_address",
    "ip_address",
    "cidr",
    "mtu",
    "name",
    "state",
    "file",
    MISSING_LINK,
    "route",
    "rule",
    "sysctl",
];
/// A NIC of ours that was there and is not: unplugged, or moved into a pod's namespace.
const MISSING_LINK: &str = "missing_link";

/// How a change, or a report of it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As desired, and verified.
    Success,
    /// Not.
    Failed,
}

impl Ending {
    fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }
}

/// What went wrong, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    /// An entry of the source, or a link's state, does not allow what is asked for.
    Validation,
    /// The kernel refused, or did not show what was asked for.
    Network,
    /// A file or the agent's own state.
    System,
    /// Something took too long.
    Timeout,
    /// A desired NIC is not on the node.
    NotFound,
    /// The source could not be read or written.
    Database,
}

impl ErrorType {
    /// The label, which is also the `error_type` of log lines.
    pub fn label(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Network => "network",
            Self::System => "system",
            Self::Timeout => "timeout",
            Self::NotFound => "not_found",
            Self::Database => "database",
        }
    }
}

/// What is asked of the database, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    /// The read of the desired state; the older agents' word for it.
    GetPending,
    /// The report.
    UpdateStatus,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InterfaceLabels {
    interface_name: String,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabel {
    query_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriftLabel {
    drift_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabel {
    error_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    code: &'static str,
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AgentLabels {
    version: &'static str,
    os_type: String,
    network_backend: &'static str,
    node_name: String,
}

/// The metrics. Clones feed the same numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    processed: Family<StatusLabel, Counter>,
    processing_duration: Family<InterfaceLabels, Histogram, fn() -> Histogram>,
    cycles: Counter,
    cycle_duration: Histogram,
    backoff_level: Gauge,
    db_connected: Gauge,
    query_duration: Family<QueryLabel, Histogram, fn() -> Histogram>,
    concurrent_tasks: Gauge,
    drifts: Family<DriftLabel, Counter>,
    deleted: Counter,
    errors: Family<ErrorLabel, Counter>,
    preflight_blocks: Family<ReasonLabel, Counter>,
    findings: Family<FindingLabels, Gauge>,
    rolled_back: Family<ReasonLabel, Gauge>,
    info: Family<AgentLabels, Gauge>,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Metrics {
    /// All metrics, and the registry that shows them. Every label that is known beforehand is there from the start,
    /// since a rate over a series that appears with its first event misses that event.
    pub fn new(node: &str, os_type: &str, backend: Backend) -> (Self, Registry) {
        let metrics = Self {
            processed: Family::default(),
            processing_duration: Family::new_with_constructor(histogram),
            cycles: Counter::default(),
            cycle_duration: histogram(),
            backoff_level: Gauge::default(),
            db_connected: Gauge::default(),
            query_duration: Family::new_with_constructor(histogram),
            concurrent_tasks: Gauge::default(),
            drifts: Family::default(),
            deleted: Counter::default(),
            errors: Family::default(),
            preflight_blocks: Family::default(),
            findings: Family::default(),
            rolled_back: Family::default(),
            info: Family::default(),
        };
        metrics.touch(node, os_type, backend);
        let registry = metrics.registry();
        (metrics, registry)
    }

    fn touch(&self, node: &str, os_type: &str, backend: Backend) {
        for ending in [Ending::Success, Ending::Failed] {
            drop(self.processed.get_or_create(&StatusLabel { status: ending.label() }));
        }
        for query in [Query::GetPending, Query::UpdateStatus] {
            drop(self.query_duration.get_or_create(&query_label(query)));
        }
        for drift_type in DRIFT_LABELS {
            drop(self.drifts.get_or_create(&DriftLabel { drift_type }));
        }
        for error in [
            ErrorType::Validation,
            ErrorType::Network,
            ErrorType::System,
            ErrorType::Timeout,
            ErrorType::NotFound,
            ErrorType::Database,
        ] {
            drop(self.errors.get_or_create(&ErrorLabel { error_type: error.label() }));
        }
        for obstacle in Obstacle::ALL {
            drop(self.preflight_blocks.get_or_create(&ReasonLabel { reason: obstacle.label() }));
        }
        self.rolled_back(std::iter::empty());
        let labels = AgentLabels {
            version: env!("CARGO_PKG_VERSION"),
            os_type: os_type.to_owned(),
            network_backend: backend.name(),
            node_name: node.to_owned(),
        };
        self.info.get_or_create(&labels).set(1);
    }

    /// A registry that shows them. There may be several: all show the same numbers.
    pub fn registry(&self) -> Registry {
        let Self {
            processed,
            processing_duration,
            cycles,
            cycle_duration,
            backoff_level,
            db_connected,
            query_duration,
            concurrent_tasks,
            drifts,
            deleted,
            errors,
            preflight_blocks,
            findings,
            rolled_back,
            info,
        } = self.clone();
        let mut whole = Registry::default();
        whole.register_collector(Box::new(ProcessFigures));
        let registry = whole.sub_registry_with_prefix("multinic");
        registry.register("interfaces_processed", "Changes to interfaces, by how they ended", processed);
        registry.register(
            "interface_processing_duration_seconds",
            "Time from the start of a change to its verification or rollback",
            processing_duration,
        );
        registry.register("polling_cycles", "Reads of the desired state, with what followed", cycles);
        registry.register("polling_cycle_duration_seconds", "Duration of such a cycle", cycle_duration);
        registry.register("polling_backoff_level", "Failed reads in a row; 0 is normal", backoff_level);
        registry.register(
            "db_connection_status",
            "Whether the last read of the database succeeded",
            db_connected,
        );
        registry.register(
            "db_query_duration_seconds",
            "Duration of database work, connecting included",
            query_duration,
        );
        registry.register("concurrent_tasks", "Changes being made right now", concurrent_tasks);
        registry.register(
            "configuration_drifts",
            "Ways in which an interface differed from its verified state",
            drifts,
        );
        registry.register("orphaned_interfaces_deleted", "Interfaces taken away", deleted);
        registry.register("errors", "Errors by type", errors);
        registry.register("preflight_up_block", "Links that were left alone, by reason", preflight_blocks);
        registry.register("host_findings", "What on the node would do harm, as last looked for", findings);
        registry.register(
            "rolled_back_interfaces",
            "Interfaces whose change was undone and was not made since, by the reason",
            rolled_back,
        );
        registry.register("agent_info", "The agent; always 1", info);
        whole
    }

    /// A change to an interface ended.
    pub fn changed(&self, name: Option<InterfaceName>, ending: Ending, took: Duration) {
        self.processed.get_or_create(&StatusLabel { status: ending.label() }).inc();
        if let Some(name) = name {
            let labels = InterfaceLabels { interface_name: name.to_string(), status: ending.label() };
            self.processing_duration.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    /// A cycle of read, change and report ended.
    pub fn cycle(&self, took: Duration) {
        self.cycles.inc();
        self.cycle_duration.observe(took.as_secs_f64());
    }

    /// So many reads in a row failed.
    pub fn backoff(&self, level: u32) {
        self.backoff_level.set(level.into());
    }

    /// Whether the last read succeeded.
    pub fn database(&self, connected: bool) {
        self.db_connected.set(connected.into());
    }

    /// The database was asked something.
    pub fn query(&self, query: Query, took: Duration) {
        self.query_duration.get_or_create(&query_label(query)).observe(took.as_secs_f64());
    }

    /// A change begins, or has ended.
    pub fn tasks(&self, at_work: u32) {
        self.concurrent_tasks.set(at_work.into());
    }

    /// An interface of ours differed from what was verified.
    pub fn drift(&self, drift: &Drift, observed: &Observed, link: Option<u32>) {
        let drift_type = drift_label(drift, observed, link);
        self.drifts.get_or_create(&DriftLabel { drift_type }).inc();
    }

    /// An interface of ours is not there any more.
    pub fn missing_link(&self) {
        self.drifts.get_or_create(&DriftLabel { drift_type: MISSING_LINK }).inc();
    }

    /// What was found on the node that would do harm.
    pub fn findings(&self, findings: &[Finding]) {
        self.findings.clear();
        for Finding { code, severity, .. } in findings {
            let labels = FindingLabels { code, severity: severity.label() };
            self.findings.get_or_create(&labels).inc();
        }
    }

    /// The changes that are still to be made and were undone, or could not be.
    pub fn rolled_back<'a>(&self, failed: impl Iterator<Item = &'a Failed>) {
        let reasons: Vec<&str> = failed.filter_map(undone_by).collect();
        for reason in ["failed", "agent_ended", "rollback_failed"] {
            let count = reasons.iter().filter(|found| **found == reason).count();
            let gauge = self.rolled_back.get_or_create(&ReasonLabel { reason });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// An interface was taken away.
    pub fn deletion(&self) {
        self.deleted.inc();
    }

    /// Something went wrong.
    pub fn error(&self, error: ErrorType) {
        self.errors.get_or_create(&ErrorLabel { error_type: error.label() }).inc();
    }

    /// A link was left alone.
    pub fn blocked(&self, obstacle: Obstacle) {
        self.preflight_blocks.get_or_create(&ReasonLabel { reason: obstacle.label() }).inc();
    }
}

/// Why a change was undone, or that it could not be; none where nothing was changed.
fn undone_by(failed: &Failed) -> Option<&'static str> {
    match failed.error.split(':').next() {
        _ if failed.undone => Some("agent_ended"),
        Some(ROLLBACK_FAILED) => Some("rollback_failed"),
        Some(ROLLED_BACK) => Some("failed"),
        _ => None,
    }
}

fn query_label(query: Query) -> QueryLabel {
    let query_type = match query {
        Query::GetPending => "get_pending",
        Query::UpdateStatus => "update_status",
    };
    QueryLabel { query_type }
}

fn drift_label(drift: &Drift, observed: &Observed, link: Option<u32>) -> &'static str {
    match drift {
        Drift::OnVlan(vlan, drift) => {
            let vlan = observed.by_name(&vlan.to_string()).map(|link| link.index);
            drift_label(drift, observed, vlan)
        }
        Drift::MissingAddress(net) => {
            let mut present = link.into_iter().flat_map(|index| observed.addresses_of(index));
            let other_prefix = present.any(|held| held.net.addr() == net.addr() && held.net != *net);
            if other_prefix { "cidr" } else { drift.label() }
        }
        other => other.label(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use multinic_core::node::doctor::Severity;

    use super::*;

    /// What labels are called, each with the values that it can have, as far as these are told.
    type Labels = BTreeMap<String, BTreeSet<String>>;

    /// What a page of metrics shows, by metric.
    fn shown(page: &str) -> BTreeMap<String, Labels> {
        let mut all: BTreeMap<String, Labels> = BTreeMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let sample = line.rsplit_once(' ').unwrap().0;
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let name =
                ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            let known = all.entry(name.to_owned()).or_default();
            let mut parts = labels.split('"');
            while let (Some(label), Some(value)) = (parts.next(), parts.next()) {
                let label = label.trim_matches([',', '=']);
                if label != "le" {
                    known.entry(label.to_owned()).or_default().insert(value.to_owned());
                }
            }
        }
        all
    }

    /// The second column of the row about a metric.
    fn documented(name: &str) -> Option<Labels> {
        let page = include_str!("../../../docs/operations.md");
        let rows = page.lines().map(|row| row.split('|').collect::<Vec<_>>());
        let row = rows
            .into_iter()
            .find(|row| row.get(1).is_some_and(|cell| cell.contains(&format!("`{name}`"))))?;
        let mut labels = Labels::new();
        let mut parts = row.get(2)?.trim().split('`').skip(1);
        while let Some(label) = parts.next() {
            let values = parts.next().and_then(|rest| rest.strip_prefix(" = ")).unwrap_or_default();
            let values = values.split([',', ';']).map(str::trim).filter(|value| !value.is_empty());
            labels.insert(label.to_owned(), values.map(str::to_owned).collect());
        }
        Some(labels)
    }

    #[test]
    fn the_documentation_has_every_metric_with_its_labels_and_all_their_values() {
        let (metrics, registry) = Metrics::new("worker-1", "ubuntu", Backend::Netplan);
        for ending in [Ending::Success, Ending::Failed] {
            metrics.changed("multinic0".parse().ok(), ending, Duration::from_millis(3));
        }
        let finding = |severity| Finding {
            code: "CatchAll",
            severity,
            mac: None,
            what: String::new(),
            place: String::new(),
            mend: String::new(),
        };
        metrics.findings(&[finding(Severity::Warn), finding(Severity::Refuse)]);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        let all = shown(&page);
        assert!(all.len() >= 16, "{all:#?}");
        for (name, labels) in all {
            let told = documented(&name).unwrap_or_else(|| panic!("{name} is in no row"));
            assert_eq!(told.keys().collect::<Vec<_>>(), labels.keys().collect::<Vec<_>>(), "{name}");
            for (label, values) in told.iter().filter(|(_, values)| !values.is_empty()) {
                assert_eq!(labels[label], *values, "{name}, {label}");
            }
        }
    }

    #[test]
    fn every_name_of_the_contract_is_there_before_anything_happens() {
        let (metrics, registry) = Metrics::new("worker-1", "ubuntu", Backend::Netplan);
        metrics.changed("multinic0".parse().ok(), Ending::Success, Duration::from_millis(3));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for sample in [
            "multinic_interfaces_processed_total{status=\"success\"} 1",
            "multinic_interfaces_processed_total{status=\"failed\"} 0",
            "multinic_interface_processing_duration_seconds_bucket{le=\"0.005\",interface_name=\"multinic0\",status=\"success\"} 1",
            "multinic_polling_cycles_total 0",
            "multinic_polling_cycle_duration_seconds_count 0",
            "multinic_polling_backoff_level 0",
            "multinic_db_connection_status 0",
            "multinic_db_query_duration_seconds_count{query_type=\"get_pending\"} 0",
            "multinic_concurrent_tasks 0",
            "multinic_configuration_drifts_total{drift_type=\"missing_address\"} 0",
            "multinic_configuration_drifts_total{drift_type=\"ip_address\"} 0",
            "multinic_configuration_drifts_total{drift_type=\"cidr\"} 0",
            "multinic_configuration_drifts_total{drift_type=\"mtu\"} 0",
            "multinic_configuration_drifts_total{drift_type=\"route\"} 0",
            "multinic_configuration_drifts_total{drift_type=\"rule\"} 0",
            "multinic_configuration_drifts_total{drift_type=\"sysctl\"} 0",
            "multinic_orphaned_interfaces_deleted_total 0",
            "multinic_errors_total{error_type=\"validation\"} 0",
            "multinic_agent_info{version=",
            "multinic_preflight_up_block_total{reason=\"has_ipv4\"} 0",
            "multinic_preflight_up_block_total{reason=\"enslaved\"} 0",
            "multinic_preflight_up_block_total{reason=\"has_routes\"} 0",
            "multinic_preflight_up_block_total{reason=\"default_route\"} 0",
            "process_resident_memory_bytes ",
        ] {
            assert!(text.contains(sample), "{sample}\n{text}");
        }
    }
}
