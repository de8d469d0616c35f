//! When a change to a NIC may be made again: repairs against an owner who keeps undoing them, and changes that failed.

use std::collections::BTreeMap;
use std::time::Duration;

use multinic_core::MacAddr;
use multinic_core::node::{Change, ChangeKind};
use multinic_host::failures::Failed;

/// So many repairs in a row are made at once: one act of somebody else is often several changes.
const PROMPT_REPAIRS: u32 = 3;
/// The wait after the last of them; doubled with each that follows soon.
const FIRST_REPAIR_WAIT: Duration = Duration::from_secs(1);
/// However stubborn the other owner is, drift is repaired this often.
const LONGEST_REPAIR_WAIT: Duration = Duration::from_secs(60);
/// A NIC that stayed as it was for this long is repaired at once again.
const PEACE: Duration = Duration::from_secs(600);
/// The wait after the first failure; doubled with each in a row.
const FIRST_FAILURE_WAIT: Duration = Duration::from_secs(2);
/// A failing change is tried again this often at least: what stands in its way may not announce its end.
const LONGEST_FAILURE_WAIT: Duration = Duration::from_secs(300);

/// No more failures of an earlier agent count: with these, half a minute is waited.
const RESUMED_FAILURES: u32 = 5;

/// The changes that were made or tried, by NIC. Times are since the boot.
#[derive(Debug, Clone, Default)]
pub struct Attempts {
    repairs: BTreeMap<MacAddr, Repaired>,
    failures: BTreeMap<MacAddr, Failed>,
}

#[derive(Debug, Clone)]
struct Repaired {
    /// A NIC that was unplugged and plugged again is another link, and nobody's undoing.
    link: Option<u32>,
    count: u32,
    last: Duration,
}

/// Why a change is not made now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// When it may be made.
    pub until: Duration,
    /// Why not now, for the report.
    pub reason: String,
    /// Whether it is because somebody else keeps undoing it.
    pub fight: bool,
}

fn doubled(first: Duration, longest: Duration, count: u32) -> Duration {
    let factor = 1_u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(longest)
}

impl Attempts {
    /// What an agent before this one left of it. This one may have what that one lacked, so it does not wait as long as that one
    /// would have in the end.
    pub fn after(failures: BTreeMap<MacAddr, Failed>, now: Duration) -> Self {
        let resumed = |(mac, failed): (MacAddr, Failed)| {
            // A clock that was set back, as with a machine that is restored, must not hold it for ever.
            let last = failed.last.min(now);
            (mac, Failed { last, count: failed.count.min(RESUMED_FAILURES), ..failed })
        };
        Self { repairs: BTreeMap::new(), failures: failures.into_iter().map(resumed).collect() }
    }

    /// The changes that failed and were not made since.
    pub fn failures(&self) -> &BTreeMap<MacAddr, Failed> {
        &self.failures
    }

    /// How this change failed before.
    pub fn failed_before(&self, change: &Change) -> Option<&Failed> {
        self.failures.get(&change.mac).filter(|failed| failed.is_of(change.target.as_ref(), change.link))
    }

    /// Whether this change may be made now.
    pub fn admit(&self, change: &Change, now: Duration) -> Result<(), Hold> {
        if let Some(failed) = self.failed_before(change) {
            let until = failed.last + doubled(FIRST_FAILURE_WAIT, LONGEST_FAILURE_WAIT, failed.count);
            if now < until {
                return Err(Hold { until, reason: failed.error.clone(), fight: false });
            }
        }
        let repair = matches!(change.kind, ChangeKind::Repair(_) | ChangeKind::StepAside(_));
        let same_link = |repaired: &&Repaired| repair && repaired.link == change.link;
        if let Some(repaired) = self.repairs.get(&change.mac).filter(same_link) {
            let wait = match repaired.count {
                0..PROMPT_REPAIRS => Duration::ZERO,
                count => doubled(FIRST_REPAIR_WAIT, LONGEST_REPAIR_WAIT, count - PROMPT_REPAIRS + 1),
            };
            if now < repaired.last + wait {
                let reason = format!(
                    "Drift: somebody else keeps changing it; its repair was tried {} times and is next in at most {}s",
                    repaired.count,
                    wait.as_secs()
                );
                return Err(Hold { until: repaired.last + wait, reason, fight: true });
            }
        }
        Ok(())
    }

