//! What configurations and nodes lay claim to: seen beside one another, a new one may contradict those that there are.
//!
//! * [`configurations`]: VMs and subnets. [`nodes`]: hardware addresses. Both pure.
//! * Here: what there is, as the API server tells it.

pub mod configurations;
pub mod nodes;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::{Stream, StreamExt as _};
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Error, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use multinic_api::{MultiNicNodeConfig, OpenstackConfig};
use multinic_core::brief::short;
use tokio::task::JoinSet;

use self::configurations::Configuration;
use self::nodes::Node;

/// `namespace/name`.
pub type Name = (String, String);

/// All claims. Nothing of an object is kept but what is compared: a configuration may hold a password.
#[derive(Default)]
pub struct Claims {
    configurations: Table<Configuration>,
    nodes: Table<Node>,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}

impl Claims {
    /// Follows what there is, in tasks of their own for as long as the set lives: configurations everywhere, nodes in the
    /// namespace.
    pub(crate) fn follow(self: &Arc<Self>, client: &Client, namespace: &str) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let configurations = Api::all_with(client.clone(), &ApiResource::erase::<OpenstackConfig>(&()));
        let nodes =
            Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<MultiNicNodeConfig>(&()));
        let claims = Arc::clone(self);
        tasks.spawn(async move {
            claims.configurations.fill(watcher(configurations, Config::default()), Configuration::of).await;
        });
        let claims = Arc::clone(self);
        tasks.spawn(async move { claims.nodes.fill(watcher(nodes, Config::default()), Node::of).await });
        tasks
    }

    /// What is to be said of an object that is new, or changed.
    pub fn warnings(&self, kind: &str, object: &DynamicObject) -> Vec<String> {
        let name = name(object);
        match kind {
            "OpenstackConfig" => Configuration::of(object)
                .map(|it| self.configurations.read(|all| configurations::warnings(&name, &it, all))),
            "MultiNicNodeConfig" => {
                Node::of(object).map(|it| self.nodes.read(|all| nodes::warnings(&name, &it, all)))
            }
            _ => None,
        }
        .unwrap_or_default()
    }
}

fn name(object: &DynamicObject) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Claims by the objects that make them.
struct Table<T>(RwLock<BTreeMap<Name, T>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> Table<T> {
    fn read<R>(&self, look: impl FnOnce(&BTreeMap<Name, T>) -> R) -> R {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut BTreeMap<Name, T>)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    async fn fill(
        &self,
        events: impl Stream<Item = Result<Event<DynamicObject>, Error>> + Send,
        parse: impl Fn(&DynamicObject) -> Option<T>,
    ) {
        let mut events = std::pin::pin!(events.default_backoff());
        let mut listed = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed = BTreeMap::new(),
                Ok(Event::InitApply(object)) => {
                    listed.extend(parse(&object).map(|claim| (name(&object), claim)));
                }
                Ok(Event::InitDone) => {
                    let listed = std::mem::take(&mut listed);
                    self.write(|all| *all = listed);
                }
                Ok(Event::Apply(object)) => self.write(|all| {
                    match parse(&object) {
                        Some(claim) => all.insert(name(&object), claim),
                        None => all.remove(&name(&object)),
                    };
                }),
                Ok(Event::Delete(object)) => self.write(|all| drop(all.remove(&name(&object)))),
                Err(error) => {
                    tracing::warn!(error = %short(&error), "a watch of claims ended; it is begun anew");
                }
            }
        }
    }
}
