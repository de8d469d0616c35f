//! Reads of the cloud that fail, are empty, partial or wrong remove nothing; what is proven gone goes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it expects by failing")]

mod support;

use multinic_core::published::Published;
use multinic_testbed::cloud_simulator::{Attached, Fault};
use support::Bench;

/// Three nodes with two NICs each, published.
async fn fleet() -> (Bench, Vec<Attached>) {
    fleet_of(3).await
}

async fn fleet_of(nodes: usize) -> (Bench, Vec<Attached>) {
    let mut bench = Bench::new().await;
    let servers: Vec<_> = (1..=nodes).map(|n| bench.cloud.add_server(&format!("worker-{n}"))).collect();
    let mut ports = Vec::new();
    for server in &servers {
        for _ in 0..2 {
            ports.push(bench.cloud.attach(server, &[&bench.subnet]).unwrap());
        }
    }
    let config = bench.config("fleet", &servers.iter().collect::<Vec<_>>());
    bench.write("fleet.yaml", &config);
    let summary = bench.pass().await;
    assert_eq!((summary.ready, summary.failing), (1, 0), "{}", bench.status("fleet"));
    assert_eq!(bench.published().await.interfaces.len(), 2 * nodes);
    (bench, ports)
}

/// Makes a pass during which `path` fails in this way, and expects that nothing was removed and that the status says so.
async fn removes_nothing(path: &str, fault: Fault, reason: &str) {
    let (mut bench, _) = fleet().await;
    let before = bench.published().await;
    bench.cloud.inject_always(path, fault);
    bench.restart(&[]);
    let summary = bench.pass().await;
    assert_eq!(summary.failing, 1);
    assert_same(&before, &bench.published().await);
    let status = bench.status("fleet");
    assert!(status.contains(reason), "{reason} is not in\n{status}");
    // And it recovers.
    bench.cloud.clear_faults();
    assert_eq!(bench.pass().await.ready, 1, "{}", bench.status("fleet"));
    assert_same(&before, &bench.published().await);
}

fn assert_same(before: &Published, after: &Published) {
    assert_eq!(before.interfaces, after.interfaces);
    assert_eq!(after.releasing, []);
}

fn unavailable() -> Fault {
    Fault::Answer { status: 503, headers: Vec::new(), body: "unavailable".to_owned() }
}

#[tokio::test]
async fn a_failing_read_of_ports_removes_nothing() {
    removes_nothing("/v2.0/ports", unavailable(), "NeutronPortError").await;
}

