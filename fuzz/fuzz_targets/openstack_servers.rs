//! A page of servers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_openstack::bodies::{Listed, readable};

fuzz_target!(|data: &[u8]| {
    let _ = readable(Listed::Servers, data);
});
