//! When to look at a cloud again: fast after a change, slow when nothing has changed for a while, and a limited number
//! of fast looks for ports that are DOWN, since those usually come up soon and some never do.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::PortId;
use crate::config::Cadence;

/// What a pass came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Something was published.
    Changed,
    /// Nothing had changed.
    Unchanged,
    /// The cloud could not be read, or the result not be published.
    Failed,
}

/// What is remembered between the passes of one configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pace {
    /// When something was last published.
    pub last_change: Option<Timestamp>,
    /// The ports that are DOWN, if any.
    pub down: Option<DownPortRetry>,
}

/// How often a set of DOWN ports was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DownPortRetry {
    /// SHA-256 in hex of the ports' ids, sorted and joined by commas.
    pub hash: String,
    /// When they were last looked at.
    pub last_attempt: Timestamp,
    /// How many fast looks they had.
    pub fast_attempts: u32,
}

impl Pace {
    /// Remembers a pass and says how long to wait for the next.
    pub fn next(
        &mut self,
        cadence: &Cadence,
        pass: Pass,
        down: &BTreeSet<PortId>,
        now: Timestamp,
    ) -> Duration {
        if pass == Pass::Failed {
            return cadence.error;
        }
        if pass == Pass::Changed {
            self.last_change = Some(now);
        }
        let recently = self.last_change.is_some_and(|change| since(change, now) <= cadence.window);
        let wait = if recently { cadence.fast } else { cadence.slow };
        self.attempt(cadence, down, now);
        match &self.down {
            None => wait,
            Some(retry) => wait.min(retry.interval(cadence).saturating_sub(since(retry.last_attempt, now))),
        }
    }

    /// A look at DOWN ports counts as an attempt when one was due: for a new set at once, for a known one after its
    /// interval.
    fn attempt(&mut self, cadence: &Cadence, down: &BTreeSet<PortId>, now: Timestamp) {
        if down.is_empty() {
            self.down = None;
            return;
        }
        let hash = hash(down);
        match &mut self.down {
            Some(retry) if retry.hash == hash => {
                if since(retry.last_attempt, now) >= retry.interval(cadence) {
                    retry.last_attempt = now;
                    retry.fast_attempts = (retry.fast_attempts + 1).min(cadence.down_retries);
                }
            }
            other => *other = Some(DownPortRetry { hash, last_attempt: now, fast_attempts: 1 }),
        }
    }
}

impl DownPortRetry {
    fn interval(&self, cadence: &Cadence) -> Duration {
        if self.fast_attempts < cadence.down_retries { cadence.fast } else { cadence.slow }
    }
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    // A clock that was set back makes a negative time: wait as if it had just been.
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

fn hash(ports: &BTreeSet<PortId>) -> String {
    let ids: Vec<&str> = ports.iter().map(PortId::as_str).collect();
    Sha256::digest(ids.join(",")).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + second)
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn reads_are_fast_after_a_change_and_slow_when_quiet() {
        let (mut pace, cadence, none) = (Pace::default(), Cadence::default(), BTreeSet::new());
        assert_eq!(pace.next(&cadence, Pass::Unchanged, &none, at(0)), cadence.slow);
        assert_eq!(pace.next(&cadence, Pass::Changed, &none, at(10)), cadence.fast);
        assert_eq!(pace.next(&cadence, Pass::Unchanged, &none, at(190)), cadence.fast);
        assert_eq!(pace.next(&cadence, Pass::Unchanged, &none, at(191)), cadence.slow);
        assert_eq!(pace.next(&cadence, Pass::Failed, &none, at(192)), cadence.error);
    }

    #[test]
    fn down_ports_earn_a_limited_number_of_fast_reads() {
        let (mut pace, cadence) = (Pace::default(), Cadence::default());
        let down = BTreeSet::from(["port-a".into(), "port-b".into()]);
        let mut now = 0;
        for _ in 0..4 {
            assert_eq!(pace.next(&cadence, Pass::Unchanged, &down, at(now)), cadence.fast);
            now += 20;
        }
        // The fifth attempt is the last fast one; a port that stays DOWN does not keep the reads fast for ever.
        assert_eq!(pace.next(&cadence, Pass::Unchanged, &down, at(now)), cadence.slow);
        assert_eq!(pace.next(&cadence, Pass::Unchanged, &down, at(now + 30)), seconds(90));
        let other = BTreeSet::from(["port-c".into()]);
        assert_eq!(pace.next(&cadence, Pass::Unchanged, &other, at(now + 40)), cadence.fast);
        pace.next(&cadence, Pass::Unchanged, &BTreeSet::new(), at(now + 60));
        assert_eq!(pace.down, None);
    }

    #[test]
    fn the_hash_is_the_one_of_the_contract() {
        let ports = BTreeSet::from(["port-b".into(), "port-a".into()]);
        assert_eq!(hash(&ports), "b48712482883e9f1e01b0552019f7f56cde39674f92c335c7144bbd355ec2bda");
    }
}
