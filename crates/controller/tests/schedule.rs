//! Configurations that are due at different times.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it expects by failing")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use multinic_controller::metrics::Metrics;
use multinic_controller::pass::{Configs, Controller};
use multinic_controller::standalone::Directory;
use multinic_core::config::Defaults;
use multinic_core::fleet::{FleetLimits, Listing};
use multinic_openstack::Gate;
use multinic_testbed::cloud_simulator::Fault;
use prometheus_client::registry::Registry;
use support::Bench;

/// Read once by a test, and not again.
fn rarely(config: &str) -> String {
    config.replace(": 1ns", ": 1h")
}

fn line<'a>(status: &'a str, key: &str) -> &'a str {
    status.lines().find(|line| line.contains(key)).unwrap()
}

#[tokio::test]
async fn a_port_that_moved_does_not_move_back_because_an_older_read_still_has_it() {
    let mut bench = Bench::new().await;
    let [x, y] = ["x", "y"].map(|name| bench.cloud.add_server(name));
    let port = bench.cloud.attach(&x, &[&bench.subnet]).unwrap();
    bench.write("a.yaml", &rarely(&bench.config("a", &[&x])));
    bench.write("b.yaml", &bench.config("b", &[&y]));
    bench.pass().await;
    bench.cloud.move_port(&port.port, &y).unwrap();
    bench.pass().await;
    assert_eq!(bench.published().await.interfaces[0].node.as_str(), "y");
    bench.cloud.inject_always("/v2.0/ports", Fault::Empty);
    bench.cloud.inject_always("/v2.1/servers", Fault::Html(200));
    bench.pass().await;
    let published = bench.published().await;
    assert_eq!(published.interfaces[0].node.as_str(), "y");
    assert_eq!(bench.agent_reads("y").await.tombstones, []);
}

#[tokio::test]
async fn a_configuration_that_was_not_read_is_not_said_to_be_in_agreement_with_its_cloud_since() {
    let mut bench = Bench::new().await;
    let [x, y] = ["x", "y"].map(|name| bench.cloud.add_server(name));
    for server in [&x, &y] {
        bench.cloud.attach(server, &[&bench.subnet]).unwrap();
    }
    bench.write("a.yaml", &rarely(&bench.config("a", &[&x])));
    bench.write("b.yaml", &bench.config("b", &[&y]));
    bench.pass().await;
    let before = bench.status("a");
    bench.pass().await;
    let after = bench.status("a");
    assert_eq!(line(&before, "lastSyncedAt"), line(&after, "lastSyncedAt"));
    assert!(line(&after, "interfaces").ends_with('1'), "{after}");
}

#[tokio::test]
async fn what_stays_published_is_counted() {
    let mut bench = Bench::new().await;
    let x = bench.cloud.add_server("x");
    let port = bench.cloud.attach(&x, &[&bench.subnet]).unwrap();
    bench.write("a.yaml", &bench.config("a", &[&x]));
    bench.pass().await;
    bench.cloud.delete_port(&port.port).unwrap();
    bench.cloud.inject_always("/v2.0/networks/", Fault::Html(200));
    bench.pass().await;
    let status = bench.status("a");
    assert!(status.contains("RemovalUnproven") && line(&status, "interfaces:").ends_with('1'), "{status}");
}

#[tokio::test]
async fn a_configuration_that_became_invalid_makes_no_pass_due() {
    let bench = Bench::new().await;
    let server = bench.cloud.add_server("x");
    let good = bench.config("a", &[&server]);
    let metrics = Metrics::register(&mut Registry::default());
    let week = Duration::from_secs(7 * 24 * 3600);
    let mut controller =
        Controller::new(bench.store.clone(), Gate::new(4), FleetLimits::default(), week, metrics);
    for (text, due) in [(good.clone(), true), (good.replace(": 1ns", ": soon"), false), (good, true)] {
        bench.write("a.yaml", &text);
        let contents = Directory::new(bench.directory.clone()).read(&Defaults::default()).unwrap();
        let by_key = contents.sources.into_iter().map(|(key, source)| (key, source.config)).collect();
        controller.pass(&Configs::new(by_key, Listing::Complete), &BTreeSet::new()).await.unwrap();
        assert_eq!(controller.next_due().is_some_and(|at| at <= Instant::now() + week), due);
    }
}
