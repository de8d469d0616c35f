//! Durations as the environment variables of the older programs write them.

use std::time::Duration;

pub use multinic_core::duration::{parse, parse_positive};

/// A change with its probes takes some seconds; what goes back by itself must not do so under an agent that lives.
const SHORTEST_SAFE_APPLY: Duration = Duration::from_secs(30);

/// Reads `SAFE_APPLY_TIMEOUT`.
pub fn parse_safe_apply(text: &str) -> Result<Duration, String> {
    let duration = parse(text)?;
    if duration < SHORTEST_SAFE_APPLY {
        return Err(format!("must be {}s at least", SHORTEST_SAFE_APPLY.as_secs()));
    }
    Ok(duration)
}

/// The form in which the oldest program took intervals was a bare number of seconds.
pub fn seconds_to_duration(text: &str) -> String {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        format!("{text}s")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_seconds_of_the_oldest_program_are_given_their_unit() {
        assert_eq!(seconds_to_duration("30"), "30s");
        assert_eq!(seconds_to_duration("30s"), "30s");
    }
}
