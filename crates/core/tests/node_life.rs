//! What must hold for any node, whatever is on it and whatever is desired.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use std::collections::BTreeSet;

use multinic_core::desired::DesiredNic;
use multinic_core::node::observed::{Found, Link, NicFile, Route, RouteOrigin};
use multinic_core::node::{ChangeKind, NodePlan, RefusalReason, Settled};
use multinic_core::{MacAddr, Mtu};
use proptest::prelude::*;
use support::kernel::*;
use support::mac;

/// MACs 1 … 6 are the NICs'; 7 and 8 are known to files and to us, but not plugged.
const MACS: u16 = 8;

/// A link, the addresses (place in the pool, kind) and the routes (kind) on it.
type Plugged = (Link, Vec<(usize, u8)>, Vec<u8>);

#[derive(Debug, Clone)]
struct Case {
    node: Node,
    desired: Vec<DesiredNic>,
    releases: Vec<u16>,
}

fn some_addresses() -> impl Strategy<Value = Vec<&'static str>> {
    let pool = ["10.0.0.5/24", "10.0.0.6/24", "10.0.0.7/16", "10.1.0.5/24", "fd00::5/64", "fd00::6/64"];
    prop::sample::subsequence(pool.to_vec(), 0..4)
}

fn some_link(index: u32) -> impl Strategy<Value = Plugged> {
    let n = u16::try_from(index - 2).unwrap();
    let name = prop_oneof![
        4 => Just(format!("eth{n}")),
        3 => Just(format!("multinic{}", n - 1)),
        1 => (0u8..7).prop_map(|at| format!("multinic{at}")),
    ];
    let altnames = prop::sample::subsequence(
        vec![format!("enp0s{n}"), format!("eth{}", n + 10), format!("multinic{n}")],
        0..2,
    );
    let twin = prop::bool::weighted(0.03);
    let parts =
        (name, any::<bool>(), prop_oneof![4 => Just(1500u32), 1 => Just(1400), 1 => Just(1000)], altnames);
    let rest = (prop::bool::weighted(0.1), twin, prop::bool::weighted(0.1));
    let held = prop::collection::vec((0usize..8, 0u8..4), 0..4);
    let routes = prop::collection::vec(0u8..5, 0..3);
    (parts, rest, held, routes).prop_map(move |(parts, (enslaved, twin, stacked), held, routes)| {
        let (name, up, mtu, altnames) = parts;
        let master = enslaved.then_some(50);
        let n = if twin { 1 } else { n };
        (Link { name, up, mtu, altnames, master, stacked, ..link(index, "", n) }, held, routes)
    })
}

fn arrange(node: &mut Node, links: Vec<Plugged>) {
    let pool = [
        "10.0.0.5/24",
        "10.0.0.6/24",
        "10.0.0.5/16",
        "10.0.0.100/24",
        "10.7.7.7/32",
        "fd00::5/64",
        "fd00::5/128",
        "fd07::7/64",
    ];
    let mut names: BTreeSet<String> = node.seen.links.iter().map(|link| link.name.clone()).collect();
    for (mut link, held, routes) in links {
        // Names of a kernel are unique, altnames among them.
        if !names.insert(link.name.clone()) {
            link.name = format!("p{}", link.index);
            names.insert(link.name.clone());
        }
        link.altnames.retain(|altname| names.insert(altname.clone()));
        for (at, kind) in held {
            let held = if kind == 0 { lease(link.index, pool[at]) } else { address(link.index, pool[at]) };
            let same = |other: &multinic_core::node::observed::LinkAddress| {
                other.link == held.link && other.net.addr() == held.net.addr()
            };
            let ipv6_fits = link.up && link.mtu >= 1280;
            if !node.seen.addresses.iter().any(same) && (held.net.addr().is_ipv4() || ipv6_fits) {
                node.seen.addresses.push(held);
            }
        }
        for kind in routes.into_iter().filter(|_| link.up) {
            let (to, origin) = match kind {
                0 => ("0.0.0.0/0", RouteOrigin::Dynamic),
                1 => ("0.0.0.0/0", RouteOrigin::Static),
                2 => ("10.20.0.0/16", RouteOrigin::Dynamic),
                3 => ("10.21.0.0/16", RouteOrigin::Static),
                _ => ("10.0.0.0/24", RouteOrigin::Kernel),
            };
            let made = route(link.index, to, origin);
            if !node.seen.routes.contains(&made) {
                node.seen.routes.push(made);
            }
        }
        node.seen.links.push(link);
    }
}

