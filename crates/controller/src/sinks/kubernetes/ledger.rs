//! Which ledger an object was written from, and what may be taken out of one that is ahead of ours.
//!
//! Every object names the epoch and the revision of the ledger that it was written from. One that names another epoch, or a
//! higher revision, shows that our ledger is a copy of the past or another database: it may add and change, but what it does
//! not know is no reason to remove. That ends for a configuration once its cloud was read since: then the ledger says what
//! is.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::ObjectMeta;
use multinic_api::node_config::InterfaceSpec;
use multinic_api::{LEDGER_EPOCH_ANNOTATION, LEDGER_REVISION_ANNOTATION, MultiNicNodeConfig};
use multinic_core::desired::Position;
use multinic_core::{ConfigKey, NodeName, PortId};

use super::memory::owners;
use super::object::number;
use crate::sinks::error::names;
use crate::sinks::{INTERFACE_OWNERS_ANNOTATION, SinkError};

/// The ledger that a delivery comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// Where it stands.
    pub position: Position,
    /// The configurations for which it says what is: their clouds were read since it stands there, or somebody deleted them.
    pub fresh: BTreeSet<ConfigKey>,
}

/// A position as numbers, to be compared within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    epoch: u64,
    revision: u64,
}

/// What an object that is ahead of the ledger is to be.
#[derive(Debug)]
pub(super) struct Guarded {
    pub object: MultiNicNodeConfig,
    /// The MAC addresses of NICs that the ledger does not know and that stay.
    pub kept: Vec<String>,
    /// The configurations that have NICs in the object.
    pub owners: BTreeSet<ConfigKey>,
}

impl Mark {
    /// What an object names; none where it names no ledger, as those of older versions and programs. Whoever takes the epoch
    /// away confirms that the object may be treated as one of these.
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        let annotations = meta.annotations.as_ref()?;
        let epoch = annotations.get(LEDGER_EPOCH_ANNOTATION)?;
        let revision = annotations.get(LEDGER_REVISION_ANNOTATION).and_then(|text| text.parse().ok());
        Some(Self { epoch: number(epoch), revision: revision.unwrap_or_default() })
    }

    /// Whether a ledger that stands there has seen everything up to here.
    pub fn is_covered_by(self, ledger: Self) -> bool {
        self.epoch == ledger.epoch && self.revision <= ledger.revision
    }
}

impl Ledger {
    pub(super) fn mark(&self) -> Mark {
        mark(&self.position)
    }

    /// Writes the ledger's position into an object.
    pub(super) fn sign(&self, object: &mut MultiNicNodeConfig) {
        let Position { epoch, revision } = &self.position;
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert(LEDGER_EPOCH_ANNOTATION.to_owned(), epoch.clone());
        annotations.insert(LEDGER_REVISION_ANNOTATION.to_owned(), revision.to_string());
    }

