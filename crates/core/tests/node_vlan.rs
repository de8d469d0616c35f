//! VLANs on top of NICs: what is planned for them, and whose they are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use multinic_core::desired::DesiredNic;
use multinic_core::node::doctor::{Survey, examine};
use multinic_core::node::observed::{Link, RouteOrigin};
use multinic_core::node::preflight::Obstacle;
use multinic_core::node::{ChangeKind, Drift, NodePlan, Owned, RefusalReason, Step};
use multinic_core::{InterfaceOptions, Mtu, VlanId};
use support::kernel::{Node, address, desired, lease, link, net, route, target};
use support::mac;

const NIC: u32 = 5;
const IP: &str = "10.0.0.5/24";
const ON_VLAN: &str = r#"{"vlan": 100, "strictArp": false}"#;
const SOURCED: &str = r#"{"vlan": 100, "rpFilter": "loose", "sourceRouting": {"enabled": true},
    "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}]}"#;
const PLAIN: &str = r#"{"strictArp": false}"#;

fn wish(options: &str) -> DesiredNic {
    let options: InterfaceOptions = serde_json::from_str(options).unwrap();
    DesiredNic { options, ..desired(1, Some(0), &[IP]) }
}

fn bare() -> Node {
    Node::new(vec![link(NIC, "eth1", 1)])
}

fn configured(options: &str) -> Node {
    let mut node = bare();
    node.settle(&[wish(options)], &[]);
    node
}

fn named<'a>(node: &'a Node, name: &str) -> &'a Link {
    node.seen.by_name(name).unwrap_or_else(|| panic!("{name} of {:?}", node.seen.links))
}

fn number(id: i64) -> VlanId {
    VlanId::new(id).unwrap()
}

/// A VLAN that somebody made.
fn vlan(index: u32, name: &str, parent: u32, id: i64) -> Link {
    Link { stacked: true, up: true, lower: Some(parent), vlan: Some(number(id)), ..link(index, name, 1) }
}

fn edit(node: &mut Node, name: &str, change: impl FnOnce(&mut Link)) {
    change(node.seen.links.iter_mut().find(|link| link.name == name).unwrap());
}

fn repaired(plan: &NodePlan) -> &[Drift] {
    match &plan.changes[..] {
        [change] => match &change.kind {
            ChangeKind::Repair(drift) => drift,
            other => panic!("{other:?}"),
        },
        others => panic!("{others:?}"),
    }
}

fn conflict(plan: &NodePlan) -> String {
    match &plan.refused[..] {
        [refusal] if matches!(refusal.reason, RefusalReason::VlanConflict { .. }) => {
            assert!(plan.changes.is_empty(), "{plan:?}");
            refusal.reason.to_string()
        }
        others => panic!("{others:?}"),
    }
}

#[test]
fn the_addresses_are_on_the_vlan_and_the_nic_below_is_up_without_any() {
    let node = configured(SOURCED);
    let (nic, vlan) = (node.link(NIC), named(&node, "multinic0.100"));
    assert_eq!((nic.name.as_str(), nic.up, vlan.up), ("multinic0", true, true));
    assert_eq!((node.shows(NIC), node.shows(vlan.index)), (vec![], vec![IP.to_owned()]));
    assert!(vlan.is_vlan(NIC, number(100)));
    assert_eq!((nic.settings.rp_filter, vlan.settings.rp_filter), (0, 2));
    assert!(node.seen.other_tables.iter().all(|route| route.link == vlan.index && route.table == 100));
    assert_eq!((node.seen.other_tables.len(), node.seen.rules.len()), (2, 1));
}

#[test]
fn the_nic_comes_before_its_vlan_and_the_vlan_before_its_addresses() {
    let mut node = bare();
    let plan = node.settle(&[wish(ON_VLAN)], &[]);
    let at = |wanted: &dyn Fn(&Step) -> bool| plan.changes[0].steps.iter().position(wanted).unwrap();
    let up = at(&|step| *step == Step::SetUp);
    let made = at(&|step| matches!(step, Step::AddVlan(_)));
    let first = at(&|step| matches!(step, Step::OnVlan(..)));
    assert!(up < made && made < first);
}

#[test]
fn an_interface_moves_onto_a_vlan_from_one_to_another_and_back() {
    let mut node = configured(PLAIN);
    node.settle(&[wish(SOURCED)], &[]);
    assert_eq!(node.shows(NIC), Vec::<String>::new());
    let other = SOURCED.replace("100", "7");
    let plan = node.settle(&[wish(&other)], &[]);
    assert!(matches!(plan.changes[0].kind, ChangeKind::Update(_)));
    assert_eq!(node.seen.by_name("multinic0.100"), None);
    assert_eq!(node.shows(named(&node, "multinic0.7").index), [IP]);
    // The NIC itself was not touched by that.
    assert!(!plan.changes[0].steps.iter().any(|step| matches!(step, Step::SetDown | Step::Rename(_))));
    node.settle(&[wish(PLAIN)], &[]);
    assert_eq!((node.seen.by_name("multinic0.7"), node.shows(NIC)), (None, vec![IP.to_owned()]));
    assert!(node.seen.rules.is_empty() && node.seen.other_tables.is_empty());
}

