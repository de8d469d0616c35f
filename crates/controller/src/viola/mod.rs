//! The Viola API: takes nodes over HTTP and makes `MultiNicNodeConfig` objects of them, in the cluster that their provider
//! id leads to.
//!
//! * [`settings`]: flags, environment variables, defaults.
//! * [`routing`]: which provider id leads to which cluster.
//! * [`target`]: one cluster, with credentials that may rotate.
//! * [`callers`]: who may post.
//! * [`validate`]: a whole batch, checked before anything is applied.
//! * [`apply`]: one node after the other.
//! * [`http`]: paths, codes and bodies.
//! * [`document`]: the API's description and its pages.
//! * [`server`]: connections and TLS.

pub mod apply;
pub mod callers;
pub mod document;
pub mod http;
pub mod metrics;
pub mod routing;
pub mod server;
pub mod settings;
pub mod target;
pub mod validate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use multinic_telemetry::connections::{self, Tls};
use multinic_telemetry::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use self::callers::Callers;
use self::metrics::Metrics;
use self::routing::Routes;
use self::settings::{Settings, StartError};

/// The field manager of the objects that are made here.
pub const FIELD_MANAGER: &str = "multinic-viola";

/// A server that has its port and does not answer yet.
#[derive(Debug)]
pub struct Viola {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    service: Service,
}

/// What every answer may need.
#[derive(Debug)]
struct Service {
    routes: Routes,
    callers: Callers,
    /// Time limit of one request's work on the cluster.
    limit: Duration,
    metrics: Metrics,
}

impl Viola {
    /// Reads everything that the settings name and takes the port.
    ///
    /// # Errors
    /// Where a file, a route or the port cannot be used.
    pub async fn start(settings: Settings, registry: &mut Registry) -> Result<Self, StartError> {
        let Settings { listen, namespace, routing, local, limit, tokens, tls } = settings;
        let routes = Routes::open(routing.as_deref(), local, &namespace).await?;
        let callers = Callers::open(tokens)?;
        let tls = tls.map(server::tls_files).transpose()?.map(Arc::new);
        let failed = |source| StartError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if tls.is_none() && callers.are_asked() {
            tracing::warn!(
                "callers show their tokens over plain HTTP: set VIOLA_TLS_CERT_FILE, or have a proxy do TLS"
            );
        }
        tracing::info!(%address, tls = tls.is_some(), targets = routes.count(), "the Viola API is served");
        let metrics = Metrics::register(registry);
        Ok(Self { listener, address, tls, service: Service { routes, callers, limit, metrics } })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until a stop is requested, and finishes what is under way.
    pub async fn serve(self, shutdown: Shutdown) {
        let Self { listener, address: _, tls, service } = self;
        let limits = server::limits(service.limit);
        let router = http::router(Arc::new(service));
        connections::serve("viola", listener, router, tls, limits, shutdown).await;
    }
}
