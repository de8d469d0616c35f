//! What a Viola has to be told of removals is in the ledger, and what belongs to a configuration that is not there stays where
//! it is.

use kube::api::{DeleteParams, Patch, PatchParams};
use multinic_api::ORPHAN_ANNOTATION;
use multinic_store::Reached;
use multinic_testbed::kubernetes::ControlPlane;
use serde_json::json;

use crate::bench::{Bench, condition, until};
use crate::sinks::{Viola, names, objects};

async fn slots_behind(bench: &Bench) -> usize {
    bench.published().await.releasing.len()
}

#[tokio::test]
async fn a_removal_that_a_viola_refuses_is_told_by_the_next_process_without_an_inventory() {
    let Some(bench) = Bench::new().await else { return };
    let (viola, url) = Viola::start().await;
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    let mut spec = bench.spec(&[&one, &two]);
    spec["credentials"]["k8sProviderID"] = json!("provider-1");
    bench.apply("a", spec.clone()).await;
    let args = ["--leader-elect=false", "--sinks=viola", "--viola-endpoint", &url];
    let controller = bench.start_with(&args).await;
    let key = |node: &str| ("provider-1".to_owned(), node.to_owned());
    until("Viola has both", async || viola.has().len() == 2).await;
    *viola.refuses.lock().unwrap() = Some("worker-1");
    spec["vmNames"] = json!([two.as_str()]);
    bench.apply("a", spec).await;
    until("it says that a removal is refused", async || {
        let (status, _, message) = condition(&bench.status("a").await, "RemovalNotPropagated");
        status == "True" && message.contains("worker-1")
    })
    .await;
    // The other node goes on meanwhile.
    bench.cloud.attach(&two, &[&bench.subnet]).unwrap();
    until("the other has two", async || viola.has()[&key("worker-2")] == 2).await;
    controller.stop().await;
    // It is kept however old it is.
    bench.sql("UPDATE multi_removal SET created_at = datetime('now', '-30 days')").await;
    viola.requests.lock().unwrap().clear();
    let controller = bench.start_with(&args).await;
    until("it is refused again", async || {
        condition(&bench.status("a").await, "RemovalNotPropagated").0 == "True"
            && viola.has().contains_key(&key("worker-2"))
    })
    .await;
    assert_eq!(bench.store.removed().await.unwrap()[0].delivered, Reached::Places([].into()));
    *viola.refuses.lock().unwrap() = None;
    until("it is told", async || viola.has().get(&key("worker-1")) == Some(&0)).await;
    until("that is noted", async || bench.store.removed().await.unwrap()[0].delivered == Reached::Everything)
        .await;
    until("it is not said any more", async || {
        condition(&bench.status("a").await, "RemovalNotPropagated").0.is_empty()
    })
    .await;
    controller.stop().await;
    // Nothing is told twice, and what is old enough goes.
    viola.requests.lock().unwrap().clear();
    let controller = bench.start_with(&args).await;
    until("it is purged", async || bench.store.removed().await.unwrap().is_empty()).await;
    until("the other is told", async || viola.has().contains_key(&key("worker-2"))).await;
    assert!(!viola.has().contains_key(&key("worker-1")));
    controller.stop().await;
}

#[tokio::test]
async fn a_slot_behind_viola_is_free_when_viola_says_so_else_in_time() {
    let Some(bench) = Bench::new().await else { return };
    let (viola, url) = Viola::start().await;
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    bench.apply("a", bench.spec(&[&one])).await;
    bench.apply("b", bench.spec(&[&two])).await;
    let args = ["--leader-elect=false", "--sinks=viola", "--viola-endpoint", &url];
    let controller = bench.start_with(&args).await;
    bench.until_ready("a").await;
    bench.until_ready("b").await;
    *viola.says.lock().unwrap() = Some("releasing");
    bench.delete("a").await;
    until("Viola is told", async || viola.has().values().any(|count| *count == 0)).await;
    bench.until_gone("a").await;
    assert_eq!(slots_behind(&bench).await, 1);
    assert_eq!(bench.store.removed().await.unwrap()[0].delivered, Reached::Places([].into()));
    *viola.says.lock().unwrap() = Some("deleted");
    until("it was asked again, and the slot is free", async || slots_behind(&bench).await == 0).await;
    // An older one says nothing of nodes.
    *viola.says.lock().unwrap() = None;
    bench.delete("b").await;
    bench.until_gone("b").await;
    until("that is noted", async || {
        bench.store.removed().await.unwrap().iter().all(|it| it.delivered == Reached::Everything)
    })
    .await;
    assert_eq!(slots_behind(&bench).await, 1);
    controller.stop().await;
    bench
        .sql(
            "UPDATE multi_removal SET delivered_at = datetime('now', '-9 minutes') WHERE released_at IS NULL",
        )
        .await;
    let controller = bench.start_with(&args).await;
    bench.apply("c", bench.spec(&[&one])).await;
    bench.until_ready("c").await;
    assert_eq!(slots_behind(&bench).await, 1);
    controller.stop().await;
    bench.sql("UPDATE multi_removal SET delivered_at = datetime('now', '-11 minutes') WHERE released_at IS NULL").await;
    let controller = bench.start_with(&args).await;
    until("its time has come", async || slots_behind(&bench).await == 0).await;
    controller.stop().await;
}