    /// Whether repairs of a NIC have to wait, or had to until a while ago.
    pub fn is_fought_about(&self, mac: MacAddr) -> bool {
        self.repairs.get(&mac).is_some_and(|repaired| repaired.count >= PROMPT_REPAIRS)
    }

    /// The change was made and verified. Returns how many repairs in a row that makes, 0 if it was none.
    pub fn succeeded(&mut self, change: &Change, now: Duration) -> u32 {
        self.failures.remove(&change.mac);
        match change.kind {
            ChangeKind::Repair(_) => {}
            // The repair that follows it counts.
            ChangeKind::StepAside(_) => return 0,
            ChangeKind::Create | ChangeKind::Adopt | ChangeKind::Update(_) | ChangeKind::Release => {
                self.repairs.remove(&change.mac);
                return 0;
            }
        }
        self.repaired(change, now)
    }

    /// Counts a repair: one that succeeded, or one that failed after that, since whoever fights makes some of them fail.
    fn repaired(&mut self, change: &Change, now: Duration) -> u32 {
        let fresh = Repaired { link: change.link, count: 0, last: now };
        let repaired = self.repairs.entry(change.mac).or_insert_with(|| fresh.clone());
        if repaired.link != change.link || now.saturating_sub(repaired.last) > PEACE {
            *repaired = fresh;
        }
        repaired.count = repaired.count.saturating_add(1);
        repaired.last = now;
        repaired.count
    }

    /// The change failed and was rolled back. Returns how many failures in a row that makes.
    pub fn failed(&mut self, change: &Change, now: Duration, error: String) -> u32 {
        let is_of = |repaired: &Repaired| repaired.link == change.link;
        if matches!(change.kind, ChangeKind::Repair(_)) && self.repairs.get(&change.mac).is_some_and(is_of) {
            self.repaired(change, now);
        }
        let before = self.failures.get(&change.mac);
        let failed = Failed::after(before, change.target.clone(), change.link, now, error);
        let count = failed.count;
        self.failures.insert(change.mac, failed);
        count
    }

    /// Takes what is remembered of a NIC on the node. Returns how many failures in a row that makes.
    pub fn take(&mut self, mac: MacAddr, remembered: &BTreeMap<MacAddr, Failed>) -> u32 {
        let Some(failed) = remembered.get(&mac) else { return 0 };
        self.failures.insert(mac, failed.clone());
        failed.count
    }

    /// Forgets failures of NICs of which nothing is to be done for a while, and repairs that are long past. Whoever fights may
    /// put a NIC right for a moment.
    pub fn settle(&mut self, pending: &dyn Fn(MacAddr) -> bool, now: Duration) {
        let recent = |last| now.saturating_sub(last) <= PEACE;
        self.failures.retain(|mac, failed| pending(*mac) || recent(failed.last));
        self.repairs.retain(|_, repaired| recent(repaired.last));
    }
}

#[cfg(test)]
mod tests {
    use multinic_core::node::{Former, NicTarget};
    use multinic_core::{Addresses, Mtu, NicOptions};

    use super::*;

