//! What is published and what is taken away: absence of evidence is not deletion.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use multinic_core::cloud::CloudSnapshot;
use multinic_core::cloud::PortProof::{self, Gone, StillAttached, Unproven};
use multinic_core::cloud::{Port, Server};
use multinic_core::config::Selection;
use multinic_core::fleet::{Decision, Listing, Reason, Standing};
use multinic_core::published::{PartialNic, PublishedInterface, PublishedNic};
use support::*;

/// Servers vm-1 … vm-N called w1 … wN.
fn fleet(vms: u16) -> Vec<Server> {
    (1..=vms).map(|n| server(&format!("vm-{n}"), &format!("w{n}"))).collect()
}

/// Configuration `one` wants vm-1 and vm-2 in sub-a; each has a port of its own number.
fn pair() -> (Selection, Vec<Server>, Vec<Port>) {
    (selection(&["vm-1", "vm-2"], &["sub-a"]), fleet(2), vec![port_a(1, "vm-1"), port_a(2, "vm-2")])
}

fn one(selection: &Selection, servers: &[Server], ports: &[Port]) -> Standing {
    read("one", selection, &snapshot(&["sub-a"], servers, ports))
}

fn published_pair() -> Model {
    let (spec, servers, ports) = pair();
    Model::of(vec![one(&spec, &servers, &ports)])
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_pass_in_which_nothing_changed_publishes_the_same_and_removes_nothing() {
    let (spec, servers, ports) = pair();
    let mut model = published_pair();
    let before = model.clone();
    let first = model.pass(vec![one(&spec, &servers, &ports)]);
    let second = model.pass(vec![one(&spec, &servers, &ports)]);
    assert_eq!(model, before);
    assert_eq!(first.publication, second.publication);
    assert!(first.changed.is_empty());
}

#[test]
fn a_port_that_the_list_lacks_is_only_a_candidate() {
    let (spec, servers, ports) = pair();
    for (proof, evidence) in [
        (None, None),
        (Some(StillAttached), None),
        (Some(Unproven("503".to_owned())), None),
        (Some(moved("vm-1")), None),
        (Some(Gone), Some("port-1 PortGone w1")),
        (Some(moved("vm-9")), Some("port-1 PortMoved w1")),
        (Some(moved("")), Some("port-1 PortMoved w1")),
    ] {
        let mut model = published_pair();
        let standings = vec![one(&spec, &servers, &ports[1..])];
        let asked = model.candidates(&standings, Listing::Complete);
        assert_eq!(asked.len(), 1);
        assert_eq!((asked[0].port.as_str(), &asked[0].owner), ("port-1", &key("one")));
        let proofs: Vec<(u16, PortProof)> = proof.iter().map(|proof| (1, proof.clone())).collect();
        let decision = model.pass_proving(standings, &proofs);
        assert_eq!(removals(&decision), Vec::from_iter(evidence), "{proof:?}");
        assert_eq!(has(&decision, "one", Reason::RemovalUnproven), evidence.is_none(), "{proof:?}");
        assert!(model.ports().contains("port-2"));
    }
}

#[test]
fn a_row_that_does_not_know_its_server_is_not_removed_because_the_port_has_one() {
    let (spec, servers, ports) = pair();
    for (proof, goes) in [(moved("vm-1"), false), (moved(""), true), (Gone, true)] {
        let mut model = published_pair();
        model.row(1).nic = of_an_older_program(model.row(1));
        let decision = model.pass_proving(vec![one(&spec, &servers, &ports[1..])], &[(1, proof.clone())]);
        assert_eq!(!removals(&decision).is_empty(), goes, "{proof:?}");
    }
}

#[test]
fn an_empty_list_of_ports_removes_nothing() {
    let (spec, servers, _) = pair();
    let mut model = published_pair();
    let decision = model.pass(vec![one(&spec, &servers, &[])]);
    assert_eq!(removals(&decision), NOTHING);
    assert_eq!(model.ports().len(), 2);
}

#[test]
fn a_configuration_whose_cloud_failed_or_that_cannot_be_parsed_keeps_everything() {
    let (spec, ..) = pair();
    for standing in [unread("one", &spec), broken("one")] {
        let mut model = published_pair();
        let before = model.clone();
        let decision = model.pass(vec![standing]);
        assert_eq!(model, before);
        assert_eq!(decision.publication.settled.len(), 0);
    }
}

#[test]
fn one_configuration_that_fails_does_not_stop_another() {
    let (spec, ..) = pair();
    let other = selection(&["vm-3"], &["sub-a"]);
    let mut model = published_pair();
    let third = snapshot(&["sub-a"], &[server("vm-3", "w3")], &[port_a(3, "vm-3")]);
    model.pass(vec![unread("one", &spec), broken("two"), read("three", &other, &third)]);
    assert_eq!(model.ports().len(), 3);
}

#[test]
fn a_vm_taken_out_of_the_spec_by_uuid_goes_even_while_the_cloud_fails() {
    let smaller = selection(&["vm-2"], &["sub-a"]);
    let (_, servers, ports) = pair();
    for standing in [unread("one", &smaller), one(&smaller, &servers[1..], &ports[1..])] {
        let mut model = published_pair();
        let decision = model.pass(vec![standing]);
        assert_eq!(removals(&decision), ["port-1 SpecChanged w1"]);
        assert_eq!(model.shows(), ["w2/multinic0 port-2 one"]);
    }
}

#[test]
fn a_vm_taken_out_of_the_spec_by_name_goes_when_every_other_name_has_its_server() {
    let (_, servers, ports) = pair();
    let full = Selection { subnets: pair().0.subnets, ..by_name(&["w1", "w2"], "") };
    let smaller = Selection { subnets: pair().0.subnets, ..by_name(&["w2"], "") };
    let start = || Model::of(vec![one(&full, &servers, &ports)]);

    let mut model = start();
    let decision = model.pass(vec![one(&smaller, &servers[1..], &ports[1..])]);
    assert_eq!(removals(&decision), ["port-1 SpecChanged w1"]);

    let mut model = start();
    let mut unresolved = snapshot(&["sub-a"], &[], &[]);
    unresolved.unresolved = vec![not_found("w2")];
    let decision = model.pass(vec![read("one", &smaller, &unresolved)]);
    assert_eq!(removals(&decision), NOTHING, "w2 may be either of them");

    let mut model = start();
    let decision = model.pass(vec![unread("one", &smaller)]);
    assert_eq!(removals(&decision), NOTHING, "a name says nothing while the cloud cannot be read");
}

#[test]
fn a_vm_that_the_cloud_no_longer_finds_keeps_its_nics_until_its_ports_are_proven_gone() {
    let (spec, servers, ports) = pair();
    let mut model = published_pair();
    let seen = || {
        let mut seen = snapshot(&["sub-a"], &servers[1..], &ports[1..]);
        seen.unresolved = vec![not_found("vm-1")];
        seen
    };
    let decision = model.pass(vec![read("one", &spec, &seen())]);
    assert_eq!(removals(&decision), NOTHING);
    assert!(has(&decision, "one", Reason::VmNotFound));
    let decision = model.pass_proving(vec![read("one", &spec, &seen())], &[(1, Gone)]);
    assert_eq!(removals(&decision), ["port-1 PortGone w1"]);
}

#[test]
fn a_subnet_taken_out_of_the_spec_takes_its_nics_along() {
    let (wide, narrow) = (selection(&["vm-1"], &["sub-a", "sub-b"]), selection(&["vm-1"], &["sub-a"]));
    let ports = [port_a(1, "vm-1"), port(2, "vm-1", &[("10.1.0.2", "sub-b")])];
    let start = Model::of(vec![read("one", &wide, &snapshot(&["sub-a", "sub-b"], &fleet(1), &ports))]);
    for standing in
        [one(&narrow, &fleet(1), &ports), one(&narrow, &fleet(1), &ports[..1]), unread("one", &narrow)]
    {
        let mut model = start.clone();
        let decision = model.pass(vec![standing]);
        assert_eq!(removals(&decision), ["port-2 SpecChanged w1"]);
        assert_eq!(model.shows(), ["w1/multinic0 port-1 one"]);
    }
}

#[test]
fn a_port_of_two_subnets_is_not_excluded_because_the_spec_names_only_the_second() {
    let both = [port(1, "vm-1", &[("10.0.0.5", "sub-a"), ("fd00:a::5", "sub-a6")])];
    let spec = selection(&["vm-1"], &["sub-a6"]);
    let wider = selection(&["vm-1", "vm-2"], &["sub-a6"]);
    let start = Model::of(vec![read("one", &spec, &snapshot(&["sub-a6"], &fleet(1), &both))]);
    // The spec grows, and in the same pass the cloud fails, or its list lacks the port.
    for standing in [unread("one", &wider), read("one", &wider, &snapshot(&["sub-a6"], &fleet(2), &[]))] {
        let mut model = start.clone();
        let decision = model.pass_proving(vec![standing], &[(1, StillAttached)]);
        assert_eq!(removals(&decision), NOTHING);
    }
}

#[test]
fn a_port_that_lost_its_address_in_the_selected_subnet_is_held_since_the_spec_did_not_change() {
    let spec = selection(&["vm-1"], &["sub-a"]);
    let mut model = Model::of(vec![one(&spec, &fleet(1), &[port_a(1, "vm-1")])]);
    let elsewhere = [port(1, "vm-1", &[("10.1.0.9", "sub-b")])];
    let decision = model.pass(vec![one(&spec, &fleet(1), &elsewhere)]);
    assert_eq!(removals(&decision), NOTHING);
    assert!(has(&decision, "one", Reason::RemovalUnproven));
}

#[test]
fn a_configuration_that_is_gone_takes_its_nics_along_if_the_list_of_configurations_is_complete() {
    let other = selection(&["vm-3"], &["sub-a"]);
    let stays = || read("two", &other, &snapshot(&["sub-a"], &[server("vm-3", "w3")], &[]));
    let mut model = published_pair();
    let before = model.clone();
    model.pass_with(vec![stays()], Listing::Partial, &[], &[]);
    assert_eq!(model.published.interfaces, before.published.interfaces);
    assert!(model.published.spec_hashes.contains_key(&key("one")));

    let decision = model.pass(vec![stays()]);
    assert_eq!(removals(&decision), ["port-1 SpecChanged w1", "port-2 SpecChanged w2"]);
    assert_eq!(decision.publication.forgotten, [key("one")]);
    assert!(!model.published.spec_hashes.contains_key(&key("one")));
}

#[test]
fn a_partial_list_of_configurations_keeps_what_an_unlisted_one_may_want_too() {
    let smaller = selection(&["vm-2"], &["sub-a"]);
    let mut model = published_pair();
    let decision = model.pass_with(vec![unread("one", &smaller)], Listing::Partial, &[], &[]);
    assert_eq!(removals(&decision), NOTHING);
    assert!(has(&decision, "one", Reason::RemovalUnproven));
}

#[test]
fn configurations_that_are_being_written_remove_and_move_nothing_and_are_not_blamed() {
    let (spec, servers, ports) = pair();
    let mut model = published_pair();
    let before = model.clone();
    let smaller = selection(&["vm-1"], &["sub-a"]);
    let mut keyed = spec.clone();
    keyed.node_name_key = Some("k8s-node".to_owned());
    let renamed: Vec<Server> = servers
        .iter()
        .map(|it| with_metadata(it.clone(), "k8s-node", &format!("node-of-{}", it.id)))
        .collect();
    for standings in [
        vec![one(&smaller, &servers[..1], &ports[..1])],
        vec![one(&keyed, &renamed, &ports)],
        vec![read(
            "other",
            &selection(&["vm-9"], &["sub-a"]),
            &snapshot(&["sub-a"], &[server("vm-9", "w9")], &[]),
        )],
        vec![],
    ] {
        let decision = model.pass_with(standings, Listing::Unsettled, &[], &[]);
        assert_eq!(errors(&decision), Vec::<String>::new());
        assert_eq!(model.published.interfaces, before.published.interfaces);
        assert_eq!(
            model.published.spec_hashes.get(&key("one")),
            before.published.spec_hashes.get(&key("one"))
        );
    }
    // What is added is added at once.
    let more = [ports.clone(), vec![port_a(9, "vm-1")]].concat();
    model.pass_with(vec![one(&spec, &servers, &more)], Listing::Unsettled, &[], &[]);
    assert_eq!(model.ports().len(), 3);
}

#[test]
fn what_a_configuration_that_cannot_be_read_may_want_too_is_not_removed() {
    let smaller = selection(&["vm-2"], &["sub-a"]);
    for (other, stays) in [
        (broken("two"), true),
        (unread("two", &by_name(&["w1"], "x")), true),
        (unread("two", &selection(&["vm-1"], &["sub-a"])), true),
        (unread("two", &selection(&["vm-7"], &["sub-a"])), false),
    ] {
        let mut model = published_pair();
        let decision = model.pass(vec![unread("one", &smaller), other]);
        assert_eq!(removals(&decision).is_empty(), stays);
        assert_eq!(has(&decision, "one", Reason::RemovalUnproven), stays);
    }
}

#[test]
fn what_another_configuration_selects_but_its_list_lacks_is_asked_for_before_it_goes() {
    let (_, servers, ports) = pair();
    let smaller = selection(&["vm-2"], &["sub-a"]);
    let other = selection(&["vm-1"], &["sub-a"]);
    // Configuration one lets go of vm-1, two wants it, and two's list of ports lacks its port.
    let standings = || {
        let lacking = snapshot(&["sub-a"], &servers[..1], &[]);
        vec![one(&smaller, &servers[1..], &ports[1..]), read("two", &other, &lacking)]
    };
    let mut model = published_pair();
    let asked = model.candidates(&standings(), Listing::Complete);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].owner, key("two"), "it is two's project that can tell");
    let decision = model.pass_proving(standings(), &[(1, StillAttached)]);
    assert_eq!(removals(&decision), NOTHING);
    let decision = model.pass_proving(standings(), &[(1, Gone)]);
    assert_eq!(removals(&decision), ["port-1 PortGone w1"]);
    // The same when one is gone altogether.
    let mut model = published_pair();
    let decision = model.pass_proving(standings().split_off(1), &[(1, StillAttached)]);
    assert_eq!(removals(&decision), ["port-2 SpecChanged w2"]);
}

