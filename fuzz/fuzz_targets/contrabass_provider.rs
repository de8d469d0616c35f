//! Contrabass' description of a provider.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

use multinic_openstack::{Key, bodies};
use secrecy::SecretString;

static KEY: LazyLock<Key> = LazyLock::new(|| Key::new(&SecretString::from("0123456789abcdef")).unwrap());

fuzz_target!(|data: &[u8]| {
    let _ = bodies::provider(&KEY, data);
});
