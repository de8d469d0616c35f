//! Addresses and MTU of an interface.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

/// The addresses of one interface, each with its prefix length, in the order in which they are to be set:
/// no duplicates, every one usable by a host. May be empty: a NIC that is only named and brought up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Addresses(Box<[IpNet]>);

/// What is wrong with the addresses of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `ip/prefix`.
    #[error("addresses: {0:?} is not an address with a prefix length, such as 192.0.2.10/24")]
    Malformed(String),
    /// The same address twice.
    #[error("addresses: {0} is there twice")]
    Duplicate(IpAddr),
    /// An address that no host can have.
    #[error(
        "addresses: {0} cannot be a host's address: it is unspecified, loopback, multicast or its network's own"
    )]
    NotAHost(IpNet),
    /// Not an IP address.
    #[error("address: {0:?} is not an IP address")]
    MalformedAddress(String),
    /// Not a network in CIDR form.
    #[error("cidr: {0:?} is not a network in CIDR form, such as 192.0.2.0/24")]
    MalformedCidr(String),
    /// The address is not within the network beside it.
    #[error("address {address} is outside cidr {cidr}")]
    Outside {
        /// The address.
        address: IpAddr,
        /// The network beside it.
        cidr: IpNet,
    },
    /// The list and the old pair name different first addresses.
    #[error("addresses name {list} first, address and cidr name {pair}: they must agree")]
    Disagree {
        /// The first IPv4 address of the list, else its first.
        list: IpNet,
        /// What the old pair of fields says.
        pair: IpNet,
    },
    /// One half of the old pair is missing.
    #[error("{present} is given without {missing}")]
    HalfPair {
        /// The field that is there.
        present: &'static str,
        /// The field that is not.
        missing: &'static str,
    },
}

impl Addresses {
    /// Checks every address. Prefix bits beyond the host's own address are kept: `192.0.2.10/24`.
    pub fn new(list: impl IntoIterator<Item = IpNet>) -> Result<Self, AddressError> {
        let list: Box<[IpNet]> = list.into_iter().collect();
        for (at, net) in list.iter().enumerate() {
            if list.iter().take(at).any(|earlier| earlier.addr() == net.addr()) {
                return Err(AddressError::Duplicate(net.addr()));
            }
            if !is_host(*net) {
                return Err(AddressError::NotAHost(*net));
            }
        }
        Ok(Self(list))
    }

    /// Reads the list of texts that resources, payloads and the database carry.
    pub fn parse<'a>(list: impl IntoIterator<Item = &'a str>) -> Result<Self, AddressError> {
        let nets = list.into_iter().map(|text| {
            // A bare address would parse as a network of full length by accident of the notation: ask for the prefix.
            text.parse::<IpNet>().map_err(|_| AddressError::Malformed(text.to_owned()))
        });
        Self::new(nets.collect::<Result<Vec<_>, _>>()?)
    }

    /// Brings the list and the older pair `address`, `cidr` together. `cidr` may be the network (`10.0.0.0/24`) or the
    /// address with its prefix (`10.0.0.10/24`); both forms are in use. Empty texts count as absent.
    pub fn reconcile(
        list: Option<Self>,
        address: Option<&str>,
        cidr: Option<&str>,
    ) -> Result<Self, AddressError> {
        let pair = pair(address, cidr)?;
        match (list, pair) {
            (Some(list), None) => Ok(list),
            (None, None) => Ok(Self::default()),
            (None, Some(pair)) => Self::new([pair]),
            (Some(list), Some(pair)) => match list.primary() {
                Some(first) if first == pair => Ok(list),
                Some(first) => Err(AddressError::Disagree { list: first, pair }),
                None => Self::new([pair]),
            },
        }
    }

    /// The address that the old single-address fields carry: the first IPv4, else the first.
    pub fn primary(&self) -> Option<IpNet> {
        self.iter().find(|net| matches!(net, IpNet::V4(_))).or_else(|| self.iter().next())
    }

    /// The addresses in order.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.0.iter().copied()
    }

    /// Whether this very address with this very prefix is among them.
    pub fn contains(&self, net: IpNet) -> bool {
        self.0.contains(&net)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.iter().any(|net| matches!(net, IpNet::V6(_)))
    }
}

fn is_host(net: IpNet) -> bool {
    let address = net.addr();
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return false;
    }
    // RFC 3021 and RFC 6164 make both addresses of a two-address network usable. RFC 4291 2.6.1 makes the lowest IPv6
    // address of a network the routers' anycast address, which Neutron does hand out on request: only IPv4 is refused.
    match net {
        IpNet::V4(net) if net.prefix_len() < 31 => {
            net.addr() != net.network() && net.addr() != net.broadcast()
        }
        _ => true,
    }
}