#[tokio::test]
async fn what_belongs_to_a_configuration_that_is_not_there_stays_where_it_was_delivered_last() {
    let Some(bench) = Bench::new().await else { return };
    let other = ControlPlane::shared().unwrap().new_namespace("elsewhere").await.unwrap();
    let there = kube::Api::<multinic_api::MultiNicNodeConfig>::namespaced(bench.client.clone(), &other);
    let server = bench.add_node("worker-1");
    let mut spec = bench.spec(&[&server]);
    spec["target"] = json!({ "namespace": other });
    bench.apply("a", spec).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    controller.stop().await;
    // Gone without anybody's having let go of what it published.
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    bench.api().patch("a", &PatchParams::default(), &patch).await.unwrap();
    bench.delete("a").await;
    bench.until_gone("a").await;
    let second = bench.add_node("worker-2");
    bench.apply("b", bench.spec(&[&second])).await;
    let controller = bench.start().await;
    bench.until_ready("b").await;
    until("the second is here", async || names(&bench, "worker-2").await.len() == 1).await;
    there.delete("worker-1", &DeleteParams::default()).await.unwrap();
    until("it is put back there", async || there.get_opt("worker-1").await.unwrap().is_some()).await;
    assert!(objects(&bench).get_opt("worker-1").await.unwrap().is_none(), "and not here");
    controller.stop().await;
}

#[tokio::test]
async fn a_configuration_that_can_be_delivered_nowhere_says_so_at_once_and_goes_from_where_it_was() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    let mut nowhere = bench.spec(&[&server]);
    nowhere["sinks"] = json!(["viola"]);
    nowhere["credentials"]["k8sProviderID"] = json!("provider-1");
    bench.apply("new", nowhere.clone()).await;
    bench.apply("old", bench.spec(&[&server])).await;
    let controller = bench.start().await;
    bench.until_ready("old").await;
    let status = bench.until_reason("new", &["ConfigError"]).await;
    assert!(status.last_error.unwrap().contains("spec.settings.violaEndpoint"));
    assert!(!bench.event_reasons("new").await.contains(&"Synced".to_owned()), "it never said otherwise");
    bench.delete("new").await;
    bench.until_gone("new").await;
    assert_eq!(names(&bench, "worker-1").await.len(), 1);
    controller.stop().await;
    // Nobody asks for it to be carried out.
    bench.apply("old", nowhere).await;
    let manual =
        ["--leader-elect=false", "--reconcile-mode=manual", "--reconcile-immediate-on-cr-change=false"];
    let controller = bench.start_with(&manual).await;
    until("it says so all the same", async || {
        let (_, reason, message) = condition(&bench.status("old").await, "Ready");
        reason == "ConfigError" && message.contains("spec.settings.violaEndpoint")
    })
    .await;
    assert_eq!(names(&bench, "worker-1").await.len(), 1, "what was published stays");
    bench.delete("old").await;
    bench.until_gone("old").await;
    assert!(objects(&bench).get_opt("worker-1").await.unwrap().is_none());
    controller.stop().await;
}

#[tokio::test]
async fn what_belongs_to_a_configuration_that_is_not_there_keeps_its_options() {
    let Some(bench) = Bench::new().await else { return };
    let [one, two] = ["worker-1", "worker-2"].map(|name| bench.add_node(name));
    let loose = async |node: &str| {
        let object = objects(&bench).get_opt(node).await.unwrap();
        let nics = object.map(|object| serde_json::to_value(&object.spec.interfaces).unwrap());
        nics.is_some_and(|nics| nics[0]["options"]["rpFilter"] == "loose")
    };
    for (name, server) in [("a", &one), ("b", &two)] {
        let mut spec = bench.spec(&[server]);
        spec["options"] = json!({"rpFilter": "loose"});
        bench.apply(name, spec).await;
    }
    let controller = bench.start().await;
    for node in ["worker-1", "worker-2"] {
        until("its options are there", async || loose(node).await).await;
    }
    bench.until_ready("a").await;
    bench.until_ready("b").await;
    // One is let go, of the other somebody takes the finalizer away.
    bench.annotate("a", ORPHAN_ANNOTATION, "true").await;
    bench.delete("a").await;
    bench.until_gone("a").await;
    controller.stop().await;
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    bench.api().patch("b", &PatchParams::default(), &patch).await.unwrap();
    bench.delete("b").await;
    bench.until_gone("b").await;
    let controller = bench.start().await;
    for node in ["worker-1", "worker-2"] {
        objects(&bench).delete(node, &DeleteParams::default()).await.unwrap();
        until("it is put back as it was", async || loose(node).await).await;
    }
    controller.stop().await;
}
