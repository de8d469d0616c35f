//! A page of subnets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_openstack::bodies::{Listed, readable};

fuzz_target!(|data: &[u8]| {
    let _ = readable(Listed::Subnets, data);
});
