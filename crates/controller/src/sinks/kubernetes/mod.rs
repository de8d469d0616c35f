//! Publishes nodes as `MultiNicNodeConfig` objects, in this cluster or another.
//!
//! * `deliver`: wish by wish, what is there is compared with what is to be.
//! * `object`: the object that a wish asks for.
//! * `table`: what is there, by a watch, and what was last wanted; an unchanged node costs a look.
//! * `writer`: apply, delete, let go, with retries.
//! * `takeover`: how `spec.interfaces` becomes ours alone.
//! * [`ledger`]: which ledger an object was written from, and what may be taken out of one that is ahead of ours.
//! * [`memory`]: what the objects remember, for a controller that lost its ledger.
//! * [`kubeconfig`]: another cluster.

mod deliver;
pub mod kubeconfig;
pub mod ledger;
pub mod memory;
pub(crate) mod object;
mod table;
pub(crate) mod takeover;
pub(crate) mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, ObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource as _};
use multinic_api::{CLEANUP_FINALIZER, MultiNicNodeConfig, MultiNicNodeConfigStatus};
use multinic_core::desired::Position;
use multinic_core::published::PublishedInterface;
use multinic_core::{NodeName, ServerId};
use secrecy::SecretString;
use tokio::task::JoinHandle;

use self::ledger::Ledger;
use self::memory::Memory;
use self::table::{Table, Wanted};
use self::writer::{Removal, Writer, is_ours};
use super::SinkError;
use super::said::causes;

/// How many objects one list request asks for.
const PAGE: u32 = 500;
/// How long the answer to one may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Publishes to one namespace of one cluster.
#[derive(Debug)]
pub struct KubernetesSink {
    place: String,
    manager: String,
    objects: Objects,
    writer: Writer,
    table: Arc<Table>,
    watch: JoinHandle<()>,
}

/// What the sink reads with.
struct Objects {
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Nova's answer 404 for a server: what allows to let go of a node that can no longer clean up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerGone {
    /// The server.
    pub server: ServerId,
}

/// What became of a node's object at a place that its configurations have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// It is gone.
    Gone,
    /// It is deleted, and the node's agent still cleans up.
    Releasing,
    /// It stays: it is not the place's own, but what stands at another.
    Kept,
    /// It stays for now: the node's agent looks at it, and not yet at the one elsewhere.
    Read,
}

/// What a node's agent reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// The name of the object, which is the node's.
    pub node: String,
    /// The generation of the object's spec; a status with another `observedGeneration` speaks of an older one.
    pub generation: i64,
    /// The status.
    pub status: MultiNicNodeConfigStatus,
}

impl KubernetesSink {
    /// Begins to watch the namespace. Must be called within a tokio runtime, with a client of [`kubeconfig::client_of`].
    pub fn new(client: Client, namespace: &str, field_manager: &str) -> Self {
        let table = Arc::new(Table::new(field_manager));
        let watch = tokio::spawn(follow(Api::namespaced(client.clone(), namespace), Arc::clone(&table)));
        Self {
            place: format!("namespace {namespace}"),
            manager: field_manager.to_owned(),
            writer: Writer::new(Api::namespaced(client.clone(), namespace), field_manager),
            objects: Objects { client, namespace: namespace.to_owned() },
            table,
            watch,
        }
    }

    /// The same in the cluster of a kubeconfig, which comes from a Secret.
    ///
    /// # Errors
    /// Where it cannot be used; see [`kubeconfig::config`].
    pub async fn for_kubeconfig(
        kubeconfig: &SecretString,
        namespace: &str,
        field_manager: &str,
    ) -> Result<Self, SinkError> {
        Ok(Self::new(kubeconfig::client(kubeconfig).await?, namespace, field_manager))
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.objects.namespace
    }

    /// Returns once it is known what is there. Deliveries before that fail.
    pub async fn until_read(&self) {
        self.table.until_read().await;
    }

    /// Returns when an object of ours was edited or deleted by somebody else since the last time: deliver again.
    pub async fn drifted(&self) {
        self.table.drifted().await;
    }

    /// Nodes whose objects were written from another ledger than the one that stands there, or from a newer state of it. None
    /// while it is not known what is there.
    pub fn ahead_of(&self, position: &Position) -> Option<BTreeSet<String>> {
        self.table.is_read().ok()?;
        let ledger = ledger::mark(position);
        let ahead = self.table.each(|name, seen| seen.is_ahead_of(ledger).then(|| name.to_owned()));
        Some(ahead.into_iter().collect())
    }

    /// Nodes whose objects are being deleted and whose agents still clean up: their slots are not free.
    pub fn releasing(&self) -> Vec<String> {
        self.table.each(|name, seen| (seen.ours && seen.deleting).then(|| name.to_owned()))
    }

    /// What every node's agent reported last.
    pub fn statuses(&self) -> Vec<NodeStatus> {
        self.table.each(|name, seen| {
            let status = serde_json::from_str(seen.status.as_deref()?).ok()?;
            Some(NodeStatus { node: name.to_owned(), generation: seen.generation, status })
        })
    }

    /// The object of a node, read from the API server.
    ///
    /// # Errors
    /// Where the API server refuses or fails.
    pub async fn object(&self, node: &NodeName) -> Result<Option<MultiNicNodeConfig>, SinkError> {
        self.writer.get(node.as_str()).await
    }

    /// Whether somebody else wrote an object too: another publisher at the same place.
    pub fn is_shared(&self, object: &MultiNicNodeConfig) -> bool {
        let fields = object.meta().managed_fields.as_deref().unwrap_or_default();
        takeover::is_written_beside(fields, &self.manager)
    }

