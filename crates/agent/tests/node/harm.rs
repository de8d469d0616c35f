//! What would harm the node is not done.

use std::io::Write as _;
use std::process::Stdio;

use crate::agent::{Agent, OFTEN, once, run};
use crate::database::nic;
use crate::links;
use crate::world::{UPLINK_ADDRESS, World, wait_until};

/// In the network of the node's own NIC.
const OVERLAPPING: &str = "192.0.2.77/24";

#[test]
fn a_nic_in_a_network_of_the_node_is_left_alone_and_the_others_are_configured() {
    let world = World::new();
    let (bad, fine) = (nic(0).addresses(&[OVERLAPPING]), nic(1));
    world.plug(&bad);
    world.plug(&fine);
    world.database.publish(&[bad.clone(), fine.clone()], &[]);
    let before = world.seen(&bad);
    let guard = world.guard(&[&fine]);
    once(&world, &[], 2);
    let error = world.database.written(&bad).error.unwrap();
    assert!(error.starts_with("HostUnsafe: NetworkOverlap: ") && error.contains("eth0"), "{error}");
    assert_eq!(world.seen(&bad), before);
    assert!(world.is_configured(&fine));
    guard.assert_untouched(&world);
    let planned = run(&world, &["plan"], &[]);
    let planned = String::from_utf8(planned.stdout).unwrap();
    assert!(planned.contains("HostUnsafe"), "{planned}");
}

#[test]
fn a_nic_whose_network_is_around_the_node_s_address_is_left_alone_until_it_is_not() {
    let world = World::new();
    let nic = nic(0).addresses(&["203.0.113.9/24"]);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let own = format!("{UPLINK_ADDRESS},203.0.113.5");
    let agent = Agent::start_ready(&world, &[OFTEN, ("NODE_IP", &own)]);
    wait_until(|| agent.log(), || world.database.written(&nic).error.is_some());
    let error = world.database.written(&nic).error.unwrap();
    assert!(error.starts_with("HostUnsafe: ") && error.contains("203.0.113.5"), "{error}");
    let sample = r#"multinic_host_findings{code="NetworkOverlap",severity="refuse"}"#;
    assert_eq!(agent.metric(sample), 1.0);
    let elsewhere = nic.addresses(&["198.18.0.9/24"]);
    world.database.publish(std::slice::from_ref(&elsewhere), &[]);
    world.wait_configured(&elsewhere);
    let (_, pages) = agent.get("/metrics");
    assert!(!pages.contains(sample), "{pages}");
}

#[test]
fn what_refused_a_nic_that_was_withdrawn_is_not_shown_any_more() {
    let world = World::new();
    let (bad, fine) = (nic(0).addresses(&[OVERLAPPING]), nic(1));
    world.plug(&bad);
    world.plug(&fine);
    world.database.publish(&[bad.clone(), fine.clone()], &[]);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    world.wait_configured(&fine);
    let sample = r#"multinic_host_findings{code="NetworkOverlap",severity="refuse"}"#;
    assert_eq!(agent.metric(sample), 1.0);
    world.database.publish(std::slice::from_ref(&fine), std::slice::from_ref(&bad));
    wait_until(|| agent.log(), || !agent.get("/metrics").1.contains(sample));
}

#[test]
fn a_nic_whose_name_cannot_be_freed_is_not_taken_down_for_it() {
    let world = World::new();
    let (ours, other) = (nic(0), nic(1));
    let links = (world.plug(&ours), world.plug(&other));
    world.database.publish(&[ours.clone(), other.clone()], &[]);
    once(&world, &[], 0);
    for (link, name) in [(links.0, "between"), (links.1, "multinic0"), (links.0, "multinic1")] {
        links::rename(&world.node, link, name);
    }
    let bad = other.clone().addresses(&[OVERLAPPING]);
    world.database.publish(&[ours.clone(), bad.clone()], &[]);
    once(&world, &[], 2);
    let guard = world.guard(&[]);
    let aside = world.seen(&ours).unwrap();
    assert!(aside.up && aside.addresses == ours.addresses.iter().cloned().collect(), "{aside:?}");
    for _ in 0..2 {
        once(&world, &[], 2);
        let error = world.database.written(&ours).error.unwrap();
        assert!(error.starts_with("NameConflict: multinic0 ") && error.contains(&bad.mac), "{error}");
    }
    guard.assert_untouched(&world);
    world.database.publish(&[ours.clone(), other.clone()], &[]);
    once(&world, &[], 0);
    assert!(world.is_configured(&ours) && world.is_configured(&other));
}

