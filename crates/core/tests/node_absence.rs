//! Which NICs may be taken away: by a tombstone, or by an absence confirmed over time, and never by a read that is
//! worth nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multinic_core::MacAddr;
use multinic_core::desired::{
    DesiredNic, DesiredState, EntryId, InvalidEntry, Position, Reported, Silence, Tombstone,
};
use multinic_core::node::absence::{AbsenceLedger, AbsenceRules, Newest, Proof, Trust, Verdict};
use proptest::prelude::*;
use support::kernel::desired;
use support::mac;

const RULES: AbsenceRules =
    AbsenceRules { some: Duration::from_secs(600), all: Duration::from_secs(3600), reads: 3 };
const MINUTE: Duration = Duration::from_secs(60);

fn at(epoch: &str, revision: u64) -> Option<Position> {
    Some(Position { epoch: epoch.to_owned(), revision })
}

fn state(position: Option<Position>, nics: &[u16], tombstones: &[u16]) -> DesiredState {
    DesiredState {
        node_known: true,
        position,
        nics: nics.iter().map(|n| desired(*n, None, &[])).collect::<Vec<DesiredNic>>(),
        invalid: Vec::new(),
        tombstones: tombstones.iter().map(|n| Tombstone { entry: None, mac: mac(*n) }).collect(),
        silence: Silence::Nothing,
    }
}

fn invalid(mac: Option<MacAddr>) -> InvalidEntry {
    InvalidEntry {
        entry: EntryId(99),
        revision: 1,
        mac,
        reason: "mtu: 0".to_owned(),
        reported: Reported::default(),
    }
}

fn ours(macs: &[u16]) -> BTreeSet<MacAddr> {
    macs.iter().map(|n| mac(*n)).collect()
}

/// A read of a source a minute after the one before. NICs 1 and 2 are ours.
fn read(ledger: &mut AbsenceLedger, state: &DesiredState) -> Verdict {
    let trust = ledger.weigh(state);
    ledger.judge(state, &trust, &ours(&[1, 2]), MINUTE, &RULES)
}

/// After how many reads, a minute apart, NIC 1 is released; none if that does not happen for days.
fn minutes_until_released(ledger: &mut AbsenceLedger, state: &DesiredState) -> Option<u32> {
    (0..5000).find(|_| read(ledger, state).releases.contains_key(&mac(1)))
}

#[test]
fn a_nic_missing_among_others_is_released_after_ten_minutes() {
    assert_eq!(
        minutes_until_released(&mut AbsenceLedger::default(), &state(at("e", 1), &[2], &[])),
        Some(10)
    );
}

#[test]
fn the_nics_of_a_node_whose_entries_are_all_gone_are_released_after_an_hour() {
    let none = state(at("e", 1), &[], &[]);
    assert_eq!(minutes_until_released(&mut AbsenceLedger::default(), &none), Some(60));
}

#[test]
fn a_tombstone_of_another_nic_is_no_entry_that_is_still_there() {
    let buried = state(at("e", 1), &[], &[2]);
    assert_eq!(minutes_until_released(&mut AbsenceLedger::default(), &buried), Some(60));
}

#[test]
fn an_entry_that_cannot_be_used_is_an_entry_that_is_there() {
    let mut unusable = state(at("e", 1), &[], &[]);
    unusable.invalid = vec![invalid(Some(mac(1))), invalid(Some(mac(2)))];
    assert_eq!(minutes_until_released(&mut AbsenceLedger::default(), &unusable), None);
}

#[test]
fn a_long_silence_between_two_reads_confirms_nothing_by_itself() {
    let mut ledger = AbsenceLedger::default();
    let lacking = state(at("e", 1), &[2], &[]);
    for _ in 0..2 {
        let verdict =
            ledger.judge(&lacking, &Trust::Full, &ours(&[1, 2]), Duration::from_secs(86_400), &RULES);
        assert!(verdict.releases.is_empty());
        assert_eq!(verdict.held.keys().collect::<Vec<_>>(), [&mac(1)]);
    }
}

#[test]
fn a_nic_that_was_back_meanwhile_starts_anew() {
    let mut ledger = AbsenceLedger::default();
    for _ in 0..10 {
        read(&mut ledger, &state(at("e", 1), &[2], &[]));
    }
    read(&mut ledger, &state(at("e", 2), &[1, 2], &[]));
    assert_eq!(minutes_until_released(&mut ledger, &state(at("e", 3), &[2], &[])), Some(10));
}

#[test]
fn a_failure_in_between_starts_anew() {
    let mut ledger = AbsenceLedger::default();
    for _ in 0..10 {
        read(&mut ledger, &state(at("e", 1), &[2], &[]));
    }
    ledger.interrupt();
    assert_eq!(minutes_until_released(&mut ledger, &state(at("e", 1), &[2], &[])), Some(10));
    assert_eq!(ledger.newest.unwrap().position.revision, 1, "how new the source was is not forgotten");
}