fn case() -> impl Strategy<Value = Case> {
    let links = (some_link(3), some_link(4), some_link(5), some_link(6), some_link(7), some_link(8));
    let count = 0usize..6;
    let files = prop::collection::vec((0u8..8, 1..=MACS, 0u8..3, some_addresses()), 0..5);
    let owned = prop::collection::vec((1..=MACS, 0u8..8, some_addresses()), 0..5);
    let slot = prop_oneof![4 => (0u8..8).prop_map(Some), 1 => Just(None)];
    let wish = (1..=MACS, slot, some_addresses(), prop_oneof![Just(1500i64), Just(9000), Just(1300)]);
    let desired = prop::collection::vec(wish, 0..7);
    let releases = prop::collection::btree_set(1..=MACS, 0..4);
    let default = prop_oneof![3 => Just(Some(RouteOrigin::Static)), 1 => Just(Some(RouteOrigin::Dynamic)), 1 => Just(None)];
    let management = any::<bool>();
    (links, count, files, owned, desired, releases, default, management).prop_map(
        |((a, b, c, d, e, f), count, files, owned, wishes, releases, default, management)| {
            let mut node = Node::new(Vec::new());
            node.seen.routes.clear();
            let defaults = default.map(|origin| route(MANAGEMENT.0, "0.0.0.0/0", origin));
            node.seen.routes.extend(defaults);
            arrange(&mut node, [a, b, c, d, e, f].into_iter().take(count).collect());
            node.seen.links.push(Link { up: true, stacked: true, mac: Some(mac(1)), ..link(50, "br0", 1) });
            for (at, n, kind, list) in files {
                let made = match kind {
                    0 => old_file(at, n, &list),
                    1 => file(&target(n, at, &list)),
                    _ => NicFile {
                        content: multinic_core::node::observed::NicFileContent::Other {
                            mac: None,
                            addresses: vec![],
                        },
                        ..old_file(at, n, &[])
                    },
                };
                node.seen.files.retain(|held| held.slot != made.slot);
                node.seen.files.push(made);
            }
            for (n, at, list) in owned {
                let name = support::slot(at).interface();
                if !node.owned.values().any(|nic| nic.target.name == name) {
                    node.own(target(n, at, &list), &format!("eth{n}"));
                }
            }
            let mut desired: Vec<DesiredNic> = Vec::new();
            for (n, at, list, mtu) in wishes {
                desired.push(DesiredNic {
                    mtu: Mtu::new(mtu).unwrap(),
                    ..support::kernel::desired(n, at, &list)
                });
            }
            if management {
                desired.push(support::kernel::desired(MANAGEMENT.1, Some(7), &["10.0.0.9/24"]));
            }
            Case { node, desired, releases: releases.into_iter().collect() }
        },
    )
}

fn is_conflict(reason: &RefusalReason) -> bool {
    matches!(reason, RefusalReason::NameConflict { .. } | RefusalReason::FileConflict { .. })
}

fn is_ours(node: &Node, mac: MacAddr) -> bool {
    node.owned.contains_key(&mac) || node.seen.is_adoptable(mac)
}

/// Everything of a link.
fn whole(node: &Node, index: u32) -> (Link, Vec<String>, Vec<Route>) {
    let addresses = node.seen.addresses_of(index).map(|held| format!("{held:?}")).collect();
    (node.link(index).clone(), addresses, node.seen.routes_of(index).cloned().collect())
}

fn has_default(node: &Node) -> bool {
    node.seen.routes.iter().any(Route::is_default)
}

fn indexes(node: &Node) -> Vec<u32> {
    node.seen.links.iter().map(|link| link.index).collect()
}

fn check_scope(case: &Case, plan: &NodePlan) -> Result<(), TestCaseError> {
    let wanted: BTreeSet<MacAddr> = case.desired.iter().map(|nic| nic.mac).collect();
    let releases: BTreeSet<MacAddr> = case.releases.iter().map(|n| mac(*n)).collect();
    let mut changed = BTreeSet::new();
    for change in &plan.changes {
        prop_assert!(wanted.contains(&change.mac) || releases.contains(&change.mac));
        prop_assert_eq!(change.target.is_some(), wanted.contains(&change.mac), "released though desired");
        prop_assert!(changed.insert(change.mac), "{} is changed twice", change.mac);
        if let Some(index) = change.link {
            let found = case.node.seen.find(change.mac);
            prop_assert!(matches!(found, Found::One(link) if link.index == index));
            prop_assert!(index != MANAGEMENT.0 && index != 1 && index != 50);
            let ours = is_ours(&case.node, change.mac);
            let link = case.node.link(index);
            prop_assert!(ours || change.target.is_some(), "released though not ours");
            prop_assert!(link.master.is_none(), "a step on an enslaved link");
        }
    }
    for refusal in &plan.refused {
        prop_assert!(!changed.contains(&refusal.mac), "{} is refused and changed", refusal.mac);
    }
    Ok(())
}

