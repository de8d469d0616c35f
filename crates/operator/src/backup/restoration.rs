//! What came of a restoration, as the database's pod says it. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use kube::ResourceExt as _;
use multinic_api::MultiNicOperatorStatus;
use multinic_api::operator::RestoreAsked;

use super::report::Report;
use crate::desired::RESTORE;

/// Annotation of the server's pods: the request for which they are to fill it.
pub(crate) const ASKED: &str = "multinic.example.com/restore";

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
    pub asked: RestoreAsked,
}

/// What the spec wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// From what, and since when.
    pub what: RestoreAsked,
    /// Whether it was done. A server that loses its data later is not filled again: nobody wants that of the backup any more.
    pub is_done: bool,
}

impl Asked {
    /// What a spec of this generation asks for, where the server's claim has this UID: the same as before, or anew. Of two changes
    /// that came at once nobody knows whether the first took it away. That counts as asked for anew where the claim is another one:
    /// whoever wants a server filled again has taken its data away.
    pub fn of(from: &str, generation: i64, claim: Option<&str>, told: &MultiNicOperatorStatus) -> Self {
        let is_done = told.restored_from.as_deref() == Some(from);
        let before = told.restore_asked.as_ref().filter(|asked| asked.from == from);
        let is_next = told.observed_generation.is_some_and(|seen| generation.saturating_sub(seen) <= 1);
        let is_same =
            is_next || before.is_some_and(|asked| claim.is_some() && asked.claim.as_deref() == claim);
        // An earlier version did not say since when.
        let since =
            before.map(|asked| asked.generation).or(is_done.then_some(generation)).filter(|_| is_same);
        let generation = since.unwrap_or(generation);
        Self {
            what: RestoreAsked { from: from.to_owned(), generation, claim: claim.map(str::to_owned) },
            is_done: is_done && since.is_some(),
        }
    }
}

impl Restoration {
    /// One that was done, and is not done again.
    pub fn earlier(asked: RestoreAsked) -> Self {
        let message = format!(
            "the server was filled from {}; a server that loses its data is filled by another value only, \
             or by the same after it was taken away",
            asked.from
        );
        Self { is_done: true, reason: "Restored", message, asked }
    }
}

/// Reads it of the pods of the server. What a pod says that was to be filled because of another request is another matter.
pub fn restoration(asked: RestoreAsked, pods: &[Pod]) -> Restoration {
    let from = asked.from.clone();
    let mark = mark(&asked);
    let is_meant = |pod: &&Pod| pod.annotations().get(ASKED) == Some(&mark);
    let not = |reason, message| Restoration { is_done: false, reason, message, asked: asked.clone() };
    let pods = pods.iter().filter(is_meant);
    let statuses = pods.filter_map(|pod| pod.status.as_ref()?.init_container_statuses.as_ref()).flatten();
    let said = statuses.filter(|status| status.name == RESTORE).find_map(said);
    match said.as_deref().map(serde_json::from_str) {
        Some(Ok(Report::Restored { file, rows })) => {
            let message = format!("{file}: {rows} rows; take restoreFrom away when you like");
            Restoration { message, ..Restoration::earlier(asked) }
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

/// What a pod's [`ASKED`] says.
pub(crate) fn mark(RestoreAsked { from, generation, claim: _ }: &RestoreAsked) -> String {
    format!("{from} since generation {generation}")
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
        let pod = json!({"metadata": {"annotations": {ASKED: "latest since generation 3"}},
            "status": {"initContainerStatuses": [status]}});
        let pods = [serde_json::from_value(pod).unwrap()];
        for (from, generation) in [("another", 3), ("latest", 4)] {
            assert_eq!(restoration(asked(from, generation), &pods).reason, "Pending");
        }
        restoration(asked("latest", 3), &pods).reason
    }

    fn asked(from: &str, generation: i64) -> RestoreAsked {
        RestoreAsked { from: from.to_owned(), generation, claim: Some("one".to_owned()) }
    }

    #[test]
    fn the_same_value_asks_anew_after_it_was_taken_away_and_wherever_it_may_have_been() {
        let told = |seen: i64, since: Option<i64>, done: Option<&str>| MultiNicOperatorStatus {
            observed_generation: Some(seen),
            restore_asked: since.map(|since| asked("latest", since)),
            restored_from: done.map(str::to_owned),
            ..MultiNicOperatorStatus::default()
        };
        let (one, two) = (Some("one"), Some("two"));
        for (told, now, claim, since, is_done, why) in [
            (told(3, None, None), 4, one, 4, false, "it is new"),
            (told(4, Some(4), None), 4, two, 4, false, "it is under way, and the claim was made"),
            (told(4, Some(4), Some("latest")), 5, two, 4, true, "it was done, and something else changed"),
            (told(4, Some(4), Some("latest")), 6, one, 4, true, "the server has the same data"),
            (
                told(4, Some(4), Some("latest")),
                6,
                two,
                6,
                false,
                "it may have been taken away, as the data were",
            ),
            (told(4, Some(4), Some("latest")), 6, None, 6, false, "the same, and there are none"),
            (told(4, Some(4), None), 6, two, 6, false, "it may have been, while it was under way"),
            (told(4, None, Some("latest")), 4, one, 4, true, "an earlier version did it"),
            (told(4, None, Some("another")), 5, one, 5, false, "it is another one"),
        ] {
            let found = Asked::of("latest", now, claim, &told);
            assert_eq!((found.what.generation, found.is_done), (since, is_done), "{why}");
        }
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
        assert_eq!(restoration(asked("latest", 3), &[]).reason, "Pending");
    }
}