#[test]
fn a_source_that_was_empty_and_fills_again_gets_time_to_do_so() {
    let mut ledger = AbsenceLedger::default();
    for _ in 0..30 {
        assert!(read(&mut ledger, &state(at("e", 1), &[], &[])).releases.is_empty());
    }
    // The first entry is back; that the other one was missing while all were says nothing.
    assert_eq!(minutes_until_released(&mut ledger, &state(at("e", 1), &[2], &[])), Some(10));
}

#[test]
fn a_source_that_empties_has_the_longer_time_from_the_start_of_the_absence() {
    let mut ledger = AbsenceLedger::default();
    for _ in 0..9 {
        read(&mut ledger, &state(at("e", 1), &[2], &[]));
    }
    let left = minutes_until_released(&mut ledger, &state(at("e", 1), &[], &[])).unwrap();
    assert!(left >= 51, "{left}");
}

#[test]
fn an_entry_without_a_readable_mac_may_be_any_nic() {
    let mut partial = state(at("e", 1), &[2], &[]);
    partial.invalid.push(invalid(None));
    assert_eq!(minutes_until_released(&mut AbsenceLedger::default(), &partial), None);
    // A tombstone is evidence all the same.
    partial.tombstones.push(Tombstone { entry: None, mac: mac(1) });
    assert_eq!(minutes_until_released(&mut AbsenceLedger::default(), &partial), Some(0));
}

#[test]
fn a_node_that_the_source_does_not_know_keeps_everything_for_ever() {
    let unknown = DesiredState { node_known: false, ..state(at("e", 1), &[], &[]) };
    assert_eq!(minutes_until_released(&mut AbsenceLedger::default(), &unknown), None);
}

#[test]
fn a_tombstone_releases_at_once_unless_the_nic_is_desired_again() {
    let verdict = read(&mut AbsenceLedger::default(), &state(at("e", 1), &[2], &[1, 2, 7]));
    assert_eq!(verdict.releases, BTreeMap::from([(mac(1), Proof::Tombstone), (mac(7), Proof::Tombstone)]));
    let mut unusable = state(at("e", 1), &[], &[1]);
    unusable.invalid.push(invalid(Some(mac(1))));
    assert!(read(&mut AbsenceLedger::default(), &unusable).releases.is_empty());
}

#[test]
fn a_read_older_than_one_before_is_stale() {
    let mut ledger = AbsenceLedger::default();
    read(&mut ledger, &state(at("e", 5), &[1, 2], &[]));
    let old = state(at("e", 4), &[2], &[1]);
    assert_eq!(ledger.weigh(&old), Trust::Stale);
    assert_eq!(minutes_until_released(&mut ledger, &old), None);
    assert_eq!(ledger.newest.as_ref().unwrap().position.revision, 5);
    assert_eq!(minutes_until_released(&mut ledger, &state(at("e", 5), &[2], &[1])), Some(0));
}

#[test]
fn a_stale_read_breaks_an_absence() {
    let mut ledger = AbsenceLedger::default();
    for _ in 0..10 {
        read(&mut ledger, &state(at("e", 5), &[2], &[]));
    }
    read(&mut ledger, &state(at("e", 4), &[2], &[]));
    assert_eq!(minutes_until_released(&mut ledger, &state(at("e", 5), &[2], &[])), Some(10));
}

#[test]
fn a_restored_source_removes_nothing_until_the_controller_published_to_it() {
    let mut ledger = AbsenceLedger::default();
    read(&mut ledger, &state(at("old", 500), &[1, 2], &[]));
    for buried in [&[][..], &[1]] {
        let restored = state(at("new", 7), &[2], buried);
        let verdict = read(&mut ledger, &restored);
        assert!(verdict.held.contains_key(&mac(1)));
        assert_eq!(minutes_until_released(&mut ledger, &restored), None);
    }
    assert_eq!(minutes_until_released(&mut ledger.clone(), &state(at("new", 8), &[2], &[1])), Some(0));
    assert_eq!(minutes_until_released(&mut ledger, &state(at("new", 8), &[2], &[])), Some(10));
}

#[test]
#[allow(clippy::field_reassign_with_default)] // The other fields are private.
fn what_is_remembered_of_a_restored_source_survives_a_restart() {
    let mut ledger = AbsenceLedger::default();
    read(&mut ledger, &state(at("old", 500), &[1, 2], &[]));
    read(&mut ledger, &state(at("new", 7), &[2], &[1]));
    let kept = serde_json::to_string(&ledger.newest).unwrap();
    let mut restarted = AbsenceLedger::default();
    restarted.newest = serde_json::from_str::<Option<Newest>>(&kept).unwrap();
    assert_eq!(minutes_until_released(&mut restarted, &state(at("new", 7), &[2], &[1])), None);
}

#[test]
fn two_sources_that_take_turns_never_remove_anything() {
    let mut ledger = AbsenceLedger::default();
    for turn in 0..100 {
        let epoch = if turn % 2 == 0 { "one" } else { "two" };
        let verdict = read(&mut ledger, &state(at(epoch, 9), &[2], if turn == 0 { &[] } else { &[1] }));
        assert!(verdict.releases.is_empty());
    }
}

