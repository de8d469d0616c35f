//! One runtime for all clients of this process, and waits with a generous deadline.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

/// Far more than anything here takes, also on a machine that compiles something else meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Runs something on the runtime to which all clients and simulated clouds belong.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let make = || Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    RUNTIME.get_or_init(make).block_on(work)
}

/// Waits until something is true; `what` says what is, if it does not come.
#[track_caller]
pub fn wait(what: impl Fn() -> String, mut come: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !come() {
        assert!(Instant::now() < deadline, "within {PATIENCE:?}: {}", what());
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Waits until nothing is wrong any more, and fails with what was wrong at last.
#[track_caller]
pub fn wait_until_right(wrong: impl FnMut() -> Option<String>, context: impl Fn() -> String) {
    let mut wrong = wrong;
    let deadline = Instant::now() + PATIENCE;
    while let Some(problem) = wrong() {
        assert!(Instant::now() < deadline, "within {PATIENCE:?}: {problem}\n{}", context());
        std::thread::sleep(LOOK_AGAIN);
    }
}
