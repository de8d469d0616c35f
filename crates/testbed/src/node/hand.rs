//! What others do to a node: its administrator, its DHCP client, a program that breaks something.

use std::net::IpAddr;
use std::path::PathBuf;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, CacheInfo};
use rtnetlink::packet_route::link::{LinkMessage, MacVlanMode};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
use rtnetlink::{Handle, LinkBridge, LinkMacVlan, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use super::{NetNs, NodeError, netlink, system};

/// A route that somebody sets.
#[derive(Debug, Clone, Copy)]
pub struct NewRoute<'a> {
    /// The link that it leaves by.
    pub link: &'a str,
    /// Where it leads.
    pub to: IpNet,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// Who says so.
    pub protocol: RouteProtocol,
    /// The table; 254 is the main one.
    pub table: u32,
    /// The metric: of equal routes, the kernel takes one for each.
    pub metric: u32,
}

pub(super) async fn index_of(handle: &Handle, name: &str) -> Result<u32, rtnetlink::Error> {
    let mut found = handle.link().get().match_name(name.to_owned()).execute();
    let link: Option<LinkMessage> = found.try_next().await?;
    link.map(|link| link.header.index).ok_or(rtnetlink::Error::RequestFailed)
}

impl NetNs {
    /// The index of the link of this name, or of this other name.
    pub fn index_of(&self, link: &str) -> Result<u32, NodeError> {
        let index = self.netlink(async |handle| index_of(&handle, link).await)?;
        index.map_err(netlink(format!("find {link} in {}", self.name())))
    }

    fn change(
        &self,
        act: &str,
        link: &str,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec> + Send,
    ) -> Result<(), NodeError> {
        let changed = self.netlink(async |handle| {
            let index = index_of(&handle, link).await?;
            handle.link().change(change(LinkUnspec::new_with_index(index)).build()).execute().await
        })?;
        changed.map_err(netlink(format!("{act} {link} in {}", self.name())))
    }

    /// Sets a link up.
    pub fn set_up(&self, link: &str) -> Result<(), NodeError> {
        self.change("set up", link, LinkMessageBuilder::up)
    }

    /// Sets a link down.
    pub fn set_down(&self, link: &str) -> Result<(), NodeError> {
        self.change("set down", link, LinkMessageBuilder::down)
    }

    /// Renames a link, which has to be down on older kernels.
    pub fn rename(&self, link: &str, name: &str) -> Result<(), NodeError> {
        self.change("rename", link, |message| message.name(name))
    }

    /// Sets the MTU of a link.
    pub fn set_mtu(&self, link: &str, mtu: u32) -> Result<(), NodeError> {
        self.change("set the MTU of", link, |message| message.mtu(mtu))
    }

    /// Puts a link into a bridge.
    pub fn enslave(&self, link: &str, bridge: &str) -> Result<(), NodeError> {
        let bridge = self.index_of(bridge)?;
        self.change("enslave", link, |message| message.controller(bridge))
    }

    /// Gives a link one more name, as udev does.
    pub fn add_altname(&self, link: &str, name: &str) -> Result<(), NodeError> {
        let added = self.netlink(async |handle| {
            let index = index_of(&handle, link).await?;
            handle.link().property_add(index).alt_ifname(&[name]).execute().await
        })?;
        added.map_err(netlink(format!("give {link} in {} the other name {name}", self.name())))
    }

    /// Gives a link an address, for good or, as a lease, for a number of seconds.
    pub fn add_address(&self, link: &str, net: IpNet, seconds: Option<u32>) -> Result<(), NodeError> {
        let added = self.netlink(async |handle| {
            let index = index_of(&handle, link).await?;
            let mut request = handle.address().add(index, net.addr(), net.prefix_len());
            if let Some(seconds) = seconds {
                let mut lifetime = CacheInfo::default();
                lifetime.ifa_valid = seconds;
                lifetime.ifa_preferred = seconds;
                request.message_mut().attributes.push(AddressAttribute::CacheInfo(lifetime));
            }
            request.execute().await
        })?;
        added.map_err(netlink(format!("add {net} to {link} in {}", self.name())))
    }

