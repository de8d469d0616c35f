//! The agent's planner: steps or refusals, one behaviour each. `node_life.rs` has what must hold for any node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use multinic_core::desired::DesiredNic;
use multinic_core::node::observed::{Link, LinkAddress, NicFile, NicFileContent, RouteOrigin};
use multinic_core::node::preflight::Obstacle;
use multinic_core::node::{ChangeKind, Drift, NodePlan, RefusalReason, Step};
use multinic_core::{Mtu, VlanId};
use support::kernel::*;
use support::{mac, slot};

/// What somebody did to a node.
type Deed = fn(&mut Node);

const NIC: u32 = 3;
const IP: &str = "10.0.0.5/24";

fn fresh() -> Node {
    Node::new(vec![link(NIC, "eth1", 1)])
}

/// A node whose NIC 1 is configured as multinic0 and verified.
fn configured() -> Node {
    let mut node = fresh();
    node.settle(&[desired(1, Some(0), &[IP])], &[]);
    node
}

fn obstacles(plan: &NodePlan) -> Vec<Obstacle> {
    match plan.refused.as_slice() {
        [refusal] => match &refusal.reason {
            RefusalReason::InUse(obstacles) => obstacles.clone(),
            other => panic!("{other}"),
        },
        other => panic!("{other:?}"),
    }
}

fn reason(plan: &NodePlan) -> &RefusalReason {
    assert_eq!(plan.refused.len(), 1, "{plan:?}");
    &plan.refused[0].reason
}

#[test]
fn a_new_nic_is_named_addressed_brought_up_and_written_down() {
    let mut node = fresh();
    let plan = node.settle(&[desired(1, Some(0), &[IP, "fd00::5/64"])], &[]);
    assert_eq!(plan.changes[0].kind, ChangeKind::Create);
    assert_eq!(plan.changes[0].original_name, "eth1");
    assert_eq!((node.link(NIC).name.as_str(), node.link(NIC).up), ("multinic0", true));
    assert_eq!(node.shows(NIC), ["10.0.0.5/24", "fd00::5/64"]);
    assert_eq!(node.seen.files, [file(&target(1, 0, &[IP, "fd00::5/64"]))]);
    assert_eq!(node.plan(&[desired(1, Some(0), &[IP, "fd00::5/64"])], &[]).settled.len(), 1);
}

#[test]
fn a_nic_that_is_not_plugged_yet_is_absent_and_no_error() {
    let plan = fresh().plan(&[desired(9, Some(0), &[IP])], &[]);
    assert_eq!(plan.absent, [mac(9)]);
    assert!(plan.changes.is_empty() && plan.refused.is_empty());
}

#[test]
fn what_nobody_asks_for_is_not_touched_even_if_it_is_ours() {
    let plan = configured().plan(&[], &[]);
    assert_eq!(plan, NodePlan::default());
}

