//! Connections, and how requests and answers go through.

use std::error::Error;
use std::future;
use std::io;
use std::net::TcpListener as StdListener;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, to_bytes};
use futures_util::{Stream, StreamExt as _, stream};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::debug;

use super::api_request::ApiRequest;
use super::faults::Answer;
use super::{Record, Shared, lock};
use crate::kubernetes::KubernetesError;
use crate::kubernetes::authority::Signed;

/// The API server takes 3 MiB.
const LARGEST: usize = 4 << 20;
/// What belongs to a connection and not to what is sent over it.
const HOP_BY_HOP: [HeaderName; 5] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::HOST];

/// What ends the connection instead of being answered.
type Broken = Box<dyn Error + Send + Sync>;

pub(super) fn acceptor(signed: &Signed) -> Result<TlsAcceptor, KubernetesError> {
    let failed = |error: &dyn Error| KubernetesError::Proxy(error.to_string());
    let certificate =
        CertificateDer::from_pem_slice(signed.certificate.as_bytes()).map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).map_err(|error| failed(&error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .map_err(|error| failed(&error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until it is dropped, and all connections with it.
pub(super) async fn serve(listener: StdListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, tls.clone(), shared.clone()))),
                // Out of file descriptors: somebody will close some.
                Err(error) => {
                    debug!(%error, "no connection accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(|request| handle(shared.clone(), request));
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        debug!(%error, "connection ended");
    }
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(Body::new(body), LARGEST).await?;
    let query = parts.uri.query().unwrap_or_default();
    let asked = ApiRequest::parse(parts.method.as_str(), parts.uri.path(), query);
    let latency = lock(&shared.faults).latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let key = (asked.verb.clone(), asked.resource.clone());
    // It ends with the proxy.
    let _ = shared.silent.subscribe().wait_for(|silent| !silent.contains(&key)).await;
    let fault = lock(&shared.faults).meet(&asked, &body);
    let watch = asked.verb == "watch";
    let mut record = Record {
        verb: asked.verb,
        resource: asked.resource,
        namespace: asked.namespace,
        name: asked.name,
        status: 0,
        fault: fault.is_some(),
    };
    let response = match fault {
        Some(answer) => given(answer),
        // An API server that is away looks from here as it looks without a proxy: the connection breaks.
        None => forward(&shared, parts, body).await?,
    };
    record.status = response.status().as_u16();
    lock(&shared.records).push(record);
    if watch && response.status().is_success() {
        return Ok(response.map(|body| Body::from_stream(cuttable(shared, body.into_data_stream()))));
    }
    Ok(response)
}

fn given(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}

/// Asks the API server as the one whose ticket the request shows, else with the request's own token.
async fn forward(shared: &Shared, mut parts: Parts, body: Bytes) -> Result<Response<Body>, Broken> {
    let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let identity = bearer.and_then(|ticket| Some((lock(&shared.tickets).get(&ticket)?.clone(), ticket)));
    let (access, ticket) =
        identity.map_or_else(|| (shared.upstream.clone(), None), |(access, ticket)| (access, Some(ticket)));
    if ticket.is_some() {
        parts.headers.remove(header::AUTHORIZATION);
    }
    remove_hop_by_hop(&mut parts.headers);
    let known = lock(&shared.clients).get(&ticket).cloned();
    let client = match known {
        Some(client) => client,
        None => {
            let mut config = access.config()?;
            // What the server says is for the client to hear.
            config.default_retry = false;
            let client = kube::Client::try_from(config)?;
            lock(&shared.clients).insert(ticket, client.clone());
            client
        }
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request =
        Request::builder().method(parts.method).uri(path).body(kube::client::Body::from(body))?;
    *request.headers_mut() = parts.headers;
    let mut response = client.send(request).await?.map(Body::new);
    remove_hop_by_hop(response.headers_mut());
    Ok(response)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Counts a watch as open as long as its answer is being read.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open_watches.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The events of a watch, until the connection is to break.
fn cuttable(
    shared: Arc<Shared>,
    events: BodyDataStream,
) -> impl Stream<Item = Result<Bytes, Broken>> + Send + 'static {
    type Cut = Pin<Box<dyn Future<Output = ()> + Send>>;
    shared.open_watches.fetch_add(1, Ordering::SeqCst);
    let mut cut = shared.cut.subscribe();
    let lifetime = lock(&shared.faults).watch_lifetime.clone();
    let lifetime =
        lifetime.map(|range| if range.is_empty() { range.start } else { rand::rng().random_range(range) });
    let cut: Cut = Box::pin(async move {
        let outlived = async {
            match lifetime {
                Some(lifetime) => tokio::time::sleep(lifetime).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            _ = cut.changed() => {}
            () = outlived => {}
        }
    });
    let state = Some((events, cut, Open(shared)));
    stream::unfold(state, async move |state| {
        let (mut events, mut cut, open) = state?;
        tokio::select! {
            biased;
            () = &mut cut => Some((Err(io::Error::from(io::ErrorKind::ConnectionReset).into()), None)),
            event = events.next() => event.map(|event| (event.map_err(Into::into), Some((events, cut, open)))),
        }
    })
}
