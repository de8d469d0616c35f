//! Changes to real links: made whole and verified, with everything else left alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing loudly"
)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use multinic_core::node::ChangeKind;
use multinic_core::{InterfaceName, Slot};
use multinic_host::backend::{Backend, places};
use multinic_testbed::node::NewRoute;
use support::{NIC, OTHER_NIC, World, mac, net, nic, options, pass};

const FILE: &str = "etc/netplan/90-multinic0.yaml";

#[test]
fn a_new_nic_gets_its_name_mtu_addresses_and_file() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[nic(NIC, 0, &["192.0.2.10/24", "2001:db8::10/64"], 1450)], &[]);
        let link = world.link(NIC);
        assert_eq!((link.name.as_str(), link.mtu, link.up), ("multinic0", 1450, true));
        assert_eq!(world.addresses(NIC), ["192.0.2.10/24", "2001:db8::10/64"]);
        assert!(world.read(FILE).unwrap().contains("192.0.2.10/24"));
        assert_eq!(world.node.sysctl("ipv6/conf/multinic0/accept_ra").unwrap(), "0");
        assert!(world.journal().is_empty());
    });
}

#[test]
fn a_nic_that_comes_back_under_its_name_or_is_told_to_heed_routers_ignores_them() {
    World::with(|world| {
        let wanted = [nic(NIC, 0, &["192.0.2.10/24"], 1450)];
        let accept_ra = || world.node.sysctl("ipv6/conf/multinic0/accept_ra").unwrap();
        world.plug(NIC, "ens5");
        world.converge(&wanted, &[]);
        world.node.set_sysctl("ipv6/conf/multinic0/accept_ra", "2").unwrap();
        world.converge(&wanted, &[]);
        assert_eq!(accept_ra(), "0");
        // As udev names it by our file.
        world.switch.unplug(mac(NIC)).unwrap();
        world.plug(NIC, "multinic0");
        assert_eq!(accept_ra(), "1");
        world.converge(&wanted, &[]);
        assert_eq!(accept_ra(), "0");
    });
}

#[test]
fn a_nic_without_addresses_is_named_and_up() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[nic(NIC, 3, &[], 1500)], &[]);
        let link = world.link(NIC);
        assert_eq!((link.name.as_str(), link.up), ("multinic3", true));
    });
}

#[test]
fn a_change_of_mtu_and_addresses_does_not_touch_what_stays() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[nic(NIC, 0, &["192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64"], 1450)], &[]);
        world.converge(&[nic(NIC, 0, &["192.0.2.11/24", "2001:db8::11/64", "10.1.0.1/16"], 1400)], &[]);
        assert_eq!(world.link(NIC).mtu, 1400);
        assert_eq!(world.addresses(NIC), ["10.1.0.1/16", "192.0.2.11/24", "2001:db8::11/64"]);
        assert_eq!(world.backups().len(), 1);
    });
}

#[test]
fn an_address_that_was_ours_since_the_boot_is_not_somebodys_when_it_comes_back() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let wanted = |net| [nic(NIC, 0, &[net], 1450)];
        world.converge(&wanted("192.0.2.10/24"), &[]);
        world.converge(&wanted("192.0.2.11/24"), &[]);
        let comes_back = || world.node.add_address("multinic0", net("192.0.2.10/24"), None).unwrap();
        comes_back();
        world.converge(&wanted("192.0.2.11/24"), &[]);
        assert_eq!(world.addresses(NIC), ["192.0.2.11/24"]);
        // Nor after it was given up, and is ours again.
        world.converge(&[], &[mac(NIC)]);
        world.converge(&wanted("192.0.2.12/24"), &[]);
        comes_back();
        world.converge(&wanted("192.0.2.12/24"), &[]);
        assert_eq!(world.addresses(NIC), ["192.0.2.12/24"]);
        // In another boot nobody has it in mind.
        let state = "var/lib/multinic/state.json";
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let text = world.read(state).unwrap();
        assert!(text.contains(boot.trim()));
        world.write(state, &text.replace(boot.trim(), "0"), 0o600);
        comes_back();
        world.converge(&wanted("192.0.2.12/24"), &[]);
        assert_eq!(world.addresses(NIC), ["192.0.2.10/24", "192.0.2.12/24"]);
    });
}

