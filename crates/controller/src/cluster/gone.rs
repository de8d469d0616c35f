//! Nodes that will never clean up. A deleted object waits for its node's agent; once Nova says that the server is gone, and
//! there is no `Node` object either, nobody is left whom it could wait for.

use std::collections::BTreeMap;
use std::sync::Arc;
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
use crate::sinks::KubernetesSink;
use crate::sinks::kubernetes::ServerGone;

/// Between two looks at a node whose agent has not cleaned up yet: at first, and doubled each time up to the longest. Mostly
/// the agent is at work, and its `Node` is there.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How long such a look may take, for which a turn waits.
const LOOK: Duration = Duration::from_secs(10);

/// What is known of objects that wait for their nodes' agents.
pub(super) type Waiting = BTreeMap<(Target, NodeName), Look>;

/// When such an object is looked at, and what came of it.
#[derive(Debug)]
pub(super) struct Look {
    at: Instant,
    wait: Duration,
    /// Whose NICs wait, and why, where the `Node` is gone.
    problem: Option<(ConfigKey, String)>,
}

/// What the ledger knows of a node that lost everything.
struct Lost {
    server: ServerId,
    project: ProjectId,
    owner: ConfigKey,
}

impl Deliverer {
    /// Objects that wait and are due to be looked at.
    fn due(&mut self, now: Instant) -> Vec<((Target, NodeName), Arc<KubernetesSink>)> {
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
        self.memory.waiting.retain(|place, _| all.contains_key(place));
        let waiting = &mut self.memory.waiting;
        all.retain(|place, _| {
            let first = || Look { at: now, wait: FIRST_WAIT, problem: None };
            let look = waiting.entry(place.clone()).or_insert_with(first);
            let due = look.at <= now;
            if due {
                look.at = now + look.wait;
                look.wait = (look.wait * 2).min(LONGEST_WAIT);
            }
            due
        });
        all.into_iter().collect()
    }
}

impl Reconciler {
    /// Lets go of the nodes that will never clean up. Where the `Node` is gone and nobody can say the same of the server, the
    /// configuration says what waits.
    pub(super) async fn release_gone(&mut self, retry: &mut Option<Instant>) {
        let due = self.deliverer.due(Instant::now());
        if !due.is_empty()
            && let Err(error) = self.look_at(due).await
        {
            tracing::warn!(error = %error, "nodes that may be gone are not looked at");
        }
        for look in self.deliverer.memory.waiting.values() {
            sooner(retry, look.at);
            let Some((owner, message)) = &look.problem else { continue };
            let Some(entry) = self.entries.get_mut(owner) else { continue };
            let undelivered = Undelivered { reason: "NodeGone", removal: true, message: message.clone() };
            if !entry.undelivered.contains(&undelivered) {
                entry.undelivered.push(undelivered);
            }
        }
    }

    async fn look_at(
        &mut self,
        due: Vec<((Target, NodeName), Arc<KubernetesSink>)>,
    ) -> Result<(), StoreError> {
        let lost = lost(self.store.removed().await?);
        let mut looks = Vec::new();
        for (place, sink) in due {
            let Some(lost) = lost.get(&place.1) else { continue };
            let cloud = self.cloud_of(&lost.owner);
            looks.push(async move {
                let problem =
                    match tokio::time::timeout(LOOK, look(&sink, &place.1, lost, cloud.as_ref())).await {
                        Ok(problem) => problem,
                        Err(_) => Err(waits(&place.1, format!("no answer within {} s", LOOK.as_secs()))),
                    };
                (place, problem.err().map(|problem| (lost.owner.clone(), problem)))
            });
        }
        let looks: Vec<_> = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
        for (place, problem) in looks {
            if let Some(look) = self.deliverer.memory.waiting.get_mut(&place) {
                look.problem = problem;
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
