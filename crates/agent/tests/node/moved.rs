//! A NIC that somebody gives to a pod.

use multinic_testbed::node::NetNs;
use nix::sys::signal::Signal;

use crate::agent::{Agent, OFTEN};
use crate::database::nic;
use crate::world::{World, wait_until};

#[track_caller]
fn give(link: &str, from: &NetNs, to: &NetNs) {
    let output = from.command("ip").args(["link", "set", "dev", link, "netns", &to.path()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_nic_that_is_moved_into_a_pod_waits_for_its_return_and_says_so() {
    let world = World::new();
    let (nic, other) = (nic(0), nic(1));
    world.plug(&nic);
    world.plug(&other);
    world.database.publish(&[nic.clone(), other.clone()], &[]);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    world.wait_configured(&nic);
    world.wait_configured(&other);
    let pod = NetNs::new("pod").unwrap();
    let guard = world.guard(&[&nic, &other]);
    give("multinic0", &world.node, &pod);
    let error = || world.database.written(&nic).error.unwrap_or_default();
    wait_until(agent_log(&agent), || {
        error().starts_with("Waiting: its link was moved into another network namespace")
    });
    agent.wait_cycles(2.0);
    assert!(error().starts_with("Waiting: its link was moved"), "{}", error());
    assert!(world.file(0).exists() && world.seen(&nic).is_none() && world.is_configured(&other));
    guard.assert_untouched(&world);

    give("multinic0", &pod, &world.node);
    world.wait_configured(&nic);
    wait_until(agent_log(&agent), || world.database.written(&nic).error.is_none());
    // One that is unplugged went nowhere.
    world.switch.unplug(nic.mac.parse().unwrap()).unwrap();
    wait_until(agent_log(&agent), || error().starts_with("Waiting: no link with this MAC"));
}

#[test]
fn where_a_nic_went_is_known_to_the_next_agent() {
    let world = World::new();
    let nic = nic(0);
    let (agent, _) = Agent::with_configured(&world, &nic, &[OFTEN]);
    let pod = NetNs::new("pod").unwrap();
    give("multinic0", &world.node, &pod);
    let error = || world.database.written(&nic).error.unwrap_or_default();
    let moved = "Waiting: its link was moved into another network namespace";
    wait_until(agent_log(&agent), || error().starts_with(moved));
    agent.signal(Signal::SIGKILL);
    drop(agent);

    let agent = Agent::start_ready(&world, &[OFTEN]);
    // At a second read it is not on its way any more.
    agent.wait_cycles(3.0);
    assert!(error().starts_with(moved), "{}", error());
    assert_eq!(agent.metric(r#"multinic_configuration_drifts_total{drift_type="missing_link"}"#), 0.0);
    assert!(agent.stop().success());

    // It comes back while nobody looks.
    give("multinic0", &pod, &world.node);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    world.wait_configured(&nic);
    wait_until(agent_log(&agent), || world.database.written(&nic).error.is_none());
    world.switch.unplug(nic.mac.parse().unwrap()).unwrap();
    wait_until(agent_log(&agent), || error().starts_with("Waiting: no link with this MAC"));
}

fn agent_log(agent: &Agent) -> impl Fn() -> String {
    || agent.log()
}
