//! The finalizer of a configuration: it holds the object until what it published is gone.

use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use multinic_api::{CLEANUP_FINALIZER, ORPHAN_ANNOTATION, OpenstackConfig};
use serde_json::json;

use multinic_core::brief::short;

/// Whether what is published for a configuration is to stay as it is when that goes, or moves.
pub fn is_orphan(object: &DynamicObject) -> bool {
    object.annotations().get(ORPHAN_ANNOTATION).is_some_and(|value| value.trim() != "false")
}

/// What an object's metadata ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It is to be carried out. The finalizer is there.
    Live,
    /// It is to be carried out, once it has the finalizer.
    Unguarded,
    /// Somebody deleted it: what it published is to go, then the finalizer.
    Deleted,
    /// Somebody deleted it and wants what it published to stay: the finalizer is to go.
    Orphaned,
    /// Somebody deleted it, and our finalizer is gone. It is not our affair any more.
    Gone,
}

/// What an object's metadata ask for.
pub fn wish(object: &DynamicObject) -> Wish {
    let guarded = object.finalizers().iter().any(|finalizer| finalizer == CLEANUP_FINALIZER);
    match (object.metadata.deletion_timestamp.is_some(), guarded, is_orphan(object)) {
        (false, true, _) => Wish::Live,
        (false, false, _) => Wish::Unguarded,
        (true, false, _) => Wish::Gone,
        (true, true, true) => Wish::Orphaned,
        (true, true, false) => Wish::Deleted,
    }
}

/// Adds the finalizer.
pub async fn add(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<(), kube::Error> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(CLEANUP_FINALIZER.to_owned());
    set(api, object, &finalizers).await
}

/// Takes the finalizer away. An object that is gone has none.
pub async fn remove(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<(), kube::Error> {
    let others = object.finalizers().iter().filter(|finalizer| *finalizer != CLEANUP_FINALIZER);
    let others: Vec<String> = others.cloned().collect();
    match set(api, object, &others).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        done => done,
    }
}

async fn set(
    api: &Api<DynamicObject>,
    object: &DynamicObject,
    finalizers: &[String],
) -> Result<(), kube::Error> {
    // With the version that was seen, since a merge replaces the whole list: another's finalizer is not lost.
    let patch = json!({
        "metadata": { "resourceVersion": object.resource_version(), "finalizers": finalizers }
    });
    api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// Whether the resource definition itself is being deleted, which deletes every configuration without anybody having
/// meant a single one: what they published stays.
#[derive(Debug, Clone)]
pub struct Definition(Arc<Api<CustomResourceDefinition>>);

impl Definition {
    /// The definition in this cluster.
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Api::all(client)))
    }

    /// Asks.
    pub async fn is_being_deleted(&self) -> Result<bool, String> {
        let name = OpenstackConfig::crd_name();
        let found = self.0.get_metadata_opt(name).await.map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 403 => {
                format!("the controller needs the right to get the CustomResourceDefinition {name}")
            }
            _ => format!("cannot get the CustomResourceDefinition {name}: {}", short(&error)),
        })?;
        Ok(found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ApiResource;

    use super::*;

    #[test]
    fn only_a_deletion_that_somebody_means_takes_anything_away() {
        let resource = ApiResource::erase::<OpenstackConfig>(&());
        for (deleted, finalizer, orphan, expected) in [
            (false, false, None, Wish::Unguarded),
            (false, true, None, Wish::Live),
            (false, true, Some("true"), Wish::Live),
            (true, true, None, Wish::Deleted),
            (true, true, Some("false"), Wish::Deleted),
            (true, true, Some("true"), Wish::Orphaned),
            (true, true, Some(""), Wish::Orphaned),
            (true, false, None, Wish::Gone),
        ] {
            let mut object = DynamicObject::new("a", &resource);
            if deleted {
                object.metadata.deletion_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now()));
            }
            object.metadata.finalizers = finalizer.then(|| vec![CLEANUP_FINALIZER.to_owned()]);
            if let Some(orphan) = orphan {
                object.annotations_mut().insert(ORPHAN_ANNOTATION.to_owned(), orphan.to_owned());
            }
            assert_eq!(wish(&object), expected);
        }
    }
}
