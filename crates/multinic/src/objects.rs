//! Objects of a kind, deleted and waited for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::{Api, Client, Resource as _, ResourceExt as _};

/// How often it is looked whether something is gone.
pub const PAUSE: Duration = Duration::from_secs(1);

/// All objects of a kind, of one namespace or of all.
pub struct Kind {
    name: String,
    client: Client,
    resource: ApiResource,
    namespace: Option<String>,
}

impl Kind {
    pub fn everywhere(client: Client, resource: &ApiResource) -> Self {
        Self { name: resource.kind.clone(), client, resource: resource.clone(), namespace: None }
    }

    pub fn within(client: Client, namespace: &str, resource: &ApiResource) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::everywhere(client, resource) }
    }

    fn api(&self) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &self.resource),
            None => Api::all_with(self.client.clone(), &self.resource),
        }
    }

    /// What there is, with what it says of itself. Without its definition there is none.
    async fn list(&self) -> Result<Vec<DynamicObject>, kube::Error> {
        match self.api().list(&ListParams::default()).await {
            Ok(list) => Ok(list.items),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Deletes what there is and waits until it is gone; what is left at the deadline, with its state. What fails is tried again
    /// until then, but for what is forbidden: a read that fails is no proof that nothing is there.
    pub async fn delete_all(&self, deadline: Instant) -> anyhow::Result<BTreeMap<String, String>> {
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        loop {
            match self.list().await {
                Ok(there) => {
                    let now: BTreeMap<_, _> = there.iter().map(|it| (self.label(it), state(it))).collect();
                    for gone in known.keys().filter(|name| !now.contains_key(*name)) {
                        println!("gone: {gone}");
                    }
                    known = now;
                    if known.is_empty() {
                        return Ok(known);
                    }
                    for object in there.iter().filter(|it| it.meta().deletion_timestamp.is_none()) {
                        match self.delete(object).await {
                            Ok(()) => {}
                            Err(kube::Error::Api(status)) if status.code == 403 => {
                                let what = format!("cannot delete {}", self.label(object));
                                return Err(kube::Error::Api(status)).context(what);
                            }
                            Err(error) => {
                                println!("cannot delete {}, trying again: {error}", self.label(object));
                            }
                        }
                    }
                }
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("cannot list {}s", self.name));
                }
                Err(error) => println!("cannot list {}s, trying again: {error}", self.name),
            }
            if Instant::now() > deadline {
                return Ok(known);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn delete(&self, object: &DynamicObject) -> Result<(), kube::Error> {
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, &self.resource);
        match api.delete(&object.name_any(), &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn label(&self, object: &DynamicObject) -> String {
        format!("{} {}/{}", self.name, object.namespace().unwrap_or_default(), object.name_any())
    }
}

/// What a person needs to know of an object that stays: the message of its condition Ready.
fn state(object: &DynamicObject) -> String {
    let conditions = object.data.pointer("/status/conditions").and_then(|list| list.as_array());
    let ready = conditions.and_then(|list| list.iter().find(|one| one["type"] == "Ready"));
    let message = ready.and_then(|one| one["message"].as_str()).unwrap_or("it says nothing");
    let finalizers = object.finalizers().join(", ");
    format!("{message} (finalizers: {finalizers})")
}
