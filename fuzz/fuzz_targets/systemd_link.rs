//! systemd.link(5).

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_host::backend::places::Kind;

fuzz_target!(|data: &[u8]| multinic_fuzz::host_file(Kind::Link, "a.link", data));
