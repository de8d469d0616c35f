//! The text of a file as what it says of a NIC.

use std::collections::BTreeMap;

use ipnet::IpNet;
use multinic_core::{Mtu, Slot, Vlan};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::backend::Said;

/// What a file says of the interface of its slot.
pub fn read(slot: Slot, text: &str) -> Said {
    let mac = nic::<Matched>(slot, text).and_then(|nic| nic.matched).and_then(|matched| matched.macaddress);
    let own = nic::<Addressed>(slot, text).and_then(|nic| nic.addresses).unwrap_or_default();
    // Those of the VLAN that has them in its place.
    let addresses = if own.is_empty() { of_vlan(slot, text) } else { own };
    Said {
        mac: mac.and_then(|mac| mac.trim().parse().ok()),
        addresses: addresses.into_iter().filter_map(AddressItem::net).collect(),
        mtu: nic::<WithMtu>(slot, text).and_then(|nic| Mtu::new(nic.mtu?).ok()),
        options: None,
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: DeserializeOwned"))]
struct Document<T> {
    network: Network<T>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: DeserializeOwned"))]
struct Network<T> {
    #[serde(default = "BTreeMap::new")]
    ethernets: BTreeMap<String, T>,
}

#[derive(Deserialize)]
struct VlanDocument {
    network: WithVlans,
}

#[derive(Deserialize)]
struct WithVlans {
    #[serde(default)]
    vlans: BTreeMap<String, Addressed>,
}

// One type for each thing that is read, so that one which is broken does not hide the others.

#[derive(Deserialize)]
struct Matched {
    #[serde(rename = "match")]
    matched: Option<Match>,
}

#[derive(Deserialize)]
struct Match {
    macaddress: Option<String>,
}

#[derive(Deserialize)]
struct Addressed {
    addresses: Option<Vec<AddressItem>>,
}

#[derive(Deserialize)]
struct WithMtu {
    mtu: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AddressItem {
    Plain(String),
    /// With options: `- 192.0.2.1/24: {lifetime: 0}`.
    WithOptions(BTreeMap<String, IgnoredAny>),
    Unknown(IgnoredAny),
}

impl AddressItem {
    fn net(self) -> Option<IpNet> {
        let text = match self {
            Self::Plain(text) => text,
            Self::WithOptions(map) => map.into_keys().next()?,
            Self::Unknown(IgnoredAny) => return None,
        };
        text.trim().parse().ok()
    }
}

/// The addresses of the VLAN of the interface of its own slot.
fn of_vlan(slot: Slot, text: &str) -> Vec<AddressItem> {
    let Ok(VlanDocument { network: WithVlans { vlans } }) = serde_saphyr::from_str(text) else {
        return Vec::new();
    };
    let of_slot = |name: &str| name.parse::<Vlan>().is_ok_and(|vlan| vlan.interface.slot() == slot);
    let found = vlans.into_iter().find(|(name, _)| of_slot(name));
    found.and_then(|(_, vlan)| vlan.addresses).unwrap_or_default()
}

/// What the file says of the interface of its own slot.
fn nic<T: DeserializeOwned>(slot: Slot, text: &str) -> Option<T> {
    let document: Document<T> = serde_saphyr::from_str(text).ok()?;
    let own = slot.interface().to_string();
    document.network.ethernets.into_iter().find(|(name, _)| *name == own).map(|(_, nic)| nic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: i64) -> Slot {
        Slot::new(number).unwrap()
    }

    fn said(slot: Slot, text: &str) -> (Option<String>, Vec<String>) {
        let said = read(slot, text);
        (said.mac.map(|mac| mac.to_string()), said.addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_first_agents_files_are_read() {
        let text = "network:\n    ethernets:\n        multinic3:\n            addresses:\n                - 11.11.11.107/24\n            dhcp4: false\n            match:\n                macaddress: FA:16:3E:1C:10:B2\n            mtu: 1450\n            set-name: multinic3\n    version: 2\n";
        assert_eq!(
            said(slot(3), text),
            (Some("fa:16:3e:1c:10:b2".to_owned()), vec!["11.11.11.107/24".to_owned()])
        );
    }

    #[test]
    fn the_second_agents_files_are_read() {
        let text = "network:\n  version: 2\n  ethernets:\n    multinic0:\n      match: {macaddress: 12:34:56:12:34:56}\n      set-name: multinic0\n      dhcp4: false\n      addresses: [10.0.0.5/24]\n      mtu: 1500\n      routes:\n        - {to: 10.0.0.0/24, table: 100, metric: 100}\n      routing-policy:\n        - {from: 10.0.0.5/24, table: 100}\n";
        assert_eq!(
            said(slot(0), text),
            (Some("12:34:56:12:34:56".to_owned()), vec!["10.0.0.5/24".to_owned()])
        );
    }

    #[test]
    fn addresses_with_options_are_read_and_broken_ones_hide_nothing() {
        let text = "network:\n  ethernets:\n    multinic0:\n      match: {macaddress: \"fa:16:3e:00:00:01\"}\n      addresses:\n        - 10.0.0.5/24: {lifetime: 0}\n        - 10.0.0.6\n        - 10.0.0.7/24\n";
        assert_eq!(
            said(slot(0), text),
            (Some("fa:16:3e:00:00:01".to_owned()), vec!["10.0.0.5/24".to_owned(), "10.0.0.7/24".to_owned()])
        );
        let text = "network:\n  ethernets:\n    multinic0:\n      match: {macaddress: \"fa:16:3e:00:00:01\"}\n      addresses: none\n";
        assert_eq!(said(slot(0), text), (Some("fa:16:3e:00:00:01".to_owned()), vec![]));
    }

    #[test]
    fn another_slots_interface_in_the_file_is_not_its_own() {
        let text =
            "network:\n  ethernets:\n    multinic10:\n      match: {macaddress: \"fa:16:3e:00:00:01\"}\n";
        assert_eq!(said(slot(1), text), (None, vec![]));
        assert_eq!(said(slot(1), "\u{fffd} not: [yaml"), (None, vec![]));
    }
}
