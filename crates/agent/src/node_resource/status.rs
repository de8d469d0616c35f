//! What is verified, in the form of the object's status.

use jiff::Timestamp;
use multinic_api::condition::whole_second;
use multinic_api::node_config::{InterfaceSpec, InterfaceStatus, State};
use multinic_api::{Condition, MultiNicNodeConfigStatus};
use multinic_host::backend::Backend;
use multinic_host::backend::detect::Detected;
use multinic_host::{ROLLBACK_FAILED, ROLLED_BACK, Unchecked};
use serde::Deserialize;
use serde_json::Value;

use super::access::bounded;
use super::object::NodeObject;
use super::read::Refusal;
use crate::facts::{Facts, NicFacts, Stage};

/// What is to be said of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// A pass was made.
    Passed(Facts),
    /// It is not used, and nothing was done.
    Refused(Refusal),
    /// It is being deleted, and what it named is being taken away.
    CleaningUp(Facts),
    /// It is being deleted, and nothing of it is left.
    CleanedUp,
}

/// The status that says this. Times are those of the previous status wherever nothing else changed, so that two equal
/// findings are two equal statuses.
pub fn status(object: &NodeObject, word: &Word, now: Timestamp) -> MultiNicNodeConfigStatus {
    let previous = object.status.clone().unwrap_or_default();
    let summary = Summary::of(word);
    let mut status = MultiNicNodeConfigStatus {
        state: Some(summary.state),
        observed_generation: i64::try_from(object.generation).ok(),
        observed_spec_hash: Some(object.spec_hash()),
        last_processed: None,
        last_job_name: None,
        conditions: Vec::new(),
        interface_statuses: match word {
            Word::Passed(facts) => interfaces(&object.spec, facts, &previous.interface_statuses, now),
            Word::Refused(_) | Word::CleaningUp(_) | Word::CleanedUp => previous.interface_statuses.clone(),
        },
        last_updated: None,
        last_interface_check: None,
        node_ready: Some(!summary.unsafe_host),
    };
    status.conditions = summary.conditions(status.observed_generation, &previous.conditions, now);
    let unchanged = MultiNicNodeConfigStatus {
        last_processed: previous.last_processed.clone(),
        last_job_name: previous.last_job_name.clone(),
        last_updated: previous.last_updated.clone(),
        last_interface_check: previous.last_interface_check.clone(),
        ..status.clone()
    };
    if unchanged == previous {
        return previous;
    }
    let time = Some(time(now));
    MultiNicNodeConfigStatus {
        last_processed: time.clone(),
        last_updated: time.clone(),
        last_interface_check: time,
        ..status
    }
}

fn time(now: Timestamp) -> String {
    format!("{now:.0}")
}

/// A NIC that is in use.
pub const IN_USE: &str = "InUse";
/// A NIC that would harm the node, or be harmed.
pub const HOST_UNSAFE: &str = "HostUnsafe";

/// Which network manager keeps the configuration over a boot. A condition and no field: a definition of the kind that is older
/// than the agent, as Helm leaves it in place, takes a condition, and refuses the whole status for a field that it does not know.
const BACKEND: &str = "BackendDetected";

/// The backend as a reason, and why it is that one.
fn backend(detected: &Detected) -> (&'static str, String) {
    let Detected { backend, why, os_type } = detected;
    let name = match backend {
        Backend::Netplan => "Netplan",
        Backend::Networkd => "Networkd",
        Backend::NetworkManager => "NetworkManager",
        Backend::Ifcfg => "Ifcfg",
        Backend::Wicked => "Wicked",
    };
    (name, format!("{why} (os_type {os_type})"))
}

