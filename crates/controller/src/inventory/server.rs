//! Connections: TLS, time limits, and the end of readers that do not read.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use multinic_telemetry::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
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

/// A certificate with its key, read anew when a file changes.
pub struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

struct Current {
    stamp: [Option<SystemTime>; 2],
    config: Arc<ServerConfig>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl TlsFiles {
    /// Reads the two files.
    pub fn open(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let stamp = stamp(&certificate, &key);
        let config = Arc::new(read(&certificate, &key)?);
        Ok(Self { certificate, key, current: Mutex::new(Current { stamp, config }) })
    }

    fn config(&self) -> Arc<ServerConfig> {
        let stamp = stamp(&self.certificate, &self.key);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.stamp != stamp {
            match read(&self.certificate, &self.key) {
                Ok(config) => *current = Current { stamp, config: Arc::new(config) },
                // In the midst of a rotation the two may not fit: the next connection tries again.
                Err(error) => {
                    tracing::warn!(%error, "the inventory's certificate changed and is not used yet");
                }
            }
        }
        current.config.clone()
    }
}

fn stamp(certificate: &Path, key: &Path) -> [Option<SystemTime>; 2] {
    [certificate, key].map(|path| path.metadata().and_then(|found| found.modified()).ok())
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

/// Answers until a stop is requested.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<TlsFiles>>,
    limits: Limits,
    mut shutdown: Shutdown,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
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
                tracing::warn!(%error, "the inventory cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (router, tls, shutdown) = (router.clone(), tls.clone(), shutdown.clone());
        connections.spawn(async move {
            connection(stream, router, tls, limits, shutdown).await;
            drop(place);
        });
    }
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.farewell, all).await.is_err() {
        tracing::info!("readers of the inventory that did not finish are cut");
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, Place)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Events are small and must not wait for one another.
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

async fn connection(
    stream: TcpStream,
    router: Router,
    tls: Option<Arc<TlsFiles>>,
    limits: Limits,
    shutdown: Shutdown,
) {
    match tls {
        None => talk(Patient::new(stream, limits.stall), router, limits, shutdown).await,
        Some(tls) => {
            let acceptor = TlsAcceptor::from(tls.config());
            match timeout(limits.head, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => talk(Patient::new(stream, limits.stall), router, limits, shutdown).await,
                Ok(Err(error)) => tracing::debug!(%error, "a reader of the inventory broke TLS off"),
                Err(_) => tracing::debug!("a reader of the inventory did not finish the TLS handshake"),
            }
        }
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: Limits,
    mut shutdown: Shutdown,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(64 * 1024);
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
        tracing::debug!(%error, "a connection to the inventory ended");
    }
}

/// A stream whose other end must take something of what is sent within a time, or it is cut: what a reader does not
/// take is held back at its source, and this keeps it from being held for ever.
struct Patient<S> {
    stream: S,
    writing: Patience,
    // Of its own: a flush is often done at once while a write still waits.
    flushing: Patience,
}

impl<S> Patient<S> {
    fn new(stream: S, limit: Duration) -> Self {
        let patience = || Patience { limit, until: None };
        Self { stream, writing: patience(), flushing: patience() }
    }
}

struct Patience {
    limit: Duration,
    until: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn judge<T>(&mut self, context: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.until = None;
            return progress;
        }
        let limit = self.limit;
        let until = self.until.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(until.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.writing.judge(context, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.writing.judge(context, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(context);
        self.flushing.judge(context, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(context);
        self.flushing.judge(context, progress)
    }
}
