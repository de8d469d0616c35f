//! NICs that come, change and drift.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::agent::{Agent, OFTEN, SELDOM, once};
use crate::database::{Written, nic};
use crate::links;
use crate::world::{World, wait_until};

#[test]
fn a_nic_that_appears_is_configured_by_its_event() {
    let world = World::new();
    let (first, second) = (nic(0), nic(1));
    world.database.publish(&[first.clone(), second.clone()], &[]);
    let guard = world.guard(&[&first, &second]);
    let agent = Agent::start_ready(&world, &[SELDOM]);
    world.plug(&first);
    world.wait_configured(&first);
    world.plug(&second);
    world.wait_configured(&second);
    assert_eq!(agent.metric("multinic_polling_cycles_total"), 1.0);
    guard.assert_untouched(&world);
}

#[test]
fn what_was_verified_is_reported() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let _agent = Agent::start_ready(&world, &[OFTEN]);
    let expected = Written { applied: true, name: Some("multinic0".to_owned()), error: None };
    wait_until(|| format!("{:?}", world.database.written(&nic)), || world.database.written(&nic) == expected);
    assert!(world.is_configured(&nic));
}

#[test]
fn new_content_is_applied_and_only_ours_changes() {
    let world = World::new();
    let (old, other) = (nic(0), nic(1));
    world.plug(&old);
    world.plug(&other);
    world.database.publish(&[old.clone(), other.clone()], &[]);
    let guard = world.guard(&[&old, &other]);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    world.wait_configured(&old);
    world.wait_configured(&other);
    let untouched = world.guard(&[&old]);
    let new = old.clone().addresses(&["10.99.0.7/16", "10.99.0.8/16", "fd99::7/64"]).mtu(1400);
    world.database.publish(&[new.clone(), other], &[]);
    world.wait_configured(&new);
    wait_until(|| agent.log(), || world.database.written(&new).applied);
    untouched.assert_untouched(&world);
    guard.assert_untouched(&world);
}