#[test]
fn the_drop_in_is_written_where_that_was_told_and_networkd_runs() {
    let world = World::new();
    let path = world.root().join("etc/systemd/networkd.conf.d/10-multinic.conf");
    once(&world, &[("INSTALL_DROPIN", "true")], 0);
    assert!(!path.exists(), "no networkd runs");
    let state = world.root().join("run/systemd/netif");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("state"), "").unwrap();
    once(&world, &[], 0);
    assert!(!path.exists(), "nobody said so");
    once(&world, &[("INSTALL_DROPIN", "true")], 0);
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written.contains("ManageForeignRoutes=no"), "{written}");
}

#[test]
fn what_is_to_be_known_of_the_node_is_said_once() {
    let world = World::new();
    let state = world.root().join("run/systemd/netif");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("state"), "").unwrap();
    let nic = nic(0);
    world.plug(&nic);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    let said = || {
        let of_networkd = |line: &serde_json::Value| line["finding"] == "ForeignRoutes";
        agent.lines().iter().filter(|line| of_networkd(line)).count()
    };
    assert_eq!(said(), 1, "{}", agent.log());
    world.database.publish(std::slice::from_ref(&nic), &[]);
    world.wait_configured(&nic);
    agent.wait_cycles(3.0);
    assert_eq!(said(), 1, "{}", agent.log());
}

#[test]
fn what_stands_against_the_node_as_a_whole_is_the_reason_of_each_nic_and_of_no_working_one() {
    let world = World::new();
    let (works, new) = (nic(0), nic(1));
    let (agent, _) = Agent::with_configured(&world, &works, &[OFTEN]);
    assert!(agent.stop().success());
    world.plug(&new);
    world.database.publish(&[works.clone(), new.clone()], &[]);
    // There is no bus, so nothing can be armed.
    let agent = Agent::start_ready(&world, &[OFTEN, ("ALLOW_UNARMED", "false")]);
    let error = || world.database.written(&new).error.unwrap_or_default();
    wait_until(|| agent.log(), || error().starts_with("HostUnsafe: BusUnreachable: "));
    assert!(error().contains("ALLOW_UNARMED"), "{}", error());
    assert!(world.seen(&new).is_some_and(|seen| seen.name == "eth2" && !seen.up));
    let written = world.database.written(&works);
    assert!(written.applied && written.error.is_none() && world.is_configured(&works));
    assert_eq!(agent.metric(r#"multinic_host_findings{code="BusUnreachable",severity="refuse"}"#), 1.0);
    drop(agent);
    let _agent = Agent::start_ready(&world, &[OFTEN]);
    world.wait_configured(&new);
}

#[test]
fn a_nic_of_ours_that_is_gone_is_counted_once_and_one_that_never_was_is_not() {
    let world = World::new();
    let (ours, never) = (nic(0), nic(1));
    world.plug(&ours);
    world.database.publish(&[ours.clone(), never], &[]);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    world.wait_configured(&ours);
    let gone = || agent.metric(r#"multinic_configuration_drifts_total{drift_type="missing_link"}"#);
    assert_eq!(gone(), 0.0);
    world.switch.unplug(ours.mac.parse().unwrap()).unwrap();
    wait_until(|| agent.log(), || gone() == 1.0);
    agent.wait_cycles(3.0);
    assert_eq!(gone(), 1.0);
}

#[test]
fn who_keeps_changing_a_nic_is_named() {
    let world = World::new();
    let nic = nic(0);
    let (agent, _) = Agent::with_configured(&world, &nic, &[OFTEN]);
    let mut command = world.node.command("ip");
    let mut hand = command.args(["-force", "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut orders = hand.stdin.take().unwrap();
    let address = nic.addresses[0].clone();
    wait_until(
        || format!("{:?}\n{}", world.database.written(&nic), agent.log()),
        || {
            if world.is_configured(&nic) {
                orders.write_all(format!("address del {address} dev multinic0\n").as_bytes()).unwrap();
            }
            let error = world.database.written(&nic).error.unwrap_or_default();
            error.starts_with("Drift: ") && error.contains("it seems to be the process ip (")
        },
    );
    assert!(agent.logged("interface is fought about").is_some(), "{}", agent.log());
    drop(orders);
    hand.wait().unwrap();
    world.wait_configured(&nic);
}