    /// Whether it says what is for all of these. Of nobody it says nothing.
    pub(super) fn is_fresh<'a>(&self, owners: impl IntoIterator<Item = &'a ConfigKey>) -> bool {
        let mut owners = owners.into_iter().peekable();
        owners.peek().is_some() && owners.all(|owner| self.fresh.contains(owner))
    }

    /// What an object that is ahead is to be. Where the ledger says what is for everybody, that is what is wanted. Otherwise
    /// it keeps the NICs that the ledger does not know, and the name of the ledger that it was written from.
    pub(super) fn guard(&self, there: &MultiNicNodeConfig, mut wanted: MultiNicNodeConfig) -> Guarded {
        let theirs = owners(there);
        let mut named = owners(&wanted);
        let everybody: BTreeSet<ConfigKey> = theirs.values().chain(named.values()).cloned().collect();
        if self.is_fresh(&everybody) {
            return Guarded { object: wanted, kept: Vec::new(), owners: everybody };
        }
        let nics = std::mem::take(&mut wanted.spec.interfaces);
        let (nics, kept) = self.joined(&there.spec.interfaces, &theirs, nics);
        wanted.spec.interfaces = nics;
        let listed: BTreeSet<&str> =
            wanted.spec.interfaces.iter().filter_map(|nic| nic.port_id.as_deref()).collect();
        named.extend(theirs);
        named.retain(|port, _| listed.contains(port.as_str()));
        let annotations = wanted.metadata.annotations.get_or_insert_default();
        annotations.insert(INTERFACE_OWNERS_ANNOTATION.to_owned(), owners_text(&named));
        for key in [LEDGER_EPOCH_ANNOTATION, LEDGER_REVISION_ANNOTATION] {
            let before = there.metadata.annotations.as_ref().and_then(|annotations| annotations.get(key));
            match before {
                Some(before) => drop(annotations.insert(key.to_owned(), before.clone())),
                None => drop(annotations.remove(key)),
            }
        }
        Guarded { object: wanted, kept, owners: everybody }
    }

    /// What is wanted with what stays. A NIC that stays keeps its name: whoever wants that too keeps the one that it has, and
    /// waits where it has none.
    fn joined(
        &self,
        there: &[InterfaceSpec],
        theirs: &BTreeMap<PortId, ConfigKey>,
        wanted: Vec<InterfaceSpec>,
    ) -> (Vec<InterfaceSpec>, Vec<String>) {
        let mac = |nic: &InterfaceSpec| nic.mac_address.to_ascii_lowercase();
        let listed: BTreeSet<String> = wanted.iter().map(mac).collect();
        let may_go = |nic: &&InterfaceSpec| {
            let owner = nic.port_id.as_deref().and_then(|port| theirs.get(&PortId::from(port)));
            owner.is_some_and(|owner| self.fresh.contains(owner))
        };
        let stays = |nic: &&InterfaceSpec| !listed.contains(&mac(nic)) && !may_go(nic);
        let mut joined: Vec<InterfaceSpec> = there.iter().filter(stays).cloned().collect();
        let kept: Vec<String> = joined.iter().map(mac).collect();
        if kept.is_empty() {
            return (wanted, kept);
        }
        let mut waiting = wanted;
        loop {
            let taken: BTreeSet<String> = joined.iter().filter_map(|nic| nic.name.clone()).collect();
            let clashes =
                |nic: &mut InterfaceSpec| nic.name.as_ref().is_some_and(|name| taken.contains(name));
            let clashing: BTreeSet<String> = waiting.extract_if(.., clashes).map(|nic| mac(&nic)).collect();
            if clashing.is_empty() {
                break;
            }
            joined.extend(there.iter().filter(|nic| clashing.contains(&mac(nic))).cloned());
        }
        joined.extend(waiting);
        (joined, kept)
    }

    /// That something stays in an object.
    pub(super) fn stale(
        &self,
        node: &NodeName,
        there: &MultiNicNodeConfig,
        kept: &[String],
        owners: BTreeSet<ConfigKey>,
    ) -> SinkError {
        let name = |key: &str| {
            let annotations = there.metadata.annotations.as_ref();
            annotations.and_then(|annotations| annotations.get(key)).map_or("?", String::as_str)
        };
        let Position { epoch, revision } = &self.position;
        let problem = format!(
            "its object was written from the ledger {} at revision {}, and this one is {epoch} at revision {revision}, perhaps \
             an old copy: {} stays there until the clouds of {} were read; if that cannot be and it is to go, remove the \
             annotation {LEDGER_EPOCH_ANNOTATION} from the object",
            name(LEDGER_EPOCH_ANNOTATION),
            name(LEDGER_REVISION_ANNOTATION),
            kept.join(", "),
            names(&owners),
        );
        SinkError::LedgerStale { node: node.clone(), problem, owners }
    }

    /// Whether everything of an object may go, which is ahead.
    pub(super) fn may_go(&self, node: &NodeName, there: &MultiNicNodeConfig) -> Result<(), SinkError> {
        let is_ahead = Mark::of(&there.metadata).is_some_and(|mark| !mark.is_covered_by(self.mark()));
        let owners: BTreeSet<ConfigKey> = owners(there).into_values().collect();
        if !is_ahead || self.is_fresh(&owners) {
            return Ok(());
        }
        let kept: Vec<String> =
            there.spec.interfaces.iter().map(|nic| nic.mac_address.to_ascii_lowercase()).collect();
        Err(self.stale(node, there, &kept, owners))
    }
}

pub(super) fn mark(position: &Position) -> Mark {
    Mark { epoch: number(&position.epoch), revision: position.revision }
}

