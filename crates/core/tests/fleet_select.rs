//! What one configuration selects from what its cloud shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use multinic_core::cloud::{CloudSnapshot, Network, UnreadablePort, Unresolved, UnresolvedVm};
use multinic_core::config::{Selection, StatusFilter};
use multinic_core::fleet::{Reason, Selected, select};
use support::*;

fn selected(selection: &Selection, snapshot: &CloudSnapshot) -> Selected {
    select(selection, snapshot)
}

fn reasons(selected: &Selected) -> Vec<Reason> {
    selected.problems.iter().map(|problem| problem.reason).collect()
}

fn node_of(selection: &Selection, server: multinic_core::cloud::Server) -> Result<String, Reason> {
    let id = server.id.to_string();
    let found = select(selection, &snapshot(&["sub-a"], &[server], &[port_a(1, &id)]));
    match found.wanted.first() {
        Some(wanted) => Ok(wanted.node.to_string()),
        None => Err(found.problems[0].reason),
    }
}

#[test]
fn a_node_is_named_by_its_metadata_else_by_its_server_else_by_its_id() {
    let by_name = selection(&["vm-1"], &["sub-a"]);
    let by_metadata = Selection { node_name_key: Some("node".to_owned()), ..by_name.clone() };
    let bare = || server("vm-1", " worker-1 ");
    let marked = || with_metadata(bare(), "node", " k8s-1 ");
    assert_eq!(node_of(&by_metadata, marked()).unwrap(), "k8s-1");
    assert_eq!(node_of(&by_name, marked()).unwrap(), "worker-1");
    assert_eq!(node_of(&by_metadata, bare()).unwrap(), "worker-1");
    assert_eq!(node_of(&by_metadata, with_metadata(bare(), "node", "  ")).unwrap(), "worker-1");
    assert_eq!(node_of(&by_name, server("vm-1", "")).unwrap(), "vm-1");
}

#[test]
fn a_name_that_no_node_can_have_is_an_error_and_not_replaced_by_the_id() {
    assert_eq!(
        node_of(&selection(&["vm-1"], &["sub-a"]), server("vm-1", "my node")),
        Err(Reason::NodeNameInvalid)
    );
}

#[test]
fn a_server_whose_name_could_not_be_read_is_skipped_and_reported_and_the_others_go_on() {
    let mut unnamed = server("vm-1", "");
    unnamed.identity = Err("503".to_owned());
    let ports = [port_a(1, "vm-1"), port_a(2, "vm-2")];
    let found = selected(
        &selection(&["vm-1", "vm-2"], &["sub-a"]),
        &snapshot(&["sub-a"], &[unnamed, server("vm-2", "worker-2")], &ports),
    );
    assert_eq!(found.wanted.len(), 1);
    assert_eq!(found.wanted[0].node, node("worker-2"));
    assert_eq!(reasons(&found), [Reason::NodeNameUnknown]);
    assert!(found.stuck.contains("port-1"), "what is published of it must stay");
}

#[test]
fn every_fixed_ip_is_in_the_list_and_ipv4_comes_first() {
    let both = port(1, "vm-1", &[("fd00:a::5", "sub-a6"), ("10.0.0.5", "sub-a"), ("10.0.0.6", "sub-a")]);
    let found =
        selected(&selection(&["vm-1"], &["sub-a6"]), &snapshot(&["sub-a6"], &[server("vm-1", "w")], &[both]));
    let interface = &found.wanted[0].interface;
    assert_eq!(interface.addresses.to_string(), "10.0.0.5/16, 10.0.0.6/16, fd00:a::5/64");
    assert_eq!(interface.cidr.to_string(), "10.0.0.0/16");
    assert_eq!(interface.subnet.as_str(), "sub-a");
    assert_eq!(interface.mtu.bytes(), 1500);
    assert!(found.subnets.contains_key("sub-a"));
}

#[test]
fn a_network_without_a_usable_mtu_is_an_error_by_name() {
    let both = port(1, "vm-1", &[("10.0.0.5", "sub-a"), ("fd00:a::5", "sub-a6")]);
    for (mtu, ports, expected) in [
        (None, port_a(1, "vm-1"), Some(Reason::MtuUnknown)),
        (Some(0), port_a(1, "vm-1"), Some(Reason::InterfaceInvalid)),
        (Some(-1), port_a(1, "vm-1"), Some(Reason::InterfaceInvalid)),
        (Some(1279), both.clone(), Some(Reason::InterfaceInvalid)),
        (Some(1279), port_a(1, "vm-1"), None),
        (Some(1280), both, None),
    ] {
        let mut cloud = snapshot(&["sub-a"], &[server("vm-1", "w")], &[ports]);
        cloud.networks.insert("net-a".into(), Network { id: "net-a".into(), mtu });
        let found = selected(&selection(&["vm-1"], &["sub-a"]), &cloud);
        assert_eq!(reasons(&found).first().copied(), expected, "{mtu:?}");
        assert_eq!(found.wanted.len(), usize::from(expected.is_none()));
        assert_eq!(found.stuck.contains("port-1"), expected.is_some());
    }
}

