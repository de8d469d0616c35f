//! Connections and TLS.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use multinic_telemetry::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::settings::{StartError, TlsPaths};

/// How many connections there are at once; more wait. Each can hold a body of 4 MiB.
const CONNECTIONS: usize = 64;
/// How long the head of a request, or a TLS handshake, may take.
const HEAD: Duration = Duration::from_secs(5);

/// The server's certificate and the authority of its callers', read anew when a file changes.
pub struct TlsFiles {
    paths: TlsPaths,
    current: Mutex<Current>,
}

struct Current {
    stamp: [Option<SystemTime>; 3],
    config: Arc<ServerConfig>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// Where one cannot be read, or they do not go together.
    pub fn open(paths: TlsPaths) -> Result<Self, StartError> {
        let stamp = stamp(&paths);
        let config = Arc::new(read(&paths)?);
        Ok(Self { paths, current: Mutex::new(Current { stamp, config }) })
    }

    fn config(&self) -> Arc<ServerConfig> {
        let stamp = stamp(&self.paths);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.stamp != stamp {
            match read(&self.paths) {
                Ok(config) => *current = Current { stamp, config: Arc::new(config) },
                // In the midst of a rotation the files may not fit: the next connection tries again.
                Err(error) => tracing::warn!(%error, "the server's certificate changed and is not used yet"),
            }
        }
        Arc::clone(&current.config)
    }
}

fn stamp(paths: &TlsPaths) -> [Option<SystemTime>; 3] {
    let modified = |path: &PathBuf| path.metadata().and_then(|found| found.modified()).ok();
    [modified(&paths.certificate), modified(&paths.key), paths.clients.as_ref().and_then(modified)]
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

/// Answers until a stop is requested; then what is under way has `farewell` to be finished.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<TlsFiles>>,
    farewell: Duration,
    mut shutdown: Shutdown,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly: no file descriptor is free. Those who are done will free some.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (router, tls, shutdown) = (router.clone(), tls.clone(), shutdown.clone());
        connections.spawn(async move {
            connection(stream, router, tls, shutdown).await;
            drop(place);
        });
    }
    // No new connection is taken while the last ones are finished.
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(farewell, all).await.is_err() {
        tracing::warn!("posts that did not finish in time are cut");
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, Place)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn connection(stream: TcpStream, router: Router, tls: Option<Arc<TlsFiles>>, shutdown: Shutdown) {
    let Some(tls) = tls else { return talk(stream, router, shutdown).await };
    match timeout(HEAD, TlsAcceptor::from(tls.config()).accept(stream)).await {
        Ok(Ok(stream)) => talk(stream, router, shutdown).await,
        Ok(Err(error)) => tracing::warn!(%error, "a caller's TLS handshake failed"),
        Err(_) => tracing::debug!("a caller did not finish the TLS handshake"),
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    mut shutdown: Shutdown,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(64 * 1024);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = done {
        tracing::debug!(%error, "a connection ended");
    }
}