    /// Deletes the object of a node that its configurations publish `elsewhere` now. One that is among those by its uid stands
    /// there: two names can lead to one place. So does one that somebody else writes too, where `shared` says that it may be
    /// he whom they publish through now.
    ///
    /// An agent looks at one object, and would take the NICs of a deleted one away: where it holds this one, it must hold
    /// another first. Then it does not see this one any more, and its finalizer goes too.
    ///
    /// # Errors
    /// Where the API server refuses or fails, or the object is not ours.
    pub async fn take_leave(
        &self,
        node: &NodeName,
        elsewhere: &[MultiNicNodeConfig],
        shared: bool,
        ledger: &Ledger,
    ) -> Result<Farewell, SinkError> {
        let Some(there) = self.object(node).await? else { return Ok(Farewell::Gone) };
        let uid = there.meta().uid.clone();
        if elsewhere.iter().any(|other| other.meta().uid == uid) || (shared && self.is_shared(&there)) {
            return Ok(Farewell::Kept);
        }
        let adopted = elsewhere
            .iter()
            .any(|other| is_held(other.meta()) && other.spec.instance_id == there.spec.instance_id);
        if is_held(there.meta()) && !elsewhere.is_empty() && !adopted {
            return Ok(Farewell::Read);
        }
        ledger.may_go(node, &there)?;
        // Nobody who looks here misses it.
        self.table.want(node.as_str(), Wanted { fingerprint: 0, content: None, mark: None });
        let same = |object: &MultiNicNodeConfig| {
            self.writer.wrote(object) && object.meta().uid == uid && !(shared && self.is_shared(object))
        };
        match self.writer.delete(node.as_str(), same).await? {
            Removal::Releasing if adopted => {
                let dropped =
                    self.writer.drop_finalizer(node.as_str(), |object| object.meta().uid == uid).await?;
                Ok(if dropped { Farewell::Gone } else { Farewell::Releasing })
            }
            Removal::Releasing => Ok(Farewell::Releasing),
            Removal::Absent | Removal::Gone => Ok(Farewell::Gone),
        }
    }

    /// Everything that the objects remember, read from the API server, page by page. All of it or an error.
    ///
    /// # Errors
    /// Where a page or an object cannot be read.
    pub async fn memory(&self) -> Result<Memory, SinkError> {
        let objects: Api<MultiNicNodeConfig> =
            Api::namespaced(self.objects.client.clone(), &self.objects.namespace);
        let mut memory = Memory::default();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = tokio::time::timeout(ANSWER, objects.list(&page)).await;
            let list = list.map_err(|_| self.unanswered())?.map_err(|error| self.read_error(&error))?;
            for object in &list.items {
                memory.add(object, is_ours(object.meta(), &self.manager))?;
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(memory),
            }
        }
    }

    /// The NICs of ours whose configuration is known: [`Memory::interfaces`].
    ///
    /// # Errors
    /// As [`Self::memory`].
    pub async fn published(&self) -> Result<Vec<PublishedInterface>, SinkError> {
        Ok(self.memory().await?.interfaces)
    }

    /// Whether there is a `Node` of this name.
    ///
    /// # Errors
    /// Where the API server refuses or fails.
    pub async fn is_node_there(&self, node: &NodeName) -> Result<bool, SinkError> {
        let nodes: Api<Node> = Api::all(self.objects.client.clone());
        let found = nodes.get_metadata_opt(node.as_str()).await.map_err(|error| self.read_error(&error))?;
        Ok(found.is_some())
    }

    /// Lets go of a node that will never clean up: its server is gone, its Node object too, and its object is being
    /// deleted. Takes the agent's finalizer away and returns whether it did. Nothing happens where one of these is not so.
    ///
    /// # Errors
    /// Where the API server refuses or fails.
    pub async fn release_gone_node(&self, node: &NodeName, proof: &ServerGone) -> Result<bool, SinkError> {
        if self.is_node_there(node).await? {
            return Ok(false);
        }
        let dropped = self.writer.drop_finalizer(node.as_str(), |object| {
            let server = object.spec.instance_id.as_deref().unwrap_or_default();
            self.writer.wrote(object) && server.eq_ignore_ascii_case(proof.server.as_str())
        });
        let dropped = dropped.await?;
        if dropped {
            tracing::info!(node_name = %node, "its server and its Node object are gone: its finalizer was taken away");
        }
        Ok(dropped)
    }

    fn unanswered(&self) -> SinkError {
        let problem = format!("no answer within {} s", ANSWER.as_secs());
        SinkError::Kubernetes { action: "read", object: self.place.clone(), problem, status: None }
    }

    fn read_error(&self, error: &kube::Error) -> SinkError {
        let (problem, status) = match error {
            kube::Error::Api(answer) => (super::said::line(&answer.message), Some(answer.code)),
            other => (causes(other), None),
        };
        SinkError::Kubernetes { action: "read", object: self.place.clone(), problem, status }
    }
}

impl Drop for KubernetesSink {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Whether a node's agent holds an object.
fn is_held(meta: &ObjectMeta) -> bool {
    meta.finalizers.iter().flatten().any(|finalizer| finalizer == CLEANUP_FINALIZER)
}

async fn follow(objects: Api<DeserializeGuard<MultiNicNodeConfig>>, table: Arc<Table>) {
    let config = watcher::Config::default().page_size(PAGE);
    // The default waits up to 30 s; a lost object is to be put back sooner.
    let waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times();
    let waits = watcher::ExponentialBackoff::from(waits);
    let mut events = std::pin::pin!(watcher(objects, config).backoff(waits));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => table.take(event),
            Err(error) => {
                let problem = causes(&error);
                tracing::warn!(
                    error = problem,
                    "the watch of MultiNicNodeConfigs failed; it goes on by itself"
                );
                table.failed(problem);
            }
        }
    }
}