#[test]
fn an_address_of_an_older_program_that_comes_back_is_not_somebodys_either() {
    World::with(|world| {
        world.plug(NIC, "multinic0");
        world.node.add_address("multinic0", net("192.0.2.10/24"), None).unwrap();
        let older = "network:\n  ethernets:\n    multinic0:\n      match: {macaddress: \"fa:16:3e:00:00:01\"}\n      \
                     addresses: [192.0.2.10/24]\n";
        world.write(FILE, &older.replace("fa:16:3e:00:00:01", NIC), 0o600);
        let wanted = [nic(NIC, 0, &["192.0.2.11/24"], 1450)];
        world.converge(&wanted, &[]);
        world.node.add_address("multinic0", net("192.0.2.10/24"), None).unwrap();
        world.converge(&wanted, &[]);
        assert_eq!(world.addresses(NIC), ["192.0.2.11/24"]);
    });
}

#[test]
fn an_address_that_somebody_added_is_kept() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[nic(NIC, 0, &["192.0.2.10/24"], 1450)], &[]);
        world.node.add_address("multinic0", net("192.0.2.200/32"), None).unwrap();
        world.converge(&[nic(NIC, 0, &["192.0.2.12/24"], 1450)], &[]);
        assert_eq!(world.addresses(NIC), ["192.0.2.12/24", "192.0.2.200/32"]);
    });
}

#[test]
fn a_lease_that_the_guest_took_on_a_new_nic_is_replaced() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.node.set_up("ens5").unwrap();
        world.node.add_address("ens5", net("192.0.2.10/24"), Some(3600)).unwrap();
        let gateway = Some("192.0.2.1".parse().unwrap());
        let lease = NewRoute {
            link: "ens5",
            to: net("0.0.0.0/0"),
            gateway,
            protocol: 16.into(),
            table: 254,
            metric: 100,
        };
        world.node.add_route(lease).unwrap();
        world.node.add_route(NewRoute { to: net("10.0.0.0/8"), ..lease }).unwrap();
        world.converge(&[nic(NIC, 0, &["192.0.2.10/24"], 1450)], &[]);
        assert_eq!(world.addresses(NIC), ["192.0.2.10/24"]);
        let index = world.link(NIC).index;
        let routes: Vec<_> = world.observed().routes_of(index).map(|route| route.destination).collect();
        assert_eq!(routes.first(), Some(&net("192.0.2.0/24")));
        assert!(routes.iter().skip(1).all(|to| *to == net("fe80::/64")), "{routes:?}");
    });
}

#[test]
fn drift_is_repaired() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let wanted = [nic(NIC, 0, &["192.0.2.10/24", "2001:db8::10/64"], 1450)];
        world.converge(&wanted, &[]);
        world.node.remove_address("multinic0", net("192.0.2.10/24")).unwrap();
        world.node.set_mtu("multinic0", 1300).unwrap();
        world.node.set_down("multinic0").unwrap();
        world.write(FILE, "network: {}\n", 0o600);
        world.converge(&wanted, &[]);
        world.node.set_down("multinic0").unwrap();
        world.node.rename("multinic0", "ens5").unwrap();
        world.converge(&wanted, &[]);
        assert_eq!(world.link(NIC).name, "multinic0");
    });
}

#[test]
fn a_name_that_is_among_its_other_names_can_be_given() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.node.add_altname("ens5", "multinic0").unwrap();
        world.node.add_altname("ens5", "enp0s5").unwrap();
        world.converge(&[nic(NIC, 0, &["192.0.2.10/24"], 1450)], &[]);
        assert_eq!(world.link(NIC).altnames, ["enp0s5"]);
    });
}

#[test]
fn a_nic_that_is_taken_away_is_down_under_its_first_name() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[nic(NIC, 0, &["192.0.2.10/24", "2001:db8::10/64"], 1450)], &[]);
        // As udev does when it names a link for the second time.
        world.node.add_altname("multinic0", "ens5").unwrap();
        world.converge(&[], &[mac(NIC)]);
        let link = world.link(NIC);
        assert_eq!((link.name.as_str(), link.up), ("ens5", false));
        assert!(world.addresses(NIC).is_empty());
        assert_eq!(world.read(FILE), None);
        assert!(world.host(async |host| host.owned().is_empty()));
        assert_eq!(world.backups().len(), 2);
    });
}

