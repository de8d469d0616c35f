//! What the files on disk say, slot by slot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use multinic_core::node::NicTarget;
use multinic_core::node::observed::{NicFile, NicFileContent};
use multinic_core::{Addresses, InterfaceName, MacAddr, Slot};

use super::places::{self, Kind};
use super::{Backend, HEADER, Said, ifcfg, keyfile, link, netplan, networkd, options, udev_rule, wicked};
use crate::files::{FileCopy, FileError, HostRoot};

/// A file on disk whose path is one of [`places::of`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Where it is, below the node's root.
    pub path: PathBuf,
    /// The file; none if it is no plain one, or much too large.
    pub copy: Option<FileCopy>,
    /// What it says.
    pub said: Said,
}

/// Whether a file about a VLAN is one that we wrote: people call theirs so too.
pub fn is_ours(copy: &FileCopy) -> bool {
    copy.bytes.starts_with(HEADER.as_bytes())
}

/// What a file of this kind says of the interface of a slot. No text is too strange.
pub fn read(kind: Kind, slot: Slot, bytes: &[u8]) -> Said {
    let text = String::from_utf8_lossy(bytes);
    let said = match kind {
        Kind::Netplan => netplan::read(slot, &text),
        Kind::Link => link::read(&text),
        Kind::Network => networkd::read(&text),
        Kind::Keyfile => keyfile::read(&text),
        Kind::Ifcfg => ifcfg::read(&text),
        Kind::Wicked => wicked::read(&text),
        Kind::Rule => udev_rule::read(&text),
        Kind::WickedSysctl | Kind::WickedRoutes | Kind::WickedRules => Said::default(),
        Kind::Sysctl | Kind::Routes | Kind::Routes6 | Kind::Netdev => Said::default(),
    };
    Said { options: options::read(&text), ..said }
}

fn file(root: &HostRoot, kind: Kind, slot: Slot, path: PathBuf) -> Result<Option<Held>, FileError> {
    let of_vlan = places::vlan(&path).is_some();
    match root.read(&path) {
        Ok(None) => Ok(None),
        Ok(Some(copy)) if of_vlan && !is_ours(&copy) => Ok(None),
        Err(FileError::NotPlain(_) | FileError::TooLarge(_)) if of_vlan => Ok(None),
        Ok(Some(copy)) => {
            let said = read(kind, slot, &copy.bytes);
            Ok(Some(Held { path, copy: Some(copy), said }))
        }
        // It holds the name, whatever it is.
        Err(FileError::NotPlain(_) | FileError::TooLarge(_)) => {
            Ok(Some(Held { path, copy: None, said: Said::default() }))
        }
        Err(error) => Err(error),
    }
}

/// The files about one interface and its VLANs, of every backend.
pub fn of(root: &HostRoot, name: InterfaceName) -> Result<Vec<Held>, FileError> {
    Ok(by_slot(root, Some(name.slot()))?.remove(&name.slot()).unwrap_or_default())
}

/// The files of every slot, or of one.
fn by_slot(root: &HostRoot, only: Option<Slot>) -> Result<BTreeMap<Slot, Vec<Held>>, FileError> {
    let mut slots: BTreeMap<Slot, Vec<Held>> = BTreeMap::new();
    for directory in places::directories() {
        let names = root.names(directory)?;
        let paths = names.iter().map(|name| Path::new(directory).join(name));
        for (path, (kind, slot)) in paths.filter_map(|path| places::known(&path).map(|known| (path, known))) {
            if only.is_some_and(|only| only != slot) {
                continue;
            }
            // One that went while we looked is not there.
            if let Some(held) = file(root, kind, slot, path)? {
                slots.entry(slot).or_default().push(held);
            }
        }
    }
    Ok(slots)
}

/// Those of the files about one interface that go when this NIC is released: what names it, and what names no NIC as long
/// as no other is named.
pub fn of_nic(root: &HostRoot, name: InterfaceName, mac: MacAddr) -> Result<Vec<PathBuf>, FileError> {
    let files = of(root, name)?;
    let alone = files.iter().filter_map(|file| file.said.mac).all(|named| named == mac);
    let goes = files.into_iter().filter(|file| file.said.mac.map_or(alone, |named| named == mac));
    Ok(goes.map(|file| file.path).collect())
}

