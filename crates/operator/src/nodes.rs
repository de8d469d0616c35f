//! Where the cluster's nodes are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use multinic_core::brief::short;
use tokio::sync::Notify;

/// Nodes are large objects, of which next to nothing is kept.
const PAGE: u32 = 50;

/// The addresses of a node by which the cluster reaches it.
fn addresses_of(node: &Node) -> BTreeSet<IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).collect()
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

/// Gives notice when a node comes, goes, or is elsewhere, and of nothing else that nodes say of themselves all the time.
pub(crate) async fn follow(client: Client, notice: Arc<Notify>) {
    let nodes: Api<Node> = Api::all(client);
    let mut events = std::pin::pin!(watcher(nodes, Config::default().page_size(PAGE)).default_backoff());
    let (mut known, mut listed) = (BTreeMap::new(), BTreeMap::new());
    while let Some(event) = events.next().await {
        let is_news = match event {
            Ok(Event::Init) => {
                listed = BTreeMap::new();
                false
            }
            Ok(Event::InitApply(node)) => {
                listed.insert(node.name_any(), addresses_of(&node));
                false
            }
            Ok(Event::InitDone) => {
                let before = std::mem::replace(&mut known, std::mem::take(&mut listed));
                before != known
            }
            Ok(Event::Apply(node)) => {
                let addresses = addresses_of(&node);
                known.insert(node.name_any(), addresses.clone()) != Some(addresses)
            }
            Ok(Event::Delete(node)) => known.remove(&node.name_any()).is_some(),
            Err(error) => {
                tracing::warn!(resource = "nodes", error = %short(&error), "a watch ended; it is begun anew");
                false
            }
        };
        if is_news {
            notice.notify_one();
        }
    }
}
