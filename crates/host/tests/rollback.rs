//! Changes that fail for real: everything is as before, live and on disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing loudly"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use multinic_core::node::NicTarget;
use multinic_host::backend::Backend;
use multinic_host::backend::netplan::check::Check;
use multinic_host::{ApplyError, Cause, CheckWith, FailureKind, Options, Rollback};
use multinic_testbed::node::NewRoute;
use support::{NIC, World, mac, net, nic, nic_with, options, pass};

/// Makes a pass whose only change fails.
fn failure(world: &World, options: Options, wanted: &[multinic_core::desired::DesiredNic]) -> ApplyError {
    world.host_with(options, async |host| {
        let mut done = pass(host, wanted, &[]).await;
        assert_eq!(done.len(), 1, "{done:?}");
        done.remove(0).1.unwrap_err()
    })
}

#[test]
fn a_new_nic_whose_address_the_kernel_refuses_is_as_before() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.node.add_altname("ens5", "multinic0").unwrap();
        world.node.set_sysctl("ipv6/conf/ens5/disable_ipv6", "1").unwrap();
        let before = world.ours();
        let wanted = [nic(NIC, 0, &["192.0.2.10/24", "2001:db8::10/64"], 1450)];
        let error = failure(world, options(world.root.path()), &wanted);
        assert_eq!((error.kind(), &error.rollback), (FailureKind::Kernel, &Rollback::Verified));
        let text = error.to_string();
        assert!(text.contains("cannot add 2001:db8::10/64 to multinic0"), "{text}");
        assert!(text.contains("Permission denied"), "{text}");
        assert_eq!(world.ours(), before);
        assert!(world.journal().is_empty());
        world.node.set_sysctl("ipv6/conf/ens5/disable_ipv6", "0").unwrap();
        world.converge(&wanted, &[]);
    });
}

#[test]
fn a_lease_is_given_back_with_its_lifetime_and_its_routes() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.node.set_up("ens5").unwrap();
        world.node.add_address("ens5", net("192.0.2.77/24"), Some(3600)).unwrap();
        let gateway = Some("192.0.2.1".parse().unwrap());
        let protocol = 16.into();
        let to = net("0.0.0.0/0");
        let lease = NewRoute { link: "ens5", to, gateway, protocol, table: 254, metric: 100 };
        world.node.add_route(lease).unwrap();
        let before = world.ours();
        let error = failure(world, refusing(world), &[nic(NIC, 0, &["192.0.2.10/24"], 1450)]);
        assert_eq!(error.rollback, Rollback::Verified, "{error}");
        assert_eq!(world.ours(), before);
        assert_eq!(world.addresses(NIC), ["192.0.2.77/24~"]);
    });
}

#[test]
fn an_address_is_given_back_with_its_label_and_the_metric_of_its_route() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let sourced = r#"{"sourceRouting": {"enabled": true, "tableBase": 300}}"#;
        let first = nic_with(sourced, nic(NIC, 0, &["192.0.2.10/24", "192.0.2.11/25"], 1450));
        world.converge(std::slice::from_ref(&first), &[]);
        world.ip("address flush dev multinic0 scope global");
        world.ip("address add 192.0.2.10/24 dev multinic0 label multinic0:vip metric 50");
        world.ip("address add 192.0.2.11/25 dev multinic0 broadcast 192.0.2.99 scope link");
        let before = (world.ip("-4 address show multinic0"), world.ip("-4 route show dev multinic0"));
        let without = sourced.replacen('{', r#"{"noPrefixRoute": true, "#, 1);
        let error = failure(world, refusing(world), &[nic_with(&without, first)]);
        assert_eq!(error.rollback, Rollback::Verified, "{error}");
        assert_eq!((world.ip("-4 address show multinic0"), world.ip("-4 route show dev multinic0")), before);
    });
}

/// With a netplan that understands nothing.
fn refusing(world: &World) -> Options {
    let program = world.root.path().join("var/lib/multinic/refuse");
    world.write("var/lib/multinic/refuse", "#!/bin/sh\necho 'what is this?' >&2\nexit 78\n", 0o755);
    Options { check: CheckWith::Program(program), ..options(world.root.path()) }
}

