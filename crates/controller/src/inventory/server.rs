//! What the server allows its readers, and its TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use multinic_telemetry::connections::{self, Tls};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::{self, ServerConfig};

/// What a reader may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections there are at once; more wait.
    pub connections: usize,
    /// How many readers watch at once; more are turned away with 503.
    pub watchers: usize,
    /// How long a request's head may take to arrive.
    pub head: Duration,
    /// A reader that takes nothing for so long of what is sent to it is cut.
    pub stall: Duration,
    /// How often a watch without news says that it is there.
    pub heartbeat: Duration,
    /// How long answers may still take after a stop is requested.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            watchers: 256,
            // The older program's ReadHeaderTimeout.
            head: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            farewell: Duration::from_secs(5),
        }
    }
}

impl Limits {
    pub(super) fn of_connections(self) -> connections::Limits {
        let Self { connections, watchers: _, head, stall, heartbeat: _, farewell } = self;
        connections::Limits { connections, head, stall: Some(stall), farewell }
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{variable}: {} cannot be used: {source}", path.display())]
    File {
        /// The setting.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The two do not go together.
    #[error("INVENTORY_TLS_CERT_FILE and INVENTORY_TLS_KEY_FILE do not make a server's certificate: {0}")]
    Pair(#[from] rustls::Error),
}

/// A certificate with its key.
pub(super) fn tls_files(certificate: PathBuf, key: PathBuf) -> Result<Tls, TlsError> {
    Tls::open(vec![certificate.clone(), key.clone()], move || read(&certificate, &key))
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let failed = |variable, path: &Path, source| TlsError::File { variable, path: path.to_owned(), source };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|source| failed("INVENTORY_TLS_CERT_FILE", certificate, source))?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|source| failed("INVENTORY_TLS_KEY_FILE", key, source))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
