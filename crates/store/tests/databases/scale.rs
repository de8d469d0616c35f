//! A fleet of 10 000 nodes with 10 NICs each. Slow in an unoptimized build, so it runs when it is asked for:
//! `cargo test --release -p multinic-store --test databases -- --ignored --nocapture --test-threads 1`

use std::sync::Arc;
use std::time::Instant;

use multinic_core::Mtu;
use multinic_core::published::Publication;

use crate::database::Database;
use crate::world::*;

fn fleet(mtu: i64) -> Publication {
    publication((0..100_000).map(|n| {
        let mut nic = nic_of(&format!("node-{}", n / 10), n / 10, i64::from(n % 10), n + 1);
        // One MAC each: the last two bytes alone do not do.
        Arc::make_mut(&mut nic.interface).mac =
            format!("fa:16:3e:{:02x}:{:02x}:{:02x}", n >> 16, (n >> 8) & 255, n & 255).parse().unwrap();
        Arc::make_mut(&mut nic.interface).mtu = Mtu::new(mtu).unwrap();
        nic
    }))
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

async fn walk(db: &Database) {
    let store = db.store().await;
    let mut wanted = fleet(1450);
    let timed =
        |what: &str, start: Instant| eprintln!("{what}: {:?}, peak {} MiB", start.elapsed(), peak_mib());
    eprintln!("publication alone: peak {} MiB", peak_mib());
    let start = Instant::now();
    assert_eq!(store.publish(&wanted).await.unwrap().inserted, 100_000);
    timed("first publication", start);
    let start = Instant::now();
    assert_eq!(store.publish(&wanted).await.unwrap().unchanged, 100_000);
    timed("unchanged publication", start);
    let start = Instant::now();
    let published = store.published().await.unwrap();
    assert_eq!(published.interfaces.len(), 100_000);
    timed("read back", start);
    drop(published);
    Arc::make_mut(&mut wanted.interfaces[50_000].interface).mtu = Mtu::new(1400).unwrap();
    let start = Instant::now();
    assert_eq!(store.publish(&wanted).await.unwrap().updated, 1);
    timed("one change", start);
    let start = Instant::now();
    assert_eq!(store.publish(&fleet(1300)).await.unwrap().updated, 100_000);
    timed("every interface changed", start);
    let start = Instant::now();
    assert_eq!(db.read("node-7").await.nics.len(), 10);
    timed("an agent's read", start);
}

#[tokio::test]
#[ignore = "slow; a figure for people"]
async fn on_sqlite() {
    walk(&Database::sqlite()).await;
}

#[tokio::test]
#[ignore = "slow; a figure for people"]
async fn on_mariadb() {
    if let Some(database) = Database::mariadb("scale") {
        walk(&database).await;
    }
}
