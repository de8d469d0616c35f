//! All configurations together: one wish per port, contradictions reported on all who are part of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use multinic_core::cloud::Port;
use multinic_core::config::Selection;
use multinic_core::fleet::Reason;
use support::*;

#[test]
fn two_configurations_that_name_one_node_are_merged() {
    let (a, b) = (selection(&["vm-1"], &["sub-a"]), selection(&["vm-1"], &["sub-b"]));
    let vm = [server("vm-1", "w1")];
    let ports = [port_a(1, "vm-1"), port(2, "vm-1", &[("10.1.0.2", "sub-b")])];
    let model = Model::of(vec![
        read("one", &a, &snapshot(&["sub-a"], &vm, &ports)),
        read("two", &b, &snapshot(&["sub-b"], &vm, &ports)),
    ]);
    assert_eq!(model.shows(), ["w1/multinic0 port-1 one", "w1/multinic1 port-2 two"]);
}

#[test]
fn a_port_that_two_configurations_want_is_one_nic_and_goes_over_when_one_lets_go() {
    let wide = selection(&["vm-1"], &["sub-a"]);
    let other = selection(&["vm-2"], &["sub-a"]);
    let servers = [server("vm-1", "w1"), server("vm-2", "w2")];
    let ports = [port_a(1, "vm-1"), port_a(2, "vm-2")];
    let seen = snapshot(&["sub-a"], &servers[..1], &ports[..1]);
    let mut model = Model::of(vec![read("one", &wide, &seen), read("two", &wide, &seen)]);
    assert_eq!(model.shows(), ["w1/multinic0 port-1 one"]);

    let elsewhere = snapshot(&["sub-a"], &servers[1..], &ports[1..]);
    let decision = model.pass(vec![read("one", &other, &elsewhere), read("two", &wide, &seen)]);
    assert_eq!(removals(&decision), Vec::<String>::new());
    assert_eq!(model.shows(), ["w1/multinic0 port-1 two", "w2/multinic0 port-2 one"]);
}

#[test]
fn the_owner_stays_when_another_configuration_joins() {
    let wide = selection(&["vm-1"], &["sub-a"]);
    let seen = snapshot(&["sub-a"], &[server("vm-1", "w1")], &[port_a(1, "vm-1")]);
    let mut model = Model::of(vec![read("two", &wide, &seen)]);
    model.pass(vec![read("one", &wide, &seen), read("two", &wide, &seen)]);
    assert_eq!(model.shows(), ["w1/multinic0 port-1 two"]);
}

#[test]
fn a_port_listed_twice_is_one_nic_as_its_later_revision_has_it() {
    let (old, mut new) = (port_a(1, "vm-1"), port(1, "vm-1", &[("10.0.9.9", "sub-a")]));
    new.revision_number = 2;
    for ports in [[old.clone(), new.clone()], [new, old]] {
        let seen = snapshot(&["sub-a"], &[server("vm-1", "w1")], &ports);
        let mut model = Model::of(vec![read("one", &selection(&["vm-1"], &["sub-a"]), &seen)]);
        let interface = model.row(1).interface().cloned().unwrap();
        assert_eq!(interface.addresses.to_string(), "10.0.9.9/16");
    }
}

#[test]
fn what_was_read_in_an_earlier_pass_is_not_published_over_what_is_newer() {
    let spec = selection(&["vm-1"], &["sub-a"]);
    let servers = [server("vm-1", "w1")];
    let old = snapshot(&["sub-a"], &servers, &[port_a(1, "vm-1")]);
    let mut changed = port(1, "vm-1", &[("10.0.9.9", "sub-a")]);
    changed.revision_number = 2;
    let mut new = snapshot(&["sub-a"], &servers, &[changed]);
    new.networks.get_mut("net-a").unwrap().mtu = Some(1400);
    let mut model = Model::of(vec![read("one", &spec, &old), read("two", &spec, &old)]);
    model.pass(vec![read("one", &spec, &new), earlier(read("two", &spec, &old))]);
    assert_eq!(model.row(1).interface().unwrap().addresses.to_string(), "10.0.9.9/16");
    // The one that knows better cannot be read now.
    let before = model.clone();
    model.pass(vec![unread("one", &spec), earlier(read("two", &spec, &old))]);
    assert_eq!(model, before);
    // A network's MTU changes without its ports' revisions: what was read now counts, whoever comes first by name.
    let mut same = snapshot(&["sub-a"], &servers, &[port_a(1, "vm-1")]);
    same.networks.get_mut("net-a").unwrap().mtu = Some(1300);
    model.pass(vec![earlier(read("one", &spec, &old)), read("two", &spec, &same)]);
    assert_eq!(model.row(1).interface().unwrap().mtu.bytes(), 1300);
}

