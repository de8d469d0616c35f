//! Whose certificates are believed.

use std::path::PathBuf;
use std::time::Duration;

use multinic_core::config::Tls;
use reqwest::{Certificate, Client, ClientBuilder, redirect};
use tracing::warn;

/// The longest wait for a connection. A cloud that is up answers a SYN within a round trip.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The CA file can't be read.
    #[error("CA file {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The CA file holds no certificate, or a broken one.
    #[error("CA file {path}: {reason}; it must hold certificates in PEM form")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library refuses.
    #[error("no TLS client: {0}")]
    Refused(String),
}

/// A client that believes the system's authorities and those of the CA file, or everybody if a user said so by name.
pub(super) fn client(tls: &Tls, timeout: Duration) -> Result<Client, TrustError> {
    let Tls { insecure, ca_file } = tls;
    let builder = || {
        Client::builder()
            // A server with a thread for each connection, such as uWSGI, has few: what is not needed is not kept.
            .pool_max_idle_per_host(1)
            .timeout(timeout)
            .connect_timeout(CONNECT.min(timeout))
            // The client drops `Authorization` when it follows to another host, and would keep `X-Auth-Token`.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("multinic/", env!("CARGO_PKG_VERSION")))
    };
    let refused = |error: reqwest::Error| TrustError::Refused(chain(&error));
    if *insecure {
        return builder().tls_danger_accept_invalid_certs(true).build().map_err(refused);
    }
    let Some(path) = ca_file else {
        return system(builder);
    };
    let pem = std::fs::read(path)
        .map_err(|error| TrustError::Unreadable { path: path.clone(), reason: error.to_string() })?;
    let malformed = |reason: String| TrustError::Malformed { path: path.clone(), reason };
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| malformed(chain(&error)))?;
    if certificates.is_empty() {
        return Err(malformed("no certificate in it".to_owned()));
    }
    builder().tls_certs_merge(certificates).build().map_err(|error| malformed(chain(&error)))
}

/// The system's authorities. An image may have none; a cloud behind plain HTTP needs none, and believing nobody is
/// as strict as can be.
fn system(builder: impl Fn() -> ClientBuilder) -> Result<Client, TrustError> {
    builder().build().or_else(|error| {
        let client = builder().tls_certs_only([]).build().map_err(|_| TrustError::Refused(chain(&error)))?;
        warn!(reason = chain(&error), "no certification authorities on this system: https will fail");
        Ok(client)
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
