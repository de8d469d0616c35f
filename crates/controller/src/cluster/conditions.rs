//! A configuration's status in the API server: by the conventions of kstatus, written only when it says something else.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use multinic_api::condition::{MOST_TEXT, whole_second};
use multinic_api::openstack_config::DownPortRetry;
use multinic_api::{Conditions, OpenstackConfigStatus};
use multinic_core::NodeName;
use multinic_core::fleet::{Held, Problem};
use serde_json::json;

use crate::status::Outcome;
use multinic_core::brief::cut;

/// A pass that changes nothing moves `lastSyncedAt` only. That alone is written no more often than this, so that a fleet at
/// rest costs the API server next to nothing.
const REFRESH: Duration = Duration::from_secs(60);

/// A longer list tells nobody more, and etcd keeps every version of it for a while.
const MOST_PROBLEMS: usize = 50;

/// What is known of a configuration after a pass.
#[derive(Debug, Default)]
pub struct Findings<'a> {
    /// The generation that was carried out.
    pub generation: Option<i64>,
    /// What the pass came to; none if it did not concern itself with the configuration.
    pub outcome: Option<&'a Outcome>,
    /// When its cloud was read last by this process, and the read was carried out: what is delivered later is of that time.
    pub read_at: Option<Timestamp>,
    /// Ports that are DOWN.
    pub down: Option<multinic_core::fleet::pace::DownPortRetry>,
    /// What could not be delivered, in its order of weight.
    pub undelivered: &'a [Undelivered],
    /// Removals that wait for a person, if some are this configuration's.
    pub held: Option<&'a Held>,
    /// The request by annotation that was carried out.
    pub reconcile_at: Option<&'a str>,
}

/// A delivery that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// `ViolaPostError` or `KubernetesApplyError`.
    pub reason: &'static str,
    /// Whether it is a removal that the other side refuses.
    pub removal: bool,
    /// What failed, on what, why.
    pub message: String,
}

/// The reason of what is not delivered yet and did not fail.
pub(super) const UNDER_WAY: &str = "Delivering";
/// The reason of what waits for another configuration, which may be at fault itself.
const WAITS: &str = "NodeWaits";

/// Whether a reason says that nothing failed so far.
pub(super) fn is_under_way(reason: &str) -> bool {
    matches!(reason, UNDER_WAY | WAITS)
}

impl Undelivered {
    /// Nothing failed so far; the place has not answered yet.
    pub fn under_way(place: &str) -> Self {
        let message = format!("{place} has not answered yet; what is published is being delivered there");
        Self { reason: UNDER_WAY, removal: false, message }
    }

    /// A node that another configuration left a place with waits there for what is delivered elsewhere.
    pub fn set_aside(node: &NodeName, place: &str) -> Self {
        let message = format!(
            "node {node} stays as it is at {place}, which another of its configurations has left, until it stands where \
             that one publishes now"
        );
        Self { reason: WAITS, removal: false, message }
    }
}