#[test]
fn drift_is_repaired_when_it_happens() {
    let world = World::new();
    let nic = nic(0);
    let guard = world.guard(&[&nic]);
    let (agent, link) = Agent::with_configured(&world, &nic, &[SELDOM]);

    links::remove_address(&world.node, link, "10.77.0.5/24");
    world.wait_configured(&nic);
    links::set_mtu(&world.node, link, 1300);
    world.wait_configured(&nic);
    links::set_down(&world.node, link);
    world.wait_configured(&nic);

    assert_eq!(agent.metric("multinic_polling_cycles_total"), 1.0);
    assert!(agent.metric(r#"multinic_configuration_drifts_total{drift_type="missing_address"}"#) >= 1.0);
    assert!(agent.metric(r#"multinic_configuration_drifts_total{drift_type="mtu"}"#) >= 1.0);
    assert!(agent.metric(r#"multinic_configuration_drifts_total{drift_type="state"}"#) >= 1.0);
    guard.assert_untouched(&world);
}

#[test]
fn a_file_that_is_edited_opened_to_all_or_removed_is_put_right_when_it_happens() {
    let world = World::new();
    let nic = nic(0);
    let (agent, _) = Agent::with_configured(&world, &nic, &[SELDOM]);
    let text = fs::read_to_string(world.file(0)).unwrap();
    let repairs = || agent.metric(r#"multinic_configuration_drifts_total{drift_type="file"}"#);
    let is_right = || {
        let mode = fs::metadata(world.file(0)).is_ok_and(|file| file.permissions().mode() & 0o777 == 0o600);
        mode && fs::read_to_string(world.file(0)).is_ok_and(|found| found == text)
    };
    let acts: [&dyn Fn(); 4] = [
        &|| fs::write(world.file(0), text.replace("1450", "1500")).unwrap(),
        &|| fs::set_permissions(world.file(0), Permissions::from_mode(0o666)).unwrap(),
        &|| fs::remove_file(world.file(0)).unwrap(),
        &|| {
            let new = world.root().join("etc/new");
            fs::create_dir(&new).unwrap();
            let exchange = RenameFlags::RENAME_EXCHANGE;
            renameat2(AT_FDCWD, &new, AT_FDCWD, &world.root().join("etc/netplan"), exchange).unwrap();
        },
    ];
    for (act, done) in acts.iter().zip(1..) {
        act();
        wait_until(|| agent.log(), || is_right() && repairs() >= f64::from(done));
        world.wait_configured(&nic);
    }
    // What it wrote itself, and what it read, woke it for no other repair.
    let number = fs::metadata(world.file(0)).unwrap().ino();
    fs::write(world.root().join("etc/netplan/95-multinic5.yaml"), "network: {version: 2}\n").unwrap();
    links::set_mtu(&world.node, world.seen(&nic).unwrap().index, 1300);
    world.wait_configured(&nic);
    assert_eq!((repairs(), fs::metadata(world.file(0)).unwrap().ino()), (4.0, number));
    assert_eq!(agent.metric("multinic_polling_cycles_total"), 1.0);
}

#[test]
fn nics_that_were_given_each_other_s_names_get_their_own_again() {
    let world = World::new();
    let nics = [nic(0), nic(1), nic(2).addresses(&["10.78.0.5/24", "fd78::5/64"])];
    let links: Vec<u32> = nics.iter().map(|nic| world.plug(nic)).collect();
    world.database.publish(&nics, &[]);
    let guard = world.guard(&nics.each_ref());
    once(&world, &[], 0);
    // A ring of three, while nobody looks; then one of two, at once.
    for (link, name) in [(0, "aside"), (2, "multinic0"), (1, "multinic2"), (0, "multinic1")] {
        links::rename(&world.node, links[link], name);
    }
    let agent = Agent::start_ready(&world, &[SELDOM]);
    nics.iter().for_each(|nic| world.wait_configured(nic));
    assert!(agent.logged("interface stepped aside, so that others get their names").is_some());
    agent.stop();
    for (link, name) in [(0, "aside"), (1, "multinic0"), (0, "multinic1")] {
        links::rename(&world.node, links[link], name);
    }
    once(&world, &[], 0);
    assert!(nics.iter().all(|nic| world.is_configured(nic)));
    world.assert_journal_empty();
    guard.assert_untouched(&world);
}

#[test]
fn an_address_that_somebody_else_added_stays() {
    let world = World::new();
    let nic = nic(0);
    let (agent, link) = Agent::with_configured(&world, &nic, &[OFTEN]);
    links::add_address(&world.node, link, "10.77.0.200/32");
    agent.wait_cycles(3.0);
    assert!(world.seen(&nic).unwrap().addresses.contains("10.77.0.200/32"));
}

#[test]
fn a_restart_and_passes_over_what_is_as_desired_change_nothing() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    once(&world, &[], 0);
    // Our own NIC and file, too, count as not to be touched now.
    let guard = world.guard(&[]);
    let state = world.root().join("var/lib/multinic/state.json");
    let written = fs::metadata(&state).unwrap().modified().unwrap();
    let agent = Agent::start_ready(&world, &[OFTEN]);
    agent.wait_cycles(8.0);
    guard.assert_untouched(&world);
    assert_eq!(fs::metadata(&state).unwrap().modified().unwrap(), written);
}

#[test]
fn a_name_that_works_is_kept_and_the_conflict_is_reported() {
    let world = World::new();
    let nic = nic(0);
    let (agent, _) = Agent::with_configured(&world, &nic, &[OFTEN]);
    let renamed = nic.clone().slot(5);
    world.database.publish(std::slice::from_ref(&renamed), &[]);
    wait_until(|| agent.log(), || world.database.written(&nic).error.is_some());
    let written = world.database.written(&nic);
    assert_eq!((written.applied, written.name.as_deref()), (false, Some("multinic0")));
    assert!(written.error.unwrap().starts_with("NameConflict: "));
    assert!(world.is_configured_as(&nic, 0));
}

#[test]
fn a_name_that_another_link_has_is_refused_by_name_and_the_others_are_served() {
    let world = World::new();
    let (blocked, fine) = (nic(0), nic(1));
    world.plug(&blocked);
    world.plug(&fine);
    world.switch.plug(&world.node, "52:54:00:00:00:77".parse().unwrap(), "multinic0", 1500, "lab").unwrap();
    world.database.publish(&[blocked.clone(), fine.clone()], &[]);
    let guard = world.guard(&[&fine]);
    once(&world, &[], 2);
    assert!(world.is_configured(&fine));
    let error = world.database.written(&blocked).error.unwrap();
    assert!(error.starts_with("NameConflict: multinic0 is the name of another link"), "{error}");
    guard.assert_untouched(&world);
}

#[test]
fn an_invalid_row_is_reported_and_the_others_are_served() {
    let world = World::new();
    let (broken, fine) = (nic(0), nic(1));
    world.plug(&broken);
    world.plug(&fine);
    world.database.publish(&[broken.clone(), fine.clone()], &[]);
    world.database.sql(&format!(
        "UPDATE multi_interface SET addresses = '[\"10.0.0.300/24\"]' WHERE macaddress = '{}'",
        broken.mac
    ));
    let guard = world.guard(&[&fine]);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    world.wait_configured(&fine);
    wait_until(|| agent.log(), || world.database.written(&broken).error.is_some());
    let error = world.database.written(&broken).error.unwrap();
    assert!(error.contains("addresses") && error.contains("10.0.0.300"), "{error}");
    assert!(agent.metric(r#"multinic_errors_total{error_type="validation"}"#) >= 1.0);
    guard.assert_untouched(&world);
}

#[test]
fn a_row_that_becomes_invalid_leaves_the_working_nic_as_it_is() {
    let world = World::new();
    let nic = nic(0);
    let (agent, _) = Agent::with_configured(
        &world,
        &nic,
        &[OFTEN, ("ABSENCE_CONFIRM", "0s"), ("ABSENCE_CONFIRM_ALL", "0s")],
    );
    let guard = world.guard(&[]);
    world.database.sql("UPDATE multi_interface SET mtu = 12");
    wait_until(|| agent.log(), || world.database.written(&nic).error.is_some());
    agent.wait_cycles(5.0);
    assert!(world.is_configured(&nic));
    guard.assert_untouched(&world);
}

#[test]
fn two_rows_with_one_mac_are_both_refused_and_nothing_is_touched() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(&[nic.clone(), nic_with_other_port()], &[]);
    world.database.sql(&format!("UPDATE multi_interface SET macaddress = '{}'", nic.mac));
    let guard = world.guard(&[]);
    once(&world, &[], 2);
    assert!(world.database.written(&nic).error.unwrap().contains(&nic.mac));
    guard.assert_untouched(&world);
}

fn nic_with_other_port() -> crate::database::Nic {
    nic(9).slot(1)
}

#[test]
fn a_nic_that_is_not_there_is_waited_for_and_said_to_be() {
    let world = World::new();
    let nic = nic(0);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    wait_until(|| agent.log(), || world.database.written(&nic).error.is_some());
    assert!(world.database.written(&nic).error.unwrap().starts_with("Waiting: "));
    world.plug(&nic);
    world.wait_configured(&nic);
    wait_until(|| agent.log(), || world.database.written(&nic).applied);
    assert_eq!(world.database.written(&nic).error, None);
}

#[test]
fn a_node_that_cannot_be_looked_at_is_tried_again_without_haste() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    // A folder that leads out of the node's root is not followed.
    let (folder, aside) = (world.root().join("etc/netplan"), world.root().join("etc/aside"));
    fs::rename(&folder, &aside).unwrap();
    std::os::unix::fs::symlink("/tmp", &folder).unwrap();
    let agent = Agent::start(&world, &[OFTEN]);
    agent.wait_cycles(10.0);
    let message = "the node cannot be worked on; it is tried again";
    let tries = agent.lines().iter().filter(|line| line["msg"] == message).count();
    let cycles = agent.metric("multinic_polling_cycles_total");
    assert!(tries as f64 <= cycles + 2.0, "{tries} tries in {cycles} cycles");
    assert_eq!(agent.get("/livez").0, 200);
    assert_eq!(agent.get("/readyz").0, 503);
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    world.wait_configured(&nic);
}
