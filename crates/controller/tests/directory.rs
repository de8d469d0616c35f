//! Configurations as files: one broken file stops no other, and what is not read is not taken for removed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it expects by failing")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multinic_controller::metrics::Metrics;
use multinic_controller::pass::{Configs, Controller};
use multinic_controller::standalone::StandaloneError;
use multinic_core::fleet::{FleetLimits, Listing};
use multinic_openstack::Gate;
use multinic_telemetry::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use support::Bench;

/// Two configurations with one node each, published.
async fn two_configs() -> Bench {
    let mut bench = Bench::new().await;
    for name in ["a", "b"] {
        let server = bench.cloud.add_server(&format!("worker-{name}"));
        bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
        bench.write(&format!("{name}.yaml"), &bench.config(name, &[&server]));
    }
    let summary = bench.pass().await;
    assert_eq!((summary.ready, summary.failing, summary.broken_files), (2, 0, 0));
    bench
}

#[tokio::test]
async fn one_broken_file_stops_no_other_and_removes_nothing() {
    let mut bench = two_configs().await;
    let server = bench.cloud.add_server("worker-c");
    bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
    bench.write("c.yaml", &bench.config("c", &[&server]));
    bench.write("b.yaml", "apiVersion: [broken");
    let summary = bench.pass().await;
    assert_eq!((summary.ready, summary.broken_files), (2, 1));
    assert_eq!(bench.published().await.interfaces.len(), 3);
}

#[tokio::test]
async fn a_wrong_field_is_named_and_keeps_what_is_published() {
    let mut bench = two_configs().await;
    let good = std::fs::read_to_string(bench.directory.join("b.yaml")).unwrap();
    bench.write("b.yaml", &good.replace("pollFastInterval: 1ns", "pollFastInterval: soon"));
    let summary = bench.pass().await;
    assert_eq!((summary.ready, summary.failing), (1, 1));
    assert_eq!(bench.published().await.interfaces.len(), 2);
    let status = bench.status("b");
    assert!(status.contains("ConfigError") && status.contains("spec.settings.pollFastInterval"), "{status}");
}

#[tokio::test]
async fn a_misspelt_field_is_in_the_status_of_its_configuration_also_after_a_restart() {
    let mut bench = two_configs().await;
    let good = std::fs::read_to_string(bench.directory.join("b.yaml")).unwrap();
    bench.write("b.yaml", &good.replace("subnetIDs", "subnetIds"));
    bench.restart(&[]);
    let summary = bench.pass().await;
    assert_eq!((summary.ready, summary.failing, summary.broken_files), (1, 1, 0));
    let status = bench.status("b");
    assert!(status.contains("ConfigError") && status.contains("subnetIds"), "{status}");
    assert_eq!(bench.published().await.interfaces.len(), 2);
    // It is known which one it is, so others can be removed.
    bench.remove("a.yaml");
    bench.pass().await;
    assert_eq!(bench.published().await.interfaces.len(), 2, "b may want it too, as far as anybody knows");
}

#[tokio::test]
async fn a_file_that_became_unreadable_does_not_leave_its_configuration_ready() {
    let mut bench = two_configs().await;
    bench.write("b.yaml", "apiVersion: [broken");
    let summary = bench.pass().await;
    assert_eq!((summary.ready, summary.failing), (1, 1));
    let status = bench.status("b");
    assert!(status.contains("ConfigError") && status.contains("b.yaml"), "{status}");
}

