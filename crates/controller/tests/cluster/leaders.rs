//! Several controllers: one works.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;

use multinic_store::{DatabaseSettings, Store};
use multinic_testbed::kubernetes::{ControlPlane, FaultProxy};
use multinic_testbed::publication::one_nic;
use tokio::sync::oneshot;

use crate::bench::{Bench, run, run_beside, until};
use crate::sinks::inventory;

const ELECTED: [&str; 1] = ["--lease-duration=3s"];

async fn lease(bench: &Bench) -> Option<LeaseSpec> {
    let leases: Api<Lease> = Api::namespaced(bench.client.clone(), &bench.namespace);
    leases.get_opt("multinic-controller").await.unwrap()?.spec
}

async fn holder(bench: &Bench) -> Option<String> {
    lease(bench).await?.holder_identity.filter(|holder| !holder.is_empty())
}

#[tokio::test]
async fn when_the_leader_dies_the_other_goes_on_and_nothing_is_removed() {
    let Some(bench) = Bench::new().await else { return };
    let first = bench.start_with(&[ELECTED[0], "--pod-name=first"]).await;
    until("the first leads", async || holder(&bench).await.is_some_and(|name| name.starts_with("first")))
        .await;
    let second = bench.start_with(&[ELECTED[0], "--pod-name=second"]).await;
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    bench.until_ready("a").await;
    assert_eq!(first.metric("multinic_controller_leader"), "1");
    assert_eq!(second.metric("multinic_controller_leader"), "0");
    assert_eq!(second.metric("multinic_controller_pass_duration_seconds_count"), "0");
    let slots = bench.slots().await;
    first.kill();
    until("the second leads", async || holder(&bench).await.is_some_and(|name| name.starts_with("second")))
        .await;
    bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
    bench.until_count(2).await;
    for (mac, name) in slots {
        assert_eq!(bench.slots().await[&mac], name);
    }
    second.stop().await;
    assert_eq!(holder(&bench).await, None, "it gave the lease back");
}

#[tokio::test]
async fn whoever_is_at_work_for_longer_than_the_lease_lasts_keeps_it() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let (setup, registry) = bench.setup(&[ELECTED[0], "--pod-name=first"]);
    let (begin, begins) = oneshot::channel::<()>();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    // As planning for a large fleet does: nothing else gets to run on its thread.
    let first = run_beside(setup, registry, async move {
        begins.await.unwrap();
        let _ = ends.recv();
    });
    bench.until_ready("a").await;
    let second = bench.start_with(&[ELECTED[0], "--pod-name=second"]).await;
    begin.send(()).unwrap();
    let renewed = async || lease(&bench).await.unwrap().renew_time.unwrap().0;
    let began = renewed().await;
    until("the lease was renewed for longer than it lasts", async || {
        renewed().await.duration_since(began).as_secs() > 6
    })
    .await;
    assert!(holder(&bench).await.unwrap().starts_with("first"));
    bench.cloud.attach(&server, &[&bench.subnet]).unwrap();
    end.send(()).unwrap();
    bench.until_count(2).await;
    assert_eq!(first.metric("multinic_controller_elections_total"), "1");
    assert_eq!(second.metric("multinic_controller_elections_total"), "0");
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_renewal_that_gets_no_answer_does_not_lose_the_lease() {
    let Some(bench) = Bench::new().await else { return };
    let control_plane = ControlPlane::shared().unwrap();
    let proxy = FaultProxy::start(control_plane).unwrap();
    let (mut setup, registry) = bench.setup(&["--lease-duration=12s", "--pod-name=first"]);
    setup.config = proxy.access(control_plane.admin()).config().unwrap();
    let controller = run(setup, registry).await;
    let renewed = async || lease(&bench).await.and_then(|lease| lease.renew_time).map(|time| time.0);
    until("it leads", async || controller.metric("multinic_controller_leader") == "1").await;
    let before = renewed().await;
    proxy.silence("get", "leases");
    // It lasts longer than one attempt, and less than the term.
    tokio::time::sleep(Duration::from_millis(6500)).await;
    proxy.heal();
    until("it was renewed", async || renewed().await > before).await;
    until("and renewed again", async || {
        renewed().await.is_some_and(|now| now.duration_since(before.unwrap()).as_secs() > 12)
    })
    .await;
    assert_eq!(controller.metric("multinic_controller_elections_total"), "1");
    controller.stop().await;
}