#[test]
fn each_use_of_a_new_link_refuses_it_by_its_reason() {
    let base = || Node::new(vec![Link { up: true, ..link(NIC, "eth1", 1) }]);
    let cases: Vec<(Obstacle, Deed)> = vec![
        (Obstacle::NodeAddress, |node| {
            node.seen.links[2].up = false;
            node.seen.addresses.push(address(NIC, "192.0.2.11/24"));
            node.seen.lifelines.node_addresses.insert(net("192.0.2.11/24").addr());
        }),
        (Obstacle::SourcePath, |node| {
            node.seen.lifelines.source_links.insert(NIC);
        }),
        (Obstacle::DefaultRoute, |node| {
            node.seen.routes.push(route(NIC, "0.0.0.0/0", RouteOrigin::Static));
        }),
        (Obstacle::DefaultRoute, |node| {
            node.seen.routes[0].link = NIC;
            node.seen.routes[0].origin = RouteOrigin::Dynamic;
        }),
        (Obstacle::DefaultRoute, |node| {
            // There is an IPv4 one elsewhere, but no other IPv6 one, and the node has an IPv6 address.
            node.seen.routes.push(route(NIC, "::/0", RouteOrigin::Dynamic));
            node.seen.addresses.push(address(MANAGEMENT.0, "2001:db8::10/64"));
        }),
        (Obstacle::DefaultRoute, |node| {
            node.seen.routes.push(route(NIC, "::/0", RouteOrigin::Dynamic));
            node.seen.lifelines.node_addresses.insert("2001:db8::10".parse().unwrap());
        }),
        (Obstacle::DefaultRoute, |node| {
            // Nobody knows how the node is known.
            node.seen.routes.push(route(NIC, "::/0", RouteOrigin::Dynamic));
            node.seen.lifelines.node_addresses.clear();
        }),
        (Obstacle::Enslaved, |node| node.seen.links[2].master = Some(9)),
        (Obstacle::HasIpv4, |node| node.seen.addresses.push(address(NIC, "10.9.9.9/24"))),
        (Obstacle::HasIpv6, |node| node.seen.addresses.push(address(NIC, "fd09::9/64"))),
        (Obstacle::HasRoutes, |node| {
            node.seen.routes.push(route(NIC, "10.8.0.0/16", RouteOrigin::Static));
        }),
    ];
    for (obstacle, arrange) in cases {
        let mut node = base();
        arrange(&mut node);
        let plan = node.plan(&[desired(1, Some(0), &[IP])], &[]);
        assert_eq!(obstacles(&plan), [obstacle]);
        assert!(plan.changes.is_empty());
    }
    let plan = base().plan(&[desired(1, Some(0), &[IP])], &[]);
    assert!(plan.refused.is_empty());
}

#[test]
fn the_management_nic_is_refused_whatever_is_desired() {
    let node = fresh();
    let plan = node.plan(&[desired(MANAGEMENT.1, Some(0), &[IP])], &[MANAGEMENT.1]);
    let found = obstacles(&plan);
    for obstacle in [Obstacle::NodeAddress, Obstacle::SourcePath, Obstacle::DefaultRoute, Obstacle::HasIpv4] {
        assert!(found.contains(&obstacle), "{obstacle:?}");
    }
    assert!(plan.changes.is_empty());
}

#[test]
fn a_lease_with_its_routes_is_replaced_while_a_default_route_is_elsewhere() {
    let mut node = Node::new(vec![Link { up: true, ..link(NIC, "eth1", 1) }]);
    node.seen.addresses.push(lease(NIC, "10.0.0.77/24"));
    node.seen.routes.push(route(NIC, "0.0.0.0/0", RouteOrigin::Dynamic));
    node.settle(&[desired(1, Some(0), &[IP])], &[]);
    assert_eq!(node.shows(NIC), [IP]);
    assert_eq!(node.seen.routes.len(), 1);
}

#[test]
fn a_routers_word_on_a_new_nic_is_nothing_that_a_node_without_ipv6_needs() {
    let up = |index, name, n| Link { up: true, ..link(index, name, n) };
    let mut node = Node::new(vec![up(NIC, "eth1", 1), up(4, "eth2", 2)]);
    node.seen.addresses.push(address(1, "::1/128"));
    for (index, advertised) in [(NIC, "fd00::77/64"), (4, "fd01::77/64")] {
        node.seen.addresses.push(lease(index, advertised));
        node.seen.routes.push(route(index, "::/0", RouteOrigin::Dynamic));
    }
    node.settle(&[desired(1, Some(0), &[IP]), desired(2, Some(1), &["10.0.1.5/24"])], &[]);
    assert_eq!((node.shows(NIC), node.seen.routes.len()), (vec![IP.to_owned()], 1));
}

#[test]
fn leases_on_two_new_nics_do_not_vouch_for_each_others_default_route() {
    let up = |index, name, n| Link { up: true, ..link(index, name, n) };
    let mut node = Node::new(vec![up(3, "eth1", 1), up(4, "eth2", 2)]);
    node.seen.routes =
        vec![route(3, "0.0.0.0/0", RouteOrigin::Dynamic), route(4, "0.0.0.0/0", RouteOrigin::Dynamic)];
    let both = [desired(1, Some(0), &[IP]), desired(2, Some(1), &["10.0.1.5/24"])];
    let plan = node.plan(&both, &[]);
    assert_eq!(plan.refused.len(), 2, "{plan:?}");
    assert!(plan.changes.is_empty());
    // One alone has the other's.
    assert!(node.plan(&both[..1], &[]).refused.is_empty());
}

