//! What netplan makes of our files for networkd.

use std::path::PathBuf;

use multinic_core::node::NicTarget;

use crate::backend::networkd;

/// Where it puts what is about a link, below the node's root.
pub fn path(link: &str) -> PathBuf {
    PathBuf::from(format!("run/systemd/network/10-netplan-{link}.network"))
}

/// How that differs from what the link is to be like, in words after the file's name; none where it says the same. Older ones
/// do not say an MTU there.
pub fn difference(text: &str, target: &NicTarget) -> Option<String> {
    let said = networkd::read(text);
    if let Some(net) = target.addresses.iter().find(|net| !said.addresses.contains(net)) {
        return Some(format!("lacks {net}"));
    }
    if let Some(net) = said.addresses.iter().find(|net| !target.addresses.contains(**net)) {
        return Some(format!("has {net}"));
    }
    said.mtu.filter(|mtu| *mtu != target.mtu).map(|mtu| format!("has MTU {mtu}"))
}

#[cfg(test)]
mod tests {
    use multinic_core::{Addresses, Mtu, NicOptions};

    use super::*;

    #[test]
    fn it_says_the_same_with_each_address_and_no_other() {
        let target = |addresses: &[&str]| NicTarget {
            mac: "fa:16:3e:00:00:01".parse().unwrap(),
            name: "multinic0".parse().unwrap(),
            addresses: Addresses::parse(addresses.iter().copied()).unwrap(),
            mtu: Mtu::new(1450).unwrap(),
            options: NicOptions::default(),
        };
        let text = "[Match]\nPermanentMACAddress=fa:16:3e:00:00:01\nName=multinic0\n\n[Link]\nMTUBytes=1450\n\n[Network]\n\
                    LinkLocalAddressing=ipv6\nAddress=192.0.2.10/24\nAddress=2001:db8::10/64\n";
        assert_eq!(difference(text, &target(&["192.0.2.10/24", "2001:db8::10/64"])), None);
        let of = |addresses: &[&str]| difference(text, &target(addresses)).unwrap();
        assert_eq!(of(&["192.0.2.10/25", "2001:db8::10/64"]), "lacks 192.0.2.10/25");
        assert_eq!(of(&["192.0.2.10/24"]), "has 2001:db8::10/64");
        let text = text.replace("1450", "1400");
        assert_eq!(
            difference(&text, &target(&["192.0.2.10/24", "2001:db8::10/64"])).unwrap(),
            "has MTU 1400"
        );
        assert_eq!(difference("", &target(&[])), None);
    }
}
