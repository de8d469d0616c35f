//! What was refused and what was done by breaking the glass, until it is told: in a status, in events.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

/// What comes within this time is told together: a status is not written for each refusal.
const TOGETHER: Duration = Duration::from_secs(5);
/// So many are told one by one until they are told; of the rest their number.
const MOST_BROKEN: usize = 16;

/// What is untold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Untold {
    /// How often something was refused.
    pub prevented: i64,
    /// The last time, and what it was.
    pub last: Option<(Timestamp, String)>,
    /// What was done by breaking the glass.
    pub broken: Vec<String>,
    /// How often more than that.
    pub more: u64,
}

/// Counts.
#[derive(Debug, Default)]
pub struct Tally {
    untold: Mutex<Untold>,
    news: Notify,
}

impl Tally {
    /// Something was refused.
    pub fn prevented(&self, now: Timestamp, what: String) {
        self.change(|untold| {
            untold.prevented = untold.prevented.saturating_add(1);
            untold.last = Some((now, what));
        });
        self.news.notify_one();
    }

    /// Something was done by breaking the glass.
    pub fn broken(&self, what: String) {
        self.change(|untold| {
            if untold.broken.contains(&what) {
            } else if untold.broken.len() < MOST_BROKEN {
                untold.broken.push(what);
            } else {
                untold.more = untold.more.saturating_add(1);
            }
        });
        self.news.notify_one();
    }

    /// All that is untold.
    pub fn untold(&self) -> Untold {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This was told. What came since then is still untold.
    pub fn told(&self, told: &Untold) {
        self.change(|untold| {
            untold.prevented = untold.prevented.saturating_sub(told.prevented);
            if untold.last == told.last {
                untold.last = None;
            }
            untold.broken.retain(|what| !told.broken.contains(what));
            untold.more = untold.more.saturating_sub(told.more);
        });
    }

    /// Returns when there is something to tell, and some time more for what comes with it.
    pub async fn news(&self) {
        self.news.notified().await;
        tokio::time::sleep(TOGETHER).await;
    }

    fn change(&self, change: impl FnOnce(&mut Untold)) {
        change(&mut self.untold.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_the_rest_is_told_stays_untold() {
        let tally = Tally::default();
        let at = Timestamp::UNIX_EPOCH;
        tally.prevented(at, "one".to_owned());
        tally.broken("this".to_owned());
        let told = tally.untold();
        tally.prevented(at, "two".to_owned());
        tally.broken("that".to_owned());
        tally.told(&told);
        let untold = tally.untold();
        assert_eq!((untold.prevented, untold.broken), (1, vec!["that".to_owned()]));
        assert_eq!(untold.last, Some((at, "two".to_owned())));
    }
}