struct Summary {
    state: State,
    reason: String,
    message: String,
    drifted: Option<String>,
    rolled_back: Option<String>,
    rollback_failed: Option<String>,
    unchecked: Option<Unchecked>,
    untold: Option<String>,
    backend: Option<(&'static str, String)>,
    host: Option<(&'static str, String)>,
    unsafe_host: bool,
}

impl Summary {
    fn of(word: &Word) -> Self {
        let facts = match word {
            Word::Passed(facts) => facts,
            Word::Refused(refusal) => {
                return Self::plain(State::Failed, refusal.reason, refusal.message.clone());
            }
            Word::CleaningUp(facts) => {
                let left = facts.leaving.iter().map(|(mac, why)| format!("{mac}: {why}"));
                let stuck = facts.leaving.iter().any(|(_, why)| !why.starts_with("Waiting"));
                let state = if stuck { State::Failed } else { State::InProgress };
                return Self::plain(state, "CleaningUp", join(left));
            }
            Word::CleanedUp => return Self::plain(State::InProgress, "CleanedUp", String::new()),
        };
        let worst = |stage| facts.nics.iter().find(|nic| nic.stage == stage);
        let (state, first) = match (worst(Stage::Failed), worst(Stage::Waiting)) {
            (Some(nic), _) => (State::Failed, Some(nic)),
            (None, Some(nic)) => (State::InProgress, Some(nic)),
            (None, None) => (State::Configured, None),
        };
        let all = facts.nics.len();
        let mut message = format!("{} of {all} configured", facts.configured());
        for nic in facts.nics.iter().filter(|nic| nic.stage == Stage::Failed) {
            message = format!("{message}; {}: {}", nic_name(nic), text(nic));
        }
        for held in &facts.held {
            message = format!("{message}; {} is not named and stays: {}", held.mac, held.why);
        }
        let with = |reason: &str| {
            let mut hit = facts.nics.iter().filter(|nic| nic.reason == reason).peekable();
            hit.peek().is_some().then(|| join(hit.map(|nic| format!("{}: {}", nic_name(nic), nic.message))))
        };
        let (unsafe_host, in_use) = (with(HOST_UNSAFE), with(IN_USE));
        // One reason for both: the first is the graver.
        let reason = if unsafe_host.is_some() { HOST_UNSAFE } else { IN_USE };
        let host: Vec<String> = unsafe_host.into_iter().chain(in_use).collect();
        let host = (!host.is_empty()).then(|| (reason, host.join("; ")));
        Self {
            state,
            reason: first.map_or("Configured", |nic| &nic.reason).to_owned(),
            message,
            drifted: with("Drift"),
            rolled_back: with(ROLLED_BACK),
            rollback_failed: with(ROLLBACK_FAILED),
            unchecked: facts.unchecked.clone(),
            untold: (!facts.untold.is_empty()).then(|| facts.untold.join("; ")),
            backend: facts.backend.as_ref().map(backend),
            unsafe_host: host.is_some(),
            host,
        }
    }

    fn plain(state: State, reason: &str, message: String) -> Self {
        Self {
            state,
            reason: reason.to_owned(),
            message,
            drifted: None,
            rolled_back: None,
            rollback_failed: None,
            unchecked: None,
            untold: None,
            backend: None,
            host: None,
            unsafe_host: false,
        }
    }

    /// `Ready` and `Applied` are always there, the others only while they are true (kstatus), but for
    /// `RolledBack`, which is false while rolling back fails. How the node keeps its
    /// configuration is true until a pass finds another way.
    fn conditions(&self, generation: Option<i64>, previous: &[Condition], now: Timestamp) -> Vec<Condition> {
        let done = self.state == State::Configured;
        let message = Some(self.message.as_str());
        let mut wanted = vec![
            ("Ready", done, self.reason.as_str(), message),
            ("Applied", done, self.reason.as_str(), None),
        ];
        match self.state {
            State::InProgress | State::Pending => wanted.push(("Reconciling", true, &self.reason, message)),
            State::Failed => wanted.push(("Stalled", true, &self.reason, message)),
            State::Configured => {}
        }
        let (host_reason, host) = match &self.host {
            Some((reason, message)) => (*reason, Some(message.clone())),
            None => (IN_USE, None),
        };
        let (name, why) = match &self.backend {
            Some((name, why)) => (*name, Some(why.clone())),
            None => ("", None),
        };
        let (unchecked_reason, unchecked) = match &self.unchecked {
            Some(Unchecked { reason, why }) => (*reason, Some(why.clone())),
            None => ("", None),
        };
        for (type_, reason, message) in [
            ("Drifted", "Drift", &self.drifted),
            ("PersistUnchecked", unchecked_reason, &unchecked),
            ("ManagerNotTold", "Networkd", &self.untold),
            ("HostUnsafe", host_reason, &host),
            (BACKEND, name, &why),
        ] {
            if let Some(message) = message {
                wanted.push((type_, true, reason, Some(message)));
            }
        }
        match (&self.rollback_failed, &self.rolled_back) {
            (Some(message), _) => wanted.push((ROLLED_BACK, false, ROLLBACK_FAILED, Some(message))),
            (None, Some(message)) => wanted.push((ROLLED_BACK, true, ROLLED_BACK, Some(message))),
            (None, None) => {}
        }
        let mut conditions: Vec<Condition> = previous.to_vec();
        conditions.retain(|old| old.type_ == BACKEND || wanted.iter().any(|(type_, ..)| *type_ == old.type_));
        for (type_, holds, reason, message) in wanted {
            let new = Condition {
                type_: type_.to_owned(),
                status: if holds { "True" } else { "False" }.to_owned(),
                reason: Some(reason.to_owned()),
                message: message.filter(|text| !text.is_empty()).map(bounded),
                last_transition_time: Some(whole_second(now)),
                observed_generation: generation,
            };
            Condition::set(&mut conditions, new);
        }
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        conditions
    }
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join("; ")
}

/// The name by which people know it.
pub fn nic_name(nic: &NicFacts) -> String {
    let link = nic.link.as_ref().map(|link| link.name.clone());
    link.or_else(|| nic.mac.map(|mac| mac.to_string())).unwrap_or_else(|| format!("interface {}", nic.entry))
}

/// The reason with its sentence.
pub fn text(nic: &NicFacts) -> String {
    if nic.message.is_empty() { nic.reason.clone() } else { format!("{}: {}", nic.reason, nic.message) }
}

fn interfaces(
    spec: &Value,
    facts: &Facts,
    previous: &[InterfaceStatus],
    now: Timestamp,
) -> Vec<InterfaceStatus> {
    let list = spec.get("interfaces").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let one = |nic: &NicFacts| {
        let written = usize::try_from(nic.entry).ok().and_then(|at| list.get(at));
        let written = written.and_then(|value| InterfaceSpec::deserialize(value).ok()).unwrap_or_default();
        let fresh = interface(nic, &written);
        let same = |old: &&InterfaceStatus| old.mac_address == fresh.mac_address;
        with_times(fresh.clone(), previous.iter().find(same), now)
    };
    facts.nics.iter().map(one).collect()
}

/// The entry, without times.
fn interface(nic: &NicFacts, written: &InterfaceSpec) -> InterfaceStatus {
    let link = nic.link.as_ref();
    let first = link.and_then(|link| {
        let v4 = |net: &&String| !net.contains(':');
        link.addresses.iter().find(v4).or(link.addresses.first())
    });
    let asked_name = || nic.id.map(|id| format!("multinic{id}")).or_else(|| written.name.clone());
    InterfaceStatus {
        name: link.map(|link| link.name.clone()).or_else(asked_name),
        interface_index: link.map(|link| i64::from(link.index)),
        id: nic.id.map(i64::from).or(written.id),
        // As it is written, where it cannot be read.
        mac_address: nic.mac.map(|mac| mac.to_string()).or_else(|| Some(written.mac_address.clone())),
        address: first.and_then(|net| net.split('/').next()).map(str::to_owned),
        cidr: first.cloned(),
        addresses: link.map(|link| link.addresses.clone()),
        mtu: link.map(|link| i64::from(link.mtu)),
        status: Some(
            match nic.stage {
                Stage::Waiting => "InProgress",
                Stage::Configured => "Configured",
                Stage::Failed => "Failed",
            }
            .to_owned(),
        ),
        reason: Some(nic.reason.clone()),
        actual_state: Some(
            match link {
                None => "Absent",
                Some(link) if link.up => "Up",
                Some(_) => "Down",
            }
            .to_owned(),
        ),
        last_updated: None,
        last_checked: None,
        last_configured: None,
        message: Some(bounded(&nic.message)).filter(|text| !text.is_empty()),
    }
}

fn with_times(fresh: InterfaceStatus, old: Option<&InterfaceStatus>, now: Timestamp) -> InterfaceStatus {
    let old_times = old.cloned().unwrap_or_default();
    let aged = InterfaceStatus {
        last_updated: old_times.last_updated.clone(),
        last_checked: old_times.last_checked.clone(),
        last_configured: old_times.last_configured.clone(),
        ..fresh.clone()
    };
    if Some(&aged) == old {
        return aged;
    }
    let now = Some(time(now));
    let configured = fresh.status.as_deref() == Some("Configured");
    InterfaceStatus {
        last_updated: now.clone(),
        last_checked: now.clone(),
        last_configured: if configured { now } else { old_times.last_configured },
        ..fresh
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::facts::{HeldFacts, LinkFacts};

    const MAC: &str = "fa:16:3e:00:00:01";

    fn object(status: Option<MultiNicNodeConfigStatus>) -> NodeObject {
        let interfaces = json!([{"macAddress": "FA:16:3E:00:00:01", "mtu": 1500, "name": "multinic3"}]);
        let spec = json!({"nodeName": "n", "interfaces": interfaces});
        let metadata = json!({"name": "n", "uid": "u", "generation": 4});
        let mut object =
            NodeObject::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap());
        object.status = status;
        object
    }

    fn passed(stage: Stage, error: &str) -> Word {
        let link = LinkFacts {
            name: "multinic3".to_owned(),
            index: 9,
            up: true,
            mtu: 1500,
            addresses: vec!["fd00::1/64".to_owned(), "10.0.0.1/24".to_owned()],
        };
        let (reason, message) = error.split_once(": ").unwrap_or((error, ""));
        let nic = NicFacts {
            entry: 0,
            id: Some(3),
            mac: MAC.parse().ok(),
            port: None,
            link: Some(link),
            stage,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        Word::Passed(Facts { nics: vec![nic], ..Facts::default() })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn types(status: &MultiNicNodeConfigStatus) -> Vec<String> {
        status
            .conditions
            .iter()
            .map(|condition| format!("{}={}", condition.type_, condition.status))
            .collect()
    }

    #[test]
    fn verified_facts_are_told_and_an_equal_finding_is_an_equal_status() {
        let first = status(&object(None), &passed(Stage::Configured, "Configured"), at(100));
        assert_eq!(types(&first), ["Applied=True", "Ready=True"]);
        assert_eq!((first.state, first.observed_generation), (Some(State::Configured), Some(4)));
        let nic = &first.interface_statuses[0];
        assert_eq!(nic.cidr.as_deref(), Some("10.0.0.1/24"));
        assert_eq!((nic.address.as_deref(), nic.mtu, nic.id), (Some("10.0.0.1"), Some(1500), Some(3)));
        assert_eq!((nic.actual_state.as_deref(), nic.interface_index), (Some("Up"), Some(9)));
        assert_eq!(nic.last_configured.as_deref(), Some("1970-01-01T00:01:40Z"));
        let again = status(&object(Some(first.clone())), &passed(Stage::Configured, "Configured"), at(200));
        assert_eq!(again, first);
    }

    #[test]
    fn a_failure_is_stalled_and_its_time_of_change_is_kept() {
        let first = status(&object(None), &passed(Stage::Failed, "InUse: enslaved"), at(100));
        assert_eq!(types(&first), ["Applied=False", "HostUnsafe=True", "Ready=False", "Stalled=True"]);
        assert_eq!(first.conditions[2].reason.as_deref(), Some("InUse"));
        let then = status(&object(Some(first)), &passed(Stage::Failed, "RolledBack: busy"), at(200));
        assert_eq!(types(&then), ["Applied=False", "Ready=False", "RolledBack=True", "Stalled=True"]);
        assert_eq!(then.conditions[1].last_transition_time, Some(at(100)));
        assert_eq!(then.conditions[2].last_transition_time, Some(at(200)));
        let mended = status(&object(Some(then)), &passed(Stage::Configured, "Configured"), at(300));
        assert_eq!(types(&mended), ["Applied=True", "Ready=True"]);
        assert_eq!(mended.conditions[1].last_transition_time, Some(at(300)));
    }

    #[test]
    fn only_what_was_undone_is_called_undone() {
        let said = |error| types(&status(&object(None), &passed(Stage::Failed, error), at(100)));
        assert_eq!(said("ApplyFailed: busy"), ["Applied=False", "Ready=False", "Stalled=True"]);
        assert_eq!(
            said("RollbackFailed: busy"),
            ["Applied=False", "Ready=False", "RolledBack=False", "Stalled=True"]
        );
    }

    #[test]
    fn what_netplan_was_not_asked_about_is_said_and_is_no_failure() {
        let Word::Passed(mut facts) = passed(Stage::Configured, "Configured") else { panic!() };
        let why = "it cannot be told".to_owned();
        facts.unchecked = Some(Unchecked { reason: "WickedNotTold", why });
        let status = status(&object(None), &Word::Passed(facts), at(1));
        assert_eq!(types(&status), ["Applied=True", "PersistUnchecked=True", "Ready=True"]);
        assert_eq!(status.conditions[1].reason.as_deref(), Some("WickedNotTold"));
        assert_eq!(status.state, Some(State::Configured));
    }

    #[test]
    fn what_networkd_has_otherwise_and_is_not_told_is_said_and_is_no_failure() {
        let Word::Passed(mut facts) = passed(Stage::Configured, "Configured") else { panic!() };
        facts.untold = vec!["it has multinic3 by somebody's file".to_owned()];
        let status = status(&object(None), &Word::Passed(facts), at(1));
        assert_eq!(types(&status), ["Applied=True", "ManagerNotTold=True", "Ready=True"]);
        let said = &status.conditions[1];
        assert_eq!(said.reason.as_deref(), Some("Networkd"));
        assert!(said.message.as_deref().unwrap().contains("somebody's file"));
        assert_eq!(status.state, Some(State::Configured));
    }

    #[test]
    fn the_backend_and_what_speaks_for_it_are_said_and_stay_while_nothing_else_is_known() {
        let found = |backend| {
            let Word::Passed(mut facts) = passed(Stage::Configured, "Configured") else { panic!() };
            let (why, os_type) = ("wicked runs".to_owned(), "sles".to_owned());
            facts.backend = Some(Detected { backend, why, os_type });
            Word::Passed(facts)
        };
        let said = |status: &MultiNicNodeConfigStatus| {
            let condition = status.conditions.iter().find(|condition| condition.type_ == BACKEND).unwrap();
            (condition.reason.clone().unwrap(), condition.message.clone().unwrap())
        };
        let first = status(&object(None), &found(Backend::Wicked), at(1));
        assert_eq!(said(&first), ("Wicked".to_owned(), "wicked runs (os_type sles)".to_owned()));
        let refusal = Refusal { reason: "InstanceMismatch", message: "another server".to_owned() };
        let refused = status(&object(Some(first.clone())), &Word::Refused(refusal), at(2));
        assert_eq!(said(&refused), said(&first));
        let then = status(&object(Some(refused)), &found(Backend::NetworkManager), at(3));
        assert_eq!(said(&then).0, "NetworkManager");
    }

    #[test]
    fn what_waits_is_reconciling() {
        let status = status(&object(None), &passed(Stage::Waiting, "Waiting: no link"), at(1));
        assert_eq!(types(&status), ["Applied=False", "Ready=False", "Reconciling=True"]);
        assert_eq!(status.state, Some(State::InProgress));
    }

    #[test]
    fn a_refusal_leaves_what_was_said_of_the_nics() {
        let before = status(&object(None), &passed(Stage::Configured, "Configured"), at(100));
        let refusal = Refusal { reason: "InstanceMismatch", message: "another server".to_owned() };
        let after = status(&object(Some(before.clone())), &Word::Refused(refusal), at(200));
        assert_eq!(after.interface_statuses, before.interface_statuses);
        assert_eq!(types(&after), ["Applied=False", "Ready=False", "Stalled=True"]);
    }

    #[test]
    fn a_nic_that_is_held_is_in_the_message() {
        let Word::Passed(mut facts) = passed(Stage::Configured, "Configured") else { panic!() };
        let mac = "fa:16:3e:00:00:09".parse().unwrap();
        facts.held.push(HeldFacts { mac, link: None, why: "not confirmed".to_owned() });
        let status = status(&object(None), &Word::Passed(facts), at(1));
        assert!(status.conditions[1].message.as_deref().unwrap().contains("fa:16:3e:00:00:09"));
        assert_eq!(status.state, Some(State::Configured));
    }
}
