//! `Retry-After`.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The longest wait that a server is granted within a read. Longer ones are left to the next read.
const LONGEST: Duration = Duration::from_secs(30);

/// What `Retry-After` asks for, in seconds or as a date (RFC 9110, 10.2.3), at most [`LONGEST`].
pub(super) fn asked(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            // A date that has passed asks for no wait.
            Duration::try_from(date.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_capped() {
        let now: Timestamp = "2026-11-21T08:49:30Z".parse().unwrap();
        let asked = |text: &str| {
            asked(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]), now)
                .map(|wait| wait.as_secs())
        };
        assert_eq!(asked("7"), Some(7));
        assert_eq!(asked("86400"), Some(30));
        assert_eq!(asked("Sat, 21 Nov 2026 08:49:37 GMT"), Some(7));
        assert_eq!(asked("Sat, 21 Nov 2026 08:00:00 GMT"), Some(0));
        assert_eq!(asked("soon"), None);
    }
}
