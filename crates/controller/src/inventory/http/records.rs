//! Lists of records, and the summary by provider.

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use multinic_store::StoreError;
use multinic_store::inventory::{
    Filter, InventoryStore, MAX_PAGE, NodeSummary, Page, Position, ProviderSummary, Record, RecordKey,
};

use super::Context;
use super::query::Wanted;
use super::refusal::Refusal;
use super::schemas::{Node, Provider, Providers};
use super::watch;

/// Where a client that does not read `Link` finds the token.
static X_CONTINUE: HeaderName = HeaderName::from_static("x-continue");

/// Every provider with its nodes.
#[utoipa::path(get, path = "/v1/interfaces/providers", tag = "inventory",
    responses((status = 200, body = Providers), (status = 304, description = "Unchanged since the tag in If-None-Match"),
        (status = 401, description = "unauthorized"), (status = 403, description = "forbidden"),
        (status = 503, description = "inventory store not available")),
    security((), ("bearer" = [])))]
pub(super) async fn providers(
    State(context): State<Context>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let store = context.store()?;
    let tag = tag(&store.position().await?);
    if has(&headers, &tag) {
        return Ok(unchanged(&tag));
    }
    let providers = store.providers().await?.into_iter().map(summary).collect();
    Ok(with_tag(axum::Json(Providers { providers }).into_response(), &tag))
}

fn summary(provider: ProviderSummary) -> Provider {
    let ProviderSummary { provider_id, node_count, updated_at, nodes } = provider;
    let nodes = nodes.into_iter().map(|node| {
        let NodeSummary { node_name, instance_id, interface_count, updated_at } = node;
        Node { provider_id: provider_id.clone(), node_name, instance_id, interface_count, updated_at }
    });
    let nodes = nodes.collect();
    Provider { provider_id, node_count, updated_at, nodes }
}

/// The records of one provider; with `Accept: text/event-stream`, the watch.
#[utoipa::path(get, path = "/v1/interfaces/node-configs", tag = "inventory",
    params(("providerId" = String, Query, description = "The provider; may be left out by a watch"),
        ("nodeName" = Option<String>, Query), ("instanceId" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Records of a page; without it, all of them"),
        ("continue" = Option<String>, Query, description = "The token of the page before, from X-Continue or Link")),
    responses((status = 200, body = [super::schemas::RecordBody],
            headers(("ETag" = String), ("Link" = String, description = "The next page, rel=\"next\""), ("X-Continue" = String))),
        (status = 304, description = "Unchanged"), (status = 400, description = "providerId required"),
        (status = 503, description = "inventory store not available")),
    security((), ("bearer" = [])))]
pub(super) async fn of_provider(
    State(context): State<Context>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let wanted = Wanted::of(&uri)?;
    if watch::accepts(&headers) {
        return watch::begin(&context, wanted.filter, &headers).await;
    }
    context.store()?;
    if wanted.filter.provider_id.is_none() {
        return Err(Refusal::Bad("providerId required".to_owned()));
    }
    list(&context, (&uri, &headers), wanted, Empty::IsFine).await
}

/// The records of one server.
#[utoipa::path(get, path = "/v1/interfaces/node-configs/by-instance/{instanceId}", tag = "inventory",
    params(("instanceId" = String, Path), ("providerId" = Option<String>, Query),
        ("limit" = Option<u32>, Query), ("continue" = Option<String>, Query)),
    responses((status = 200, body = [super::schemas::RecordBody]), (status = 304, description = "Unchanged"),
        (status = 400, description = "instanceId required"), (status = 404, description = "not found"),
        (status = 503, description = "inventory store not available")),
    security((), ("bearer" = [])))]
pub(super) async fn of_instance(
    State(context): State<Context>,
    Path(instance): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    named(&context, (&uri, &headers), &instance, "instanceId", |provider_id, instance| Filter {
        provider_id,
        node_name: None,
        instance_id: Some(instance),
    })
    .await
}

/// The same without saying which.
pub(super) async fn without_instance(State(context): State<Context>) -> Result<Response, Refusal> {
    context.store()?;
    Err(Refusal::Bad("instanceId required".to_owned()))
}

/// All records, or those of a provider, node or server.
#[utoipa::path(get, path = "/v1/inventory/node-configs", tag = "inventory, first generation",
    params(("providerId" = Option<String>, Query), ("nodeName" = Option<String>, Query), ("instanceId" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("continue" = Option<String>, Query)),
    responses((status = 200, body = [super::schemas::RecordBody]), (status = 304, description = "Unchanged"),
        (status = 503, description = "inventory store not available")),
    security((), ("bearer" = [])))]
pub(super) async fn of_all(
    State(context): State<Context>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let wanted = Wanted::of(&uri)?;
    if watch::accepts(&headers) {
        return watch::begin(&context, wanted.filter, &headers).await;
    }
    list(&context, (&uri, &headers), wanted, Empty::IsFine).await
}

