//! What is reported to the source, and what of it the source does not know yet.

use std::collections::{BTreeMap, BTreeSet};

use multinic_core::MacAddr;
use multinic_core::desired::{DesiredNic, EntryId, NicReport, Outcome, Reported};
use multinic_core::node::{NodePlan, Settled};

use crate::wishes::Wishes;

/// What became of an entry, beside what the source holds about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What is to be known.
    pub report: NicReport,
    /// What the source showed at the last read.
    pub reported: Reported,
}

/// Why a NIC is not as desired although a change to it was planned: it failed, or it waits.
pub type Unmade = BTreeMap<MacAddr, String>;

/// What became of every entry, by a plan that was made after all changes. An absent NIC is spoken of once it was
/// absent at an earlier read too: a hot-plugged one may be on its way.
pub fn outcomes(
    wishes: &Wishes,
    plan: &NodePlan,
    unmade: &Unmade,
    waited_for: &BTreeSet<MacAddr>,
    moved: &BTreeSet<MacAddr>,
) -> Vec<Verified> {
    let mut found = Vec::new();
    for nic in &wishes.nics {
        if let Some(outcome) = outcome(nic, plan, unmade, waited_for, moved) {
            let report = NicReport { entry: nic.entry, revision: nic.revision, outcome };
            found.push(Verified { report, reported: nic.reported.clone() });
        }
    }
    for entry in &wishes.invalid {
        let outcome = Outcome::Failed { name: None, error: entry.reason.clone() };
        let report = NicReport { entry: entry.entry, revision: entry.revision, outcome };
        found.push(Verified { report, reported: entry.reported.clone() });
    }
    found
}

fn outcome(
    nic: &DesiredNic,
    plan: &NodePlan,
    unmade: &Unmade,
    waited_for: &BTreeSet<MacAddr>,
    moved: &BTreeSet<MacAddr>,
) -> Option<Outcome> {
    if let Some(settled) = plan.settled.iter().find(|settled| settled.target.mac == nic.mac) {
        return Some(of_settled(settled));
    }
    if let Some(refusal) = plan.refused.iter().find(|refusal| refusal.mac == nic.mac) {
        return Some(Outcome::Failed { name: None, error: refusal.reason.to_string() });
    }
    if plan.absent.contains(&nic.mac) {
        let is_moved = moved.contains(&nic.mac);
        let error = if is_moved {
            "Waiting: its link was moved into another network namespace, as that of a pod; it is configured again when it comes \
             back"
        } else {
            "Waiting: no link with this MAC on the node"
        };
        let outcome = Outcome::Failed { name: None, error: error.to_owned() };
        // One that was moved is not on its way.
        return (is_moved || waited_for.contains(&nic.mac)).then_some(outcome);
    }
    // What was changed a moment ago and has drifted since is looked at again at once; there is nothing to say yet.
    let error = unmade.get(&nic.mac)?.clone();
    Some(Outcome::Failed { name: None, error })
}

fn of_settled(settled: &Settled) -> Outcome {
    let Settled { target, name_conflict, duplicates } = settled;
    if let Some(first) = duplicates.first() {
        let error =
            format!("DuplicateAddress: another host has {} too, as the kernel found out", first.addr());
        return Outcome::Failed { name: Some(target.name), error };
    }
    if let Some(wanted) = name_conflict {
        let error = format!(
            "NameConflict: it keeps the name {}, under which it works, instead of {}",
            target.name,
            wanted.interface()
        );
        return Outcome::Failed { name: Some(target.name), error };
    }
    Outcome::Applied { name: target.name, addresses: target.addresses.clone() }
}

/// What this process reported, for sources that cannot hold all of it (tables of the older programs).
#[derive(Debug, Default)]
pub struct ReportBook {
    sent: BTreeMap<EntryId, (u64, Outcome)>,
    released: BTreeSet<EntryId>,
}

impl ReportBook {
    /// What the source does not know yet.
    pub fn unknown(&self, verified: &[Verified]) -> Vec<NicReport> {
        verified
            .iter()
            .filter(|verified| self.is_unknown(verified))
            .map(|verified| verified.report.clone())
            .collect()
    }

