//! What agents say of their nodes, each by its health document, by way of the API server.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::Request;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde::Deserialize;

use crate::objects::PAUSE;

const AGENTS: &str = "app.kubernetes.io/name=multinic-agent";

/// Of the document, what counts here. It comes with 200 only where the agent's last read was used, so the number is what is left
/// of what was wished before.
#[derive(Debug, Deserialize)]
struct Health {
    held_interfaces: u64,
}

/// Asks all agents until none holds a NIC any more. At the deadline: the nodes that have some, or whose agent does not say, with
/// what is known.
pub(super) async fn until_free(
    client: &Client,
    namespace: &str,
    port: u16,
    deadline: Instant,
) -> anyhow::Result<BTreeMap<String, String>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    loop {
        let listed = pods.list(&ListParams::default().labels(AGENTS)).await;
        let is_late = Instant::now() > deadline;
        let mut holding = BTreeMap::new();
        match listed {
            Ok(listed) => {
                for pod in listed {
                    if let Some(state) = state(client, namespace, &pod.name_any(), port).await {
                        let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
                        holding.insert(node, state);
                    }
                }
                if holding.is_empty() || is_late {
                    return Ok(holding);
                }
            }
            Err(error) if is_late => return Err(error).context("cannot list the agents"),
            Err(error) => println!("cannot list the agents, trying again: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why a node is not free, if it is not.
async fn state(client: &Client, namespace: &str, pod: &str, port: u16) -> Option<String> {
    let pods = Request::new(Pod::url_path(&(), Some(namespace)));
    let request = match pods.get_subresource("proxy/health", &format!("{pod}:{port}")) {
        Ok(request) => request,
        Err(error) => return Some(format!("its agent cannot be asked: {error}")),
    };
    match client.request::<Health>(request).await {
        Ok(Health { held_interfaces: 0 }) => None,
        Ok(Health { held_interfaces }) => Some(format!("{held_interfaces} NICs are still ours")),
        Err(error) => Some(format!("its agent does not say: {error}")),
    }
}