#[test]
fn another_configuration_of_another_project_does_not_keep_what_it_cannot_see() {
    let smaller = selection(&["vm-2"], &["sub-a"]);
    let (_, servers, ports) = pair();
    let mut foreign = snapshot(&["sub-a"], &servers[..1], &[]);
    foreign.project = Some("another project".into());
    let mut model = published_pair();
    let decision = model.pass(vec![
        one(&smaller, &servers[1..], &ports[1..]),
        read("two", &selection(&["vm-1"], &["sub-a"]), &foreign),
    ]);
    assert_eq!(removals(&decision), ["port-1 SpecChanged w1"]);
}

#[test]
fn a_port_moved_to_another_server_leaves_its_node_and_appears_on_the_other() {
    let (spec, servers, _) = pair();
    let mut model = published_pair();
    let swapped = [port_a(1, "vm-2"), port_a(2, "vm-2")];
    let decision = model.pass(vec![one(&spec, &servers, &swapped)]);
    assert_eq!(removals(&decision), ["port-1 PortMoved w1"]);
    assert_eq!(model.shows(), ["w2/multinic0 port-2 one", "w2/multinic1 port-1 one"]);
    assert_eq!(model.published.releasing.len(), 1);
}

#[test]
fn a_port_with_another_mac_is_another_nic_and_the_old_slot_is_kept_until_its_release() {
    let (spec, servers, mut ports) = pair();
    let mut model = published_pair();
    ports[0].mac = mac(77);
    model.pass(vec![one(&spec, &servers, &ports)]);
    assert_eq!(model.shows(), ["w1/multinic1 port-1 one", "w2/multinic0 port-2 one"]);
    assert_eq!(model.published.releasing.len(), 1);
}

