//! One request and its attempts, under the gate.

pub(crate) mod excerpt;
pub(crate) mod failure;
pub(crate) mod gate;
mod trust;
mod wait;

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;
use multinic_core::config::Tls;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tracing::debug;
use url::Url;

use excerpt::Excerpt;
use failure::{Problem, RequestError, Shown};
use gate::Gate;
pub use trust::TrustError;

/// The largest body that is read: a full page of ports has about half a megabyte.
const LARGEST_BODY: usize = 32 << 20;

/// Keystone's and everybody's header of the token.
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Told of every attempt: the operation (`neutron.ports`, …), the HTTP status (0 where there was no answer), and how
/// long it took.
pub type Observer = Arc<dyn Fn(&'static str, u16, Duration) + Send + Sync>;

/// How often and how long a request is tried that fails in a way that passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// How often it is tried again.
    pub times: usize,
    /// The shortest wait, which doubles each time. Up to as much again is added by chance.
    pub first: Duration,
    /// The longest wait, unless the server asks for more.
    pub longest: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { times: 3, first: Duration::from_millis(200), longest: Duration::from_secs(5) }
    }
}

/// What has a default.
#[derive(Clone, Default)]
pub struct Options {
    /// How often and how long requests are tried again.
    pub retries: Retries,
    /// Who is told of every attempt.
    pub observer: Option<Observer>,
}

/// A client with its limits.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client,
    timeout: Duration,
    gate: Gate,
    retries: Retries,
    observer: Option<Observer>,
}

/// A request as a value.
pub(crate) struct Ask<'a> {
    /// What it is called in metrics.
    pub operation: &'static str,
    pub url: Url,
    pub token: Option<&'a SecretString>,
    /// With a body it is a POST, otherwise a GET.
    pub body: Option<&'a SecretString>,
    /// Beside the token, what the answer must not be quoted with.
    pub secrets: &'a [&'a SecretString],
}

/// A success.
pub(crate) struct Answer {
    method: &'static str,
    pub url: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Http {
    pub fn new(tls: &Tls, timeout: Duration, gate: Gate, options: Options) -> Result<Self, TrustError> {
        let Options { retries, observer } = options;
        Ok(Self { client: trust::client(tls, timeout)?, timeout, gate, retries, observer })
    }

    /// The same limits toward another server with another trust.
    pub fn toward(&self, tls: &Tls, timeout: Duration) -> Result<Self, TrustError> {
        Ok(Self { client: trust::client(tls, timeout)?, timeout, ..self.clone() })
    }

    /// Asks until there is an answer or the attempts are used up.
    pub async fn send(&self, ask: &Ask<'_>) -> Result<Answer, RequestError> {
        let Retries { times, first, longest } = self.retries;
        let waits = ExponentialBuilder::default()
            .with_min_delay(first)
            .with_max_delay(longest)
            .with_max_times(times)
            .with_jitter();
        (|| self.attempt(ask))
            .retry(waits)
            .when(RequestError::passes)
            // None ends the attempts, whatever the server asks for.
            .adjust(|error, wait| wait.map(|wait| error.wait.unwrap_or(wait)))
            .notify(|error, wait| debug!(operation = ask.operation, %error, ?wait, "asking again"))
            .await
    }

    async fn attempt(&self, ask: &Ask<'_>) -> Result<Answer, RequestError> {
        let _place = self.gate.enter(&ask.url).await;
        let started = Instant::now();
        let outcome = self.exchange(ask).await;
        let status = match &outcome {
            Ok(answer) => answer.status,
            Err(error) => error.status().unwrap_or_default(),
        };
        let elapsed = started.elapsed();
        debug!(operation = ask.operation, url = %Shown(&ask.url), status, ?elapsed, "asked");
        if let Some(observer) = &self.observer {
            observer(ask.operation, status, elapsed);
        }
        outcome
    }

    async fn exchange(&self, ask: &Ask<'_>) -> Result<Answer, RequestError> {
        let method = if ask.body.is_some() { "POST" } else { "GET" };
        let failed = |problem, wait| RequestError {
            method,
            url: Shown(&ask.url).to_string(),
            problem: Box::new(problem),
            wait,
        };
        let broken = |error: reqwest::Error| failed(Problem::of(&error, self.timeout), None);
        let mut request = match ask.body {
            Some(body) => self
                .client
                .request(Method::POST, ask.url.clone())
                .header(CONTENT_TYPE, "application/json")
                .body(body.expose_secret().to_owned()),
            None => self.client.request(Method::GET, ask.url.clone()),
        };
        request = request.header(ACCEPT, "application/json");
        if let Some(token) = ask.token
            && let Ok(mut value) = HeaderValue::from_str(token.expose_secret())
        {
            value.set_sensitive(true);
            request = request.header(TOKEN, value);
        }
        let mut response = request.send().await.map_err(broken)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(failed(Problem::TooLarge(LARGEST_BODY), None));
            }
            body.extend_from_slice(&chunk);
        }
        let headers = std::mem::take(response.headers_mut());
        let status = response.status();
        if status.is_success() {
            let url = Shown(&ask.url).to_string();
            return Ok(Answer { method, url, status: status.as_u16(), headers, body });
        }
        if let Some(location) = headers.get(LOCATION).filter(|_| status.is_redirection()) {
            let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
            return Err(failed(Problem::Redirect { status: status.as_u16(), location }, None));
        }
        let secrets: Vec<&SecretString> = ask.token.into_iter().chain(ask.secrets.iter().copied()).collect();
        let said = Excerpt::of(content_type(&headers), &body, &secrets);
        let wait = wait::asked(&headers, Timestamp::now());
        Err(failed(Problem::Status { status: status.as_u16(), said }, wait))
    }
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}

impl Answer {
    /// A body that came with 200 and nothing else.
    pub fn of_body(body: &[u8]) -> Self {
        Self {
            method: "GET",
            url: String::new(),
            status: 200,
            headers: HeaderMap::new(),
            body: body.to_vec(),
        }
    }

    /// Reads the body as JSON.
    pub fn json<'a, T: Deserialize<'a>>(&'a self, wanted: &'static str) -> Result<T, RequestError> {
        serde_json::from_slice(&self.body).map_err(|error| self.malformed(wanted, error.to_string(), &[]))
    }

    /// The error that this answer, though a success, is not what was asked for.
    pub fn malformed(
        &self,
        wanted: &'static str,
        reason: impl Into<String>,
        secrets: &[&SecretString],
    ) -> RequestError {
        let said = Excerpt::of(content_type(&self.headers), &self.body, secrets);
        let problem = Problem::Malformed { status: self.status, wanted, reason: reason.into(), said };
        RequestError { method: self.method, url: self.url.clone(), problem: Box::new(problem), wait: None }
    }
}
