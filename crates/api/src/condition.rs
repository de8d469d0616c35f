//! Conditions of all our resources.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
