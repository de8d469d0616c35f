//! Hardware addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A unicast Ethernet address. Lower-case with colons inside, any case at the border.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

/// Why a text or a byte string is no hardware address of a NIC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseMacError {
    /// Not six pairs of hexadecimal digits with colons between.
    #[error(
        "{0:?} is not a MAC address: six pairs of hexadecimal digits with colons between, such as fa:16:3e:00:00:01"
    )]
    Malformed(String),
    /// All zeros, broadcast or multicast: no NIC has such an address.
    #[error("{0} is not the MAC address of a NIC: it is all zeros, broadcast or multicast")]
    NotUnicast(String),
}

impl MacAddr {
    /// Takes the six bytes as they are on the wire.
    pub fn from_bytes(bytes: [u8; 6]) -> Result<Self, ParseMacError> {
        let mac = Self(bytes);
        // IEEE 802: the lowest bit of the first octet marks a group address.
        if bytes == [0; 6] || bytes[0] & 1 == 1 {
            return Err(ParseMacError::NotUnicast(mac.to_string()));
        }
        Ok(mac)
    }

    /// The six bytes as they are on the wire.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ParseMacError::Malformed(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(malformed)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(malformed());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| malformed())?;
        }
        if parts.next().is_some() {
            return Err(malformed());
        }
        Self::from_bytes(bytes)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_lost_at_the_border() {
        let mac: MacAddr = "FA:16:3E:aB:00:01".parse().unwrap();
        assert_eq!(mac.to_string(), "fa:16:3e:ab:00:01");
        assert_eq!(mac, "fa:16:3e:ab:00:01".parse().unwrap());
    }

    #[test]
    fn what_no_nic_can_have_is_refused() {
        for text in [
            "",
            "fa:16:3e:00:00",
            "fa:16:3e:00:00:01:02",
            "fa-16-3e-00-00-01",
            "fa:16:3e:00:0:01",
            "fa:16:3e:00:00:+1",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "fa:16:3e:00:00:é",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text:?}");
        }
    }
}
