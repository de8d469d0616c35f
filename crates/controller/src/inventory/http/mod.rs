//! The paths.

mod document;
mod query;
mod records;
mod refusal;
mod schemas;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use multinic_store::inventory::InventoryStore;
use multinic_telemetry::shutdown::Shutdown;
use tokio::sync::{Semaphore, watch as changes};

use super::Inventory;
use super::access::{Access, Denied};
use super::server::Limits;
use refusal::Refusal;

pub use document::{openapi, openapi_yaml};

/// What every answer may need.
#[derive(Clone)]
struct Context {
    store: Option<InventoryStore>,
    access: Arc<Access>,
    revision: Arc<changes::Sender<u64>>,
    current: Arc<changes::Sender<bool>>,
    watchers: Arc<Semaphore>,
    limits: Limits,
    shutdown: Shutdown,
}

impl Context {
    fn store(&self) -> Result<&InventoryStore, Refusal> {
        let store = self.store.as_ref().ok_or(Refusal::NoStore)?;
        if *self.current.borrow() { Ok(store) } else { Err(Refusal::StandsBy) }
    }
}

/// Every path of both generations of the older program, the watch, and the description.
pub(super) fn router(inventory: &Inventory, shutdown: Shutdown) -> Router {
    let Inventory { store, access, tls: _, limits, revision, own_file: _, current, fresh: _ } = inventory;
    let context = Context {
        store: store.clone(),
        access: access.clone(),
        revision: revision.clone(),
        current: current.clone(),
        watchers: Arc::new(Semaphore::new(limits.watchers)),
        limits: *limits,
        shutdown,
    };
    let data = Router::new()
        .route("/v1/interfaces/providers", any(records::providers))
        // The name of a short time between the two generations.
        .route("/v1/interfaces/catalog", any(records::providers))
        .route("/v1/interfaces/node-configs", any(records::of_provider))
        .route("/v1/interfaces/node-configs/watch", any(watch::watch))
        .route("/v1/interfaces/node-configs/by-instance", any(records::without_instance))
        .route("/v1/interfaces/node-configs/by-instance/", any(records::without_instance))
        .route("/v1/interfaces/node-configs/by-instance/{instance_id}", any(records::of_instance))
        .route("/v1/interfaces/node-configs/{node_name}", any(records::of_node))
        .route("/v1/inventory/node-configs", any(records::of_all))
        .route("/v1/inventory/node-configs/", any(records::without_node))
        .route("/v1/inventory/node-configs/{node_name}", any(records::of_node))
        .route_layer(middleware::from_fn_with_state(context.clone(), for_readers));
    let open = Router::new()
        .route("/openapi.yaml", any(document::yaml))
        .route("/openapi.json", any(document::json))
        .route("/docs", any(document::docs))
        .route("/docs/", any(document::to_docs))
        .route("/docs/{*file}", any(document::part))
        .route_layer(middleware::from_fn(only_get));
    Router::new()
        .route("/healthz", any(async || "ok"))
        .merge(open)
        .merge(data)
        .fallback(async || Refusal::NotFound)
        .with_state(context)
}

async fn only_get(request: Request, next: Next) -> Response {
    if request.method() == Method::GET { next.run(request).await } else { Refusal::Method.into_response() }
}

async fn for_readers(State(context): State<Context>, request: Request, next: Next) -> Response {
    if request.method() != Method::GET {
        return Refusal::Method.into_response();
    }
    match context.access.check(request.headers(), request.uri().path()).await {
        Ok(()) => next.run(request).await,
        Err(Denied::Unauthenticated) => Refusal::Unauthenticated.into_response(),
        Err(Denied::Forbidden { user }) => Refusal::Forbidden(user).into_response(),
        Err(Denied::Undecided(why)) => Refusal::Undecided(why).into_response(),
    }
}
