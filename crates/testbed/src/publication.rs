//! A publication without a cloud: one NIC for one node.

use std::sync::Arc;

use ipnet::IpNet;
use multinic_core::published::{DesiredInterface, Publication, SubnetRecord};
use multinic_core::{AddressError, Addresses, ConfigKey, Interface, MacAddr, Mtu, MtuError, NameError, Slot};

/// What no NIC or node can have.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// The node's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The MTU.
    #[error(transparent)]
    Mtu(#[from] MtuError),
}

/// `multinic0` of a node, with this MAC and address and an MTU of 1450.
pub fn one_nic(node: &str, mac: MacAddr, net: IpNet) -> Result<Publication, PublicationError> {
    let interface = Interface {
        mac,
        port: "90000000-0000-4000-8000-000000000001".into(),
        network: "4e000000-0000-4000-8000-000000000001".into(),
        subnet: "5b000000-0000-4000-8000-000000000001".into(),
        device: "5e000000-0000-4000-8000-000000000001".into(),
        addresses: Addresses::new([net])?,
        cidr: net.trunc(),
        mtu: Mtu::new(1450)?,
    };
    let record = SubnetRecord {
        name: "lab".to_owned(),
        cidr: interface.cidr.to_string(),
        network: interface.network.clone(),
    };
    let subnets = [(interface.subnet.clone(), record)].into();
    let desired = DesiredInterface {
        node: node.parse()?,
        owner: ConfigKey::new("default", "lab"),
        slot: Slot::new(0)?,
        project: "9a000000000040008000000000000001".into(),
        interface: Arc::new(interface),
    };
    Ok(Publication { interfaces: vec![desired], subnets, ..Publication::default() })
}
