//! Names of nodes and of the interfaces that MultiNIC makes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Prefix of every interface that MultiNIC configures.
pub const INTERFACE_PREFIX: &str = "multinic";

/// Why a text is not the name that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `multinic0` … `multinic63`.
    #[error("{0:?} is not an interface name of MultiNIC: multinic0 … multinic{max}", max = Slot::MAX)]
    Interface(String),
    /// A slot beyond the last one.
    #[error("slot {0} is beyond the last one, {max}", max = Slot::MAX)]
    Slot(i64),
    /// Not usable as a node's name.
    #[error(
        "{0:?} is not a node name: 1 to 253 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
    )]
    Node(String),
}

/// The number N of an interface `multinicN`: 0 to 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Slot(u8);

impl Slot {
    /// The highest slot that a user can allow.
    pub const MAX: u8 = 63;

    /// Checks the range.
    pub fn new(number: i64) -> Result<Self, NameError> {
        match u8::try_from(number) {
            Ok(n) if n <= Self::MAX => Ok(Self(n)),
            _ => Err(NameError::Slot(number)),
        }
    }

    /// All slots from the lowest, `count` at most.
    pub fn first(count: u8) -> impl Iterator<Item = Self> {
        (0..count.min(Self::MAX + 1)).map(Self)
    }

    /// The number itself.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The interface of this slot.
    pub fn interface(self) -> InterfaceName {
        InterfaceName(self)
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The kernel name of an interface of ours: `multinic0` … `multinic63`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(Slot);

impl InterfaceName {
    /// The number in the name.
    pub fn slot(self) -> Slot {
        self.0
    }
}

impl FromStr for InterfaceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || NameError::Interface(text.to_owned());
        let digits = text.strip_prefix(INTERFACE_PREFIX).ok_or_else(error)?;
        // `multinic01` would be a second name of slot 1.
        let canonical =
            digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        if !canonical {
            return Err(error());
        }
        let number = digits.parse::<i64>().map_err(|_| error())?;
        Slot::new(number).map(Self).map_err(|_| error())
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{INTERFACE_PREFIX}{}", self.0.0)
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for InterfaceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InterfaceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A node's name: the key under which the controller publishes and an agent reads.
///
/// Kubernetes asks for less (a DNS subdomain in lower case); the older databases hold server names as Nova has them,
/// with capitals and underscores, so those stay valid. Names are compared exactly.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if bytes.len() <= 253 && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(inner) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Node(text.to_owned()))
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_one_name() {
        for slot in Slot::first(64) {
            assert_eq!(slot.interface().to_string().parse::<InterfaceName>().unwrap().slot(), slot);
        }
        for text in [
            "multinic",
            "multinic64",
            "multinic01",
            "multinic-1",
            "Multinic1",
            "multinic1 ",
            "eth0",
            "multinic+1",
        ] {
            assert!(text.parse::<InterfaceName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_node_name_cannot_carry_a_path_or_a_space() {
        assert!("worker-1.example".parse::<NodeName>().is_ok());
        assert!("Worker_1".parse::<NodeName>().is_ok());
        for text in ["", "-a", "a-", "a b", "a/b", "a\n", "é"] {
            assert!(text.parse::<NodeName>().is_err(), "{text:?}");
        }
        assert!("a".repeat(254).parse::<NodeName>().is_err());
    }
}
