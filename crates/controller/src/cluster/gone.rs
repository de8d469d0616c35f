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

/// How long a cluster or a cloud may take to answer about a node. One that took longer is asked about no other in the same
/// go; those that it was not asked about come first in the next.
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

    /// Takes in what is deleted and still there. Returns what is due to be looked at, what has waited longest first.
    fn due(&mut self, all: BTreeMap<Place, Arc<KubernetesSink>>) -> Vec<(Place, Arc<KubernetesSink>)> {
        let Self { waiting, errands } = self;
        let now = Instant::now();
        waiting.retain(|place, _| all.contains_key(place));
        let due = all.into_iter().filter_map(|(place, sink)| {
            let first = || Look { at: now, wait: FIRST_WAIT, owner: None, ended: false, problem: None };
            let look = waiting.entry(place.clone()).or_insert_with(first);
            (look.at <= now && !look.is_under_way(&place, errands)).then_some((look.at, place, sink))
        });
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(at, ..)| *at);
        due.into_iter().map(|(_, place, sink)| (place, sink)).collect()
    }

    /// Nobody can look at these now.
    fn postpone<'a>(&mut self, places: impl IntoIterator<Item = &'a Place>) {
        for place in places {
            if let Some(look) = self.waiting.get_mut(place) {
                look.postpone();
            }
        }
    }

    /// Takes in what has come.
    fn take(&mut self) {
        for ((target, _), looks) in self.errands.take() {
            for (node, problem) in looks {
                if let Some(look) = self.waiting.get_mut(&(target.clone(), node)) {
                    (look.ended, look.problem) = (true, problem);
                    look.postpone();
                }
            }
        }
    }
}

impl Look {
    /// Its time comes again.
    fn postpone(&mut self) {
        self.at = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

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
        let lost = match self.store.removed().await {
            Ok(removed) => lost(removed),
            Err(error) => {
                self.gone.postpone(due.iter().map(|(place, _)| place));
                return Err(error);
            }
        };
        let mut batches: BTreeMap<Whose, Batch> = BTreeMap::new();
        for (place, sink) in due {
            let Some(look) = self.gone.waiting.get_mut(&place) else { continue };
            let (target, node) = place;
            let Some(lost) = lost.get(&node).cloned() else {
                look.postpone();
                continue;
            };
            let owner = look.owner.insert(lost.owner.clone()).clone();
            let (_, nodes) = batches.entry((target, owner)).or_insert_with(|| (sink, Vec::new()));
            nodes.push((node, lost));
        }
        for (whose, (sink, nodes)) in batches {
            // Some of its nodes may be new here: their time comes again.
            if !self.gone.errands.is_under_way(&whose) {
                let cloud = self.cloud_of(&whose.1);
                let look = self.leadership.guard(look_at(sink, cloud, nodes));
                self.gone.errands.begin(whose.clone(), whose, look);
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

fn waits(node: &NodeName, why: &str) -> String {
    format!("node {node}: its MultiNicNodeConfig waits for its agent to clean up: {why}")
}

/// Somebody who is asked about nodes until there is no answer.
#[derive(Default)]
struct Asked {
    silent: AtomicBool,
}

impl Asked {
    /// None where there was no answer about another node; the error says that there is none about this one.
    async fn ask<T>(&self, question: impl Future<Output = T>) -> Option<Result<T, String>> {
        if self.silent.load(Ordering::Relaxed) {
            return None;
        }
        let answer = tokio::time::timeout(LOOK, question).await;
        self.silent.fetch_or(answer.is_err(), Ordering::Relaxed);
        Some(answer.map_err(|_| format!("no answer within {} s", LOOK.as_secs())))
    }
}

/// Looks at nodes. Those of which nothing comes were not looked at, since somebody did not answer about another.
async fn look_at(
    sink: Arc<KubernetesSink>,
    cloud: Option<Cloud>,
    nodes: Vec<(NodeName, Lost)>,
) -> Vec<(NodeName, Option<String>)> {
    let asked = Arc::new((Asked::default(), Asked::default()));
    let looks = nodes.into_iter().map(|(node, lost)| {
        let (sink, cloud, asked) = (Arc::clone(&sink), cloud.clone(), Arc::clone(&asked));
        async move {
            let (cluster, nova) = &*asked;
            let there = cluster.ask(sink.is_node_there(&node)).await?;
            let problem = match there.map(|there| there.map_err(|error| error.to_string())) {
                Ok(Ok(true)) => None,
                Ok(Ok(false)) => nova
                    .ask(let_go(&sink, &node, &lost, cloud.as_ref()))
                    .await?
                    .flatten()
                    .err()
                    .map(|why| format!("there is no Node object, and {why}")),
                Ok(Err(error)) | Err(error) => {
                    Some(format!("whether there is a Node object cannot be found out: {error}"))
                }
            };
            let problem = problem.map(|why| waits(&node, &why));
            Some((node, problem))
        }
    });
    let looks = looks.collect::<Vec<_>>();
    let looks: Vec<_> = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
    looks.into_iter().flatten().collect()
}

/// Lets go of a node without a `Node`, if its server is gone. The error says for what it waits.
async fn let_go(
    sink: &KubernetesSink,
    node: &NodeName,
    Lost { server, project, owner: _ }: &Lost,
    cloud: Option<&Cloud>,
) -> Result<(), String> {
    let Some(cloud) = cloud else {
        return Err("its configuration's cloud is not known any more, so Nova cannot be asked".to_owned());
    };
    match cloud.is_server_gone(server, project).await {
        Ok(true) => {
            let proof = ServerGone { server: server.clone() };
            let released = sink.release_gone_node(node, &proof).await;
            released.map(drop).map_err(|error| error.to_string())
        }
        Ok(false) => Err(format!("Nova still has its server {server}")),
        Err(error) => Err(format!("whether its server {server} is gone is not known: {error}")),
    }
}