#[test]
fn a_port_with_an_error_does_not_keep_its_neighbour_from_being_selected() {
    let outside = port(1, "vm-1", &[("192.168.7.7", "sub-a")]);
    let found = selected(
        &selection(&["vm-1"], &["sub-a"]),
        &snapshot(&["sub-a"], &[server("vm-1", "w")], &[outside, port_a(2, "vm-1")]),
    );
    assert_eq!(reasons(&found), [Reason::InterfaceInvalid]);
    assert!(found.problems[0].message.contains("192.168.7.7"), "{}", found.problems[0]);
    assert_eq!(found.wanted.len(), 1);
}

#[test]
fn a_status_outside_the_list_does_not_admit_a_new_nic_and_none_is_always_admitted() {
    let admitted = |statuses: StatusFilter, status: &str| {
        let mut port = port_a(1, "vm-1");
        port.status = status.to_owned();
        let selection = Selection { statuses, ..selection(&["vm-1"], &["sub-a"]) };
        selected(&selection, &snapshot(&["sub-a"], &[server("vm-1", "w")], &[port])).wanted[0].admitted
    };
    let usual = || StatusFilter::Only(["ACTIVE", "DOWN"].map(str::to_owned).into());
    assert!(admitted(usual(), "active"));
    assert!(admitted(usual(), ""));
    assert!(!admitted(usual(), "BUILD"));
    assert!(admitted(StatusFilter::Any, "BUILD"));
}

#[test]
fn down_ports_are_counted() {
    let mut down = port_a(1, "vm-1");
    down.status = "DOWN".to_owned();
    let found = selected(
        &selection(&["vm-1"], &["sub-a"]),
        &snapshot(&["sub-a"], &[server("vm-1", "w")], &[down, port_a(2, "vm-1")]),
    );
    assert_eq!(found.down.iter().map(ToString::to_string).collect::<Vec<_>>(), ["port-1"]);
}

#[test]
fn a_port_in_several_selected_subnets_ranks_by_the_first_of_the_users_list() {
    let both = port(1, "vm-1", &[("10.0.0.5", "sub-a"), ("fd00:a::5", "sub-a6")]);
    let order = ["sub-b", "sub-a6", "sub-a"];
    let found = selected(&selection(&["vm-1"], &order), &snapshot(&order, &[server("vm-1", "w")], &[both]));
    assert_eq!(found.wanted[0].rank, 1);
}

#[test]
fn a_port_outside_the_selected_subnets_is_excluded_and_its_vm_has_no_matching_port() {
    let found = selected(
        &selection(&["vm-1"], &["sub-b"]),
        &snapshot(&["sub-b"], &[server("vm-1", "w")], &[port_a(1, "vm-1")]),
    );
    assert!(found.excluded.contains("port-1"));
    assert_eq!(reasons(&found), [Reason::NoMatchingPort]);
    assert!(!Reason::NoMatchingPort.is_error());
}

#[test]
fn a_selected_subnet_that_the_read_lacks_makes_its_ports_unusable_but_not_excluded() {
    let mut cloud = snapshot(&["sub-a"], &[server("vm-1", "w")], &[port_a(1, "vm-1")]);
    cloud.subnets.clear();
    let found = selected(&selection(&["vm-1"], &["sub-a"]), &cloud);
    assert!(found.excluded.is_empty());
    assert!(found.stuck.contains("port-1"));
    assert_eq!(reasons(&found), [Reason::InterfaceInvalid]);
}

#[test]
fn what_the_cloud_does_not_know_or_cannot_tell_apart_is_reported_by_the_users_word() {
    let mut cloud = snapshot(&["sub-a"], &[], &[]);
    cloud.unresolved = vec![
        not_found("worker-7"),
        UnresolvedVm {
            vm: "worker-8".to_owned(),
            why: Unresolved::Ambiguous(vec!["vm-1".into(), "vm-2".into()]),
        },
    ];
    let found = selected(&by_name(&["worker-7", "worker-8"], "x"), &cloud);
    assert_eq!(reasons(&found), [Reason::VmNotFound, Reason::VmNotUnique]);
    assert!(found.problems[0].subject.contains("worker-7"));
    assert!(found.problems[1].message.contains("vm-1, vm-2"));
    assert!(!found.all_resolved);
}

#[test]
fn a_port_row_that_could_not_be_understood_is_reported_and_held() {
    let mut cloud = snapshot(&["sub-a"], &[server("vm-1", "w")], &[port_a(1, "vm-1")]);
    cloud.unreadable.push(UnreadablePort {
        id: Some("port-9".into()),
        device: Some("vm-1".into()),
        problem: "mac_address: x".to_owned(),
    });
    let found = selected(&selection(&["vm-1"], &["sub-a"]), &cloud);
    assert_eq!(reasons(&found), [Reason::PortUnreadable]);
    assert!(found.stuck.contains("port-9"));
    assert_eq!(found.wanted.len(), 1);
}
