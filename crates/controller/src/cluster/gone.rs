//! Nodes that will never clean up. A deleted object waits for its node's agent; once Nova says that the server is gone, and
//! there is no `Node` object either, nobody is left whom it could wait for.
//!
//! The looks at clusters and clouds are tasks: no turn waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use multinic_core::{ConfigKey, NodeName, ProjectId, ServerId};
use multinic_openstack::Cloud;
use multinic_store::{Removed, StoreError};

use super::conditions::Undelivered;
use super::deliver::Deliverer;
use super::placement::Target;
use super::reconciler::{AT_ONCE, Reconciler, sooner};
use crate::errands::Errands;
use crate::sinks::KubernetesSink;
use crate::sinks::kubernetes::ServerGone;

/// Between two looks at a node whose agent has not cleaned up yet: at first, and doubled each time up to the longest. Mostly
/// the agent is at work, and its `Node` is there.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How long such a look may take. Where one took longer, no other is begun in the same go.
const LOOK: Duration = Duration::from_secs(10);

/// An object that is deleted and still there.
type Place = (Target, NodeName);

/// Whose nodes are looked at in one go: nobody waits for the cluster or the cloud of another.
type Whose = (Target, ConfigKey);

/// Objects that wait for their nodes' agents, and the looks at them.
#[derive(Debug, Default)]
pub(super) struct Gone {
    waiting: BTreeMap<Place, Look>,
    /// What came of each node that was looked at: for what it waits although its `Node` is gone, or nothing.
    errands: Errands<Whose, Whose, Vec<(NodeName, Option<String>)>>,
}

/// When such an object is looked at, and what came of it.
#[derive(Debug)]
struct Look {
    at: Instant,
    wait: Duration,
    /// Whose NICs wait, as far as that is known.
    owner: Option<ConfigKey>,
    /// Whether a look has come to its end.
    ended: bool,
    /// Why they wait, where the `Node` is gone.
    problem: Option<String>,
}

/// Nodes that are looked at in one go, and where their objects are.
type Batch = (Arc<KubernetesSink>, Vec<(NodeName, Lost)>);

/// What the ledger knows of a node that lost everything.
#[derive(Clone)]
struct Lost {
    server: ServerId,
    project: ProjectId,
    owner: ConfigKey,
}

impl Gone {
    /// Returns when a look has come to its end.
    pub async fn come(&mut self) {
        self.errands.come().await;
    }

    /// Whether it is not known yet if somebody cleans up all nodes of a configuration.
    pub fn is_undecided(&self, owner: &ConfigKey) -> bool {
        self.waiting.values().any(|look| !look.ended && look.owner.as_ref() == Some(owner))
    }

    /// Takes in what is deleted and still there. Returns what is due to be looked at.
    fn due(&mut self, all: BTreeMap<Place, Arc<KubernetesSink>>) -> Vec<(Place, Arc<KubernetesSink>)> {
        let Self { waiting, errands } = self;
        let now = Instant::now();
        waiting.retain(|place, _| all.contains_key(place));
        let is_due = |(place, _): &(Place, _)| {
            let first = || Look { at: now, wait: FIRST_WAIT, owner: None, ended: false, problem: None };
            let look = waiting.entry(place.clone()).or_insert_with(first);
            let due = look.at <= now && !look.is_under_way(place, errands);
            if due {
                look.at = now + look.wait;
                look.wait = (look.wait * 2).min(LONGEST_WAIT);
            }
            due
        };
        all.into_iter().filter(is_due).collect()
    }

    /// Takes in what has come.
    fn take(&mut self) {
        for ((target, _), looks) in self.errands.take() {
            for (node, problem) in looks {
                if let Some(look) = self.waiting.get_mut(&(target.clone(), node)) {
                    (look.ended, look.problem) = (true, problem);
                }
            }
        }
    }
}

impl Look {
    fn is_under_way<T: Send + 'static>(
        &self,
        (target, _): &Place,
        errands: &Errands<Whose, Whose, T>,
    ) -> bool {
        self.owner.as_ref().is_some_and(|owner| errands.is_under_way(&(target.clone(), owner.clone())))
    }
}

impl Deliverer {
    /// Objects that are deleted and still there.
    fn unreleased(&self) -> BTreeMap<Place, Arc<KubernetesSink>> {
        let mut all = BTreeMap::new();
        for (target, cluster) in &self.memory.sinks {
            let marked = cluster.sink.releasing().into_iter().filter_map(|name| name.parse().ok());
            // The watch may not have shown yet what was just deleted.
            let asked =
                self.memory.releasing.iter().filter(|(at, _)| at == target).map(|(_, node)| node.clone());
            for node in marked.chain(asked) {
                all.insert((target.clone(), node), Arc::clone(&cluster.sink));
            }
        }
        all
    }
}