/// Reads all files about NICs of ours, whichever backend they are for.
pub fn all(root: &HostRoot, backend: Backend) -> Result<Vec<NicFile>, FileError> {
    let slots = by_slot(root, None)?;
    let contents = slots.iter().flat_map(|(slot, files)| {
        contents(backend, *slot, files).into_iter().map(|content| NicFile { slot: *slot, content })
    });
    Ok(contents.collect())
}

/// What the files of a slot say together: exactly what we would write, and not a file more; or whatever each NIC that they
/// name is given.
fn contents(backend: Backend, slot: Slot, files: &[Held]) -> Vec<NicFileContent> {
    if let Some(target) = exact(backend, slot, files) {
        return vec![NicFileContent::Exact(target)];
    }
    let macs: BTreeSet<MacAddr> = files.iter().filter_map(|file| file.said.mac).collect();
    let addresses = |mac: Option<MacAddr>| {
        let mut found: Vec<IpNet> = Vec::new();
        for file in files.iter().filter(|file| macs.len() < 2 || file.said.mac == mac) {
            let new = file.said.addresses.iter().filter(|net| !found.contains(net)).copied();
            found.extend(new.collect::<Vec<_>>());
        }
        found
    };
    let other = |mac| NicFileContent::Other { mac, addresses: addresses(mac) };
    if macs.is_empty() {
        return vec![other(None)];
    }
    macs.iter().map(|mac| other(Some(*mac))).collect()
}

fn exact(backend: Backend, slot: Slot, files: &[Held]) -> Option<NicTarget> {
    // Where several files have them, each has all.
    let addresses = files.iter().map(|file| &file.said.addresses).find(|list| !list.is_empty());
    let target = NicTarget {
        mac: files.iter().find_map(|file| file.said.mac)?,
        name: slot.interface(),
        addresses: Addresses::new(addresses.into_iter().flatten().copied()).ok()?,
        mtu: files.iter().find_map(|file| file.said.mtu)?,
        options: files.iter().find_map(|file| file.said.options.clone()).unwrap_or_default(),
    };
    let rendered = backend.render(&target);
    let is_there = |file: &super::Rendered| {
        let held = files.iter().find(|held| held.path == file.path).and_then(|held| held.copy.as_ref());
        held.is_some_and(|copy| copy.bytes == file.text.as_bytes() && copy.mode == file.mode)
    };
    (files.len() == rendered.len() && rendered.iter().all(is_there)).then_some(target)
}

#[cfg(test)]
mod tests {
    use multinic_core::options::{NicRoute, ReversePath, SourceRouting};
    use multinic_core::{Mtu, NicOptions, Vlan, VlanId};
    use proptest::prelude::*;

    use super::*;
    use crate::files::put;

    fn slot(number: i64) -> Slot {
        Slot::new(number).unwrap()
    }

    fn held(path: PathBuf, bytes: &[u8], mode: u32) -> Held {
        let (kind, slot) = places::known(&path).unwrap();
        let copy = FileCopy { bytes: bytes.to_vec(), mode, owner: None };
        Held { path, copy: Some(copy), said: read(kind, slot, bytes) }
    }

    fn written(backend: Backend, target: &NicTarget) -> Vec<Held> {
        let files = backend.render(target).into_iter();
        files.map(|file| held(file.path, file.text.as_bytes(), file.mode)).collect()
    }

    fn options_of_nics() -> impl Strategy<Value = NicOptions> {
        let source_routing = proptest::option::of((1..20_000_u32, 1..1000_u32));
        let routes = ["0.0.0.0/0 192.0.2.1", "10.0.0.0/8", "fd00::/8 fe80::1", "2001:db8::/32"];
        let routes = proptest::sample::subsequence(routes.to_vec(), 0..4);
        let vlan = proptest::option::of((1..=4094_i64).prop_map(|id| VlanId::new(id).unwrap()));
        (vlan, any::<bool>(), any::<bool>(), any::<bool>(), source_routing, routes).prop_map(
            |(vlan, strict_arp, loose, no_prefix_route, source_routing, routes)| NicOptions {
                vlan,
                strict_arp,
                rp_filter: loose.then_some(ReversePath::Loose),
                no_prefix_route: no_prefix_route && source_routing.is_some(),
                source_routing: source_routing.map(|(table, metric)| SourceRouting { table, metric }),
                routes: routes
                    .iter()
                    .map(|text| text.split_once(' ').map_or((*text, None), |(to, via)| (to, Some(via))))
                    .map(|(to, via)| NicRoute {
                        to: to.parse().unwrap(),
                        via: via.map(|via| via.parse().unwrap()),
                        metric: 100,
                    })
                    .collect(),
            },
        )
    }

