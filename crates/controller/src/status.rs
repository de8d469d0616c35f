//! What a pass came to for one configuration, in the form that people and programs read.

use jiff::Timestamp;
use multinic_core::fleet::Problem;
use multinic_core::fleet::pace::DownPortRetry;
use serde::{Deserialize, Serialize};

/// The status of one configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// `Ready` and `Degraded`.
    pub conditions: Vec<Condition>,
    /// When the published state was last known to agree with the cloud.
    pub last_synced_at: Option<Timestamp>,
    /// The message of the last failure; empty on success.
    pub last_error: String,
    /// Everything that could not be done as the spec wants it.
    pub problems: Vec<String>,
    /// How often ports that are DOWN were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_port_retry: Option<DownPortRetry>,
    /// How many interfaces are published from this configuration.
    pub interfaces: usize,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready` or `Degraded`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// A stable CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
}

/// What a pass came to for one configuration.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// What the cloud shows is published.
    Published {
        /// Whether the cloud was read in this pass; otherwise the last read still stands.
        current: bool,
        /// How many interfaces of this configuration are published now.
        interfaces: usize,
        /// Whether the pass changed something that is published.
        changed: bool,
        /// What could not be done as the spec wants it.
        problems: Vec<Problem>,
    },
    /// Something failed as a whole; what was published stays.
    Failed {
        /// A stable CamelCase word.
        reason: &'static str,
        /// What failed, on what, why.
        message: String,
    },
}

impl Outcome {
    /// Whether everything is as the spec wants it.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Published { problems, .. } => !problems.iter().any(|problem| problem.reason.is_error()),
            Self::Failed { .. } => false,
        }
    }
}

impl Status {
    /// Brings the status up to an outcome. What has not changed keeps its times.
    pub fn follow(&mut self, outcome: &Outcome, down: Option<DownPortRetry>, now: Timestamp) {
        let (ready, reason, message) = match outcome {
            Outcome::Published { current, interfaces, changed, problems } => {
                self.interfaces = *interfaces;
                self.problems = problems.iter().map(ToString::to_string).collect();
                self.down_port_retry = down;
                match problems.iter().find(|problem| problem.reason.is_error()) {
                    Some(first) => {
                        let more = problems.iter().filter(|problem| problem.reason.is_error()).count() - 1;
                        let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
                        (false, first.reason.as_str(), format!("{}: {}{more}", first.subject, first.message))
                    }
                    None => {
                        if *current {
                            self.last_synced_at = Some(now);
                        }
                        let reason = if *changed { "Synced" } else { "NoChange" };
                        let message = if *changed {
                            format!("{interfaces} interface(s) published")
                        } else {
                            "no changes detected".to_owned()
                        };
                        (true, reason, message)
                    }
                }
            }
            Outcome::Failed { reason, message } => (false, *reason, message.clone()),
        };
        self.last_error = if ready { String::new() } else { message.clone() };
        self.condition("Ready", ready, reason, &message, now);
        if ready {
            self.condition("Degraded", false, "Healthy", "controller healthy", now);
        } else {
            self.condition("Degraded", true, "Error", &message, now);
        }
    }

    fn condition(&mut self, kind: &str, status: bool, reason: &str, message: &str, now: Timestamp) {
        let status = if status { "True" } else { "False" };
        let before =
            self.conditions.iter().find(|condition| condition.kind == kind && condition.status == status);
        let condition = Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: before.map_or(now, |before| before.last_transition_time),
        };
        match self.conditions.iter_mut().find(|condition| condition.kind == kind) {
            Some(there) => *there = condition,
            None => self.conditions.push(condition),
        }
    }
}
