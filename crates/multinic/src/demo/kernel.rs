//! What a node's kernel shows of its NICs: read here, and not by the agent's own code, which is what is to be shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use multinic_core::MacAddr;
use multinic_testbed::node::NetNs;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};

/// A NIC as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nic {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub mtu: u32,
    pub addresses: Vec<IpNet>,
}

/// Every NIC of a node, by MAC.
pub fn look(node: &NetNs) -> anyhow::Result<BTreeMap<MacAddr, Nic>> {
    let looked = node.netlink(async |handle| {
        let mut nics: BTreeMap<u32, (MacAddr, Nic)> = BTreeMap::new();
        let mut links = handle.link().get().execute();
        while let Some(link) = links.try_next().await? {
            let mut nic = Nic {
                index: link.header.index,
                up: link.header.flags.contains(LinkFlags::Up),
                ..Nic::default()
            };
            let mut mac = None;
            for attribute in link.attributes {
                match attribute {
                    LinkAttribute::IfName(name) => nic.name = name,
                    LinkAttribute::Mtu(mtu) => nic.mtu = mtu,
                    LinkAttribute::Address(bytes) => {
                        mac =
                            <[u8; 6]>::try_from(bytes).ok().and_then(|bytes| MacAddr::from_bytes(bytes).ok());
                    }
                    _ => {}
                }
            }
            if let Some(mac) = mac {
                nics.insert(link.header.index, (mac, nic));
            }
        }
        let mut addresses = handle.address().get().execute();
        while let Some(address) = addresses.try_next().await? {
            let ip = address.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            let net = ip.and_then(|ip| IpNet::new(ip, address.header.prefix_len).ok());
            if let (Some(net), Some((_, nic))) = (net, nics.get_mut(&address.header.index)) {
                nic.addresses.push(net);
            }
        }
        Ok::<_, rtnetlink::Error>(nics)
    })?;
    let nics = looked.with_context(|| format!("cannot look at {}", node.name()))?;
    Ok(nics.into_values().collect())
}

/// Every MTU that a link is given from now on, in order, whoever gives it.
pub struct MtuWatch {
    seen: Arc<Mutex<Vec<u32>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl MtuWatch {
    /// Listens to the kernel of a node.
    pub fn start(node: &NetNs, link: u32) -> anyhow::Result<Self> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (listening, is_listening) = std::sync::mpsc::channel();
        let (node, list) = (node.clone(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let listened = node.run(|| listen(link, &list, stopped, &listening));
            if let Ok(Err(error)) = listened {
                let _ = listening.send(Err(error));
            }
        });
        is_listening.recv().context("cannot listen to the kernel of a node")??;
        Ok(Self { seen, stop: Some(stop) })
    }

    /// The MTUs so far; the same one again counts once.
    pub fn seen(&self) -> Vec<u32> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seen.dedup();
        seen
    }
}

impl Drop for MtuWatch {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

fn listen(
    index: u32,
    list: &Mutex<Vec<u32>>,
    stopped: tokio::sync::oneshot::Receiver<()>,
    listening: &std::sync::mpsc::Sender<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
        tokio::spawn(connection);
        let _ = listening.send(Ok(()));
        let collect = async {
            while let Some((message, _)) = messages.next().await {
                if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = message.payload
                    && link.header.index == index
                {
                    let mtu = link.attributes.iter().find_map(|attribute| match attribute {
                        LinkAttribute::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    });
                    list.lock().unwrap_or_else(PoisonError::into_inner).extend(mtu);
                }
            }
        };
        tokio::select! {
            () = collect => {}
            _ = stopped => {}
        }
        Ok(())
    })
}
