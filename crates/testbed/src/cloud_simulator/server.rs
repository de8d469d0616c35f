//! The HTTP side: connections, faults, and which service a path belongs to.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::debug;

use super::answer::Answer;
use super::faults::{Fault, Faults, Twist};
use super::query::Query;
use super::requests::Requests;
use super::world::World;
use super::{contrabass, keystone, neutron, nova};

/// The largest request that is read.
const LARGEST: usize = 1 << 20;

/// What requests and the handle share.
pub(super) struct Shared {
    pub base: String,
    pub world: Mutex<World>,
    pub faults: Mutex<Faults>,
    pub requests: Mutex<Requests>,
}

impl Shared {
    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until it is dropped, and all connections with it.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new().fallback(handle).with_state(shared);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, router.clone()))),
                // Out of file descriptors: somebody will close some.
                Err(error) => {
                    debug!(%error, "no connection accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(Notify::new());
    let service = TowerToHyperService::new(router.layer(Extension(reset.clone())));
    let http = hyper::server::conn::http1::Builder::new();
    let mut connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = &mut connection => {}
        () = reset.notified() => {
            // Closing without lingering sends RST in place of FIN.
            let _ = connection.into_parts().io.into_inner().set_zero_linger();
        }
    }
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    Extension(reset): Extension<Arc<Notify>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LARGEST).await.unwrap_or_default();
    let path = parts.uri.path();
    let query = parts.uri.query().unwrap_or_default();
    let number = lock(&shared.requests).arrived(parts.method.as_str(), path, query);
    let fault = lock(&shared.faults).next(path);
    let call = Call {
        method: parts.method.as_str(),
        path,
        query,
        token: parts.headers.get("x-auth-token").and_then(|value| value.to_str().ok()),
        body: &body,
    };
    let response = spoiled(&shared, &call, fault, &reset).await;
    lock(&shared.requests).answered(number, response.status().as_u16());
    response
}

struct Call<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    token: Option<&'a str>,
    body: &'a [u8],
}

/// The answer, with what goes wrong with it.
async fn spoiled(shared: &Shared, call: &Call<'_>, fault: Option<Fault>, reset: &Notify) -> Response {
    let right = || whole(shared, call, call.query, Twist::default());
    let twisted = |twist| json(whole(shared, call, call.query, twist));
    match fault {
        None => json(right()),
        Some(Fault::Answer { status, headers, body }) => given(status, &headers, body),
        Some(Fault::Html(status)) => page(status),
        Some(Fault::TooMany { retry_after }) => {
            let body = r#"{"overLimit": {"code": 429, "message": "This request was rate-limited."}}"#;
            given(429, &[("retry-after".to_owned(), retry_after)], body.to_owned())
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            json(right())
        }
        Some(Fault::Reset) => {
            reset.notify_one();
            std::future::pending().await
        }
        Some(Fault::CutOff) => {
            let Answer { body, .. } = right();
            let text = body.to_string();
            let half = text.get(..text.len() / 2).unwrap_or_default().to_owned();
            let parts = [Ok(Bytes::from(half)), Err(io::Error::from(io::ErrorKind::ConnectionReset))];
            let mut response = Response::new(Body::from_stream(stream::iter(parts)));
            response.headers_mut().insert(header::CONTENT_LENGTH, text.len().into());
            response
        }
        Some(Fault::Truncated) => {
            let mut text = right().body.to_string();
            let mut half = text.len() / 2;
            while !text.is_char_boundary(half) {
                half -= 1;
            }
            text.truncate(half);
            given(200, &[], text)
        }
        Some(Fault::Empty) => twisted(Twist { empty: true, no_next_link: true, ..Twist::default() }),
        Some(Fault::Lacking(lacking)) => twisted(Twist { lacking, ..Twist::default() }),
        Some(Fault::NoNextLink) => twisted(Twist { no_next_link: true, ..Twist::default() }),
        Some(Fault::DropQuery) => json(whole(shared, call, "", Twist::default())),
        Some(Fault::RepeatPage) => {
            let first = Query::parse(call.query).without_marker();
            json(whole(shared, call, &first, Twist::default()))
        }
        Some(Fault::ExpireTokens) => {
            shared.world().tokens.clear();
            json(right())
        }
    }
}

/// The right answer.
fn whole(shared: &Shared, call: &Call<'_>, query: &str, twist: Twist) -> Answer {
    let decoded: Vec<String> = call
        .path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    let path: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let base = shared.base.as_str();
    let query = Query::parse(query);
    let mut world = shared.world();
    match path.as_slice() {
        ["v3", rest @ ..] => keystone::answer(&mut world, base, call.method, rest, call.body),
        ["v1", "contrabass", rest @ ..] => contrabass::answer(&world, rest),
        [version @ ("v2.0" | "v2.1"), rest @ ..] => match keystone::caller(&world, call.token) {
            None => Answer::unauthorized(base),
            Some(_) if call.method != "GET" => {
                Answer::neutron(405, "HTTPMethodNotAllowed", "The simulator is changed in the process only.")
            }
            Some(caller) if *version == "v2.0" => neutron::answer(&world, caller, base, rest, &query, twist),
            Some(caller) => nova::answer(&world, caller, base, rest, &query, twist),
        },
        _ => Answer::neutron(404, "HTTPNotFound", "The resource could not be found."),
    }
}

fn json(answer: Answer) -> Response {
    let Answer { status, headers, body } = answer;
    let headers: Vec<(String, String)> =
        headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    given(status, &headers, body.to_string())
}

fn given(status: u16, headers: &[(String, String)], body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut map = HeaderMap::new();
    map.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
        {
            map.insert(name, value);
        }
    }
    *response.headers_mut() = map;
    response
}

fn page(status: u16) -> Response {
    let body = format!(
        "<html><head><title>{status}</title></head>\n<body><h1>{status} Service Unavailable</h1>\nNo server is available \
         to handle this request.\n</body></html>\n"
    );
    given(status, &[("content-type".to_owned(), "text/html".to_owned())], body)
}
