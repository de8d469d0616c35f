//! What goes wrong on the way, and how often it is tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use multinic_core::config::VmRef;
use multinic_openstack::{Cloud, CloudError, Gate, Options, Problem, ReadError, Retries};
use multinic_testbed::cloud_simulator::{Fault, Simulator};

use crate::{client, observed, options, scene, select};

const PORTS: &str = "/v2.0/ports";

fn too_many(retry_after: &str) -> Fault {
    Fault::TooMany { retry_after: retry_after.to_owned() }
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let scene = scene().await;
    for fault in
        [Fault::Html(502), Fault::Html(503), Fault::Html(504), Fault::Reset, Fault::CutOff, too_many("0")]
    {
        scene.cloud.inject(PORTS, fault.clone());
        let snapshot = scene.snapshot().await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(snapshot.ports.len(), 2);
    }
}

#[tokio::test]
async fn the_servers_own_wait_is_kept_in_place_of_ours() {
    let scene = scene().await;
    scene.cloud.inject(PORTS, too_many("0"));
    // Whoever waits for so long does not come back within the test.
    let hour = Duration::from_secs(3600);
    let options = Options { retries: Retries { times: 1, first: hour, longest: hour }, observer: None };
    let client = Cloud::with(&scene.cloud.access(), Gate::default(), options).unwrap();
    let selection = scene.selection();
    let read = tokio::time::timeout(Duration::from_secs(60), client.snapshot(&selection)).await;
    assert_eq!(read.unwrap().unwrap().ports.len(), 2);
}

#[tokio::test]
async fn what_stays_is_an_error_that_names_url_status_and_body() {
    let scene = scene().await;
    for (fault, words) in [
        (Fault::Html(503), &["status 503", "HTML page", "503 Service Unavailable"][..]),
        (Fault::Html(500), &["status 500", "HTML page"]),
        (Fault::Html(200), &["status 200", "HTML page"]),
        (Fault::Truncated, &["status 200", "EOF"]),
        (too_many("0"), &["status 429", "rate-limited"]),
        (Fault::Reset, &["connection"]),
        (Fault::CutOff, &["connection"]),
    ] {
        scene.cloud.inject_always(PORTS, fault.clone());
        let error = scene.snapshot().await.unwrap_err();
        assert_eq!((error.reason(), error.retry()), ("NeutronPortError", true), "{fault:?}");
        let text = error.to_string();
        for word in words.iter().chain(&["GET http://127.0.0.1", PORTS]) {
            assert!(text.contains(word), "{fault:?}: {text}");
        }
        assert!(text.len() < 700, "{text}");
        scene.cloud.clear_faults();
    }
}

#[tokio::test]
async fn attempts_are_bounded_and_refusals_are_not_repeated() {
    let scene = scene().await;
    for (status, attempts) in [(503, 3), (500, 1), (400, 1), (403, 1), (404, 1)] {
        scene.cloud.inject_always(PORTS, Fault::Html(status));
        scene.cloud.forget_requests();
        let error = scene.snapshot().await.unwrap_err();
        assert_eq!(scene.cloud.count(PORTS), attempts, "{status}");
        assert_eq!(error.retry(), status >= 500, "{status}");
        scene.cloud.clear_faults();
    }
}

#[tokio::test]
async fn silence_ends_at_the_time_limit() {
    let scene = scene().await;
    scene.cloud.inject_always(PORTS, Fault::Hang);
    let mut access = scene.cloud.access();
    access.timeout = Duration::from_millis(200);
    let error = client(&access).snapshot(&scene.selection()).await.unwrap_err();
    let CloudError::Ports(ReadError::Request(error)) = error else { panic!("{error}") };
    assert_eq!(*error.problem, Problem::Timeout(Duration::from_millis(200)));
}

