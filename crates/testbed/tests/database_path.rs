//! The NIC by which the database is reached is never touched, whatever the database says of it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail loudly.

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use multinic_core::MacAddr;
use multinic_store::{DatabaseSettings, Store};
use multinic_testbed::mariadb::{MariaDb, USER};
use multinic_testbed::node::{ForeignState, NetNs, Switch};
use multinic_testbed::program::{Program, find};
use multinic_testbed::publication::one_nic;
use multinic_testbed::relay::relay;

#[test]
fn the_nic_on_the_path_to_the_database_is_refused() {
    if !MariaDb::installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("etc/netplan")).unwrap();
    let (node, switch) = (NetNs::new("node-a").unwrap(), Switch::new().unwrap());
    let mac: MacAddr = "fa:16:3e:00:00:01".parse().unwrap();
    let net: IpNet = "10.50.0.2/24".parse().unwrap();
    let server: IpAddr = "10.50.0.1".parse().unwrap();
    switch.plug(&node, mac, "ens4", 1500, "storage").unwrap();
    node.set_up("ens4").unwrap();
    // A lease: nothing else stands against taking up this NIC.
    node.add_address("ens4", net, Some(3600)).unwrap();
    let outside = switch.namespace();
    outside.set_up("net1").unwrap();
    outside.add_address("net1", "10.50.0.1/24".parse().unwrap(), None).unwrap();

    let database = outside.run(MariaDb::start).unwrap().unwrap();
    database.create_database("path").unwrap();
    let url = database.url("path");
    let port = outside
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let store = Store::open(&DatabaseSettings::from_url(&url).unwrap()).await.unwrap();
                store.publish(&one_nic("node-a", mac, net).unwrap()).await.unwrap();
            });
            let target = (database.host().parse::<IpAddr>().unwrap(), database.port()).into();
            relay(outside, server, target).unwrap()
        })
        .unwrap();
    let before = ForeignState::capture(&node, &root, &[]).unwrap();

    let mut command = Command::new(find("multinic-agent").expect("cargo build --bins"));
    command
        .args(["once", "--node-name", "node-a", "--log-format", "text", "--allow-unarmed", "--host-root"])
        .arg(&root);
    command.env("DATABASE_URL", format!("mysql://{USER}:{}@{server}:{port}/path", database.password()));
    let log = folder.path().join("agent.log");
    let mut agent = node.run(|| Program::start("multinic-agent", command, log)).unwrap().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while agent.is_running() {
        assert!(Instant::now() < deadline, "the agent does not end:\n{}", agent.output());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(agent.terminate(Duration::from_secs(1)).unwrap().code(), Some(2), "{}", agent.output());
    let reported = database.sql("path", "SELECT last_error FROM multi_interface").unwrap();
    assert!(reported.contains("InUse: source_path"), "{reported}\n{}", agent.output());
    before.assert_same(&ForeignState::capture(&node, &root, &[]).unwrap());
}
