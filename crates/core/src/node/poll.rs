//! When to read the source again: soon after a change, slower when quiet, backing off on errors.

use std::time::Duration;

/// The intervals, from the agent's configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PollRules {
    /// The usual interval.
    pub base: Duration,
    /// Whether errors lengthen it.
    pub backoff: bool,
    /// By how much each error in a row lengthens it.
    pub multiplier: f64,
    /// The longest wait after errors.
    pub longest: Duration,
}

/// How many reads in a row had one result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PollSchedule {
    errors: u32,
    quiet: u32,
}

/// How many quiet reads stay soon after a change, since changes come in groups.
const SOON_READS: u32 = 6;
/// How many quiet reads it takes until reads become slower.
const QUIET_READS: u32 = 20;

impl PollSchedule {
    /// The wait after a read that changed something.
    pub fn after_change(&mut self, rules: &PollRules) -> Duration {
        *self = Self::default();
        self.wait(rules)
    }

    /// The wait after a read that changed nothing.
    pub fn after_quiet(&mut self, rules: &PollRules) -> Duration {
        self.errors = 0;
        self.quiet = self.quiet.saturating_add(1);
        self.wait(rules)
    }

    /// The wait after a read that failed.
    pub fn after_error(&mut self, rules: &PollRules) -> Duration {
        self.errors = self.errors.saturating_add(1);
        self.wait(rules)
    }

    /// The level of the back-off: 0 is none.
    pub fn level(&self) -> u32 {
        self.errors
    }

    fn wait(&self, rules: &PollRules) -> Duration {
        if self.errors > 0 {
            if !rules.backoff {
                return rules.base;
            }
            let exponent = i32::try_from(self.errors - 1).unwrap_or(i32::MAX);
            let longest = rules.longest.max(rules.base);
            let factor = rules.multiplier.max(1.0).powi(exponent);
            let seconds = (rules.base.as_secs_f64() * factor).min(longest.as_secs_f64());
            return Duration::try_from_secs_f64(seconds).unwrap_or(longest);
        }
        match self.quiet {
            0..SOON_READS => (rules.base / 6).max(Duration::from_secs(1)).min(rules.base),
            SOON_READS..QUIET_READS => rules.base,
            _ => rules.base.saturating_mul(2),
        }
    }
}
