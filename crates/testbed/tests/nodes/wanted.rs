//! A NIC that a node is to have.

use ipnet::IpNet;
use multinic_core::{Addresses, InterfaceName, MacAddr, Slot};
use multinic_testbed::guest::Nic;

/// What the cloud knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub mac: MacAddr,
    /// What the kernel calls it when it appears.
    pub first_name: String,
    pub slot: Slot,
    pub addresses: Vec<IpNet>,
    pub mtu: u32,
}

impl Wanted {
    /// A NIC with an address of each family. `number` makes it different from every other: of a fleet, or of a node.
    pub fn new(slot: u8, number: u8) -> Self {
        Self {
            mac: MacAddr::from_bytes([0xfa, 0x16, 0x3e, 0, 2, number]).unwrap(),
            first_name: format!("ens{}", 4 + slot),
            slot: Slot::new(slot.into()).unwrap(),
            addresses: vec![
                format!("10.50.0.{number}/24").parse().unwrap(),
                format!("fd00:50::{number:x}/64").parse().unwrap(),
            ],
            mtu: 1450,
        }
    }

    pub fn name(&self) -> InterfaceName {
        self.slot.interface()
    }

    pub fn addresses(&self) -> Addresses {
        Addresses::new(self.addresses.iter().copied()).unwrap()
    }

    /// What the hypervisor plugs. It gives the guest's NIC the MTU of its network.
    pub fn nic(&self) -> Nic {
        let network = "tenant".to_owned();
        Nic { mac: self.mac, name: self.first_name.clone(), mtu: self.mtu, network }
    }
}
