//! What an error shows of the body that came with it: one line, and never a secret.

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_openstack::bodies;

fuzz_target!(|data: &[u8]| {
    for content_type in [None, Some("text/html")] {
        let shown = bodies::excerpt(content_type, data).to_string();
        assert!(!shown.contains(bodies::SECRET) && !shown.contains('\n'), "{shown:?}");
    }
});
