//! Options of an interface on real links: set, verified, rolled back, taken away, and nothing of others touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use multinic_core::desired::DesiredNic;
use multinic_core::node::observed::Observed;
use multinic_host::backend::Backend;
use multinic_host::faults;
use multinic_testbed::node::{ForeignState, NewRoute};
use support::{NIC, OTHER_NIC, World, mac, net, nic, nic_with};

const ADDRESSES: [&str; 2] = ["192.0.2.10/24", "2001:db8::10/64"];

fn with(options: &str) -> DesiredNic {
    nic_with(options, nic(NIC, 0, &ADDRESSES, 1450))
}

const SOURCED: &str = r#"{"rpFilter": "loose", "sourceRouting": {"enabled": true, "tableBase": 300},
    "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}, {"to": "::/0", "via": "fe80::1"}]}"#;

/// What our NIC has of routes, but what the kernel makes by itself.
fn routes(world: &World) -> Vec<String> {
    let observed = world.observed();
    let index = world.link(NIC).index;
    let ours = observed.routes_of(index).chain(observed.other_tables_of(index));
    let ours = ours.filter(|route| !route.destination.to_string().starts_with("fe80:"));
    let mut texts: Vec<String> = ours
        .map(|route| {
            let via = route.gateway.map(|via| format!(" via {via}")).unwrap_or_default();
            format!("{} in {}{via}", route.destination, route.table)
        })
        .collect();
    texts.sort();
    texts
}

/// The rules that are not the kernel's.
fn rules(observed: &Observed) -> Vec<String> {
    let rules = observed.rules.iter().filter_map(|rule| Some((rule, rule.from?)));
    rules.map(|(rule, from)| format!("{}: {from} in {}", rule.priority, rule.table)).collect()
}

#[test]
fn arp_stays_with_its_own_nic_and_only_there() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[with("{}")], &[]);
        for (link, ignore, announce) in [("multinic0", "1", "2"), ("ens3", "0", "0"), ("all", "0", "0")] {
            let read = |key: &str| world.node.sysctl(&format!("ipv4/conf/{link}/{key}")).unwrap();
            assert_eq!(
                (read("arp_ignore"), read("arp_announce")),
                (ignore.to_owned(), announce.to_owned()),
                "{link}"
            );
        }
        assert!(world.read("etc/sysctl.d/90-multinic0.conf").unwrap().contains("multinic0.arp_ignore = 1"));
        world.node.set_sysctl("ipv4/conf/multinic0/arp_ignore", "0").unwrap();
        world.converge(&[with("{}")], &[]);
        assert_eq!(world.node.sysctl("ipv4/conf/multinic0/arp_ignore").unwrap(), "1");
        world.converge(&[], &[mac(NIC)]);
        assert_eq!(world.node.sysctl("ipv4/conf/ens5/arp_ignore").unwrap(), "0");
        assert_eq!(world.read("etc/sysctl.d/90-multinic0.conf"), None);
    });
}

#[test]
fn routes_are_added_repaired_replaced_and_taken_away() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let one =
            r#"{"routes": [{"to": "203.0.113.0/24", "via": "192.0.2.1", "metric": 50}, {"to": "fd00::/8"}]}"#;
        world.converge(&[with(one)], &[]);
        let own = ["192.0.2.0/24 in 254", "2001:db8::/64 in 254"];
        let expected = [&own[..], &["203.0.113.0/24 in 254 via 192.0.2.1", "fd00::/8 in 254"]].concat();
        assert_eq!(routes(world), expected);
        // The kernel takes the routes of a link that goes down.
        world.node.set_down("multinic0").unwrap();
        world.converge(&[with(one)], &[]);
        assert_eq!(routes(world), expected);
        world.converge(&[with(r#"{"routes": [{"to": "fd00::/8", "metric": 9}]}"#)], &[]);
        assert_eq!(routes(world), [&own[..], &["fd00::/8 in 254"]].concat());
        world.converge(&[], &[mac(NIC)]);
        assert!(routes(world).is_empty());
    });
}