    fn targets() -> impl Strategy<Value = NicTarget> {
        let v4 = (any::<u32>(), 1..=32_u8)
            .prop_map(|(bits, prefix)| format!("{}/{prefix}", std::net::Ipv4Addr::from(bits)));
        let v6 = (any::<u128>(), 1..=128_u8)
            .prop_map(|(bits, prefix)| format!("{}/{prefix}", std::net::Ipv6Addr::from(bits)));
        let net = prop_oneof![v4, v6].prop_map(|text| text.parse::<IpNet>().unwrap());
        let addresses = proptest::collection::vec(net, 0..5);
        (any::<[u8; 6]>(), 0..64_i64, addresses, 68..=65535_i64, options_of_nics()).prop_filter_map(
            "a NIC that can be",
            |(mac, number, addresses, mtu, options)| {
                Some(NicTarget {
                    mac: MacAddr::from_bytes(mac).ok()?,
                    name: slot(number).interface(),
                    addresses: Addresses::new(addresses).ok()?,
                    mtu: Mtu::new(mtu).ok()?,
                    options,
                })
            },
        )
    }

    const KINDS: [Kind; 14] = [
        Kind::Netdev,
        Kind::Netplan,
        Kind::Link,
        Kind::Network,
        Kind::Keyfile,
        Kind::Ifcfg,
        Kind::Wicked,
        Kind::WickedSysctl,
        Kind::Rule,
        Kind::Sysctl,
        Kind::Routes,
        Kind::Routes6,
        Kind::WickedRoutes,
        Kind::WickedRules,
    ];

