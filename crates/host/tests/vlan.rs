//! VLANs on NICs of ours, on real links. A kernel without IEEE 802.1Q shows that it is told apart before anything is touched;
//! all the rest needs one that has it, is passed over elsewhere, and has one test that boots such a kernel for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use multinic_core::desired::DesiredNic;
use multinic_core::node::observed::Link;
use multinic_core::node::{NodePlan, RefusalReason};
use multinic_host::backend::Backend;
use multinic_host::netlink::Netlink;
use multinic_host::{Cause, Host, Recovery, Rollback, faults};
use multinic_testbed::guest::Kernel;
use multinic_testbed::node::{ForeignState, NetNs};
use support::{NIC, OTHER_NIC, World, mac, nic, nic_with};

const ADDRESSES: [&str; 2] = ["192.0.2.10/24", "2001:db8::10/64"];
const ON_VLAN: &str = r#"{"vlan": 100}"#;
const SOURCED: &str = r#"{"vlan": 100, "rpFilter": "loose", "sourceRouting": {"enabled": true, "tableBase": 300},
    "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}, {"to": "::/0", "via": "fe80::1"}]}"#;

fn with(options: &str) -> DesiredNic {
    nic_with(options, nic(NIC, 0, &ADDRESSES, 1450))
}

fn kernel_has_vlans() -> bool {
    let node = NetNs::new("asked").unwrap();
    node.run(|| Netlink::open().unwrap().knows_vlans("multinic0.1").unwrap()).unwrap()
}

/// Runs a test where it can be run.
fn with_vlans(test: impl FnOnce(&World)) {
    if kernel_has_vlans() {
        World::unwatched(test);
    } else {
        println!("passed over: this kernel has no VLANs (8021q)");
    }
}

fn ip(world: &World, words: &str) {
    let output = world.node.command("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

fn link(world: &World, name: &str) -> Option<Link> {
    world.observed().by_name(name).cloned()
}

/// The addresses of a link that are not link-local.
fn addresses(world: &World, name: &str) -> Vec<String> {
    let observed = world.observed();
    let index = observed.by_name(name).unwrap().index;
    let mut texts: Vec<String> = observed
        .addresses_of(index)
        .filter(|address| !address.link_local)
        .map(|address| address.net.to_string())
        .collect();
    texts.sort();
    texts
}

/// Everything of ours, with the VLANs and what they have.
fn ours(world: &World) -> String {
    let observed = world.observed();
    let mut text = world.ours();
    for link in observed.links.iter().filter(|link| link.vlan.is_some()) {
        text += &format!(
            "{} {:?} mtu {} up {} {:?} {:?}\n",
            link.name,
            link.vlan,
            link.mtu,
            link.up,
            link.settings,
            addresses(world, &link.name)
        );
        let routes = observed.routes_of(link.index).chain(observed.other_tables_of(link.index));
        let mut routes: Vec<String> = routes
            .map(|route| format!("  {} by {:?} in {}\n", route.destination, route.gateway, route.table))
            .collect();
        routes.retain(|route| !route.contains("fe80::/"));
        routes.sort();
        text += &routes.concat();
    }
    text
}

fn foreign(world: &World) -> ForeignState {
    ForeignState::capture(&world.node, world.root.path(), &[mac(NIC)]).unwrap()
}

#[test]
fn a_kernel_without_vlans_is_told_apart_before_anything_is_touched_and_nothing_else_stops() {
    if kernel_has_vlans() {
        println!("passed over: this kernel has VLANs");
        return;
    }
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.plug(OTHER_NIC, "ens6");
        let before = world.link(NIC);
        let wanted = [with(ON_VLAN), nic(OTHER_NIC, 1, &["198.18.0.5/24"], 1450)];
        world.host(async |host| {
            let outcomes = support::pass(host, &wanted, &[]).await;
            for (change, result) in outcomes {
                match result {
                    Ok(()) => assert_eq!(change.mac, mac(OTHER_NIC)),
                    Err(error) => {
                        assert_eq!(change.mac, mac(NIC));
                        assert!(matches!(error.cause, Cause::NoVlans(_)), "{error}");
                        assert_eq!(error.rollback, Rollback::NotNeeded);
                        let said = error.to_string();
                        assert!(said.contains("modprobe 8021q") && said.contains("multinic0.100"), "{said}");
                    }
                }
            }
            // And it is found out without being tried.
            let observed = host.observe().await.unwrap();
            let targets: Vec<_> = support::plan_of(host, &observed, &wanted, &[])
                .changes
                .into_iter()
                .filter_map(|change| change.target)
                .collect();
            assert_eq!(host.survey(&targets).await.unwrap().vlans, Some(false));
            assert_eq!(host.survey(&[]).await.unwrap().vlans, None);
        });
        assert_eq!(world.link(NIC), before);
        assert_eq!(world.addresses(OTHER_NIC), ["198.18.0.5/24"]);
        assert!(world.journal().is_empty());
        assert_eq!(world.read("etc/netplan/90-multinic0.yaml"), None);
        world.converge(&[], &[mac(OTHER_NIC)]);
    });
}

