//! Paths, codes and bodies: those of the older program, and what came after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use super::apply::{Outcome, carry_out};
use super::callers::Denied;
use super::{Service, document, validate};
use crate::sinks::NodePayload;

/// The largest body.
const LARGEST_BODY: usize = 4 * 1024 * 1024;
/// How long a body may take to arrive.
const BODY: Duration = Duration::from_secs(30);

/// The header that names the cluster.
static PROVIDER: HeaderName = HeaderName::from_static("x-provider-id");

/// Every path.
pub(super) fn router(service: Arc<Service>) -> Router {
    let documents = Router::new()
        .route("/openapi.yaml", any(document::yaml))
        .route("/openapi.json", any(document::json))
        .route("/docs", any(document::page))
        .route("/docs/{*file}", any(document::part))
        .route_layer(middleware::from_fn(only_get));
    Router::new()
        .route("/healthz", any(async || "ok"))
        .merge(documents)
        .route("/v1/k8s/multinic/node-configs", any(node_configs))
        .fallback(async || text(StatusCode::NOT_FOUND, "404 page not found"))
        .with_state(service)
}

async fn only_get(request: Request, next: Next) -> Response {
    if request.method() == Method::GET { next.run(request).await } else { not_allowed("GET") }
}

fn not_allowed(methods: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// A text for people, with the line's end that the older program's have.
fn text(status: StatusCode, text: &str) -> Response {
    let mut response = (status, format!("{text}\n")).into_response();
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Applies nodes with their NICs.
///
/// Every node is checked before anything is applied. A node with an empty list of interfaces is deleted. Each object is
/// made exactly as posted, by server-side apply: a NIC that is not in the list is taken out of it.
#[utoipa::path(
    post,
    path = "/v1/k8s/multinic/node-configs",
    operation_id = "applyNodeConfigs",
    tag = "node-configs",
    params(("x-provider-id" = Option<String>, Header, description = "The k8sProviderID: it leads to the cluster")),
    request_body(content = Vec<NodePayload>, description = "At most 4 MiB", content_type = "application/json"),
    responses(
        (status = 200, description = "Every node is as posted", body = Outcome),
        (status = 207, description = "Some are as posted, and `errors` tells of the others", body = Outcome),
        (status = 400, description = "Nothing was applied: the body, a node in it, or the provider id is wrong",
            body = String, content_type = "text/plain"),
        (status = 401, description = "No bearer token, or a wrong one", body = String, content_type = "text/plain"),
        (status = 405, description = "Not a POST", body = String, content_type = "text/plain"),
        (status = 500, description = "None is as posted, and `errors` tells why", body = Outcome),
        (status = 503, description = "Try again later", body = String, content_type = "text/plain")
    ),
    security((), ("bearer" = []))
)]
pub(super) async fn node_configs(State(service): State<Arc<Service>>, request: Request) -> Response {
    let started = Instant::now();
    let response = answer(&service, request).await;
    service.metrics.answered(response.status().as_u16(), started.elapsed());
    response
}

async fn answer(service: &Service, request: Request) -> Response {
    if request.method() != Method::POST {
        return not_allowed("POST");
    }
    match service.callers.check(request.headers()) {
        Ok(()) => {}
        Err(Denied::Unauthenticated) => {
            let mut response = text(StatusCode::UNAUTHORIZED, "unauthorized");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return response;
        }
        Err(Denied::Undecided) => {
            return text(StatusCode::SERVICE_UNAVAILABLE, "callers cannot be checked now");
        }
    }
    let refuse = |why: &str| {
        tracing::warn!(reason = why, "a post was refused");
        text(StatusCode::BAD_REQUEST, why)
    };
    let provider = match request.headers().get(&PROVIDER).map(HeaderValue::to_str).transpose() {
        Ok(provider) => provider.map(str::trim).filter(|provider| !provider.is_empty()).map(str::to_owned),
        Err(_) => return refuse("x-provider-id: not printable ASCII"),
    };
    let body = tokio::time::timeout(BODY, to_bytes(request.into_body(), LARGEST_BODY)).await;
    let Ok(Ok(body)) = body else { return refuse("failed to read body") };
    let nodes = match validate::read(&body) {
        Ok(nodes) => nodes,
        Err(refused) => return refuse(&refused.to_string()),
    };
    let target = match service.routes.find(provider.as_deref()) {
        Ok(target) => target,
        Err(why) => return refuse(&why),
    };
    let orders = match validate::orders(nodes, provider.as_deref(), target.namespace()) {
        Ok(orders) => orders,
        Err(refused) => return refuse(&refused.to_string()),
    };
    let client = match target.client().await {
        Ok(client) => client,
        Err(problem) => {
            tracing::error!(problem, "a target cluster cannot be used");
            return text(StatusCode::INTERNAL_SERVER_ERROR, &problem);
        }
    };
    let count = orders.len();
    let outcome: Outcome = carry_out(client, target.namespace(), orders, service.limit).await;
    service.metrics.worked(&outcome);
    let status = outcome.status();
    let provider = provider.unwrap_or_default();
    tracing::info!(
        provider,
        nodes = count,
        applied = outcome.applied,
        status = status.as_u16(),
        "nodes were posted"
    );
    (status, axum::Json(outcome)).into_response()
}