    fn is_unknown(&self, verified: &Verified) -> bool {
        let Verified { report, reported } = verified;
        let held_exactly = match &report.outcome {
            Outcome::Applied { name, addresses: _ } => {
                reported.applied && reported.name == Some(*name) && reported.error.is_none()
            }
            Outcome::Failed { name, error } => {
                !reported.applied && reported.name == *name && reported.error.as_ref() == Some(error)
            }
        };
        let flag_agrees = reported.applied == matches!(report.outcome, Outcome::Applied { .. });
        let told = self
            .sent
            .get(&report.entry)
            .is_some_and(|(revision, outcome)| *revision == report.revision && *outcome == report.outcome);
        !(held_exactly || flag_agrees && told)
    }

    /// Tombstones that are carried out and whose source does not know that yet.
    pub fn unknown_releases(&self, wishes: &Wishes, plan: &NodePlan) -> Vec<EntryId> {
        let done = wishes.tombstones.iter().filter(|tombstone| plan.released.contains(&tombstone.mac));
        done.filter_map(|tombstone| tombstone.entry).filter(|entry| !self.released.contains(entry)).collect()
    }

    /// The source took these.
    pub fn sent(&mut self, reports: &[NicReport], released: &[EntryId]) {
        self.sent
            .extend(reports.iter().map(|report| (report.entry, (report.revision, report.outcome.clone()))));
        self.released.extend(released);
    }

    /// Forgets entries that the source no longer has.
    pub fn keep_only(&mut self, wishes: &Wishes) {
        let nics = wishes.nics.iter().map(|nic| nic.entry);
        let entries: BTreeSet<EntryId> = nics.chain(wishes.invalid.iter().map(|entry| entry.entry)).collect();
        self.sent.retain(|entry, _| entries.contains(entry));
        let tombs: BTreeSet<EntryId> =
            wishes.tombstones.iter().filter_map(|tombstone| tombstone.entry).collect();
        self.released.retain(|entry| tombs.contains(entry));
    }
}

#[cfg(test)]
mod tests {
    use multinic_core::node::{NicTarget, Refusal, RefusalReason};
    use multinic_core::{Addresses, InterfaceOptions, Mtu, NicOptions, Slot};

    use super::*;

    fn nic(reported: Reported) -> DesiredNic {
        DesiredNic {
            entry: EntryId(7),
            revision: 3,
            mac: "02:00:00:00:00:01".parse().unwrap(),
            slot: Slot::new(0).ok(),
            port: None,
            addresses: Addresses::default(),
            mtu: Mtu::new(1500).unwrap(),
            options: InterfaceOptions::default(),
            reported,
        }
    }

    fn settled(name_conflict: Option<Slot>, duplicates: &[&str]) -> NodePlan {
        let target = NicTarget {
            mac: nic(Reported::default()).mac,
            name: "multinic0".parse().unwrap(),
            addresses: Addresses::default(),
            mtu: Mtu::new(1500).unwrap(),
            options: NicOptions::default(),
        };
        let duplicates = duplicates.iter().map(|text| text.parse().unwrap()).collect();
        NodePlan { settled: vec![Settled { target, name_conflict, duplicates }], ..NodePlan::default() }
    }

    fn verified(plan: &NodePlan, reported: Reported) -> Vec<Verified> {
        let wishes = Wishes { nics: vec![nic(reported)], ..Wishes::default() };
        outcomes(&wishes, plan, &Unmade::new(), &BTreeSet::new(), &BTreeSet::new())
    }

