//! What of a change of the status is worth an event.

use std::collections::BTreeSet;

use kube::runtime::events::{Event, EventType};
use multinic_api::MultiNicNodeConfigStatus;
use multinic_api::node_config::InterfaceStatus;
use multinic_core::MacAddr;

use super::access::cut;
use super::status::{HOST_UNSAFE, IN_USE, Word};
use crate::facts::Facts;

/// events.k8s.io/v1 takes notes of at most 1 kB.
const LONGEST_NOTE: usize = 1000;

/// The event of NICs that begin to be held; none where all of them were held before.
pub fn held(facts: &Facts, before: &BTreeSet<MacAddr>) -> Option<Event> {
    facts.held.iter().any(|held| !before.contains(&held.mac)).then(|| {
        let held: Vec<String> = facts.held.iter().map(|held| format!("{}: {}", held.mac, held.why)).collect();
        event(EventType::Warning, "InterfaceHeld", "Remove", &held.join("; "))
    })
}

/// The events of going from one status to the next: one per reason, whatever number of NICs it is about.
pub fn occasions(
    before: Option<&MultiNicNodeConfigStatus>,
    after: &MultiNicNodeConfigStatus,
    word: &Word,
) -> Vec<Event> {
    let mut events = Vec::new();
    let old_nics = before.map(|status| status.interface_statuses.as_slice()).unwrap_or_default();
    match word {
        Word::Refused(refusal) => {
            let known = before.is_some_and(|status| says(status, refusal.reason, &refusal.message));
            if !known {
                events.push(event(EventType::Warning, refusal.reason, "Refuse", &refusal.message));
            }
            return events;
        }
        Word::CleaningUp(facts) => {
            let stuck = facts.leaving.iter().filter(|(_, why)| !why.starts_with("Waiting"));
            let stuck: Vec<String> = stuck.map(|(mac, why)| format!("{mac}: {why}")).collect();
            let conditions = |status: &MultiNicNodeConfigStatus| status.conditions.clone();
            if !stuck.is_empty() && before.map(conditions) != Some(after.conditions.clone()) {
                events.push(event(EventType::Warning, "CleanUpBlocked", "CleanUp", &stuck.join("; ")));
            }
            return events;
        }
        Word::CleanedUp => {
            let note = "everything that the MultiNicNodeConfig named was taken away";
            return vec![event(EventType::Normal, "CleanedUp", "CleanUp", note)];
        }
        Word::Passed(facts) => {
            let gone = old_nics.iter().filter(|old| {
                let mac = old.mac_address.as_deref().unwrap_or_default();
                !after.interface_statuses.iter().any(|new| new.mac_address == old.mac_address)
                    && !facts.held.iter().any(|held| held.mac.to_string() == mac)
                    && !facts.leaving.iter().any(|(leaving, _)| leaving.to_string() == mac)
            });
            let gone: Vec<String> = gone.map(name).collect();
            if !gone.is_empty() {
                events.push(event(EventType::Normal, "InterfaceRemoved", "Remove", &gone.join(", ")));
            }
        }
    }
    let news = after.interface_statuses.iter().filter(|new| {
        let same = |old: &&InterfaceStatus| old.mac_address == new.mac_address;
        let old = old_nics.iter().find(same);
        old.is_none_or(|old| {
            (&old.status, &old.reason, &old.message, &old.cidr, &old.mtu)
                != (&new.status, &new.reason, &new.message, &new.cidr, &new.mtu)
        })
    });
    let (mut configured, mut failed, mut left_alone) = (Vec::new(), Vec::new(), Vec::new());
    for new in news {
        match new.status.as_deref() {
            Some("Configured") => {
                let addresses = new.addresses.clone().unwrap_or_default().join(" ");
                configured.push(format!("{} {addresses}", name(new)).trim_end().to_owned());
            }
            Some("Failed") => {
                let reason = new.reason.as_deref().unwrap_or_default();
                let list =
                    if [HOST_UNSAFE, IN_USE].contains(&reason) { &mut left_alone } else { &mut failed };
                list.push(format!("{}: {reason}: {}", name(new), new.message.as_deref().unwrap_or_default()));
            }
            _ => {}
        }
    }
    if !configured.is_empty() {
        events.push(event(EventType::Normal, "InterfaceConfigured", "Configure", &configured.join(", ")));
    }
    if !left_alone.is_empty() {
        events.push(event(EventType::Warning, HOST_UNSAFE, "Configure", &left_alone.join("; ")));
    }
    if !failed.is_empty() {
        events.push(event(EventType::Warning, "InterfaceFailed", "Configure", &failed.join("; ")));
    }
    events
}

