//! What is delivered to a sink, and what became of it.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use multinic_core::{ConfigKey, Interface, InterfaceOptions, NodeConfig, NodeName, PortId};

use super::SinkError;

/// What one node is to have, with what a sink tells others about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeWish {
    /// The `k8sProviderID` of the configurations that it comes from.
    pub provider: Option<String>,
    /// The NICs. None at all is a tombstone: the node has lost its last one.
    pub config: NodeConfig,
    /// Which configuration each port comes from.
    pub owners: BTreeMap<PortId, ConfigKey>,
    /// What is said of NICs beyond their addresses, where something is.
    pub options: BTreeMap<PortId, InterfaceOptions>,
}

impl NodeWish {
    /// Whether the node has lost its last NIC.
    pub fn is_tombstone(&self) -> bool {
        self.config.interfaces.is_empty()
    }

    /// A number that is another for another content, within one process. It spares an unchanged node from being rendered.
    pub fn fingerprint(&self) -> u64 {
        let Self { provider, config: NodeConfig { node, instance, interfaces }, owners, options } = self;
        let mut hasher = DefaultHasher::new();
        (provider, node, instance, owners, options, interfaces.len()).hash(&mut hasher);
        for (slot, interface) in interfaces {
            let Interface { mac, port, network, subnet, device, addresses, cidr, mtu } = interface.as_ref();
            (slot, mac, port, network, subnet, device, addresses, cidr, mtu).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// What a delivery did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    /// It was there already.
    Unchanged,
    /// It was written.
    Applied,
    /// The node has nothing there any more.
    Removed,
    /// The removal was asked for, and the node's agent is still cleaning up: its slots are not free.
    Releasing,
}

/// What became of wishes, by node.
pub(super) type Results = Vec<(NodeName, Result<Delivery, SinkError>)>;

/// Nothing could be begun: all wishes end with the same error.
pub(super) fn all_failed<W: Borrow<NodeWish>>(wishes: &[W], error: &SinkError) -> Results {
    let failed = |wish: &W| (wish.borrow().config.node.clone(), Err(error.clone()));
    wishes.iter().map(failed).collect()
}
