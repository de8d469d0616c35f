//! Nodes by POST: to a Viola API in front of a real API server, and to servers as one meets them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod viola_support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use kube::api::{ListParams, PostParams};
use multinic_api::{MultiNicNodeConfig, NODE_NAME_LABEL, PROVIDER_ID_LABEL};
use multinic_controller::sinks::{Delivery, NodeWish, SinkError, ViolaSettings, ViolaSink};
use multinic_core::{NodeConfig, Slot};
use serde_json::{Value, json};
use viola_support::{Server, World};

fn wish(node: &str, nics: &[u8]) -> NodeWish {
    let interfaces: BTreeMap<Slot, _> = nics
        .iter()
        .map(|n| {
            let interface = json!({
                "mac": format!("fa:16:3e:00:00:{n:02x}"), "port": format!("port-{n}"), "network": "net-a",
                "subnet": "subnet-a", "device": "server-a", "addresses": [format!("10.0.0.{}/24", n + 10)],
                "cidr": "10.0.0.0/24", "mtu": 1450
            });
            (Slot::new((*n).into()).unwrap(), serde_json::from_value(interface).unwrap())
        })
        .collect();
    let config = NodeConfig { node: node.parse().unwrap(), instance: "server-a".into(), interfaces };
    NodeWish {
        provider: Some("provider-a".to_owned()),
        config,
        owners: BTreeMap::new(),
        options: BTreeMap::new(),
    }
}

fn settings(url: &str) -> ViolaSettings {
    let retries = 1;
    ViolaSettings { retries, timeout: Duration::from_secs(30), ..ViolaSettings::new(url.parse().unwrap()) }
}

type Results = BTreeMap<String, Result<Delivery, SinkError>>;

async fn deliver(settings: ViolaSettings, wishes: &[NodeWish]) -> Results {
    let sink = ViolaSink::new(settings).unwrap();
    let results = sink.deliver(Some("provider-a"), wishes).await;
    assert_eq!(results.len(), wishes.len());
    results.into_iter().map(|(node, result)| (node.to_string(), result)).collect()
}

/// What a server was sent: the provider, the authorization, the body.
type Posted = Arc<Mutex<Vec<(Option<String>, Option<String>, Value)>>>;
type Answer = Arc<dyn Fn(&Value) -> Response + Send + Sync>;

/// A server that answers as it is told, and remembers what it was sent.
async fn server(answer: impl Fn(&Value) -> Response + Send + Sync + 'static) -> (String, Posted) {
    let posted = Posted::default();
    let state: (Posted, Answer) = (posted.clone(), Arc::new(answer));
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .fallback(
            async |State((posted, answer)): State<(Posted, Answer)>, headers: HeaderMap, body: Bytes| {
                let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let response = answer(&body);
                posted.lock().unwrap().push((header("x-provider-id"), header("authorization"), body));
                response
            },
        )
        .layer(DefaultBodyLimit::disable())
        .with_state(state);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, posted)
}

