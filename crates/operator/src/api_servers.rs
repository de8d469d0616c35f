//! Where the cluster's API servers are, whether they are nodes or not: they write it themselves into an object that every cluster has.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{Config, Error, Event, watcher};
use kube::{Api, Client};

use crate::said::answer;

/// Of the Service by which programs in the cluster reach them.
const NAMESPACE: &str = "default";
const SLICE: &str = "kubernetes";

fn slices(client: Client) -> Api<EndpointSlice> {
    Api::namespaced(client, NAMESPACE)
}

/// Where they listen. Nowhere in a cluster whose API servers do not say so.
///
/// # Errors
/// Also where the object names none: an API server has just answered, and to go by that would shut it out for good.
pub(crate) async fn addresses(client: &Client) -> Result<BTreeSet<SocketAddr>, String> {
    let found = slices(client.clone()).get_opt(SLICE).await;
    let found =
        found.map_err(|error| format!("the EndpointSlice {SLICE} cannot be read: {}", answer(&error)))?;
    found.map_or_else(|| Ok(BTreeSet::new()), |slice| named(&slice))
}

fn named(slice: &EndpointSlice) -> Result<BTreeSet<SocketAddr>, String> {
    let addresses = addresses_of(slice);
    if addresses.is_empty() {
        return Err(format!("the EndpointSlice {SLICE} in {NAMESPACE} names no API server"));
    }
    Ok(addresses)
}

fn addresses_of(slice: &EndpointSlice) -> BTreeSet<SocketAddr> {
    let ports = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok());
    let ports: BTreeSet<u16> = ports.collect();
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    let addresses = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
    addresses.flat_map(|address| ports.iter().map(move |port| SocketAddr::new(address, *port))).collect()
}

/// Tells of each change: it is written when one of them comes or goes, and not otherwise.
pub(crate) fn changes(
    client: Client,
) -> impl futures_util::Stream<Item = Result<Event<EndpointSlice>, Error>> + Send {
    let one = Config::default().fields(&format!("metadata.name={SLICE}"));
    watcher(slices(client), one)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use serde_json::json;

    use super::*;

    #[test]
    fn every_api_server_is_at_every_port() {
        let slice = json!({
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.40.0.5"]}, {"addresses": ["10.40.0.6", "an.odd.name"]}],
            "ports": [{"name": "https", "port": 16443, "protocol": "TCP"}, {"name": "any"}],
        });
        let expected = ["10.40.0.5:16443", "10.40.0.6:16443"].map(|it| it.parse().unwrap());
        assert_eq!(named(&serde_json::from_value(slice).unwrap()), Ok(expected.into()));
    }

    #[test]
    fn that_there_is_none_is_not_believed() {
        let empty = json!({"addressType": "IPv4", "endpoints": []});
        assert!(named(&serde_json::from_value(empty).unwrap()).is_err());
    }
}
