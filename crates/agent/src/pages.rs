//! Where health and metrics are served: on loopback and on the node's own address, so that nothing listens on the NICs
//! that are configured here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use multinic_telemetry::pages::{BindError, PageServer, Pages};
use multinic_telemetry::shutdown::Shutdown;

use crate::metrics::Metrics;
use crate::status::StatusBoard;

/// The listeners, which do not answer yet.
#[derive(Debug)]
pub struct PageServers(Vec<PageServer>);

impl PageServers {
    /// Takes the port on each address; without any, on loopback and on the node's own addresses. Port 0 takes a free one
    /// of the first address.
    pub async fn bind(addresses: &[IpAddr], own: &BTreeSet<IpAddr>, port: u16) -> Result<Self, BindError> {
        let configured = !addresses.is_empty();
        let mut wanted = addresses.to_vec();
        if !configured {
            wanted.push(Ipv4Addr::LOCALHOST.into());
            wanted.extend(own);
        }
        let mut servers: Vec<PageServer> = Vec::new();
        for ip in wanted {
            let port = servers.first().map_or(port, |first| first.address().port());
            match PageServer::bind(ip, port).await {
                Ok(server) => servers.push(server),
                // The node's address may be on its way; probes of the kubelet can be told to use loopback.
                Err(error) if !configured && !servers.is_empty() => {
                    tracing::warn!(error = %error, "health and metrics are not served on this address");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self(servers))
    }

    /// Answers until a stop is requested.
    pub fn serve(self, metrics: &Metrics, board: &StatusBoard, shutdown: &Shutdown) {
        for server in self.0 {
            let (live, ready, health) = (board.clone(), board.clone(), board.clone());
            let pages = Pages {
                registry: metrics.registry(),
                live: Box::new(move || live.live()),
                ready: Box::new(move || ready.ready()),
                health: Box::new(move || health.document()),
            };
            tokio::spawn(server.serve(pages, shutdown.clone()));
        }
    }
}
