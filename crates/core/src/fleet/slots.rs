//! Which MAC has which `multinicN`. A MAC keeps its slot while it is desired, whatever else comes or goes; freed slots
//! are reused, lowest first.

use std::collections::{BTreeMap, BTreeSet};

use crate::{MacAddr, Slot};

/// What is remembered of a node's slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSlots {
    /// Slots that the node verified.
    verified: BTreeMap<MacAddr, Slot>,
    /// Slots that were published, and those that are being released.
    published: BTreeMap<MacAddr, Slot>,
}

/// One NIC that asks for a slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request<O> {
    /// New NICs take slots in this order, then in that of their MACs.
    pub order: O,
    /// The MAC.
    pub mac: MacAddr,
}

impl NodeSlots {
    /// Remembers a slot that the node verified.
    pub fn verified(&mut self, mac: MacAddr, slot: Slot) {
        self.verified.insert(mac, slot);
    }

    /// Remembers a slot that was published.
    pub fn published(&mut self, mac: MacAddr, slot: Slot) {
        self.published.insert(mac, slot);
    }

    /// Remembers a slot that is being released. If the MAC is published again, that says more.
    pub fn releasing(&mut self, mac: MacAddr, slot: Slot) {
        self.published.entry(mac).or_insert(slot);
    }

    /// Gives a slot to each request, as far as `limit` slots go. What is remembered stays, even beyond a limit that
    /// was lowered since.
    pub fn assign<O: Ord>(&self, mut requests: Vec<Request<O>>, limit: u8) -> BTreeMap<MacAddr, Slot> {
        let mut holders: BTreeMap<Slot, MacAddr> = BTreeMap::new();
        // A name that the node verified cannot be taken from it by one that was only published.
        for (mac, slot) in &self.verified {
            holders.entry(*slot).or_insert(*mac);
        }
        for (mac, slot) in &self.published {
            if !self.verified.contains_key(mac) {
                holders.entry(*slot).or_insert(*mac);
            }
        }
        let held: BTreeMap<MacAddr, Slot> = holders.iter().map(|(slot, mac)| (*mac, *slot)).collect();
        let mut taken: BTreeSet<Slot> = holders.into_keys().collect();
        requests.sort();
        let mut assigned = BTreeMap::new();
        for Request { mac, .. } in requests {
            if let Some(slot) = held.get(&mac) {
                assigned.insert(mac, *slot);
            } else if let Some(slot) = Slot::first(limit).find(|slot| !taken.contains(slot)) {
                taken.insert(slot);
                assigned.insert(mac, slot);
            }
        }
        assigned
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mac(n: u8) -> MacAddr {
        MacAddr::from_bytes([0xfa, 0x16, 0x3e, 0, 0, n]).unwrap()
    }

    fn slot(n: u8) -> Slot {
        Slot::new(n.into()).unwrap()
    }

    fn ask(macs: impl IntoIterator<Item = u8>) -> Vec<Request<()>> {
        macs.into_iter().map(|n| Request { order: (), mac: mac(n) }).collect()
    }

    #[test]
    fn a_verified_slot_wins_over_a_published_one() {
        let mut memory = NodeSlots::default();
        memory.published(mac(1), slot(3));
        memory.published(mac(2), slot(0));
        memory.verified(mac(2), slot(3));
        let assigned = memory.assign(ask([1, 2]), 10);
        assert_eq!(assigned[&mac(2)], slot(3));
        assert_eq!(assigned[&mac(1)], slot(0));
    }

    #[test]
    fn a_lowered_limit_takes_nothing_away() {
        let mut memory = NodeSlots::default();
        memory.published(mac(1), slot(7));
        let assigned = memory.assign(ask([1, 2, 3, 4]), 2);
        assert_eq!(assigned.get(&mac(1)), Some(&slot(7)));
        assert_eq!(assigned.len(), 3);
    }

    #[test]
    fn as_many_slots_as_a_user_allows_are_given_and_no_more() {
        for limit in [1, 10, 11, 64] {
            let assigned = NodeSlots::default().assign(ask(0..=limit), limit);
            let slots: Vec<u8> = assigned.values().map(|slot| slot.number()).collect();
            assert_eq!(slots, (0..limit).collect::<Vec<_>>());
            assert!(!assigned.contains_key(&mac(limit)));
        }
    }

    proptest! {
        /// Whatever comes and goes, in whatever order: who stays keeps the slot, nobody shares one, new ones take the
        /// lowest free ones, and as many are served as there are slots.
        #[test]
        fn slots_are_stable(rounds in prop::collection::vec(prop::collection::btree_set(0u8..24, 0..14), 1..12)) {
            let mut memory: BTreeMap<MacAddr, Slot> = BTreeMap::new();
            for wanted in rounds {
                let mut slots = NodeSlots::default();
                for (mac, slot) in &memory {
                    slots.published(*mac, *slot);
                }
                let assigned = slots.assign(ask(wanted.iter().rev().copied()), 10);
                for (mac, slot) in &assigned {
                    if let Some(before) = memory.get(mac) {
                        prop_assert_eq!(before, slot);
                    }
                }
                let distinct: BTreeSet<_> = assigned.values().collect();
                prop_assert_eq!(distinct.len(), assigned.len());
                let staying: BTreeSet<Slot> = memory.values().copied().collect();
                let fresh: BTreeSet<Slot> =
                    assigned.iter().filter(|(mac, _)| !memory.contains_key(mac)).map(|(_, slot)| *slot).collect();
                let lowest: BTreeSet<Slot> = Slot::first(10).filter(|slot| !staying.contains(slot)).take(fresh.len()).collect();
                prop_assert_eq!(&fresh, &lowest);
                let newcomers = wanted.iter().filter(|n| !memory.contains_key(&mac(**n))).count();
                prop_assert_eq!(fresh.len(), newcomers.min(10 - staying.len()));
                // What is not wanted any more is released by the next round.
                memory = assigned;
            }
        }
    }
}
