//! Who does the work for netplan, by a file of somebody else.

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_host::backend::netplan;

fuzz_target!(|data: &[u8]| {
    let _ = netplan::said_by(&String::from_utf8_lossy(data));
});
