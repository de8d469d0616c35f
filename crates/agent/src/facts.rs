//! What is known of every NIC after a pass, for whoever is to be told: the object's status, the node's annotation, a
//! job's termination message.

use multinic_core::MacAddr;
use multinic_core::desired::Outcome;
use multinic_core::node::observed::{Found, Observed};
use multinic_host::Unchecked;
use multinic_host::backend::detect::Detected;

use crate::node::Passed;
use crate::reports::Verified;
use crate::wishes::Wishes;

/// What became of a NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is on its way: its link is not there yet, or a change waits.
    Waiting,
    /// It is as desired, verified.
    Configured,
    /// It is not.
    Failed,
}

/// What the kernel shows of a NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    /// The link's name.
    pub name: String,
    /// The kernel's index.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Its addresses with their prefix lengths, without those that the kernel makes itself.
    pub addresses: Vec<String>,
}

/// What is known of an entry of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicFacts {
    /// The entry's number in the source.
    pub entry: i64,
    /// The slot that is asked for.
    pub id: Option<u8>,
    /// The MAC address, as far as it can be read.
    pub mac: Option<MacAddr>,
    /// The port, for people.
    pub port: Option<String>,
    /// What the kernel shows; none while there is no such link.
    pub link: Option<LinkFacts>,
    /// What became of it.
    pub stage: Stage,
    /// A stable CamelCase word.
    pub reason: String,
    /// A sentence; empty where the reason says it all.
    pub message: String,
}

/// A NIC of ours that the source does not name and that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldFacts {
    /// The MAC address.
    pub mac: MacAddr,
    /// What the kernel shows.
    pub link: Option<LinkFacts>,
    /// Why it stays.
    pub why: String,
}

/// What is known after a pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// By the order of the source.
    pub nics: Vec<NicFacts>,
    /// NICs of ours that the source does not name.
    pub held: Vec<HeldFacts>,
    /// NICs that are to be taken away and are not yet, with the reason.
    pub leaving: Vec<(MacAddr, String)>,
    /// What the network manager was not asked or told of what it is to read at the next boot.
    pub unchecked: Option<Unchecked>,
    /// How it has NICs of ours otherwise until then.
    pub untold: Vec<String>,
    /// How the node keeps the configuration of its NICs.
    pub backend: Option<Detected>,
}

impl Facts {
    /// Joins what was wished, what was verified and what the kernel showed last.
    pub fn new(wishes: &Wishes, verified: &[Verified], passed: &Passed) -> Self {
        let observed = &passed.observed;
        let outcome_of = |entry| {
            verified
                .iter()
                .find(|verified| verified.report.entry == entry)
                .map(|verified| &verified.report.outcome)
        };
        let mut nics: Vec<NicFacts> = wishes
            .nics
            .iter()
            .map(|nic| {
                let (stage, reason, message) = judge(outcome_of(nic.entry));
                NicFacts {
                    entry: nic.entry.0,
                    id: nic.slot.map(multinic_core::Slot::number),
                    mac: Some(nic.mac),
                    port: nic.port.as_ref().map(ToString::to_string),
                    link: link(observed, nic.mac),
                    stage,
                    reason,
                    message,
                }
            })
            .collect();
        nics.extend(wishes.invalid.iter().map(|entry| {
            let (reason, message) = split(&entry.reason);
            NicFacts {
                entry: entry.entry.0,
                id: None,
                mac: entry.mac,
                port: None,
                link: entry.mac.and_then(|mac| link(observed, mac)),
                stage: Stage::Failed,
                reason,
                message,
            }
        }));
        nics.sort_by_key(|nic| nic.entry);
        let held = wishes.held.iter().map(|(mac, why)| HeldFacts {
            mac: *mac,
            link: link(observed, *mac),
            why: (*why).to_owned(),
        });
        let leaving = wishes.releases.keys().filter_map(|mac| {
            let refused = passed.plan.refused.iter().find(|refusal| refusal.mac == *mac);
            let refused = refused.map(|refusal| refusal.reason.to_string());
            let unmade = || passed.unmade.get(mac).cloned();
            let planned = || {
                let planned = passed.plan.changes.iter().any(|change| change.mac == *mac);
                planned.then(|| "Waiting: it is taken away next".to_owned())
            };
            Some((*mac, refused.or_else(unmade).or_else(planned)?))
        });
        let (unchecked, untold) = (passed.unchecked.clone(), passed.untold.clone());
        let backend = passed.backend.clone();
        Self { nics, held: held.collect(), leaving: leaving.collect(), unchecked, untold, backend }
    }

    /// How many entries are as desired.
    pub fn configured(&self) -> usize {
        self.nics.iter().filter(|nic| nic.stage == Stage::Configured).count()
    }
}

fn judge(outcome: Option<&Outcome>) -> (Stage, String, String) {
    match outcome {
        None => (Stage::Waiting, "Waiting".to_owned(), String::new()),
        Some(Outcome::Applied { .. }) => (Stage::Configured, "Configured".to_owned(), String::new()),
        Some(Outcome::Failed { error, .. }) => {
            let (reason, message) = split(error);
            // A NIC whose link is yet to come is on its way, and one that works under another name has failed.
            let stage = if reason == "Waiting" { Stage::Waiting } else { Stage::Failed };
            (stage, reason, message)
        }
    }
}

/// Parts a reason in CamelCase from its sentence. What has none is about a field of the entry.
fn split(error: &str) -> (String, String) {
    match error.split_once(": ") {
        Some((reason, message))
            if reason.starts_with(|first: char| first.is_ascii_uppercase())
                && reason.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
        {
            (reason.to_owned(), message.to_owned())
        }
        _ => ("InvalidInterface".to_owned(), error.to_owned()),
    }
}

fn link(observed: &Observed, mac: MacAddr) -> Option<LinkFacts> {
    let Found::One(link) = observed.find(mac) else { return None };
    let addresses = observed.addresses_of(link.index).filter(|address| !address.link_local);
    Some(LinkFacts {
        name: link.name.clone(),
        index: link.index,
        up: link.up,
        mtu: link.mtu,
        addresses: addresses.map(|address| address.net.to_string()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_word_and_everything_else_is_about_a_field() {
        assert_eq!(split("InUse: it is"), ("InUse".to_owned(), "it is".to_owned()));
        assert_eq!(
            split("mtu: there is none"),
            ("InvalidInterface".to_owned(), "mtu: there is none".to_owned())
        );
        assert_eq!(
            split("address 10.0.0.1 is outside"),
            ("InvalidInterface".to_owned(), "address 10.0.0.1 is outside".to_owned())
        );
    }
}
