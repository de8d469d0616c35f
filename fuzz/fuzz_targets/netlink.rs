//! What the kernel tells unasked, of links, addresses, routes, rules and settings.

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_host::netlink::events::read_all;

fuzz_target!(|data: &[u8]| {
    let _ = read_all(data);
});
