//! The addresses by which the cluster knows the node. The NIC that has one of them is never touched.

use std::collections::BTreeSet;
use std::net::IpAddr;

use multinic_host::netlink::Netlink;

/// Where the node's addresses are known from.
#[derive(Debug, Clone)]
pub enum NodeAddresses {
    /// From the configuration.
    Configured(BTreeSet<IpAddr>),
    /// From the node's default routes.
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
                let own = Netlink::open().and_then(|netlink| netlink.own_addresses());
                own.unwrap_or_else(|error| {
                    // The links of the default routes are left alone whatever their addresses are.
                    tracing::warn!(%error, "the node's own addresses are not known");
                    BTreeSet::new()
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_addresses_are_taken_at_their_word() {
        let address: IpAddr = "198.51.100.7".parse().unwrap();
        assert_eq!(NodeAddresses::new(&[address]).addresses(), BTreeSet::from([address]));
    }
}
