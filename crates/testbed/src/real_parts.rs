//! What tests need of the machine. Where it is missing they are skipped, or fail where that is not allowed.

use std::env;
use std::fmt::Display;
use std::io::{self, Write as _};

/// Environment variable: with the value `required`, a missing part is a failure instead of a reason to skip.
pub const REAL_PARTS: &str = "MULTINIC_REAL_PARTS";

/// Says on standard error that tests are skipped, and why.
///
/// # Panics
/// Where the environment says that real parts are required.
#[track_caller]
#[allow(clippy::panic, reason = "this is the one place where a test may not be skipped")]
pub fn skip(tests: &str, why: impl Display) {
    assert!(env::var(REAL_PARTS).as_deref() != Ok("required"), "{REAL_PARTS}=required, but {why}");
    // Not through the test harness, which hides what a passing test prints.
    let line = format!("SKIPPED: {tests}, because {why}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}
