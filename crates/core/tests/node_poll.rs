//! When a source is read again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::time::Duration;

use multinic_core::node::poll::{PollRules, PollSchedule};
use proptest::prelude::*;

const RULES: PollRules = PollRules {
    base: Duration::from_secs(30),
    backoff: true,
    multiplier: 2.0,
    longest: Duration::from_secs(300),
};

#[test]
fn reads_are_soon_after_a_change_then_usual_then_slower() {
    let mut schedule = PollSchedule::default();
    assert_eq!(schedule.after_change(&RULES), Duration::from_secs(5));
    let waits: Vec<u64> = (0..25).map(|_| schedule.after_quiet(&RULES).as_secs()).collect();
    assert_eq!(waits[..5], [5; 5]);
    assert_eq!(waits[5..19], [30; 14]);
    assert_eq!(waits[19..], [60; 6]);
    assert_eq!(schedule.after_change(&RULES), Duration::from_secs(5));
}

#[test]
fn errors_back_off_up_to_the_longest_wait_and_one_success_ends_it() {
    let mut schedule = PollSchedule::default();
    let waits: Vec<u64> = (0..6).map(|_| schedule.after_error(&RULES).as_secs()).collect();
    assert_eq!(waits, [30, 60, 120, 240, 300, 300]);
    assert_eq!(schedule.level(), 6);
    schedule.after_quiet(&RULES);
    assert_eq!(schedule.level(), 0);
    assert_eq!(schedule.after_error(&RULES).as_secs(), 30);
}

#[test]
fn without_back_off_errors_wait_the_usual_time() {
    let mut schedule = PollSchedule::default();
    let rules = PollRules { backoff: false, ..RULES };
    assert!((0..9).all(|_| schedule.after_error(&rules) == rules.base));
}

proptest! {
    #[test]
    fn no_rules_and_no_history_make_a_wait_beyond_their_bounds(
        base in prop_oneof![0u64..1000, Just(u64::MAX)],
        longest in prop_oneof![0u64..1000, Just(u64::MAX)],
        multiplier in prop::num::f64::ANY,
        history in prop::collection::vec(0u8..3, 1..80),
    ) {
        let rules = PollRules {
            base: Duration::from_secs(base),
            backoff: true,
            multiplier,
            longest: Duration::from_secs(longest),
        };
        let mut schedule = PollSchedule::default();
        for event in history {
            let wait = match event {
                0 => schedule.after_change(&rules),
                1 => schedule.after_quiet(&rules),
                _ => schedule.after_error(&rules),
            };
            let most = rules.longest.max(rules.base.saturating_mul(2));
            prop_assert!(wait <= most, "{wait:?}");
            prop_assert!(wait >= rules.base.min(Duration::from_secs(1)), "{wait:?}");
            prop_assert!(event != 2 || wait >= rules.base);
        }
    }
}