#[test]
fn a_server_renamed_keeps_its_nics_under_the_old_name_and_gets_no_new_ones_under_the_new() {
    let (spec, mut servers, mut ports) = pair();
    let mut model = published_pair();
    let before = model.shows();
    servers[0] = server("vm-1", "renamed");
    ports.push(port_a(3, "vm-1"));
    let decision = model.pass(vec![one(&spec, &servers, &ports)]);
    assert!(has(&decision, "one", Reason::NodeNameChanged));
    assert_eq!(model.shows(), before);
}

#[test]
fn a_change_of_spec_that_has_nothing_to_do_with_names_does_not_let_a_rename_through() {
    let (_, mut servers, mut ports) = pair();
    let mut model = published_pair();
    servers[0] = server("vm-1", "renamed");
    servers.push(server("vm-3", "w3"));
    ports.push(port_a(3, "vm-3"));
    let wider = selection(&["vm-1", "vm-2", "vm-3"], &["sub-a"]);
    let decision = model.pass(vec![one(&wider, &servers, &ports)]);
    assert_eq!(removals(&decision), NOTHING);
    assert!(has(&decision, "one", Reason::NodeNameChanged));
    assert!(model.shows().contains(&"w1/multinic0 port-1 one".to_owned()));
    assert!(model.shows().contains(&"w3/multinic0 port-3 one".to_owned()));
}