#[test]
fn source_routing_comes_and_goes_and_leaves_others_alone() {
    World::unwatched(|world| {
        world.plug(NIC, "ens5");
        let before = ForeignState::capture(&world.node, world.root.path(), &[mac(NIC)]).unwrap();
        world.converge(&[with("{}")], &[]);
        // Somebody's route over our NIC, in a table of theirs.
        let theirs = NewRoute {
            link: "multinic0",
            to: net("203.0.113.0/24"),
            gateway: None,
            protocol: 4.into(),
            table: 77,
            metric: 5,
        };
        world.node.add_route(theirs).unwrap();
        world.converge(&[with(SOURCED)], &[]);
        let expected = [
            "0.0.0.0/0 in 300 via 192.0.2.1",
            "192.0.2.0/24 in 254",
            "192.0.2.0/24 in 300",
            "2001:db8::/64 in 254",
            "2001:db8::/64 in 300",
            "203.0.113.0/24 in 77",
            "::/0 in 300 via fe80::1",
        ];
        assert_eq!(routes(world), expected);
        let both = ["10300: 192.0.2.10/32 in 300", "10300: 2001:db8::10/128 in 300"];
        assert_eq!(rules(&world.observed()), both);
        assert_eq!(world.node.sysctl("ipv4/conf/multinic0/rp_filter").unwrap(), "2");
        world.converge(&[with(r#"{"sourceRouting": {"enabled": true, "tableBase": 400}}"#)], &[]);
        let moved = ["10400: 192.0.2.10/32 in 400", "10400: 2001:db8::10/128 in 400"];
        assert_eq!(rules(&world.observed()), moved);
        assert!(routes(world).iter().all(|route| !route.contains("in 300")));
        world.converge(&[with("{}")], &[]);
        assert!(rules(&world.observed()).is_empty());
        assert_eq!(routes(world), ["192.0.2.0/24 in 254", "2001:db8::/64 in 254", "203.0.113.0/24 in 77"]);
        world.converge(&[with(SOURCED)], &[]);
        world.converge(&[], &[mac(NIC)]);
        before.assert_same(&ForeignState::capture(&world.node, world.root.path(), &[mac(NIC)]).unwrap());
    });
}

#[test]
fn a_rule_of_ours_goes_whoever_set_it() {
    World::unwatched(|world| {
        let ip = |arguments: &str| {
            let status = world.node.command("ip").args(arguments.split(' ')).status().unwrap();
            assert!(status.success(), "{arguments}");
        };
        world.plug(NIC, "ens5");
        for release in [false, true] {
            world.converge(&[with(SOURCED)], &[]);
            // As an older systemd-networkd sets them at a boot, and a person by hand.
            for (family, from) in [("-4", "192.0.2.10"), ("-6", "2001:db8::10")] {
                let rule = format!("from {from} lookup 300 priority 10300");
                ip(&format!("{family} rule del {rule}"));
                ip(&format!("{family} rule add {rule} protocol boot"));
            }
            let own = |observed: Observed| rules(&observed).len();
            assert_eq!(own(world.observed()), 2);
            if release {
                world.converge(&[], &[mac(NIC)]);
            } else {
                world.converge(&[with("{}")], &[]);
            }
            assert_eq!(own(world.observed()), 0);
        }
    });
}

#[test]
fn what_others_set_stays_when_the_address_or_the_name_is_set_right() {
    World::unwatched(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[with(SOURCED)], &[]);
        for theirs in [
            "address add 192.0.2.99/24 dev multinic0 label multinic0:vip",
            "address add 2001:db8::99/64 dev multinic0 nodad noprefixroute preferred_lft 0",
            "route add 203.0.113.0/24 dev multinic0 table 77 proto static",
            "route add 203.0.113.0/25 dev multinic0 metric 7",
            "-6 route add fd00::/8 via fe80::7 dev multinic0",
        ] {
            world.ip(theirs);
        }
        let of_others = || {
            let all = ["-o address show multinic0", "route show table all", "-6 route show"];
            let all = all.map(|arguments| world.ip(arguments)).concat();
            let theirs = ["192.0.2.99/24", "2001:db8::99/64", "203.0.113.0/", "fd00::/8"];
            let found = all.lines().filter(|line| theirs.iter().any(|theirs| line.contains(theirs)));
            found.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = of_others();
        // The kernel drops all IPv4 routes of a link with its last address, and that of others with its primary one.
        let moved = nic_with(SOURCED, nic(NIC, 0, &["192.0.2.11/24", "2001:db8::10/64"], 1450));
        world.converge(std::slice::from_ref(&moved), &[]);
        assert_eq!(of_others(), before);
        // It drops all routes and IPv6 addresses of one that goes down.
        world.ip("link set multinic0 name stolen0");
        world.converge(&[moved], &[]);
        assert_eq!(of_others(), before);
        world.converge(&[], &[mac(NIC)]);
    });
}

#[test]
fn without_a_prefix_route_the_main_table_does_not_know_the_network() {
    World::unwatched(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[with(r#"{"sourceRouting": {"enabled": true}}"#)], &[]);
        let without = with(r#"{"noPrefixRoute": true, "sourceRouting": {"enabled": true}}"#);
        world.converge(std::slice::from_ref(&without), &[]);
        assert_eq!(routes(world), ["192.0.2.0/24 in 100", "2001:db8::/64 in 100"]);
        assert_eq!(world.addresses(NIC), ADDRESSES);
        world.node.set_down("multinic0").unwrap();
        world.converge(&[without], &[]);
        assert_eq!(routes(world), ["192.0.2.0/24 in 100", "2001:db8::/64 in 100"]);
        world.converge(&[with(r#"{"sourceRouting": {"enabled": true}}"#)], &[]);
        assert_eq!(routes(world).len(), 4);
        world.converge(&[], &[mac(NIC)]);
    });
}

#[test]
fn two_nics_in_one_subnet_are_each_reached_by_their_own() {
    World::unwatched(|world| {
        let sourced = |mac: &str, slot, address: &str| {
            // The node has somebody's routes in table 100.
            let options = r#"{"sourceRouting": {"enabled": true, "tableBase": 300},
                "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}]}"#;
            nic_with(options, nic(mac, slot, &[address], 1450))
        };
        world.plug(NIC, "ens5");
        world.plug(OTHER_NIC, "ens6");
        world.converge(&[sourced(NIC, 0, "192.0.2.10/24"), sourced(OTHER_NIC, 1, "192.0.2.11/24")], &[]);
        let way = |from: &str| {
            let mut command = world.node.command("ip");
            command.args(["route", "get", "203.0.113.7", "from", from]);
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        for (from, link) in [("192.0.2.10", "multinic0"), ("192.0.2.11", "multinic1")] {
            assert!(way(from).contains(&format!("dev {link}")), "{}", way(from));
        }
        world.converge(&[], &[mac(NIC), mac(OTHER_NIC)]);
    });
}

#[test]
fn every_backend_keeps_all_options_and_reads_its_own_files() {
    for backend in Backend::ALL {
        World::unwatched(|world| {
            world.write("etc/backend-of-the-test", backend.name(), 0o644);
            world.plug(NIC, "ens5");
            world.converge(&[with(SOURCED)], &[]);
            world.converge(&[], &[mac(NIC)]);
            for (_, path) in multinic_host::backend::places::of("multinic0".parse().unwrap()) {
                assert_eq!(world.read(&path.to_string_lossy()), None, "{backend:?}");
            }
        });
    }
}

#[test]
fn an_ipv6_address_is_set_once_no_other_host_was_found_to_have_it() {
    World::unwatched(|world| {
        let own = net("2001:db8::10/64");
        world.node.set_sysctl("ipv6/conf/default/dad_transmits", "1").unwrap();
        world.plug(NIC, "ens5");
        let apply = |wanted: &DesiredNic| {
            world.host(async |host| {
                for (change, result) in support::pass(host, std::slice::from_ref(wanted), &[]).await {
                    result.unwrap_or_else(|error| panic!("{change:?}: {error}"));
                }
                // At once: nobody waits for the kernel any more.
                let observed = host.observe().await.unwrap();
                let plan = support::plan_of(host, &observed, std::slice::from_ref(wanted), &[]);
                let address = observed.addresses.into_iter().find(|address| address.net == own).unwrap();
                assert_eq!((plan.changes.len(), plan.settled.len()), (0, 1), "{plan:?}");
                (address.tentative, plan.settled[0].duplicates.clone())
            })
        };
        let wanted = nic(NIC, 0, &ADDRESSES, 1450);
        assert_eq!(apply(&wanted), (false, vec![]));
        world.converge(&[], &[mac(NIC)]);

        // Another host has it, and was there first.
        let other = multinic_testbed::node::NetNs::new("other").unwrap();
        other.set_sysctl("ipv6/conf/default/dad_transmits", "0").unwrap();
        world.switch.plug(&other, mac("fa:16:3e:00:00:0f"), "ens5", 1500, "data").unwrap();
        other.set_up("ens5").unwrap();
        other.add_address("ens5", own, None).unwrap();
        // Until the kernel is done with it, either could be the one that gives way.
        ForeignState::capture(&other, world.root.path(), &[]).unwrap();
        let (_, duplicates) = apply(&wanted);
        assert_eq!(duplicates, [own]);
    });
}

/// The options that it is to set.
const WANTED: &str = "MULTINIC_TEST_WANTED";

/// Not a test of its own: what the next one starts.
#[test]
fn worker() {
    let Some(root) = std::env::var_os("MULTINIC_TEST_ROOT") else { return };
    let wanted = with(&std::env::var(WANTED).unwrap());
    support::block_on(async {
        let mut host = multinic_host::Host::open(support::options(root.as_ref())).unwrap();
        let outcomes = support::pass(&mut host, &[wanted], &[]).await;
        assert_eq!(outcomes.len(), 1);
        assert!(
            outcomes
                .iter()
                .all(|(_, result)| result.as_ref().is_err_and(multinic_host::ApplyError::is_as_before))
        );
    });
}

/// Makes a pass in another program that fails at this point, and checks that all is as before.
fn fails(world: &World, wanted: &str, point: &str) {
    let before = || {
        let routes = routes(world);
        let foreign = ForeignState::capture(&world.node, world.root.path(), &[mac(NIC)]).unwrap();
        // The kernel asks again whether another host has an address that comes back.
        let addresses = world.ip("address show multinic0").replace(" tentative", "");
        (world.ours(), routes, addresses, foreign)
    };
    let (ours, routes, addresses, foreign) = before();
    let mut command = world.node.command(std::env::current_exe().unwrap());
    command.args(["worker", "--exact"]).env("MULTINIC_TEST_ROOT", world.root.path()).env(WANTED, wanted);
    command.env(faults::VARIABLE, format!("{point}=fail"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{point}: {}", String::from_utf8_lossy(&output.stdout));
    let now = before();
    assert_eq!((now.0, now.1, now.2), (ours, routes, addresses), "{point}");
    foreign.assert_same(&now.3);
}

#[test]
fn a_failure_after_routes_and_rules_leaves_none_of_them() {
    for point in ["step.set", "step.add_route", "step.add_rule", "verify.done"] {
        World::unwatched(|world| {
            world.plug(NIC, "ens5");
            world.converge(&[with(r#"{"strictArp": false}"#)], &[]);
            fails(world, SOURCED, point);
            world.converge(&[with(SOURCED)], &[]);
        });
    }
}

#[test]
fn a_rule_that_is_put_back_is_still_said_to_be_its_setter_s() {
    World::unwatched(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[with(SOURCED)], &[]);
        let rule = "rule {} from 192.0.2.10 lookup 300 priority 10300";
        world.ip(&rule.replace("{}", "del"));
        world.ip(&format!("{} protocol 77", rule.replace("{}", "add")));
        let told = || world.ip("-details rule show priority 10300");
        let before = told();
        assert!(before.contains("proto 77"), "{before}");
        for point in ["step.remove_rule", "verify.done"] {
            fails(world, "{}", point);
            assert_eq!(told(), before, "{point}");
        }
    });
}

#[test]
fn a_failure_after_the_prefix_route_has_come_or_gone_leaves_it_as_it_was() {
    let (with_it, without_it) = (SOURCED, SOURCED.replacen('{', r#"{"noPrefixRoute": true, "#, 1));
    for (first, then) in [(with_it, without_it.as_str()), (&without_it, with_it)] {
        for point in ["step.remove_address", "step.add_address", "verify.done"] {
            World::unwatched(|world| {
                world.plug(NIC, "ens5");
                world.converge(&[with(first)], &[]);
                fails(world, then, point);
                world.converge(&[with(then)], &[]);
            });
        }
    }
}