    fn change(kind: ChangeKind, mtu: i64) -> Change {
        let mac: MacAddr = "02:00:00:00:00:01".parse().unwrap();
        let target = NicTarget {
            mac,
            name: "multinic0".parse().unwrap(),
            addresses: Addresses::default(),
            mtu: Mtu::new(mtu).unwrap(),
            options: NicOptions::default(),
        };
        Change {
            mac,
            kind,
            link: Some(2),
            original_name: "eth1".to_owned(),
            original_mtu: Some(1500),
            target: Some(target),
            former: Former::default(),
            steps: Vec::new(),
            name_conflict: None,
        }
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn the_first_repair_is_made_at_once_and_a_fight_is_slowed_down_to_once_a_minute() {
        let repair = change(ChangeKind::Repair(Vec::new()), 1500);
        let mut attempts = Attempts::default();
        let mut now = seconds(0);
        let mut waits = Vec::new();
        for _ in 0..9 {
            if let Err(hold) = attempts.admit(&repair, now) {
                waits.push((hold.until - now).as_secs());
                now = hold.until;
            }
            assert_eq!(attempts.admit(&repair, now), Ok(()));
            attempts.succeeded(&repair, now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32]);
    }

    #[test]
    fn a_nic_that_was_plugged_again_is_repaired_at_once() {
        let mut attempts = Attempts::default();
        let mut repair = change(ChangeKind::Repair(Vec::new()), 1500);
        for link in 3..100 {
            repair.link = Some(link);
            assert_eq!(attempts.admit(&repair, seconds(0)), Ok(()));
            assert_eq!(attempts.succeeded(&repair, seconds(0)), 1);
        }
    }

    #[test]
    fn after_peace_a_repair_is_made_at_once_again() {
        let repair = change(ChangeKind::Repair(Vec::new()), 1500);
        let mut attempts = Attempts::default();
        for now in 0..5 {
            attempts.succeeded(&repair, seconds(now));
        }
        assert!(attempts.admit(&repair, seconds(6)).is_err());
        assert_eq!(attempts.succeeded(&repair, seconds(1000)), 1);
    }

    #[test]
    fn a_new_wish_does_not_wait_for_repairs() {
        let mut attempts = Attempts::default();
        attempts.succeeded(&change(ChangeKind::Repair(Vec::new()), 1500), seconds(0));
        assert_eq!(attempts.admit(&change(ChangeKind::Update(Vec::new()), 1450), seconds(0)), Ok(()));
    }

    #[test]
    fn a_failed_change_waits_longer_each_time_and_a_different_one_does_not() {
        let create = change(ChangeKind::Create, 1500);
        let mut attempts = Attempts::default();
        assert_eq!(attempts.failed(&create, seconds(0), "ApplyFailed: busy".to_owned()), 1);
        let hold = attempts.admit(&create, seconds(1)).unwrap_err();
        assert_eq!((hold.until, hold.reason.as_str()), (seconds(2), "ApplyFailed: busy"));
        assert_eq!(attempts.admit(&create, seconds(2)), Ok(()));
        attempts.failed(&create, seconds(2), String::new());
        assert_eq!(attempts.admit(&create, seconds(2)).unwrap_err().until, seconds(6));
        assert_eq!(attempts.admit(&change(ChangeKind::Create, 1450), seconds(2)), Ok(()));
        for _ in 0..40 {
            attempts.failed(&create, seconds(10), String::new());
        }
        assert_eq!(attempts.admit(&create, seconds(10)).unwrap_err().until, seconds(310));
    }

    #[test]
    fn what_failed_before_a_restart_goes_on_waiting_and_half_a_minute_at_most() {
        let create = change(ChangeKind::Create, 1500);
        let mut before = Attempts::default();
        before.failed(&create, seconds(1000), "ApplyFailed: busy".to_owned());
        before.failed(&create, seconds(1002), "ApplyFailed: busy".to_owned());
        let after = Attempts::after(before.failures().clone(), seconds(1003));
        let hold = after.admit(&create, seconds(1003)).unwrap_err();
        assert_eq!((hold.until, hold.reason.as_str()), (seconds(1006), "ApplyFailed: busy"));
        assert_eq!(after.admit(&create, seconds(1006)), Ok(()));
        assert_eq!(after.admit(&change(ChangeKind::Create, 1450), seconds(1003)), Ok(()));
        // Of a time that is yet to come.
        let after = Attempts::after(before.failures().clone(), seconds(10));
        assert_eq!(after.admit(&create, seconds(13)).unwrap_err().until, seconds(14));
        assert_eq!(after.admit(&create, seconds(14)), Ok(()));
        // Of many.
        for _ in 0..20 {
            before.failed(&create, seconds(1010), "ApplyFailed: busy".to_owned());
        }
        assert_eq!(before.admit(&create, seconds(1010)).unwrap_err().until, seconds(1310));
        let after = Attempts::after(before.failures().clone(), seconds(1010));
        assert_eq!(after.admit(&create, seconds(1010)).unwrap_err().until, seconds(1042));
    }

    #[test]
    fn what_needs_no_change_for_a_while_has_no_failures() {
        let create = change(ChangeKind::Create, 1500);
        let mut attempts = Attempts::default();
        for _ in 0..9 {
            attempts.failed(&create, seconds(0), String::new());
        }
        attempts.settle(&|_| true, seconds(601));
        assert_eq!(attempts.failures().len(), 1);
        attempts.settle(&|_| false, seconds(600));
        assert_eq!(attempts.failures().len(), 1);
        attempts.settle(&|_| false, seconds(601));
        assert!(attempts.failures().is_empty());
    }

    #[test]
    fn a_drift_that_goes_and_comes_back_between_failed_repairs_waits_longer_each_time() {
        let repair = change(ChangeKind::Repair(Vec::new()), 1500);
        let mut attempts = Attempts::default();
        let mut now = seconds(0);
        let mut waits = Vec::new();
        for _ in 0..10 {
            attempts.failed(&repair, now, "ApplyFailed: busy".to_owned());
            attempts.settle(&|_| false, now);
            let hold = attempts.admit(&repair, now).unwrap_err();
            waits.push((hold.until - now).as_secs());
            now = hold.until;
            assert_eq!(attempts.admit(&repair, now), Ok(()));
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn a_fight_in_which_every_other_repair_fails_is_slowed_down() {
        let repair = change(ChangeKind::Repair(Vec::new()), 1500);
        let mut attempts = Attempts::default();
        let mut now = seconds(0);
        for turn in 0..8 {
            if let Err(hold) = attempts.admit(&repair, now) {
                now = hold.until;
            }
            if turn % 2 == 0 {
                attempts.failed(&repair, now, "ApplyFailed: busy".to_owned());
            } else {
                attempts.succeeded(&repair, now);
            }
            attempts.settle(&|_| false, now);
        }
        assert_eq!(attempts.admit(&repair, now).unwrap_err().until, now + seconds(16));
        assert!(attempts.is_fought_about(repair.mac));
    }

    #[test]
    fn what_the_node_remembers_of_a_nic_counts_as_it_is() {
        let create = change(ChangeKind::Create, 1500);
        let mut before = Attempts::default();
        before.failed(&create, seconds(1), "RolledBack: the agent ended".to_owned());
        before.failed(&create, seconds(2), "RolledBack: the agent ended".to_owned());
        let mut attempts = Attempts::default();
        assert_eq!(attempts.take(create.mac, before.failures()), 2);
        assert_eq!(attempts.failures(), before.failures());
        assert_eq!(attempts.take(create.mac, &BTreeMap::new()), 0);
        assert_eq!(attempts.failures(), before.failures());
    }

    #[test]
    fn own_failures_alone_are_no_fight() {
        let repair = change(ChangeKind::Repair(Vec::new()), 1500);
        let mut attempts = Attempts::default();
        for now in 0..3 {
            attempts.failed(&repair, seconds(now), "RolledBack: busy".to_owned());
        }
        assert_eq!(attempts.succeeded(&repair, seconds(3)), 1);
        assert_eq!(attempts.admit(&repair, seconds(3)), Ok(()));
        assert!(!attempts.is_fought_about(repair.mac));
    }

    #[test]
    fn a_nic_that_was_plugged_again_is_tried_at_once_although_it_failed_before() {
        let mut create = change(ChangeKind::Create, 1500);
        let mut attempts = Attempts::default();
        for _ in 0..9 {
            attempts.failed(&create, seconds(0), String::new());
        }
        create.link = Some(9);
        assert_eq!(attempts.admit(&create, seconds(0)), Ok(()));
        assert_eq!(attempts.failed(&create, seconds(0), String::new()), 1);
    }
}