#[test]
fn a_change_of_the_metadata_key_moves_the_nics_to_the_new_name() {
    let (spec, mut servers, ports) = pair();
    let mut model = published_pair();
    servers[0] = with_metadata(servers[0].clone(), "node", "k1");
    let keyed = Selection { node_name_key: Some("node".to_owned()), ..spec };
    let decision = model.pass(vec![one(&keyed, &servers, &ports)]);
    assert_eq!(removals(&decision), ["port-1 NodeRenamed w1"]);
    assert_eq!(model.shows(), ["k1/multinic0 port-1 one", "w2/multinic0 port-2 one"]);
}

#[test]
fn a_vm_rebuilt_under_its_old_name_gets_its_nics_once_the_old_ones_are_proven_gone() {
    let (_, mut servers, mut ports) = pair();
    let spec = by_name(&["w1", "w2"], "name of sub-a");
    let mut model = Model::of(vec![one(&spec, &servers, &ports)]);
    servers[0] = server("vm-1b", "w1");
    ports[0] = port_a(5, "vm-1b");
    let decision = model.pass(vec![one(&spec, &servers, &ports)]);
    assert!(has(&decision, "one", Reason::NodeNameNotUnique), "{:?}", errors(&decision));
    assert_eq!(model.shows(), ["w1/multinic0 port-1 one", "w2/multinic0 port-2 one"]);
    model.pass_proving(vec![one(&spec, &servers, &ports)], &[(1, Gone)]);
    assert_eq!(model.shows(), ["w1/multinic1 port-5 one", "w2/multinic0 port-2 one"]);
}

