//! What API servers ask the operator before they let somebody change something.
//!
//! * [`certificates`]: whom they trust. `serving`: how that changes without a refused connection.
//! * `objects`: what makes them ask, and `conditions`: what about not. `answers`: what they are told, by
//!   [`protection`](crate::protection) and [`claims`](crate::claims).

mod answers;
pub mod certificates;
mod conditions;
mod objects;
mod serving;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use multinic_telemetry::connections::{self, Limits, Tls};
use multinic_telemetry::shutdown::Shutdown;
use tokio::sync::OnceCell;

pub use self::objects::is_part;

use self::certificates::{Kept, kept};
use self::serving::Serving;
use crate::apply::Applied;
use crate::certificates::Pair;
use crate::claims::Claims;
use crate::manifests::ProtectionManifests;
use crate::metrics::Metrics;
use crate::object::{MANAGER, Object, Owner};
use crate::protection::Wanted;
use crate::protection::tally::Tally;
use crate::said::answer;
use crate::settings::{OperatorArgs, WebhookArgs};

/// How long API servers are given to hear of another authority. They watch; this is for those that have just lost their way.
const SETTLE: Duration = Duration::from_secs(30);
/// An API server closes a connection after 90 s without a question. If we were the first to do so, a question that is under way
/// just then would be lost.
const IDLE: Duration = Duration::from_secs(150);
/// More than a cluster's API servers ever have.
const CONNECTIONS: usize = 256;
/// Answers take milliseconds.
const FAREWELL: Duration = Duration::from_secs(5);

/// The server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// No port.
    #[error(
        "cannot listen on {address} for API servers: {source}; choose another WEBHOOK_PORT or WEBHOOK_ADDR"
    )]
    Port {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No TLS.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
}

/// What is asked, and all that it takes to answer. Shared by the server and the operator's turns.
pub struct Webhook {
    client: Client,
    namespace: String,
    args: WebhookArgs,
    metrics: Metrics,
    claims: Arc<Claims>,
    /// None until a turn was made.
    wanted: RwLock<Option<Wanted>>,
    tally: Tally,
    serving: Arc<Serving>,
    port: OnceLock<u16>,
    user: OnceCell<String>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// A server that has its port and does not answer yet.
#[derive(Debug)]
pub struct Listening {
    webhook: Arc<Webhook>,
    listener: TcpListener,
    tls: Arc<Tls>,
}

/// What a pass needs to have API servers ask.
pub(crate) struct Prepared {
    user: String,
    port: u16,
    pair: Pair,
    trusted: String,
    kept: Option<Kept>,
}

impl Webhook {
    pub(crate) fn new(client: Client, args: &OperatorArgs, metrics: Metrics) -> Self {
        Self {
            namespace: args.pod_namespace.clone(),
            args: args.webhook.clone(),
            metrics,
            claims: Arc::default(),
            wanted: RwLock::default(),
            tally: Tally::default(),
            serving: Arc::default(),
            port: OnceLock::new(),
            user: OnceCell::new(),
            client,
        }
    }

    /// Takes the port. Port 0 takes a free one; see [`Listening::port`]. From the next turn of the operator on, API servers ask.
    ///
    /// # Errors
    /// Where the port is taken.
    pub fn bind(self: &Arc<Self>, ip: IpAddr, port: u16) -> Result<Listening, BindError> {
        let address = SocketAddr::new(ip, port);
        let failed = |source| BindError::Port { address, source };
        let tls = Arc::new(Tls::fixed(Arc::new(self.serving.config()?)));
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let port = *self.port.get_or_init(|| port);
        tracing::info!(port, "API servers are answered");
        Ok(Listening { webhook: Arc::clone(self), listener, tls })
    }

    pub(crate) fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// From now on this is wanted.
    pub(crate) fn want(&self, wanted: Wanted) {
        *self.wanted.write().unwrap_or_else(PoisonError::into_inner) = Some(wanted);
    }