#[test]
fn an_address_leased_with_the_very_value_is_set_for_good() {
    let mut node = Node::new(vec![Link { up: true, ..link(NIC, "eth1", 1) }]);
    node.seen.addresses.push(lease(NIC, IP));
    node.settle(&[desired(1, Some(0), &[IP])], &[]);
    assert_eq!(node.shows(NIC), [IP]);
}

#[test]
fn an_address_with_another_prefix_is_replaced_whoever_set_it() {
    for (wrong, right) in [("10.0.0.5/16", IP), ("fd00::5/128", "fd00::5/64")] {
        let mut node = fresh();
        node.settle(&[desired(1, Some(0), &[right])], &[]);
        node.seen.addresses.retain(|held| held.net != net(right));
        node.seen.addresses.push(address(NIC, wrong));
        node.settle(&[desired(1, Some(0), &[right])], &[]);
        assert_eq!(node.shows(NIC), [right]);
    }
}

#[test]
fn addresses_that_others_added_stay() {
    let mut node = configured();
    node.seen.addresses.push(address(NIC, "10.7.7.7/32"));
    assert!(node.plan(&[desired(1, Some(0), &[IP])], &[]).changes.is_empty());
    node.settle(&[desired(1, Some(0), &["10.0.0.6/24"])], &[]);
    assert_eq!(node.shows(NIC), ["10.0.0.6/24", "10.7.7.7/32"]);
}

#[test]
fn addresses_that_others_added_stay_when_ours_was_their_primary() {
    let mut node = configured();
    node.seen.addresses.push(address(NIC, "10.0.0.100/24"));
    node.settle(&[desired(1, Some(0), &["10.0.0.6/24"])], &[]);
    assert_eq!(node.shows(NIC), ["10.0.0.100/24", "10.0.0.6/24"]);
}

#[test]
fn addresses_that_others_added_stay_when_the_link_has_to_go_down_for_its_name() {
    let mut node = configured();
    node.seen.addresses.push(address(NIC, "fd07::7/128"));
    node.seen.links[2].name = "lost".to_owned();
    node.settle(&[desired(1, Some(0), &[IP])], &[]);
    assert_eq!(node.link(NIC).name, "multinic0");
    assert_eq!(node.shows(NIC), [IP, "fd07::7/128"]);
}

#[test]
fn removing_the_primary_address_leaves_the_others_of_its_network_set() {
    let mut node = fresh();
    let (first, second, third) = (IP, "10.0.0.6/24", "10.0.0.7/24");
    node.settle(&[desired(1, Some(0), &[first, second, third])], &[]);
    node.settle(&[desired(1, Some(0), &[second, third])], &[]);
    assert_eq!(node.shows(NIC), [second, third]);
}

#[test]
fn our_own_link_local_address_goes_when_it_is_no_longer_desired() {
    let mut node = fresh();
    node.settle(&[desired(1, Some(0), &["169.254.7.7/16", IP])], &[]);
    for held in &mut node.seen.addresses {
        held.link_local = held.net == net("169.254.7.7/16") || held.net == net("fe80::1/64");
    }
    node.settle(&[desired(1, Some(0), &[IP])], &[]);
    assert!(!node.seen.addresses.iter().any(|held| held.net == net("169.254.7.7/16")));
}

