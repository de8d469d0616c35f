//! Which certificate the database shows to those who connect: seen as a client sees it, who goes before he logs in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};

use crate::backup::fresh::Freshness;
use crate::certificates::{convinces, trusted};
use crate::desired::DATABASE;

/// One that ends sooner was not renewed: another one is made months before that, as is the alert
/// `MultiNicDatabaseCertificateEnds`.
const LEAST: SignedDuration = SignedDuration::from_hours(30 * 24);
/// What is not seen in that time is not seen.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than any server greets with.
const MOST_GREETING: usize = 4096;
/// `CLIENT_PROTOCOL_41`, `CLIENT_SSL`, `CLIENT_SECURE_CONNECTION`: of MariaDB's packet `SSLRequest`, by which a connection
/// becomes one of TLS.
const CAPABILITIES: u32 = 0x200 | 0x800 | 0x8000;

/// Looks, as somebody who trusts these authorities, in PEM. None where no certificate is seen.
pub async fn shown(address: SocketAddr, authorities: &str, now: Timestamp) -> Option<Freshness> {
    let looked = timeout(PATIENCE, look(address, authorities, now)).await;
    let looked = looked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match looked {
        Ok(freshness) => Some(freshness),
        Err(error) => match refusal(&error) {
            Some(why) => Some(Freshness {
                is_fresh: false,
                reason: "Refused",
                message: format!("no program takes the certificate that the server shows: {why}"),
            }),
            None => {
                tracing::debug!(%address, %error, "the database's certificate is not seen");
                None
            }
        },
    }
}

/// What is wrong with the certificate, if that is it.
fn refusal(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(why) => Some(why.to_string()),
        _ => None,
    }
}

async fn look(address: SocketAddr, authorities: &str, now: Timestamp) -> io::Result<Freshness> {
    let roots = trusted(authorities).ok_or_else(|| io::Error::other("the authorities cannot be read"))?;
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let host = ServerName::try_from(DATABASE).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(address).await?;
    ask_for_tls(&mut stream).await?;
    let stream = TlsConnector::from(Arc::new(client)).connect(host, stream).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let later = now.saturating_add(LEAST).unwrap_or(Timestamp::MAX);
    let is_fresh = convinces(chain, authorities, &[DATABASE.to_owned()], later);
    let (reason, message) = match is_fresh {
        true => ("Fresh", "the certificate that the server shows is good for 30 days at least"),
        false => (
            "NotRenewed",
            "the certificate that the server shows ends within 30 days, though another one was made long ago: \
             the server's log says what keeps it from taking that up; deleting its pod mends it",
        ),
    };
    Ok(Freshness { is_fresh, reason, message: message.to_owned() })
}

/// Reads the server's greeting and answers that the rest is to be TLS.
async fn ask_for_tls(stream: &mut TcpStream) -> io::Result<()> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let [a, b, c, number] = header;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, 0])).unwrap_or(usize::MAX);
    if length > MOST_GREETING {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut greeting = vec![0; length];
    stream.read_exact(&mut greeting).await?;
    // The protocol's version; an error has another one.
    if greeting.first() != Some(&10) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // Length and number of the packet, capabilities, the longest packet, utf8mb4, and 23 bytes for nothing.
    let mut request = vec![32, 0, 0, number.wrapping_add(1)];
    request.extend(CAPABILITIES.to_le_bytes());
    request.extend((1_u32 << 24).to_le_bytes());
    request.push(45);
    request.extend([0; 23]);
    stream.write_all(&request).await
}
