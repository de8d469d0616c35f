//! What was before a change, with the kernel's own words of addresses and routes in it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_host::journal::{self, Entry};

fuzz_target!(|data: &[u8]| {
    let Ok(entry) = journal::parse(data) else { return };
    let _ = (
        entry.paths(),
        entry.files.iter().filter_map(|file| file.content.as_ref()).map(|it| it.to_copy()).count(),
    );
    if let Entry { link: Some(link), .. } = &entry {
        let _ = link.addresses.iter().filter_map(|address| address.saved()).count();
        let same = |saved: &str| {
            link.routes.iter().filter_map(|route| route.saved()).any(|it| it.is_same_route(saved))
        };
        let _ = link.routes.iter().filter(|route| same(&route.saved)).count();
    }
    let written = serde_json::to_vec(&entry).unwrap();
    assert_eq!(journal::parse(&written).as_ref(), Ok(&entry));
});