#[tokio::test]
async fn a_proxys_page_instead_of_ports_removes_nothing() {
    removes_nothing("/v2.0/ports", Fault::Html(200), "NeutronPortError").await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_removes_nothing() {
    removes_nothing("/v2.0/ports", Fault::Truncated, "NeutronPortError").await;
}

#[tokio::test]
async fn everything_in_place_of_what_was_asked_removes_nothing() {
    let (mut bench, _) = fleet().await;
    let stranger = bench.cloud.add_server("stranger");
    bench.cloud.attach(&stranger, &[&bench.subnet]).unwrap();
    let before = bench.published().await;
    bench.cloud.inject_always("/v2.0/ports", Fault::DropQuery);
    assert_eq!(bench.pass().await.failing, 1);
    assert_same(&before, &bench.published().await);
}

#[tokio::test]
async fn an_empty_list_of_ports_removes_nothing() {
    removes_nothing("/v2.0/ports", Fault::Empty, "RemovalUnproven").await;
}

#[tokio::test]
async fn a_partial_list_of_ports_removes_nothing() {
    removes_nothing("/v2.0/ports", Fault::Lacking(3), "RemovalUnproven").await;
}

#[tokio::test]
async fn a_failing_keystone_removes_nothing() {
    removes_nothing("/v3/auth/tokens", unavailable(), "KeystoneError").await;
}

#[tokio::test]
async fn a_subnet_that_cannot_be_read_removes_nothing() {
    removes_nothing("/v2.0/subnets", unavailable(), "NeutronSubnetError").await;
}

#[tokio::test]
async fn a_nova_that_fails_skips_its_nodes_and_removes_nothing() {
    removes_nothing("/v2.1/servers", unavailable(), "NodeNameUnknown").await;
}

#[tokio::test]
async fn a_lost_role_removes_nothing() {
    let (mut bench, ports) = fleet().await;
    let before = bench.published().await;
    // The port is gone as well: without the right to see, 404 and emptiness mean nothing.
    bench.cloud.delete_port(&ports[0].port).unwrap();
    let project = bench.cloud.project().clone();
    bench.cloud.set_role("operator", &project, None).unwrap();
    bench.cloud.expire_tokens();
    bench.restart(&[]);
    assert_eq!(bench.pass().await.failing, 1);
    assert_same(&before, &bench.published().await);
}

#[tokio::test]
async fn a_deleted_port_goes_and_its_slot_waits_for_the_node() {
    let (mut bench, ports) = fleet().await;
    bench.cloud.delete_port(&ports[0].port).unwrap();
    assert_eq!(bench.pass().await.ready, 1, "{}", bench.status("fleet"));
    let after = bench.published().await;
    assert_eq!(after.interfaces.len(), 5);
    assert_eq!(after.releasing.len(), 1);
    assert_eq!(after.releasing[0].mac, ports[0].mac);
    assert_eq!(bench.agent_reads("worker-1").await.tombstones[0].mac, ports[0].mac);
    assert_eq!(bench.agent_reads("worker-2").await.tombstones, []);
}

#[tokio::test]
async fn a_detached_port_goes() {
    let (mut bench, ports) = fleet().await;
    bench.cloud.detach(&ports[5].port).unwrap();
    bench.pass().await;
    assert_eq!(bench.published().await.interfaces.len(), 5);
    assert_eq!(bench.agent_reads("worker-3").await.tombstones.len(), 1);
}

#[tokio::test]
async fn a_deleted_port_whose_network_cannot_be_read_stays() {
    let (mut bench, ports) = fleet().await;
    bench.cloud.delete_port(&ports[0].port).unwrap();
    let network = bench.published().await.interfaces[0].network().cloned().unwrap();
    bench.cloud.inject_always(&format!("/v2.0/networks/{network}"), unavailable());
    assert_eq!(bench.pass().await.failing, 1);
    assert_eq!(bench.published().await.interfaces.len(), 6);
    assert!(bench.status("fleet").contains("RemovalUnproven"));
}

#[tokio::test]
async fn the_last_port_of_a_node_leaves_tombstones_and_not_silence() {
    let (mut bench, ports) = fleet().await;
    for port in &ports[..2] {
        bench.cloud.delete_port(&port.port).unwrap();
    }
    bench.pass().await;
    let read = bench.agent_reads("worker-1").await;
    assert!(read.node_known);
    assert_eq!((read.nics.len(), read.tombstones.len()), (0, 2));
}

#[tokio::test]
async fn many_removals_at_once_are_held_until_they_are_confirmed() {
    let (mut bench, ports) = fleet_of(6).await;
    for port in &ports[..11] {
        bench.cloud.delete_port(&port.port).unwrap();
    }
    assert_eq!(bench.pass().await.failing, 1);
    assert_eq!(bench.published().await.interfaces.len(), 12);
    let status = bench.status("fleet");
    assert!(status.contains("MassRemovalHeld"), "{status}");
    let digest = status.split("multinic.io/confirm-removals: ").nth(1).unwrap();
    let digest: String = digest.chars().take_while(char::is_ascii_hexdigit).collect();
    let config = std::fs::read_to_string(bench.directory.join("fleet.yaml")).unwrap();
    let confirmed = config.replace(
        "metadata:\n",
        &format!("metadata:\n  annotations:\n    multinic.io/confirm-removals: \"{digest}\"\n"),
    );
    bench.write("fleet.yaml", &confirmed);
    assert_eq!(bench.pass().await.ready, 1, "{}", bench.status("fleet"));
    assert_eq!(bench.published().await.interfaces.len(), 1);
}

#[tokio::test]
async fn slots_stay_whatever_comes_and_goes() {
    let (mut bench, ports) = fleet().await;
    let before = bench.names().await;
    let server = bench.published().await.interfaces[0].device().cloned().unwrap();
    bench.cloud.delete_port(&ports[0].port).unwrap();
    bench.pass().await;
    bench.restart(&[]);
    let late = bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
    bench.pass().await;
    let after = bench.names().await;
    let node = &after["worker-1"];
    assert_eq!(node[&ports[1].mac.to_string()], before["worker-1"][&ports[1].mac.to_string()]);
    // The slot of the deleted port is not free before the node released it.
    assert_eq!(node[&late.mac.to_string()], "multinic2");
    assert_eq!(after["worker-2"], before["worker-2"]);
}

#[tokio::test]
async fn a_pass_without_change_writes_nothing() {
    let (mut bench, _) = fleet().await;
    let before = bench.agent_reads("worker-1").await.position;
    bench.pass().await;
    assert_eq!(bench.agent_reads("worker-1").await.position, before);
    assert!(bench.status("fleet").contains("NoChange"), "{}", bench.status("fleet"));
}

#[tokio::test]
async fn a_down_port_is_published_too() {
    let (mut bench, ports) = fleet().await;
    bench.cloud.set_status(&ports[0].port, "DOWN").unwrap();
    assert_eq!(bench.pass().await.ready, 1);
    assert_eq!(bench.published().await.interfaces.len(), 6);
    let status = bench.status("fleet");
    assert!(status.contains("downPortRetry") && status.contains("fastAttempts: 1"), "{status}");
}
