//! How fast an object's change is on the node, and what the agent weighs meanwhile. Run by hand, alone:
//! `cargo test --release -p multinic-agent --test resource pace -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use crate::agent::SELDOM;
use crate::cluster::Cluster;
use crate::database::nic;
use crate::world::{World, wait_until};

const CHANGES: usize = 300;

#[test]
#[ignore = "a measurement: it says nothing on a busy machine"]
fn from_a_changed_object_to_a_verified_nic() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let first = nic(0);
    world.plug(&first);
    cluster.apply(std::slice::from_ref(&first));
    let agent = cluster.start(&world, &[SELDOM]);
    world.wait_configured(&first);
    let memory = || agent.metric("process_resident_memory_bytes") / f64::from(1 << 20);
    println!("resident after the first NIC: {:.1} MiB", memory());
    let mut times: Vec<Duration> = (0..CHANGES)
        .map(|number| {
            let last = u8::try_from(number % 200).unwrap() + 10;
            let changed = first.clone().addresses(&[&format!("10.77.0.{last}/24")]);
            let begun = Instant::now();
            cluster.apply(std::slice::from_ref(&changed));
            wait_until(|| agent.log(), || world.is_configured(&changed));
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!("object's change to NIC: p50 {:?}, p99 {:?}, most {:?}", at(50), at(99), at(100));
    println!("resident after {CHANGES} changes: {:.1} MiB", memory());
}
