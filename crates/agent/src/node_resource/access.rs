//! How the Kubernetes API is reached.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use multinic_core::brief::causes;
use multinic_host::probes::Reach;

/// How long one request may take. A watch is no such request.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may take whose answer comes within milliseconds, or is asked for again.
const REACH_LIMIT: Duration = Duration::from_secs(3);
/// A watch that is silent for longer is dead: the server ends each after 290 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);
/// Texts of others are cut to this many bytes.
const LONGEST_TEXT: usize = 300;

/// Why there is no way to the Kubernetes API.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig cannot be used.
    #[error("KUBECONFIG: cannot use {path}: {reason}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Not in a pod.
    #[error("this is no pod with a service account: {0}; set KUBECONFIG")]
    NotInCluster(String),
    /// The client refuses its configuration.
    #[error("cannot make a client of {url}: {reason}")]
    Client {
        /// The API server.
        url: String,
        /// Why.
        reason: String,
    },
}

/// A client, and where it leads.
#[derive(Clone)]
pub struct ApiServer {
    /// The client.
    pub client: Client,
    host: String,
    port: u16,
}

impl ApiServer {
    /// From a kubeconfig, or as the pod that this is. Must be called within a tokio runtime.
    pub async fn new(kubeconfig: Option<&Path>) -> Result<Self, AccessError> {
        let mut config = match kubeconfig {
            Some(path) => {
                let wrong = |reason: String| AccessError::Kubeconfig { path: path.to_owned(), reason };
                let file = Kubeconfig::read_from(path).map_err(|error| wrong(bounded(&error.to_string())))?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .map_err(|error| wrong(bounded(&error.to_string())))?
            }
            None => {
                Config::incluster().map_err(|error| AccessError::NotInCluster(bounded(&error.to_string())))?
            }
        };
        config.connect_timeout = Some(REQUEST_LIMIT);
        config.read_timeout = Some(SILENCE_LIMIT);
        // We wait and try again ourselves; a second layer of that would only hide what happens.
        config.default_retry = false;
        let url = config.cluster_url.clone();
        let https = url.scheme_str() != Some("http");
        // Built together with programs that bring another library of cryptography, the TLS library finds two, chooses none and
        // panics. An error says that the choice is made.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(config).map_err(|error| AccessError::Client {
            url: url.to_string(),
            reason: bounded(&error.to_string()),
        })?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        Ok(Self { client, host, port: url.port_u16().unwrap_or(if https { 443 } else { 80 }) })
    }

    /// The addresses that its name resolves to, so that a NIC on the way to it can be told.
    pub async fn addresses(&self) -> Result<Vec<IpAddr>, String> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port));
        match tokio::time::timeout(REQUEST_LIMIT, found).await {
            Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
            Ok(Err(error)) => Err(format!("cannot resolve {}: {error}", self.host)),
            Err(_) => Err(format!("cannot resolve {}: no answer", self.host)),
        }
    }

    /// How it is asked whether it can be reached: by a connection that is closed at once.
    pub fn reach(&self) -> Reach {
        let (host, port) = (self.host.clone(), self.port);
        Reach::new(self.place(), move || {
            let host = host.clone();
            async move {
                let connected = tokio::net::TcpStream::connect((host.as_str(), port));
                match tokio::time::timeout(REACH_LIMIT, connected).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("no answer".to_owned()),
                }
            }
        })
    }

    /// Its name for logs.
    pub fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Waits for a request, not too long, and says briefly why it failed.
pub async fn limited<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, RequestError> {
    match tokio::time::timeout(REQUEST_LIMIT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => {
            Err(RequestError { code: Some(status.code), text: bounded(&status.message) })
        }
        Ok(Err(error)) => Err(RequestError { code: None, text: chain(&error) }),
        Err(_) => Err(RequestError { code: None, text: format!("no answer within {REQUEST_LIMIT:?}") }),
    }
}

/// A request that was not answered, or refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct RequestError {
    /// The HTTP status, if the server answered.
    pub code: Option<u16>,
    /// Why.
    pub text: String,
}

/// An error and its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    bounded(&causes(error))
}

/// At most so much of a text that somebody else wrote.
pub fn bounded(text: &str) -> String {
    cut(text, LONGEST_TEXT)
}

/// A text of at most so many bytes, with an ellipsis where it was longer.
pub fn cut(text: &str, limit: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("ääääää", 8), "ää…");
        assert!(bounded(&"x".repeat(10_000)).len() <= LONGEST_TEXT);
    }
}
