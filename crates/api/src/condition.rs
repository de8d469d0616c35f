//! Conditions of all our resources.

use jiff::Timestamp;
use multinic_core::brief::cut;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longer messages tell nobody more, and etcd keeps every version of them for a while. In bytes.
pub const MOST_TEXT: usize = 2_000;

/// One condition, by the conventions of Kubernetes and of kstatus: `Ready` is always there, `Reconciling` and `Stalled`
/// only while they are true.
///
/// All but the type and the status may be absent in objects that older programs wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `Reconciling`, `Stalled`, `Degraded` and others.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: String,
    /// A stable CamelCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub last_transition_time: Option<Timestamp>,
    /// The generation that it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Condition {
    /// Puts a condition in place of the one of its type. The time is kept while the status is the same.
    pub fn set(list: &mut Vec<Self>, mut new: Self) {
        match list.iter_mut().find(|old| old.type_ == new.type_) {
            Some(old) => {
                if old.status == new.status && old.last_transition_time.is_some() {
                    new.last_transition_time = old.last_transition_time;
                }
                *old = new;
            }
            None => list.push(new),
        }
    }
}

/// Conditions of a status that is being put together.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// As they are by now.
    pub list: Vec<Condition>,
    /// The generation that the new ones speak of.
    pub generation: Option<i64>,
    /// When.
    pub now: Timestamp,
}

impl Conditions {
    /// `True` or `False`.
    pub fn set(&mut self, type_: &str, status: bool, reason: &str, message: &str) {
        self.put(type_, if status { "True" } else { "False" }, reason, message);
    }

    /// `Unknown`.
    pub fn set_unknown(&mut self, type_: &str, reason: &str, message: &str) {
        self.put(type_, "Unknown", reason, message);
    }

    /// Takes one away.
    pub fn remove(&mut self, type_: &str) {
        self.list.retain(|condition| condition.type_ != type_);
    }

    fn put(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        let condition = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(cut(message.to_owned(), MOST_TEXT)),
            last_transition_time: Some(self.now),
            observed_generation: self.generation,
        };
        Condition::set(&mut self.list, condition);
    }
}

/// What `Ready` says, for an event when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether it is `True`.
    pub ready: bool,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

impl Readiness {
    /// Of a status; none where it has no such condition.
    pub fn of(conditions: &[Condition]) -> Option<Self> {
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
        Some(Self {
            ready: ready.status == "True",
            reason: ready.reason.clone().unwrap_or_default(),
            message: ready.message.clone().unwrap_or_default(),
        })
    }
}

/// As Kubernetes itself writes times.
pub fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