#[test]
fn every_drift_is_repaired() {
    let ways: Vec<(&str, Deed)> = vec![
        ("name", |node| node.seen.links[2].name = "eth9".to_owned()),
        ("name", |node| node.seen.links[2].name = "multinic5".to_owned()),
        ("mtu", |node| node.seen.links[2].mtu = 1400),
        ("missing_address", |node| node.seen.addresses.retain(|held| held.net != net(IP))),
        ("ip_address", |node| node.seen.addresses.push(lease(NIC, "10.0.0.77/24"))),
        ("route", |node| node.seen.routes.push(route(NIC, "10.3.0.0/16", RouteOrigin::Dynamic))),
        ("sysctl", |node| node.seen.links[2].accept_ra = Some(2)),
        ("state", |node| node.seen.links[2].up = false),
        ("file", |node| node.seen.files.clear()),
        ("file", |node| node.seen.files[0].content = old_file(0, 1, &[]).content),
        ("file", |node| node.seen.files.push(old_file(4, 1, &[]))),
    ];
    for (label, damage) in ways {
        let (mut good, mut node) = (configured(), configured());
        damage(&mut node);
        let plan = node.settle(&[desired(1, Some(0), &[IP])], &[]);
        let ChangeKind::Repair(drift) = &plan.changes[0].kind else { panic!("{:?}", plan.changes[0].kind) };
        assert_eq!(drift.iter().map(Drift::label).collect::<Vec<_>>(), [label]);
        for side in [&mut node, &mut good] {
            side.seen.addresses.sort_by_key(|held| (held.link, held.net));
        }
        assert_eq!(node, good, "{label}");
    }
}

#[test]
fn a_nic_keeps_its_name_whoever_gave_it_another_one_of_ours_meanwhile() {
    for asked in [Some(0), None] {
        let mut node = configured();
        node.seen.links[2].name = "multinic1".to_owned();
        // Another one that wants the name that is not its.
        node.seen.links.push(link(4, "eth2", 2));
        let wishes = [desired(2, Some(1), &["10.0.1.5/24"]), desired(1, asked, &[IP])];
        node.settle(&wishes, &[]);
        assert_eq!((node.link(NIC).name.as_str(), node.link(4).name.as_str()), ("multinic0", "multinic1"));
    }
}

#[test]
fn a_nic_that_was_plugged_again_under_its_name_ignores_routers_before_it_is_up() {
    // Where the setting is not seen, as below.
    for accept_ra in [Some(1), None] {
        let mut node = configured();
        node.seen.links[2] = Link { index: 9, accept_ra, ..link(9, "multinic0", 1) };
        node.seen.addresses.retain(|held| held.link != NIC);
        let plan = node.settle(&[desired(1, Some(0), &[IP])], &[]);
        let at = |step: &Step| plan.changes[0].steps.iter().position(|taken| taken == step).unwrap();
        assert!(at(&Step::IgnoreRouterAdvertisements) < at(&Step::SetUp));
        assert_eq!(node.link(9).accept_ra, Some(0));
    }
}

#[test]
fn a_wish_for_another_mtu_or_address_is_an_update_without_taking_the_link_down() {
    let mut node = configured();
    let wish = DesiredNic { mtu: Mtu::new(9000).unwrap(), ..desired(1, Some(0), &["10.0.0.6/24"]) };
    let plan = node.settle(&[wish], &[]);
    assert!(matches!(plan.changes[0].kind, ChangeKind::Update(_)));
    assert!(!plan.changes[0].steps.contains(&Step::SetDown));
    assert_eq!(node.link(NIC).mtu, 9000);
    assert_eq!(node.shows(NIC), ["10.0.0.6/24"]);
}

#[test]
fn a_verified_name_wins_over_a_desired_one_and_is_reported() {
    let mut node = configured();
    let plan = node.plan(&[desired(1, Some(4), &[IP])], &[]);
    assert!(plan.changes.is_empty());
    assert_eq!(plan.settled[0].name_conflict, Some(slot(4)));
    let plan = node.settle(&[desired(1, Some(4), &["10.0.0.6/24"])], &[]);
    assert_eq!(plan.changes[0].name_conflict, Some(slot(4)));
    assert_eq!(node.link(NIC).name, "multinic0");
}

#[test]
fn a_slot_whose_name_another_link_has_is_a_conflict() {
    for holder in
        [link(4, "multinic0", 2), Link { altnames: vec!["multinic0".to_owned()], ..link(4, "eth7", 2) }]
    {
        let node = Node::new(vec![link(NIC, "eth1", 1), holder]);
        let plan = node.plan(&[desired(1, Some(0), &[IP])], &[]);
        assert!(matches!(reason(&plan), RefusalReason::NameConflict { .. }));
    }
}

