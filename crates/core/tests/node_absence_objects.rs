//! Which NICs may be taken away where the source is an object of the node: an object speaks of the NICs that it named
//! itself, and of no others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use multinic_core::MacAddr;
use multinic_core::desired::{DesiredState, EntryId, InvalidEntry, Position, Reported, Silence};
use multinic_core::node::absence::{AbsenceLedger, AbsenceRules, Proof, Trust, Verdict};
use support::kernel::desired;
use support::mac;

const RULES: AbsenceRules =
    AbsenceRules { some: Duration::from_secs(600), all: Duration::from_secs(3600), reads: 3 };

fn object(uid: &str, generation: u64, nics: &[u16]) -> DesiredState {
    DesiredState {
        node_known: true,
        position: Some(Position::of_object(uid, generation)),
        nics: nics.iter().map(|n| desired(*n, None, &[])).collect(),
        silence: Silence::NotListed,
        ..DesiredState::default()
    }
}

fn database(epoch: &str, revision: u64, nics: &[u16]) -> DesiredState {
    DesiredState {
        position: Some(Position { epoch: epoch.to_owned(), revision }),
        silence: Silence::Nothing,
        ..object("", 0, nics)
    }
}

fn no_object() -> DesiredState {
    DesiredState { silence: Silence::NoObject, ..DesiredState::default() }
}

/// A read a minute after the one before. NICs 1 and 2 are ours.
fn read(ledger: &mut AbsenceLedger, state: &DesiredState) -> Verdict {
    let ours: BTreeSet<MacAddr> = [mac(1), mac(2)].into();
    let trust = ledger.weigh(state);
    ledger.judge(state, &trust, &ours, Duration::from_secs(60), &RULES)
}

/// After how many reads, a minute apart, NIC 1 is released; none if that does not happen for days.
fn minutes_until_released(ledger: &mut AbsenceLedger, state: &DesiredState) -> Option<u32> {
    (0..5000).find(|_| read(ledger, state).releases.contains_key(&mac(1)))
}

/// An object that was the source from the first NIC on and named both.
fn known(uid: &str) -> AbsenceLedger {
    let mut ledger = AbsenceLedger::default();
    let state = object(uid, 1, &[1, 2]);
    let trust = ledger.weigh(&state);
    ledger.judge(&state, &trust, &BTreeSet::new(), Duration::ZERO, &RULES);
    ledger
}

#[test]
fn a_smaller_spec_of_the_same_object_releases_at_once() {
    let verdict = read(&mut known("a"), &object("a", 2, &[2]));
    assert_eq!(verdict.releases, [(mac(1), Proof::NotListed)].into());
}

#[test]
fn what_an_object_named_is_remembered_over_a_restart() {
    let newest = known("a").newest.unwrap();
    assert_eq!(newest.named, [mac(1), mac(2)].into());
    let mut ledger = AbsenceLedger::default();
    ledger.newest = Some(serde_json::from_str(&serde_json::to_string(&newest).unwrap()).unwrap());
    assert!(read(&mut ledger, &object("a", 2, &[2])).releases.contains_key(&mac(1)));
}

#[test]
fn another_object_in_its_place_releases_only_what_was_absent_for_long() {
    assert_eq!(minutes_until_released(&mut known("a"), &object("b", 1, &[2])), Some(10));
    // A later generation of it is no word about a NIC that it never named.
    let mut ledger = known("a");
    read(&mut ledger, &object("b", 1, &[2]));
    assert!(read(&mut ledger, &object("b", 2, &[2])).releases.is_empty());
}

#[test]
fn another_object_releases_at_once_what_it_named_itself() {
    let mut ledger = known("a");
    read(&mut ledger, &object("b", 1, &[1, 2]));
    assert!(read(&mut ledger, &object("b", 2, &[2])).releases.contains_key(&mac(1)));
}

#[test]
fn a_lower_generation_is_stale_until_it_is_accepted_and_then_needs_time() {
    let mut ledger = known("a");
    read(&mut ledger, &object("a", 5, &[1, 2]));
    let older = object("a", 3, &[2]);
    assert_eq!(ledger.weigh(&older), Trust::Stale);
    ledger.go_back(&older);
    assert_eq!(ledger.weigh(&older), Trust::Full);
    assert_eq!(minutes_until_released(&mut ledger, &older), Some(10));
}

#[test]
fn no_object_releases_nothing_however_long() {
    let mut ledger = known("a");
    assert_eq!(minutes_until_released(&mut ledger, &no_object()), None);
    // And the object's return is no news.
    assert!(read(&mut ledger, &object("a", 1, &[1, 2])).held.is_empty());
}

#[test]
fn a_deletion_releases_everything() {
    let deleted = DesiredState { silence: Silence::Deleted, ..object("a", 2, &[]) };
    let verdict = read(&mut known("a"), &deleted);
    assert_eq!(verdict.releases, [(mac(1), Proof::Deletion), (mac(2), Proof::Deletion)].into());
}

#[test]
fn a_stale_deletion_releases_nothing() {
    let mut ledger = known("a");
    read(&mut ledger, &object("a", 5, &[1, 2]));
    let deleted = DesiredState { silence: Silence::Deleted, ..object("a", 4, &[]) };
    assert!(read(&mut ledger, &deleted).releases.is_empty());
}

#[test]
fn an_interface_whose_mac_cannot_be_read_may_be_any_and_releases_none() {
    let mut state = object("a", 2, &[2]);
    let reason = "macAddress: ?".to_owned();
    state.invalid.push(InvalidEntry {
        entry: EntryId(1),
        revision: 2,
        mac: None,
        reason,
        reported: Reported::default(),
    });
    assert_eq!(minutes_until_released(&mut known("a"), &state), None);
}

#[test]
fn from_a_database_to_an_object_nothing_goes_that_the_object_never_named() {
    let mut ledger = AbsenceLedger::default();
    read(&mut ledger, &database("e", 7, &[1, 2]));
    assert_eq!(minutes_until_released(&mut ledger, &object("a", 1, &[2])), None);
    // Not by its deletion, not by another object, and not by the database's own silence later.
    let deleted = DesiredState { silence: Silence::Deleted, ..object("a", 2, &[]) };
    assert_eq!(read(&mut ledger, &deleted).releases, [(mac(2), Proof::Deletion)].into());
    assert_eq!(minutes_until_released(&mut ledger, &object("b", 1, &[2])), None);
}

#[test]
fn what_an_object_names_by_and_by_becomes_its_own() {
    let mut ledger = AbsenceLedger::default();
    read(&mut ledger, &database("e", 7, &[1, 2]));
    read(&mut ledger, &object("a", 1, &[2]));
    read(&mut ledger, &object("a", 2, &[1, 2]));
    assert!(read(&mut ledger, &object("a", 3, &[2])).releases.contains_key(&mac(1)));
}

#[test]
fn from_an_object_to_an_empty_database_nothing_goes() {
    for node_known in [true, false] {
        let mut ledger = known("a");
        let empty = DesiredState { node_known, ..database("e", 1, &[]) };
        assert_eq!(minutes_until_released(&mut ledger, &empty), None);
        // Publications for others are no word about these NICs either.
        let later = DesiredState { node_known, ..database("e", 9, &[]) };
        assert_eq!(minutes_until_released(&mut ledger, &later), None);
    }
}

#[test]
fn nics_of_older_programs_are_not_the_first_object_s_to_release() {
    let mut ledger = AbsenceLedger::default();
    assert_eq!(minutes_until_released(&mut ledger, &object("a", 1, &[2])), None);
}
