//! The configurations as the API server has them, followed by a watch.
//!
//! Objects are kept as they come, whatever they are: one that is malformed stops no other.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::StreamExt;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use multinic_api::OpenstackConfig;
use multinic_core::ConfigKey;
use tokio::sync::watch;

use super::metrics::ClusterMetrics;
use multinic_core::brief::short;

/// Between two attempts to list and watch anew. The longest keeps an API server that comes back from waiting long for us.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What is known of the configurations.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Every configuration as it was last seen.
    pub objects: BTreeMap<ConfigKey, Arc<DynamicObject>>,
    /// Whether a complete list was ever seen. Before, nothing is known of what is not there.
    pub listed: bool,
    /// Whether a complete list is being followed by a watch: what is not there is not there now. Otherwise the objects
    /// are those of an earlier time.
    pub alive: bool,
    /// Why not.
    pub error: Option<String>,
}

/// The interface of all configurations, or of those of one namespace.
pub fn configs(client: Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<OpenstackConfig>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    }
}

/// A configuration's name.
pub fn key(object: &DynamicObject) -> ConfigKey {
    ConfigKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

/// Follows the configurations for as long as somebody looks at `view`.
///
/// After any failure it begins with a whole list, because a watch that goes on says nothing when it does: only a list tells
/// when the view is right again.
pub async fn follow(api: Api<DynamicObject>, view: watch::Sender<View>, metrics: ClusterMetrics) {
    let backoff = || {
        let (least, most) = BACKOFF;
        ExponentialBuilder::new().with_min_delay(least).with_max_delay(most).without_max_times().with_jitter()
    };
    let mut waits = backoff().build();
    loop {
        let error = {
            let mut events = pin!(watcher(api.clone(), Config::default()));
            let mut list = BTreeMap::new();
            loop {
                match events.next().await {
                    Some(Ok(Event::Init)) => list.clear(),
                    Some(Ok(Event::InitApply(object))) => {
                        list.insert(key(&object), Arc::new(object));
                    }
                    Some(Ok(Event::InitDone)) => {
                        waits = backoff().build();
                        let objects = std::mem::take(&mut list);
                        view.send_replace(View { objects, listed: true, alive: true, error: None });
                    }
                    Some(Ok(Event::Apply(object))) => view.send_modify(|view| {
                        view.objects.insert(key(&object), Arc::new(object));
                    }),
                    Some(Ok(Event::Delete(object))) => view.send_modify(|view| {
                        view.objects.remove(&key(&object));
                    }),
                    Some(Err(error)) => break short(&error),
                    None => break "the watch ended".to_owned(),
                }
            }
        };
        metrics.watch_restarts.inc();
        tracing::warn!(error = %error, "the configurations cannot be watched; nothing is removed meanwhile");
        view.send_modify(|view| {
            view.alive = false;
            view.error = Some(error);
        });
        tokio::select! {
            () = tokio::time::sleep(waits.next().unwrap_or(BACKOFF.1)) => {}
            () = view.closed() => return,
        }
    }
}

/// A reference to a configuration, for events about it.
pub fn reference(object: &DynamicObject) -> k8s_openapi::api::core::v1::ObjectReference {
    let resource = ApiResource::erase::<OpenstackConfig>(&());
    object.object_ref(&resource)
}