#[tokio::test]
async fn whoever_loses_the_lease_stops_before_another_can_begin() {
    let Some(bench) = Bench::new().await else { return };
    let first = bench.start_with(&[ELECTED[0], "--pod-name=first"]).await;
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    bench.until_ready("a").await;
    // Somebody takes it over.
    let leases: Api<Lease> = Api::namespaced(bench.client.clone(), &bench.namespace);
    until("the lease is another's", async || {
        let mut lease = leases.get("multinic-controller").await.unwrap();
        let spec = lease.spec.as_mut().unwrap();
        spec.holder_identity = Some("stranger".to_owned());
        spec.lease_duration_seconds = Some(3600);
        leases.replace("multinic-controller", &Default::default(), &lease).await.is_ok()
    })
    .await;
    until("it stops", async || first.metric("multinic_controller_leader") == "0").await;
    let passes = first.metric("multinic_controller_pass_duration_seconds_count");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(first.metric("multinic_controller_pass_duration_seconds_count"), passes);
    assert_eq!(bench.count().await, 1);
    first.stop().await;
    assert_eq!(holder(&bench).await.as_deref(), Some("stranger"));
}

#[tokio::test]
async fn whoever_has_a_file_that_was_left_behind_does_not_lead_unless_that_is_set() {
    let Some(mut bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let first = bench.start_with(&[ELECTED[0], "--pod-name=first"]).await;
    bench.until_ready("a").await;
    let file = |name: &str| DatabaseSettings::sqlite(bench.folder.path().join(name));
    let (old, mut empty) =
        (Store::open(&file("old.db")).await.unwrap(), Store::open(&file("empty.db")).await.unwrap());
    let mac = "fa:16:3e:77:00:01".parse().unwrap();
    old.publish(&one_nic("worker-9", mac, "10.20.0.9/24".parse().unwrap()).unwrap()).await.unwrap();
    let own = std::mem::replace(&mut bench.store, old);
    let second = bench.start_with(&[ELECTED[0], "--pod-name=second"]).await;
    until("it is not ready", async || {
        (second.ready)().is_err_and(|problem| problem.contains("LEDGER_TAKEOVER"))
    })
    .await;
    first.stop().await;
    assert_eq!(holder(&bench).await, None);
    std::mem::swap(&mut bench.store, &mut empty);
    // It is filled from what is published.
    let third = bench.start_with(&[ELECTED[0], "--pod-name=third"]).await;
    until("the third leads", async || holder(&bench).await.is_some_and(|name| name.starts_with("third")))
        .await;
    bench.until_count(1).await;
    assert_eq!(bench.slots().await, slots(&own).await);
    third.stop().await;
    assert_eq!((second.metric("multinic_controller_leader"), holder(&bench).await), ("0".to_owned(), None));
    // It has been left behind since, and so has the first's.
    bench.store = own;
    let fourth = bench.start_with(&[ELECTED[0], "--pod-name=fourth"]).await;
    until("it is not ready", async || (fourth.ready)().is_err_and(|problem| problem.contains("LedgerStale")))
        .await;
    fourth.stop().await;
    let fifth = bench.start_with(&[ELECTED[0], "--pod-name=fifth", "--ledger-takeover=true"]).await;
    until("the fifth leads", async || holder(&bench).await.is_some_and(|name| name.starts_with("fifth")))
        .await;
    until("it is ready", async || (fifth.ready)().is_ok()).await;
    fifth.stop().await;
    second.stop().await;
}

async fn slots(store: &Store) -> std::collections::BTreeMap<String, String> {
    let rows = store.published().await.unwrap().interfaces;
    rows.iter().map(|row| (row.mac().to_string(), row.slot.unwrap().interface().to_string())).collect()
}

#[tokio::test]
async fn a_standby_with_an_inventory_of_its_own_says_that_it_is_out_of_date() {
    let Some(bench) = Bench::new().await else { return };
    let server = bench.add_node("worker-1");
    bench.apply("a", bench.spec(&[&server])).await;
    let first = bench.start_with(&[ELECTED[0], "--pod-name=first"]).await;
    bench.until_ready("a").await;
    let (mut setup, registry) = bench.setup(&[ELECTED[0], "--pod-name=second"]);
    let inventory = inventory(&bench.folder.path().join("inventory.db")).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let list = format!("http://{}/v1/inventory/node-configs", listener.local_addr().unwrap());
    let (stop, shutdown) = multinic_telemetry::shutdown::Shutdown::by_hand();
    let served = inventory.clone();
    tokio::spawn(async move { served.serve(listener, shutdown).await });
    let get = async || {
        let answer = reqwest::get(&list).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get().await.0, 200, "without a cluster it is what it is");
    setup.inventory = Some(inventory.clone());
    let second = run(setup, registry).await;
    let (status, body) = get().await;
    assert!(status == 503 && body.contains("does not lead"), "{status} {body}");
    let watch = reqwest::get(format!("{}/watch", list.replace("/inventory/", "/interfaces/"))).await.unwrap();
    assert_eq!(watch.status().as_u16(), 503);
    first.stop().await;
    until("the second leads and has its node", async || get().await.1.contains("worker-1")).await;
    let mut watch =
        reqwest::get(format!("{}/watch", list.replace("/inventory/", "/interfaces/"))).await.unwrap();
    assert_eq!(watch.status().as_u16(), 200);
    inventory.is_written(false);
    until("who watches is let go", async || watch.chunk().await.unwrap().is_none()).await;
    second.stop().await;
    stop.now();
}