fn names(body: &Value) -> Vec<&str> {
    body.as_array().unwrap().iter().map(|node| node["nodeName"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn nodes_pass_through_viola_whole() {
    let Some(world) = World::new().await else { return };
    let viola = world.server().await;
    let nodes = [wish("worker-1", &[0, 3]), wish("worker-2", &[1])];
    for expected in [Delivery::Applied, Delivery::Unchanged] {
        let results = deliver(settings(&viola.url()), &nodes).await;
        assert!(results.values().all(|result| *result == Ok(expected)), "{results:?}");
    }
    let object = world.get("worker-1").await;
    assert_eq!(object.metadata.labels.as_ref().unwrap()[PROVIDER_ID_LABEL], "provider-a");
    let nic = serde_json::to_value(&object.spec.interfaces[0]).unwrap();
    let expected = json!({
        "id": 0, "name": "multinic0", "macAddress": "fa:16:3e:00:00:00", "address": "10.0.0.10",
        "cidr": "10.0.0.0/24", "mtu": 1450, "portId": "port-0",
        "networkId": "net-a", "subnetId": "subnet-a", "deviceId": "server-a"
    });
    assert_eq!(nic, expected);
    // The last NIC goes: the object too, and the other node stays.
    let results = deliver(settings(&viola.url()), &[wish("worker-1", &[]), wish("worker-2", &[1])]).await;
    assert_eq!(results["worker-1"], Ok(Delivery::Removed));
    let left = world.api.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(left.iter().map(|o| o.metadata.name.as_deref().unwrap()).collect::<Vec<_>>(), ["worker-2"]);
}

#[tokio::test]
async fn a_node_that_viola_cannot_have_does_not_stop_the_others() {
    let Some(world) = World::new().await else { return };
    let viola = world.server().await;
    // A name that no object can have makes Viola refuse the batch as a whole.
    let mut nodes: Vec<NodeWish> = (0..9).map(|n| wish(&format!("worker-{n}"), &[0])).collect();
    nodes.insert(4, wish("Worker_X", &[0]));
    let results = deliver(settings(&viola.url()), &nodes).await;
    for (node, result) in &results {
        match node.as_str() {
            "Worker_X" => {
                let error = result.clone().unwrap_err();
                assert!(error.to_string().contains("[0].nodeName: \"Worker_X\" cannot be"), "{error}");
                assert_eq!((error.reason(), error.retry()), ("ViolaPostError", false));
            }
            _ => assert_eq!(*result, Ok(Delivery::Applied), "{node}"),
        }
    }
    // An object that is somebody else's is not deleted, which is told of this node alone.
    let spec = json!({"nodeName": "foreign", "interfaces": [{"macAddress": "fa:16:3e:00:00:55"}]});
    let mut foreign = MultiNicNodeConfig::new("foreign", serde_json::from_value(spec).unwrap());
    foreign.metadata.labels = Some([(NODE_NAME_LABEL.to_owned(), "foreign".to_owned())].into());
    world.api.create(&PostParams::default(), &foreign).await.unwrap();
    let results = deliver(settings(&viola.url()), &[wish("foreign", &[]), wish("worker-1", &[])]).await;
    assert_eq!(results["worker-1"], Ok(Delivery::Removed));
    let error = results["foreign"].clone().unwrap_err();
    assert_eq!(error.reason(), "RemovalNotPropagated");
    assert!(
        matches!(&error, SinkError::RemovalNotPropagated { problem, .. } if problem.contains("409")),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_is_sent_read_anew_and_never_told() {
    let Some(world) = World::new().await else { return };
    let (tokens, own) = (world.file("tokens"), world.file("own"));
    std::fs::write(&tokens, "today-s3cret\n").unwrap();
    std::fs::write(&own, "yesterday-s3cret\n").unwrap();
    let viola = Server::start(multinic_controller::viola::settings::Settings {
        tokens: Some(tokens),
        ..world.settings()
    })
    .await;
    let sink =
        ViolaSink::new(ViolaSettings { token_file: Some(own.clone()), ..settings(&viola.url()) }).unwrap();
    let nodes = [wish("worker-1", &[0])];
    let error = sink.deliver(None, &nodes).await.remove(0).1.unwrap_err();
    assert!(error.to_string().ends_with("status 401: unauthorized") && !error.retry(), "{error}");
    std::fs::write(&own, "today-s3cret\n").unwrap();
    assert_eq!(sink.deliver(None, &nodes).await[0].1, Ok(Delivery::Applied));

    // A server that repeats what it was sent.
    let (url, posted) =
        server(|_| (StatusCode::BAD_REQUEST, "bad: Bearer today-s3cret\r\n\x1b[2J").into_response()).await;
    let token = Some("today-s3cret".into());
    let results = deliver(ViolaSettings { token, ..settings(&url) }, &nodes).await;
    let error = results["worker-1"].clone().unwrap_err().to_string();
    assert!(error.ends_with("status 400: bad: Bearer [secret] [2J"), "{error}");
    assert_eq!(posted.lock().unwrap()[0].1.as_deref(), Some("Bearer today-s3cret"));
}

#[tokio::test]
async fn the_request_is_that_of_the_contract() {
    let (url, posted) = server(|_| (StatusCode::ACCEPTED, "whatever").into_response()).await;
    let nodes =
        [wish("worker-1", &[0]), wish("worker-2", &[]), wish("worker-3", &[0]), wish("worker-4", &[])];
    let results = deliver(settings(&format!("{url}/prefix/")), &nodes).await;
    assert_eq!(results["worker-1"], Ok(Delivery::Applied));
    // It was taken; that nothing is left is not said.
    assert_eq!(results["worker-2"], Ok(Delivery::Applied));
    let posted = posted.lock().unwrap();
    assert!(
        posted
            .iter()
            .all(|(provider, token, _)| provider.as_deref() == Some("provider-a") && token.is_none())
    );
    let bodies: Vec<&Value> = posted.iter().map(|(.., body)| body).collect();
    assert_eq!(names(bodies[0]), ["worker-1", "worker-3"]);
    let nic = json!({
        "id": 0, "portId": "port-0", "name": "multinic0", "macAddress": bodies[0][0]["interfaces"][0]["macAddress"],
        "address": "10.0.0.10", "cidr": "10.0.0.0/24", "mtu": 1450, "deviceId": "server-a", "networkId": "net-a",
        "subnetId": "subnet-a"
    });
    let node = |name: &str| json!({"nodeName": name, "instanceId": "server-a", "interfaces": [nic]});
    assert_eq!(bodies[0], &json!([node("worker-1"), node("worker-3")]));
    // Each tombstone alone.
    let mut tombstones = bodies[1..].to_vec();
    tombstones.sort_by_key(|body| names(body)[0].to_owned());
    let tombstone = |name: &str| json!([{"nodeName": name, "instanceId": "server-a", "interfaces": []}]);
    assert_eq!(tombstones, [&tombstone("worker-2"), &tombstone("worker-4")]);
}

#[tokio::test]
async fn a_refused_tombstone_is_told_apart_and_blocks_nobody() {
    // The older server: an empty list breaks the definition of the resource, which kubectl says with a 500.
    let (url, _) = server(|body| match body[0]["interfaces"].as_array() {
        Some(nics) if nics.is_empty() => {
            (StatusCode::INTERNAL_SERVER_ERROR, "spec.interfaces: should have at least 1 items")
                .into_response()
        }
        _ => StatusCode::OK.into_response(),
    })
    .await;
    let nodes = [wish("worker-1", &[]), wish("worker-2", &[0]), wish("worker-3", &[])];
    let results = deliver(settings(&url), &nodes).await;
    assert_eq!(results["worker-2"], Ok(Delivery::Applied));
    for node in ["worker-1", "worker-3"] {
        let error = results[node].clone().unwrap_err();
        assert_eq!(error.reason(), "RemovalNotPropagated");
        assert!(error.to_string().contains("should have at least 1 items"), "{error}");
    }
    // Where nobody answers, nobody refused.
    let results = deliver(settings("http://127.0.0.1:9"), &nodes[..1]).await;
    let error = results["worker-1"].clone().unwrap_err();
    assert_eq!((error.reason(), error.retry()), ("ViolaPostError", true), "{error}");
}

#[tokio::test]
async fn large_fleets_go_in_several_requests() {
    let (url, posted) = server(|_| StatusCode::OK.into_response()).await;
    let nics: Vec<u8> = (0..60).collect();
    let nodes: Vec<NodeWish> = (0..700).map(|n| wish(&format!("worker-{n}"), &nics)).collect();
    let results = deliver(ViolaSettings { batch: 10_000, ..settings(&url) }, &nodes).await;
    assert!(results.values().all(|result| *result == Ok(Delivery::Applied)));
    let posted = posted.lock().unwrap();
    let sizes: Vec<usize> = posted.iter().map(|(.., body)| body.to_string().len()).collect();
    assert!(sizes.len() > 2 && sizes.iter().all(|size| *size < 4 << 20), "{sizes:?}");
    let sent: usize = posted.iter().map(|(.., body)| names(body).len()).sum();
    assert_eq!(sent, 700, "nothing had to be sent twice");
}

#[tokio::test]
async fn what_is_no_answer_of_viola_is_told_as_what_it_is() {
    let page = "<html><head><title>503</title><style>p {}</style></head><body><h1>Service Unavailable</h1></body></html>";
    let (url, posted) = server(move |_| {
        (StatusCode::SERVICE_UNAVAILABLE, [("content-type", "text/html"), ("retry-after", "0")], page)
            .into_response()
    })
    .await;
    let nodes = [wish("worker-1", &[0]), wish("worker-2", &[0])];
    let error = deliver(settings(&url), &nodes).await["worker-1"].clone().unwrap_err();
    assert!(
        error.to_string().ends_with("status 503: an HTML page, probably a proxy's: 503 Service Unavailable")
    );
    assert!(error.retry());
    assert_eq!(posted.lock().unwrap().len(), 2, "tried twice, and nothing to search for");

    let (elsewhere, seen) = server(|_| StatusCode::OK.into_response()).await;
    let (url, _) = server(move |_| {
        (StatusCode::TEMPORARY_REDIRECT, [("location", elsewhere.clone())], "").into_response()
    })
    .await;
    let error = deliver(settings(&url), &nodes).await["worker-1"].clone().unwrap_err().to_string();
    assert!(error.contains("status 307 redirects to"), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 0, "nothing goes to a host that nobody configured");

    for url in ["ftp://viola", "http://user:s3cret@viola"] {
        let error = ViolaSink::new(settings(url)).unwrap_err();
        assert!(
            matches!(error, SinkError::Setting { .. }) && !error.to_string().contains("s3cret"),
            "{error}"
        );
    }
}
