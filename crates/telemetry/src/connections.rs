//! The connections of a server of ours: how many there are, TLS, time limits, and their end.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::shutdown::Shutdown;

/// What those at the other end may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections there are at once; more wait.
    pub connections: usize,
    /// How long a request's head, or a TLS handshake, may take.
    pub head: Duration,
    /// Whoever takes nothing for so long of what is sent is cut; none: nobody is.
    pub stall: Option<Duration>,
    /// How long answers may still take after a stop is requested.
    pub farewell: Duration,
}

/// A server's TLS: made of files, and anew when one of them changes; or fixed.
pub struct Tls {
    files: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<ServerConfig, String> + Send + Sync>,
    current: Mutex<Current>,
}

struct Current {
    stamps: Vec<Option<SystemTime>>,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// One that is what it is. Its certificate may change nevertheless, if its resolver gives another one.
    pub fn fixed(config: Arc<ServerConfig>) -> Self {
        let same = Arc::clone(&config);
        let read = Box::new(move || Ok(ServerConfig::clone(&same)));
        Self { files: Vec::new(), read, current: Mutex::new(Current { stamps: Vec::new(), config }) }
    }

    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn open<E: fmt::Display>(
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<ServerConfig, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let stamps = stamps(&files);
        let config = Arc::new(read()?);
        let read = Box::new(move || read().map_err(|error| error.to_string()));
        Ok(Self { files, read, current: Mutex::new(Current { stamps, config }) })
    }

    fn config(&self) -> Arc<ServerConfig> {
        let stamps = stamps(&self.files);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.stamps != stamps {
            match (self.read)() {
                Ok(config) => *current = Current { stamps, config: Arc::new(config) },
                // In the midst of a rotation the files may not fit: the next connection tries again.
                Err(error) => tracing::warn!(error, "the server's certificate changed and is not used yet"),
            }
        }
        Arc::clone(&current.config)
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    files.iter().map(|path| path.metadata().and_then(|found| found.modified()).ok()).collect()
}

/// Answers until a stop is requested; then what is under way has a time to be finished. `server` is its name in logs.
pub async fn serve(
    server: &'static str,
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<Tls>>,
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
                tracing::warn!(server, %error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (router, tls, shutdown) = (router.clone(), tls.clone(), shutdown.clone());
        connections.spawn(async move {
            connection(server, stream, router, tls, limits, shutdown).await;
            drop(place);
        });
    }
    // No new connection is taken while the last ones are finished.
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.farewell, all).await.is_err() {
        tracing::warn!(server, "connections that did not finish in time are cut");
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, Place)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Events are small and must not wait for one another.
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

async fn connection(
    server: &'static str,
    stream: TcpStream,
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    shutdown: Shutdown,
) {
    let Some(tls) = tls else { return talk(server, stream, router, limits, shutdown).await };
    match timeout(limits.head, TlsAcceptor::from(tls.config()).accept(stream)).await {
        Ok(Ok(stream)) => talk(server, stream, router, limits, shutdown).await,
        Ok(Err(error)) => tracing::warn!(server, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(server, "a TLS handshake was not finished"),
    }
}

async fn talk(
    server: &'static str,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: Limits,
    mut shutdown: Shutdown,
) {
    let stream = Patient::new(stream, limits.stall);
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
        tracing::debug!(server, %error, "a connection ended");
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
    fn new(stream: S, limit: Option<Duration>) -> Self {
        let patience = || Patience { limit, until: None };
        Self { stream, writing: patience(), flushing: patience() }
    }
}

struct Patience {
    limit: Option<Duration>,
    until: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn judge<T>(&mut self, context: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.until = None;
            return progress;
        }
        let Some(limit) = self.limit else { return progress };
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
