//! The network between the nodes, and the hand that plugs NICs.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::TryStreamExt;
use multinic_core::MacAddr;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec};

use super::hand::index_of;
use super::{NetNs, NodeError, netlink};

/// A namespace with a bridge for each network. Everything plugged goes with it.
#[derive(Debug)]
pub struct Switch {
    namespace: NetNs,
    plugged: Mutex<Plugged>,
}

#[derive(Debug, Default)]
struct Plugged {
    /// Bridges by network.
    networks: BTreeMap<String, u32>,
    /// The switch's ends of the NICs.
    ports: BTreeMap<MacAddr, u32>,
    /// For the names in the switch.
    count: u32,
}

impl Switch {
    /// Makes one.
    pub fn new() -> Result<Self, NodeError> {
        Ok(Self { namespace: NetNs::new("switch")?, plugged: Mutex::default() })
    }

    /// The namespace of the bridges, which are named `net1`, `net2`, … in the order in which their networks were first
    /// named.
    pub fn namespace(&self) -> &NetNs {
        &self.namespace
    }

    fn plugged(&self) -> MutexGuard<'_, Plugged> {
        // A bridge or port that a panic kept from being noted is missed by nobody.
        self.plugged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plugs a NIC into a node: within one message of the kernel it appears there, down, with this name, MAC and MTU, as
    /// one that a hypervisor hot-plugs. Returns its index there.
    pub fn plug(
        &self,
        node: &NetNs,
        mac: MacAddr,
        name: &str,
        mtu: u32,
        network: &str,
    ) -> Result<u32, NodeError> {
        let mut plugged = self.plugged();
        let bridge = match plugged.networks.get(network) {
            Some(bridge) => *bridge,
            None => self.add_network(&mut plugged, network)?,
        };
        plugged.count += 1;
        let port = format!("port{}", plugged.count);
        let nic = LinkMessageBuilder::<LinkUnspec>::new()
            .name(name)
            .address(mac.bytes().to_vec())
            .mtu(mtu)
            .setns_by_fd(node.as_fd().as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(nic)))
            .name(port.clone())
            .mtu(mtu)
            .controller(bridge)
            .up()
            .build();
        let act = format!("plug {name} with MAC {mac} into {}", node.name());
        let index = self.namespace.netlink(async |handle| {
            handle.link().add(message).execute().await?;
            index_of(&handle, &port).await
        })?;
        plugged.ports.insert(mac, index.map_err(netlink(&act))?);
        // By its MAC: a running agent may have renamed it already.
        let index = node.netlink(async |handle| index_of_mac(&handle, mac).await)?;
        index.map_err(netlink(act))
    }

    /// Gives a NIC its carrier, or takes it away.
    ///
    /// # Errors
    /// Where there is none with this MAC, or the kernel refuses.
    pub fn set_carrier(&self, mac: MacAddr, carrier: bool) -> Result<(), NodeError> {
        let port = *self.plugged().ports.get(&mac).ok_or(NodeError::NotPlugged(mac))?;
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(port);
        let message = if carrier { message.up() } else { message.down() };
        let set =
            self.namespace.netlink(async |handle| handle.link().set(message.build()).execute().await)?;
        set.map_err(netlink(format!("give the NIC with MAC {mac} a carrier, or take it: {carrier}")))
    }

    /// Pulls a NIC out of its node.
    pub fn unplug(&self, mac: MacAddr) -> Result<(), NodeError> {
        let port = self.plugged().ports.remove(&mac).ok_or(NodeError::NotPlugged(mac))?;
        let removed = self.namespace.netlink(async |handle| handle.link().del(port).execute().await)?;
        removed.map_err(netlink(format!("unplug the NIC with MAC {mac}")))
    }

    fn add_network(&self, plugged: &mut Plugged, network: &str) -> Result<u32, NodeError> {
        let name = format!("net{}", plugged.networks.len() + 1);
        let message = LinkBridge::new(&name).build();
        let index = self.namespace.netlink(async |handle| {
            handle.link().add(message).execute().await?;
            index_of(&handle, &name).await
        })?;
        let index = index.map_err(netlink(format!("make the bridge of {network}")))?;
        plugged.networks.insert(network.to_owned(), index);
        Ok(index)
    }
}

async fn index_of_mac(handle: &Handle, mac: MacAddr) -> Result<u32, rtnetlink::Error> {
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        if link.attributes.contains(&LinkAttribute::Address(mac.bytes().to_vec())) {
            return Ok(link.header.index);
        }
    }
    Err(rtnetlink::Error::RequestFailed)
}
