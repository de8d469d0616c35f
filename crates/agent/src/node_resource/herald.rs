//! Writes what there is to be told: the object's status, the node's label and annotation, events, and last the
//! finalizer. Only what changed is written, and what changes fast is written once.
//!
//! What somebody else made untrue is put right. The status is watched, so that is seen. A `Node` may be patched and not be
//! read: its keys are sent again from time to time, which writes nothing where they are right.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::events::{Event, Recorder, Reporter};
use multinic_api::{CLEANUP_FINALIZER, MultiNicNodeConfigStatus};
use multinic_core::MacAddr;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::access::{ApiServer, RequestError, limited};
use super::node_keys::KeyPrefixes;
use super::object::NodeObject;
use super::occasions::{held, occasions};
use super::status::{Word, status};

/// The component that events and field managers name.
const COMPONENT: &str = "multinic-agent";
/// What changes within this time is written once.
const PAUSE: Duration = Duration::from_secs(1);
/// The wait after the first failure; doubled with each in a row.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Events that could not be written; the oldest go first.
const MOST_EVENTS: usize = 32;
/// How often a write is made again after somebody else wrote in between.
const CONFLICTS: u32 = 5;

/// How often the keys of the `Node` are sent although they did not change: for ten thousand nodes that is seventeen
/// requests a second that the API server answers without writing anything.
const KEYS_AGAIN: Duration = Duration::from_secs(600);
/// How often a `Node` is looked for that is not there.
const NODE_AGAIN: Duration = Duration::from_secs(60);

const CONFLICT: u16 = 409;
const NOT_FOUND: u16 = 404;

/// The longest name of a field manager or of whoever reports an event, in bytes.
const LONGEST_NAME: usize = 128;

/// A node's name may be twice as long as a name that is made of it; it is ASCII.
fn short(mut name: String) -> String {
    name.truncate(LONGEST_NAME);
    name
}

/// What there is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What it is about; none where there is no object.
    pub object: Option<Arc<NodeObject>>,
    /// What to say.
    pub word: Word,
    /// Whether our finalizer is to go.
    pub let_go: bool,
}

/// Tells it, by and by.
#[derive(Debug)]
pub struct Herald {
    tell: watch::Sender<Option<Arc<Told>>>,
    ending: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Herald {
    /// Waits for something to be told.
    pub fn start(scribe: Scribe) -> Self {
        let (tell, told) = watch::channel(None);
        let ending = Arc::new(Notify::new());
        let task = tokio::spawn(scribe.serve(told, ending.clone()));
        Self { tell, ending, task }
    }

    /// What is to be known from now on. What was told before and is not written yet is not any more.
    pub fn tell(&self, told: Told) {
        self.tell.send_if_modified(|last| {
            let news = last.as_deref() != Some(&told);
            if news {
                *last = Some(Arc::new(told));
            }
            news
        });
    }

    /// Waits until the last word is written, but not longer than that.
    pub async fn finish(self, limit: Duration) {
        let Self { tell, ending, mut task } = self;
        drop(tell);
        ending.notify_one();
        if tokio::time::timeout(limit, &mut task).await.is_err() {
            tracing::warn!("the last report could not be written in time");
            task.abort();
        }
    }
}

/// How often the keys of the `Node` are sent although they did not change.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    /// Where there is such a `Node`.
    pub again: Duration,
    /// Where there is none.
    pub without_node: Duration,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { again: KEYS_AGAIN, without_node: NODE_AGAIN }
    }
}

/// The status that was written last.
#[derive(Clone)]
struct Written {
    uid: String,
    status: MultiNicNodeConfigStatus,
    /// The object's versions that say nothing else: that which it had before, which the watch may show still, and that
    /// which it has by the write.
    versions: [String; 2],
}

/// The keys that were sent last.
struct WrittenKeys {
    patch: Value,
    /// Whether there was a `Node` to take them.
    taken: bool,
    /// When they are sent again.
    again: Instant,
}

/// Where it is written, and what was.
pub struct Scribe {
    objects: Api<DynamicObject>,
    nodes: Api<Node>,
    recorder: Recorder,
    node: String,
    keys: KeyPrefixes,
    rounds: Rounds,
    written: Option<Written>,
    written_keys: Option<WrittenKeys>,
    held: BTreeSet<MacAddr>,
    events: Vec<Event>,
}

