//! When configurations are carried out.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// `RECONCILE_MODE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// On every change, and by polling that adapts itself.
    #[default]
    Immediate,
    /// At intervals, or by a schedule.
    Scheduled,
    /// When somebody asks by the annotation `multinic.io/reconcile-at`.
    Manual,
    /// When somebody asks over HTTP, or by the annotation.
    Webhook,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "immediate" => Ok(Self::Immediate),
            "scheduled" => Ok(Self::Scheduled),
            "manual" => Ok(Self::Manual),
            "webhook" => Ok(Self::Webhook),
            _ => Err("is none of immediate, scheduled, manual and webhook".to_owned()),
        }
    }
}

/// When configurations are carried out, beside when they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggers {
    /// The mode.
    pub mode: Mode,
    /// The times of `scheduled`.
    pub times: Times,
    /// Whether a change of a configuration is carried out at once.
    pub on_change: bool,
}

/// The times of `scheduled`.
#[derive(Clone, PartialEq, Eq)]
pub enum Times {
    /// Every so often.
    Every(Duration),
    /// As the schedule says, in this time zone.
    Cron(Box<Cron>, TimeZone),
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => write!(f, "every {interval:?}"),
            Self::Cron(cron, zone) => write!(f, "{:?} in {:?}", cron.pattern.to_string(), zone.iana_name()),
        }
    }
}

/// A schedule that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// The cron expression.
    #[error("RECONCILE_SCHEDULE: {0:?} is no cron expression of five or six fields: {1}")]
    Schedule(String, String),
    /// A schedule that never comes.
    #[error("RECONCILE_SCHEDULE: {0:?} never comes")]
    Never(String),
    /// The time zone.
    #[error("RECONCILE_TIMEZONE: {0:?} is no IANA time zone such as Asia/Seoul: {1}")]
    Zone(String, String),
    /// The interval.
    #[error("RECONCILE_INTERVAL: {0:?} is below the least, one minute")]
    Interval(Duration),
}

/// The shortest interval of `scheduled`, as it always was.
const LEAST_INTERVAL: Duration = Duration::from_secs(60);

impl Times {
    /// An interval of at least a minute, or a cron expression in place of it.
    pub fn new(interval: Duration, schedule: Option<&str>, zone: &str) -> Result<Self, TriggerError> {
        let Some(schedule) = schedule.map(str::trim).filter(|schedule| !schedule.is_empty()) else {
            return if interval < LEAST_INTERVAL {
                Err(TriggerError::Interval(interval))
            } else {
                Ok(Self::Every(interval))
            };
        };
        let zone = TimeZone::get(zone.trim())
            .map_err(|error| TriggerError::Zone(zone.to_owned(), error.to_string()))?;
        let cron: Cron = schedule.parse().map_err(|error: croner::errors::CronError| {
            TriggerError::Schedule(schedule.to_owned(), error.to_string())
        })?;
        let times = Self::Cron(Box::new(cron), zone);
        match times.after(Timestamp::now()) {
            Some(_) => Ok(times),
            None => Err(TriggerError::Never(schedule.to_owned())),
        }
    }

    /// The next time.
    pub fn after(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(interval) => now.checked_add(*interval).ok(),
            Self::Cron(cron, zone) => {
                let now: Zoned = now.to_zoned(zone.clone());
                cron.find_next_occurrence(&now, false).ok().map(|next| next.timestamp())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_schedule_is_followed_in_its_time_zone() {
        let times = Times::new(LEAST_INTERVAL, Some("30 2 * * *"), "Asia/Seoul").unwrap();
        assert_eq!(times.after(at("2026-03-01T00:00:00Z")), Some(at("2026-03-01T17:30:00Z")));
        assert_eq!(times.after(at("2026-03-01T17:30:00Z")), Some(at("2026-03-02T17:30:00Z")));
    }

    #[test]
    fn a_day_without_the_hour_of_a_schedule_still_has_a_pass() {
        // In Berlin there is no half past two on 29 March 2026.
        let times = Times::new(LEAST_INTERVAL, Some("30 2 * * *"), "Europe/Berlin").unwrap();
        let next = times.after(at("2026-03-28T12:00:00Z")).unwrap();
        assert!(next <= at("2026-03-30T00:30:00Z"), "{next}");
    }

    #[test]
    fn an_interval_is_at_least_a_minute() {
        let error = Times::new(Duration::from_secs(59), None, "UTC").unwrap_err();
        assert!(error.to_string().contains("RECONCILE_INTERVAL"), "{error}");
        let times = Times::new(Duration::from_secs(60), None, "UTC").unwrap();
        assert_eq!(times.after(at("2026-03-01T00:00:00Z")), Some(at("2026-03-01T00:01:00Z")));
    }

    #[test]
    fn what_is_no_schedule_or_zone_is_an_error_that_names_the_variable() {
        for (schedule, zone, variable) in [
            ("every day", "UTC", "RECONCILE_SCHEDULE"),
            ("61 * * * *", "UTC", "RECONCILE_SCHEDULE"),
            ("0 0 30 2 *", "UTC", "RECONCILE_SCHEDULE"),
            ("0 0 * * *", "Mars/Olympus", "RECONCILE_TIMEZONE"),
        ] {
            let error = Times::new(LEAST_INTERVAL, Some(schedule), zone).unwrap_err().to_string();
            assert!(error.starts_with(variable), "{error}");
        }
    }

    #[test]
    fn modes_are_read_by_their_names() {
        assert_eq!("Scheduled".parse(), Ok(Mode::Scheduled));
        assert!("sometimes".parse::<Mode>().is_err());
    }
}