    proptest! {
        #[test]
        fn what_is_rendered_reads_as_itself(target in targets()) {
            for backend in Backend::ALL {
                let files = written(backend, &target);
                let read = contents(backend, target.name.slot(), &files);
                let [NicFileContent::Exact(read)] = read.as_slice() else { panic!("{backend:?}: {read:?}") };
                prop_assert!(read.is_same_on_disk(&target), "{:?}: {:?}", backend, read);
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for kind in KINDS {
                let _ = read(kind, slot(0), &bytes);
            }
        }

        /// Our own files with bytes changed come nearer to the readers' insides than random ones.
        #[test]
        fn no_damage_is_too_strange(target in targets(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            for backend in Backend::ALL {
                for file in backend.render(&target) {
                    let (kind, slot) = places::known(&file.path).unwrap();
                    let mut bytes = file.text.into_bytes();
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                    let _ = read(kind, slot, &bytes);
                    let _ = read(kind, slot, &bytes[..at]);
                }
            }
        }
    }

    fn target() -> NicTarget {
        NicTarget {
            mac: "fa:16:3e:00:00:01".parse().unwrap(),
            name: slot(0).interface(),
            addresses: Addresses::parse(["192.0.2.10/24"]).unwrap(),
            mtu: Mtu::new(1450).unwrap(),
            options: NicOptions::default(),
        }
    }

    #[test]
    fn one_byte_or_one_bit_or_one_file_more_or_less_is_not_ours() {
        for backend in Backend::ALL {
            let files = written(backend, &target());
            assert_eq!(contents(backend, slot(0), &files), [NicFileContent::Exact(target())]);
            let is_other = |files: &[Held]| {
                matches!(contents(backend, slot(0), files).as_slice(), [NicFileContent::Other { .. }])
            };
            for at in 0..files.len() {
                let mut changed = files.clone();
                changed[at].copy.as_mut().unwrap().bytes.push(b'\n');
                assert!(is_other(&changed));
                let mut changed = files.clone();
                changed[at].copy.as_mut().unwrap().mode |= 0o1;
                assert!(is_other(&changed));
                let mut changed = files.clone();
                changed.remove(at);
                assert!(changed.is_empty() || is_other(&changed));
            }
            // Ours of another backend, and the older programs' files, are found beside them.
            let vlan = Vlan { interface: target().name, id: VlanId::new(7).unwrap() };
            for (_, path) in places::of(target().name).chain(places::of_vlan(vlan)) {
                if files.iter().all(|file| file.path != path) {
                    let mut more = files.clone();
                    more.push(held(path, b"", 0o644));
                    assert!(is_other(&more), "{more:?}");
                }
            }
        }
    }

    #[test]
    fn files_of_one_slot_that_name_two_nics_are_told_apart() {
        let mut files = written(Backend::NetworkManager, &target());
        let older = "[Match]\nMACAddress=fa:16:3e:00:00:02\n[Link]\nName=multinic0\n";
        files.push(held("etc/systemd/network/90-multinic0.link".into(), older.as_bytes(), 0o644));
        let read = contents(Backend::NetworkManager, slot(0), &files);
        let other = |mac: &str, addresses: &[&str]| NicFileContent::Other {
            mac: Some(mac.parse().unwrap()),
            addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
        };
        assert_eq!(read, [other("fa:16:3e:00:00:01", &["192.0.2.10/24"]), other("fa:16:3e:00:00:02", &[])]);
    }

    #[test]
    fn files_of_others_are_not_read_as_ours() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "etc/netplan/50-cloud-init.yaml",
            "etc/netplan/91-multinic1.yaml",
            "etc/netplan/99-multinic12.yaml",
            "etc/netplan/91-multinic1.yaml.bak",
            "etc/systemd/network/10-multinic3.network",
            "etc/systemd/network/10-others.network",
        ] {
            put(folder.path(), path, "network: {}");
        }
        let files = all(&HostRoot::open(folder.path()).unwrap(), Backend::Netplan).unwrap();
        assert_eq!(files.iter().map(|file| file.slot.number()).collect::<Vec<_>>(), [1, 3, 12]);
    }

    #[test]
    fn a_file_about_a_vlan_is_ours_if_we_wrote_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        let write = |path: &str, text: &str| put(folder.path(), path, text);
        let theirs = "etc/sysconfig/network-scripts/ifcfg-multinic0.100";
        write(theirs, "DEVICE=multinic0.100\nVLAN=yes\nIPADDR=192.0.2.99\nPREFIX=24\n");
        std::fs::create_dir_all(folder.path().join("etc/systemd/network/10-multinic0.100.network")).unwrap();
        assert!(all(&root, Backend::Ifcfg).unwrap().is_empty());
        let options = NicOptions { vlan: VlanId::new(200).ok(), ..NicOptions::default() };
        let target = NicTarget { options, ..target() };
        for file in Backend::Ifcfg.render(&target) {
            write(file.path.to_str().unwrap(), &file.text);
        }
        assert_eq!(all(&root, Backend::Ifcfg).unwrap()[0].content, NicFileContent::Exact(target.clone()));
        let going = of_nic(&root, target.name, target.mac).unwrap();
        assert_eq!(going.len(), 3);
        assert!(!going.contains(&PathBuf::from(theirs)));
    }

    #[test]
    fn a_release_leaves_the_files_of_another_nic_of_the_same_name() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &Path, text: &str| put(folder.path(), path, text);
        for file in Backend::Wicked.render(&target()) {
            write(&file.path, &file.text);
        }
        let root = HostRoot::open(folder.path()).unwrap();
        let going = |mac: &str| of_nic(&root, target().name, mac.parse().unwrap()).unwrap().len();
        assert_eq!((going("fa:16:3e:00:00:01"), going("fa:16:3e:00:00:02")), (3, 0));
        write(Path::new("etc/sysconfig/network-scripts/ifcfg-multinic0"), "HWADDR=fa:16:3e:00:00:02\n");
        assert_eq!((going("fa:16:3e:00:00:01"), going("fa:16:3e:00:00:02")), (1, 1));
    }
}
