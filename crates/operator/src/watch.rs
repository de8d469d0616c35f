//! When to look: something that concerns us changed.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::core::{ApiResource, PartialObjectMeta};
use kube::runtime::watcher::{Config, Error, watcher};
use kube::runtime::{WatchStreamExt as _, watcher::Event};
use kube::{Api, Client};
use multinic_api::MultiNicOperator;
use tokio::sync::Notify;
use tokio::sync::watch::Receiver;
use tokio::task::JoinSet;

use crate::api_servers;
use crate::desired::BACKUP;
use crate::kinds::KINDS;
use crate::nodes;
use crate::object::selector;
use crate::observe::metadata_of;
use multinic_core::brief::short;

/// The interface of the operators of a namespace. As they come, whatever they are: one that is malformed stops nothing.
pub(crate) fn operators(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &ApiResource::erase::<MultiNicOperator>(&()))
}

/// Follows operators, and what they made, in tasks of their own for as long as the set lives. Each news is one notice, of
/// which those that come together are one. Nodes are followed while somebody `needs_nodes`: they are many, and say much.
pub(crate) fn follow(
    client: &Client,
    namespace: &str,
    needs_nodes: Receiver<bool>,
) -> (Arc<Notify>, JoinSet<()>) {
    let notice = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    let wished = watcher(operators(client.clone(), namespace), Config::default());
    tasks.spawn(notify(wished, "multinicoperators", Arc::clone(&notice)));
    for kind in &KINDS {
        for place in kind.places(namespace) {
            let api: Api<PartialObjectMeta<DynamicObject>> = metadata_of(client.clone(), kind, place);
            let made = watcher(api, Config::default().labels(&selector()));
            tasks.spawn(notify(made, kind.plural, Arc::clone(&notice)));
        }
    }
    // What a backup came to, its pod says.
    let pods: Api<PartialObjectMeta<DynamicObject>> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Pod>(&()));
    let label = format!("app.kubernetes.io/name={BACKUP}");
    tasks.spawn(notify(watcher(pods, Config::default().labels(&label)), "pods", Arc::clone(&notice)));
    tasks.spawn(notify(api_servers::changes(client.clone()), "endpointslices", Arc::clone(&notice)));
    tasks.spawn(notify_of_nodes(client.clone(), needs_nodes, Arc::clone(&notice)));
    (notice, tasks)
}

/// Until nobody is left who could need them.
async fn notify_of_nodes(client: Client, mut needed: Receiver<bool>, notice: Arc<Notify>) {
    while needed.wait_for(|needed| *needed).await.is_ok() {
        tokio::select! {
            () = notify(nodes::changes(client.clone()), "nodes", Arc::clone(&notice)) => {}
            _ = needed.wait_for(|needed| !*needed) => {}
        }
    }
}

async fn notify<K: Send>(
    events: impl Stream<Item = Result<Event<K>, Error>> + Send,
    plural: &'static str,
    notice: Arc<Notify>,
) {
    let mut events = std::pin::pin!(events.default_backoff());
    while let Some(event) = events.next().await {
        match event {
            // A list that begins, and its parts.
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => notice.notify_one(),
            Err(error) => {
                tracing::warn!(resource = plural, error = %short(&error), "a watch ended; it is begun anew");
            }
        }
    }
}
