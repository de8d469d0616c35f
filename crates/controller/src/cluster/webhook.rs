//! `POST /v1/reconcile/{namespace}/{name}`: asks for a reconciliation over HTTP.
//!
//! Whichever replica is asked writes the annotation `multinic.io/reconcile-at`, so that the one that leads sees it, also
//! after a restart.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use multinic_api::{OpenstackConfig, RECONCILE_AT_ANNOTATION};
use multinic_telemetry::connections::{self, Limits};
use multinic_telemetry::shutdown::Shutdown;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use crate::inventory::access::user_of;
use crate::sinks::kubernetes::object::is_object_name;
use multinic_core::brief::short;

/// What callers may take.
const LIMITS: Limits = Limits {
    connections: 64,
    head: Duration::from_secs(5),
    stall: Some(Duration::from_secs(30)),
    farewell: Duration::from_secs(5),
};

/// Who may ask.
#[derive(Debug, Clone)]
pub struct Callers {
    /// Whoever shows the token in this file.
    pub token_file: Option<PathBuf>,
    /// Whoever the API server knows and lets patch the configuration.
    pub review: bool,
    /// The audiences of which such a token must have one; none: the API server's own.
    pub audiences: Vec<String>,
}

/// The port could not be taken.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for POST /v1/reconcile: {source}; choose another RECONCILE_PORT or RECONCILE_ADDR"
)]
pub struct WebhookError {
    address: SocketAddr,
    source: std::io::Error,
}

/// The server, with its port.
#[derive(Debug)]
pub struct Webhook {
    listener: TcpListener,
    address: SocketAddr,
    asked: Asked,
}

#[derive(Clone)]
struct Asked {
    client: Client,
    namespace: Option<Arc<str>>,
    callers: Callers,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("callers", &self.callers).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Takes the port. `namespace`: the only one that is served.
    pub async fn bind(
        ip: IpAddr,
        port: u16,
        client: Client,
        namespace: Option<&str>,
        callers: Callers,
    ) -> Result<Self, WebhookError> {
        let wanted = SocketAddr::new(ip, port);
        let failed = |source| WebhookError { address: wanted, source };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(address = %address, "reconciliations can be asked for by POST");
        Ok(Self { listener, address, asked: Asked { client, namespace: namespace.map(Into::into), callers } })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until a stop is requested.
    pub async fn serve(self, shutdown: Shutdown) {
        let router =
            Router::new().route("/v1/reconcile/{namespace}/{name}", post(ask)).with_state(self.asked);
        connections::serve("reconciliations", self.listener, router, None, LIMITS, shutdown).await;
    }
}

async fn ask(
    State(asked): State<Asked>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    match asked.handle(&namespace, &name, &headers).await {
        Ok(at) => (StatusCode::ACCEPTED, axum::Json(json!({"reconcileAt": at}))).into_response(),
        Err((status, error)) => {
            let body = axum::Json(json!({"error": error}));
            if status == StatusCode::UNAUTHORIZED {
                (status, [(header::WWW_AUTHENTICATE, "Bearer")], body).into_response()
            } else {
                (status, body).into_response()
            }
        }
    }
}

type Refusal = (StatusCode, String);

impl Asked {
    async fn handle(&self, namespace: &str, name: &str, headers: &HeaderMap) -> Result<String, Refusal> {
        self.authorize(namespace, name, headers).await?;
        let unknown = || (StatusCode::NOT_FOUND, format!("there is no OpenstackConfig {namespace}/{name}"));
        // A text that is no name would be another path.
        let is_served = self.namespace.as_deref().is_none_or(|served| served == namespace);
        if !is_served || !is_object_name(namespace) || !is_object_name(name) {
            return Err(unknown());
        }
        let at = Timestamp::now().to_string();
        let patch = json!({"metadata": {"annotations": {RECONCILE_AT_ANNOTATION: at}}});
        let api: Api<OpenstackConfig> = Api::namespaced(self.client.clone(), namespace);
        match api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(at),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404 | 422) => Err(unknown()),
            Err(error) => {
                tracing::warn!(error = %short(&error), "cannot annotate a configuration");
                Err((StatusCode::SERVICE_UNAVAILABLE, "the API server did not take it; try again".to_owned()))
            }
        }
    }

    async fn authorize(&self, namespace: &str, name: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let refused =
            || (StatusCode::UNAUTHORIZED, "a bearer token is needed that this server knows".to_owned());
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
        });
        let token = token.ok_or_else(refused)?;
        if let Some(path) = &self.callers.token_file {
            match tokio::fs::read_to_string(path).await {
                Ok(expected) if !expected.trim().is_empty() => {
                    // Digests are compared: how long that takes tells nothing of the token.
                    if Sha256::digest(expected.trim()) == Sha256::digest(token) {
                        return Ok(());
                    }
                }
                Ok(_) => {
                    tracing::warn!(path = %path.display(), "RECONCILE_TOKEN_FILE is empty: it lets nobody in");
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), error = %error, "cannot read RECONCILE_TOKEN_FILE");
                }
            }
        }
        if !self.callers.review {
            return Err(refused());
        }
        self.review(namespace, name, token).await?.map_err(|()| refused())
    }

    /// Whether the API server knows the token (else the inner error) and lets its bearer patch the configuration.
    async fn review(&self, namespace: &str, name: &str, token: &str) -> Result<Result<(), ()>, Refusal> {
        let failed = |error: kube::Error| {
            tracing::warn!(error = %short(&error), "cannot have a token reviewed");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the API server could not review the token; try again".to_owned(),
            )
        };
        let user = user_of(&self.client, token, &self.callers.audiences).await.map_err(failed)?;
        let Some(user) = user else { return Ok(Err(())) };
        let access = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                uid: user.uid,
                groups: user.groups,
                extra: user.extra,
                resource_attributes: Some(ResourceAttributes {
                    group: Some("multinic.example.com".to_owned()),
                    resource: Some("openstackconfigs".to_owned()),
                    verb: Some("patch".to_owned()),
                    namespace: Some(namespace.to_owned()),
                    name: Some(name.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &access).await.map_err(failed)?;
        if answer.status.is_some_and(|status| status.allowed) {
            return Ok(Ok(()));
        }
        let problem = "whoever asks must have the right to patch the OpenstackConfig".to_owned();
        Err((StatusCode::FORBIDDEN, problem))
    }
}
