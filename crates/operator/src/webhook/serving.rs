//! Which certificate connections are answered with: another one only when API servers have heard whom to trust for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

use crate::certificates::Pair;

/// The certificate that is served. Connections that there are keep theirs, new ones have the new one: none is refused.
#[derive(Default)]
pub(crate) struct Serving(Mutex<State>);

#[derive(Default)]
struct State {
    served: Option<(Pair, Arc<CertifiedKey>)>,
    /// Authorities that API servers are told to trust, and since when.
    told: BTreeMap<String, Instant>,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

impl Serving {
    /// All authorities, in PEM: that of the one to serve with, that of the one that is served, and another one.
    pub fn trusted(&self, next: &Pair, another: Option<&str>) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let served = state.served.as_ref().map(|(pair, _)| pair.authority.as_str());
        let mut all: Vec<&str> = Vec::new();
        for authority in [Some(next.authority.as_str()), served, another].into_iter().flatten() {
            if !authority.trim().is_empty() && !all.contains(&authority.trim()) {
                all.push(authority.trim());
            }
        }
        let lines = all.into_iter().map(|authority| format!("{authority}\n"));
        lines.collect()
    }

    /// API servers are told to trust these authorities and are given `settle` to hear it; then `next` is served, and at once
    /// if none is. Returns how long it takes until then, if it is not served yet.
    ///
    /// # Errors
    /// Where the TLS library does not take it.
    pub fn told(&self, trusted: &str, next: &Pair, settle: Duration) -> Result<Option<Duration>, String> {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.told.retain(|authority, _| trusted.contains(authority));
        let authority = next.authority.trim().to_owned();
        let since = *state.told.entry(authority.clone()).or_insert(now);
        let left = settle.saturating_sub(now.duration_since(since));
        match &state.served {
            Some((served, _)) if served.certificate == next.certificate => return Ok(None),
            // A renewed one of the same authority is trusted already.
            Some((served, _)) if served.authority.trim() != authority && !left.is_zero() => {
                return Ok(Some(left));
            }
            _ => {}
        }
        let certified = Arc::new(next.certified()?);
        state.served = Some((next.clone(), certified));
        tracing::info!("another certificate is served to API servers");
        Ok(None)
    }

    /// The server's TLS.
    ///
    /// # Errors
    /// Where the library lacks what every one has.
    pub fn config(self: &Arc<Self>) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let resolver = Arc::new(Resolver(Arc::clone(self)));
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[derive(Debug)]
struct Resolver(Arc<Serving>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.served.as_ref().map(|(_, certified)| Arc::clone(certified))
    }
}
