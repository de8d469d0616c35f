//! NICs of ours that have each other's names, as after somebody's hand, or udev without our files: none can be given its own
//! before another gives it up. One of them steps aside under a name that nobody has, with all that it is to have but its files;
//! the next plan gives it its name.

use std::collections::BTreeMap;

use super::changes::{Change, ChangeKind};
use super::observed::{Found, Link};
use super::plan::Planner;
use super::target::{Drift, Step, drift};
use crate::desired::DesiredNic;
use crate::{MacAddr, Vlan};

/// What the NICs that wait for their names are waiting for, by their links.
type Wants<'a> = BTreeMap<u32, (&'a Link, MacAddr, String)>;

impl<'a> Planner<'a> {
    /// Has one NIC step aside, if that lets others of those that wait have their names. Says which.
    pub(super) fn break_ring(&mut self, waiting: &[&DesiredNic], slots: u8) -> Option<MacAddr> {
        let wants: Wants<'a> = waiting.iter().filter_map(|nic| self.want(nic, slots)).collect();
        let mut members = wants.iter().filter(|(index, _)| is_in_ring(&wants, **index));
        // What it is to be like meanwhile is what was verified.
        let (_, (link, mac, _)) = members.find(|(_, (_, mac, _))| self.owned.contains_key(mac))?;
        self.step_aside(link, *mac)
    }

    /// What a NIC waits for, if nothing stands in its way but that a link has its name.
    fn want(&self, nic: &DesiredNic, slots: u8) -> Option<(u32, (&'a Link, MacAddr, String))> {
        let (mac, observed) = (nic.mac, self.observed);
        let Found::One(link) = observed.find(mac) else { return None };
        let (name, _) = self.choose_name(nic, link, slots).ok()?;
        let text = name.to_string();
        let may_change = link.mac == Some(mac) && self.obstacles(mac, link).is_empty();
        let vlan = nic.options.resolve(name.slot()).vlan.map(|id| Vlan { interface: name, id });
        let may_have = self.file_is_free(name, mac).is_ok()
            && !observed.links.iter().any(|other| other.altnames.contains(&text))
            && vlan.is_none_or(|vlan| self.vlan_is_free(vlan, link, &self.former(mac)).is_ok());
        (may_change && may_have && link.name != text).then_some((link.index, (link, mac, text)))
    }

    fn step_aside(&mut self, link: &Link, mac: MacAddr) -> Option<MacAddr> {
        let owned = self.owned.get(&mac)?;
        let (target, former) = (owned.target.clone(), self.former(mac));
        // Not its original one: somebody's file for `en*` or `eth*` may fit that, and take the NIC while it waits.
        let name = self.fresh_name(link);
        let mut drift = drift(self.observed, link, &target, &former);
        drift.retain(|drift| *drift != Drift::File);
        let own = target.name.to_string();
        let mut steps = self.steps(link, &target, &former, &drift);
        steps.retain(|step| *step != Step::DropAltName(own.clone()));
        let rename = steps.iter_mut().find(|step| **step == Step::Rename(own.clone()))?;
        *rename = Step::Rename(name.clone());
        self.freed.insert(link.index);
        self.plan.changes.push(Change {
            mac,
            kind: ChangeKind::StepAside(name),
            link: Some(link.index),
            original_name: owned.original_name.clone(),
            original_mtu: owned.original_mtu,
            target: Some(target),
            former,
            steps,
            name_conflict: None,
        });
        Some(mac)
    }
}

/// Whether a link waits for a name that leads back to its own.
fn is_in_ring(wants: &Wants<'_>, start: u32) -> bool {
    let holder_of_wanted = |index: u32| {
        let (_, _, name) = wants.get(&index)?;
        wants.iter().find(|(_, (link, _, _))| link.name == *name).map(|(index, _)| *index)
    };
    let mut at = start;
    for _ in 0..wants.len() {
        match holder_of_wanted(at) {
            Some(next) if next == start => return true,
            Some(next) => at = next,
            None => return false,
        }
    }
    false
}