fn pair(address: Option<&str>, cidr: Option<&str>) -> Result<Option<IpNet>, AddressError> {
    let given = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let (address, cidr) = match (given(address), given(cidr)) {
        (Some(address), Some(cidr)) => (address, cidr),
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(AddressError::HalfPair { present: "address", missing: "cidr" }),
        // The older tables keep the CIDR with the subnet, whether the interface has an address there or not.
        (None, Some(_)) => return Err(AddressError::HalfPair { present: "cidr", missing: "address" }),
    };
    let ip: IpAddr = address.parse().map_err(|_| AddressError::MalformedAddress(address))?;
    let network: IpNet = cidr.parse().map_err(|_| AddressError::MalformedCidr(cidr))?;
    if !network.contains(&ip) {
        return Err(AddressError::Outside { address: ip, cidr: network });
    }
    IpNet::new(ip, network.prefix_len())
        .map(Some)
        .map_err(|_| AddressError::Outside { address: ip, cidr: network })
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, net) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{net}")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Self::parse(texts.iter().map(String::as_str)).map_err(serde::de::Error::custom)
    }
}

/// The largest packet of a link, in bytes: 68 (RFC 791) to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Mtu(u16);

/// What is wrong with an MTU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MtuError {
    /// Outside the range.
    #[error("mtu: {0} is not between 68 and 65535")]
    OutOfRange(i64),
    /// Too small for the IPv6 addresses beside it.
    #[error("mtu: {0} is too small for the IPv6 address beside it, which needs 1280 (RFC 8200)")]
    TooSmallForIpv6(u16),
}

impl Mtu {
    /// Checks the range.
    pub fn new(bytes: i64) -> Result<Self, MtuError> {
        match u16::try_from(bytes) {
            Ok(n) if n >= 68 => Ok(Self(n)),
            _ => Err(MtuError::OutOfRange(bytes)),
        }
    }

    /// The kernel drops IPv6 from a link whose MTU is below 1280, so the two are refused together.
    pub fn carries(self, addresses: &Addresses) -> Result<(), MtuError> {
        if self.0 < 1280 && addresses.has_ipv6() { Err(MtuError::TooSmallForIpv6(self.0)) } else { Ok(()) }
    }

    /// The number of bytes.
    pub fn bytes(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl<'de> Deserialize<'de> for Mtu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Addresses {
        Addresses::parse(list.iter().copied()).unwrap()
    }

    #[test]
    fn the_old_fields_keep_the_first_ipv4_else_the_first() {
        assert_eq!(addresses(&["fd00::1/64", "10.0.0.2/24"]).primary().unwrap().to_string(), "10.0.0.2/24");
        assert_eq!(addresses(&["fd00::1/64", "fd00::2/64"]).primary().unwrap().to_string(), "fd00::1/64");
        assert_eq!(addresses(&[]).primary(), None);
    }

    #[test]
    fn both_forms_of_cidr_are_read() {
        for cidr in ["10.0.0.0/24", "10.0.0.10/24"] {
            let read = Addresses::reconcile(None, Some("10.0.0.10"), Some(cidr)).unwrap();
            assert_eq!(read, addresses(&["10.0.0.10/24"]));
        }
    }

    #[test]
    fn list_and_pair_must_agree() {
        let list = || Some(addresses(&["fd00::1/64", "10.0.0.10/24"]));
        assert!(Addresses::reconcile(list(), Some("10.0.0.10"), Some("10.0.0.0/24")).is_ok());
        for (address, cidr) in
            [("10.0.0.11", "10.0.0.0/24"), ("10.0.0.10", "10.0.0.0/16"), ("fd00::1", "fd00::/64")]
        {
            let error = Addresses::reconcile(list(), Some(address), Some(cidr)).unwrap_err();
            assert!(matches!(error, AddressError::Disagree { .. }), "{error}");
        }
    }

    #[test]
    fn an_address_outside_its_cidr_is_refused() {
        let error = Addresses::reconcile(None, Some("10.0.1.10"), Some("10.0.0.0/24")).unwrap_err();
        assert_eq!(error.to_string(), "address 10.0.1.10 is outside cidr 10.0.0.0/24");
    }

    #[test]
    fn what_no_host_can_have_is_refused() {
        for text in [
            "0.0.0.0/0",
            "127.0.0.1/8",
            "10.0.0.0/24",
            "10.0.0.255/24",
            "224.0.0.1/4",
            "::1/128",
            "10.0.0.1",
            "x/1",
        ] {
            assert!(Addresses::parse([text]).is_err(), "{text}");
        }
        assert!(Addresses::parse(["10.0.0.0/31"]).is_ok());
        assert!(Addresses::parse(["10.0.0.1/24", "10.0.0.1/16"]).is_err());
    }

    #[test]
    fn ipv6_needs_1280_bytes() {
        let small = Mtu::new(1279).unwrap();
        assert!(small.carries(&addresses(&["10.0.0.1/24"])).is_ok());
        assert!(small.carries(&addresses(&["10.0.0.1/24", "fd00::1/64"])).is_err());
        assert!(Mtu::new(1280).unwrap().carries(&addresses(&["fd00::1/64"])).is_ok());
        for bytes in [-1, 0, 67, 65536] {
            assert!(Mtu::new(bytes).is_err(), "{bytes}");
        }
    }
}
