//! A pass in which nothing changed parses nothing and reads no row; whatever changes is noticed by the very next one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it expects by failing")]

mod support;

use multinic_core::ServerId;
use multinic_core::desired::{NicReport, Outcome};
use multinic_core::published::{DesiredInterface, Publication};
use multinic_testbed::cloud_simulator::{Attached, Fault};
use serde_json::json;
use support::Bench;

/// Two nodes with two NICs each, published, and nothing left to do.
struct Calm {
    bench: Bench,
    servers: Vec<ServerId>,
    ports: Vec<Attached>,
}

async fn calm() -> Calm {
    let bench = Bench::new().await;
    let servers = ["worker-1", "worker-2"].map(|name| bench.cloud.add_server(name)).to_vec();
    let mut ports = Vec::new();
    for server in &servers {
        for _ in 0..2 {
            ports.push(bench.cloud.attach(server, &[&bench.subnet]).unwrap());
        }
    }
    bench.write("fleet.yaml", &bench.config("fleet", &servers.iter().collect::<Vec<_>>()));
    let mut calm = Calm { bench, servers, ports };
    // The first publishes, the second sees what came of it.
    for _ in 0..2 {
        assert_eq!(calm.bench.pass().await.ready, 1, "{}", calm.bench.status("fleet"));
    }
    calm.rests().await;
    calm
}

impl Calm {
    /// Makes a pass that finds nothing to do, and does nothing.
    async fn rests(&mut self) {
        let before = self.done();
        let summary = self.bench.pass().await;
        assert_eq!((summary.ready, summary.failing), (1, 0), "{}", self.bench.status("fleet"));
        assert_eq!(self.done(), Done { same: before.same + 1, ..before });
    }

    fn done(&self) -> Done {
        let look = |result| {
            self.bench.metric(&format!("multinic_controller_cloud_looks_total{{result=\"{result}\"}}"))
        };
        let database = |operation| {
            let labels = format!("{{operation=\"{operation}\",status=\"success\"}}");
            self.bench.metric(&format!("multinic_database_operation_duration_seconds_count{labels}"))
        };
        Done {
            same: look("same"),
            other: look("other"),
            ledger_reads: database("published"),
            publications: database("publish"),
        }
    }

    /// Makes a pass after a change of the cloud, which notices it.
    async fn notices(&mut self) {
        let before = self.done();
        self.bench.pass().await;
        let after = self.done();
        assert_eq!((after.same, after.other), (before.same, before.other + 1));
        assert_eq!(after.publications, before.publications + 1);
    }
}

/// What a controller has done since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Done {
    /// Looks at the cloud of which nothing was parsed.
    same: u64,
    /// Looks that were followed by a read.
    other: u64,
    ledger_reads: u64,
    publications: u64,
}

#[tokio::test]
async fn an_unchanged_pass_parses_nothing_reads_no_row_and_asks_no_more_than_a_read() {
    let mut calm = calm().await;
    calm.bench.cloud.forget_requests();
    calm.rests().await;
    let again = calm.bench.cloud.total_requests();
    calm.bench.restart(&[]);
    calm.bench.cloud.forget_requests();
    calm.bench.pass().await;
    // A controller that has just started needs a token beside.
    assert_eq!(again + 1, calm.bench.cloud.total_requests());
    assert!(calm.bench.status("fleet").contains("NoChange"));
}

#[tokio::test]
async fn a_port_that_is_added_is_noticed() {
    let mut calm = calm().await;
    calm.bench.cloud.attach(&calm.servers[0], &[&calm.bench.subnet]).unwrap();
    calm.notices().await;
    assert_eq!(calm.bench.published().await.interfaces.len(), 5);
}

#[tokio::test]
async fn a_port_that_is_removed_is_noticed() {
    let mut calm = calm().await;
    calm.bench.cloud.delete_port(&calm.ports[0].port).unwrap();
    calm.notices().await;
    assert_eq!(calm.bench.published().await.interfaces.len(), 3);
}

#[tokio::test]
async fn another_mac_of_a_port_is_noticed() {
    let mut calm = calm().await;
    let port = calm.ports[0].port.as_str();
    calm.bench.cloud.distort(port, "mac_address", Some(json!("fa:16:3e:99:99:99"))).unwrap();
    calm.notices().await;
    let published = calm.bench.published().await.interfaces;
    assert!(published.iter().any(|row| row.mac().to_string() == "fa:16:3e:99:99:99"));
}

#[tokio::test]
async fn another_mtu_of_a_network_is_noticed() {
    let mut calm = calm().await;
    let network = calm.bench.published().await.interfaces[0].network().cloned().unwrap();
    calm.bench.cloud.set_mtu(&network, Some(1400)).unwrap();
    calm.notices().await;
    for row in calm.bench.published().await.interfaces {
        assert_eq!(row.interface().unwrap().mtu.bytes(), 1400);
    }
}

#[tokio::test]
async fn another_cidr_of_a_subnet_is_noticed() {
    let mut calm = calm().await;
    let subnet = calm.bench.subnet.as_str();
    calm.bench.cloud.distort(subnet, "cidr", Some(json!("10.20.0.0/16"))).unwrap();
    calm.notices().await;
    for row in calm.bench.published().await.interfaces {
        assert_eq!(row.interface().unwrap().cidr.to_string(), "10.20.0.0/16");
    }
}

#[tokio::test]
async fn a_server_that_is_renamed_is_noticed() {
    let mut calm = calm().await;
    calm.bench.cloud.rename_server(&calm.servers[0], "worker-9").unwrap();
    calm.notices().await;
    assert!(calm.bench.status("fleet").contains("worker-9"), "{}", calm.bench.status("fleet"));
}

