//! The watch.

use std::time::Duration;

use multinic_controller::inventory::Inventory;
use multinic_controller::inventory::server::Limits;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::*;

/// A reader of events.
struct Events {
    response: Response,
    text: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    kind: String,
    id: Option<String>,
    data: Value,
}

impl Events {
    async fn of(served: &Served, path: &str, last: Option<&str>) -> Self {
        let mut request = served.client.get(served.url(path)).header("accept", "text/event-stream");
        if let Some(id) = last {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        Self { response, text: String::new() }
    }

    /// The next block: an event or a comment. None at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(60), self.response.chunk()).await;
            let chunk = chunk.expect("something arrives").unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            if let Some(kind) = field("event:") {
                let data = serde_json::from_str(field("data:").unwrap()).unwrap();
                let id = field("id:")
                    .map(str::to_owned)
                    .or(block.lines().any(|line| line == "id").then(String::new));
                return Some(Event { kind: kind.to_owned(), id, data });
            }
        }
    }

    async fn expect(&mut self, kind: &str) -> Event {
        let event = self.next().await.expect("an event");
        assert_eq!(event.kind, kind, "{event:?}");
        event
    }
}

const WATCH: &str = "/v1/interfaces/node-configs/watch";

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_goes_on_with_what_changes() {
    let bench = Bench::new().await;
    bench.inventory.apply(&[entry("p", "node-a", "i-1"), entry("q", "node-b", "i-2")]).await.unwrap();
    let mut events = Events::of(&bench, &format!("{WATCH}?providerId=p"), None).await;
    let first = events.expect("put").await;
    assert_eq!((first.data["nodeName"].as_str(), first.id), (Some("node-a"), None));
    let synced = events.expect("synced").await;
    assert!(synced.id.unwrap().ends_with("-2"));

    bench.inventory.apply(&[entry("q", "node-c", "i-3"), entry("p", "node-d", "i-4")]).await.unwrap();
    let put = events.expect("put").await;
    assert_eq!(put.data, bench.json("/v1/inventory/node-configs/node-d").await[0]);
    assert!(put.id.unwrap().ends_with("-3"));
    bench.inventory.remove(&[key("q", "node-b"), key("p", "node-a")]).await.unwrap();
    let gone = events.expect("delete").await;
    assert_eq!(gone.data, json!({"providerId": "p", "nodeName": "node-a", "instanceId": "i-1"}));
}

#[tokio::test]
async fn the_lists_are_watches_for_those_who_ask_for_events() {
    let bench = Bench::new().await;
    bench.inventory.apply(&[entry("p", "node-a", "i-1")]).await.unwrap();
    for path in ["/v1/interfaces/node-configs?providerId=p", "/v1/inventory/node-configs"] {
        let mut events = Events::of(&bench, path, None).await;
        events.expect("put").await;
        events.expect("synced").await;
    }
}

#[tokio::test]
async fn who_was_cut_goes_on_where_it_was() {
    let bench = Bench::new().await;
    bench.inventory.apply(&[entry("p", "node-a", "i-1"), entry("p", "node-b", "i-2")]).await.unwrap();
    let mut events = Events::of(&bench, WATCH, None).await;
    events.expect("put").await;
    events.expect("put").await;
    let id = events.expect("synced").await.id.unwrap();
    drop(events);

    bench.inventory.remove(&[key("p", "node-a")]).await.unwrap();
    bench.inventory.apply(&[entry("p", "node-c", "i-3")]).await.unwrap();
    let mut events = Events::of(&bench, WATCH, Some(&id)).await;
    let gone = events.expect("delete").await;
    assert_eq!(gone.data["nodeName"], "node-a");
    let put = events.expect("put").await;
    assert_eq!(put.data["nodeName"], "node-c");
    let mut events = Events::of(&bench, WATCH, gone.id.as_deref()).await;
    assert_eq!(events.expect("put").await, put);
}

#[tokio::test]
async fn who_comes_with_an_id_of_elsewhere_begins_anew_and_is_told() {
    let bench = Bench::new().await;
    bench.inventory.apply(&[entry("p", "node-a", "i-1")]).await.unwrap();
    let mut events = Events::of(&bench, WATCH, None).await;
    events.expect("put").await;
    let id = events.expect("synced").await.id.unwrap();
    let ahead = format!("{}-99", id.rsplit_once('-').unwrap().0);
    for wrong in ["0123456789ab-1", "nonsense", &ahead] {
        let mut events = Events::of(&bench, WATCH, Some(wrong)).await;
        assert_eq!(events.expect("reset").await.id.as_deref(), Some(""));
        events.expect("put").await;
        assert_eq!(events.expect("synced").await.id.as_ref(), Some(&id));
    }
}