#[test]
fn a_freed_slot_is_given_away_only_after_its_release() {
    let spec = selection(&["vm-1"], &["sub-a"]);
    let ports: Vec<Port> = (1..=4).map(|n| port_a(n, "vm-1")).collect();
    let mut model = Model::of(vec![one(&spec, &fleet(1), &ports[..2])]);
    model.pass_proving(vec![one(&spec, &fleet(1), &ports[1..2])], &[(1, Gone)]);
    model.pass(vec![one(&spec, &fleet(1), &ports[1..3])]);
    assert_eq!(model.shows(), ["w1/multinic1 port-2 one", "w1/multinic2 port-3 one"]);
    model.release("w1", 1);
    model.pass(vec![one(&spec, &fleet(1), &ports[1..])]);
    assert_eq!(model.shows()[0], "w1/multinic0 port-4 one");
}

#[test]
fn a_nic_that_comes_back_before_its_release_gets_its_old_slot() {
    let spec = selection(&["vm-1"], &["sub-a"]);
    let ports = [port_a(1, "vm-1"), port_a(2, "vm-1")];
    let mut model = Model::of(vec![one(&spec, &fleet(1), &ports)]);
    let before = model.clone();
    model.pass_proving(vec![one(&spec, &fleet(1), &ports[1..])], &[(1, Gone)]);
    assert_eq!(model.ports().len(), 1);
    model.pass(vec![one(&spec, &fleet(1), &ports)]);
    assert_eq!(model, before);
}

#[test]
fn a_slot_that_the_node_verified_wins_over_the_published_one() {
    let spec = selection(&["vm-1"], &["sub-a"]);
    let ports = [port_a(1, "vm-1"), port_a(2, "vm-1")];
    let mut model = Model::of(vec![one(&spec, &fleet(1), &ports)]);
    model.row(2).verified = Some(slot(0));
    model.pass(vec![one(&spec, &fleet(1), &ports)]);
    assert_eq!(model.shows(), ["w1/multinic0 port-2 one", "w1/multinic1 port-1 one"]);
}

/// Neither its server nor its network was recorded.
fn of_an_older_program(row: &PublishedInterface) -> PublishedNic {
    let (mac, port, subnet) = (row.mac(), row.port().clone(), row.subnet().clone());
    PublishedNic::Partial(Box::new(PartialNic { mac, port, network: None, subnet, device: None }))
}

#[test]
fn rows_of_older_programs_are_taken_over_where_they_are() {
    let spec = selection(&["vm-1"], &["sub-a"]);
    let ports = [port_a(1, "vm-1"), port_a(2, "vm-1"), port_a(3, "vm-1")];
    let mut model = Model::of(vec![one(&spec, &fleet(1), &ports[..2])]);
    model.published.spec_hashes.insert(key("one"), "63079d51578fe57f".to_owned());
    for n in [1, 2] {
        let row = model.row(n);
        row.nic = of_an_older_program(row);
        (row.slot, row.project) = (None, None);
    }
    model.row(2).verified = Some(slot(0));
    // Nothing is removed on the word of a list, and no hash of theirs makes a change of spec.
    let mut lacking = model.clone();
    let decision = lacking.pass(vec![one(&spec, &fleet(1), &ports[..1])]);
    assert_eq!(removals(&decision), NOTHING);

    model.pass(vec![one(&spec, &fleet(1), &ports)]);
    assert_eq!(
        model.shows(),
        ["w1/multinic0 port-2 one", "w1/multinic1 port-1 one", "w1/multinic2 port-3 one"]
    );
    assert!(model.row(1).device().is_some());
}

