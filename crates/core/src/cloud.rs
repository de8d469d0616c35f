//! What the controller saw in OpenStack for one `OpenstackConfig`: complete, or not there at all.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::{MacAddr, NetworkId, PortId, ProjectId, ServerId, SubnetId};

/// A complete read of everything that a configuration names. There is no partial snapshot: a page, chunk or row that
/// could not be read makes the whole read an error. What the cloud positively does not know is in [`Self::unresolved`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloudSnapshot {
    /// The project that the read was scoped to, as the token names it.
    pub project: Option<ProjectId>,
    /// The servers that the configuration names and the cloud knows, in the configuration's order.
    pub servers: Vec<Server>,
    /// The VMs of the configuration for which there is no server to go on with.
    pub unresolved: Vec<UnresolvedVm>,
    /// The subnets that the configuration selects, in its order.
    pub selected: Vec<SubnetId>,
    /// The selected subnets and every other one that holds a fixed IP of a port below.
    pub subnets: BTreeMap<SubnetId, Subnet>,
    /// The networks of the ports below.
    pub networks: BTreeMap<NetworkId, Network>,
    /// Every port of the servers above that the project owns, whatever its subnet or status.
    pub ports: Vec<Port>,
    /// Ports of the servers above that are there and could not be understood: neither usable nor absent.
    pub unreadable: Vec<UnreadablePort>,
}

/// A port that Neutron listed in a way that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadablePort {
    /// Its id, where that much was readable.
    pub id: Option<PortId>,
    /// The server it is attached to, where that much was readable.
    pub device: Option<ServerId>,
    /// What is wrong with it.
    pub problem: String,
}

/// A Nova server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Its name and metadata, or why they could not be read. Without them the node's name is not known.
    pub identity: Result<ServerIdentity, String>,
}

/// What a node's name is made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerIdentity {
    /// The server's display name, untrimmed, possibly empty.
    pub name: String,
    /// The server's metadata.
    pub metadata: BTreeMap<String, String>,
}

/// A VM that the configuration names and the cloud does not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnresolvedVm {
    /// The name or UUID as the user wrote it.
    pub vm: String,
    /// Why there is no server to go on with.
    pub why: Unresolved,
}

/// Why a VM is unresolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// Nova answered that there is none.
    NotFound,
    /// Several servers have this very name.
    Ambiguous(Vec<ServerId>),
}

/// A Neutron subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// Its name, possibly empty.
    pub name: String,
    /// Its network.
    pub network: NetworkId,
    /// Its addresses.
    pub cidr: IpNet,
}

/// A Neutron network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its MTU in bytes as Neutron says it; absent where the cloud does not.
    pub mtu: Option<i64>,
}

/// A Neutron port that is attached to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its id.
    pub id: PortId,
    /// Its network.
    pub network: NetworkId,
    /// The server it is attached to.
    pub device: ServerId,
    /// The project that owns it.
    pub project: ProjectId,
    /// Its MAC address.
    pub mac: MacAddr,
    /// `ACTIVE`, `DOWN`, `BUILD`, `ERROR`, …, possibly empty.
    pub status: String,
    /// Its addresses, in Neutron's order.
    pub fixed_ips: Vec<FixedIp>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Rises with each change of the port.
    pub revision_number: i64,
}

/// One address of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedIp {
    /// The address.
    pub ip: IpAddr,
    /// Its subnet.
    pub subnet: SubnetId,
}

/// What the cloud said when it was asked for one port by its id, to prove that it may be removed from a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortProof {
    /// 404, while the port's network could still be read with the same project's scope.
    Gone,
    /// The port is there, attached to something else or to nothing (an empty id).
    Moved(ServerId),
    /// The port is there and still attached to the same server: the list that lacked it was wrong.
    StillAttached,
    /// The question was not answered, or not under conditions that make the answer count.
    Unproven(String),
}
