//! systemd.network(5), as a file of ours and of others.

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_host::backend::places::Kind;

fuzz_target!(|data: &[u8]| multinic_fuzz::host_file(Kind::Network, "a.network", data));
