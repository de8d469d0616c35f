//! The text of a file as a NIC.

use std::collections::BTreeMap;

use ipnet::IpNet;
use multinic_core::node::NicTarget;
use multinic_core::node::observed::NicFileContent;
use multinic_core::{Addresses, MacAddr, Mtu, Slot};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{MODE, render};

/// Reads a file whose name is ours. It is exactly ours if it is byte by byte what we would write for what it says, with
/// the mode that we would give it; anything else is read as far as it goes.
pub fn parse(slot: Slot, bytes: &[u8], mode: u32) -> NicFileContent {
    let text = String::from_utf8_lossy(bytes);
    let mac = nic::<Matched>(slot, &text)
        .and_then(|nic| nic.matched)
        .and_then(|matched| matched.macaddress)
        .and_then(|mac| mac.trim().parse::<MacAddr>().ok());
    let addresses: Vec<IpNet> = nic::<Addressed>(slot, &text)
        .and_then(|nic| nic.addresses)
        .unwrap_or_default()
        .into_iter()
        .filter_map(AddressItem::net)
        .collect();
    if mode == MODE
        && let Some(target) = target(slot, &text, mac, &addresses)
        && render(&target).as_bytes() == bytes
    {
        return NicFileContent::Exact(target);
    }
    NicFileContent::Other { mac, addresses }
}

fn target(slot: Slot, text: &str, mac: Option<MacAddr>, addresses: &[IpNet]) -> Option<NicTarget> {
    let mtu = nic::<WithMtu>(slot, text)?.mtu?;
    Some(NicTarget {
        mac: mac?,
        name: slot.interface(),
        addresses: Addresses::new(addresses.iter().copied()).ok()?,
        mtu: Mtu::new(mtu).ok()?,
    })
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

/// What the file says of the interface of its own slot.
fn nic<T: DeserializeOwned>(slot: Slot, text: &str) -> Option<T> {
    let document: Document<T> = serde_saphyr::from_str(text).ok()?;
    let own = slot.interface().to_string();
    document.network.ethernets.into_iter().find(|(name, _)| *name == own).map(|(_, nic)| nic)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slot(number: i64) -> Slot {
        Slot::new(number).unwrap()
    }

    fn other(content: NicFileContent) -> (Option<String>, Vec<String>) {
        let NicFileContent::Other { mac, addresses } = content else { panic!("{content:?}") };
        (mac.map(|mac| mac.to_string()), addresses.iter().map(ToString::to_string).collect())
    }

    fn targets() -> impl Strategy<Value = NicTarget> {
        let v4 = (any::<u32>(), 1..=32_u8)
            .prop_map(|(bits, prefix)| format!("{}/{prefix}", std::net::Ipv4Addr::from(bits)));
        let v6 = (any::<u128>(), 1..=128_u8)
            .prop_map(|(bits, prefix)| format!("{}/{prefix}", std::net::Ipv6Addr::from(bits)));
        let net = prop_oneof![v4, v6].prop_map(|text| text.parse::<IpNet>().unwrap());
        (any::<[u8; 6]>(), 0..64_i64, proptest::collection::vec(net, 0..5), 68..=65535_i64).prop_filter_map(
            "a NIC that can be",
            |(mac, number, addresses, mtu)| {
                Some(NicTarget {
                    mac: MacAddr::from_bytes(mac).ok()?,
                    name: slot(number).interface(),
                    addresses: Addresses::new(addresses).ok()?,
                    mtu: Mtu::new(mtu).ok()?,
                })
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_rendered_reads_as_itself(target in targets()) {
            let text = render(&target);
            let read = parse(target.name.slot(), text.as_bytes(), MODE);
            prop_assert_eq!(read, NicFileContent::Exact(target));
        }

        #[test]
        fn no_text_is_too_strange(text in ".*") {
            let _ = parse(slot(0), text.as_bytes(), MODE);
        }
    }

    const OURS: &str = "# managed by MultiNIC; what is changed here is set right again\nnetwork:\n  version: 2\n  ethernets:\n    multinic0:\n      match:\n        macaddress: \"12:34:56:12:34:56\"\n      set-name: multinic0\n      dhcp4: false\n      dhcp6: false\n      accept-ra: false\n      optional: true\n      mtu: 1450\n      addresses:\n        - \"192.0.2.10/24\"\n";

    #[test]
    fn one_byte_or_one_bit_more_is_not_ours() {
        assert!(matches!(parse(slot(0), OURS.as_bytes(), 0o600), NicFileContent::Exact(_)));
        assert!(matches!(parse(slot(0), OURS.as_bytes(), 0o644), NicFileContent::Other { .. }));
        let edited = format!("{OURS}\n");
        assert_eq!(
            other(parse(slot(0), edited.as_bytes(), 0o600)),
            (Some("12:34:56:12:34:56".to_owned()), vec!["192.0.2.10/24".to_owned()])
        );
    }

    #[test]
    fn the_first_agents_files_are_read() {
        let text = "network:\n    ethernets:\n        multinic3:\n            addresses:\n                - 11.11.11.107/24\n            dhcp4: false\n            match:\n                macaddress: FA:16:3E:1C:10:B2\n            mtu: 1450\n            set-name: multinic3\n    version: 2\n";
        assert_eq!(
            other(parse(slot(3), text.as_bytes(), 0o644)),
            (Some("fa:16:3e:1c:10:b2".to_owned()), vec!["11.11.11.107/24".to_owned()])
        );
    }

    #[test]
    fn the_second_agents_files_are_read() {
        let text = "network:\n  version: 2\n  ethernets:\n    multinic0:\n      match: {macaddress: 12:34:56:12:34:56}\n      set-name: multinic0\n      dhcp4: false\n      addresses: [10.0.0.5/24]\n      mtu: 1500\n      routes:\n        - {to: 10.0.0.0/24, table: 100, metric: 100}\n      routing-policy:\n        - {from: 10.0.0.5/24, table: 100}\n";
        assert_eq!(
            other(parse(slot(0), text.as_bytes(), 0o600)),
            (Some("12:34:56:12:34:56".to_owned()), vec!["10.0.0.5/24".to_owned()])
        );
    }

    #[test]
    fn addresses_with_options_are_read_and_broken_ones_hide_nothing() {
        let text = "network:\n  ethernets:\n    multinic0:\n      match: {macaddress: \"fa:16:3e:00:00:01\"}\n      addresses:\n        - 10.0.0.5/24: {lifetime: 0}\n        - 10.0.0.6\n        - 10.0.0.7/24\n";
        assert_eq!(
            other(parse(slot(0), text.as_bytes(), 0o600)),
            (Some("fa:16:3e:00:00:01".to_owned()), vec!["10.0.0.5/24".to_owned(), "10.0.0.7/24".to_owned()])
        );
        let text = "network:\n  ethernets:\n    multinic0:\n      match: {macaddress: \"fa:16:3e:00:00:01\"}\n      addresses: none\n";
        assert_eq!(
            other(parse(slot(0), text.as_bytes(), 0o600)),
            (Some("fa:16:3e:00:00:01".to_owned()), vec![])
        );
    }

    #[test]
    fn another_slots_interface_in_the_file_is_not_its_own() {
        let text =
            "network:\n  ethernets:\n    multinic10:\n      match: {macaddress: \"fa:16:3e:00:00:01\"}\n";
        assert_eq!(other(parse(slot(1), text.as_bytes(), 0o600)), (None, vec![]));
        assert_eq!(other(parse(slot(1), b"\xff not: [yaml", 0o600)), (None, vec![]));
    }
}
