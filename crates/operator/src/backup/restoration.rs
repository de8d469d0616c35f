//! What came of a restoration, as the database's pod says it. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::report::Report;
use crate::desired::RESTORE;

/// The condition `Restored`: whether it is true, its reason and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restoration {
    /// Whether it is.
    pub is_done: bool,
    /// In a word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// What the spec wants.
    pub from: String,
}

impl Restoration {
    /// One that was done, and is not done again.
    pub fn earlier(from: &str) -> Self {
        let message = format!(
            "the server was filled from {from}; a server that loses its data is filled by another value only"
        );
        Self { is_done: true, reason: "Restored", message, from: from.to_owned() }
    }
}

/// Reads it of the pods of the server; `from` is what the spec wants. What a pod says that was to be filled from something else
/// is another matter.
pub fn restoration(from: &str, pods: &[Pod]) -> Restoration {
    let not = |reason, message| Restoration { is_done: false, reason, message, from: from.to_owned() };
    let argument = format!("--from={from}");
    let is_meant = |pod: &&Pod| {
        let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        containers
            .filter(|it| it.name == RESTORE)
            .any(|it| it.args.iter().flatten().any(|it| *it == argument))
    };
    let pods = pods.iter().filter(is_meant);
    let statuses = pods.filter_map(|pod| pod.status.as_ref()?.init_container_statuses.as_ref()).flatten();
    let said = statuses.filter(|status| status.name == RESTORE).find_map(said);
    match said.as_deref().map(serde_json::from_str) {
        Some(Ok(Report::Restored { file, rows })) => {
            let message = format!("{file}: {rows} rows; take restoreFrom away when you like");
            Restoration { is_done: true, message, ..Restoration::earlier(from) }
        }
        Some(Ok(Report::NotEmpty { rows })) => {
            let message = format!(
                "the server has {rows} rows and stays as it is: {from} is restored into an empty server only"
            );
            not("NotEmpty", message)
        }
        Some(Ok(Report::Failed { error })) => not("RestoreFailed", format!("{from}: {error}")),
        Some(Ok(Report::BackedUp { .. } | Report::Busy) | Err(_)) => {
            not("RestoreFailed", format!("{from}: {}", said.unwrap_or_default()))
        }
        None => not("Pending", format!("the server was not started with {from} yet")),
    }
}

/// What the container said in its last end.
fn said(status: &ContainerStatus) -> Option<String> {
    let states = [&status.state, &status.last_state];
    states.into_iter().find_map(|state| state.as_ref()?.terminated.as_ref()?.message.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use serde_json::{Value, json};

    use super::*;

    fn reason(state: &Value, last: &Value) -> &'static str {
        let status = json!({"name": "restore", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state, "lastState": last});
        let restore = json!({"name": "restore", "args": ["--folder=/backups", "--from=latest"]});
        let pod = json!({"metadata": {}, "spec": {"containers": [], "initContainers": [restore]},
            "status": {"initContainerStatuses": [status]}});
        let pods = [serde_json::from_value(pod).unwrap()];
        assert_eq!(restoration("another", &pods).reason, "Pending");
        restoration("latest", &pods).reason
    }

    #[test]
    fn the_last_end_of_the_container_tells() {
        let ended = |message: &str| json!({"terminated": {"exitCode": 0, "message": message}});
        assert_eq!(reason(&ended(r#"{"restored":{"file":"a","rows":3}}"#), &json!({})), "Restored");
        assert_eq!(reason(&ended(r#"{"notEmpty":{"rows":3}}"#), &json!({})), "NotEmpty");
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        assert_eq!(reason(&waiting, &ended(r#"{"failed":{"error":"no such file"}}"#)), "RestoreFailed");
        assert_eq!(reason(&ended("Killed"), &json!({})), "RestoreFailed");
        assert_eq!(reason(&json!({"running": {}}), &json!({})), "Pending");
        assert_eq!(restoration("latest", &[]).reason, "Pending");
    }
}