#[test]
fn a_first_name_that_another_link_has_now_is_not_given_back() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[nic(NIC, 0, &["192.0.2.10/24"], 1450)], &[]);
        world.plug(OTHER_NIC, "ens5");
        world.converge(&[], &[mac(NIC)]);
        let name = world.link(NIC).name;
        assert!(name.starts_with("nic"), "{name}");
        assert_eq!(world.link(OTHER_NIC).name, "ens5");
    });
}

#[test]
fn files_of_a_nic_that_was_unplugged_are_taken_away() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[nic(NIC, 0, &["192.0.2.10/24"], 1450)], &[]);
        world.switch.unplug(mac(NIC)).unwrap();
        world.converge(&[], &[mac(NIC)]);
        assert_eq!(world.read(FILE), None);
        assert!(world.host(async |host| host.owned().is_empty()));
    });
}

#[test]
fn an_older_programs_nic_is_adopted_with_its_file() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.node.rename("ens5", "multinic0").unwrap();
        world.node.set_up("multinic0").unwrap();
        world.node.add_address("multinic0", net("192.0.2.10/24"), None).unwrap();
        let old = format!(
            "network:\n  ethernets:\n    multinic0:\n      match: {{macaddress: \"{NIC}\"}}\n      \
             set-name: multinic0\n      addresses: [192.0.2.10/24]\n  version: 2\n"
        );
        world.write(FILE, &old, 0o644);
        let wanted = [nic(NIC, 0, &["192.0.2.10/24"], 1500)];
        let kinds = world.host(async |host| {
            let done = pass(host, &wanted, &[]).await;
            done.into_iter().map(|(change, result)| result.map(|()| change.kind).unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(kinds, [ChangeKind::Adopt]);
        world.converge(&wanted, &[]);
        assert_eq!(world.backups().len(), 1);
    });
}

#[test]
fn each_backend_configures_changes_repairs_and_takes_away_and_leaves_no_file() {
    // The watch around a test does not know the folders of wicked.
    for backend in [Backend::Networkd, Backend::NetworkManager, Backend::Ifcfg] {
        World::with_backend(backend, |world| {
            world.plug(NIC, "ens5");
            let files = |world: &World| {
                let paths = places::of("multinic0".parse().unwrap()).map(|(_, path)| path);
                paths.filter(|path| world.root.path().join(path).exists()).collect::<Vec<_>>()
            };
            world.converge(&[nic(NIC, 0, &["2001:db8::10/64", "192.0.2.10/24"], 1450)], &[]);
            assert_eq!(files(world).len(), 3);
            let wanted = [nic(NIC, 0, &["192.0.2.11/24"], 1400)];
            world.converge(&wanted, &[]);
            assert_eq!(world.addresses(NIC), ["192.0.2.11/24"]);
            for path in files(world) {
                let path = path.to_str().unwrap();
                let whole = world.read(path).unwrap();
                std::fs::remove_file(world.root.path().join(path)).unwrap();
                world.converge(&wanted, &[]);
                world.write(path, "edited", 0o600);
                world.converge(&wanted, &[]);
                assert_eq!(world.read(path), Some(whole));
            }
            world.converge(&[], &[mac(NIC)]);
            assert!(files(world).is_empty());
        });
    }
}