#[tokio::test]
async fn a_file_that_became_empty_removes_nothing() {
    for text in ["", "# later\n", "---\n"] {
        let mut bench = two_configs().await;
        bench.write("b.yaml", text);
        let summary = bench.pass().await;
        assert_eq!((summary.ready, summary.failing, summary.broken_files), (1, 1, 1), "{text:?}");
        assert_eq!(bench.published().await.interfaces.len(), 2, "{text:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_being_written_removes_nothing_until_it_rests() {
    let mut bench = Bench::new().await;
    bench.restart_settling_in(Duration::from_millis(500));
    let servers = ["x", "y"].map(|name| bench.cloud.add_server(name));
    for server in &servers {
        bench.cloud.attach(server, &[&bench.subnet]).unwrap();
    }
    bench.write("a.yaml", &bench.config("a", &[&servers[0], &servers[1]]));
    bench.write("b.yaml", &bench.config("b", &[&servers[0]]));
    assert_eq!(bench.pass().await.failing, 0);
    assert_eq!(bench.published().await.interfaces.len(), 2);
    // Half of it is there: one VM less. Then none of it.
    for half in [Some(bench.config("a", &[&servers[0]])), None] {
        match half {
            Some(text) => bench.write("a.yaml", &text),
            None => bench.remove("a.yaml"),
        }
        assert_eq!(bench.standalone.pass().await.unwrap().failing, 0);
        assert_eq!(bench.published().await.interfaces.len(), 2);
    }
    assert_eq!(bench.pass().await.failing, 0);
    assert_eq!(bench.published().await.interfaces.len(), 1);
}

#[tokio::test]
async fn the_status_of_a_configuration_that_is_gone_goes_too() {
    let mut bench = two_configs().await;
    bench.remove("b.yaml");
    bench.pass().await;
    assert!(!bench.directory.join("default.b.status.yaml").exists());
    assert!(bench.directory.join("default.a.status.yaml").exists());
}

#[tokio::test]
async fn a_removed_file_takes_its_interfaces_away() {
    let mut bench = two_configs().await;
    bench.remove("b.yaml");
    bench.pass().await;
    let published = bench.published().await;
    assert_eq!(published.interfaces.len(), 1);
    assert_eq!(published.spec_hashes.len(), 1);
    assert_eq!(bench.agent_reads("worker-b").await.tombstones.len(), 1);
}

#[tokio::test]
async fn an_empty_directory_removes_nothing_until_it_is_confirmed() {
    let mut bench = two_configs().await;
    bench.remove("a.yaml");
    bench.remove("b.yaml");
    bench.pass().await;
    assert_eq!(bench.published().await.interfaces.len(), 2);
    bench.restart(&["000000000000"]);
    assert_eq!(bench.pass().await.held, 2);
    assert_eq!(bench.published().await.interfaces.len(), 2);
    // The digest is in the log; it depends on nothing but the set.
    let nothing = Configs::new(BTreeMap::new(), Listing::Complete);
    let metrics = Metrics::register(&mut Registry::default());
    let mut controller = Controller::new(
        bench.store.clone(),
        Gate::new(1),
        FleetLimits::default(),
        Duration::from_secs(3600),
        metrics,
    );
    let digest = controller.pass(&nothing, &BTreeSet::new()).await.unwrap().held.unwrap().digest;
    bench.restart(&[&digest]);
    assert_eq!(bench.pass().await.held, 0);
    assert_eq!(bench.published().await.interfaces.len(), 0);
    assert_eq!(bench.agent_reads("worker-a").await.tombstones.len(), 1);
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_an_error_that_names_it() {
    let mut bench = two_configs().await;
    std::fs::remove_dir_all(&bench.directory).unwrap();
    let error = bench.try_pass().await.unwrap_err();
    assert!(matches!(error, StandaloneError::Directory(_)));
    assert!(error.to_string().contains("configs"), "{error}");
    assert_eq!(bench.published().await.interfaces.len(), 2);
}

#[tokio::test]
async fn a_vm_taken_out_of_the_spec_loses_its_interfaces() {
    let mut bench = Bench::new().await;
    let servers = ["x", "y"].map(|name| bench.cloud.add_server(name));
    for server in &servers {
        bench.cloud.attach(server, &[&bench.subnet]).unwrap();
    }
    bench.write("a.yaml", &bench.config("a", &[&servers[0], &servers[1]]));
    bench.pass().await;
    bench.write("a.yaml", &bench.config("a", &[&servers[0]]));
    assert_eq!(bench.pass().await.ready, 1, "{}", bench.status("a"));
    assert_eq!(bench.published().await.interfaces.len(), 1);
    assert_eq!(bench.agent_reads("y").await.tombstones.len(), 1);
}

#[tokio::test]
async fn two_configurations_may_name_the_same_port() {
    let mut bench = Bench::new().await;
    let server = bench.cloud.add_server("x");
    bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
    for name in ["a", "b"] {
        bench.write(&format!("{name}.yaml"), &bench.config(name, &[&server]));
    }
    assert_eq!(bench.pass().await.ready, 2);
    assert_eq!(bench.published().await.interfaces.len(), 1);
    bench.remove("a.yaml");
    bench.pass().await;
    let published = bench.published().await;
    assert_eq!(published.interfaces.len(), 1, "the other one still wants it");
    assert_eq!(&*published.interfaces[0].owner.name, "b");
}

#[tokio::test]
async fn the_same_name_in_two_files_is_an_error_and_keeps_what_is_published() {
    let mut bench = two_configs().await;
    let text = std::fs::read_to_string(bench.directory.join("b.yaml")).unwrap();
    bench.write("c.yaml", &text);
    let summary = bench.pass().await;
    assert_eq!((summary.ready, summary.failing), (1, 1));
    assert_eq!(bench.published().await.interfaces.len(), 2);
}

#[tokio::test]
async fn no_secret_is_in_the_status_or_the_database() {
    let mut bench = two_configs().await;
    bench.cloud.set_password("operator", "another").unwrap();
    bench.cloud.expire_tokens();
    bench.restart(&[]);
    assert_eq!(bench.pass().await.failing, 2);
    let status = bench.status("a");
    assert!(status.contains("KeystoneError"), "{status}");
    assert!(!status.contains("operator-password"), "{status}");
    let database = std::fs::read(bench.directory.parent().unwrap().join("multinic.db")).unwrap();
    assert!(!String::from_utf8_lossy(&database).contains("operator-password"));
}

#[tokio::test]
async fn a_followed_directory_is_carried_out_once_it_rests_also_when_no_cloud_is_due() {
    let mut bench = two_configs().await;
    for name in ["a", "b"] {
        let file = bench.directory.join(format!("{name}.yaml"));
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, text.replace(": 1ns", ": 1h")).unwrap();
    }
    bench.restart_settling_in(Duration::from_millis(500));
    let (stop, shutdown) = Shutdown::by_hand();
    let (store, files) = (bench.store.clone(), bench.directory.clone());
    let acts = async {
        std::fs::remove_file(files.join("b.yaml")).unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while store.published().await.unwrap().interfaces.len() > 1 {
            assert!(tokio::time::Instant::now() < deadline, "the interface is still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.now();
    };
    let (ended, ()) = tokio::join!(bench.standalone.run(shutdown), acts);
    ended.unwrap();
}

#[tokio::test]
async fn a_database_that_is_emptied_meanwhile_ends_the_controller() {
    let mut bench = two_configs().await;
    let (_stop, shutdown) = Shutdown::by_hand();
    let ledger = SqliteConnectOptions::new().filename(bench.directory.parent().unwrap().join("multinic.db"));
    let mut other = ledger.connect().await.unwrap();
    sqlx::raw_sql("DROP TABLE multi_interface").execute(&mut other).await.unwrap();
    let ended = bench.standalone.run(shutdown).await.unwrap_err();
    assert!(ended.to_string().contains("multi_interface"), "{ended}");
}
