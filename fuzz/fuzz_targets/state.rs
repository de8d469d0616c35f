//! What the agent knows about itself: read back as it was written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_host::state::State;

fuzz_target!(|data: &[u8]| {
    let _ = State::parse(data);
});