/// So many NICs, configured one after the other.
fn row(count: u16) -> (Node, Vec<DesiredNic>) {
    let links = (1..=count).map(|n| link(2 + u32::from(n), &format!("eth{n}"), n));
    let mut node = Node::new(links.collect());
    let wish = |n: u16| {
        desired(
            n,
            Some(u8::try_from(n).unwrap() - 1),
            &[&format!("10.0.{n}.5/24"), &format!("fd00:{n}::5/64")],
        )
    };
    let wishes: Vec<DesiredNic> = (1..=count).map(wish).collect();
    node.settle(&wishes, &[]);
    (node, wishes)
}

fn names(node: &Node, count: u16) -> Vec<String> {
    (1..=count).map(|n| node.link(2 + u32::from(n)).name.clone()).collect()
}

#[test]
fn nics_that_have_each_other_s_names_get_their_own_by_way_of_one_that_steps_aside() {
    for count in 2..=4 {
        let (mut node, wishes) = row(count);
        let own = names(&node, count);
        for n in 0..count {
            let at = node.seen.links.iter().position(|link| link.index == 3 + u32::from(n)).unwrap();
            node.seen.links[at].name.clone_from(&own[usize::from((n + 1) % count)]);
        }
        let first = node.plan(&wishes, &[]);
        let aside: Vec<_> =
            first.changes.iter().filter(|change| matches!(change.kind, ChangeKind::StepAside(_))).collect();
        assert_eq!((aside.len(), first.changes.len()), (1, usize::from(count)), "{first:?}");
        node.carry_out(&first).unwrap();
        // It works meanwhile.
        let index = aside[0].link.unwrap();
        assert!(node.link(index).up && !node.link(index).name.starts_with("multinic"));
        // Somebody's file for the names that kernel and udev give does not fit this one.
        assert!(node.link(index).name.starts_with("nic"), "{}", node.link(index).name);
        assert_eq!(node.shows(index).len(), 2);
        assert_eq!(node.settle(&wishes, &[]).changes.len(), 1);
        assert_eq!(names(&node, count), own);
    }
}

#[test]
fn nobody_steps_aside_for_a_name_that_stays_with_somebody_else() {
    let (mut node, mut wishes) = row(3);
    let at = |node: &Node, index| node.seen.links.iter().position(|link| link.index == index).unwrap();
    let (first, second, third) = (at(&node, 3), at(&node, 4), at(&node, 5));
    for (link, name) in [(first, "multinic1"), (second, "multinic2"), (third, "multinic0")] {
        node.seen.links[link].name = name.to_owned();
    }
    // The third is enslaved by now, or nobody's any more: then the ring stays closed.
    let mut enslaved = node.clone();
    enslaved.seen.links[third].master = Some(9);
    assert!(enslaved.plan(&wishes, &[]).changes.is_empty());
    // It is to have a VLAN now whose name somebody else's has.
    let (mut taken, mut with_vlan) = (node.clone(), wishes.clone());
    taken.seen.links.push(Link {
        vlan: Some(VlanId::new(7).unwrap()),
        lower: Some(2),
        ..link(60, "multinic2.5", 60)
    });
    with_vlan[2].options.vlan = Some(VlanId::new(5).unwrap());
    let plan = taken.plan(&with_vlan, &[]);
    assert!(plan.changes.is_empty(), "{plan:?}");
    wishes.pop();
    assert!(node.plan(&wishes, &[]).changes.is_empty());
}

#[test]
fn two_entries_for_one_slot_are_a_conflict_for_the_second() {
    let node = Node::new(vec![link(NIC, "eth1", 1), link(4, "eth2", 2)]);
    let plan = node.plan(&[desired(1, Some(0), &[IP]), desired(2, Some(0), &["10.0.1.5/24"])], &[]);
    assert_eq!(plan.changes.len(), 1);
    assert!(matches!(reason(&plan), RefusalReason::NameConflict { .. }));
}

#[test]
fn two_entries_for_one_mac_are_refused_and_what_works_is_left_alone() {
    let entries = [desired(1, Some(0), &[IP]), desired(1, Some(1), &["10.0.0.6/24"])];
    for node in [fresh(), configured()] {
        let plan = node.plan(&entries, &[]);
        assert!(plan.changes.is_empty(), "{plan:?}");
        assert_eq!(reason(&plan), &RefusalReason::NamedTwice);
    }
}