    fn wanted(&self) -> Option<Wanted> {
        self.wanted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gets what it takes; none if nothing is served.
    pub(crate) async fn prepare(&self) -> Result<Option<Prepared>, String> {
        let Some(port) = self.port.get().copied() else { return Ok(None) };
        let user = self.user.get_or_try_init(async || self.who_am_i().await).await?.clone();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let given = self.args.webhook_cert_secret.as_deref().filter(|name| !name.is_empty());
        let name = given.unwrap_or(certificates::SECRET);
        let found = secrets.get_opt(name).await;
        let found = found.map_err(|error| format!("the Secret {name} cannot be read: {}", answer(&error)))?;
        let (pair, kept) = match given {
            Some(name) => {
                let secret = found.ok_or_else(|| format!("there is no Secret {name}"))?;
                (Pair::given(name, &secret).map_err(|error| error.to_string())?, None)
            }
            None => {
                let (now, lifetime) = (Timestamp::now(), self.args.webhook_cert_lifetime);
                let host = format!("{MANAGER}.{}.svc", self.namespace);
                let kept = kept(found.as_ref(), now, lifetime, || Pair::issue(&host, now, lifetime));
                let kept = kept.map_err(|error| error.to_string())?;
                (kept.pair.clone(), Some(kept))
            }
        };
        let previous = kept.as_ref().and_then(|kept| kept.previous.as_deref());
        let trusted = self.serving.trusted(&pair, previous);
        Ok(Some(Prepared { user, port, pair, trusted, kept }))
    }

    async fn who_am_i(&self) -> Result<String, String> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
        let review = review.map_err(|error| format!("cannot ask who the operator is: {}", answer(&error)))?;
        let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
        user.ok_or_else(|| "the API server does not say who the operator is".to_owned())
    }

    /// What was prepared is applied: serves with the certificate as soon as that is trusted. Returns when to look again.
    pub(crate) fn applied(&self, prepared: &Prepared, applied: &Applied) -> Option<Duration> {
        if applied.failures.iter().any(|(key, _)| is_part(key)) {
            return None;
        }
        let lifetime = self.args.webhook_cert_lifetime;
        let settle = SETTLE.min(lifetime / 10);
        let left = match self.serving.told(&prepared.trusted, &prepared.pair, settle) {
            Ok(left) => left,
            Err(error) => {
                tracing::error!(error, "the certificate cannot be served");
                None
            }
        };
        let renewal = prepared.kept.as_ref().map(|kept| {
            self.metrics.certificate_ends(kept.expires);
            let left = kept.renewal(lifetime).duration_since(Timestamp::now());
            Duration::try_from(left).unwrap_or_default()
        });
        left.into_iter().chain(renewal).min()
    }
}

impl Prepared {
    /// The objects that make API servers ask.
    pub(crate) fn objects(
        &self,
        owner: &Owner,
        manifests: &ProtectionManifests,
        wanted: &Wanted,
    ) -> Vec<Object> {
        let secret = self.kept.as_ref().map(|kept| kept.secret(&owner.namespace));
        let secret = secret.and_then(|secret| Object::new(owner, &secret));
        let Self { user, port, trusted, .. } = self;
        let manifests = objects::filled(manifests, &owner.namespace, user, *port, trusted);
        let ProtectionManifests { configurations, protecting } = manifests;
        let protecting = protecting.into_iter().filter(|_| wanted.rules.is_some());
        let objects = [configurations].into_iter().chain(protecting);
        secret.into_iter().chain(objects.filter_map(|object| Object::new(owner, &object))).collect()
    }
}

impl Listening {
    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |address| address.port())
    }

    /// Answers until a stop is requested.
    pub async fn serve(self, shutdown: Shutdown) {
        let Self { webhook, listener, tls } = self;
        let limits =
            Limits { connections: CONNECTIONS, head: IDLE, stall: Some(FAREWELL), farewell: FAREWELL };
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                connections::serve(
                    "webhook",
                    listener,
                    answers::router(webhook),
                    Some(tls),
                    limits,
                    shutdown,
                )
                .await;
            }
            Err(error) => tracing::error!(%error, "API servers cannot be answered"),
        }
    }
}
