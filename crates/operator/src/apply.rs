//! Carries a plan out.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};

use crate::credentials::{SECRET, is_sealed};
use crate::desired::DATABASE;
use crate::kinds::{Key, NETWORK_POLICY};
use crate::object::{MANAGED_BY, MANAGER, Object, label};
use crate::observe::Observed;
use crate::plan::{Plan, Removal, denies_the_rest};
use crate::protection::judge::broken;
use crate::record::Record;
use crate::said::answer;
use crate::tls;
use crate::webhook::is_part;

/// Where a workload says how many pods it has.
const REPLICAS: &str = "/spec/replicas";

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
    /// What was left as it is because somebody broke the glass.
    pub held: Vec<Key>,
    /// What is as it is wanted now.
    pub written: BTreeSet<Key>,
}

impl Applied {
    /// This and what else was done.
    fn and(&mut self, other: Self) {
        let Self { live, changes, failures, differing, held, written } = other;
        self.live.extend(live);
        self.changes.extend(changes);
        self.failures.extend(failures);
        self.differing.extend(differing);
        self.held.extend(held);
        self.written.extend(written);
    }
}

/// Applies and removes.
pub async fn carry_out(client: &Client, plan: Plan, observed: &Observed) -> Applied {
    carry_out_beside(&[], client, plan, observed).await
}

/// The same where some objects are left as others made them.
async fn carry_out_beside(left: &[Key], client: &Client, plan: Plan, observed: &Observed) -> Applied {
    let Plan { apply, held, remove, keeps_scale, refused } = plan;
    let left: Vec<&Key> = held.iter().map(|object| &object.key).chain(left).collect();
    let mut applied = Applied { failures: refused, ..Applied::default() };
    let mut waiting = Vec::new();
    for object in apply {
        let failed: Vec<&Key> = applied.failures.iter().map(|(key, _)| key).collect();
        if has_to_wait(&object, &failed, &left, observed) {
            waiting.push(object);
            continue;
        }
        let key = object.key.clone();
        match write(client, object, observed.objects.get(&key), keeps_scale).await {
            Ok(Written { live, change }) => {
                applied.changes.extend(change.map(|change| (key.clone(), change)));
                let is_held = broken(&live.metadata).is_some() && !is_part(&key);
                if is_held {
                    applied.held.push(key.clone());
                } else {
                    applied.written.insert(key.clone());
                }
                applied.live.insert(key, live);
            }
            Err(why) => applied.failures.push((key, why)),
        }
    }
    let compared = compare(client, waiting).await;
    applied.and(Applied { differing: Vec::new(), failures: Vec::new(), ..compared });
    for removal in remove {
        match take_away(client, &removal).await {
            Ok(true) => applied.changes.push((removal.key, Change::Removed)),
            Ok(false) => {}
            Err(error) => applied.failures.push((removal.key, answer(&error))),
        }
    }
    let keys = held.iter().map(|object| object.key.clone()).collect();
    let compared = compare(client, held).await;
    // What others made of it may be such that nothing could be applied: it is theirs for now.
    applied.and(Applied { held: keys, differing: Vec::new(), failures: Vec::new(), ..compared });
    applied
}

/// Whether what an object needs is not there, because it could not be written or is left as it is.
fn has_to_wait(object: &Object, failed: &[&Key], left: &[&Key], observed: &Observed) -> bool {
    let is_left = |kind: &str, name: &str| left.iter().any(|key| key.is(kind, name));
    let has_failed = |kind: &str, name: &str| failed.iter().any(|key| key.is(kind, name));
    let is_there = |name: &str| observed.objects.keys().any(|key| key.is("Secret", name));
    // As long as the passwords that are wanted are not there, every turn makes others, and would start again whoever reads
    // them. A server that is left as it is asks at its next start for the accounts that it was made with.
    let lacks_passwords = is_left("Secret", SECRET)
        || has_failed("Secret", SECRET)
        || (is_left("StatefulSet", DATABASE) && is_there(SECRET));
    if lacks_passwords && (object.key.is("Secret", SECRET) || object.reads(SECRET)) {
        return true;
    }
    // Whoever is started without a certificate that it mounts does not come up.
    let lacks_certificate = has_failed("Secret", tls::SECRET) && !is_there(tls::SECRET);
    if lacks_certificate && object.reads(tls::SECRET) {
        return true;
    }
    denies_the_rest(&object.key) && failed.iter().any(|key| key.kind.name == NETWORK_POLICY)
}

/// An object that is as it is wanted now, or left as it is.
struct Written {
    live: DynamicObject,
    change: Option<Change>,
}

/// So many others may be faster in the time of one write.
const ATTEMPTS: usize = 5;

async fn write(
    client: &Client,
    object: Object,
    seen: Option<&ObjectMeta>,
    keeps_scale: bool,
) -> Result<Written, String> {
    let is_secret = object.key.kind.name == "Secret";
    let written = match (is_secret, seen) {
        (true, seen) => write_secret(client, object, seen).await?,
        (false, seen) => write_over(client, object, seen, keeps_scale).await,
    };
    written.map_err(|error| answer(&error))
}