#[test]
fn an_older_programs_files_for_another_manager_are_taken_over() {
    World::with_backend(Backend::NetworkManager, |world| {
        world.plug(NIC, "ens5");
        world.node.rename("ens5", "multinic0").unwrap();
        world.node.set_up("multinic0").unwrap();
        world.node.add_address("multinic0", net("192.0.2.10/24"), None).unwrap();
        let ifcfg = "etc/sysconfig/network-scripts/ifcfg-multinic0";
        let upper = NIC.to_uppercase();
        world.write(
            ifcfg,
            &format!("DEVICE=multinic0\nIPADDR=192.0.2.10\nPREFIX=24\nHWADDR={upper}\n"),
            0o644,
        );
        let link = "etc/systemd/network/90-multinic0.link";
        world.write(link, &format!("[Match]\nMACAddress={NIC}\n\n[Link]\nName=multinic0\n"), 0o644);
        let wanted = [nic(NIC, 0, &["192.0.2.10/24"], 1500)];
        let kinds = world.host(async |host| {
            let done = pass(host, &wanted, &[]).await;
            done.into_iter().map(|(change, result)| result.map(|()| change.kind).unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(kinds, [ChangeKind::Adopt]);
        world.converge(&wanted, &[]);
        assert_eq!((world.read(ifcfg), world.read(link)), (None, None));
        assert!(world.read("etc/NetworkManager/system-connections/90-multinic0.nmconnection").is_some());
        assert_eq!(world.backups().len(), 2);
    });
}

/// What older programs wrote for a NIC in slot 3.
fn files_of_older_programs(mac_address: &str) -> [(&'static str, String); 6] {
    let upper = mac_address.to_uppercase();
    let keyfile = format!("[connection]\nid=multinic3\ntype=ethernet\n[ethernet]\nmac-address={upper}\n");
    [
        (
            "etc/netplan/93-multinic3.yaml",
            format!(
                "network:\n  ethernets:\n    multinic3:\n      match: {{macaddress: \"{mac_address}\"}}\n"
            ),
        ),
        (
            "etc/systemd/network/93-multinic3.link",
            format!("[Match]\nMACAddress={mac_address}\n\n[Link]\nName=multinic3\n"),
        ),
        ("etc/NetworkManager/system-connections/93-multinic3.nmconnection", keyfile.clone()),
        ("etc/NetworkManager/system-connections/multinic3.nmconnection", keyfile),
        ("etc/sysconfig/network-scripts/ifcfg-multinic3", format!("DEVICE=multinic3\nHWADDR={upper}\n")),
        ("etc/sysconfig/network/ifcfg-multinic3", format!("STARTMODE=auto\nLLADDR={upper}\n")),
    ]
}

/// All files whose names are those of an interface, by path.
fn files_of(world: &World, slot: i64) -> BTreeMap<PathBuf, String> {
    let name = Slot::new(slot).unwrap().interface();
    let read = |(_, path): (_, PathBuf)| Some((path.clone(), world.read(path.to_str()?)?));
    places::of(name).filter_map(read).collect()
}

#[test]
fn whatever_names_a_nic_that_is_gone_goes_in_every_slot_and_the_files_of_others_stay() {
    for backend in Backend::ALL {
        World::with_backend(backend, |world| {
            world.plug(NIC, "ens5");
            world.plug(OTHER_NIC, "ens6");
            let other = [nic(OTHER_NIC, 1, &["198.18.0.11/24"], 1500)];
            let own = nic(NIC, 0, &["192.0.2.10/24", "2001:db8::10/64"], 1450);
            world.converge(&[own, other[0].clone()], &[]);
            world.switch.unplug(mac(NIC)).unwrap();
            // It had another slot once, and an agent that died left what it wrote for that.
            let written = files_of(world, 0);
            let slots = ["multinic0", "multinic7"].map(|name| name.parse::<InterfaceName>().unwrap());
            for ((kind, from), (_, to)) in places::of(slots[0]).zip(places::of(slots[1])) {
                if let Some(text) = written.get(&from) {
                    world.write(to.to_str().unwrap(), &text.replace("multinic0", "multinic7"), kind.mode());
                }
            }
            for (path, text) in files_of_older_programs(NIC) {
                world.write(path, &text, 0o600);
            }
            let all = |world: &World| [0, 1, 3, 7].map(|slot| files_of(world, slot));
            let before = all(world);
            assert!(before.iter().all(|files| !files.is_empty()), "{before:#?}");
            assert_eq!(before[2].len(), 6, "{before:#?}");
            // That nobody asks for it is no evidence.
            world.converge(&other, &[]);
            assert_eq!(all(world), before, "{}", backend.name());

            world.converge(&other, &[mac(NIC)]);
            let left = all(world);
            assert_eq!(left[1], before[1], "{}", backend.name());
            for slot in [0, 2, 3] {
                assert_eq!(left[slot], BTreeMap::new(), "{}", backend.name());
            }
            world.converge(&[], &[mac(OTHER_NIC)]);
        });
    }
}

#[test]
fn two_agents_do_not_work_on_one_node() {
    World::with(|world| {
        let second =
            world.host(async |_host| multinic_host::Host::open(options(world.root.path())).map(|_| ()));
        let error = second.unwrap_err();
        assert!(matches!(error, multinic_host::HostError::Busy(_)), "{error}");
    });
}

#[test]
fn looking_writes_nothing() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        assert!(world.observed().by_name("ens5").is_some());
        assert!(!world.root.path().join("var").exists());
    });
}
