//! A rule of udev(7).

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_host::backend::places::Kind;

fuzz_target!(|data: &[u8]| multinic_fuzz::host_file(Kind::Rule, "a.rules", data));