#[test]
fn a_file_that_netplan_refuses_is_not_put_in_place() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let first = [nic(NIC, 0, &["192.0.2.10/24", "192.0.2.11/24"], 1450)];
        world.converge(&first, &[]);
        let before = world.ours();
        let error = failure(world, refusing(world), &[nic(NIC, 0, &["192.0.2.20/24"], 1400)]);
        let text = error.to_string();
        assert!(text.contains("what is this?"), "{text}");
        assert!(matches!(error.cause, Cause::Check(_)));
        assert_eq!(error.rollback, Rollback::Verified);
        assert_eq!(world.ours(), before);
        world.converge(&first, &[]);
    });
}

#[test]
fn a_netplan_that_ends_with_success_and_makes_nothing_or_less_is_not_believed() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let before = world.ours();
        let program = world.root.path().join("var/lib/multinic/liar");
        let makes = |lines: &str| {
            format!(
                "#!/bin/sh\nmkdir -p $2/run/systemd/network\n\
                 printf '{lines}' > $2/run/systemd/network/10-netplan-multinic0.network\n"
            )
        };
        let cases = [
            ("#!/bin/sh\n".to_owned(), "it makes no run/systemd/network/10-netplan-multinic0.network"),
            (makes("[Network]\\nAddress=192.0.2.10/24\\n"), "lacks 2001:db8::10/64"),
            (makes("[Network]\\nAddress=192.0.2.10/32\\n"), "lacks 192.0.2.10/24"),
        ];
        for (script, fault) in cases {
            world.write("var/lib/multinic/liar", &script, 0o755);
            let options =
                Options { check: CheckWith::Program(program.clone()), ..options(world.root.path()) };
            let wanted = [nic(NIC, 0, &["192.0.2.10/24", "2001:db8::10/64"], 1450)];
            let error = failure(world, options, &wanted);
            assert!(error.to_string().contains(fault), "{error}");
            assert_eq!((error.rollback, world.ours()), (Rollback::Verified, before.clone()));
        }
    });
}

#[test]
fn a_wicked_that_cannot_be_told_is_said() {
    World::with(|world| {
        let unchecked = |backend| {
            let options = Options { backend: Some(backend), ..options(world.root.path()) };
            world.host_with(options, async |host| host.unchecked())
        };
        assert_eq!(unchecked(Backend::Wicked), None, "it does not run");
        fs::create_dir_all(world.root.path().join("run/wicked")).unwrap();
        let said = unchecked(Backend::Wicked).unwrap();
        assert_eq!(said.reason, "WickedNotTold");
        assert!(said.why.contains("container"), "{}", said.why);
        assert_eq!(unchecked(Backend::Networkd), None);
    });
}

#[test]
fn a_netplan_that_cannot_be_run_is_said_and_fails_nothing() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let program = world.root.path().join("usr/libexec/netplan/generate");
        let options = Options { check: CheckWith::Program(program), ..options(world.root.path()) };
        world.host_with(options, async |host| {
            assert_eq!(host.unchecked(), None);
            for (_, result) in pass(host, &[nic(NIC, 0, &["192.0.2.10/24"], 1450)], &[]).await {
                result.unwrap();
            }
            let said = host.unchecked().unwrap();
            assert_eq!(said.reason, "NetplanNotAsked");
            assert!(said.why.contains("netplan/generate cannot be run: "), "{}", said.why);
            assert_eq!(host.owned().len(), 1);
        });
        let mounted = Options { check: CheckWith::Installed, ..support::options(world.root.path()) };
        let said = world.host_with(mounted, async |host| host.unchecked());
        assert!(said.unwrap().why.contains("container"));
    });
}

#[test]
fn the_real_netplan_understands_every_shape_where_it_is_installed() {
    let Some(check) = Check::find() else { return };
    let shapes: [&[&str]; 6] = [
        &[],
        &["192.0.2.10/24"],
        &["2001:db8::10/64"],
        &["192.0.2.10/24", "192.0.2.11/24"],
        &["2001:db8::10/64", "2001:db8::11/128"],
        &["192.0.2.10/31", "2001:db8::10/64", "192.0.2.11/32"],
    ];
    let plain = shapes.map(|addresses| nic(NIC, 12, addresses, 1450));
    let on_vlan = ["{\"vlan\": 100}", "{\"vlan\": 4094, \"sourceRouting\": {\"enabled\": true}}"]
        .map(|options| nic_with(options, nic(NIC, 12, &["192.0.2.10/24", "2001:db8::10/64"], 1450)));
    for wanted in plain.into_iter().chain(on_vlan) {
        let target = NicTarget {
            mac: wanted.mac,
            options: wanted.options.resolve(wanted.slot.unwrap()),
            name: wanted.slot.unwrap().interface(),
            addresses: wanted.addresses,
            mtu: wanted.mtu,
        };
        support::block_on(check.check(&target)).unwrap();
    }
}