impl Reconciler {
    /// Lets go of the nodes that will never clean up. Where the `Node` is gone and nobody can say the same of the server, the
    /// configuration says what waits.
    pub(super) async fn release_gone(&mut self, retry: &mut Option<Instant>) {
        self.gone.take();
        let due = self.gone.due(self.deliverer.unreleased());
        if !due.is_empty()
            && let Err(error) = self.look_at(due).await
        {
            tracing::warn!(error = %error, "nodes that may be gone are not looked at");
        }
        for (place, look) in &self.gone.waiting {
            // What is under way tells when it has come.
            if !look.is_under_way(place, &self.gone.errands) {
                sooner(retry, look.at);
            }
            let (Some(owner), Some(problem)) = (&look.owner, &look.problem) else { continue };
            let Some(entry) = self.entries.get_mut(owner) else { continue };
            let undelivered = Undelivered { reason: "NodeGone", removal: true, message: problem.clone() };
            if !entry.undelivered.contains(&undelivered) {
                entry.undelivered.push(undelivered);
            }
        }
    }

    /// Begins to look at nodes.
    async fn look_at(&mut self, due: Vec<(Place, Arc<KubernetesSink>)>) -> Result<(), StoreError> {
        let lost = lost(self.store.removed().await?);
        let mut batches: BTreeMap<Whose, Batch> = BTreeMap::new();
        for (place, sink) in due {
            let Some(look) = self.gone.waiting.get_mut(&place) else { continue };
            let (target, node) = place;
            let Some(lost) = lost.get(&node).cloned() else { continue };
            let owner = look.owner.insert(lost.owner.clone()).clone();
            let (_, nodes) = batches.entry((target, owner)).or_insert_with(|| (sink, Vec::new()));
            nodes.push((node, lost));
        }
        for (whose, (sink, nodes)) in batches {
            // Some of its nodes may be new here: their time comes again.
            if !self.gone.errands.is_under_way(&whose) {
                let cloud = self.cloud_of(&whose.1);
                self.gone.errands.begin(whose.clone(), whose, look_at(sink, cloud, nodes));
            }
        }
        Ok(())
    }

    /// The cloud of a configuration that published something; it may be the last turn of one that is deleted. Others' clouds
    /// are not asked: one of another region answers 404 for a server that lives.
    fn cloud_of(&mut self, owner: &ConfigKey) -> Option<Cloud> {
        let resolved = self.entries.get(owner)?.resolved.as_ref()?.as_ref().ok()?;
        self.controller.cloud(&resolved.config.cloud).ok()
    }
}

/// The nodes that lost something, with their servers.
fn lost(removed: Vec<Removed>) -> BTreeMap<NodeName, Lost> {
    let mut nodes = BTreeMap::new();
    for Removed { node, owner, server, project, released, .. } in removed {
        if let (Some(owner), Some(server), Some(project), false) = (owner, server, project, released) {
            nodes.insert(node, Lost { server, project, owner });
        }
    }
    nodes
}

fn waits(node: &NodeName, why: impl std::fmt::Display) -> String {
    format!("node {node}: its MultiNicNodeConfig waits for its agent to clean up: {why}")
}

/// Looks at nodes. Those of which nothing comes were not looked at, since somebody did not answer about another.
async fn look_at(
    sink: Arc<KubernetesSink>,
    cloud: Option<Cloud>,
    nodes: Vec<(NodeName, Lost)>,
) -> Vec<(NodeName, Option<String>)> {
    let silent = Arc::new(AtomicBool::new(false));
    let mut looks = Vec::new();
    for (node, lost) in nodes {
        let (sink, cloud, silent) = (Arc::clone(&sink), cloud.clone(), Arc::clone(&silent));
        looks.push(async move {
            if silent.load(Ordering::Relaxed) {
                return None;
            }
            let look = tokio::time::timeout(LOOK, look(&sink, &node, &lost, cloud.as_ref())).await;
            let problem = look.unwrap_or_else(|_| {
                silent.store(true, Ordering::Relaxed);
                Err(waits(&node, format!("no answer within {} s", LOOK.as_secs())))
            });
            Some((node, problem.err()))
        });
    }
    let looks: Vec<_> = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
    looks.into_iter().flatten().collect()
}

/// Looks at one node. The error says for what it waits although its `Node` is gone.
async fn look(
    sink: &KubernetesSink,
    node: &NodeName,
    lost: &Lost,
    cloud: Option<&Cloud>,
) -> Result<(), String> {
    match sink.is_node_there(node).await {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(error) => {
            return Err(waits(node, format!("whether there is a Node object cannot be found out: {error}")));
        }
    }
    let waits = |why: String| waits(node, format!("there is no Node object, and {why}"));
    let Lost { server, project, owner: _ } = lost;
    let Some(cloud) = cloud else {
        return Err(waits(
            "its configuration's cloud is not known any more, so Nova cannot be asked".to_owned(),
        ));
    };
    match cloud.is_server_gone(server, project).await {
        Ok(true) => {
            let proof = ServerGone { server: server.clone() };
            let released = sink.release_gone_node(node, &proof).await;
            released.map(drop).map_err(|error| waits(error.to_string()))
        }
        Ok(false) => Err(waits(format!("Nova still has its server {server}"))),
        Err(error) => Err(waits(format!("whether its server {server} is gone is not known: {error}"))),
    }
}