#[test]
fn without_a_slot_a_nic_takes_the_lowest_name_that_nobody_has_or_asks_for() {
    let mut node = Node::new(vec![
        link(NIC, "eth1", 1),
        link(4, "multinic0", 2),
        Link { altnames: vec!["multinic1".to_owned()], ..link(5, "eth5", 3) },
        link(6, "eth6", 4),
    ]);
    node.seen.files = vec![old_file(2, 50, &[])];
    node.own(target(60, 3, &[]), "eth60");
    let wishes = [desired(1, None, &[IP]), desired(4, Some(4), &["10.0.1.1/24"]), desired(70, Some(5), &[])];
    node.settle(&wishes, &[]);
    assert_eq!(node.link(NIC).name, "multinic6");
    assert_eq!(node.link(6).name, "multinic4");
}

#[test]
fn when_every_slot_is_taken_that_is_said() {
    let mut node = fresh();
    node.seen.files = (0..10).map(|at| old_file(at, 100 + u16::from(at), &[])).collect();
    let plan = node.plan(&[desired(1, None, &[IP])], &[]);
    assert_eq!(reason(&plan), &RefusalReason::NoFreeSlot(10));
}

#[test]
fn several_links_with_the_mac_are_ambiguous_and_stacked_ones_do_not_count() {
    let twin = || link(4, "eth2", 1);
    let plan = Node::new(vec![link(NIC, "eth1", 1), twin()]).plan(&[desired(1, Some(0), &[IP])], &[1]);
    assert_eq!(reason(&plan), &RefusalReason::AmbiguousMac(vec!["eth1".to_owned(), "eth2".to_owned()]));
    assert!(plan.changes.is_empty());
    let mut node = Node::new(vec![link(NIC, "eth1", 1), Link { stacked: true, ..twin() }]);
    node.settle(&[desired(1, Some(0), &[IP])], &[]);
    assert_eq!(node.link(NIC).name, "multinic0");
}

#[test]
fn a_link_whose_address_was_changed_is_refused() {
    let masked = Link { mac: Some(mac(8)), permanent_mac: Some(mac(1)), ..link(NIC, "eth1", 1) };
    let plan = Node::new(vec![masked]).plan(&[desired(1, Some(0), &[IP])], &[]);
    assert!(matches!(reason(&plan), RefusalReason::MacChanged(_)));
}

#[test]
fn a_nic_of_an_older_program_is_adopted_under_its_name() {
    let mut node =
        Node::new(vec![Link { up: true, altnames: vec!["enp0s7".to_owned()], ..link(NIC, "multinic5", 1) }]);
    node.seen.addresses.push(address(NIC, "10.0.0.4/24"));
    node.seen.files.push(old_file(5, 1, &["10.0.0.4/24"]));
    let plan = node.settle(&[desired(1, None, &[IP])], &[]);
    assert_eq!(plan.changes[0].kind, ChangeKind::Adopt);
    assert_eq!(plan.changes[0].original_name, "enp0s7");
    assert_eq!(node.link(NIC).name, "multinic5");
    assert_eq!(node.shows(NIC), [IP], "the older program's address goes");
}

#[test]
fn a_link_that_merely_bears_our_name_is_not_ours() {
    let mut node = Node::new(vec![Link { up: true, ..link(NIC, "multinic0", 1) }]);
    node.seen.addresses.push(address(NIC, "10.9.9.9/24"));
    node.seen.files.push(old_file(0, 7, &[]));
    let plan = node.plan(&[desired(1, Some(0), &[IP])], &[1]);
    assert_eq!(obstacles(&plan), [Obstacle::HasIpv4]);
    assert!(node.plan(&[], &[1]).changes.is_empty(), "nor is it released");
}