/// The status after a pass. What did not change keeps its times.
pub fn after_pass(
    before: &OpenstackConfigStatus,
    findings: &Findings<'_>,
    now: Timestamp,
) -> OpenstackConfigStatus {
    let Findings { generation, outcome, read_at, down, undelivered, held, reconcile_at } = findings;
    let now = whole_second(now);
    let mut status = before.clone();
    status.observed_generation = generation.or(status.observed_generation);
    if let Some(at) = reconcile_at {
        status.last_handled_reconcile_at = Some((*at).to_owned());
    }
    let Some(outcome) = outcome else { return after_delivery(status, *generation, undelivered, now) };
    let mut list = Conditions { list: std::mem::take(&mut status.conditions), generation: *generation, now };
    let undone = undone(undelivered);
    let failed = match outcome {
        Outcome::Published { current, interfaces, changed, problems } => {
            status.interfaces = i64::try_from(*interfaces).ok();
            status.problems = texts(problems);
            status.down_port_retry = down.as_ref().map(retry);
            status.held_removals = held.map(|held| held.digest.clone());
            if *current {
                list.set("CloudReachable", true, "Reachable", "the cloud was read completely");
            }
            let error = problems.iter().find(|problem| problem.reason.is_error());
            match (undone, error) {
                (Some(one), _) => Some((one.reason, one.message.clone(), false)),
                (None, Some(first)) => {
                    let more = problems.iter().filter(|problem| problem.reason.is_error()).count() - 1;
                    let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
                    Some((first.reason.as_str(), format!("{}: {}{more}", first.subject, first.message), true))
                }
                (None, None) => {
                    if let Some(at) = current.then_some(now).or(*read_at) {
                        status.last_synced_at = Some(whole_second(at).to_string());
                    }
                    let (reason, message) = if *changed {
                        ("Synced", format!("{interfaces} interface(s) published"))
                    } else {
                        ("NoChange", "no changes detected".to_owned())
                    };
                    list.set("Ready", true, reason, &message);
                    None
                }
            }
        }
        Outcome::Failed { reason, message } => {
            let (reason, stalled) = (failure(reason, message), is_for_a_person(reason));
            if !matches!(reason, "ConfigError" | "SubnetRequired" | "DatabaseError") {
                list.set("CloudReachable", false, reason, message);
            }
            Some((reason, message.clone(), stalled))
        }
    };
    match (undone, outcome) {
        (Some(one), _) => list.set("Published", false, one.reason, &one.message),
        (None, Outcome::Published { interfaces, .. }) => {
            list.set("Published", true, "Published", &format!("{interfaces} interface(s) are published"));
        }
        (None, Outcome::Failed { reason: "DatabaseError", message }) => {
            list.set("Published", false, "DatabaseError", message);
        }
        // What was published before stays, and so does what is said of it.
        (None, Outcome::Failed { .. }) => {}
    }
    tell_removals(&mut list, undelivered);
    tell_readiness(&mut list, &mut status, failed);
    status.conditions = list.list;
    status
}

/// The status where nothing is known but how the delivery went: before the first read of its cloud, which may not come before
/// somebody asks for it, or while that is under way.
fn after_delivery(
    mut status: OpenstackConfigStatus,
    generation: Option<i64>,
    undelivered: &[Undelivered],
    now: Timestamp,
) -> OpenstackConfigStatus {
    let find = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
    let Some(ready) = find("Ready") else { return status };
    // What its cloud last showed to be wrong goes on being said.
    let published = find("Published").filter(|published| published.status == "False");
    let speaks =
        ready.status == "True" || published.is_some_and(|published| published.reason == ready.reason);
    let was_undone = published.is_some();
    let mut list = Conditions { list: std::mem::take(&mut status.conditions), generation, now };
    tell_removals(&mut list, undelivered);
    match undone(undelivered) {
        Some(one) => {
            list.set("Published", false, one.reason, &one.message);
            if speaks {
                tell_readiness(&mut list, &mut status, Some((one.reason, one.message.clone(), false)));
            }
        }
        None if was_undone => {
            let interfaces = status.interfaces.unwrap_or_default();
            list.set("Published", true, "Published", &format!("{interfaces} interface(s) are published"));
            if speaks && status.problems.is_none() {
                list.set("Ready", true, "NoChange", "what was published is delivered");
                tell_readiness(&mut list, &mut status, None);
            }
        }
        None => {}
    }
    status.conditions = list.list;
    status
}

/// What of a delivery is not done: what failed, else what is under way.
fn undone(undelivered: &[Undelivered]) -> Option<&Undelivered> {
    let refused = undelivered.iter().find(|one| !one.removal && !is_under_way(one.reason));
    refused.or_else(|| undelivered.iter().find(|one| is_under_way(one.reason)))
}

/// The status of a configuration that is not carried out yet; what it published before may be undelivered.
pub fn waiting(
    before: &OpenstackConfigStatus,
    reason: &str,
    message: &str,
    undelivered: &[Undelivered],
    now: Timestamp,
) -> OpenstackConfigStatus {
    let mut status = after_delivery(before.clone(), None, undelivered, whole_second(now));
    let list = std::mem::take(&mut status.conditions);
    let mut list = Conditions { list, generation: None, now: whole_second(now) };
    if !list.list.iter().any(|condition| condition.type_ == "Ready") {
        list.set_unknown("Ready", reason, message);
    }
    list.set("Reconciling", true, reason, message);
    list.remove("Stalled");
    status.conditions = list.list;
    status
}