/// Writes a Secret over that which was seen, or where there is none. What is in it follows from what was read: a later one is
/// newer, and the next turn begins with that. One that the operator has not made is somebody else's.
async fn write_secret(
    client: &Client,
    object: Object,
    seen: Option<&ObjectMeta>,
) -> Result<Result<Written, kube::Error>, String> {
    let key = &object.key;
    let mut before = seen.cloned();
    if before.is_none() {
        let api = key.api(client.clone());
        let failed = |error: kube::Error| answer(&error);
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let there = match api.get_opt(&key.name).await.map_err(failed)? {
            Some(there) if label(&there.metadata, MANAGED_BY).is_some_and(|by| by == MANAGER) => {
                return Err("it was made meanwhile, and is looked at again".to_owned());
            }
            // Somebody took its labels.
            Some(there) if is_written_by_us(&there.metadata) => there,
            Some(_) => return Err(NOT_OURS.to_owned()),
            None => api.create(&parameters, &object.empty()).await.map_err(failed)?,
        };
        before = Some(there.metadata);
    }
    let object = object.over(before.as_ref().and_then(|before| before.resource_version.as_deref()));
    let put = put(client, &object).await;
    Ok(put.map(|live| {
        let change = match seen {
            None => Some(Change::Made),
            Some(before) => (!is_same(before, &live.metadata)).then_some(Change::Changed),
        };
        Written { live, change }
    }))
}

/// Why a Secret is left alone.
const NOT_OURS: &str = "it was not made by this operator, which neither changes nor uses it: give it another name, or delete it if \
                        nobody needs it";

fn is_written_by_us(metadata: &ObjectMeta) -> bool {
    metadata.managed_fields.iter().flatten().any(|entry| entry.manager.as_deref() == Some(MANAGER))
}

/// Writes over what was seen, and nothing else: somebody who broke the glass, or scaled where he may, after that is not
/// overwritten.
async fn write_over(
    client: &Client,
    mut object: Object,
    seen: Option<&ObjectMeta>,
    keeps_scale: bool,
) -> Result<Written, kube::Error> {
    let keeps_scale = keeps_scale && object.content.pointer(REPLICAS).is_some();
    let mut before = seen.cloned();
    let mut has_to_look = keeps_scale;
    let mut attempt = 1;
    loop {
        if has_to_look {
            let there = object.key.api(client.clone()).get_opt(&object.key.name).await?;
            if let Some(live) = there.as_ref().filter(|live| broken(&live.metadata).is_some())
                && !is_part(&object.key)
            {
                return Ok(Written { live: live.clone(), change: None });
            }
            let scale = there.as_ref().and_then(|live| live.data.pointer(REPLICAS).cloned());
            if let (true, Some(scale), Some(wanted)) =
                (keeps_scale, scale, object.content.pointer_mut(REPLICAS))
            {
                *wanted = scale;
            }
            before = there.map(|live| live.metadata);
        }
        object = object.over(before.as_ref().and_then(|before| before.resource_version.as_deref()));
        match put_or_remake(client, &object).await {
            Ok(live) => {
                let change = match before {
                    None => Some(Change::Made),
                    Some(before) => (!is_same(&before, &live.metadata)).then_some(Change::Changed),
                };
                return Ok(Written { live, change });
            }
            // It changed meanwhile, or went.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) && attempt < ATTEMPTS => {
                (has_to_look, attempt) = (true, attempt + 1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether an object was as it was wanted. API servers write a claim anew that nobody changed: then all is as it was but for the
/// version, and so is the time at which we wrote it last.
fn is_same(before: &ObjectMeta, live: &ObjectMeta) -> bool {
    let [old, new] = [before, live].map(|it| ObjectMeta { resource_version: None, ..it.clone() });
    before.resource_version == live.resource_version || old == new
}

/// Whether an object is kept right also where others are left as they are: what is wanted of it changes by itself.
fn is_always_right(key: &Key) -> bool {
    let is_of_tls = key.is("Secret", tls::SECRET);
    is_part(key) || is_of_tls || key.kind.name == NETWORK_POLICY
}

/// Carries out what has to be right always and what is wanted otherwise than it was carried out last, and looks what the rest would
/// change.
pub async fn look(client: &Client, plan: Plan, observed: &Observed, record: &Record) -> Applied {
    let Plan { apply, held, remove, keeps_scale, refused } = plan;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for object in apply {
        let is_there = observed.objects.contains_key(&object.key);
        let is_step = record.is_step(&object, is_there) && !is_spoiled(client, &object.key, record).await;
        let place = if is_step || is_always_right(&object.key) { &mut own } else { &mut others };
        place.push(object);
    }
    let remove = remove.into_iter().filter(|it| is_always_right(&it.key) || record.has(&it.key)).collect();
    let compared = compare(client, others).await;
    let own = Plan { apply: own, held, remove, keeps_scale, refused };
    let mut applied = carry_out_beside(&compared.differing, client, own, observed).await;
    applied.and(compared);
    applied
}

/// Whether somebody else changed or took the passwords, which the operator knows from there only: what it wants then follows from
/// that, and is no step of its own.
async fn is_spoiled(client: &Client, key: &Key, record: &Record) -> bool {
    if !key.is("Secret", SECRET) || !record.has(key) {
        return false;
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), key.namespace.as_deref().unwrap_or_default());
    match secrets.get_opt(SECRET).await {
        Ok(secret) => secret.is_none_or(|secret| !is_sealed(&secret)),
        // As long as nobody knows.
        Err(_) => true,
    }
}

/// Looks what applying objects would change, and changes nothing.
async fn compare(client: &Client, objects: Vec<Object>) -> Applied {
    let mut compared = Applied::default();
    for object in objects {
        match would_be(client, &object).await {
            Ok(Some((there, wanted))) => {
                if content(&there) != content(&wanted) {
                    compared.differing.push(object.key.clone());
                }
                compared.live.insert(object.key, there);
            }
            Ok(None) => compared.differing.push(object.key),
            // It cannot be changed into what is wanted.
            Err(kube::Error::Api(status)) if status.code == 422 => compared.differing.push(object.key),
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
    put(client, &object.clone().over(None)).await
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