#[test]
fn what_was_read_in_an_earlier_pass_moves_removes_and_revives_nothing() {
    let (first, second) = (selection(&["vm-1"], &["sub-a"]), selection(&["vm-2"], &["sub-a"]));
    let servers = [server("vm-1", "w1"), server("vm-2", "w2")];
    let on_first = snapshot(&["sub-a"], &servers[..1], &[port_a(1, "vm-1")]);
    let mut port = port_a(1, "vm-2");
    port.revision_number = 2;
    let on_second = snapshot(&["sub-a"], &servers[1..], &[port]);
    let mut model = Model::of(vec![read("one", &first, &on_first)]);
    model.pass(vec![earlier(read("one", &first, &on_first)), read("two", &second, &on_second)]);
    model.pass(vec![
        read("one", &first, &snapshot(&["sub-a"], &servers[..1], &[])),
        read("two", &second, &on_second),
    ]);
    assert_eq!(model.shows(), ["w2/multinic0 port-1 two"]);
    // It is on its new server, and only the older read can be had.
    let before = model.clone();
    let decision = model.pass(vec![earlier(read("one", &first, &on_first)), unread("two", &second)]);
    assert_eq!(removals(&decision), Vec::<String>::new());
    assert_eq!(model, before);
    // Another controller removed it meanwhile.
    model.published.interfaces.clear();
    model.pass(vec![earlier(read("one", &first, &on_first))]);
    assert_eq!(model.shows(), Vec::<String>::new());
}

#[test]
fn what_was_read_in_an_earlier_pass_still_keeps_what_is_published() {
    let spec = selection(&["vm-1"], &["sub-a"]);
    let seen = snapshot(&["sub-a"], &[server("vm-1", "w1")], &[port_a(1, "vm-1")]);
    let mut model = Model::of(vec![read("one", &spec, &seen), read("two", &spec, &seen)]);
    let before = model.shows();
    // Its owner is gone; the other, which wants it too, is not due.
    model.pass(vec![earlier(read("two", &spec, &seen))]);
    assert_eq!(model.shows(), before);
    model.pass(vec![read("two", &spec, &seen)]);
    assert_eq!(model.shows(), ["w1/multinic0 port-1 two"]);
}

fn twins() -> [Port; 2] {
    let mut twin = port(2, "vm-1", &[("10.1.0.2", "sub-b")]);
    twin.mac = mac(1);
    [port_a(1, "vm-1"), twin]
}

#[test]
fn one_mac_on_two_ports_of_a_node_is_an_error_on_both_and_what_is_published_stays() {
    let (a, b) = (selection(&["vm-1"], &["sub-a"]), selection(&["vm-1"], &["sub-b"]));
    let vm = [server("vm-1", "w1")];
    let mut model = Model::of(vec![read("one", &a, &snapshot(&["sub-a"], &vm, &twins()[..1]))]);
    let before = model.shows();
    let decision = model.pass(vec![
        read("one", &a, &snapshot(&["sub-a"], &vm, &twins())),
        read("two", &b, &snapshot(&["sub-b"], &vm, &twins())),
    ]);
    assert!(has(&decision, "one", Reason::MacConflict) && has(&decision, "two", Reason::MacConflict));
    assert_eq!(model.shows(), before);
}

#[test]
fn one_mac_on_two_nodes_is_no_conflict() {
    let mut twin = port_a(2, "vm-2");
    twin.mac = mac(1);
    let servers = [server("vm-1", "w1"), server("vm-2", "w2")];
    let seen = snapshot(&["sub-a"], &servers, &[port_a(1, "vm-1"), twin]);
    let model = Model::of(vec![read("one", &selection(&["vm-1", "vm-2"], &["sub-a"]), &seen)]);
    assert_eq!(model.shows(), ["w1/multinic0 port-1 one", "w2/multinic0 port-2 one"]);
}

#[test]
fn a_new_port_with_the_mac_of_a_published_one_whose_cloud_failed_is_an_error() {
    let (a, b) = (selection(&["vm-1"], &["sub-a"]), selection(&["vm-1"], &["sub-b"]));
    let vm = [server("vm-1", "w1")];
    let mut model = Model::of(vec![read("one", &a, &snapshot(&["sub-a"], &vm, &twins()[..1]))]);
    let before = model.shows();
    let decision =
        model.pass(vec![unread("one", &a), read("two", &b, &snapshot(&["sub-b"], &vm, &twins()[1..]))]);
    assert!(has(&decision, "two", Reason::MacConflict));
    assert_eq!(model.shows(), before);
}