/// The status of a configuration that is being deleted and still has something published.
pub fn deleting(
    before: &OpenstackConfigStatus,
    generation: Option<i64>,
    interfaces: usize,
    message: &str,
    removal: Option<&Undelivered>,
    now: Timestamp,
) -> OpenstackConfigStatus {
    let mut status = before.clone();
    let list = std::mem::take(&mut status.conditions);
    let mut list = Conditions { list, generation, now: whole_second(now) };
    list.set("Ready", false, "CleanupPending", message);
    list.set("Reconciling", true, "CleanupPending", message);
    list.remove("Stalled");
    match removal {
        Some(one) => list.set("RemovalNotPropagated", true, one.reason, &one.message),
        None => list.remove("RemovalNotPropagated"),
    }
    status.conditions = list.list;
    status.interfaces = i64::try_from(interfaces).ok();
    status
}

/// Whether the difference is worth a write.
pub fn worth_writing(before: &OpenstackConfigStatus, now: &OpenstackConfigStatus) -> bool {
    let same_otherwise =
        OpenstackConfigStatus { last_synced_at: now.last_synced_at.clone(), ..before.clone() } == *now;
    let time = |status: &OpenstackConfigStatus| -> Option<Timestamp> {
        status.last_synced_at.as_ref()?.parse().ok()
    };
    let old = match (time(before), time(now)) {
        (Some(before), Some(now)) => {
            Duration::try_from(now.duration_since(before)).unwrap_or_default() >= REFRESH
        }
        (before, now) => before != now,
    };
    !same_otherwise || old
}

/// Writes a status by server-side apply: what we do not say any more goes.
pub async fn write(
    api: &Api<DynamicObject>,
    object: &DynamicObject,
    manager: &str,
    status: &OpenstackConfigStatus,
) -> Result<(), kube::Error> {
    let patch = json!({
        "apiVersion": "multinic.example.com/v1alpha1",
        "kind": "OpenstackConfig",
        // Another object of the same name is refused.
        "metadata": { "name": object.name_any(), "uid": object.uid() },
        "status": status,
    });
    api.patch_status(&object.name_any(), &PatchParams::apply(manager).force(), &Patch::Apply(patch))
        .await
        .map(drop)
}

fn tell_removals(conditions: &mut Conditions, undelivered: &[Undelivered]) {
    match undelivered.iter().find(|one| one.removal) {
        Some(one) => conditions.set("RemovalNotPropagated", true, one.reason, &one.message),
        None => conditions.remove("RemovalNotPropagated"),
    }
}

/// What failed, why, and whether only a person can mend it.
fn tell_readiness(
    conditions: &mut Conditions,
    status: &mut OpenstackConfigStatus,
    failed: Option<(&str, String, bool)>,
) {
    match failed {
        None => {
            status.last_error = None;
            conditions.set("Degraded", false, "Healthy", "controller healthy");
            conditions.remove("Stalled");
            conditions.remove("Reconciling");
        }
        // Nothing failed so far.
        Some((reason, message, _)) if is_under_way(reason) => {
            conditions.set("Ready", false, reason, &message);
            conditions.set("Reconciling", true, reason, &message);
            conditions.remove("Stalled");
        }
        Some((reason, message, stalled)) => {
            status.last_error = Some(cut(message.clone(), MOST_TEXT));
            conditions.set("Ready", false, reason, &message);
            conditions.set("Degraded", true, "Error", &message);
            // By kstatus: what only a person can mend is stalled; what is tried again is being worked on.
            let (is, is_not) = if stalled { ("Stalled", "Reconciling") } else { ("Reconciling", "Stalled") };
            conditions.set(is, true, if stalled { reason } else { "ProgressingWithRetry" }, &message);
            conditions.remove(is_not);
        }
    }
}