impl Scribe {
    /// Nothing is written yet.
    pub fn new(
        server: &ApiServer,
        objects: Api<DynamicObject>,
        node: &str,
        keys: KeyPrefixes,
        rounds: Rounds,
    ) -> Self {
        let reporter = Reporter { controller: COMPONENT.to_owned(), instance: Some(short(node.to_owned())) };
        Self {
            objects,
            nodes: Api::all(server.client.clone()),
            recorder: Recorder::new(server.client.clone(), reporter),
            node: node.to_owned(),
            keys,
            rounds,
            written: None,
            written_keys: None,
            held: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    async fn serve(mut self, mut told: watch::Receiver<Option<Arc<Told>>>, ending: Arc<Notify>) {
        let mut failures: u32 = 0;
        let mut said = String::new();
        let mut ended = false;
        while !ended {
            if failures == 0 {
                let again = self.written_keys.as_ref().map(|keys| keys.again);
                tokio::select! {
                    changed = told.changed() => ended = changed.is_err(),
                    () = until(again) => {}
                }
            }
            let Some(word) = told.borrow_and_update().clone() else { continue };
            let pause = match self.write(&word).await {
                Ok(()) => {
                    failures = 0;
                    said.clear();
                    PAUSE
                }
                Err(error) => {
                    let text = error.to_string();
                    if said != text {
                        tracing::warn!(
                            node_name = self.node,
                            error = text,
                            "the report could not be written; it is tried again"
                        );
                        said = text;
                    }
                    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
                    failures = failures.saturating_add(1);
                    FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT)
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                // Whoever waits for the last word does not wait for the pause.
                () = ending.notified() => {}
                // News is not kept waiting by what failed before.
                Ok(()) = told.changed(), if failures > 0 => sleep(PAUSE).await,
            }
        }
    }

    /// Writes what is not written yet. What cannot be written keeps nothing else from being written.
    pub async fn write(&mut self, told: &Told) -> Result<(), ReportError> {
        let Told { object, word, let_go } = told;
        let going = *let_go || *word == Word::CleanedUp;
        let status = match object {
            Some(object) => self.write_status(object, word, going).await,
            None => Ok(()),
        };
        if let Word::Passed(facts) = word {
            self.events.extend(held(facts, &self.held));
            self.held = facts.held.iter().map(|held| held.mac).collect();
        }
        let keys = self.write_keys(object.is_some(), word).await;
        let finalizer = match object.as_ref().filter(|_| *let_go) {
            Some(object) => set_finalizer(&self.objects, object, false).await,
            None => Ok(()),
        };
        status.and(keys).and(finalizer).and(self.write_events().await)
    }

    async fn write_status(
        &mut self,
        object: &NodeObject,
        word: &Word,
        going: bool,
    ) -> Result<(), ReportError> {
        let ours = self.written.clone().filter(|ours| ours.uid == object.uid);
        let before = ours.as_ref().map(|ours| ours.status.clone()).or_else(|| object.status.clone());
        let now = status(&NodeObject { status: before.clone(), ..object.clone() }, word, Timestamp::now());
        let there = match &ours {
            Some(ours) if going || ours.versions.contains(&object.resource_version) => Some(&ours.status),
            // Somebody else wrote since, or an older state of the cluster was restored.
            Some(_) | None => object.status.as_ref(),
        };
        if there == Some(&now) {
            return Ok(());
        }
        let mut versions = [object.resource_version.clone(), String::new()];
        if !going {
            let kind = NodeObject::resource();
            let patch = json!({
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                // Another object of the same name is nothing that this speaks of.
                "metadata": { "name": object.name, "uid": object.uid },
                "status": now,
            });
            let parameters = PatchParams::apply(&short(format!("{COMPONENT}/{}", self.node))).force();
            let mut conflicts = 0;
            loop {
                let patch = Patch::Apply(&patch);
                let patched = limited(self.objects.patch_status(&object.name, &parameters, &patch)).await;
                match patched {
                    Ok(patched) => {
                        let [_, version] = &mut versions;
                        *version = patched.metadata.resource_version.unwrap_or_default();
                        break;
                    }
                    Err(RequestError { code: Some(NOT_FOUND), text }) => {
                        tracing::debug!(error = text, "the object went before its status was written");
                        return Ok(());
                    }
                    // Somebody else wrote in between, or another object has this name by now.
                    Err(RequestError { code: Some(CONFLICT), text }) if conflicts < CONFLICTS => {
                        conflicts += 1;
                        if !self.is_there(object).await? {
                            tracing::debug!(error = text, "the object went before its status was written");
                            return Ok(());
                        }
                    }
                    Err(error) => return Err(ReportError { what: "the status", error }),
                }
            }
        }
        if before.as_ref() != Some(&now) {
            self.events.extend(occasions(before.as_ref(), &now, word));
        }
        self.written = Some(Written { uid: object.uid.clone(), status: now, versions });
        Ok(())
    }

    /// Whether there is still this very object, and not another one of its name.
    async fn is_there(&self, object: &NodeObject) -> Result<bool, ReportError> {
        let found = limited(self.objects.get_metadata_opt(&object.name)).await;
        let found = found.map_err(|error| ReportError { what: "the status", error })?;
        Ok(found.is_some_and(|found| found.metadata.uid.as_deref() == Some(object.uid.as_str())))
    }

    async fn write_keys(&mut self, object_is_there: bool, word: &Word) -> Result<(), ReportError> {
        let patch = match word {
            Word::Passed(facts) if object_is_there || !facts.held.is_empty() => self.keys.patch(facts),
            Word::Passed(_) | Word::CleanedUp => self.keys.removal(),
            // What is there is there still.
            Word::Refused(_) | Word::CleaningUp(_) => match &self.written_keys {
                Some(written) => written.patch.clone(),
                None => return Ok(()),
            },
        };
        let known = self.written_keys.as_ref();
        if known.is_some_and(|known| known.patch == patch && Instant::now() < known.again) {
            return Ok(());
        }
        let (parameters, merge) = (PatchParams::default(), Patch::Merge(&patch));
        let taken = match limited(self.nodes.patch_metadata(&self.node, &parameters, &merge)).await {
            Ok(_) => true,
            Err(RequestError { code: Some(NOT_FOUND), .. }) => false,
            Err(error) => return Err(ReportError { what: "the Node's label and annotation", error }),
        };
        if !taken && known.is_none_or(|known| known.taken) {
            tracing::warn!(
                node_name = self.node,
                "there is no Node of this name, so its NICs are not written to it yet"
            );
        }
        let wait = if taken { self.rounds.again } else { self.rounds.without_node };
        self.written_keys = Some(WrittenKeys { patch, taken, again: Instant::now() + wait });
        Ok(())
    }

    async fn write_events(&mut self) -> Result<(), ReportError> {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(self.node.clone()),
            // As the kubelet has it, so that `kubectl describe node` shows both.
            uid: Some(self.node.clone()),
            ..ObjectReference::default()
        };
        let surplus = self.events.len().saturating_sub(MOST_EVENTS);
        self.events.drain(..surplus);
        while let Some(event) = self.events.first() {
            match limited(self.recorder.publish(event, &about)).await {
                Ok(()) => {}
                // It was to be counted up, and somebody deleted it.
                Err(RequestError { code: Some(NOT_FOUND), .. }) => {}
                Err(error) => return Err(ReportError { what: "an event", error }),
            }
            self.events.remove(0);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Scribe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scribe").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Something could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot write {what}: {error}")]
pub struct ReportError {
    what: &'static str,
    error: RequestError,
}

/// Never, if there is no such moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Adds or removes our finalizer, and touches nobody else's.
pub async fn set_finalizer(
    objects: &Api<DynamicObject>,
    object: &NodeObject,
    held: bool,
) -> Result<(), ReportError> {
    let failed = |error| ReportError { what: "the finalizer", error };
    let mut object = object.clone();
    for _ in 0..CONFLICTS {
        if object.is_held() == held {
            return Ok(());
        }
        let mut finalizers = object.finalizers.clone();
        finalizers.retain(|name| name != CLEANUP_FINALIZER);
        finalizers.extend(held.then(|| CLEANUP_FINALIZER.to_owned()));
        // The version makes this fail if somebody else wrote in between, such as another finalizer.
        let patch = json!({
            "metadata": {
                "uid": object.uid,
                "resourceVersion": object.resource_version,
                "finalizers": finalizers,
            }
        });
        let parameters = PatchParams { field_manager: Some(COMPONENT.to_owned()), ..PatchParams::default() };
        match limited(objects.patch_metadata(&object.name, &parameters, &Patch::Merge(patch))).await {
            Ok(_) => return Ok(()),
            Err(RequestError { code: Some(NOT_FOUND), .. }) => return Ok(()),
            Err(RequestError { code: Some(CONFLICT), .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        let found = limited(objects.get_opt(&object.name)).await.map_err(failed)?;
        match found.map(NodeObject::new) {
            Some(found) if found.uid == object.uid => object = found,
            _ => return Ok(()),
        }
    }
    Err(failed(RequestError { code: Some(CONFLICT), text: "others keep writing to the object".to_owned() }))
}
