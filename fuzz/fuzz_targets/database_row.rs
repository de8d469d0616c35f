//! The texts of a row of `multi_interface`, a line each: MAC, address list, address, CIDR, name, numbers of MTU and slot.

#![no_main]

use libfuzzer_sys::fuzz_target;
use multinic_core::{Addresses, InterfaceName, MacAddr, Mtu, Slot};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let mut next = || lines.next().unwrap_or_default();
    let _ = next().trim().parse::<MacAddr>();
    let list = serde_json::from_str::<Addresses>(next()).ok();
    let (address, cidr) = (next(), next());
    let addresses = Addresses::reconcile(list, Some(address), Some(cidr));
    let _ = next().parse::<InterfaceName>();
    if let (Ok(addresses), Ok(Ok(mtu))) = (addresses, next().parse().map(Mtu::new)) {
        let _ = mtu.carries(&addresses);
        let _ = addresses.to_string();
    }
    let _ = next().parse().map(Slot::new);
});