/// The annotation that [`owners`] reads.
pub(super) fn owners_text(owners: &BTreeMap<PortId, ConfigKey>) -> String {
    let owners: BTreeMap<&str, String> =
        owners.iter().map(|(port, owner)| (port.as_str(), owner.to_string())).collect();
    // A map of texts is JSON whatever the texts are.
    serde_json::to_string(&owners).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use multinic_api::MultiNicNodeConfigSpec;

    use super::*;

    fn ledger(epoch: &str, revision: u64, fresh: &[&str]) -> Ledger {
        let fresh = fresh.iter().map(|name| ConfigKey::new("default", *name)).collect();
        Ledger { position: Position { epoch: epoch.to_owned(), revision }, fresh }
    }

    /// NICs by the last digit of their MAC, their name's number and their owner.
    fn object(nics: &[(u8, u8, &str)], ledger: &Ledger) -> MultiNicNodeConfig {
        let nic = |(n, slot, _): &(u8, u8, &str)| InterfaceSpec {
            mac_address: format!("fa:16:3e:00:00:0{n}"),
            port_id: Some(format!("port-{n}")),
            name: Some(format!("multinic{slot}")),
            ..InterfaceSpec::default()
        };
        let spec = MultiNicNodeConfigSpec {
            interfaces: nics.iter().map(nic).collect(),
            ..MultiNicNodeConfigSpec::default()
        };
        let mut object = MultiNicNodeConfig::new("w", spec);
        let owners = nics
            .iter()
            .map(|(n, _, owner)| (format!("port-{n}").as_str().into(), ConfigKey::new("default", *owner)));
        let owners = owners_text(&owners.collect());
        object.metadata.annotations = Some([(INTERFACE_OWNERS_ANNOTATION.to_owned(), owners)].into());
        ledger.sign(&mut object);
        object
    }

    fn guarded(fresh: &[&str], wanted: &[(u8, u8, &str)]) -> (Vec<String>, usize, Option<Mark>) {
        let there = object(&[(1, 0, "a"), (2, 1, "b")], &ledger("old", 9, &[]));
        let ours = ledger("new", 3, fresh);
        let Guarded { object, kept, .. } = ours.guard(&there, object(wanted, &ours));
        let nics = object.spec.interfaces.iter();
        let mut nics: Vec<String> = nics
            .map(|nic| format!("{}={}", &nic.mac_address[16..], &nic.name.as_ref().unwrap()[8..]))
            .collect();
        nics.sort();
        assert_eq!(owners(&object).len(), nics.len());
        (nics, kept.len(), Mark::of(&object.metadata))
    }

    #[test]
    fn what_an_old_ledger_does_not_know_stays_until_its_owners_cloud_was_read() {
        let (old, new) = (Some(ledger("old", 9, &[]).mark()), Some(ledger("new", 3, &[]).mark()));
        let list = |nics: &[&str]| nics.iter().map(|nic| (*nic).to_owned()).collect::<Vec<_>>();
        // Adding goes on, and so does the removal of what is known to be gone.
        assert_eq!(guarded(&[], &[(3, 2, "a")]), (list(&["1=0", "2=1", "3=2"]), 2, old));
        assert_eq!(guarded(&["a"], &[(3, 2, "a")]), (list(&["2=1", "3=2"]), 1, old));
        assert_eq!(guarded(&["a", "b"], &[(3, 2, "a")]), (list(&["3=2"]), 0, new));
        // It names the old ledger until everybody's word is fresh.
        assert_eq!(guarded(&["a"], &[(1, 0, "a"), (2, 1, "b")]), (list(&["1=0", "2=1"]), 0, old));
    }

    #[test]
    fn a_name_that_a_nic_keeps_is_given_to_no_other() {
        // The third is to have the first's name, and waits; the second is to have the third's, and keeps its own.
        assert_eq!(guarded(&[], &[(3, 0, "a"), (2, 5, "b")]).0, ["1=0", "2=5"]);
        assert_eq!(guarded(&[], &[(2, 0, "b"), (3, 1, "a")]).0, ["1=0", "2=1"]);
    }

    #[test]
    fn a_ledger_covers_what_was_written_from_it_before() {
        let mark = |epoch, revision| ledger(epoch, revision, &[]).mark();
        assert!(mark("e", 3).is_covered_by(mark("e", 3)) && mark("e", 2).is_covered_by(mark("e", 3)));
        assert!(!mark("e", 4).is_covered_by(mark("e", 3)) && !mark("f", 1).is_covered_by(mark("e", 3)));
    }
}
