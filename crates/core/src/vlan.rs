//! VLANs (IEEE 802.1Q) on top of interfaces of ours.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::InterfaceName;

/// The number of a VLAN: 1 to 4094. 0 marks frames of no VLAN, 4095 is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct VlanId(u16);

/// Not the number of a VLAN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the number of a VLAN, 1 to {max}", max = VlanId::MAX)]
pub struct VlanIdError(i64);

impl VlanId {
    /// The highest number.
    pub const MAX: u16 = 4094;

    /// Checks the range.
    pub fn new(number: i64) -> Result<Self, VlanIdError> {
        match u16::try_from(number) {
            Ok(id) if (1..=Self::MAX).contains(&id) => Ok(Self(id)),
            _ => Err(VlanIdError(number)),
        }
    }

    /// The number itself.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for VlanId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A VLAN of an interface of ours. Its link is called `multinicN.ID`, which is 15 bytes at most: as long as a kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vlan {
    /// The interface that it is on.
    pub interface: InterfaceName,
    /// Its number.
    pub id: VlanId,
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.interface, self.id)
    }
}

/// Not the name of a VLAN of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a VLAN of MultiNIC, such as multinic0.100")]
pub struct VlanNameError(String);

impl FromStr for Vlan {
    type Err = VlanNameError;

    fn from_str(text: &str) -> Result<Self, VlanNameError> {
        let read = || {
            let (interface, id) = text.split_once('.')?;
            let vlan = Self { interface: interface.parse().ok()?, id: VlanId::new(id.parse().ok()?).ok()? };
            // `multinic0.0100` would be a second name of one.
            (vlan.to_string() == text).then_some(vlan)
        };
        read().ok_or_else(|| VlanNameError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slot;

    #[test]
    fn the_longest_name_is_one_that_a_kernel_takes() {
        let interface = Slot::new(Slot::MAX.into()).unwrap().interface();
        let longest = Vlan { interface, id: VlanId::new(4094).unwrap() }.to_string();
        assert_eq!((longest.as_str(), longest.len()), ("multinic63.4094", 15));
    }

    #[test]
    fn a_number_is_of_a_vlan_or_an_error() {
        for number in [-1, 0, 4095, 65_536] {
            assert!(VlanId::new(number).is_err(), "{number}");
            assert!(serde_json::from_str::<VlanId>(&number.to_string()).is_err(), "{number}");
        }
        assert_eq!(serde_json::from_str::<VlanId>("4094").unwrap().number(), 4094);
    }

    #[test]
    fn a_name_belongs_to_one_vlan() {
        for text in ["multinic0.1", "multinic63.4094"] {
            assert_eq!(text.parse::<Vlan>().unwrap().to_string(), text);
        }
        for text in [
            "multinic0",
            "multinic0.",
            "multinic0.0",
            "multinic0.01",
            "multinic0.+1",
            "multinic64.1",
            "eth0.1",
            "multinic0.1.1",
        ] {
            assert!(text.parse::<Vlan>().is_err(), "{text}");
        }
    }
}