#[test]
fn a_status_that_is_not_allowed_keeps_a_new_nic_out_and_never_takes_one_away() {
    let spec = selection(&["vm-1"], &["sub-a"]);
    let mut ports = [port_a(1, "vm-1"), port_a(2, "vm-1")];
    let mut model = Model::of(vec![one(&spec, &fleet(1), &ports[..1])]);
    for port in &mut ports {
        port.status = "ERROR".to_owned();
    }
    let decision = model.pass(vec![one(&spec, &fleet(1), &ports)]);
    assert_eq!(removals(&decision), NOTHING);
    assert_eq!(model.shows(), ["w1/multinic0 port-1 one"]);
}

#[test]
fn a_published_nic_whose_port_became_unusable_stays_as_it_is() {
    let spec = selection(&["vm-1"], &["sub-a"]);
    let mut model = Model::of(vec![one(&spec, &fleet(1), &[port_a(1, "vm-1")])]);
    let before = model.clone();
    let mut no_mtu = snapshot(&["sub-a"], &fleet(1), &[port_a(1, "vm-1")]);
    no_mtu.networks.clear();
    let decision = model.pass(vec![read("one", &spec, &no_mtu)]);
    assert!(has(&decision, "one", Reason::MtuUnknown));
    assert_eq!(model, before);
}

#[test]
fn a_node_whose_name_became_unknown_keeps_what_it_has() {
    let (spec, mut servers, ports) = pair();
    let mut model = published_pair();
    let before = model.clone();
    servers[0].identity = Err("Nova: 503".to_owned());
    let decision = model.pass(vec![one(&spec, &servers, &ports)]);
    assert!(has(&decision, "one", Reason::NodeNameUnknown));
    assert_eq!(model, before);
}

#[test]
fn what_does_not_fit_is_named_and_what_is_there_stays() {
    let spec = selection(&["vm-1"], &["sub-a"]);
    let ports: Vec<Port> = (1..=12).rev().map(|n| port_a(n, "vm-1")).collect();
    let mut model = Model::of(vec![one(&spec, &fleet(1), &ports[..9])]);
    let before = model.shows();
    let decision = model.pass(vec![one(&spec, &fleet(1), &ports)]);
    let errors = errors(&decision);
    assert_eq!(errors.len(), 2);
    for (error, n) in errors.iter().zip([2, 3]) {
        assert!(error.contains("TooManyInterfaces") && error.contains(&format!("port-{n} ")), "{error}");
    }
    assert!(before.iter().all(|line| model.shows().contains(line)));
}

