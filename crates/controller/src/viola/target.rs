//! One cluster, with credentials that may rotate.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use kube::config::AuthInfo;
use kube::{Client, Config};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::sinks::kubernetes::kubeconfig;

/// The way to a cluster.
#[derive(Debug, Clone)]
pub enum Link {
    /// By a kubeconfig with everything inline.
    Kubeconfig(PathBuf),
    /// By its parts.
    Server {
        /// The URL of the API server.
        server: String,
        /// The PEM file of the authority that signed its certificate.
        ca: PathBuf,
        /// Who we are.
        token: Token,
    },
}

/// A bearer token.
#[derive(Debug, Clone)]
pub enum Token {
    /// One that stays.
    Fixed(SecretString),
    /// One in a file, which may rotate.
    File(PathBuf),
}

/// A cluster and a namespace in it.
pub struct Target {
    /// What it is called in messages.
    name: String,
    namespace: String,
    link: Link,
    current: Mutex<Option<Current>>,
}

/// A client with the digest of what it was made of.
struct Current {
    digest: [u8; 32],
    client: Client,
}

/// What a link's files hold now.
enum Read {
    Kubeconfig(SecretString),
    Server { ca: Vec<u8>, token: SecretString },
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Reads what the link names, once to see that it can be used.
    ///
    /// # Errors
    /// Where it cannot: a sentence that names the file or the key.
    pub async fn open(name: String, namespace: String, link: Link) -> Result<Self, String> {
        let target = Self { name, namespace, link, current: Mutex::new(None) };
        target.refresh().await?;
        Ok(target)
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A client with today's credentials. What cannot be read or used in the middle of a rotation does not take the place
    /// of what could.
    ///
    /// # Errors
    /// Where there never was a usable one.
    pub async fn client(&self) -> Result<Client, String> {
        match self.refresh().await {
            Ok(client) => Ok(client),
            Err(problem) => {
                let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(current) = &*current else { return Err(problem) };
                tracing::warn!(target_cluster = self.name, problem, "the credentials stay those of before");
                Ok(current.client.clone())
            }
        }
    }

    async fn refresh(&self) -> Result<Client, String> {
        // A few small files, in memory: reading them each time is how a rotated Secret counts at once.
        let read = self.link.read()?;
        let digest = read.digest();
        {
            let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(current) = current.as_ref().filter(|current| current.digest == digest) {
                return Ok(current.client.clone());
            }
        }
        let client = self.link.client(read).await?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_some() {
            tracing::info!(target_cluster = self.name, "the credentials rotated");
        }
        *current = Some(Current { digest, client: client.clone() });
        Ok(client)
    }
}

impl Link {
    fn read(&self) -> Result<Read, String> {
        let text = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(match self {
            Self::Kubeconfig(path) => Read::Kubeconfig(text(path)?.into()),
            Self::Server { server: _, ca, token } => Read::Server {
                ca: text(ca)?.into_bytes(),
                token: match token {
                    Token::Fixed(token) => token.clone(),
                    Token::File(path) => match text(path)?.trim() {
                        "" => return Err(format!("{}: holds no token", path.display())),
                        token => token.into(),
                    },
                },
            },
        })
    }

    async fn client(&self, read: Read) -> Result<Client, String> {
        let (server, ca, token) = match (self, read) {
            (Self::Kubeconfig(path), Read::Kubeconfig(kubeconfig)) => {
                let client = kubeconfig::client(&kubeconfig).await;
                return client.map_err(|error| format!("{}: {error}", path.display()));
            }
            (Self::Server { server, ca, .. }, Read::Server { ca: pem, token }) => {
                let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
                let certificates = certificates.map_err(|error| format!("{}: {error}", ca.display()))?;
                if certificates.is_empty() {
                    return Err(format!("{}: holds no certificate", ca.display()));
                }
                (server, certificates.into_iter().map(|one| one.to_vec()).collect(), token)
            }
            // What is read is of the link's own kind.
            (_, Read::Kubeconfig(_) | Read::Server { .. }) => return Err("another kind of link".to_owned()),
        };
        let url: axum::http::Uri =
            server.parse().map_err(|_| format!("kubeApiServer: {server:?} is no URL"))?;
        if url.scheme_str() != Some("https") {
            return Err(format!("kubeApiServer: {server:?} must be https, since a token is sent to it"));
        }
        let mut config = Config::new(url);
        config.root_cert = Some(ca);
        config.auth_info = AuthInfo { token: Some(token), ..AuthInfo::default() };
        kubeconfig::client_of(config).map_err(|error| error.to_string())
    }
}

impl Read {
    fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        match self {
            Self::Kubeconfig(kubeconfig) => hasher.update(kubeconfig.expose_secret()),
            Self::Server { ca, token } => {
                hasher.update(ca.len().to_le_bytes());
                hasher.update(ca);
                hasher.update(token.expose_secret());
            }
        }
        hasher.finalize().into()
    }
}
