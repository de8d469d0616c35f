//! What operators have made so far.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};

use crate::kinds::{KINDS, Key, Kind};
use crate::object::selector;

/// Lists of one kind in one place are read in pages of so many.
const PAGE: u32 = 500;

/// Everything that an operator made, by its metadata: what is in a Secret does not have to be read to know that it is there.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// By key. Objects of operators in other namespaces are among them where these are of the whole cluster.
    pub objects: BTreeMap<Key, ObjectMeta>,
}

/// A list that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot list {plural} in {place}: {source}")]
pub struct ObserveError {
    plural: &'static str,
    place: String,
    source: kube::Error,
}

/// Where the metadata of a kind's objects is.
pub(crate) fn metadata_of(
    client: Client,
    kind: &Kind,
    place: Option<&str>,
) -> Api<PartialObjectMeta<DynamicObject>> {
    match place {
        Some(namespace) => Api::namespaced_with(client, namespace, &kind.resource()),
        None => Api::all_with(client, &kind.resource()),
    }
}

/// Reads everything, as it is now. One list that cannot be read is an error: what it lacks would look as if it were not there.
///
/// # Errors
/// Where the API server does not answer, or refuses.
pub async fn observe(client: &Client, namespace: &str) -> Result<Observed, ObserveError> {
    let places = KINDS.iter().flat_map(|kind| kind.places(namespace).into_iter().map(move |it| (kind, it)));
    let lists = try_join_all(places.map(|(kind, place)| list(client, kind, place))).await?;
    Ok(Observed { objects: lists.into_iter().flatten().collect() })
}

async fn list(
    client: &Client,
    kind: &'static Kind,
    place: Option<&str>,
) -> Result<Vec<(Key, ObjectMeta)>, ObserveError> {
    let api = metadata_of(client.clone(), kind, place);
    let failed = |source| ObserveError {
        plural: kind.plural,
        place: place.map_or("the cluster".to_owned(), |namespace| format!("the namespace {namespace}")),
        source,
    };
    let mut parameters = ListParams::default().labels(&selector()).limit(PAGE);
    let mut objects = Vec::new();
    loop {
        let page = api.list(&parameters).await.map_err(failed)?;
        for object in page.items {
            let metadata = object.metadata;
            let Some(name) = metadata.name.clone() else { continue };
            objects.push((Key { kind, namespace: metadata.namespace.clone(), name }, metadata));
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(objects),
        }
    }
}
