//! The addresses by which the cluster knows the node. The NIC that has one of them is never touched.

use std::collections::BTreeSet;
use std::net::IpAddr;

use multinic_core::node::Owned;
use multinic_host::Host;
use multinic_host::netlink::{Netlink, OwnAddresses};

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

    /// The addresses as of now. A lease with a router that came after the node's own default route is no reason to take its
    /// NIC for the node's, whatever its metric: which were there first is remembered on the node. A guess is not remembered.
    pub fn of(&self, host: &mut Host) -> BTreeSet<IpAddr> {
        match self {
            Self::Configured(addresses) => addresses.clone(),
            Self::OfDefaultRoute => {
                let own = settled(&found(host.owned()), host.own_addresses());
                if let Err(error) = host.remember_own_addresses(&certain(&own)) {
                    tracing::warn!(%error, "the node's own addresses are not remembered");
                }
                own
            }
        }
    }
}

fn found(owned: &Owned) -> OwnAddresses {
    let own = Netlink::open().and_then(|netlink| netlink.own_addresses(owned));
    own.unwrap_or_else(|error| {
        // The links of the default routes are left alone whatever their addresses are.
        tracing::warn!(%error, "the node's own addresses are not known");
        OwnAddresses::default()
    })
}

/// Of each family, those that were the node's own before, as far as it still has them; where it has none of them, those of all
/// default routes, since any of them may be its own.
fn settled(found: &OwnAddresses, known: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
    let mut own = BTreeSet::new();
    for ipv4 in [true, false] {
        let of_family = |address: &&IpAddr| address.is_ipv4() == ipv4;
        let still = found.present.intersection(known).filter(of_family);
        let before = own.len();
        own.extend(still);
        if own.len() == before {
            own.extend(found.all.iter().filter(of_family));
        }
    }
    own
}

/// Those beside which there is no other of their family. Several are a guess, or are remembered already.
fn certain(own: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
    let beside = |address: &IpAddr| own.iter().filter(|other| other.is_ipv4() == address.is_ipv4()).count();
    own.iter().filter(|address| beside(address) == 1).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Where every link's address has a default route.
    fn settled_of(all: &[&str], known: &[&str]) -> BTreeSet<IpAddr> {
        let all = addresses(all);
        settled(&OwnAddresses { present: all.clone(), all }, &addresses(known))
    }

    #[test]
    fn a_later_default_route_is_not_the_node_s_own() {
        let (own, lease) = ("192.0.2.10", "10.77.0.5");
        assert_eq!(settled_of(&[own, lease], &[own]), addresses(&[own]));
    }

    #[test]
    fn without_a_memory_any_may_be_its_own() {
        let (own, lease) = ("192.0.2.10", "10.77.0.5");
        assert_eq!(settled_of(&[own, lease], &[]), addresses(&[own, lease]));
        // What is remembered is not there any more.
        let renewed = "192.0.2.11";
        assert_eq!(settled_of(&[renewed, lease], &[own]), addresses(&[renewed, lease]));
        // Both were the node's own at their times.
        assert_eq!(settled_of(&[own, lease], &[own, lease]), addresses(&[own, lease]));
    }

    #[test]
    fn its_own_address_stays_its_own_without_a_default_route() {
        let (own, lease) = ("192.0.2.10", "10.77.0.5");
        let (present, routed) = (addresses(&[own, lease]), addresses(&[lease]));
        let found = OwnAddresses { present, all: routed };
        assert_eq!(settled(&found, &addresses(&[own])), addresses(&[own]));
    }

    #[test]
    fn each_family_is_judged_by_itself() {
        let (own, lease, advertised) = ("192.0.2.10", "10.77.0.5", "2001:db8::5");
        let all = [own, lease, advertised];
        assert_eq!(settled_of(&all, &[own]), addresses(&[own, advertised]));
    }

    #[test]
    fn a_guess_is_not_remembered() {
        let (own, lease, advertised) = ("192.0.2.10", "10.77.0.5", "2001:db8::5");
        assert_eq!(certain(&addresses(&[own, lease, advertised])), addresses(&[advertised]));
        assert_eq!(certain(&addresses(&[own, advertised])), addresses(&[own, advertised]));
    }
}
