//! Where files about NICs of ours are, and what they are called: those that we write, and those that the older programs
//! wrote, which are taken over.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use multinic_core::names::INTERFACE_PREFIX;
use multinic_core::{InterfaceName, Slot, Vlan};

/// What a file is to those who read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// netplan(5).
    Netplan,
    /// systemd.link(5): the name.
    Link,
    /// systemd.network(5).
    Network,
    /// systemd.netdev(5): a VLAN.
    Netdev,
    /// nm-settings-keyfile(5).
    Keyfile,
    /// nm-settings-ifcfg-rh(5).
    Ifcfg,
    /// ifcfg(5) of wicked.
    Wicked,
    /// ifsysctl(5) of wicked.
    WickedSysctl,
    /// udev(7): the name, where links are named by rules.
    Rule,
    /// sysctl.d(5): what udev sets when the link appears.
    Sysctl,
    /// The IPv4 routes beside an [`Self::Ifcfg`].
    Routes,
    /// Its IPv6 routes.
    Routes6,
    /// ifroute(5) of wicked.
    WickedRoutes,
    /// ifrule(5) of wicked.
    WickedRules,
}

/// The names of the files of one kind in one directory. A file about a VLAN has the name of that in the place of the
/// interface's.
struct Place {
    kind: Kind,
    directory: &'static str,
    file: fn(Slot, &str) -> String,
    about: About,
}

/// What files of a place are about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// NICs.
    Nics,
    /// VLANs on them.
    Vlans,
    /// The one or the other.
    Both,
}

const NETPLAN: &str = "etc/netplan";
const SYSTEMD: &str = "etc/systemd/network";
const KEYFILES: &str = "etc/NetworkManager/system-connections";
const SCRIPTS: &str = "etc/sysconfig/network-scripts";
const SYSCONFIG: &str = "etc/sysconfig/network";
const RULES: &str = "etc/udev/rules.d";
const SYSCTL: &str = "etc/sysctl.d";

/// The first place of a kind is where we write; the others are those of older programs, which knew no VLANs.
#[rustfmt::skip]
const PLACES: [Place; 16] = [
    // Behind what an installer or cloud-init wrote; in the form of the older programs for the slots that those know.
    Place { kind: Kind::Netplan, directory: NETPLAN, file: |slot, link| format!("{}.yaml", ninety(slot, link)), about: About::Nics },
    // udev takes the first file that matches, and 99-default.link, which matches everything, sorts before 99-multinic9.
    Place { kind: Kind::Link, directory: SYSTEMD, file: |_, link| format!("10-{link}.link"), about: About::Nics },
    Place { kind: Kind::Link, directory: SYSTEMD, file: |slot, link| format!("{}.link", ninety(slot, link)), about: About::Nics },
    Place { kind: Kind::Network, directory: SYSTEMD, file: |_, link| format!("10-{link}.network"), about: About::Both },
    Place { kind: Kind::Netdev, directory: SYSTEMD, file: |_, link| format!("10-{link}.netdev"), about: About::Vlans },
    Place { kind: Kind::Keyfile, directory: KEYFILES, file: |slot, link| format!("{}.nmconnection", ninety(slot, link)), about: About::Both },
    Place { kind: Kind::Keyfile, directory: KEYFILES, file: |_, link| format!("{link}.nmconnection"), about: About::Nics },
    Place { kind: Kind::Ifcfg, directory: SCRIPTS, file: |_, link| format!("ifcfg-{link}"), about: About::Both },
    Place { kind: Kind::Wicked, directory: SYSCONFIG, file: |_, link| format!("ifcfg-{link}"), about: About::Both },
    Place { kind: Kind::WickedSysctl, directory: SYSCONFIG, file: |_, link| format!("ifsysctl-{link}"), about: About::Both },
    Place { kind: Kind::Rule, directory: RULES, file: |_, link| format!("70-{link}.rules"), about: About::Nics },
    Place { kind: Kind::Sysctl, directory: SYSCTL, file: |_, link| format!("90-{link}.conf"), about: About::Nics },
    Place { kind: Kind::Routes, directory: SCRIPTS, file: |_, link| format!("route-{link}"), about: About::Both },
    Place { kind: Kind::Routes6, directory: SCRIPTS, file: |_, link| format!("route6-{link}"), about: About::Both },
    Place { kind: Kind::WickedRoutes, directory: SYSCONFIG, file: |_, link| format!("ifroute-{link}"), about: About::Both },
    Place { kind: Kind::WickedRules, directory: SYSCONFIG, file: |_, link| format!("ifrule-{link}"), about: About::Both },
];