#[test]
fn a_vlan_that_is_gone_or_another_one_is_made_again() {
    let parent = |node: &mut Node| {
        edit(node, "multinic0.100", |link| link.lower = Some(2));
    };
    let renumbered = |node: &mut Node| {
        edit(node, "multinic0.100", |link| link.vlan = Some(number(200)));
    };
    let gone = |node: &mut Node| {
        let index = named(node, "multinic0.100").index;
        node.seen.links.retain(|link| link.index != index);
        node.seen.addresses.retain(|held| held.link != index);
    };
    for damage in [&gone as &dyn Fn(&mut Node), &renumbered, &parent] {
        let mut node = configured(ON_VLAN);
        damage(&mut node);
        let plan = node.settle(&[wish(ON_VLAN)], &[]);
        assert!(repaired(&plan).iter().any(|drift| drift.label() == "missing_link"));
        let made = named(&node, "multinic0.100");
        assert!(made.is_vlan(NIC, number(100)));
        assert_eq!(node.shows(made.index), [IP]);
    }
}

#[test]
fn what_is_wrong_with_a_vlan_is_repaired_there() {
    let mut node = configured(SOURCED);
    let index = named(&node, "multinic0.100").index;
    edit(&mut node, "multinic0.100", |link| {
        link.mtu = 1400;
        link.up = false;
        link.settings.rp_filter = 0;
    });
    node.seen.addresses.retain(|held| held.link != index);
    node.seen.addresses.push(lease(index, "10.7.7.7/24"));
    let plan = node.settle(&[wish(SOURCED)], &[]);
    let labels: Vec<_> = repaired(&plan).iter().map(Drift::label).collect();
    assert_eq!(labels, ["mtu", "ip_address", "missing_address", "state", "sysctl"]);
    assert_eq!(node.shows(index), [IP]);
}

