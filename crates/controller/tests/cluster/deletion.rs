//! What goes when somebody deletes a configuration, and what stays.

use kube::api::{Patch, PatchParams};
use multinic_api::{CLEANUP_FINALIZER, ORPHAN_ANNOTATION};
use serde_json::json;

use crate::bench::{Bench, condition, until};

#[tokio::test]
async fn a_deleted_configuration_takes_its_interfaces_along_although_it_is_the_last() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    assert_eq!(bench.finalizers("a").await, [CLEANUP_FINALIZER]);
    bench.delete("a").await;
    bench.until_gone("a").await;
    assert_eq!(bench.count().await, 0);
    assert_eq!(bench.agent_reads("worker-1").await.tombstones.len(), 1);
    assert!(bench.published().await.spec_hashes.is_empty());
    controller.stop().await;
}

#[tokio::test]
async fn one_deleted_while_nobody_works_is_cleaned_up_later_and_another_stays() {
    let Some(bench) = Bench::new().await else { return };
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    bench.apply("a", bench.spec(&[&one])).await;
    bench.apply("b", bench.spec(&[&two])).await;
    let controller = bench.start().await;
    bench.until_count(2).await;
    bench.until_ready("b").await;
    controller.kill();
    bench.delete("a").await;
    assert!(bench.get("a").await.is_some(), "its finalizer holds it");
    let controller = bench.start().await;
    bench.until_gone("a").await;
    assert_eq!(bench.count().await, 1);
    assert_eq!(bench.agent_reads("worker-2").await.nics.len(), 1);
    controller.stop().await;
}

#[tokio::test]
async fn an_orphaned_configuration_goes_and_leaves_everything() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    let slots = bench.slots().await;
    bench.annotate("a", ORPHAN_ANNOTATION, "true").await;
    bench.delete("a").await;
    bench.until_gone("a").await;
    until("the orphans are counted", async || {
        controller.metric("multinic_controller_orphaned_interfaces") == "1"
    })
    .await;
    assert_eq!(bench.slots().await, slots);
    // Made again and deleted, it takes them along.
    bench.apply("a", bench.spec(&[&server])).await;
    bench.until_ready("a").await;
    assert_eq!(bench.slots().await, slots);
    bench.delete("a").await;
    bench.until_gone("a").await;
    assert_eq!(bench.count().await, 0);
    controller.stop().await;
}

#[tokio::test]
async fn a_configuration_whose_finalizer_somebody_took_away_removes_nothing() {
    let Some(bench) = Bench::new().await else { return };
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    bench.apply("a", bench.spec(&[&one])).await;
    bench.apply("b", bench.spec(&[&two])).await;
    let controller = bench.start().await;
    bench.until_count(2).await;
    bench.until_ready("a").await;
    controller.stop().await;
    // Nobody works; the object goes as if a backup without it had been restored.
    let patch = json!({"metadata": {"finalizers": null}});
    bench.api().patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    bench.delete("a").await;
    bench.until_gone("a").await;
    let controller = bench.start().await;
    let reads = bench.cloud.count("/v2.0/ports");
    until("several passes were made", async || bench.cloud.count("/v2.0/ports") > reads + 5).await;
    assert_eq!(bench.count().await, 2);
    controller.stop().await;
}

#[tokio::test]
async fn a_deletion_waits_while_another_configuration_that_may_want_the_same_cannot_be_read() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    bench.apply("b", bench.spec_with_secret(&[&server])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    bench.until_reason("b", &["ConfigError"]).await;
    bench.delete("a").await;
    until("it says why it waits", async || {
        let status = bench.status("a").await;
        let (is, reason, message) = condition(&status, "Ready");
        is == "False"
            && reason == "CleanupPending"
            && message.contains("/b")
            && message.contains(ORPHAN_ANNOTATION)
    })
    .await;
    assert_eq!(bench.count().await, 1);
    bench.write_secret("cloud", &[("password", crate::bench::PASSWORD)]).await;
    bench.until_gone("a").await;
    bench.until_ready("b").await;
    assert_eq!(bench.count().await, 1, "b wants it too");
    assert_eq!(&*bench.published().await.interfaces[0].owner.name, "b");
    controller.stop().await;
}

#[tokio::test]
async fn many_ports_that_vanish_at_once_wait_for_a_person() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.cloud.add_server("worker-1");
    let other = bench.add_node("worker-2");
    let mut ports = Vec::new();
    for n in 0..2 {
        let server = if n == 0 { server.clone() } else { bench.cloud.add_server("worker-3") };
        for _ in 0..6 {
            ports.push((server.clone(), bench.cloud.attach(&server, &[&bench.subnet]).unwrap().port));
        }
    }
    bench.apply("a", bench.spec(&[&server, &ports[11].0, &other])).await;
    let controller = bench.start().await;
    bench.until_count(13).await;
    for (_, port) in &ports {
        bench.cloud.delete_port(port).unwrap();
    }
    let status = bench.until_reason("a", &["MassRemovalHeld"]).await;
    assert_eq!(bench.count().await, 13);
    let digest = status.held_removals.unwrap();
    bench.annotate("a", multinic_core::config::CONFIRM_REMOVALS, "000000000000").await;
    bench.until_reason("a", &["MassRemovalHeld"]).await;
    bench.annotate("a", multinic_core::config::CONFIRM_REMOVALS, &digest).await;
    bench.until_count(1).await;
    until("nothing is held any more", async || bench.status("a").await.held_removals.is_none()).await;
    controller.stop().await;
}