fn ninety(slot: Slot, link: &str) -> String {
    format!("9{}-{link}", slot.number().min(9))
}

impl Kind {
    /// Where the file of an interface is written, below the node's root.
    pub fn path(self, name: InterfaceName) -> PathBuf {
        self.path_of(name.slot(), &name.to_string())
    }

    /// Where the file of a VLAN is.
    pub fn path_of_vlan(self, vlan: Vlan) -> PathBuf {
        self.path_of(vlan.interface.slot(), &vlan.to_string())
    }

    fn path_of(self, slot: Slot, link: &str) -> PathBuf {
        let place = PLACES.iter().find(|place| place.kind == self);
        place.map(|place| place.path(slot, link)).unwrap_or_default()
    }

    /// The permission bits of our files.
    pub fn mode(self) -> u32 {
        match self {
            // netplan warns of other modes, and NetworkManager does not read the file: such files can hold secrets.
            Self::Netplan | Self::Keyfile => 0o600,
            // networkd is not root.
            Self::Link | Self::Network | Self::Netdev => 0o644,
            Self::Ifcfg | Self::Routes | Self::Routes6 => 0o644,
            Self::Wicked | Self::WickedSysctl | Self::WickedRoutes | Self::WickedRules => 0o644,
            Self::Rule | Self::Sysctl => 0o644,
        }
    }

    /// The end of the names of copies of such files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Netplan => "yaml",
            Self::Link => "link",
            Self::Network => "network",
            Self::Netdev => "netdev",
            Self::Keyfile => "nmconnection",
            Self::Ifcfg | Self::Wicked => "ifcfg",
            Self::WickedSysctl => "ifsysctl",
            Self::Rule => "rules",
            Self::Sysctl => "conf",
            Self::Routes => "route",
            Self::Routes6 => "route6",
            Self::WickedRoutes => "ifroute",
            Self::WickedRules => "ifrule",
        }
    }
}

impl Place {
    fn path(&self, slot: Slot, link: &str) -> PathBuf {
        Path::new(self.directory).join((self.file)(slot, link))
    }
}

/// Every directory in which a file of ours, or of an older program, can be.
pub fn directories() -> BTreeSet<&'static Path> {
    PLACES.iter().map(|place| Path::new(place.directory)).collect()
}

/// Every path at which a file about an interface can be, but for its VLANs, each with what it is.
pub fn of(name: InterfaceName) -> impl Iterator<Item = (Kind, PathBuf)> {
    let places = PLACES.iter().filter(|place| place.about != About::Vlans);
    places.map(move |place| (place.kind, place.path(name.slot(), &name.to_string())))
}

/// Every path at which a file about a VLAN can be.
pub fn of_vlan(vlan: Vlan) -> impl Iterator<Item = (Kind, PathBuf)> {
    let places = PLACES.iter().filter(|place| place.about != About::Nics);
    let slot = vlan.interface.slot();
    places.map(move |place| (place.kind, place.path(slot, &vlan.to_string())))
}

/// What a file is about, if its path is one of [`of`] or of [`of_vlan`].
pub fn known(path: &Path) -> Option<(Kind, Slot)> {
    if let Some(vlan) = vlan(path) {
        let (kind, _) = of_vlan(vlan).find(|(_, known)| known == path)?;
        return Some((kind, vlan.interface.slot()));
    }
    let name: InterfaceName = words(path)?.split('.').next()?.parse().ok()?;
    of(name).find(|(_, known)| known == path).map(|(kind, _)| (kind, name.slot()))
}