/// The records of one node, one for each provider that has a node of this name.
#[utoipa::path(get, path = "/v1/inventory/node-configs/{nodeName}", tag = "inventory, first generation",
    params(("nodeName" = String, Path), ("providerId" = Option<String>, Query),
        ("limit" = Option<u32>, Query), ("continue" = Option<String>, Query)),
    responses((status = 200, body = [super::schemas::RecordBody]), (status = 304, description = "Unchanged"),
        (status = 400, description = "nodeName required"), (status = 404, description = "not found"),
        (status = 503, description = "inventory store not available")),
    security((), ("bearer" = [])))]
pub(super) async fn of_node(
    State(context): State<Context>,
    Path(node): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    named(&context, (&uri, &headers), &node, "nodeName", |provider_id, node| Filter {
        provider_id,
        node_name: Some(node),
        instance_id: None,
    })
    .await
}

/// The same without saying which.
pub(super) async fn without_node(State(context): State<Context>) -> Result<Response, Refusal> {
    context.store()?;
    Err(Refusal::Bad("nodeName required".to_owned()))
}

/// What a list without records is.
enum Empty {
    IsFine,
    IsNotFound,
}

/// The records of what a path names; `what` is its name in the description.
async fn named(
    context: &Context,
    request: (&Uri, &HeaderMap),
    text: &str,
    what: &str,
    filter: impl FnOnce(Option<String>, String) -> Filter,
) -> Result<Response, Refusal> {
    let mut wanted = Wanted::of(request.0)?;
    context.store()?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Refusal::Bad(format!("{what} required")));
    }
    wanted.filter = filter(wanted.filter.provider_id.take(), text.to_owned());
    list(context, request, wanted, Empty::IsNotFound).await
}

async fn list(
    context: &Context,
    (uri, headers): (&Uri, &HeaderMap),
    wanted: Wanted,
    empty: Empty,
) -> Result<Response, Refusal> {
    let store = context.store()?;
    // Read before the records: what changes meanwhile has a newer tag.
    let tag = tag(&store.position().await?);
    if has(headers, &tag) {
        return Ok(unchanged(&tag));
    }
    let first = store.list(&wanted.filter, wanted.after.as_ref(), wanted.limit.unwrap_or(MAX_PAGE)).await?;
    if first.records.is_empty() && wanted.after.is_none() && matches!(empty, Empty::IsNotFound) {
        return Err(Refusal::NotFound);
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    let response = match (&first.next, wanted.limit) {
        (None, _) => (json, array(&first.records)).into_response(),
        (Some(last), Some(_)) => {
            let (address, token) = wanted.next(uri.path(), last);
            let mut response = (json, array(&first.records)).into_response();
            let headers = response.headers_mut();
            // Both are ASCII: percent-encoded, and base64.
            if let Ok(link) = HeaderValue::try_from(format!("<{address}>; rel=\"next\"")) {
                headers.insert(header::LINK, link);
            }
            if let Ok(token) = HeaderValue::try_from(token) {
                headers.insert(X_CONTINUE.clone(), token);
            }
            response
        }
        // A client that knows of no pages gets everything, and never more of it at once than it takes.
        (Some(_), None) => (json, everything(store.clone(), wanted.filter, first)).into_response(),
    };
    Ok(with_tag(response, &tag))
}

fn array(records: &[Record]) -> String {
    let mut text = String::with_capacity(records.len() * 1024 + 2);
    text.push('[');
    write(&mut text, records, true);
    text.push(']');
    text
}

fn write(text: &mut String, records: &[Record], mut first: bool) {
    for record in records {
        if !first {
            text.push(',');
        }
        first = false;
        record.write_json(text);
    }
}

/// All pages as one array. Should the store fail in their midst, the answer breaks off and is no whole array.
fn everything(store: InventoryStore, filter: Filter, first: Page) -> Body {
    enum Next {
        First(Page),
        After(RecordKey),
        Done,
    }
    let pages = stream::try_unfold(Next::First(first), move |next| {
        let (store, filter) = (store.clone(), filter.clone());
        async move {
            let (page, begins) = match next {
                Next::First(page) => (page, true),
                Next::After(key) => (store.list(&filter, Some(&key), MAX_PAGE).await?, false),
                Next::Done => return Ok::<_, StoreError>(None),
            };
            let mut text = String::with_capacity(page.records.len() * 1024 + 2);
            if begins {
                text.push('[');
            }
            write(&mut text, &page.records, begins);
            let next = match page.next {
                Some(key) => Next::After(key),
                None => {
                    text.push(']');
                    Next::Done
                }
            };
            Ok(Some((Bytes::from(text), next)))
        }
    });
    Body::from_stream(pages)
}

/// The tag of every answer as of this position. Weak: another version of this program may write the same in other bytes.
fn tag(position: &Position) -> String {
    format!("W/\"{}\"", token(position, position.revision))
}

/// Names a revision of one store.
pub(super) fn token(position: &Position, revision: u64) -> String {
    let epoch: String = position.epoch.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    format!("{epoch}-{revision}")
}

fn has(headers: &HeaderMap, tag: &str) -> bool {
    let bare = tag.trim_start_matches("W/");
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|known| known.trim().trim_start_matches("W/") == bare)
}

fn unchanged(tag: &str) -> Response {
    with_tag(StatusCode::NOT_MODIFIED.into_response(), tag)
}

fn with_tag(mut response: Response, tag: &str) -> Response {
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept, authorization"));
    response
}
