//! What the last good read asks for, in the form that passes work with.

use std::collections::{BTreeMap, BTreeSet};

use multinic_core::MacAddr;
use multinic_core::desired::{DesiredNic, DesiredState, InvalidEntry, Tombstone};
use multinic_core::node::absence::{Proof, Verdict};

/// What the last good read asks for. It stays in force while later reads fail.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Whether the source knows a node of this name.
    pub node_known: bool,
    /// The NICs to have; no MAC twice.
    pub nics: Vec<DesiredNic>,
    /// Entries that cannot be used.
    pub invalid: Vec<InvalidEntry>,
    /// Tombstones, for the report.
    pub tombstones: Vec<Tombstone>,
    /// NICs to take away, with the proof.
    pub releases: BTreeMap<MacAddr, Proof>,
    /// NICs of ours that are not named and stay, with the reason.
    pub held: BTreeMap<MacAddr, &'static str>,
}

impl Wishes {
    /// Joins a read with what may be taken away on its grounds.
    pub fn new(read: DesiredState, verdict: Verdict) -> Self {
        let DesiredState { node_known, position: _, nics, mut invalid, tombstones, silence: _ } = read;
        let Verdict { releases, held } = verdict;
        let mut seen = BTreeMap::<MacAddr, u32>::new();
        for nic in &nics {
            *seen.entry(nic.mac).or_default() += 1;
        }
        let (nics, doubles): (Vec<_>, Vec<_>) =
            nics.into_iter().partition(|nic| seen.get(&nic.mac) == Some(&1));
        invalid.extend(doubles.into_iter().map(|nic| InvalidEntry {
            entry: nic.entry,
            revision: nic.revision,
            mac: Some(nic.mac),
            reason: format!(
                "DuplicateMac: several entries of this node name {}; none of them is used",
                nic.mac
            ),
            reported: nic.reported,
        }));
        Self { node_known, nics, invalid, tombstones, releases, held }
    }

    /// The MACs to take away.
    pub fn releases(&self) -> BTreeSet<MacAddr> {
        self.releases.keys().copied().collect()
    }

    /// The MACs that anything here is about: events of other links mean nothing to us.
    pub fn macs(&self) -> BTreeSet<MacAddr> {
        let nics = self.nics.iter().map(|nic| nic.mac);
        nics.chain(self.releases.keys().copied()).collect()
    }

    /// How many entries the source has for this node.
    pub fn entries(&self) -> usize {
        self.nics.len() + self.invalid.len()
    }
}

#[cfg(test)]
mod tests {
    use multinic_core::desired::{EntryId, Reported};
    use multinic_core::{Addresses, InterfaceOptions, Mtu};

    use super::*;

    fn nic(entry: i64, mac: &str) -> DesiredNic {
        DesiredNic {
            entry: EntryId(entry),
            revision: 0,
            mac: mac.parse().unwrap(),
            slot: None,
            port: None,
            addresses: Addresses::default(),
            mtu: Mtu::new(1500).unwrap(),
            options: InterfaceOptions::default(),
            reported: Reported::default(),
        }
    }

    #[test]
    fn a_mac_that_is_named_twice_is_used_by_neither_entry() {
        let nics =
            vec![nic(1, "02:00:00:00:00:01"), nic(2, "02:00:00:00:00:02"), nic(3, "02:00:00:00:00:01")];
        let read = DesiredState { node_known: true, nics, ..DesiredState::default() };
        let wishes = Wishes::new(read, Verdict::default());
        assert_eq!(wishes.nics.iter().map(|nic| nic.entry.0).collect::<Vec<_>>(), [2]);
        assert_eq!(wishes.invalid.iter().map(|entry| entry.entry.0).collect::<Vec<_>>(), [1, 3]);
        assert!(wishes.invalid[0].reason.starts_with("DuplicateMac: "));
        assert_eq!(wishes.entries(), 3);
    }
}