fn says(status: &MultiNicNodeConfigStatus, reason: &str, message: &str) -> bool {
    status.conditions.iter().any(|condition| {
        condition.type_ == "Ready"
            && condition.reason.as_deref() == Some(reason)
            && condition.message.as_deref() == Some(super::access::bounded(message).as_str())
    })
}

fn name(nic: &InterfaceStatus) -> String {
    let mac = nic.mac_address.as_deref().unwrap_or("?");
    nic.name.as_ref().map_or_else(|| mac.to_owned(), |name| format!("{name} ({mac})"))
}

fn event(type_: EventType, reason: &str, action: &str, note: &str) -> Event {
    let note = Some(cut(note, LONGEST_NOTE)).filter(|note| !note.is_empty());
    Event { type_, reason: reason.to_owned(), note, action: action.to_owned(), secondary: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::HeldFacts;
    use crate::node_resource::read::Refusal;

    fn status(nics: &[(&str, &str)]) -> MultiNicNodeConfigStatus {
        let nics = nics.iter().map(|(mac, word)| InterfaceStatus {
            mac_address: Some((*mac).to_owned()),
            status: Some((*word).to_owned()),
            reason: Some((*word).to_owned()),
            ..InterfaceStatus::default()
        });
        MultiNicNodeConfigStatus { interface_statuses: nics.collect(), ..MultiNicNodeConfigStatus::default() }
    }

    fn reasons(
        before: Option<&MultiNicNodeConfigStatus>,
        after: &MultiNicNodeConfigStatus,
        word: &Word,
    ) -> Vec<String> {
        occasions(before, after, word).into_iter().map(|event| event.reason).collect()
    }

    #[test]
    fn what_did_not_change_is_no_event() {
        let passed = Word::Passed(Facts::default());
        let first = status(&[("a", "Configured"), ("b", "Failed"), ("c", "InProgress")]);
        assert_eq!(reasons(None, &first, &passed), ["InterfaceConfigured", "InterfaceFailed"]);
        assert!(reasons(Some(&first), &first, &passed).is_empty());
        let then = status(&[("a", "Configured"), ("b", "Configured")]);
        assert_eq!(reasons(Some(&first), &then, &passed), ["InterfaceRemoved", "InterfaceConfigured"]);
    }

    #[test]
    fn what_is_held_is_said_when_it_begins() {
        let mac: MacAddr = "fa:16:3e:00:00:01".parse().unwrap();
        let facts =
            Facts { held: vec![HeldFacts { mac, link: None, why: "why".to_owned() }], ..Facts::default() };
        assert_eq!(held(&facts, &BTreeSet::new()).unwrap().reason, "InterfaceHeld");
        assert!(held(&facts, &[mac].into()).is_none());
        assert!(held(&Facts::default(), &[mac].into()).is_none());
    }

    #[test]
    fn a_note_is_never_longer_than_the_api_takes() {
        let refusal = Refusal { reason: "InvalidSpec", message: "ä".repeat(5000) };
        let events = occasions(None, &status(&[]), &Word::Refused(refusal));
        assert!(events[0].note.as_ref().unwrap().len() <= 1024);
    }
}