fn check_result(case: &Case, plan: &NodePlan, after: &Node) -> Result<(), TestCaseError> {
    let before = &case.node;
    let changed: BTreeSet<u32> = plan.changes.iter().filter_map(|change| change.link).collect();
    let mut names = BTreeSet::new();
    for index in indexes(before) {
        let link = after.link(index);
        for name in link.altnames.iter().chain([&link.name]) {
            prop_assert!(names.insert(name.clone()), "{name} is there twice");
        }
        if !changed.contains(&index) {
            prop_assert_eq!(whole(before, index), whole(after, index), "a link nobody planned for");
        }
    }
    prop_assert!(has_default(after) || !has_default(before), "the last default route is gone");
    let desired: BTreeSet<MacAddr> = case.desired.iter().map(|nic| nic.mac).collect();
    for change in &plan.changes {
        let Some(index) = change.link else { continue };
        let old = before.link(index);
        let Some(target) = &change.target else {
            let link = after.link(index);
            prop_assert!(!link.up && !link.name.starts_with("multinic"), "{link:?}");
            prop_assert!(!after.seen.files.iter().any(|file| file.mac() == Some(change.mac)));
            continue;
        };
        if !is_ours(before, change.mac) {
            continue;
        }
        // One that was given by somebody else does not.
        let worked = |name: multinic_core::InterfaceName| {
            before.owned.get(&change.mac).is_none_or(|nic| nic.target.name == name)
        };
        if old.name.parse().is_ok_and(|name| name != target.name && worked(name)) {
            return Err(TestCaseError::fail(format!(
                "{} worked and was renamed to {}",
                old.name, target.name
            )));
        }
        for held in before.seen.addresses_of(index) {
            let wrong_prefix = target.addresses.iter().any(|net| net.addr() == held.net.addr());
            let theirs = !held.dynamic && !change.former.addresses.contains(&held.net) && !wrong_prefix;
            let stays = after.seen.addresses_of(index).any(|other| other.net == held.net);
            prop_assert!(!theirs || stays, "{} was somebody else's", held.net);
        }
    }
    for file in &before.seen.files {
        let wanted_mac = file.mac().is_none_or(|mac| {
            desired.contains(&mac) || case.releases.iter().any(|n| support::mac(*n) == mac)
        });
        let stays = after.seen.files.contains(file);
        prop_assert!(stays || wanted_mac, "the file of {:?} was neither desired nor released", file.mac());
    }
    Ok(())
}

fn check_settled(node: &Node, settled: &Settled) -> Result<(), TestCaseError> {
    let target = &settled.target;
    let Found::One(link) = node.seen.find(target.mac) else {
        return Err(TestCaseError::fail("settled without a link"));
    };
    prop_assert_eq!(&link.name, &target.name.to_string());
    prop_assert!(link.up && link.mtu == u32::from(target.mtu.bytes()));
    for net in target.addresses.iter() {
        let held = node.seen.addresses_of(link.index).find(|held| held.net == net);
        prop_assert!(held.is_some_and(|held| !held.dynamic), "{net} is not there for good");
    }
    prop_assert!(node.seen.files.contains(&file(target)));
    prop_assert_eq!(node.seen.files.iter().filter(|file| file.mac() == Some(target.mac)).count(), 1);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_stays_within_what_is_ours_and_planning_again_gives_no_steps(case in case()) {
        let plan = case.node.plan(&case.desired, &case.releases);
        prop_assert_eq!(&plan, &case.node.plan(&case.desired, &case.releases));
        check_scope(&case, &plan)?;
        let mut after = case.node.clone();
        if let Err(error) = after.carry_out(&plan) {
            return Err(TestCaseError::fail(error));
        }
        check_result(&case, &plan, &after)?;
        // Who stepped aside gets its name with the next one.
        if plan.changes.iter().any(|change| matches!(change.kind, ChangeKind::StepAside(_))) {
            let case = Case { node: after.clone(), ..case.clone() };
            let then = case.node.plan(&case.desired, &case.releases);
            prop_assert!(!then.changes.is_empty());
            check_scope(&case, &then)?;
            if let Err(error) = after.carry_out(&then) {
                return Err(TestCaseError::fail(error));
            }
            check_result(&case, &then, &after)?;
        }

        let again = after.plan(&case.desired, &case.releases);
        prop_assert!(again.changes.is_empty(), "first {:#?}\nagain {:#?}", plan, again);
        for settled in &again.settled {
            check_settled(&after, settled)?;
        }
        let told = again.settled.len() + again.absent.len();
        let twice: BTreeSet<MacAddr> = again.refused.iter().map(|refusal| refusal.mac).collect();
        prop_assert_eq!(twice.len(), again.refused.len(), "refused twice");
        let wanted: BTreeSet<MacAddr> = case.desired.iter().map(|nic| nic.mac).collect();
        let refused = wanted.intersection(&twice).count();
        prop_assert_eq!(told + refused, wanted.len(), "a wish is passed over in silence");
        prop_assert!(again.refused.len() >= plan.refused.iter().filter(|refusal| !is_conflict(&refusal.reason)).count());
    }
}
