//! `once`, `plan` and `cleanup`, by what they do and by their exit codes.

use serde_json::Value;

use crate::agent::{Agent, SELDOM, once, run};
use crate::database::nic;
use crate::world::World;

#[test]
fn once_ends_with_0_when_every_nic_is_as_desired() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let guard = world.guard(&[&nic]);
    once(&world, &[], 0);
    assert!(world.is_configured(&nic));
    assert!(world.database.written(&nic).applied);
    guard.assert_untouched(&world);
}

#[test]
fn once_ends_with_1_when_the_source_cannot_be_read() {
    let world = World::new();
    once(&world, &[("DATABASE_URL", "sqlite:///nowhere/at/all.db")], 1);
}

#[test]
fn once_ends_with_1_when_a_value_is_wrong_and_names_the_variable() {
    let world = World::new();
    let output = run(&world, &["once"], &[("POLL_INTERVAL", "soon")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("POLL_INTERVAL"), "{output:?}");
}

#[test]
fn once_ends_with_2_when_a_nic_is_not_there() {
    let world = World::new();
    world.database.publish(&[nic(0)], &[]);
    once(&world, &[], 2);
}

#[test]
fn once_ends_with_2_when_a_change_fails_and_the_nic_is_as_before() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let before = world.seen(&nic);
    let guard = world.guard(&[&nic]);
    once(&world, &[("MULTINIC_FAULT", "step.set_up=fail")], 2);
    assert_eq!(world.seen(&nic), before);
    assert!(world.database.written(&nic).error.unwrap().starts_with("RolledBack: "));
    guard.assert_untouched(&world);
}

#[test]
fn a_second_agent_on_the_same_node_is_refused() {
    let world = World::new();
    let _first = Agent::start_ready(&world, &[SELDOM]);
    let output = run(&world, &["once"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another agent"), "{output:?}");
}

#[test]
fn plan_says_what_would_be_done_and_touches_nothing() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(&[nic.clone(), crate::database::nic(3)], &[]);
    let guard = world.guard(&[]);
    let text = run(&world, &["plan"], &[]);
    let json = run(&world, &["plan", "--output", "json"], &[]);
    assert_eq!((text.status.code(), json.status.code()), (Some(0), Some(0)));
    let text = String::from_utf8(text.stdout).unwrap();
    for part in ["create multinic0", &nic.mac, "rename it to multinic0", "add 10.77.0.5/24", "1 change"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let plan: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(plan["changes"][0]["kind"], "create");
    assert_eq!(plan["changes"][0]["name"], "multinic0");
    assert_eq!(plan["absent"][0], crate::database::nic(3).mac);
    guard.assert_untouched(&world);
    assert!(!world.root().join("var").exists());
    assert_eq!(world.database.written(&nic), crate::database::Written::default());
}

#[test]
fn a_dry_run_changes_and_reports_nothing() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let guard = world.guard(&[]);
    let agent = Agent::start_ready(&world, &[crate::agent::OFTEN, ("DRY_RUN", "true")]);
    agent.wait_cycles(3.0);
    assert!(agent.logged("dry run: interface would be changed").is_some());
    guard.assert_untouched(&world);
    assert!(!world.root().join("var").exists());
    assert_eq!(world.database.written(&nic), crate::database::Written::default());
}

#[test]
fn cleanup_asks_first_and_needs_no_database() {
    let world = World::new();
    let (first, second) = (nic(0), nic(1));
    world.plug(&first);
    world.plug(&second);
    world.database.publish(&[first.clone(), second.clone()], &[]);
    once(&world, &[], 0);

    let guard = world.guard(&[]);
    let asked = run(&world, &["cleanup"], &[("DATABASE_URL", "")]);
    assert_eq!(asked.status.code(), Some(0));
    let text = String::from_utf8(asked.stdout).unwrap();
    assert!(text.contains("2 changes") && text.contains("--yes"), "{text}");
    guard.assert_untouched(&world);

    let guard = world.guard(&[&first, &second]);
    let done = run(&world, &["cleanup", "--yes"], &[("DATABASE_URL", "")]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(world.is_given_back(&first) && world.is_given_back(&second));
    world.assert_journal_empty();
    guard.assert_untouched(&world);
}

#[test]
fn cleanup_tells_by_its_exit_code_what_it_could_not_take_away() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    once(&world, &[], 0);
    let output = run(&world, &["cleanup", "--yes"], &[("MULTINIC_FAULT", "step.rename=fail")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(world.is_configured(&nic));
}

#[test]
fn cleanup_leaves_the_way_to_the_source() {
    let world = World::new();
    let (way, other) = (nic(0), nic(1));
    world.plug(&way);
    world.plug(&other);
    world.database.publish(&[way.clone(), other.clone()], &[]);
    once(&world, &[], 0);
    let guard = world.guard(&[&other]);
    let database = [("DATABASE_URL", "mysql://multinic:multinic@10.77.0.200:1/multinic")];
    let asked = String::from_utf8(run(&world, &["cleanup"], &database).stdout).unwrap();
    assert!(asked.contains("source_path"), "{asked}");
    let variables = [&database[..], &[("DB_CONNECT_TIMEOUT", "100ms")]].concat();
    let done = run(&world, &["cleanup", "--yes"], &variables);
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    assert!(String::from_utf8(done.stdout).unwrap().contains("source_path"));
    assert!(world.is_configured(&way) && world.is_given_back(&other));
    guard.assert_untouched(&world);
}

#[test]
fn secrets_are_nowhere_in_what_is_printed() {
    let world = World::new();
    let variables =
        [("DATABASE_URL", "mysql://multinic:s3cret@192.0.2.99:1/db"), ("DB_CONNECT_TIMEOUT", "100ms")];
    let output = run(&world, &["once"], &[&variables[..], &[("LOG_LEVEL", "trace")]].concat());
    assert_eq!(output.status.code(), Some(1));
    let text = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8_lossy(&text).contains("s3cret"));
}