#[tokio::test]
async fn another_spec_is_noticed() {
    let mut calm = calm().await;
    calm.bench.write("fleet.yaml", &calm.bench.config("fleet", &[&calm.servers[0]]));
    calm.notices().await;
    assert_eq!(calm.bench.published().await.interfaces.len(), 2);
}

#[tokio::test]
async fn another_configuration_is_noticed() {
    let mut calm = calm().await;
    let server = calm.bench.cloud.add_server("worker-3");
    calm.bench.cloud.attach(&server, &[&calm.bench.subnet]).unwrap();
    calm.bench.write("other.yaml", &calm.bench.config("other", &[&server]));
    assert_eq!(calm.bench.pass().await.ready, 2);
    assert_eq!(calm.bench.published().await.interfaces.len(), 5);
    calm.bench.remove("other.yaml");
    assert_eq!(calm.bench.pass().await.ready, 1);
    assert_eq!(calm.bench.published().await.interfaces.len(), 4);
}

#[tokio::test]
async fn a_ledger_that_somebody_edited_is_noticed_and_mended() {
    let mut calm = calm().await;
    let right = calm.bench.published().await.interfaces;
    let row = right[0].clone();
    let mut interface = (**row.interface().unwrap()).clone();
    interface.mtu = multinic_core::Mtu::new(1300).unwrap();
    let edited = DesiredInterface {
        node: row.node,
        owner: row.owner,
        slot: row.slot.unwrap(),
        project: row.project.unwrap(),
        interface: interface.into(),
    };
    let publication = Publication { interfaces: vec![edited], ..Publication::default() };
    calm.bench.other_store().await.publish(&publication).await.unwrap();
    assert_ne!(calm.bench.published().await.interfaces, right);
    let before = calm.done();
    calm.bench.pass().await;
    assert_eq!(calm.bench.published().await.interfaces, right);
    assert_eq!(calm.done().ledger_reads, before.ledger_reads + 1);
    assert_eq!(calm.done().same, before.same + 1, "the cloud is as it was");
}

#[tokio::test]
async fn a_report_of_an_agent_is_noticed() {
    let mut calm = calm().await;
    let agent = calm.bench.agent("worker-1");
    let nic = agent.read().await.unwrap().nics[0].clone();
    let name = nic.slot.unwrap().interface();
    let outcome = Outcome::Applied { name, addresses: nic.addresses };
    agent.report(&[NicReport { entry: nic.entry, revision: nic.revision, outcome }], &[]).await.unwrap();
    let before = calm.done();
    calm.bench.pass().await;
    assert_eq!(calm.done().ledger_reads, before.ledger_reads + 1);
    calm.rests().await;
}

#[tokio::test]
async fn answers_that_break_off_or_lack_rows_are_noticed_and_remove_nothing() {
    let broken = [Fault::Truncated, Fault::Html(200), Fault::CutOff];
    let lacking = [Fault::Truncated, Fault::Html(200), Fault::CutOff, Fault::Empty, Fault::Lacking(1)];
    let paths: [(&str, &[Fault]); 4] = [
        ("/v2.0/ports", &lacking),
        ("/v2.0/subnets", &lacking),
        ("/v2.0/networks", &lacking),
        // Few servers are asked for one by one.
        ("/v2.1/servers", &broken),
    ];
    for (path, faults) in paths {
        for fault in faults {
            let mut calm = calm().await;
            let right = calm.bench.published().await.interfaces;
            calm.bench.cloud.inject_always(path, fault.clone());
            let before = calm.done().same;
            calm.bench.pass().await;
            assert_eq!(calm.done().same, before, "{path} {fault:?}");
            assert_eq!(calm.bench.published().await.interfaces, right, "{path} {fault:?}");
            calm.bench.cloud.clear_faults();
            assert_eq!(calm.bench.pass().await.ready, 1, "{path} {fault:?}");
            assert_eq!(calm.bench.published().await.interfaces, right, "{path} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_wrong_answer_that_stays_wrong_is_no_new_evidence() {
    let mut calm = calm().await;
    let right = calm.bench.published().await.interfaces;
    calm.bench.cloud.inject_always("/v2.0/ports", Fault::Empty);
    for _ in 0..4 {
        // What is missing is asked for by itself each time, and nothing is concluded from its being missing again.
        assert_eq!(calm.bench.pass().await.failing, 1);
        assert_eq!(calm.bench.published().await.interfaces, right);
        assert!(calm.bench.status("fleet").contains("RemovalUnproven"));
    }
}

#[tokio::test]
async fn what_time_brings_goes_on_while_nothing_changes() {
    let mut calm = calm().await;
    calm.bench.cloud.set_status(&calm.ports[0].port, "DOWN").unwrap();
    calm.notices().await;
    calm.bench.pass().await;
    for attempts in 3..6 {
        calm.rests().await;
        let status = calm.bench.status("fleet");
        assert!(status.contains(&format!("fastAttempts: {attempts}")), "{status}");
    }
}

#[tokio::test]
async fn a_held_removal_is_decided_anew_each_time() {
    let mut calm = calm().await;
    calm.bench.remove("fleet.yaml");
    for _ in 0..3 {
        let before = calm.done();
        assert_eq!(calm.bench.pass().await.held, 4);
        assert_eq!(calm.done().ledger_reads, before.ledger_reads + 1);
    }
}

#[tokio::test]
async fn a_token_that_ended_and_another_page_size_of_the_server_are_no_change() {
    let mut calm = calm().await;
    calm.bench.cloud.expire_tokens();
    calm.rests().await;
    calm.bench.cloud.set_page_limit(Some(1));
    let before = calm.done();
    calm.bench.pass().await;
    let after = calm.done();
    assert_eq!((after.other, after.publications), (before.other + 1, before.publications + 1));
    calm.rests().await;
}
