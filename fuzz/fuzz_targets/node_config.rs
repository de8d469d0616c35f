//! The spec of a `MultiNicNodeConfig`, entry by entry.

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_api::desired_nic::desired_nic;
use multinic_api::{MultiNicNodeConfigSpec, OptionsSpec};
use multinic_core::desired::EntryId;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let _ = serde_json::from_slice::<MultiNicNodeConfigSpec>(data);
    let _ = serde_json::from_slice::<OptionsSpec>(data);
    let Ok(spec) = serde_json::from_slice::<Value>(data) else { return };
    for (at, entry) in spec["interfaces"].as_array().into_iter().flatten().enumerate() {
        if let Ok(nic) = desired_nic(EntryId(at as i64), 1, entry) {
            // What is asked for can be written for every network manager, and is read as it was written.
            multinic_fuzz::renders(nic);
        }
    }
});