#[test]
fn our_own_nic_is_not_disturbed_once_the_node_lives_on_it() {
    let mut node = configured();
    node.seen.lifelines.source_links.insert(NIC);
    for plan in [node.plan(&[desired(1, Some(0), &["10.0.0.6/24"])], &[]), node.plan(&[], &[1])] {
        assert_eq!(obstacles(&plan), [Obstacle::SourcePath]);
        assert!(plan.changes.is_empty());
    }
    // What takes nothing away is still done.
    node.seen.files.clear();
    assert_eq!(node.plan(&[desired(1, Some(0), &[IP])], &[]).changes.len(), 1);
}

#[test]
fn our_own_nic_in_somebodys_bridge_gets_no_addresses_back() {
    let mut node = configured();
    node.seen.links[2].master = Some(9);
    node.seen.addresses.retain(|held| held.net != net(IP));
    let plan = node.plan(&[desired(1, Some(0), &[IP])], &[]);
    assert_eq!(obstacles(&plan), [Obstacle::Enslaved]);
    assert!(plan.changes.is_empty());
}

#[test]
fn a_released_nic_is_left_down_under_its_old_name_without_our_address_and_file() {
    let mut node = configured();
    node.seen.links[2].altnames = vec!["eth1".to_owned(), "enp0s3".to_owned()];
    node.seen.addresses.push(lease(NIC, "10.0.0.77/24"));
    let plan = node.settle(&[], &[1]);
    assert_eq!(plan.changes[0].kind, ChangeKind::Release);
    assert!(plan.changes[0].steps.contains(&Step::DropAltName("eth1".to_owned())));
    assert_eq!((node.link(NIC).name.as_str(), node.link(NIC).up), ("eth1", false));
    assert_eq!(node.shows(NIC), Vec::<String>::new());
    assert!(node.seen.files.is_empty() && node.owned.is_empty());
    assert_eq!(node.plan(&[], &[1]).released, [mac(1)]);
}

#[test]
fn a_released_nic_whose_old_name_is_taken_gets_a_free_one_that_is_not_ours() {
    let mut node = configured();
    node.seen.links.push(link(4, "eth1", 2));
    node.seen.links.push(Link { altnames: vec!["nic3".to_owned()], ..link(5, "eth5", 5) });
    node.settle(&[], &[1]);
    assert_eq!(node.link(NIC).name, "nic4");
}

#[test]
fn a_name_released_is_given_to_another_nic_in_the_same_plan() {
    let mut node = configured();
    node.seen.links.push(link(4, "eth2", 2));
    let plan = node.settle(&[desired(2, Some(0), &["10.0.1.5/24"])], &[1]);
    assert_eq!(plan.changes.len(), 2);
    assert_eq!((node.link(NIC).name.as_str(), node.link(4).name.as_str()), ("eth1", "multinic0"));
}

#[test]
fn a_name_that_a_released_nic_has_beside_its_own_is_not_free_yet() {
    let mut node = configured();
    node.seen.links[2].altnames = vec!["multinic1".to_owned()];
    node.seen.links.push(link(4, "eth2", 2));
    let plan = node.plan(&[desired(2, Some(1), &["10.0.1.5/24"])], &[1]);
    node.carry_out(&plan).unwrap();
    assert!(matches!(reason(&plan), RefusalReason::NameConflict { .. }));
}

#[test]
fn a_released_nic_that_is_unplugged_loses_its_file() {
    let mut node = configured();
    node.seen.links.retain(|link| link.index != NIC);
    node.seen.addresses.retain(|held| held.link != NIC);
    let plan = node.settle(&[], &[1]);
    assert_eq!(plan.changes[0].link, None);
    assert!(node.seen.files.is_empty() && node.owned.is_empty());
}

#[test]
fn a_desired_nic_is_not_released_whatever_else_is_said() {
    let mut node = configured();
    let plan = node.settle(&[desired(1, Some(0), &[IP])], &[1]);
    assert!(plan.changes.is_empty() && plan.released.is_empty());
}

#[test]
fn the_file_of_a_nic_that_is_neither_desired_nor_released_keeps_its_name() {
    let mut node = fresh();
    node.seen.files.push(old_file(0, 50, &[]));
    let plan = node.plan(&[desired(1, Some(0), &[IP])], &[]);
    assert!(matches!(reason(&plan), RefusalReason::FileConflict { .. }), "{plan:?}");
    let plan = node.settle(&[desired(1, Some(0), &[IP])], &[50]);
    assert_eq!(plan.changes.len(), 2);
    assert_eq!(node.seen.files, [file(&target(1, 0, &[IP]))]);
}

