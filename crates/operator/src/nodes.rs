//! Where the cluster's nodes are.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::net::IpAddr;

use futures_util::{Stream, TryStreamExt as _};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::runtime::watcher::{Config, Error, Event, watcher};
use kube::{Api, Client, ResourceExt as _};

/// Nodes are large objects, of which next to nothing is kept.
const PAGE: u32 = 50;

/// Annotations in which network plugins name the address of a node's end of their tunnel: what it sends to pods of other nodes
/// comes from there. Calico with Kubernetes as its datastore, and Cilium with `annotate-k8s-node`.
const TUNNELS: [&str; 7] = [
    "projectcalico.org/IPv4IPIPTunnelAddr",
    "projectcalico.org/IPv4VXLANTunnelAddr",
    "projectcalico.org/IPv6VXLANTunnelAddr",
    "projectcalico.org/IPv4WireguardInterfaceAddr",
    "projectcalico.org/IPv6WireguardInterfaceAddr",
    "network.cilium.io/ipv4-cilium-host",
    "network.cilium.io/ipv6-cilium-host",
];
/// Annotation of nodes with flannel, k3s' among them. Its tunnel has the first address of the node's network of pods, and its bridge
/// the one after it.
const FLANNEL: &str = "flannel.alpha.coreos.com/public-ip";

/// The addresses of a node by which the cluster reaches it, and those from which it reaches pods.
fn addresses_of(node: &Node) -> BTreeSet<IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    let internal = internal.filter_map(|address| address.address.parse().ok());
    let annotations = node.annotations();
    let tunnels = TUNNELS.iter().filter_map(|name| annotations.get(*name)?.parse().ok());
    internal.chain(tunnels).chain(of_flannel(node)).collect()
}

fn of_flannel(node: &Node) -> Vec<IpAddr> {
    let networks = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_ref());
    let networks = networks.filter(|_| node.annotations().contains_key(FLANNEL)).into_iter().flatten();
    let networks = networks.filter_map(|network| network.parse::<IpNet>().ok());
    networks
        .flat_map(|network| network.subnets(network.max_prefix_len()).into_iter().flatten().take(2))
        .map(|net| net.addr())
        .collect()
}

/// Those of all nodes.
pub(crate) async fn addresses(client: &Client) -> Result<BTreeSet<IpAddr>, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut parameters = ListParams::default().limit(PAGE);
    let mut found = BTreeSet::new();
    loop {
        let page = nodes.list(&parameters).await?;
        found.extend(page.items.iter().flat_map(addresses_of));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Tells when a node comes, goes, or is elsewhere, and of nothing else that nodes say of themselves all the time.
pub(crate) fn changes(client: Client) -> impl Stream<Item = Result<Event<Node>, Error>> + Send {
    let nodes: Api<Node> = Api::all(client);
    let mut known = BTreeMap::new();
    watcher(nodes, Config::default().page_size(PAGE)).try_filter(move |event| {
        ready(match event {
            Event::Init => {
                known.clear();
                true
            }
            Event::InitApply(node) | Event::Apply(node) => {
                let addresses = addresses_of(node);
                known.insert(node.name_any(), addresses.clone()) != Some(addresses)
            }
            Event::Delete(node) => known.remove(&node.name_any()).is_some(),
            Event::InitDone => true,
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use serde_json::{Value, json};

    use super::*;

    fn found(annotations: &Value, networks: &[&str]) -> Vec<String> {
        let addresses = json!([
            {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "ExternalIP", "address": "203.0.113.9"},
            {"type": "Hostname", "address": "one"},
        ]);
        let node = json!({
            "metadata": {"annotations": annotations}, "spec": {"podCIDRs": networks},
            "status": {"addresses": addresses},
        });
        let found = addresses_of(&serde_json::from_value(node).unwrap());
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_is_also_where_its_tunnel_is() {
        assert_eq!(found(&Value::Null, &[]), ["10.0.0.1"]);
        let calico = json!({
            "projectcalico.org/IPv4Address": "10.0.0.1/24",
            "projectcalico.org/IPv4VXLANTunnelAddr": "10.244.86.128",
            "projectcalico.org/IPv6VXLANTunnelAddr": "fd01::7",
        });
        // Its pods have any address of the network that Kubernetes gave the node, or of another one.
        assert_eq!(found(&calico, &["10.244.1.0/24"]), ["10.0.0.1", "10.244.86.128", "fd01::7"]);
        let cilium = json!({"network.cilium.io/ipv4-cilium-host": "10.244.0.28"});
        assert_eq!(found(&cilium, &["10.244.0.0/25"]), ["10.0.0.1", "10.244.0.28"]);
        let malformed = json!({"projectcalico.org/IPv4IPIPTunnelAddr": "none"});
        assert_eq!(found(&malformed, &[]), ["10.0.0.1"]);
    }

    #[test]
    fn flannels_tunnel_and_bridge_have_the_first_addresses_of_the_nodes_network() {
        let flannel = json!({"flannel.alpha.coreos.com/public-ip": "10.0.0.1"});
        let expected = ["10.0.0.1", "10.244.3.0", "10.244.3.1", "fd01:3::", "fd01:3::1"];
        assert_eq!(found(&flannel, &["10.244.3.0/24", "fd01:3::/64"]), expected);
        assert_eq!(found(&Value::Null, &["10.244.3.0/24"]), ["10.0.0.1"], "nobody says that it is flannel");
    }
}