#[tokio::test]
async fn a_watch_of_a_server_learns_that_a_node_is_another_server_now() {
    let bench = Bench::new().await;
    bench.inventory.apply(&[entry("p", "node-a", "i-1")]).await.unwrap();
    let mut events = Events::of(&bench, &format!("{WATCH}?instanceId=i-1"), None).await;
    events.expect("put").await;
    events.expect("synced").await;
    bench.inventory.apply(&[entry("p", "node-a", "i-9")]).await.unwrap();
    assert_eq!(events.expect("delete").await.data["nodeName"], "node-a");
    bench.inventory.apply(&[entry("p", "node-b", "i-1")]).await.unwrap();
    assert_eq!(events.expect("put").await.data["nodeName"], "node-b");
}

#[tokio::test]
async fn a_quiet_watch_says_that_it_is_there() {
    let limits = Limits { heartbeat: Duration::from_millis(50), ..Limits::default() };
    let bench = Bench::with(&[], limits, None).await;
    let mut events = Events::of(&bench, WATCH, None).await;
    events.expect("synced").await;
    assert_eq!(events.block().await.unwrap(), ": alive");
}

#[tokio::test]
async fn watches_end_when_the_server_does() {
    let bench = Bench::new().await;
    let mut events = Events::of(&bench, WATCH, None).await;
    events.expect("synced").await;
    let Bench { served, folder } = bench;
    served.stop().await;
    assert_eq!(events.next().await, None);
    drop(folder);
}

#[tokio::test]
async fn there_are_only_so_many_watches() {
    let limits = Limits { watchers: 1, ..Limits::default() };
    let bench = Bench::with(&[], limits, None).await;
    let mut events = Events::of(&bench, WATCH, None).await;
    events.expect("synced").await;
    let (status, text) = bench.text(WATCH).await;
    assert!(status == 503 && text.contains("too many"), "{status} {text}");
    drop(events);
    until("the place is free again", async || bench.get(WATCH).await.status() == 200).await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut() {
    let limits = Limits { stall: Duration::from_millis(300), ..Limits::default() };
    let bench = Bench::with(&[], limits, None).await;
    let entries: Vec<_> =
        (0..20_000).map(|n| entry("p", &format!("node-{n:05}"), &format!("i-{n}"))).collect();
    bench.inventory.apply(&entries).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(bench.at).await.unwrap();
    stream.write_all(format!("GET {WATCH} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    // The server has more to say than the sockets hold, and hears nothing of it being taken.
    until("the stream is cut", async || stream.write_all(b" ").await.is_err()).await;
    let mut taken = Vec::new();
    let _ = stream.read_to_end(&mut taken).await;
    let text = String::from_utf8_lossy(&taken);
    assert!(text.starts_with("HTTP/1.1 200") && !text.contains("event: synced"), "{} bytes", taken.len());
}

#[tokio::test]
async fn replicas_tell_of_one_anothers_changes() {
    let Some(database) = mariadb("watch_replicas").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.db");
    let args = settings(&["--inventory-db-path", path.to_str().unwrap()]);
    let open = async || Inventory::open(&args, Some(&database)).await.unwrap();
    let (leader, other) = (Served::new(open().await).await, Served::new(open().await).await);
    let mut events = Events::of(&other, WATCH, None).await;
    let id = events.expect("synced").await.id.unwrap();
    leader.inventory.apply(&[entry("p", "node-a", "i-1")]).await.unwrap();
    assert_eq!(events.expect("put").await.data["nodeName"], "node-a");
    leader.inventory.remove(&[key("p", "node-a")]).await.unwrap();
    events.expect("delete").await;
    // An id of one replica counts with the other.
    let mut events = Events::of(&leader, WATCH, Some(&id)).await;
    assert_eq!(events.expect("delete").await.data["nodeName"], "node-a");
    let (one, two) =
        (leader.get("/v1/interfaces/providers").await, other.get("/v1/interfaces/providers").await);
    assert_eq!(one.headers()["etag"], two.headers()["etag"]);
    assert!(!path.exists());
}