/// The parser's one word for a configuration without subnets is a reason of the contract.
fn failure(reason: &'static str, message: &str) -> &'static str {
    let is_subnet = message.contains(": SubnetRequired: ") && !message.contains("; ");
    if reason == "ConfigError" && is_subnet { "SubnetRequired" } else { reason }
}

fn is_for_a_person(reason: &str) -> bool {
    matches!(
        reason,
        "ConfigError"
            | "SubnetRequired"
            | "SubnetNotFound"
            | "SubnetNotUnique"
            | "NeutronEndpointError"
            | "NovaEndpointError"
    )
}

fn texts(problems: &[Problem]) -> Option<Vec<String>> {
    if problems.is_empty() {
        return None;
    }
    let mut texts: Vec<String> =
        problems.iter().take(MOST_PROBLEMS).map(|problem| cut(problem.to_string(), MOST_TEXT)).collect();
    if problems.len() > MOST_PROBLEMS {
        texts.push(format!("and {} more", problems.len() - MOST_PROBLEMS));
    }
    Some(texts)
}

fn retry(down: &multinic_core::fleet::pace::DownPortRetry) -> DownPortRetry {
    let multinic_core::fleet::pace::DownPortRetry { hash, last_attempt, fast_attempts } = down;
    DownPortRetry {
        hash: Some(hash.clone()),
        last_attempt: Some(whole_second(*last_attempt).to_string()),
        fast_attempts: i32::try_from(*fast_attempts).ok(),
    }
}

#[cfg(test)]
mod tests {
    use multinic_api::Readiness;

    use super::*;

    fn published(changed: bool) -> Outcome {
        Outcome::Published { current: true, interfaces: 2, changed, problems: Vec::new() }
    }

    fn findings(outcome: &Outcome) -> Findings<'_> {
        Findings { generation: Some(3), outcome: Some(outcome), ..Findings::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn a_pass_that_changes_nothing_is_written_at_most_once_a_minute() {
        let outcome = published(false);
        let first = after_pass(&OpenstackConfigStatus::default(), &findings(&outcome), at(0));
        let soon = after_pass(&first, &findings(&outcome), at(59));
        assert!(!worth_writing(&first, &soon));
        let later = after_pass(&first, &findings(&outcome), at(60));
        assert!(worth_writing(&first, &later));
        assert_eq!(later.conditions, first.conditions);
    }

    #[test]
    fn what_only_a_person_can_mend_is_stalled_and_the_rest_is_tried_again() {
        for (reason, message, said_reason, stalled) in [
            ("ConfigError", "spec.vmNames: name at least one VM", "ConfigError", true),
            ("ConfigError", "spec.subnetIDs: SubnetRequired: give one", "SubnetRequired", true),
            ("KeystoneError", "401", "KeystoneError", false),
        ] {
            let outcome = Outcome::Failed { reason, message: message.to_owned() };
            let status = after_pass(&OpenstackConfigStatus::default(), &findings(&outcome), at(0));
            assert_eq!(Readiness::of(&status.conditions).unwrap().reason, said_reason);
            let has = |type_: &str| status.conditions.iter().any(|condition| condition.type_ == type_);
            assert_eq!((has("Stalled"), has("Reconciling")), (stalled, !stalled));
            let good = published(true);
            let status = after_pass(&status, &findings(&good), at(1));
            assert!(
                status.conditions.iter().all(|it| !matches!(it.type_.as_str(), "Stalled" | "Reconciling"))
            );
            assert_eq!(status.last_error, None);
        }
    }

    #[test]
    fn what_is_delivered_later_is_in_agreement_as_of_the_read_that_it_comes_from() {
        let late = Outcome::Published { current: false, interfaces: 2, changed: false, problems: Vec::new() };
        let unread = after_pass(&OpenstackConfigStatus::default(), &findings(&late), at(9));
        assert_eq!(unread.last_synced_at, None);
        let findings = Findings { read_at: Some(at(3)), ..findings(&late) };
        let status = after_pass(&unread, &findings, at(9));
        assert_eq!(status.last_synced_at, Some(at(3).to_string()));
    }

    #[test]
    fn a_failed_delivery_is_not_ready_although_the_cloud_was_read() {
        let undelivered =
            [Undelivered { reason: "ViolaPostError", removal: false, message: "POST: 500".to_owned() }];
        let outcome = published(true);
        let findings = Findings { undelivered: &undelivered, ..findings(&outcome) };
        let status = after_pass(&OpenstackConfigStatus::default(), &findings, at(0));
        assert_eq!(Readiness::of(&status.conditions).unwrap().reason, "ViolaPostError");
        let reachable = status.conditions.iter().find(|it| it.type_ == "CloudReachable").unwrap();
        assert_eq!(reachable.status, "True");
    }
}