    fn error_of(verified: &[Verified]) -> (Option<String>, String) {
        match &verified[0].report.outcome {
            Outcome::Failed { name, error } => (name.map(|name| name.to_string()), error.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_source_knows_is_not_reported_again() {
        let book = ReportBook::default();
        let plan = settled(None, &[]);
        let known = Reported { applied: true, name: "multinic0".parse().ok(), error: None };
        assert!(book.unknown(&verified(&plan, known.clone())).is_empty());
        for other in [
            Reported::default(),
            Reported { name: "multinic1".parse().ok(), ..known.clone() },
            Reported { error: Some("old".to_owned()), ..known },
        ] {
            assert_eq!(book.unknown(&verified(&plan, other)).len(), 1);
        }
    }

    #[test]
    fn a_source_that_cannot_hold_names_is_told_once() {
        let mut book = ReportBook::default();
        let plan = settled(None, &[]);
        let flag_only = Reported { applied: true, ..Reported::default() };
        let reports = book.unknown(&verified(&plan, flag_only.clone()));
        assert_eq!(reports.len(), 1);
        book.sent(&reports, &[]);
        assert!(book.unknown(&verified(&plan, flag_only)).is_empty());
        // The controller reset the flag, since the content changed: it is told again.
        assert_eq!(book.unknown(&verified(&plan, Reported::default())).len(), 1);
    }

    #[test]
    fn a_report_that_was_not_taken_is_made_again() {
        let book = ReportBook::default();
        let verified = verified(&settled(None, &[]), Reported::default());
        assert_eq!(book.unknown(&verified), book.unknown(&verified));
        assert_eq!(book.unknown(&verified).len(), 1);
    }

    #[test]
    fn a_kept_name_is_a_conflict_that_names_what_works() {
        let plan = settled(Slot::new(4).ok(), &[]);
        let (name, error) = error_of(&verified(&plan, Reported::default()));
        assert_eq!(name.as_deref(), Some("multinic0"));
        assert!(error.starts_with("NameConflict: ") && error.contains("multinic4"), "{error}");
    }

    #[test]
    fn an_address_that_another_host_has_is_a_failure() {
        let plan = settled(None, &["fd00::5/64"]);
        let (_, error) = error_of(&verified(&plan, Reported::default()));
        assert!(error.starts_with("DuplicateAddress: ") && error.contains("fd00::5"), "{error}");
    }

    #[test]
    fn a_refusal_is_reported_with_its_reason() {
        let mac = nic(Reported::default()).mac;
        let reason = RefusalReason::AmbiguousMac(vec!["eth1".to_owned(), "eth2".to_owned()]);
        let plan = NodePlan { refused: vec![Refusal { mac, link: None, reason }], ..NodePlan::default() };
        assert!(error_of(&verified(&plan, Reported::default())).1.starts_with("AmbiguousMac: "));
    }

    #[test]
    fn an_absent_nic_is_given_one_poll_before_it_is_spoken_of() {
        let mac = nic(Reported::default()).mac;
        let plan = NodePlan { absent: vec![mac], ..NodePlan::default() };
        assert!(verified(&plan, Reported::default()).is_empty());
        let wishes = Wishes { nics: vec![nic(Reported::default())], ..Wishes::default() };
        let (waited, none) = (BTreeSet::from([mac]), BTreeSet::new());
        let later = outcomes(&wishes, &plan, &Unmade::new(), &waited, &none);
        assert!(error_of(&later).1.starts_with("Waiting: no link"));
        // One that was seen to go somewhere is not on its way.
        let at_once = outcomes(&wishes, &plan, &Unmade::new(), &none, &waited);
        assert!(
            error_of(&at_once).1.starts_with("Waiting: its link was moved into another network namespace")
        );
    }

    #[test]
    fn a_carried_out_tombstone_is_reported_once() {
        use multinic_core::desired::Tombstone;
        let mac = nic(Reported::default()).mac;
        let wishes =
            Wishes { tombstones: vec![Tombstone { entry: Some(EntryId(9)), mac }], ..Wishes::default() };
        let plan = NodePlan { released: vec![mac], ..NodePlan::default() };
        let mut book = ReportBook::default();
        assert!(book.unknown_releases(&wishes, &NodePlan::default()).is_empty());
        assert_eq!(book.unknown_releases(&wishes, &plan), [EntryId(9)]);
        book.sent(&[], &[EntryId(9)]);
        assert!(book.unknown_releases(&wishes, &plan).is_empty());
    }
}
