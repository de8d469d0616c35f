//! What the HTTP server answers, over real sockets.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use multinic_telemetry::pages::{HealthDocument, PageServer, Pages};
use multinic_telemetry::process::ProcessFigures;
use multinic_telemetry::shutdown::{Shutdown, ShutdownRequest};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

struct Served {
    address: SocketAddr,
    live: Arc<AtomicBool>,
    stop: ShutdownRequest,
    server: JoinHandle<()>,
}

/// Pages of a process that is alive as long as it is said to be.
fn pages(alive: Arc<AtomicBool>) -> Pages {
    let mut registry = Registry::default();
    let counter: Counter = Counter::default();
    registry.register("multinic_polling_cycles", "Polling cycles", counter.clone());
    registry.register_collector(Box::new(ProcessFigures));
    counter.inc();
    Pages {
        registry,
        live: Box::new(move || alive.load(Ordering::Relaxed).then_some(()).ok_or_else(|| "stuck".to_owned())),
        ready: Box::new(|| Err("not yet".to_owned())),
        health: Box::new(|| HealthDocument {
            status: StatusCode::SERVICE_UNAVAILABLE,
            body: json!({"status": "unhealthy"}),
        }),
    }
}

async fn serve() -> Served {
    let live = Arc::new(AtomicBool::new(true));
    let (stop, shutdown) = Shutdown::by_hand();
    let server = PageServer::bind(IpAddr::V4(Ipv4Addr::LOCALHOST), 0).await.unwrap();
    let address = server.address();
    let server = tokio::spawn(server.serve(pages(live.clone()), shutdown));
    Served { address, live, stop, server }
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let served = serve().await;
    let (status, text) = ask(served.address, "GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("multinic_polling_cycles_total 1\n"), "{text}");
    assert!(text.contains("process_resident_memory_bytes "), "{text}");
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
}

#[tokio::test]
async fn probes_say_what_they_find() {
    let served = serve().await;
    assert_eq!(ask(served.address, "GET", "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(ask(served.address, "GET", "/readyz").await, (503, "not yet\n".to_owned()));
    served.live.store(false, Ordering::Relaxed);
    assert_eq!(ask(served.address, "GET", "/livez").await, (503, "stuck\n".to_owned()));
}

#[tokio::test]
async fn a_probe_is_answered_while_everything_else_is_at_work() {
    let (stop, shutdown) = Shutdown::by_hand();
    let server = PageServer::bind(IpAddr::V4(Ipv4Addr::LOCALHOST), 0).await.unwrap();
    let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
    server.serve_apart(pages(Arc::new(AtomicBool::new(true))), shutdown).unwrap();
    // From here on this thread, which is that of the runtime, waits for nobody but the answer.
    let mut text = String::new();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("ok\n"), "{text}");
    stop.now();
}

#[tokio::test]
async fn every_other_path_is_the_health_document() {
    let served = serve().await;
    for path in ["/", "/health", "/anything/else"] {
        assert_eq!(ask(served.address, "GET", path).await, (503, r#"{"status":"unhealthy"}"#.to_owned()));
    }
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let served = serve().await;
    for path in ["/", "/metrics", "/livez"] {
        assert_eq!(ask(served.address, "POST", path).await, (405, "Method not allowed\n".to_owned()));
    }
}

#[tokio::test]
async fn it_ends_when_a_stop_is_requested() {
    let served = serve().await;
    ask(served.address, "GET", "/livez").await;
    served.stop.now();
    served.server.await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_the_variable() {
    let served = serve().await;
    let error = PageServer::bind(served.address.ip(), served.address.port()).await.unwrap_err().to_string();
    assert!(error.contains("HEALTH_PORT") && error.contains(&served.address.to_string()), "{error}");
}