#[test]
fn netplan_is_asked_once_for_files_of_one_shape() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let program = world.root.path().join("var/lib/multinic/count");
        let script = "#!/bin/sh\n[ \"$1\" = --root-dir ] && [ \"$(ls $2/etc/netplan)\" = 90-multinic0.yaml ] \
                      && echo asked >> \"$(dirname \"$0\")/asked\" && mkdir -p $2/run/systemd/network \
                      && { echo '[Network]'; sed -n 's/^ *- \"\\(.*\\)\"/Address=\\1/p' $2/etc/netplan/*; } \
                      > $2/run/systemd/network/10-netplan-multinic0.network\n";
        world.write("var/lib/multinic/count", script, 0o755);
        let options = Options { check: CheckWith::Program(program), ..options(world.root.path()) };
        world.host_with(options, async |host| {
            for address in ["192.0.2.10/24", "192.0.2.11/24", "2001:db8::1/64"] {
                for (_, result) in pass(host, &[nic(NIC, 0, &[address], 1450)], &[]).await {
                    result.unwrap();
                }
            }
        });
        assert_eq!(world.read("var/lib/multinic/asked").unwrap(), "asked\nasked\n");
    });
}

#[test]
fn a_netplan_directory_that_leads_elsewhere_is_not_followed() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let before = world.ours();
        let elsewhere = tempfile::tempdir().unwrap();
        let (netplan, aside) =
            (world.root.path().join("etc/netplan"), world.root.path().join("etc/netplan.aside"));
        fs::rename(&netplan, &aside).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &netplan).unwrap();
        let error = world.host(async |host| host.observe().await.unwrap_err());
        assert!(error.to_string().contains("leads out of"), "{error}");
        fs::remove_file(&netplan).unwrap();
        fs::rename(&aside, &netplan).unwrap();
        assert_eq!(world.ours(), before);
    });
}

#[test]
fn a_nic_that_goes_away_under_a_change_leaves_no_file() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let program = world.root.path().join("var/lib/multinic/go");
        world.write(
            "var/lib/multinic/go",
            "#!/bin/sh\n: > \"$0.on\"; while [ ! -e \"$0.gone\" ]; do :; done\n",
            0o755,
        );
        let options = Options { check: CheckWith::Program(program), ..options(world.root.path()) };
        let error = std::thread::scope(|scope| {
            let failing = scope.spawn(|| failure(world, options, &[nic(NIC, 0, &["192.0.2.10/24"], 1450)]));
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while world.read("var/lib/multinic/go.on").is_none() {
                assert!(std::time::Instant::now() < deadline, "netplan was not asked");
                std::thread::yield_now();
            }
            world.switch.unplug(mac(NIC)).unwrap();
            world.write("var/lib/multinic/go.gone", "", 0o600);
            failing.join().unwrap()
        });
        assert_eq!(error.rollback, Rollback::Verified, "{error}");
        assert_eq!(world.read("etc/netplan/90-multinic0.yaml"), None);
    });
}

#[test]
fn an_edited_file_is_backed_up_before_it_is_replaced() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let wanted = [nic(NIC, 0, &["192.0.2.10/24"], 1450)];
        world.converge(&wanted, &[]);
        world.write("etc/netplan/90-multinic0.yaml", "network: {} # mine\n", 0o600);
        world.converge(&wanted, &[]);
        let backups = world.backups();
        assert_eq!(backups.len(), 1);
        let backup = world.root.path().join("var/lib/multinic/backups").join(&backups[0]);
        assert_eq!(fs::read_to_string(&backup).unwrap(), "network: {} # mine\n");
        assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    });
}
