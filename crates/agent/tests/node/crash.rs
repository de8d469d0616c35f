//! `kill -9` at every point of a change: after the restart the node is old or new, and then it becomes as desired.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;

use multinic_host::faults::{self, Point};
use rtnetlink::packet_route::route::RouteProtocol;

use crate::agent::{once, run};
use crate::database::{Nic, nic};
use crate::links::{self, Seen};
use crate::world::World;

/// The NIC as the kernel and the disk show it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    link: Option<Seen>,
    altname: bool,
    files: Vec<(String, String)>,
}

fn state(world: &World, nic: &Nic) -> State {
    let link = world.seen(nic);
    let folder = world.root().join("etc/netplan");
    let mut files: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        })
        // What a crash leaves under a temporary name, nobody reads.
        .filter(|(name, _)| name.ends_with(".yaml"))
        .collect();
    files.sort();
    let altname = link.as_ref().is_some_and(|link| links::has_altname(&world.node, link.index, "multinic0"));
    State { link, altname, files }
}

/// A change of one kind: how to get a node that is about to make it.
struct Scenario {
    name: &'static str,
    prepare: fn(&World) -> Nic,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "create",
        prepare: |world| {
            let nic = nic(0);
            let link = world.plug(&nic);
            // Up, as a manager of the guest may leave it, and with the name that it is to get as its other name.
            links::add_altname(&world.node, link, "multinic0");
            links::set_up(&world.node, link);
            world.database.publish(std::slice::from_ref(&nic), &[]);
            nic
        },
    },
    Scenario {
        name: "change",
        prepare: |world| {
            let old = nic(0);
            world.plug(&old);
            world.database.publish(std::slice::from_ref(&old), &[]);
            once(world, &[], 0);
            let new = old.addresses(&["10.99.0.7/16", "fd99::7/64"]).mtu(1400);
            world.database.publish(std::slice::from_ref(&new), &[]);
            new
        },
    },
    Scenario {
        name: "repair",
        prepare: |world| {
            let nic = nic(0);
            let link = world.plug(&nic);
            world.database.publish(std::slice::from_ref(&nic), &[]);
            once(world, &[], 0);
            links::add_route(&world.node, link, "198.51.100.0/24", Some("10.77.0.1"), RouteProtocol::Dhcp);
            nic
        },
    },
    Scenario {
        name: "delete",
        prepare: |world| {
            let nic = nic(0);
            world.plug(&nic);
            world.database.publish(std::slice::from_ref(&nic), &[]);
            once(world, &[], 0);
            world.database.publish(&[], std::slice::from_ref(&nic));
            nic
        },
    },
];

/// Kills the agent at a point. Returns whether the change passes it.
fn crash(scenario: &Scenario, point: Point) -> bool {
    let world = World::new();
    let nic = (scenario.prepare)(&world);
    let old = state(&world, &nic);
    let guard = world.guard(&[&nic]);
    let fault = if point.is_of_rollback() {
        format!("verify.done=fail,{}=kill", point.name())
    } else {
        format!("{}=kill", point.name())
    };
    let output = run(&world, &["once"], &[("MULTINIC_FAULT", &fault)]);
    let killed = output.status.signal() == Some(9);
    if killed {
        // The start alone settles what was interrupted: this one cannot read what is desired.
        once(&world, &[("DATABASE_URL", "sqlite:///nowhere/at/all.db")], 1);
        let after = state(&world, &nic);
        world.assert_journal_empty();
        once(&world, &[], 0);
        let new = state(&world, &nic);
        let at = format!("{} killed at {}", scenario.name, point.name());
        assert!(after == old || after == new, "{at}: neither old nor new\n{after:#?}\n{old:#?}\n{new:#?}");
        if scenario.name == "delete" {
            assert!(world.is_given_back(&nic), "{at}: {new:#?}");
        } else {
            assert!(world.is_configured(&nic), "{at}: {new:#?}");
        }
    }
    guard.assert_untouched(&world);
    killed
}

fn crash_everywhere(scenario: &Scenario) -> BTreeSet<&'static str> {
    faults::ALL.iter().filter(|point| crash(scenario, **point)).map(|point| point.name()).collect()
}

#[track_caller]
fn assert_passed(passed: &BTreeSet<&str>, expected: &[&str]) {
    let missing: Vec<_> = expected.iter().filter(|name| !passed.contains(*name)).collect();
    assert!(missing.is_empty(), "the change never came to {missing:?}, only to {passed:?}");
}

/// What every change passes, made and rolled back.
const ALWAYS: [&str; 10] = [
    "journal.temporary",
    "journal.written",
    "verify.done",
    "commit.temporary",
    "commit.written",
    "journal.removed",
    "rollback.begun",
    "rollback.live",
    "rollback.files",
    "rollback.verified",
];

#[test]
fn a_kill_at_every_point_of_a_creation_leaves_old_or_new() {
    let passed = crash_everywhere(&SCENARIOS[0]);
    assert_passed(&passed, &ALWAYS);
    assert_passed(
        &passed,
        &[
            "step.set_down",
            "step.drop_altname",
            "step.rename",
            "step.set_mtu",
            "step.ignore_ra",
            "step.add_address",
            "step.set_up",
            "file.temporary",
            "step.write_file",
        ],
    );
}

#[test]
fn a_kill_at_every_point_of_a_change_leaves_old_or_new() {
    let passed = crash_everywhere(&SCENARIOS[1]);
    assert_passed(&passed, &ALWAYS);
    assert_passed(
        &passed,
        &["step.set_mtu", "step.remove_address", "step.add_address", "backup.written", "step.write_file"],
    );
}

#[test]
fn a_kill_at_every_point_of_a_repair_leaves_old_or_new() {
    let passed = crash_everywhere(&SCENARIOS[2]);
    assert_passed(&passed, &["step.remove_route", "commit.written"]);
}

#[test]
fn a_kill_at_every_point_of_a_deletion_leaves_old_or_new() {
    let passed = crash_everywhere(&SCENARIOS[3]);
    assert_passed(&passed, &ALWAYS);
    assert_passed(
        &passed,
        &["step.set_down", "step.remove_address", "step.rename", "backup.written", "step.remove_file"],
    );
}