#[test]
fn a_source_that_lost_its_revision_removes_nothing() {
    let mut ledger = AbsenceLedger::default();
    read(&mut ledger, &state(at("e", 5), &[1, 2], &[]));
    let nameless = state(None, &[2], &[1]);
    assert!(matches!(ledger.weigh(&nameless), Trust::NoRemovals(_)));
    assert_eq!(minutes_until_released(&mut ledger, &nameless), None);
}

#[test]
fn a_source_that_never_had_a_revision_is_judged_by_time() {
    let mut ledger = AbsenceLedger::default();
    assert_eq!(minutes_until_released(&mut ledger, &state(None, &[2], &[])), Some(10));
}

/// One read of a source: which of NICs 1 … 4 it names and how.
#[derive(Debug, Clone)]
enum Read {
    Fails,
    Shows { state: DesiredState, elapsed: u64 },
}

fn some_read() -> impl Strategy<Value = Read> {
    let position = prop_oneof![
        6 => (0u64..3).prop_map(|revision| at("e", 10 + revision)),
        1 => (0u64..3).prop_map(|revision| at("other", revision)),
        1 => Just(None),
    ];
    // NIC 1 is named by hardly any read.
    let nics = prop_oneof![
        5 => prop::sample::subsequence(vec![2u16, 3, 4], 0..4),
        1 => Just(vec![1, 2]),
        1 => Just(vec![]),
    ];
    let tombstones = prop_oneof![6 => Just(vec![]), 1 => Just(vec![1u16]), 1 => Just(vec![3])];
    let broken = prop_oneof![8 => Just(None), 1 => Just(Some(None)), 1 => Just(Some(Some(1u16)))];
    let shows = (position, nics, tombstones, broken, prop::bool::weighted(0.95), 0u64..400);
    prop_oneof![
        1 => Just(Read::Fails),
        12 => shows.prop_map(|(position, nics, tombstones, broken, node_known, elapsed)| {
            let mut state = DesiredState { node_known, ..state(position, &nics, &tombstones) };
            state.invalid.extend(broken.map(|n| invalid(n.map(mac))));
            Read::Shows { state, elapsed }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    #[test]
    fn no_nic_is_released_without_proof(reads in prop::collection::vec(some_read(), 1..40)) {
        let ours = ours(&[1, 2]);
        let mut ledger = AbsenceLedger::default();
        // What an auditor with the whole history says: for each NIC the uninterrupted run of reads that lack it.
        let mut runs: BTreeMap<MacAddr, (u32, u64)> = BTreeMap::new();
        let mut highest: Option<(String, u64)> = None;
        let mut after_failure = true;
        for read in reads {
            let Read::Shows { state, elapsed } = read else {
                ledger.interrupt();
                runs.clear();
                after_failure = true;
                continue;
            };
            let elapsed = if std::mem::take(&mut after_failure) { 0 } else { elapsed };
            let trust = ledger.weigh(&state);
            let verdict = ledger.judge(&state, &trust, &ours, Duration::from_secs(elapsed), &RULES);
            let newest = match (&highest, &state.position) {
                (Some((epoch, revision)), Some(now)) => epoch == &now.epoch && now.revision >= *revision,
                (Some(_), None) => false,
                (None, _) => true,
            };
            let named = |mac: &MacAddr| {
                state.nics.iter().any(|nic| nic.mac == *mac)
                    || state.invalid.iter().any(|entry| entry.mac == Some(*mac))
            };
            let buried = |mac: &MacAddr| state.tombstones.iter().any(|tombstone| tombstone.mac == *mac);
            let complete = newest && state.node_known && state.invalid.iter().all(|entry| entry.mac.is_some());
            for mac in &ours {
                if named(mac) || buried(mac) || !complete {
                    runs.remove(mac);
                } else {
                    let (count, lasted) = runs.entry(*mac).or_insert((0, 0));
                    *lasted += if *count == 0 { 0 } else { elapsed };
                    *count += 1;
                }
            }
            for (mac, proof) in &verdict.releases {
                prop_assert!(newest, "released by a read that is not the newest");
                prop_assert!(!named(mac), "{mac} is named");
                match proof {
                    Proof::Tombstone => prop_assert!(buried(mac)),
                    Proof::NotListed | Proof::Deletion => prop_assert!(false, "no table proves {proof:?}"),
                    Proof::LongAbsence => {
                        let (count, lasted) = runs.get(mac).copied().unwrap_or_default();
                        let all_gone = state.nics.is_empty() && state.invalid.is_empty();
                        let least = if all_gone { RULES.all } else { RULES.some };
                        prop_assert!(count >= RULES.reads && lasted >= least.as_secs(), "{count} reads, {lasted} s");
                    }
                }
            }
            // Everything that is ours and not named is either released or held with a reason.
            for mac in ours.iter().filter(|mac| !named(mac)) {
                prop_assert!(verdict.releases.contains_key(mac) != verdict.held.contains_key(mac));
            }
            if trust != Trust::Stale && let Some(now) = &state.position {
                highest = Some((now.epoch.clone(), now.revision));
            }
        }
    }
}
