//! Things to publish and to report.

use std::sync::Arc;

use multinic_core::desired::{EntryId, NicReport, Outcome};
use multinic_core::published::{DesiredInterface, Evidence, Publication, Removal, SubnetRecord};
use multinic_core::{Addresses, ConfigKey, Interface, Mtu, Slot};

pub const SUBNET: &str = "5b000000-0000-4000-8000-000000000001";

pub fn owner() -> ConfigKey {
    ConfigKey::new("default", "lab")
}

pub fn mac(port: u32) -> String {
    let [_, _, high, low] = port.to_be_bytes();
    format!("fa:16:3e:00:{high:02x}:{low:02x}")
}

pub fn port(number: u32) -> String {
    format!("90000000-0000-4000-8000-{number:012}")
}

pub fn server(number: u32) -> String {
    format!("5e000000-0000-4000-8000-{number:012}")
}

/// The interface of a port, on a node whose server is number 1.
pub fn nic(node: &str, slot: i64, number: u32) -> DesiredInterface {
    nic_of(node, 1, slot, number)
}

pub fn nic_of(node: &str, device: u32, slot: i64, number: u32) -> DesiredInterface {
    let [_, _, high, low] = number.to_be_bytes();
    DesiredInterface {
        node: node.parse().unwrap(),
        owner: owner(),
        slot: Slot::new(slot).unwrap(),
        project: "9a000000000040008000000000000001".into(),
        interface: Arc::new(Interface {
            mac: mac(number).parse().unwrap(),
            port: port(number).into(),
            network: "4e000000-0000-4000-8000-000000000001".into(),
            subnet: SUBNET.into(),
            device: server(device).into(),
            addresses: addresses(&[&format!("10.{}.{high}.{}/8", 1, low.max(1))]),
            cidr: "10.0.0.0/8".parse().unwrap(),
            mtu: Mtu::new(1450).unwrap(),
        }),
    }
}

pub fn addresses(list: &[&str]) -> Addresses {
    Addresses::parse(list.iter().copied()).unwrap()
}

pub fn publication(interfaces: impl IntoIterator<Item = DesiredInterface>) -> Publication {
    let interfaces: Vec<_> = interfaces.into_iter().collect();
    let record = |interface: &Interface| SubnetRecord {
        name: "lab-net".into(),
        cidr: interface.cidr.to_string(),
        network: interface.network.clone(),
    };
    let subnets = interfaces.iter().map(|d| (d.interface.subnet.clone(), record(&d.interface))).collect();
    Publication { interfaces, subnets, ..Publication::default() }
}

/// The same, and with it these interfaces taken away.
pub fn without(mut publication: Publication, gone: &[&DesiredInterface]) -> Publication {
    let removal = |desired: &&DesiredInterface| Removal {
        node: desired.node.clone(),
        port: desired.interface.port.clone(),
        mac: desired.interface.mac,
        slot: Some(desired.slot),
        evidence: Evidence::PortGone,
    };
    publication.removals = gone.iter().map(removal).collect();
    publication
}

pub fn applied(entry: EntryId, revision: u64, slot: i64) -> NicReport {
    let name = Slot::new(slot).unwrap().interface();
    NicReport { entry, revision, outcome: Outcome::Applied { name, addresses: addresses(&["10.1.0.1/8"]) } }
}

pub fn failed(entry: EntryId, revision: u64, error: &str) -> NicReport {
    NicReport { entry, revision, outcome: Outcome::Failed { name: None, error: error.into() } }
}
