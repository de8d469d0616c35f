//! Changes as they happen: `text/event-stream`.
//!
//! Nothing is queued for a reader. Each has a place in the store's order of revisions and asks for what comes next when
//! it has taken what came before; so one that is slow costs nothing, and is cut when it stops reading (see
//! [`server`](super::super::server)).

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use multinic_store::StoreError;
use multinic_store::inventory::{Change, Filter, InventoryStore, Position, Record, RecordKey};
use multinic_telemetry::shutdown::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, watch as revisions};

use super::Context;
use super::query::Wanted;
use super::records::token;
use super::refusal::Refusal;

/// How many records are read for one reader at once.
const AT_ONCE: u32 = 100;
static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The records as they are, then every change of them.
#[utoipa::path(get, path = "/v1/interfaces/node-configs/watch", tag = "inventory",
    params(("providerId" = Option<String>, Query), ("nodeName" = Option<String>, Query), ("instanceId" = Option<String>, Query),
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event")),
    responses((status = 200, content_type = "text/event-stream", body = String,
            description = "Events: `reset` (forget what you have), `put` (a record), `synced` (you have everything as of \
            this id), `delete` (providerId, nodeName, instanceId of a record that is gone)"),
        (status = 401, description = "unauthorized"), (status = 403, description = "forbidden"),
        (status = 503, description = "inventory store not available, or too many watches")),
    security((), ("bearer" = [])))]
pub(super) async fn watch(
    State(context): State<Context>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let wanted = Wanted::of(&uri)?;
    begin(&context, wanted.filter, &headers).await
}

/// Whether a request for a list asks for the watch instead.
pub(super) fn accepts(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split([',', ';'])).any(|kind| kind.trim() == "text/event-stream")
}

pub(super) async fn begin(
    context: &Context,
    filter: Filter,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let store = context.store()?.clone();
    let place = context.watchers.clone().try_acquire_owned().map_err(|_| Refusal::TooManyWatchers)?;
    let news = context.revision.subscribe();
    let current = context.current.subscribe();
    let position = store.position().await?;
    let id = headers.get(&LAST_EVENT_ID).and_then(|value| value.to_str().ok()).filter(|id| !id.is_empty());
    let seen = id.map(|id| seen(id, &position));
    let mut ready = VecDeque::new();
    let (stage, last) = match seen {
        // Whether a record was one of this server's before cannot be told afterwards; they are few.
        Some(Some(revision)) if filter.instance_id.is_none() => (Stage::Changes, revision),
        other => {
            if other.is_some() {
                // The empty id makes the client forget the one that it came with.
                ready.push_back(Event::default().event("reset").id("").data("{}"));
            }
            (Stage::Snapshot(None), position.revision)
        }
    };
    let watcher = Watcher {
        store,
        filter,
        position,
        stage,
        last,
        ready,
        told: HashSet::new(),
        news,
        current,
        shutdown: context.shutdown.clone(),
        _place: place,
    };
    let events = stream::unfold(watcher, |mut watcher| async {
        let event = watcher.next().await?;
        Some((Ok::<_, Infallible>(event), watcher))
    });
    let alive = KeepAlive::new().interval(context.limits.heartbeat).text("alive");
    let mut response = Sse::new(events).keep_alive(alive).into_response();
    // nginx would collect what is to be passed on at once.
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// The revision of an id of this store, if everything after it is still known.
fn seen(id: &str, position: &Position) -> Option<u64> {
    let (_, revision) = id.rsplit_once('-')?;
    let revision: u64 = revision.parse().ok()?;
    let same = token(position, revision) == id;
    (same && revision >= position.compacted && revision <= position.revision).then_some(revision)
}

enum Stage {
    /// The records as they are, after this one. Their events have no id: who is cut here begins again.
    Snapshot(Option<RecordKey>),
    Changes,
}

struct Watcher {
    store: InventoryStore,
    filter: Filter,
    position: Position,
    stage: Stage,
    /// The revision up to which everything was told.
    last: u64,
    ready: VecDeque<Event>,
    /// What a watch of one server was told of, so that it learns when that is another's.
    told: HashSet<RecordKey>,
    news: revisions::Receiver<u64>,
    /// Whether what is in the store is what there is.
    current: revisions::Receiver<bool>,
    shutdown: Shutdown,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// None ends the stream; the client comes back with its last id.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.shutdown.is_requested() || !*self.current.borrow() {
                return None;
            }
            match self.read().await {
                Ok(true) => (),
                Ok(false) => {
                    tokio::select! {
                        heard = self.news.changed() => heard.ok()?,
                        _ = self.current.wait_for(|current| !*current) => return None,
                        () = self.shutdown.requested() => return None,
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a watch of the inventory ends");
                    return None;
                }
            }
        }
    }

    /// Reads on; false where there is nothing more.
    async fn read(&mut self) -> Result<bool, StoreError> {
        match &self.stage {
            Stage::Snapshot(after) => {
                let page = self.store.list(&self.filter, after.as_ref(), AT_ONCE).await?;
                for record in &page.records {
                    let event = self.put(record);
                    self.ready.push_back(event);
                }
                self.stage = match page.next {
                    Some(key) => Stage::Snapshot(Some(key)),
                    None => {
                        let id = token(&self.position, self.last);
                        self.ready.push_back(Event::default().event("synced").id(id).data("{}"));
                        Stage::Changes
                    }
                };
                Ok(true)
            }
            Stage::Changes => {
                // What is written from here on wakes this watch again.
                self.news.borrow_and_update();
                let changes = self.store.changes(self.last, AT_ONCE).await?;
                for change in &changes {
                    self.last = change.revision;
                    if let Some(event) = self.event(change) {
                        self.ready.push_back(event.id(token(&self.position, change.revision)));
                    }
                }
                Ok(!changes.is_empty())
            }
        }
    }

    fn event(&mut self, change: &Change) -> Option<Event> {
        let Change { revision: _, record, gone } = change;
        if self.filter.takes(&record.key, &record.instance_id) {
            if *gone {
                self.told.remove(&record.key);
                return Some(gone_event(record));
            }
            return Some(self.put(record));
        }
        self.told.remove(&record.key).then(|| gone_event(record))
    }

    fn put(&mut self, record: &Record) -> Event {
        if self.filter.instance_id.is_some() {
            self.told.insert(record.key.clone());
        }
        let mut json = String::with_capacity(1024);
        record.write_json(&mut json);
        Event::default().event("put").data(json)
    }
}

fn gone_event(record: &Record) -> Event {
    let RecordKey { provider_id, node_name } = &record.key;
    let body = serde_json::json!({
        "providerId": provider_id, "nodeName": node_name, "instanceId": record.instance_id,
    });
    Event::default().event("delete").data(body.to_string())
}
