//! The addresses by which the cluster knows the node. The NIC that has one of them is never touched.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Destinations that stand for the whole world, of the ranges for documentation (RFC 5737, RFC 3849): nothing is sent.
const WORLD: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
];

/// Where the node's addresses are known from.
#[derive(Debug, Clone)]
pub enum NodeAddresses {
    /// From the configuration.
    Configured(BTreeSet<IpAddr>),
    /// From the kernel's choice for its default routes.
    OfDefaultRoute,
}

impl NodeAddresses {
    /// The configured ones, or those of the default routes if there are none.
    pub fn new(configured: &[IpAddr]) -> Self {
        if configured.is_empty() {
            Self::OfDefaultRoute
        } else {
            Self::Configured(configured.iter().copied().collect())
        }
    }

    /// The addresses, as of now.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        match self {
            Self::Configured(addresses) => addresses.clone(),
            Self::OfDefaultRoute => {
                WORLD.iter().filter_map(|(any, world)| source_address(*any, *world)).collect()
            }
        }
    }
}

/// Connecting a datagram socket makes the kernel choose a route and a source address, and sends nothing.
fn source_address(any: IpAddr, destination: IpAddr) -> Option<IpAddr> {
    const DISCARD: u16 = 9;
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(destination, DISCARD)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_address_is_the_one_of_the_route() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(source_address(IpAddr::V4(Ipv4Addr::UNSPECIFIED), loopback), Some(loopback));
    }

    #[test]
    fn configured_addresses_are_taken_at_their_word() {
        let address: IpAddr = "198.51.100.7".parse().unwrap();
        assert_eq!(NodeAddresses::new(&[address]).addresses(), BTreeSet::from([address]));
    }
}