/// `count` published NICs, one on each of as many nodes.
fn crowd(count: u16) -> (Selection, Vec<Server>, Vec<Port>) {
    let ids: Vec<String> = (1..=count).map(|n| format!("vm-{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let ports = (1..=count).map(|n| port_a(n, &format!("vm-{n}"))).collect();
    (selection(&ids, &["sub-a"]), fleet(count), ports)
}

fn all_gone(count: u16) -> Vec<(u16, PortProof)> {
    (1..=count).map(|n| (n, Gone)).collect()
}

#[test]
fn the_brake_holds_what_is_above_its_limit_and_nothing_at_it() {
    for (total, limit) in [(15, 10), (100, 10), (119, 11), (150, 15)] {
        let (spec, servers, ports) = crowd(total);
        for (gone, held) in [(limit, false), (limit + 1, true)] {
            let mut model = Model::of(vec![one(&spec, &servers, &ports)]);
            let rest = &ports[usize::from(gone)..];
            let decision = model.pass_proving(vec![one(&spec, &servers, rest)], &all_gone(gone));
            assert_eq!(decision.held.is_some(), held, "{gone} of {total}");
            assert_eq!(removals(&decision).len(), if held { 0 } else { gone.into() });
            assert_eq!(has(&decision, "one", Reason::MassRemovalHeld), held);
        }
    }
}

#[test]
fn a_held_removal_goes_when_its_very_digest_is_confirmed_and_the_digest_does_not_depend_on_order() {
    let (spec, servers, ports) = crowd(30);
    let start = Model::of(vec![one(&spec, &servers, &ports)]);
    let pass = |model: &mut Model, gone: u16, confirmed: &[&str]| {
        let standings = vec![one(&spec, &servers, &ports[usize::from(gone)..])];
        model.pass_with(standings, Listing::Complete, &all_gone(gone), confirmed)
    };
    let mut model = start.clone();
    let held = pass(&mut model, 20, &[]).held.unwrap();
    assert_eq!((held.count, held.published), (20, 30));
    model.published.interfaces.reverse();
    assert_eq!(pass(&mut model, 20, &[]).held.unwrap(), held);
    assert!(pass(&mut model, 21, &[&held.digest]).held.is_some(), "another set is another digest");
    assert_eq!(model.ports().len(), 30);
    let decision = pass(&mut model, 20, &["other", &held.digest]);
    assert_eq!(decision.held, None);
    assert_eq!(model.ports().len(), 10);
}

#[test]
fn another_key_of_the_node_names_is_held_where_it_renames_many_nodes() {
    let (spec, servers, ports) = crowd(12);
    let servers: Vec<Server> =
        servers.into_iter().map(|it| with_metadata(it.clone(), "node", &format!("k-{}", it.id))).collect();
    let keyed = Selection { node_name_key: Some("node".to_owned()), ..spec.clone() };
    let mut model = Model::of(vec![one(&keyed, &servers, &ports)]);
    let before = model.clone();
    // A controller that was started without its OPENSTACK_NODE_NAME_METADATA_KEY.
    let standings = || vec![one(&spec, &servers, &ports)];
    let held = model.pass(standings()).held.unwrap();
    assert_eq!((held.count, &model), (12, &before));
    model.pass_with(standings(), Listing::Complete, &[], &[&held.digest]);
    assert!(model.shows().iter().all(|line| line.starts_with('w')), "{:?}", model.shows());
}

#[test]
fn a_mass_move_of_ports_is_held_and_the_ports_stay_where_they_are_published() {
    let (spec, servers, mut ports) = crowd(15);
    let mut model = Model::of(vec![one(&spec, &servers, &ports)]);
    let before = model.shows();
    for port in &mut ports {
        port.device = "vm-1".into();
    }
    let decision = model.pass(vec![one(&spec, &servers, &ports)]);
    assert_eq!(decision.held.unwrap().count, 14);
    assert_eq!(model.shows(), before);
}

#[test]
fn a_change_of_spec_is_not_braked() {
    let (spec, servers, ports) = crowd(40);
    let mut model = Model::of(vec![one(&spec, &servers, &ports)]);
    let smaller = selection(&["vm-1"], &["sub-a"]);
    let decision = model.pass(vec![one(&smaller, &servers[..1], &ports[..1])]);
    assert_eq!(decision.held, None);
    assert_eq!(model.ports().len(), 1);
}

#[test]
fn an_empty_list_of_configurations_is_held_until_confirmed() {
    let mut model = published_pair();
    let before = model.clone();
    let held = model.pass(vec![]).held.unwrap();
    assert_eq!(held.count, 2);
    assert_eq!(model, before);
    model.pass_with(vec![], Listing::Complete, &[], &[&held.digest]);
    assert!(model.ports().is_empty());
}

#[test]
fn a_configuration_that_moves_to_another_name_takes_its_nics_along_untouched() {
    let (spec, servers, ports) = pair();
    let mut model = published_pair();
    let decision = model.pass(vec![read("renamed", &spec, &snapshot(&["sub-a"], &servers, &ports))]);
    assert_eq!(removals(&decision), NOTHING);
    assert_eq!(model.shows(), ["w1/multinic0 port-1 renamed", "w2/multinic0 port-2 renamed"]);
}

#[test]
fn problems_come_in_the_same_order_each_time_and_each_once() {
    let (spec, mut servers, mut ports) = crowd(12);
    let model = Model::of(vec![one(&spec, &servers, &ports)]);
    ports.extend((20..32).map(|n| port_a(n, "vm-1")));
    ports.extend((40..44).map(|n| port_a(n, "vm-13")));
    servers.push(server("vm-13", "w2"));
    let spec = Selection { vms: [spec.vms, selection(&["vm-13"], &[]).vms].concat(), ..spec };
    let reference = model.clone().pass(vec![one(&spec, &servers, &ports)]).problems;
    for _ in 0..20 {
        let problems = model.clone().pass(vec![one(&spec, &servers, &ports)]).problems;
        assert_eq!(problems, reference);
    }
    let listed = &reference[&key("one")];
    let mut once = listed.clone();
    once.dedup();
    assert_eq!(&once, listed);
}

#[test]
fn rows_of_a_configuration_that_was_never_carried_out_stay_when_it_is_not_there() {
    // An older program's rows: their configurations may still be on their way to us.
    let ours = selection(&["vm-2"], &["sub-a"]);
    let cloud = snapshot(&["sub-a"], &[server("vm-2", "w2")], &[port_a(2, "vm-2")]);
    let theirs = selection(&["vm-1"], &["sub-a"]);
    let mut model = Model::of(vec![read(
        "older",
        &theirs,
        &snapshot(&["sub-a"], &[server("vm-1", "w1")], &[port_a(1, "vm-1")]),
    )]);
    for recorded in [None, Some("63079d51578fe57f71fc9b27342e84ff8d75217f9bd3acb7a3185774964a4af8")] {
        model.published.spec_hashes.clear();
        model.published.spec_hashes.extend(recorded.map(|hash| (key("older"), hash.to_owned())));
        let decision = model.pass(vec![read("one", &ours, &cloud)]);
        assert!(removals(&decision).is_empty(), "{recorded:?}");
    }
}

#[test]
fn a_problem_of_one_vm_does_not_keep_the_rest_of_a_spec_from_being_carried_out() {
    let cloud = |vms: &[Server], missing: &[&str]| CloudSnapshot {
        unresolved: missing.iter().map(|vm| not_found(vm)).collect(),
        ..snapshot(&["sub-a"], vms, &[port_a(1, "vm-1")])
    };
    let before = selection(&["vm-1", "vm-9"], &["sub-a"]);
    let mut model = Model::default();
    model.pass(vec![read("one", &before, &cloud(&[server("vm-1", "w1")], &["vm-9"]))]);
    assert_eq!(model.published.spec_hashes.len(), 1);
    // So that its end is known to be one.
    let decision = model.pass(vec![read(
        "two",
        &selection(&["vm-3"], &["sub-a"]),
        &snapshot(&["sub-a"], &[server("vm-3", "w3")], &[]),
    )]);
    assert_eq!(removals(&decision).len(), 1);
}

/// The interfaces of `one` are published, and `one` is not in the list any more.
fn without_one(listing: Listing, deleted: &[&str], others: Vec<Standing>) -> (Model, Decision) {
    let mut model = published_pair();
    let decision = model.pass_without(others, deleted, listing);
    (model, decision)
}

#[test]
fn a_configuration_that_a_watch_does_not_list_is_only_gone_if_somebody_deleted_it() {
    for (listing, deleted, left) in [
        (Listing::Watched, &[][..], 2),
        (Listing::Watched, &["one"], 0),
        (Listing::Watched, &["another"], 2),
        (Listing::Unsettled, &["one"], 2),
        (Listing::Partial, &["one"], 2),
        // Without a watch, nobody tells the last one from a directory that was lost.
        (Listing::Complete, &[], 2),
        (Listing::Complete, &["one"], 0),
    ] {
        let (model, decision) = without_one(listing, deleted, Vec::new());
        assert_eq!(model.ports().len(), left, "{listing:?} {deleted:?}");
        assert_eq!(decision.publication.forgotten.len(), usize::from(left == 0), "{listing:?} {deleted:?}");
        assert_eq!(decision.held.is_some(), listing == Listing::Complete && left > 0);
    }
}

#[test]
fn one_that_was_deleted_before_it_was_carried_out_completely_is_known_to_be_gone_all_the_same() {
    let mut model = published_pair();
    model.published.spec_hashes.clear();
    let decision = model.pass_without(Vec::new(), &["one"], Listing::Watched);
    assert!(model.ports().is_empty());
    assert!(decision.held.is_none());
}

#[test]
fn a_deleted_configuration_leaves_what_another_wants_or_may_want() {
    let (spec, servers, ports) = pair();
    let other = |standing: Standing| Standing { key: key("two"), ..standing };
    let (model, _) = without_one(Listing::Watched, &["one"], vec![other(one(&spec, &servers, &ports))]);
    assert_eq!(model.ports().len(), 2);
    assert!(model.published.interfaces.iter().all(|row| row.owner == key("two")));
    let (model, decision) = without_one(Listing::Watched, &["one"], vec![broken("two")]);
    assert_eq!(model.ports().len(), 2);
    assert!(has(&decision, "one", Reason::RemovalUnproven), "{:?}", errors(&decision));
}

#[test]
fn a_spec_that_lets_go_of_something_is_carried_out_under_a_watch() {
    let (_, servers, ports) = pair();
    let smaller = selection(&["vm-1"], &["sub-a"]);
    let mut model = published_pair();
    model.pass_without(vec![one(&smaller, &servers[..1], &ports[..1])], &[], Listing::Watched);
    assert_eq!(model.ports().len(), 1);
}
