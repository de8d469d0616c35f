//! What the server allows its callers, and its TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use multinic_telemetry::connections::{Limits, Tls};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::settings::{StartError, TlsPaths};

/// What callers may take. Each connection can hold a body of 4 MiB. `farewell` is the time for posts that are under way
/// when a stop is requested.
pub(super) fn limits(farewell: Duration) -> Limits {
    Limits { connections: 64, head: Duration::from_secs(5), stall: None, farewell }
}

/// The server's certificate, and the authority of its callers'.
///
/// # Errors
/// Where a file cannot be read, or they do not go together.
pub(super) fn tls_files(paths: TlsPaths) -> Result<Tls, StartError> {
    let TlsPaths { certificate, key, clients } = &paths;
    let files = [certificate, key].into_iter().chain(clients).cloned().collect();
    Tls::open(files, move || read(&paths))
}

fn read(paths: &TlsPaths) -> Result<ServerConfig, StartError> {
    let wrong = |setting, path: &Path, problem: String| StartError::Setting {
        setting,
        problem: format!("{}: {problem}", path.display()),
    };
    let certificates = |setting, path: &Path| {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        read.map_err(|error| wrong(setting, path, error.to_string()))
    };
    let TlsPaths { certificate, key, clients } = paths;
    let chain = certificates("VIOLA_TLS_CERT_FILE", certificate)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| wrong("VIOLA_TLS_KEY_FILE", key, error.to_string()))?;
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| wrong("VIOLA_TLS_CERT_FILE", certificate, error.to_string()))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let setting = "VIOLA_CLIENT_CA_FILE";
            let mut roots = RootCertStore::empty();
            for authority in certificates(setting, path)? {
                roots.add(authority).map_err(|error| wrong(setting, path, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder
                .with_client_cert_verifier(verifier.map_err(|error| wrong(setting, path, error.to_string()))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, private)
        .map_err(|error| wrong("VIOLA_TLS_CERT_FILE", certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
