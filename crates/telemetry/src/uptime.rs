//! How long a process has run, as text.

use std::time::Duration;

/// `1d2h3m` from a day on, else `2h45m30s`, `45m30s`, `30s`: the form that the health documents of the older agents
/// promise.
pub fn uptime(lasted: Duration) -> String {
    let seconds = lasted.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s}s"),
        (0, h, m, s) => format!("{h}h{m}m{s}s"),
        (d, h, m, _) => format!("{d}d{h}h{m}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_come_without_seconds() {
        let text = |seconds| uptime(Duration::from_secs(seconds));
        assert_eq!(text(0), "0s");
        assert_eq!(text(65), "1m5s");
        assert_eq!(text(2 * 3600 + 45 * 60 + 30), "2h45m30s");
        assert_eq!(text(86_400 + 2 * 3600 + 3 * 60 + 59), "1d2h3m");
        assert_eq!(text(86_400), "1d0h0m");
    }
}