#[test]
fn two_servers_with_one_node_name_are_an_error_on_both_and_what_is_published_stays() {
    let (a, b) = (selection(&["vm-1"], &["sub-a"]), selection(&["vm-2"], &["sub-a"]));
    let first = || read("one", &a, &snapshot(&["sub-a"], &[server("vm-1", "w1")], &[port_a(1, "vm-1")]));
    let second = || read("two", &b, &snapshot(&["sub-a"], &[server("vm-2", "w1")], &[port_a(2, "vm-2")]));
    let mut model = Model::of(vec![first()]);
    let before = model.shows();
    let decision = model.pass(vec![first(), second()]);
    for config in ["one", "two"] {
        assert!(has(&decision, config, Reason::NodeNameNotUnique), "{config}");
    }
    assert_eq!(model.shows(), before);
    // Also while the first one's cloud can't be read.
    let decision = model.pass(vec![unread("one", &a), second()]);
    assert!(has(&decision, "two", Reason::NodeNameNotUnique));
    assert_eq!(model.shows(), before);
}

#[test]
fn two_configurations_that_name_one_server_differently_are_an_error_on_both_and_what_is_published_stays() {
    let plain = selection(&["vm-1"], &["sub-a"]);
    let keyed = Selection { node_name_key: Some("node".to_owned()), ..plain.clone() };
    let seen = |revision| {
        let mut port = port_a(1, "vm-1");
        port.revision_number = revision;
        snapshot(&["sub-a"], &[with_metadata(server("vm-1", "w1"), "node", "k1")], &[port])
    };
    let mut model = Model::of(vec![read("one", &plain, &seen(1))]);
    let before = model.shows();
    for later in [1, 2] {
        let decision = model.pass(vec![read("one", &plain, &seen(1)), read("two", &keyed, &seen(later))]);
        for config in ["one", "two"] {
            assert!(has(&decision, config, Reason::NodeNameNotUnique), "{config}, revision {later}");
        }
        assert_eq!(model.shows(), before);
    }
}

#[test]
fn two_configurations_with_different_ports_of_one_server_must_agree_on_its_node_too() {
    let plain = selection(&["vm-1"], &["sub-a"]);
    let keyed = Selection { node_name_key: Some("node".to_owned()), ..selection(&["vm-1"], &["sub-b"]) };
    let vm = [with_metadata(server("vm-1", "w1"), "node", "k1")];
    let ports = [port_a(1, "vm-1"), port(2, "vm-1", &[("10.1.0.2", "sub-b")])];
    let mut model = Model::default();
    let decision = model.pass(vec![
        read("one", &plain, &snapshot(&["sub-a"], &vm, &ports)),
        read("two", &keyed, &snapshot(&["sub-b"], &vm, &ports)),
    ]);
    assert_eq!(errors(&decision), ["one NodeNameNotUnique VM vm-1", "two NodeNameNotUnique VM vm-1"]);
    assert!(model.shows().is_empty());
}

#[test]
fn new_nics_take_slots_in_the_order_of_subnets_then_creation_then_mac() {
    let at = |n: u16, second: Option<u16>, ip: &str, subnet: &str| {
        let mut made = port(n, "vm-1", &[(ip, subnet)]);
        made.created_at = second.map(|second| port_a(second, "vm-1").created_at.unwrap());
        made
    };
    let mut ports = vec![
        at(1, None, "10.0.0.1", "sub-a"),
        at(2, Some(9), "10.0.0.2", "sub-a"),
        at(4, Some(5), "10.0.0.4", "sub-a"),
        at(3, Some(5), "10.0.0.3", "sub-a"),
        at(5, Some(99), "10.1.0.5", "sub-b"),
    ];
    let order = ["sub-b", "sub-a"];
    let expected = [
        "w1/multinic0 port-5 one",
        "w1/multinic1 port-3 one",
        "w1/multinic2 port-4 one",
        "w1/multinic3 port-2 one",
        "w1/multinic4 port-1 one",
    ];
    for _ in 0..ports.len() {
        ports.rotate_left(1);
        let seen = snapshot(&order, &[server("vm-1", "w1")], &ports);
        assert_eq!(Model::of(vec![read("one", &selection(&["vm-1"], &order), &seen)]).shows(), expected);
    }
}