#[test]
fn a_file_of_somebody_else_where_one_of_the_vlan_is_to_be_is_left_alone() {
    if !kernel_has_vlans() {
        println!("passed over: this kernel has no VLANs (8021q)");
        return;
    }
    World::with_backend(Backend::Ifcfg, |world| {
        world.plug(NIC, "ens5");
        let path = "etc/sysconfig/network-scripts/ifcfg-multinic0.100";
        world.write(path, "DEVICE=multinic0.100\nVLAN=yes\n", 0o644);
        world.host(async |host| {
            let outcomes = support::pass(host, &[with(ON_VLAN)], &[]).await;
            let error = outcomes[0].1.as_ref().unwrap_err();
            assert!(
                matches!(error.cause, Cause::NotOurs(_)) && error.rollback == Rollback::NotNeeded,
                "{error}"
            );
        });
        assert_eq!(world.read(path).unwrap(), "DEVICE=multinic0.100\nVLAN=yes\n");
        assert_eq!(world.link(NIC).name, "ens5");
        std::fs::remove_file(world.root.path().join(path)).unwrap();
    });
}

#[test]
fn an_interface_is_on_a_vlan_moves_and_is_taken_away() {
    with_vlans(|world| {
        world.plug(NIC, "ens5");
        let before = foreign(world);
        world.converge(&[with(SOURCED)], &[]);
        assert_eq!(
            (addresses(world, "multinic0"), addresses(world, "multinic0.100")),
            (vec![], ADDRESSES.map(str::to_owned).to_vec())
        );
        let vlan = link(world, "multinic0.100").unwrap();
        assert_eq!((vlan.mtu, vlan.up, vlan.settings.rp_filter), (1450, true, 2));
        assert_eq!(world.node.sysctl("ipv6/conf/multinic0.100/accept_ra").unwrap(), "0");
        for mtu in [1400, 1500] {
            world.converge(&[nic_with(SOURCED, nic(NIC, 0, &ADDRESSES, mtu))], &[]);
        }
        world.converge(&[with(r#"{"vlan": 7}"#)], &[]);
        assert_eq!(link(world, "multinic0.100"), None);
        world.converge(&[with("{}")], &[]);
        assert_eq!(
            (link(world, "multinic0.7"), world.addresses(NIC)),
            (None, ADDRESSES.map(str::to_owned).to_vec())
        );
        world.converge(&[with(SOURCED)], &[]);
        world.converge(&[], &[mac(NIC)]);
        assert_eq!(link(world, "multinic0.100"), None);
        before.assert_same(&foreign(world));
    });
}

#[test]
fn what_somebody_does_to_a_vlan_is_repaired() {
    with_vlans(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[with(SOURCED)], &[]);
        let whole = ours(world);
        for damage in [
            "link del multinic0.100",
            "link set multinic0.100 down",
            "link set multinic0 down",
            "link set multinic0.100 mtu 1300",
            "addr flush dev multinic0.100",
            "route flush table 300",
        ] {
            ip(world, damage);
            world.converge(&[with(SOURCED)], &[]);
            assert_eq!(ours(world), whole, "{damage}");
        }
        // Another VLAN under its name, on the NIC and on a NIC of others.
        for parent in ["multinic0", "ens3"] {
            ip(world, "link del multinic0.100");
            ip(world, &format!("link add link {parent} name multinic0.100 type vlan id 55"));
            world.converge(&[with(SOURCED)], &[]);
            assert_eq!(ours(world), whole, "{parent}");
        }
        // The NIC itself under another name.
        ip(world, "link set multinic0 down");
        ip(world, "link set multinic0 name eth7");
        world.converge(&[with(SOURCED)], &[]);
        assert_eq!(ours(world), whole);
    });
}

#[test]
fn a_vlan_of_somebody_else_on_a_nic_of_ours_is_theirs() {
    with_vlans(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[with("{}")], &[]);
        ip(world, "link add link multinic0 name multinic0.100 type vlan id 100");
        ip(world, "addr add 203.0.113.9/24 dev multinic0.100");
        let whole = ours(world);
        world.host(async |host| {
            let observed = host.observe().await.unwrap();
            let NodePlan { changes, refused, .. } = support::plan_of(host, &observed, &[with(ON_VLAN)], &[]);
            assert!(changes.is_empty());
            assert!(matches!(refused[0].reason, RefusalReason::VlanConflict { .. }), "{refused:?}");
        });
        assert_eq!(ours(world), whole);
        // Beside it there may be one of ours, and it stays when that goes.
        world.converge(&[with(r#"{"vlan": 7}"#)], &[]);
        world.converge(&[with("{}")], &[]);
        assert_eq!(addresses(world, "multinic0.100"), ["203.0.113.9/24"]);
    });
}

#[test]
fn every_backend_keeps_a_vlan_and_reads_its_own_files() {
    for backend in Backend::ALL {
        with_vlans(|world| {
            world.write("etc/backend-of-the-test", backend.name(), 0o644);
            world.plug(NIC, "ens5");
            world.converge(&[with(SOURCED)], &[]);
            let whole = ours(world);
            // Without our memory it is ours by its files.
            std::fs::remove_file(world.root.path().join("var/lib/multinic/state.json")).unwrap();
            world.converge(&[with(SOURCED)], &[]);
            assert_eq!(link(world, "multinic0.100").unwrap().vlan.unwrap().number(), 100);
            assert!(whole.contains("multinic0.100"));
            world.converge(&[with(r#"{"vlan": 7}"#)], &[]);
            world.converge(&[], &[mac(NIC)]);
            let left = Command::new("find")
                .arg(world.root.path().join("etc"))
                .args(["-name", "*multinic0*"])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(left.stdout).unwrap(), "", "{backend:?}");
        });
    }
}

#[test]
#[ignore = "boots another kernel: make test-vlans"]
fn on_a_kernel_that_has_vlans_all_the_others_hold() {
    if !Kernel::supported() {
        return;
    }
    let program = std::env::current_exe().unwrap();
    let limit = Duration::from_secs(900);
    let said = Kernel::get().unwrap().run(&program, &["--test-threads=1", "--nocapture"], limit).unwrap();
    println!("{said}");
    assert!(said.contains("passed over: this kernel has VLANs"));
    assert!(!said.contains("passed over: this kernel has no VLANs"));
}

/// Not a test of its own: what the next ones start.
#[test]
fn worker() {
    let Some(root) = std::env::var_os("MULTINIC_TEST_ROOT") else { return };
    let wanted = std::env::var("MULTINIC_TEST_OPTIONS").unwrap();
    support::block_on(async {
        let mut host = Host::open(support::options(root.as_ref())).unwrap();
        let wanted: Vec<DesiredNic> = (wanted != "none").then(|| with(&wanted)).into_iter().collect();
        let releases: Vec<_> = wanted.is_empty().then(|| mac(NIC)).into_iter().collect();
        for (_, result) in support::pass(&mut host, &wanted, &releases).await {
            println!("{result:?}");
            assert!(result.is_err_and(|error| error.is_as_before()));
        }
    });
}

/// Has another process change our NIC with a fault, which it meets.
fn broken(world: &World, options: &str, fault: &str) {
    let mut command = world.node.command(std::env::current_exe().unwrap());
    command.args(["worker", "--exact", "--nocapture"]).env("MULTINIC_TEST_ROOT", world.root.path());
    command.env("MULTINIC_TEST_OPTIONS", options).env(faults::VARIABLE, fault);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let met =
        if fault.ends_with("fail") { output.status.success() } else { output.status.signal() == Some(9) };
    assert!(met, "{options} {fault}: {said}");
}

const MOVED: &str = r#"{"vlan": 7}"#;
const GONE: &str = "none";

/// What is changed into what, and what can go wrong in between.
const CASES: [(&str, &str, &[&str]); 4] = [
    (
        "{}",
        SOURCED,
        &[
            "step.add_vlan",
            "step.set_mtu",
            "step.set_up",
            "step.add_route",
            "step.add_rule",
            "step.write_file",
            "verify.done",
        ],
    ),
    (
        SOURCED,
        "{}",
        &["step.remove_vlan", "step.remove_rule", "step.add_address", "step.write_file", "verify.done"],
    ),
    (SOURCED, MOVED, &["step.remove_vlan", "step.add_vlan", "step.set_up", "step.write_file", "verify.done"]),
    (SOURCED, GONE, &["step.remove_vlan", "step.set_down", "step.rename", "step.remove_file", "verify.done"]),
];

#[test]
fn a_failure_leaves_every_vlan_as_it_was() {
    for (before, after, points) in CASES {
        with_vlans(|world| {
            world.plug(NIC, "ens5");
            world.converge(&[with(before)], &[]);
            let whole = ours(world);
            for point in points {
                broken(world, after, &format!("{point}=fail"));
                assert_eq!(ours(world), whole, "{before} {after} {point}");
                assert!(world.journal().is_empty());
            }
        });
    }
}

#[test]
fn a_death_leaves_every_vlan_as_it_was() {
    for (before, after, points) in CASES {
        with_vlans(|world| {
            world.plug(NIC, "ens5");
            world.converge(&[with(before)], &[]);
            let whole = ours(world);
            for point in points {
                broken(world, after, &format!("{point}=kill"));
                world.host(async |host| {
                    let outcomes: Vec<Recovery> = host
                        .recover()
                        .await
                        .unwrap()
                        .into_iter()
                        .map(|recovered| recovered.outcome)
                        .collect();
                    assert_eq!(outcomes, [Recovery::RolledBack], "{before} {after} {point}");
                });
                assert_eq!(ours(world), whole, "{before} {after} {point}");
            }
        });
    }
}