#[test]
fn a_file_that_names_nobody_is_replaced() {
    let mut node = fresh();
    let content = NicFileContent::Other { mac: None, addresses: Vec::new() };
    node.seen.files.push(NicFile { slot: slot(0), content });
    node.settle(&[desired(1, Some(0), &[IP])], &[]);
    assert_eq!(node.seen.files, [file(&target(1, 0, &[IP]))]);
}

#[test]
fn a_name_or_file_that_another_nic_gives_up_in_this_plan_is_free_whatever_the_order() {
    // NIC 2 has an outdated file of slot 0, and NIC 3 merely bears the name of slot 2.
    let mut node =
        Node::new(vec![link(3, "eth1", 1), link(4, "eth2", 2), link(5, "multinic2", 3), link(6, "eth3", 4)]);
    node.seen.files = vec![old_file(0, 2, &[])];
    let mut wishes = vec![
        desired(1, Some(0), &[IP]),
        desired(2, Some(1), &["10.0.1.5/24"]),
        desired(4, Some(2), &["10.0.2.5/24"]),
        desired(3, Some(3), &["10.0.3.5/24"]),
    ];
    for _ in 0..4 {
        let mut node = node.clone();
        node.settle(&wishes, &[]);
        let names: Vec<&str> = (3..=6).map(|index| node.link(index).name.as_str()).collect();
        assert_eq!(names, ["multinic0", "multinic1", "multinic3", "multinic2"]);
        assert_eq!(node.seen.files.len(), 4);
        wishes.rotate_left(1);
    }
}

#[test]
fn of_two_that_ask_for_one_name_the_one_that_had_it_has_it_whatever_the_order() {
    // NIC 1 lost its name to NIC 3, and NIC 2 is new.
    let mut node = configured();
    node.seen.links[2].name = "eth1".to_owned();
    node.seen.links.extend([link(4, "eth2", 2), link(5, "multinic0", 3)]);
    let mut wishes = vec![
        desired(3, Some(1), &["10.0.2.5/24"]),
        desired(2, Some(0), &["10.0.1.5/24"]),
        desired(1, Some(0), &[IP]),
    ];
    for _ in 0..3 {
        let mut node = node.clone();
        node.carry_out(&node.clone().plan(&wishes, &[])).unwrap();
        let names: Vec<&str> = (3..=5).map(|index| node.link(index).name.as_str()).collect();
        assert_eq!(names, ["multinic0", "eth2", "multinic1"]);
        assert!(node.plan(&wishes, &[]).changes.is_empty());
        wishes.rotate_left(1);
    }
}

#[test]
fn a_management_nic_among_the_desired_ones_still_vouches_for_the_default_route() {
    let mut node = Node::new(vec![Link { up: true, ..link(NIC, "eth1", 1) }]);
    node.seen.routes[0].origin = RouteOrigin::Dynamic;
    node.seen.routes.push(route(NIC, "0.0.0.0/0", RouteOrigin::Dynamic));
    let plan = node.plan(&[desired(1, Some(0), &[IP]), desired(MANAGEMENT.1, Some(1), &[])], &[]);
    assert_eq!((plan.changes.len(), plan.refused.len()), (1, 1));
    assert_eq!(plan.changes[0].mac, mac(1));
}

#[test]
fn an_address_that_another_host_has_too_is_told() {
    let mut node = configured();
    for held in &mut node.seen.addresses {
        held.duplicate = held.net == net(IP);
    }
    assert_eq!(node.plan(&[desired(1, Some(0), &[IP])], &[]).settled[0].duplicates, [net(IP)]);
}

#[test]
fn the_kernels_own_addresses_are_no_drift() {
    let mut node = configured();
    node.seen.addresses.push(LinkAddress { link_local: true, dynamic: true, ..address(NIC, "fe80::77/64") });
    assert!(node.plan(&[desired(1, Some(0), &[IP])], &[]).changes.is_empty());
}
