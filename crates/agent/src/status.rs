//! What the agent tells about itself over HTTP: the health document and the probes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use jiff::Timestamp;
use multinic_host::backend::detect::Detected;
use multinic_telemetry::pages::HealthDocument;
use multinic_telemetry::uptime::uptime;
use serde_json::json;

/// How much longer than announced the loop may be silent before the process counts as stuck.
const LIVENESS_SLACK: Duration = Duration::from_secs(120);

/// What the loop tells, and what the pages show. Clones are the same board.
#[derive(Debug, Clone)]
pub struct StatusBoard {
    state: Arc<Mutex<State>>,
    network_manager: Arc<Detected>,
    started: Instant,
}

#[derive(Debug)]
struct State {
    expected_by: Instant,
    database: Result<(), String>,
    last_sync: Option<Timestamp>,
    worked_once: bool,
    counts: Counts,
    deleted: u64,
    held: Option<usize>,
}

/// The NICs of the last pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries that the source has for this node.
    pub entries: usize,
    /// Those of them that are not as desired.
    pub failed: usize,
}

impl StatusBoard {
    /// A process that has just started, on a node that keeps the configuration of its NICs like this.
    pub fn new(network_manager: Detected) -> Self {
        let now = Instant::now();
        let state = State {
            expected_by: now + LIVENESS_SLACK,
            database: Err("the source has not been read yet".to_owned()),
            last_sync: None,
            worked_once: false,
            counts: Counts::default(),
            deleted: 0,
            held: None,
        };
        Self { state: Arc::new(Mutex::new(state)), network_manager: Arc::new(network_manager), started: now }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and a health page is the wrong place to make more of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop turns, and means to be back within this time.
    pub fn back_within(&self, time: Duration) {
        self.state().expected_by = Instant::now() + time + LIVENESS_SLACK;
    }

    /// The source was read, and the read was used.
    pub fn read(&self) {
        let mut state = self.state();
        state.database = Ok(());
        state.last_sync = Some(Timestamp::now());
    }

    /// The source could not be read, or what it said could not be used.
    pub fn not_read(&self, why: String) {
        self.state().database = Err(why);
    }

    /// A pass over the node ended.
    pub fn pass(&self, counts: Counts) {
        let mut state = self.state();
        state.counts = counts;
        state.worked_once = true;
    }

    /// So many NICs of the node are ours, whether or not they are still wished.
    pub fn held(&self, count: usize) {
        self.state().held = Some(count);
    }

    /// A NIC was taken away.
    pub fn deletion(&self) {
        self.state().deleted += 1;
    }

    /// Whether the loop turns. A database that is down is no reason to restart the agent.
    pub fn live(&self) -> Result<(), String> {
        let late = Instant::now().checked_duration_since(self.state().expected_by);
        late.map_or(Ok(()), |late| Err(format!("the loop is {} late", uptime(late + LIVENESS_SLACK))))
    }

    /// Whether a read was used and the pass after it ended.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.state();
        match (&state.last_sync, state.worked_once) {
            (Some(_), true) => Ok(()),
            _ => Err("no pass over a verified read yet".to_owned()),
        }
    }

    /// The document: the flat keys that the older agents' documentation promises, and the nested ones that their code
    /// has.
    pub fn document(&self) -> HealthDocument {
        let state = self.state();
        let manager = &self.network_manager;
        let Counts { entries, failed } = state.counts;
        let connected = state.database.is_ok();
        let (word, status) = if !connected {
            ("unhealthy", StatusCode::SERVICE_UNAVAILABLE)
        } else if failed > 0 && failed * 2 >= entries {
            ("degraded", StatusCode::OK)
        } else {
            ("healthy", StatusCode::OK)
        };
        let uptime = uptime(self.started.elapsed());
        let now = format!("{:.0}", Timestamp::now());
        let last_sync = state.last_sync.map(|time| format!("{time:.0}"));
        let body = json!({
            "status": word,
            "uptime": uptime,
            "processed_vms": entries,
            "failed_configs": failed,
            "database_connected": connected,
            "last_sync": last_sync,
            "deleted_interfaces": state.deleted,
            "held_interfaces": state.held,
            "timestamp": now,
            "last_check": now,
            "components": {
                "database": { "healthy": connected, "error": state.database.as_ref().err() },
                "network_manager": {
                    "type": manager.backend.name(), "reason": manager.why, "os_type": manager.os_type
                },
            },
            "statistics": { "processed_vms": entries, "failed_configs": failed, "uptime": uptime },
        });
        HealthDocument { status, body }
    }
}

#[cfg(test)]
mod tests {
    use multinic_host::backend::Backend;

    use super::*;

    fn board() -> StatusBoard {
        let (why, os_type) = ("it is configured".to_owned(), "debian".to_owned());
        StatusBoard::new(Detected { backend: Backend::Networkd, why, os_type })
    }

    #[test]
    fn it_is_unhealthy_before_the_first_read_and_after_a_failed_one() {
        let board = board();
        assert_eq!(board.document().status, StatusCode::SERVICE_UNAVAILABLE);
        board.read();
        board.pass(Counts { entries: 2, failed: 0 });
        assert_eq!(board.document().body["status"], "healthy");
        board.not_read("connection refused".to_owned());
        let document = board.document();
        assert_eq!(document.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(document.body["components"]["database"]["error"], "connection refused");
        assert!(document.body["last_sync"].is_string());
        assert_eq!((board.live(), board.ready()), (Ok(()), Ok(())));
    }

    #[test]
    fn half_of_the_entries_failing_is_degraded_and_still_200() {
        let board = board();
        board.read();
        let word = |entries, failed| {
            board.pass(Counts { entries, failed });
            let document = board.document();
            assert_eq!(document.status, StatusCode::OK);
            document.body["status"].clone()
        };
        assert_eq!(word(4, 1), "healthy");
        assert_eq!(word(4, 2), "degraded");
        assert_eq!(word(0, 0), "healthy");
    }

    #[test]
    fn readiness_needs_a_pass_over_a_read() {
        let board = board();
        board.read();
        assert!(board.ready().is_err());
        board.pass(Counts::default());
        assert!(board.ready().is_ok());
    }

    #[test]
    fn how_many_are_held_is_not_known_before_a_pass_has_ended() {
        let board = board();
        board.read();
        let held = |board: &StatusBoard| board.document().body["held_interfaces"].clone();
        assert_eq!(held(&board), serde_json::Value::Null);
        board.held(0);
        assert_eq!(held(&board), 0);
    }

    #[test]
    fn the_flat_and_the_nested_keys_are_in_one_document() {
        let body = board().document().body;
        for key in [
            "status",
            "uptime",
            "processed_vms",
            "failed_configs",
            "database_connected",
            "last_sync",
            "deleted_interfaces",
            "held_interfaces",
            "timestamp",
            "last_check",
        ] {
            assert!(body.get(key).is_some(), "{key}");
        }
        assert_eq!(body["components"]["network_manager"]["type"], "networkd");
        assert_eq!(body["components"]["network_manager"]["reason"], "it is configured");
        assert_eq!(body["components"]["network_manager"]["os_type"], "debian");
        assert_eq!(body["statistics"]["processed_vms"], 0);
    }
}
