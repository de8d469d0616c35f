//! What the node's `Node` tells of how its kubelet was told of the node's address. A pod cannot read the kubelet's arguments.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use multinic_core::node::doctor::Kubelet;
use serde_json::json;

use super::access::{RequestError, limited};

/// Set by a kubelet that was given an address while a cloud controller manager says what the node's addresses are.
const PROVIDED_NODE_IP: &str = "alpha.kubernetes.io/provided-node-ip";
/// Set by the cloud controller manager of OpenStack, and by nothing else since that is out of Kubernetes itself (1.26).
const OPENSTACK: &str = "openstack://";

/// Asks for it. An agent may patch its `Node` and not read it; a patch that is empty, and not carried out, is answered with all
/// of it.
pub async fn of_node(nodes: &Api<Node>, name: &str) -> Result<Kubelet, RequestError> {
    let not_carried_out = PatchParams { dry_run: true, ..PatchParams::default() };
    let node = limited(nodes.patch(name, &not_carried_out, &Patch::Merge(json!({})))).await?;
    Ok(read(&node))
}

fn read(node: &Node) -> Kubelet {
    let provider = node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref());
    let annotations = node.metadata.annotations.as_ref();
    Kubelet {
        external_cloud: provider.is_some_and(|id| id.starts_with(OPENSTACK)),
        node_ip: annotations.is_some_and(|all| all.contains_key(PROVIDED_NODE_IP)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_tells_who_says_what_its_addresses_are() {
        let of = |provider: Option<&str>, node_ip: bool| {
            let annotations = if node_ip { json!({PROVIDED_NODE_IP: "10.0.0.5"}) } else { json!({}) };
            let node = json!({"metadata": {"annotations": annotations}, "spec": {"providerID": provider}});
            let Kubelet { external_cloud, node_ip } = read(&serde_json::from_value(node).unwrap());
            (external_cloud, node_ip)
        };
        assert_eq!(of(None, false), (false, false));
        assert_eq!(of(Some("kind://docker/a/b"), false), (false, false));
        assert_eq!(of(Some("openstack:///1f0c"), false), (true, false));
        assert_eq!(of(Some("openstack://RegionOne/1f0c"), true), (true, true));
    }
}