/// The VLAN that a file is about, if its path is one of [`of_vlan`]. Whether it is one of ours is another question: people
/// call theirs so too.
pub fn vlan(path: &Path) -> Option<Vlan> {
    let words = words(path)?;
    let (interface, rest) = words.split_once('.')?;
    let id = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    let vlan: Vlan = format!("{interface}.{id}").parse().ok()?;
    of_vlan(vlan).any(|(_, known)| known == path).then_some(vlan)
}

/// A file's name from that of the interface on, as far as it may be one: letters, digits and dots.
fn words(path: &Path) -> Option<&str> {
    let file = path.file_name()?.to_str()?;
    let words = file.get(file.find(INTERFACE_PREFIX)?..)?;
    words.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').next()
}

#[cfg(test)]
mod tests {
    use multinic_core::VlanId;

    use super::*;

    #[test]
    fn a_file_name_belongs_to_one_slot() {
        let mut paths = BTreeSet::new();
        for slot in Slot::first(64) {
            for (kind, path) in of(slot.interface()) {
                assert_eq!((known(&path), vlan(&path)), (Some((kind, slot)), None));
                assert!(paths.insert(path));
            }
            for id in [1, 10, 100, 4094] {
                let of_slot = Vlan { interface: slot.interface(), id: VlanId::new(id).unwrap() };
                for (kind, path) in of_vlan(of_slot) {
                    assert_eq!((known(&path), vlan(&path)), (Some((kind, slot)), Some(of_slot)), "{path:?}");
                    assert!(paths.insert(path));
                }
            }
        }
        assert_eq!(paths.len(), 64 * (15 + 4 * 10));
    }

    #[test]
    fn the_names_of_the_older_programs_are_known() {
        for (path, slot) in [
            ("etc/netplan/90-multinic0.yaml", 0),
            ("etc/netplan/99-multinic9.yaml", 9),
            ("etc/netplan/99-multinic10.yaml", 10),
            ("etc/systemd/network/93-multinic3.link", 3),
            ("etc/NetworkManager/system-connections/93-multinic3.nmconnection", 3),
            ("etc/NetworkManager/system-connections/multinic3.nmconnection", 3),
            ("etc/sysconfig/network-scripts/ifcfg-multinic7", 7),
            ("etc/sysconfig/network/ifcfg-multinic7", 7),
        ] {
            assert_eq!(known(Path::new(path)).map(|(_, slot)| slot.number()), Some(slot), "{path}");
        }
    }

    #[test]
    fn names_that_only_look_like_ours_are_not() {
        for path in [
            "etc/netplan/91-multinic10.yaml",
            "etc/netplan/90-multinic1.yaml",
            "etc/netplan/91-multinic1.yml",
            "etc/netplan/91-multinic1.yaml.bak",
            "etc/netplan/.91-multinic1.yaml.multinic-new",
            "etc/netplan/91-multinic01.yaml",
            "etc/netplan/50-cloud-init.yaml",
            "etc/netplan/91-multinic1-extra.yaml",
            "etc/netplan/multinic1.yaml",
            "etc/netplan/ifcfg-multinic1",
            "etc/systemd/network/10-multinic64.link",
            "etc/systemd/network/11-multinic1.network",
            "etc/systemd/network/10-multinic1.netdev",
            "etc/sysconfig/network-scripts/ifcfg-multinic1.rpmsave",
            "etc/sysconfig/network-scripts/ifcfg-eth0",
            "etc/sysconfig/network-scripts/rule-multinic1",
            "etc/sysctl.d/99-multinic1.conf",
            "run/netplan/91-multinic1.yaml",
            "etc/netplan/91-multinic1.100.yaml",
            "etc/systemd/network/10-multinic1.100.link",
            "etc/systemd/network/10-multinic1.0100.network",
            "etc/systemd/network/10-multinic1.4095.network",
            "etc/systemd/network/10-multinic1.100.5.network",
            "etc/sysconfig/network-scripts/ifcfg-multinic1.100.bak",
            "etc/NetworkManager/system-connections/multinic1.100.nmconnection",
            "91-multinic1.yaml",
        ] {
            assert_eq!(known(Path::new(path)), None, "{path}");
        }
    }
}
