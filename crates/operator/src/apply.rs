//! Carries a plan out.

use std::collections::BTreeMap;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt as _};

use crate::kinds::Key;
use crate::object::{MANAGER, Object};
use crate::observe::Observed;
use crate::plan::{Plan, Removal};
use crate::said::answer;

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Made,
    /// It was otherwise.
    Changed,
    /// It was there.
    Removed,
}

/// What a plan came to.
#[derive(Debug, Default)]
pub struct Applied {
    /// Every object that was applied, as it is now.
    pub live: BTreeMap<Key, DynamicObject>,
    /// What was done; nothing is listed that was right before.
    pub changes: Vec<(Key, Change)>,
    /// What could not be done, and why. The rest is done nevertheless.
    pub failures: Vec<(Key, String)>,
    /// What is otherwise than wanted, or not there, and was left so.
    pub differing: Vec<Key>,
}

/// Applies and removes.
pub async fn carry_out(client: &Client, plan: Plan, observed: &Observed) -> Applied {
    let Plan { apply, remove, refused } = plan;
    let mut applied = Applied { failures: refused, ..Applied::default() };
    for object in apply {
        let before = observed.objects.get(&object.key).and_then(|metadata| metadata.resource_version.clone());
        match put_or_remake(client, &object).await {
            Ok(live) => {
                match before {
                    None => applied.changes.push((object.key.clone(), Change::Made)),
                    before if before != live.metadata.resource_version => {
                        applied.changes.push((object.key.clone(), Change::Changed));
                    }
                    _ => {}
                }
                applied.live.insert(object.key, live);
            }
            Err(error) => applied.failures.push((object.key, answer(&error))),
        }
    }
    for removal in remove {
        match take_away(client, &removal).await {
            Ok(true) => applied.changes.push((removal.key, Change::Removed)),
            Ok(false) => {}
            Err(error) => applied.failures.push((removal.key, answer(&error))),
        }
    }
    applied
}

/// Looks what applying a plan would change, and changes nothing.
pub async fn compare(client: &Client, plan: Plan) -> Applied {
    let Plan { apply, remove: _, refused } = plan;
    let mut compared = Applied { failures: refused, ..Applied::default() };
    for object in apply {
        match would_be(client, &object).await {
            Ok(Some((there, wanted))) => {
                if content(&there) != content(&wanted) {
                    compared.differing.push(object.key.clone());
                }
                compared.live.insert(object.key, there);
            }
            Ok(None) => compared.differing.push(object.key),
            Err(error) => compared.failures.push((object.key, answer(&error))),
        }
    }
    compared
}

/// An object as it is and as it would be, if it is there.
async fn would_be(
    client: &Client,
    object: &Object,
) -> Result<Option<(DynamicObject, DynamicObject)>, kube::Error> {
    let api = object.key.api(client.clone());
    let Some(there) = api.get_opt(&object.key.name).await? else { return Ok(None) };
    let parameters = PatchParams::apply(MANAGER).force().dry_run();
    let wanted = api.patch(&object.key.name, &parameters, &Patch::Apply(&object.content)).await?;
    Ok(Some((there, wanted)))
}

/// All of an object that somebody wants: neither what the API server counts nor what is told of it.
fn content(object: &DynamicObject) -> DynamicObject {
    let mut object = object.clone();
    object.metadata.managed_fields = None;
    object.metadata.resource_version = None;
    object.metadata.generation = None;
    if let Some(fields) = object.data.as_object_mut() {
        fields.remove("status");
    }
    object
}

/// Kinds of which others keep what is of value: pods' data are on volumes, and rights are in roles. One that cannot be changed
/// into what is wanted is made anew.
const REMADE: [&str; 3] = ["StatefulSet", "RoleBinding", "ClusterRoleBinding"];

async fn put_or_remake(client: &Client, object: &Object) -> Result<DynamicObject, kube::Error> {
    let refusal = match put(client, object).await {
        Err(kube::Error::Api(status)) if status.code == 422 && is_immutable(&status.message) => status,
        done => return done,
    };
    let key = &object.key;
    let there = key.api(client.clone()).get(&key.name).await?;
    let is_anothers = there.owner_references().iter().any(|owner| owner.kind != "MultiNicOperator");
    if is_anothers || !REMADE.contains(&key.kind.name) {
        return Err(kube::Error::Api(refusal));
    }
    tracing::info!(object = %key, "it cannot be changed into what is wanted, and is made anew");
    take_away(client, &Removal { key: key.clone(), uid: there.uid() }).await?;
    put(client, object).await
}

/// What an API server says of fields that nobody can change, and of nothing else.
fn is_immutable(message: &str) -> bool {
    ["updates to statefulset spec for fields other than", "cannot change roleRef", "field is immutable"]
        .iter()
        .any(|words| message.contains(words))
}

/// By server-side apply: what is wanted is so afterwards, what was wanted before and is not any more goes, and an object that
/// is as it is wanted is not written.
async fn put(client: &Client, object: &Object) -> Result<DynamicObject, kube::Error> {
    let parameters = PatchParams::apply(MANAGER).force();
    let api = object.key.api(client.clone());
    api.patch(&object.key.name, &parameters, &Patch::Apply(&object.content)).await
}

/// Removes an object, unless another is there under its name by now. Whether it was there.
///
/// # Errors
/// Where the API server refuses.
pub async fn take_away(client: &Client, removal: &Removal) -> Result<bool, kube::Error> {
    let Removal { key, uid } = removal;
    let parameters = DeleteParams::background()
        .preconditions(Preconditions { uid: uid.clone(), ..Preconditions::default() });
    match key.api(client.clone()).delete(&key.name, &parameters).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(error),
    }
}
