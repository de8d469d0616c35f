//! The body that comes with a token of Keystone.

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_openstack::bodies;

fuzz_target!(|data: &[u8]| {
    let _ = bodies::token(data);
});
