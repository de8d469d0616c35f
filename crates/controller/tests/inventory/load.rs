//! How fast it is, for people. Slow in an unoptimized build, so it runs when it is asked for:
//! `cargo test --release -p multinic-controller --test inventory -- --ignored --nocapture --test-threads 1 load`

use std::time::{Duration, Instant};

use multinic_controller::inventory::Inventory;

use crate::bench::*;

const NODES: usize = 10_000;
const READERS: usize = 8;

async fn measure(name: &str, inventory: Inventory) {
    let served = Served::new(inventory).await;
    let entries: Vec<_> =
        (0..NODES).map(|n| entry("p", &format!("node-{n:05}"), &format!("i-{n}"))).collect();
    let start = Instant::now();
    served.inventory.apply(&entries).await.unwrap();
    eprintln!("{name}: {NODES} new records: {:?}", start.elapsed());
    let start = Instant::now();
    served.inventory.apply(&entries).await.unwrap();
    eprintln!("{name}: unchanged: {:?}", start.elapsed());
    for (what, path, rounds) in [
        ("by server", "/v1/interfaces/node-configs/by-instance/i-7000", 250),
        ("page of 1000", "/v1/interfaces/node-configs?providerId=p&limit=1000", 25),
        ("summary", "/v1/interfaces/providers", 5),
        ("everything", "/v1/inventory/node-configs", 2),
    ] {
        let start = Instant::now();
        let readers = (0..READERS).map(|_| {
            let (client, url) = (served.client.clone(), served.url(path));
            tokio::spawn(async move {
                let mut times = Vec::new();
                for _ in 0..rounds {
                    let start = Instant::now();
                    let response = client.get(&url).send().await.unwrap();
                    assert_eq!(response.status(), 200);
                    response.bytes().await.unwrap();
                    times.push(start.elapsed());
                }
                times
            })
        });
        let readers: Vec<_> = readers.collect();
        let mut times: Vec<Duration> = Vec::new();
        for reader in readers {
            times.extend(reader.await.unwrap());
        }
        times.sort();
        let rate = times.len() as f64 / start.elapsed().as_secs_f64();
        let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
        eprintln!("{name}: {what}, {READERS} readers: {rate:.0}/s, median {:?}, p99 {:?}", at(50), at(99));
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow; a figure for people"]
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.db");
    let args = settings(&["--inventory-db-path", path.to_str().unwrap()]);
    measure("SQLite", Inventory::open(&args, None).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow; a figure for people"]
async fn on_mariadb() {
    let Some(database) = mariadb("load").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.db");
    let args = settings(&["--inventory-db-path", path.to_str().unwrap()]);
    measure("MariaDB", Inventory::open(&args, Some(&database)).await.unwrap()).await;
}
