//! Where files about NICs of ours are, and what they are called: those that we write, and those that the older programs
//! wrote, which are taken over.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use multinic_core::names::INTERFACE_PREFIX;
use multinic_core::{InterfaceName, Slot};

/// What a file is to those who read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// netplan(5).
    Netplan,
    /// systemd.link(5): the name.
    Link,
    /// systemd.network(5).
    Network,
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

/// The names of the files of one kind in one directory.
struct Place {
    kind: Kind,
    directory: &'static str,
    file: fn(InterfaceName) -> String,
}

const NETPLAN: &str = "etc/netplan";
const SYSTEMD: &str = "etc/systemd/network";
const KEYFILES: &str = "etc/NetworkManager/system-connections";
const SCRIPTS: &str = "etc/sysconfig/network-scripts";
const SYSCONFIG: &str = "etc/sysconfig/network";
const RULES: &str = "etc/udev/rules.d";
const SYSCTL: &str = "etc/sysctl.d";

/// The first place of a kind is where we write; the others are those of older programs.
const PLACES: [Place; 15] = [
    // Behind what an installer or cloud-init wrote; in the form of the older programs for the slots that those know.
    Place { kind: Kind::Netplan, directory: NETPLAN, file: |name| format!("{}.yaml", ninety(name)) },
    // udev takes the first file that matches, and 99-default.link, which matches everything, sorts before 99-multinic9.
    Place { kind: Kind::Link, directory: SYSTEMD, file: |name| format!("10-{name}.link") },
    Place { kind: Kind::Link, directory: SYSTEMD, file: |name| format!("{}.link", ninety(name)) },
    Place { kind: Kind::Network, directory: SYSTEMD, file: |name| format!("10-{name}.network") },
    Place { kind: Kind::Keyfile, directory: KEYFILES, file: |name| format!("{}.nmconnection", ninety(name)) },
    Place { kind: Kind::Keyfile, directory: KEYFILES, file: |name| format!("{name}.nmconnection") },
    Place { kind: Kind::Ifcfg, directory: SCRIPTS, file: |name| format!("ifcfg-{name}") },
    Place { kind: Kind::Wicked, directory: SYSCONFIG, file: |name| format!("ifcfg-{name}") },
    Place { kind: Kind::WickedSysctl, directory: SYSCONFIG, file: |name| format!("ifsysctl-{name}") },
    Place { kind: Kind::Rule, directory: RULES, file: |name| format!("70-{name}.rules") },
    Place { kind: Kind::Sysctl, directory: SYSCTL, file: |name| format!("90-{name}.conf") },
    Place { kind: Kind::Routes, directory: SCRIPTS, file: |name| format!("route-{name}") },
    Place { kind: Kind::Routes6, directory: SCRIPTS, file: |name| format!("route6-{name}") },
    Place { kind: Kind::WickedRoutes, directory: SYSCONFIG, file: |name| format!("ifroute-{name}") },
    Place { kind: Kind::WickedRules, directory: SYSCONFIG, file: |name| format!("ifrule-{name}") },
];

fn ninety(name: InterfaceName) -> String {
    format!("9{}-{name}", name.slot().number().min(9))
}

impl Kind {
    /// Where the file of an interface is written, below the node's root.
    pub fn path(self, name: InterfaceName) -> PathBuf {
        let place = PLACES.iter().find(|place| place.kind == self);
        place.map(|place| place.path(name)).unwrap_or_default()
    }

    /// The permission bits of our files.
    pub fn mode(self) -> u32 {
        match self {
            // netplan warns of other modes, and NetworkManager does not read the file: such files can hold secrets.
            Self::Netplan | Self::Keyfile => 0o600,
            // networkd is not root.
            Self::Link | Self::Network => 0o644,
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
    fn path(&self, name: InterfaceName) -> PathBuf {
        Path::new(self.directory).join((self.file)(name))
    }
}

/// Every directory in which a file of ours, or of an older program, can be.
pub fn directories() -> BTreeSet<&'static Path> {
    PLACES.iter().map(|place| Path::new(place.directory)).collect()
}

/// Every path at which a file about an interface can be, each with what it is.
pub fn of(name: InterfaceName) -> impl Iterator<Item = (Kind, PathBuf)> {
    PLACES.iter().map(move |place| (place.kind, place.path(name)))
}

/// What a file is about, if its path is one of [`of`].
pub fn known(path: &Path) -> Option<(Kind, Slot)> {
    let file = path.file_name()?.to_str()?;
    let (_, after) = file.split_once(INTERFACE_PREFIX)?;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    let name: InterfaceName = format!("{INTERFACE_PREFIX}{digits}").parse().ok()?;
    of(name).find(|(_, known)| known == path).map(|(kind, _)| (kind, name.slot()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_belongs_to_one_slot() {
        let mut paths = BTreeSet::new();
        for slot in Slot::first(64) {
            for (kind, path) in of(slot.interface()) {
                assert_eq!(known(&path), Some((kind, slot)));
                assert!(paths.insert(path));
            }
        }
        assert_eq!(paths.len(), 64 * PLACES.len());
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
            "91-multinic1.yaml",
        ] {
            assert_eq!(known(Path::new(path)), None, "{path}");
        }
    }
}
