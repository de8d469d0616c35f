//! What the kernel shows, as values and as events.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing loudly"
)]

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use multinic_core::node::RefusalReason;
use multinic_core::node::observed::{Found, RouteOrigin};
use multinic_core::node::preflight::Obstacle;
use multinic_host::{Access, Anchors, Event, Events, Host, Options};
use multinic_testbed::node::{ForeignState, NetNs, NewRoute, Switch};
use support::{FOREIGN, NIC, OTHER_NIC, World, block_on, mac, net, nic, options, plan_of};

/// Why a NIC is left alone.
fn obstacles(world: &World, mac_address: &str) -> Vec<Obstacle> {
    world.host(async |host| refused(host, mac_address).await)
}

async fn refused(host: &Host, mac_address: &str) -> Vec<Obstacle> {
    let observed = host.observe().await.unwrap();
    let planned = plan_of(host, &observed, &[nic(mac_address, 0, &["192.0.2.10/24"], 1450)], &[]);
    match &planned.refused[0].reason {
        RefusalReason::InUse(obstacles) => obstacles.clone(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_link_that_is_made_of_another_does_not_hide_it() {
    World::with(|world| {
        let index = world.plug(NIC, "ens5");
        world.node.add_macvlan("mv1", "ens5", &mac(NIC).bytes()).unwrap();
        let observed = world.observed();
        assert!(observed.by_name("mv1").unwrap().stacked);
        assert!(observed.by_name("cni0").unwrap().stacked);
        assert!(!observed.by_name("ens3").unwrap().stacked);
        let Found::One(link) = observed.find(mac(NIC)) else { panic!("{observed:?}") };
        assert_eq!((link.index, link.name.as_str(), link.up, link.mtu), (index, "ens5", false, 1500));
        // It is somebody's, down as it is.
        assert_eq!(obstacles(world, NIC), [Obstacle::HasLinks]);
    });
}

#[test]
fn only_what_is_on_top_of_a_link_is_lost_with_it() {
    World::with(|world| {
        let index = world.plug(NIC, "ens5");
        let wanted = nic(NIC, 0, &["192.0.2.10/24"], 1450);
        world.converge(std::slice::from_ref(&wanted), &[]);
        world.node.add_macvlan("mv1", "multinic0", &mac(OTHER_NIC).bytes()).unwrap();
        world.node.set_up("mv1").unwrap();
        world.node.add_address("mv1", net("192.0.2.99/24"), None).unwrap();
        let observed = world.observed();
        let lower = |name: &str| observed.by_name(name).unwrap().lower;
        assert_eq!(
            (lower("mv1"), lower("mv0")),
            (Some(index), Some(observed.by_name("ens3").unwrap().index))
        );
        // What a veth says is its peer's number, in another namespace.
        for name in ["lo", "multinic0", "ens3", "cni0"] {
            assert_eq!(lower(name), None, "{name}");
        }
        world.converge(std::slice::from_ref(&wanted), &[]);
        let node_addresses = ["192.0.2.99".parse().unwrap()].into();
        let anchors = Anchors { node_addresses, ..Anchors::default() };
        let options = Options { anchors, access: Access::Read, ..options(world.root.path()) };
        world.host_with(options, async |host| {
            let observed = host.observe().await.unwrap();
            let larger = nic(NIC, 0, &["192.0.2.10/24"], 1400);
            for planned in
                [plan_of(host, &observed, &[larger], &[]), plan_of(host, &observed, &[], &[mac(NIC)])]
            {
                assert!(planned.changes.is_empty(), "{planned:?}");
                assert_eq!(planned.refused[0].reason, RefusalReason::InUse(vec![Obstacle::NodeAddress]));
            }
        });
    });
}

#[test]
fn leases_other_names_and_masters_are_seen() {
    World::unwatched(|world| {
        world.plug(NIC, "ens5");
        world.node.add_bridge("br1").unwrap();
        world.node.enslave("ens5", "br1").unwrap();
        let observed = world.observed();
        let (ens3, ens5, bridge) = ["ens3", "ens5", "br1"].map(|name| observed.by_name(name).unwrap()).into();
        assert_eq!(ens3.altnames, ["enp0s3"]);
        assert_eq!(ens5.master, Some(bridge.index));
        assert_eq!(obstacles(world, NIC), [Obstacle::Enslaved]);
        let lease = observed.addresses_of(ens3.index).find(|address| address.net == net("198.51.100.5/24"));
        assert!(lease.unwrap().dynamic);
        let fixed = observed.addresses_of(ens3.index).find(|address| address.net == net("2001:db8:f::5/64"));
        assert!(!fixed.unwrap().dynamic);
    });
}

#[test]
fn routes_of_the_main_table_tell_who_set_them() {
    World::with(|world| {
        let observed = world.observed();
        let ens3 = observed.by_name("ens3").unwrap();
        let origin = |to: &str| {
            let found: Vec<_> =
                observed.routes_of(ens3.index).filter(|route| route.destination == net(to)).collect();
            assert_eq!(found.len(), 1, "{to}: {found:?}");
            found[0].origin
        };
        assert_eq!(origin("0.0.0.0/0"), RouteOrigin::Dynamic);
        // There is another one in table 100.
        assert_eq!(origin("203.0.113.0/24"), RouteOrigin::Static);
        assert_eq!(origin("198.51.100.0/24"), RouteOrigin::Kernel);
        assert_eq!(origin("::/0"), RouteOrigin::Static);
        let default = observed.routes_of(ens3.index).find(|route| route.is_default()).unwrap();
        assert_eq!((default.gateway, default.metric), (Some("198.51.100.1".parse().unwrap()), 50));
    });
}

#[test]
fn the_way_to_the_source_is_found_and_left_alone() {
    World::with(|world| {
        let addresses = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let source_addresses: BTreeSet<IpAddr> = addresses(&["192.0.2.200", "2001:db8:aaaa::1", "127.0.0.1"]);
        let anchors = Anchors { node_addresses: addresses(&["198.51.100.5"]), source_addresses };
        let options = Options { anchors, access: Access::Read, ..options(world.root.path()) };
        let (observed, obstacles) = world
            .host_with(options, async |host| (host.observe().await.unwrap(), refused(host, FOREIGN).await));
        let ens3 = observed.by_name("ens3").unwrap();
        assert_eq!(observed.lifelines.source_links, [1, ens3.index].into());
        for obstacle in [Obstacle::NodeAddress, Obstacle::SourcePath, Obstacle::DefaultRoute] {
            assert!(obstacles.contains(&obstacle), "{obstacles:?}");
        }
    });
}

#[test]
fn what_cannot_be_reached_has_no_link() {
    let node = NetNs::new("lonely").unwrap();
    let root = tempfile::tempdir().unwrap();
    let source_addresses = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap()).into();
    let anchors = Anchors { source_addresses, ..Anchors::default() };
    let options = Options { anchors, access: Access::Read, ..options(root.path()) };
    let observed = node.run(|| block_on(async { Host::open(options).unwrap().observe().await.unwrap() }));
    let observed = observed.unwrap();
    assert!(observed.lifelines.source_links.is_empty());
    assert_eq!(observed.links.len(), 1);
}

#[test]
fn an_address_that_another_host_has_is_seen_as_such() {
    let switch = Switch::new().unwrap();
    let (one, two) = (NetNs::new("one").unwrap(), NetNs::new("two").unwrap());
    switch.plug(&one, mac(FOREIGN), "ens5", 1500, "data").unwrap();
    one.set_up("ens5").unwrap();
    one.set_sysctl("ipv6/conf/ens5/dad_transmits", "0").unwrap();
    one.add_address("ens5", net("2001:db8::10/64"), None).unwrap();
    let root = tempfile::tempdir().unwrap();
    // Until the kernel is done with it, either could be the one that gives way.
    ForeignState::capture(&one, root.path(), &[]).unwrap();
    switch.plug(&two, mac(NIC), "ens5", 1500, "data").unwrap();
    let open = Options { access: Access::Read, ..options(root.path()) };
    two.set_up("ens5").unwrap();
    two.add_address("ens5", net("2001:db8::10/64"), None).unwrap();
    let seen = two.run(|| {
        block_on(async {
            let host = Host::open(open).unwrap();
            let found = async {
                while !host.observe().await.unwrap().addresses.iter().any(|address| address.duplicate) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), found).await
        })
    });
    assert!(seen.unwrap().is_ok(), "the duplicate was not seen");
}

/// Waits for an event.
async fn heard(events: &mut Events, wanted: impl Fn(&Event) -> bool) {
    let wait = async { while !wanted(&events.next().await.unwrap()) {} };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the event does not come");
}

#[test]
fn a_nic_that_comes_changes_and_goes_is_heard_of() {
    World::with(|world| {
        world.host(async |host| {
            let mut events = host.events().unwrap();
            let index = world.plug(NIC, "ens5");
            heard(&mut events, |event| {
                *event == Event::Link { link: index, name: "ens5".to_owned(), mac: Some(mac(NIC)), up: false }
            })
            .await;
            world.node.set_up("ens5").unwrap();
            heard(&mut events, |event| matches!(event, Event::Link { link, up: true, .. } if *link == index))
                .await;
            let address = net("192.0.2.10/24");
            world.node.add_address("ens5", address, None).unwrap();
            heard(&mut events, |event| *event == Event::Address { link: index, net: address }).await;
            world.node.remove_address("ens5", address).unwrap();
            heard(&mut events, |event| *event == Event::AddressGone { link: index, net: address }).await;
            world.switch.unplug(mac(NIC)).unwrap();
            heard(&mut events, |event| matches!(event, Event::LinkGone { link, .. } if *link == index)).await;
        });
    });
}

#[test]
fn routes_rules_and_settings_that_change_are_heard_of() {
    World::unwatched(|world| {
        world.host(async |host| {
            world.plug(NIC, "ens5");
            world.node.set_up("ens5").unwrap();
            let mut events = host.events().unwrap();
            let ip = |arguments: &str| {
                assert!(world.node.command("ip").args(arguments.split(' ')).status().unwrap().success());
            };
            for (to, family) in [("203.0.113.0/24", "-4"), ("2001:db8:9::/48", "-6")] {
                for act in ["add", "del"] {
                    ip(&format!("{family} route {act} {to} dev ens5 table 77"));
                    let wanted = |event: &Event| matches!(event, Event::Route(route) if (route.table, route.destination) == (77, net(to)));
                    heard(&mut events, wanted).await;
                    ip(&format!("{family} rule {act} priority 9 from all table 77"));
                    heard(&mut events, |event| matches!(event, Event::Rule(rule) if rule.table == 77)).await;
                }
            }
            world.node.set_sysctl("ipv4/conf/ens5/rp_filter", "1").unwrap();
            let index = world.link(NIC).index;
            heard(&mut events, |event| *event == Event::Settings { link: index }).await;
        });
    });
}

#[test]
fn a_flood_of_routes_costs_no_event_of_a_link() {
    World::unwatched(|world| {
        world.host(async |host| {
            let mut events = host.events().unwrap();
            let routes: String = (0..5000)
                .map(|n| format!("route add 172.{}.{}.0/24 dev ens3\n", 16 + n / 256, n % 256))
                .collect();
            world.write("routes", &routes, 0o644);
            let mut command = world.node.command("ip");
            assert!(command.arg("-batch").arg(world.root.path().join("routes")).status().unwrap().success());
            let index = world.plug(NIC, "ens5");
            heard(&mut events, |event| {
                assert_ne!(*event, Event::Lost);
                matches!(event, Event::Link { link, .. } if *link == index)
            })
            .await;
            heard(&mut events, |event| *event == Event::RoutingLost).await;
        });
    });
}

#[test]
fn more_events_than_fit_are_told_as_lost() {
    World::with(|world| {
        world.host(async |host| {
            let mut events = host.events().unwrap();
            world.plug(NIC, "ens5");
            // Each change of the MTU is an event.
            for count in 0..1500_u32 {
                world.node.set_mtu("ens5", 1400 + count % 2).unwrap();
            }
            heard(&mut events, |event| *event == Event::Lost).await;
        });
    });
}

#[test]
fn a_route_in_use_counts_in_the_main_table_only() {
    World::with(|world| {
        let index = world.plug(NIC, "ens5");
        world.node.set_up("ens5").unwrap();
        let route = NewRoute {
            link: "ens5",
            to: net("10.0.0.0/24"),
            gateway: None,
            protocol: 4.into(),
            table: 100,
            metric: 0,
        };
        world.node.add_route(route).unwrap();
        assert!(world.observed().routes_of(index).all(|route| route.destination != net("10.0.0.0/24")));
        world.node.add_route(NewRoute { table: 254, ..route }).unwrap();
        assert_eq!(obstacles(world, NIC), [Obstacle::HasRoutes]);
    });
}
