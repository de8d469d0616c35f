//! What we made of NICs since the node booted, and unmade again by a later change.
//!
//! A network manager that read it at its start has it in mind until its next one: networkd sets it again when the link goes
//! down and comes back. What comes back in that way is still ours, and not somebody's.

use std::collections::BTreeMap;

use multinic_core::MacAddr;
use multinic_core::node::{NicTarget, Owned};

use crate::of_boot::OfBoot;

/// How much is remembered of one NIC. A manager has one in mind: what it read at the boot, or at a later start.
const MOST: usize = 8;
/// Beyond so many NICs, those that are not ours any more are forgotten.
const MOST_NICS: usize = 128;

/// What was made and unmade, of the NICs of one boot: by MAC, the oldest first. Nothing has what was before in mind any more.
pub type Earlier = OfBoot<BTreeMap<MacAddr, Vec<NicTarget>>>;

impl Earlier {
    /// Remembers what a NIC is not to be like any more. `owned`: what is ours.
    pub fn remember(&mut self, target: NicTarget, owned: &Owned) {
        if self.nics.len() >= MOST_NICS {
            self.nics.retain(|mac, _| owned.contains_key(mac));
        }
        let known = self.nics.entry(target.mac).or_default();
        if known.contains(&target) {
            return;
        }
        if known.len() >= MOST {
            // The oldest is what the boot made.
            known.remove(1);
        }
        known.push(target);
    }
}

#[cfg(test)]
mod tests {
    use multinic_core::{Addresses, Mtu, NicOptions};

    use super::*;

    fn target(last: u8) -> NicTarget {
        NicTarget {
            mac: "fa:16:3e:00:00:01".parse().unwrap(),
            name: "multinic0".parse().unwrap(),
            addresses: Addresses::parse([format!("192.0.2.{last}/24").as_str()]).unwrap(),
            mtu: Mtu::new(1500).unwrap(),
            options: NicOptions::default(),
        }
    }

    #[test]
    fn what_the_boot_made_and_the_newest_are_kept_and_each_once() {
        let mut earlier = Earlier::default();
        earlier.in_boot("first");
        for last in [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1] {
            earlier.remember(target(last), &Owned::new());
        }
        let kept = &earlier.nics()[&target(1).mac];
        assert_eq!(*kept, [1, 4, 5, 6, 7, 8, 9, 10].map(target));
        earlier.in_boot("first");
        assert!(!earlier.is_empty());
        earlier.in_boot("second");
        assert!(earlier.is_empty());
    }

    #[test]
    fn nics_that_are_not_ours_any_more_do_not_pile_up() {
        let mut earlier = Earlier::default();
        for n in 0..1000u16 {
            let [high, low] = n.to_be_bytes();
            let mac = MacAddr::from_bytes([0xfa, 0x16, 0x3e, 1, high, low]).unwrap();
            earlier.remember(NicTarget { mac, ..target(1) }, &Owned::new());
        }
        assert!(earlier.nics().len() <= MOST_NICS);
    }
}
