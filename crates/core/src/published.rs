//! What the controller published earlier, and what it wants to publish now.
//!
//! The published state is also the memory of slots: which MAC has which `multinicN`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{
    ConfigKey, Interface, MacAddr, NetworkId, NodeName, PortId, ProjectId, ServerId, Slot, SubnetId,
};

/// Everything that was published, read in one piece. A read that fails is an error, never an empty value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    /// The revision of the whole; none where the store has none.
    pub revision: Option<u64>,
    /// The interfaces that nodes are to have.
    pub interfaces: Vec<PublishedInterface>,
    /// Slots that are not free although nothing is published there: of removals that are not carried out yet, and of NICs
    /// whose configuration is not known.
    pub releasing: Vec<Releasing>,
    /// The hash of each configuration's spec at its last complete publication.
    pub spec_hashes: BTreeMap<ConfigKey, String>,
}

/// One published interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedInterface {
    /// The node.
    pub node: NodeName,
    /// The configuration that it came from.
    pub owner: ConfigKey,
    /// The slot that was published; none in rows of older programs.
    pub slot: Option<Slot>,
    /// The slot under which the node verified it. A verified name wins over the published one.
    pub verified: Option<Slot>,
    /// The project whose token last saw it; none in rows of older programs.
    pub project: Option<ProjectId>,
    /// What it is.
    pub nic: PublishedNic,
}

/// What a row says of its NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishedNic {
    /// Everything. A fleet has 100 000 of these, so it is shared with whoever wishes for the same.
    Whole(Arc<Interface>),
    /// The row lacks a part of it, as rows of older programs do.
    Partial(Box<PartialNic>),
}

/// What a row of an older program says of its NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialNic {
    /// The MAC address.
    pub mac: MacAddr,
    /// The port.
    pub port: PortId,
    /// The port's network, where it was recorded.
    pub network: Option<NetworkId>,
    /// The subnet that the row names.
    pub subnet: SubnetId,
    /// The server it was attached to, where it was recorded.
    pub device: Option<ServerId>,
}

impl PublishedInterface {
    /// The slot that this MAC keeps.
    pub fn remembered_slot(&self) -> Option<Slot> {
        self.verified.or(self.slot)
    }

    /// The MAC address.
    pub fn mac(&self) -> MacAddr {
        match &self.nic {
            PublishedNic::Whole(interface) => interface.mac,
            PublishedNic::Partial(partial) => partial.mac,
        }
    }

    /// The port.
    pub fn port(&self) -> &PortId {
        match &self.nic {
            PublishedNic::Whole(interface) => &interface.port,
            PublishedNic::Partial(partial) => &partial.port,
        }
    }

    /// The port's network, where it was recorded.
    pub fn network(&self) -> Option<&NetworkId> {
        match &self.nic {
            PublishedNic::Whole(interface) => Some(&interface.network),
            PublishedNic::Partial(partial) => partial.network.as_ref(),
        }
    }

    /// The subnet that the row names.
    pub fn subnet(&self) -> &SubnetId {
        match &self.nic {
            PublishedNic::Whole(interface) => &interface.subnet,
            PublishedNic::Partial(partial) => &partial.subnet,
        }
    }

    /// The server it was attached to, where it was recorded.
    pub fn device(&self) -> Option<&ServerId> {
        match &self.nic {
            PublishedNic::Whole(interface) => Some(&interface.device),
            PublishedNic::Partial(partial) => partial.device.as_ref(),
        }
    }

    /// The whole content, or none where the row lacks a part of it.
    pub fn interface(&self) -> Option<&Arc<Interface>> {
        match &self.nic {
            PublishedNic::Whole(interface) => Some(interface),
            PublishedNic::Partial(_) => None,
        }
    }
}

/// An interface that is being taken away: its slot stays taken until the node reports the release, or the tombstone
/// is purged. Or one of which only the slot is remembered, which it keeps when it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Releasing {
    /// The node.
    pub node: NodeName,
    /// The MAC address.
    pub mac: MacAddr,
    /// The slot, if one was known.
    pub slot: Option<Slot>,
}

/// What to publish: the whole desired state of every node that is known well enough to be published, and removals
/// one by one. A node or an interface that is in neither stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publication {
    /// The revision that it was decided on: it is not published over another one.
    pub based_on: Option<u64>,
    /// Interfaces that are desired, new, changed and unchanged alike.
    pub interfaces: Vec<DesiredInterface>,
    /// The subnets that the interfaces name.
    pub subnets: BTreeMap<SubnetId, SubnetRecord>,
    /// Interfaces to take away, with what proved it.
    pub removals: Vec<Removal>,
    /// Configurations whose publication is complete with this one, with the hash of their spec.
    pub settled: BTreeMap<ConfigKey, String>,
    /// Configurations that are gone and have nothing published any more after this.
    pub forgotten: Vec<ConfigKey>,
}

/// One interface to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredInterface {
    /// The node.
    pub node: NodeName,
    /// The configuration that owns it; where several select it, the one that owned it before, else the first by name.
    pub owner: ConfigKey,
    /// Its slot.
    pub slot: Slot,
    /// The project whose token saw it.
    pub project: ProjectId,
    /// What it is.
    pub interface: Arc<Interface>,
}

/// What the subnet table holds for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetRecord {
    /// The subnet's name.
    pub name: String,
    /// Its addresses in network form, as text.
    pub cidr: String,
    /// Its network.
    pub network: NetworkId,
}

/// One interface to take away from a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The node.
    pub node: NodeName,
    /// The port.
    pub port: PortId,
    /// The MAC address.
    pub mac: MacAddr,
    /// The slot it had.
    pub slot: Option<Slot>,
    /// What proved that it may go.
    pub evidence: Evidence,
}

/// Positive evidence that an interface is not wanted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// The configuration that it came from no longer selects it, or is gone.
    SpecChanged,
    /// Neutron answered 404 for the port.
    PortGone,
    /// Neutron shows the port attached to something else, or to nothing.
    PortMoved,
    /// The port is published under another node's name now, because the spec changed.
    NodeRenamed,
}

impl Evidence {
    /// The stable CamelCase word for logs and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SpecChanged => "SpecChanged",
            Self::PortGone => "PortGone",
            Self::PortMoved => "PortMoved",
            Self::NodeRenamed => "NodeRenamed",
        }
    }
}
