//! What networkd says of a link, and which links a file of somebody else is about.

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_host::manager::networkd::read_link_state;
use multinic_host::survey::may_match;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let _ = read_link_state(&text);
    let _ = may_match(&text, &["enp0s5", "multinic0"]);
});
