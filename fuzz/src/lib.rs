//! What several fuzz targets do.

use multinic_core::Slot;
use multinic_core::desired::DesiredNic;
use multinic_core::node::NicTarget;
use multinic_host::backend::{Backend, held, places};
use multinic_host::claims;

/// Reads a file of a node as one of ours, and as one of somebody else of this name.
pub fn host_file(kind: places::Kind, name: &str, data: &[u8]) {
    let slot = Slot::new(3).unwrap();
    let _ = held::read(kind, slot, data);
    let _ = claims::read(name, &String::from_utf8_lossy(data));
}

/// Writes a NIC's files for every network manager, and reads them again: each says what it was written from.
pub fn renders(nic: DesiredNic) {
    let DesiredNic { mac, slot, addresses, mtu, options, .. } = nic;
    let slot = slot.unwrap_or(Slot::new(0).unwrap());
    let target = NicTarget { mac, name: slot.interface(), addresses, mtu, options: options.resolve(slot) };
    for backend in Backend::ALL {
        for file in backend.render(&target) {
            let (kind, of) = places::known(&file.path).unwrap();
            let said = held::read(kind, of, file.text.as_bytes());
            assert_eq!(of, slot);
            assert!(said.mac.is_none_or(|mac| mac == target.mac), "{}", file.text);
        }
    }
}
