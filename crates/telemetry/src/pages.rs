//! The HTTP server of a process: `/metrics`, `/livez`, `/readyz`, and the health document at every other path.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::shutdown::Shutdown;

/// The type of what `/metrics` answers (OpenMetrics 1.0).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a probe finds: all well, or why not.
pub type Probe = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// A health document with its HTTP status.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthDocument {
    /// 200, or 503 for a process that cannot do its work.
    pub status: StatusCode,
    /// The document.
    pub body: Value,
}

impl HealthDocument {
    /// A document with status 200.
    pub fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body }
    }
}

/// What the server shows. The functions are called per request and must not block.
pub struct Pages {
    /// The metrics.
    pub registry: Registry,
    /// Whether the process does its rounds; if not, it should be restarted. Nothing outside the process counts.
    pub live: Probe,
    /// Whether the process has begun to do its work.
    pub ready: Probe,
    /// The health document.
    pub health: Box<dyn Fn() -> HealthDocument + Send + Sync>,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// The server could not be started.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for health and metrics: {source}; choose another HEALTH_PORT or HEALTH_ADDR"
)]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A server that has its port and does not answer yet.
#[derive(Debug)]
pub struct PageServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl PageServer {
    /// Takes the port. Port 0 takes a free one; see [`Self::address`].
    pub async fn bind(ip: IpAddr, port: u16) -> Result<Self, BindError> {
        let wanted = SocketAddr::new(ip, port);
        let failed = |source| BindError { address: wanted, source };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(address = %address, "health and metrics are served");
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until a stop is requested.
    pub async fn serve(self, pages: Pages, mut shutdown: Shutdown) {
        let router = Router::new().fallback(answer).with_state(Arc::new(pages));
        let stop = async move { shutdown.requested().await };
        // `axum::serve` retries failed accepts by itself and returns no other errors.
        let _ = axum::serve(self.listener, router).with_graceful_shutdown(stop).await;
    }

    /// The same on a thread of its own: a probe gets its answer however busy everything else is.
    ///
    /// # Errors
    /// Where there can be no such thread.
    pub fn serve_apart(self, pages: Pages, shutdown: Shutdown) -> io::Result<()> {
        let Self { listener, address } = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = listener.into_std()?;
        let listener = {
            let _there = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let serve = Self { listener, address }.serve(pages, shutdown);
        std::thread::Builder::new().name("pages".to_owned()).spawn(move || runtime.block_on(serve))?;
        Ok(())
    }
}

async fn answer(State(pages): State<Arc<Pages>>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], "Method not allowed\n")
            .into_response();
    }
    match request.uri().path() {
        "/metrics" => metrics(&pages.registry),
        "/livez" => probe(&pages.live),
        "/readyz" => probe(&pages.ready),
        _ => {
            let HealthDocument { status, body } = (pages.health)();
            (status, axum::Json(body)).into_response()
        }
    }
}

fn metrics(registry: &Registry) -> Response {
    let mut text = String::with_capacity(8192);
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn probe(probe: &Probe) -> Response {
    match probe() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