#[tokio::test]
async fn nobody_at_the_other_end_is_no_connection() {
    let access = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap().access();
    let gone = select(vec![VmRef::Name("x".to_owned())], &[]);
    // The listener goes with its task, which ends when the runtime comes to it.
    let error = loop {
        match client(&access).snapshot(&gone).await.unwrap_err() {
            CloudError::Keystone(error) if matches!(*error.problem, Problem::NoConnection { .. }) => {
                break error;
            }
            _ => tokio::task::yield_now().await,
        }
    };
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let scene = scene().await;
    let location = "http://192.0.2.1/elsewhere".to_owned();
    let headers = vec![("location".to_owned(), location.clone())];
    scene.cloud.inject(PORTS, Fault::Answer { status: 302, headers, body: String::new() });
    let error = scene.snapshot().await.unwrap_err();
    assert!(error.to_string().contains(&location), "{error}");
}

#[tokio::test]
async fn an_empty_list_with_the_right_form_is_an_empty_list() {
    let scene = scene().await;
    scene.cloud.inject(PORTS, Fault::Empty);
    let snapshot = scene.snapshot().await.unwrap();
    assert_eq!((snapshot.ports.len(), snapshot.servers.len()), (0, 2));
}

#[tokio::test]
async fn a_list_without_its_key_is_an_error() {
    let scene = scene().await;
    for body in ["{}", "[]", "null", r#"{"ports": null}"#, r#"{"error": "x"}"#, ""] {
        scene.cloud.inject(PORTS, Fault::Answer { status: 200, headers: vec![], body: body.to_owned() });
        let error = scene.snapshot().await.unwrap_err();
        assert!(matches!(error, CloudError::Ports(_)), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_failed_chunk_fails_the_whole_read() {
    let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let fleet = cloud.add_fleet(95, 1).unwrap();
    let selection = select(fleet.servers.into_iter().map(VmRef::Id).collect(), &[&fleet.subnets[0]]);
    cloud.inject(PORTS, Fault::Html(500));
    let error = client(&cloud.access()).snapshot(&selection).await.unwrap_err();
    assert_eq!(error.reason(), "NeutronPortError");
}

#[tokio::test]
async fn the_gate_bounds_what_is_in_flight_to_one_server_over_all_clients() {
    let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let fleet = cloud.add_fleet(60, 1).unwrap();
    let selection = select(fleet.servers.into_iter().map(VmRef::Id).collect(), &[&fleet.subnets[0]]);
    cloud.inject_times(PORTS, 12, Fault::Delay(Duration::from_millis(20)));
    let gate = Gate::new(2);
    let clients: Vec<Cloud> =
        (0..4).map(|_| Cloud::with(&cloud.access(), gate.clone(), options()).unwrap()).collect();
    let most = Arc::new(AtomicUsize::new(0));
    let watch = async {
        loop {
            let open = cloud.requests().iter().filter(|request| request.status.is_none()).count();
            most.fetch_max(open, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let reads = join_all(clients.iter().map(|client| client.snapshot(&selection)));
    let reads = tokio::select! { reads = reads => reads, () = watch => unreachable!() };
    assert!(reads.iter().all(Result::is_ok));
    let most = most.load(Ordering::Relaxed);
    assert!((1..=2).contains(&most), "{most}");
}

#[tokio::test]
async fn the_observer_sees_every_attempt() {
    let scene = scene().await;
    scene.cloud.inject(PORTS, Fault::Html(503));
    scene.cloud.inject(PORTS, Fault::Reset);
    let (client, seen) = observed(&scene.cloud.access(), Gate::default());
    client.snapshot(&scene.selection()).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], ("keystone.token", 201));
    let ports: Vec<u16> = seen.iter().filter(|(name, _)| *name == "neutron.ports").map(|(_, s)| *s).collect();
    assert_eq!(ports, [503, 0, 200]);
}

#[test]
fn a_read_can_run_in_a_task_of_its_own() {
    fn sendable<T: Send>(_: impl FnOnce(Cloud, multinic_core::config::Selection) -> T) {}
    sendable(|cloud, selection| async move { cloud.snapshot(&selection).await.map(drop) });
    sendable(|cloud, _| async move {
        cloud.prove_port(&"a".into(), None, None, &"p".into()).await;
    });
}