#[test]
fn a_vlan_goes_down_and_comes_back_with_its_nic() {
    let mut node = configured(r#"{"vlan": 100, "strictArp": false, "routes": [{"to": "fd00:8::/32"}]}"#);
    edit(&mut node, "multinic0", |link| link.name = "eth7".to_owned());
    let plan =
        node.settle(&[wish(r#"{"vlan": 100, "strictArp": false, "routes": [{"to": "fd00:8::/32"}]}"#)], &[]);
    assert_eq!(repaired(&plan)[0].label(), "name");
    let index = named(&node, "multinic0.100").index;
    assert!(node.seen.routes.iter().any(|route| route.link == index));
    assert_eq!(node.shows(index), [IP]);
}

#[test]
fn both_links_have_the_mtu_whichever_way_it_goes() {
    let mut node = configured(ON_VLAN);
    for mtu in [1400, 9000, 1500] {
        let mtu = Mtu::new(mtu).unwrap();
        node.settle(&[DesiredNic { mtu, ..wish(ON_VLAN) }], &[]);
        let both = (node.link(NIC).mtu, named(&node, "multinic0.100").mtu);
        assert_eq!(both, (mtu.bytes().into(), mtu.bytes().into()));
    }
}

#[test]
fn a_vlan_that_somebody_else_made_is_not_ours() {
    for (name, parent, id, said) in [
        ("multinic0.100", NIC, 100, "there is multinic0.100, VLAN 100 of multinic0"),
        ("multinic0.100", 2, 100, "there is multinic0.100, VLAN 100 of eth0"),
        ("storage", NIC, 100, "there is storage, VLAN 100 of multinic0"),
    ] {
        let mut node = configured(PLAIN);
        node.seen.links.push(vlan(9, name, parent, id));
        node.seen.addresses.push(address(9, "10.9.9.9/24"));
        let plan = node.plan(&[wish(ON_VLAN)], &[]);
        assert!(conflict(&plan).contains(said), "{}", conflict(&plan));
    }
    // A link that only has the name.
    let mut node = configured(PLAIN);
    node.seen.links.push(Link { stacked: true, ..link(9, "multinic0.100", 7) });
    conflict(&node.plan(&[wish(ON_VLAN)], &[]));
    // What took the place of ours, and is no VLAN.
    let mut node = configured(ON_VLAN);
    edit(&mut node, "multinic0.100", |link| link.vlan = None);
    conflict(&node.plan(&[wish(ON_VLAN)], &[]));
}

#[test]
fn vlans_of_others_on_a_nic_of_ours_stay_with_all_that_they_have() {
    let mut node = configured(ON_VLAN);
    node.seen.links.push(vlan(90, "multinic0.200", NIC, 200));
    node.seen.addresses.push(address(90, "10.9.9.9/24"));
    node.settle(&[wish(&ON_VLAN.replace("100", "7"))], &[]);
    node.settle(&[wish(PLAIN)], &[]);
    assert_eq!(node.shows(90), ["10.9.9.9/24"]);
    node.settle(&[], &[1]);
    assert!(node.seen.by_name("multinic0.200").is_some());
}

#[test]
fn a_nic_that_is_taken_away_takes_its_vlan_along() {
    let mut node = configured(SOURCED);
    node.settle(&[], &[1]);
    assert_eq!(node.seen.links, [bare().seen.links[..2].to_vec(), vec![link(NIC, "eth1", 1)]].concat());
    assert!(node.seen.rules.is_empty() && node.seen.other_tables.is_empty() && node.seen.files.is_empty());
}

#[test]
fn a_vlan_that_carries_the_node_is_not_cut() {
    let mut node = configured(ON_VLAN);
    node.seen.lifelines.node_addresses.insert(net(IP).addr());
    let plan = node.plan(&[wish(PLAIN)], &[]);
    assert_eq!(plan.refused[0].reason, RefusalReason::InUse(vec![Obstacle::NodeAddress]));
    let plan = node.plan(&[], &[1]);
    assert_eq!(plan.refused[0].reason, RefusalReason::InUse(vec![Obstacle::NodeAddress]));
}

#[test]
fn without_our_memory_a_vlan_is_ours_by_our_files() {
    let mut node = configured(ON_VLAN);
    node.owned = Owned::new();
    let plan = node.settle(&[wish(ON_VLAN)], &[]);
    assert_eq!(plan.changes[0].kind, ChangeKind::Adopt);
    node.owned = Owned::new();
    node.seen.files.clear();
    node.seen.files.push(support::kernel::old_file(0, 1, &[IP]));
    conflict(&node.plan(&[wish(ON_VLAN)], &[]));
}

#[test]
fn a_duplicate_on_a_vlan_is_reported() {
    let mut node = configured(ON_VLAN);
    let index = named(&node, "multinic0.100").index;
    node.seen.addresses.iter_mut().filter(|held| held.link == index).for_each(|held| held.duplicate = true);
    assert_eq!(node.plan(&[wish(ON_VLAN)], &[]).settled[0].duplicates, [net(IP)]);
}

#[test]
fn a_kernel_without_vlans_is_found_out_before_anything_is_touched() {
    let node = bare();
    let wishes =
        [wish(ON_VLAN), DesiredNic { slot: Some(support::slot(1)), ..desired(2, Some(1), &["10.1.0.5/24"]) }];
    let mut node = Node { seen: node.seen, ..Node::default() };
    node.seen.links.push(link(6, "eth2", 2));
    let mut plan = node.plan(&wishes, &[]);
    let targets: Vec<_> = plan.changes.iter().filter_map(|change| change.target.clone()).collect();
    let survey = Survey { vlans: Some(false), ..Survey::default() };
    let findings = examine(&targets, &node.owned, &node.seen, &survey);
    plan.heed(&findings);
    // Nothing else stops.
    assert_eq!(plan.changes.iter().map(|change| change.mac).collect::<Vec<_>>(), [mac(2)]);
    let said = plan.refused[0].reason.to_string();
    assert!(
        said.contains("NoVlans: ") && said.contains("modprobe 8021q") && said.contains("multinic0.100"),
        "{said}"
    );
    for vlans in [None, Some(true)] {
        assert!(
            examine(&targets, &node.owned, &node.seen, &Survey { vlans, ..Survey::default() }).is_empty()
        );
    }
}

#[test]
fn a_table_of_its_own_may_have_routes_over_the_vlan() {
    let node = configured(SOURCED);
    let target = node.owned.values().next().unwrap().target.clone();
    assert!(examine(std::slice::from_ref(&target), &node.owned, &node.seen, &Survey::default()).is_empty());
    let mut seen = node.seen.clone();
    let foreign =
        multinic_core::node::observed::Route { table: 100, ..route(2, "10.9.0.0/16", RouteOrigin::Static) };
    seen.other_tables.push(foreign);
    assert_eq!(examine(&[target], &node.owned, &seen, &Survey::default())[0].code, "TableInUse");
}

#[test]
fn only_a_number_of_a_vlan_is_one() {
    for number in [0, 4095] {
        let text = format!(r#"{{"vlan": {number}}}"#);
        assert!(
            serde_json::from_str::<InterfaceOptions>(&text).unwrap_err().to_string().contains("1 to 4094")
        );
    }
    assert_eq!(target(1, 0, &[]).vlan(), None);
}
