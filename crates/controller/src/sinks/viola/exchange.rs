//! One request to Viola and its answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use super::{PATH, ViolaSettings};
use crate::sinks::error::passes;
use crate::sinks::said::{causes, line, said};
use crate::sinks::{Delivery, SinkError};

/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest wait that a server is granted between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How much of an answer is read.
const LARGEST_ANSWER: usize = 8 * 1024 * 1024;

/// A client with what it sends.
#[derive(Debug)]
pub(super) struct Exchange {
    client: Client,
    url: Url,
    token: Option<SecretString>,
    token_file: Option<PathBuf>,
    timeout: Duration,
    retries: usize,
}

/// What became of single nodes, as far as the answer says.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    failed: BTreeMap<String, (String, String)>,
    done: BTreeMap<String, Delivery>,
}

/// A success: 200 or 202, or 207 with what failed.
pub(super) type Accepted = Nodes;

/// Anything else.
#[derive(Debug)]
pub(super) struct Refusal {
    pub error: SinkError,
    pub problem: String,
    pub status: Option<u16>,
    pub nodes: Nodes,
    wait: Option<Duration>,
}

/// The answer of a Viola that says what became of each node. An older one says nothing.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<NodeResult>,
    #[serde(default)]
    errors: Vec<NodeError>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeResult {
    node_name: String,
    #[serde(default)]
    status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeError {
    node_name: String,
    #[serde(default)]
    code: serde_json::Value,
    #[serde(default)]
    message: String,
}

impl Nodes {
    fn read(body: &[u8]) -> Self {
        let Answer { results, errors } = serde_json::from_slice(body).unwrap_or_default();
        let code = |code: serde_json::Value| match code {
            serde_json::Value::String(text) => line(&text),
            other => other.to_string(),
        };
        let delivery = |status: &str| match status {
            "unchanged" => Delivery::Unchanged,
            "deleted" => Delivery::Removed,
            "releasing" => Delivery::Releasing,
            _ => Delivery::Applied,
        };
        Self {
            failed: errors.into_iter().map(|e| (e.node_name, (code(e.code), line(&e.message)))).collect(),
            done: results.into_iter().map(|r| (r.node_name, delivery(&r.status))).collect(),
        }
    }

    /// What became of a node: code and message where it failed.
    pub fn outcome(&self, node: &str) -> Option<Result<Delivery, (String, String)>> {
        let failed = self.failed.get(node).map(|failure| Err(failure.clone()));
        failed.or_else(|| self.done.get(node).map(|delivery| Ok(*delivery)))
    }

    fn is_empty(&self) -> bool {
        self.failed.is_empty() && self.done.is_empty()
    }
}

impl Refusal {
    /// Whether a part of the request alone might be accepted: the statuses with which Viola answers a wrong node. Where it
    /// says itself which nodes failed, there is nothing to search.
    pub fn is_about_content(&self) -> bool {
        matches!(self.status, Some(400 | 413 | 422 | 500)) && self.nodes.is_empty()
    }
}

impl Exchange {
    pub fn new(settings: ViolaSettings) -> Result<Self, SinkError> {
        let ViolaSettings { endpoint, timeout, insecure, ca_file, token, token_file, batch: _, retries } =
            settings;
        let refused = |setting, problem: String| SinkError::Setting { setting, problem };
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host_str().is_none() {
            return Err(refused(
                "VIOLA_ENDPOINT",
                format!("{:?} is not an http or https URL", endpoint.scheme()),
            ));
        }
        let mut url = endpoint;
        // What stands before the @ of a URL would be in every message.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("VIOLA_ENDPOINT", "must not hold a user or a password".to_owned()));
        }
        url.set_query(None);
        url.set_fragment(None);
        let path = format!("{}/{PATH}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let mut builder = Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT.min(timeout))
            // A token and the fleet's addresses are not for a host that nobody configured.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("multinic/", env!("CARGO_PKG_VERSION")));
        let client = match (insecure, ca_file) {
            (true, _) => builder.tls_danger_accept_invalid_certs(true).build(),
            (false, None) => builder.build(),
            (false, Some(path)) => {
                let wrong =
                    |problem: String| refused("VIOLA_CA_FILE", format!("{}: {problem}", path.display()));
                let pem = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
                let certificates =
                    Certificate::from_pem_bundle(&pem).map_err(|error| wrong(causes(&error)))?;
                if certificates.is_empty() {
                    return Err(wrong("no certificate in it".to_owned()));
                }
                builder = builder.tls_certs_merge(certificates);
                builder.build()
            }
        };
        let client = client.map_err(|error| refused("VIOLA_ENDPOINT", causes(&error)))?;
        Ok(Self { client, url, token, token_file, timeout, retries })
    }

    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The bearer token as it is now.
    pub fn token(&self) -> Result<Option<SecretString>, SinkError> {
        let Some(path) = &self.token_file else { return Ok(self.token.clone()) };
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text.trim().into())),
            Err(error) => {
                let problem = format!("{}: {error}", path.display());
                Err(SinkError::Setting { setting: "VIOLA_TOKEN_FILE", problem })
            }
        }
    }

    /// An error of this URL.
    pub fn failed(&self, problem: String, status: Option<u16>) -> SinkError {
        SinkError::Viola { url: self.url.to_string(), problem, status }
    }

    /// Posts until there is an answer that stays, or often enough. A repetition does no harm: what is posted is what is
    /// to be, not a change.
    pub async fn post(
        &self,
        provider: Option<&str>,
        token: Option<&SecretString>,
        body: &str,
    ) -> Result<Accepted, Refusal> {
        let waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(self.retries)
            .with_jitter();
        (|| self.attempt(provider, token, body))
            .retry(waits)
            // 500 is what older servers answer to a wrong node, which stays wrong.
            .when(|refusal| refusal.nodes.is_empty() && refusal.status != Some(500) && passes(refusal.status))
            // None ends the attempts, whatever the server asks for.
            .adjust(|refusal, wait| wait.map(|wait| refusal.wait.unwrap_or(wait).min(LONGEST_WAIT)))
            .await
    }

    async fn attempt(
        &self,
        provider: Option<&str>,
        token: Option<&SecretString>,
        body: &str,
    ) -> Result<Accepted, Refusal> {
        let refusal = |problem: String, status: Option<u16>| Refusal {
            error: self.failed(problem.clone(), status),
            problem,
            status,
            nodes: Nodes::default(),
            wait: None,
        };
        let broken = |error: reqwest::Error| {
            let problem = if error.is_timeout() {
                format!("no complete answer within {:?}", self.timeout)
            } else {
                causes(&error.without_url())
            };
            refusal(problem, None)
        };
        let headers = self.headers(provider, token).map_err(|problem| refusal(problem, Some(400)))?;
        let request = self.client.post(self.url.clone()).headers(headers).body(body.to_owned());
        let mut response = request.send().await.map_err(broken)?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let text = |name| headers.get(&name).and_then(|value: &HeaderValue| value.to_str().ok());
        if status.is_redirection() {
            let code = status.as_u16();
            let location = line(text(LOCATION).unwrap_or_default());
            let problem =
                format!("status {code} redirects to {location:?}; configure that URL if it is right");
            return Err(refusal(problem, Some(code)));
        }
        let mut answer = Vec::new();
        while answer.len() <= LARGEST_ANSWER
            && let Some(chunk) = response.chunk().await.map_err(broken)?
        {
            answer.extend_from_slice(&chunk);
        }
        let nodes = Nodes::read(&answer);
        if matches!(status.as_u16(), 200 | 202 | 207) {
            return Ok(nodes);
        }
        let secrets: Vec<&SecretString> = token.into_iter().collect();
        let problem = format!("status {}: {}", status.as_u16(), said(text(CONTENT_TYPE), &answer, &secrets));
        let wait = text(RETRY_AFTER).and_then(|text| retry_after(text, Timestamp::now()));
        Err(Refusal { nodes, wait, ..refusal(problem, Some(status.as_u16())) })
    }

    fn headers(&self, provider: Option<&str>, token: Option<&SecretString>) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(provider) = provider.filter(|provider| !provider.is_empty()) {
            let value = HeaderValue::from_str(provider)
                .map_err(|_| format!("k8sProviderID {provider:?} cannot be a header's value"))?;
            headers.insert("x-provider-id", value);
        }
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
                .map_err(|_| "the bearer token cannot be a header's value".to_owned())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }
}

/// What `Retry-After` asks for, in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    match text.trim().parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
            // A date that has passed asks for no wait.
            Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
        }
    }
}