    /// Takes an address from a link.
    pub fn remove_address(&self, link: &str, net: IpNet) -> Result<(), NodeError> {
        let removed = self.netlink(async |handle| {
            let index = index_of(&handle, link).await?;
            let mut addresses = handle.address().get().set_link_index_filter(index).execute();
            while let Some(address) = addresses.try_next().await? {
                let is_it = address.header.prefix_len == net.prefix_len()
                    && address.attributes.contains(&AddressAttribute::Address(net.addr()));
                if is_it {
                    return handle.address().del(address).execute().await;
                }
            }
            Err(rtnetlink::Error::RequestFailed)
        })?;
        removed.map_err(netlink(format!("remove {net} from {link} in {}", self.name())))
    }

    /// Sets a route.
    pub fn add_route(&self, route: NewRoute<'_>) -> Result<(), NodeError> {
        let link = route.link;
        let to = route.to;
        let added = self.netlink(async |handle| {
            let index = index_of(&handle, link).await?;
            handle.route().add(route_message(index, route)).execute().await
        })?;
        added.map_err(netlink(format!("set a route to {to} over {link} in {}", self.name())))
    }

    /// Makes a bridge that is down: to one that is up the kernel gives an IPv6 address, at a time of its own.
    pub fn add_bridge(&self, name: &str) -> Result<(), NodeError> {
        let message = LinkBridge::new(name).down().build();
        let added = self.netlink(async |handle| handle.link().add(message).execute().await)?;
        added.map_err(netlink(format!("make the bridge {name} in {}", self.name())))
    }

    /// Makes a macvlan over a link, with a MAC of its choice.
    pub fn add_macvlan(&self, name: &str, link: &str, mac: &[u8]) -> Result<(), NodeError> {
        let added = self.netlink(async |handle| {
            let index = index_of(&handle, link).await?;
            let message = LinkMacVlan::new(name, index, MacVlanMode::Bridge).address(mac.to_vec()).build();
            handle.link().add(message).execute().await
        })?;
        added.map_err(netlink(format!("make {name} over {link} in {}", self.name())))
    }

    /// Sets what is at a path below `/proc/sys/net`.
    pub fn set_sysctl(&self, path: &str, value: &str) -> Result<(), NodeError> {
        let file: PathBuf = ["/proc/sys/net", path].iter().collect();
        let act = format!("set {} in {}", file.display(), self.name());
        self.run(|| std::fs::write(file, value))?.map_err(system(act))
    }

    /// What is at a path below `/proc/sys/net`.
    pub fn sysctl(&self, path: &str) -> Result<String, NodeError> {
        let file: PathBuf = ["/proc/sys/net", path].iter().collect();
        let act = format!("read {} in {}", file.display(), self.name());
        let text = self.run(|| std::fs::read_to_string(file))?.map_err(system(act))?;
        Ok(text.trim().to_owned())
    }
}

fn route_message(index: u32, route: NewRoute<'_>) -> RouteMessage {
    use rtnetlink::packet_route::AddressFamily;
    use rtnetlink::packet_route::route::{RouteAttribute, RouteScope};

    let NewRoute { link: _, to, gateway, protocol, table, metric } = route;
    let builder = RouteMessageBuilder::<IpAddr>::new().output_interface(index);
    let mut message = builder.protocol(protocol).table_id(table).priority(metric).build();
    let is_ipv4 = to.addr().is_ipv4();
    message.header.address_family = if is_ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = to.prefix_len();
    message.attributes.push(RouteAttribute::Destination(to.network().into()));
    match gateway {
        Some(gateway) => message.attributes.push(RouteAttribute::Gateway(gateway.into())),
        None if is_ipv4 => message.header.scope = RouteScope::Link,
        None => {}
    }
    message
}
