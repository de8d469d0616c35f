//! os-release(5).

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_host::backend::detect::Distribution;

fuzz_target!(|data: &[u8]| {
    let _ = Distribution::read(&String::from_utf8_lossy(data));
});
