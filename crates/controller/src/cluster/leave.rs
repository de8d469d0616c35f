//! Takes leave of a place: looks at what is there, and takes node by node away, each only while it stands elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream;
use multinic_api::MultiNicNodeConfig;
use multinic_core::{ConfigKey, NodeName};

use crate::sinks::kubernetes::Farewell;
use crate::sinks::{KubernetesSink, Ledger, NodeWish, SinkError, ViolaSink};

/// How many nodes are taken leave of at once.
const AT_ONCE: usize = 16;
/// How many removals a Viola is told of before it is asked whether there are to be more.
const TOLD_AT_ONCE: usize = 64;

/// How the nodes are taken away.
pub(super) enum Leave {
    /// Objects that name nobody but these.
    Objects { sink: Arc<KubernetesSink>, by: BTreeSet<ConfigKey>, ledger: Ledger },
    /// A Viola is told.
    Viola { sink: Arc<ViolaSink>, provider: Option<String>, whose: ConfigKey },
}

/// A node that may be taken away once it is seen to stand elsewhere.
pub(super) struct Leaver {
    /// The places where it is published as an object now.
    pub stands: Vec<Arc<KubernetesSink>>,
    /// Whether it is published through a Viola now.
    pub viola: bool,
    /// For a Viola.
    pub tombstone: Arc<NodeWish>,
}

/// What a farewell came to.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// The nodes that still have something there, with whose it is and how that stands.
    pub nodes: BTreeMap<NodeName, (BTreeSet<ConfigKey>, Rest)>,
    /// Where there was no answer: no other was asked.
    pub silent: Option<SinkError>,
}

/// How it stands with something that was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rest {
    /// It was not its turn.
    Untried,
    /// Its agent is cleaning up, or it does not stand elsewhere yet.
    Waits,
    /// The node's agent has to look at the other object first.
    IsRead,
    /// Others have something there too.
    Shared,
    /// It cannot be taken away.
    Failed(SinkError),
}

/// Takes nodes away, and no more once it is to stop.
pub(super) async fn carry_out(
    leave: Leave,
    nodes: BTreeMap<NodeName, Leaver>,
    stop: Arc<AtomicBool>,
) -> Result<Remains, SinkError> {
    match leave {
        Leave::Objects { sink, by, ledger } => leave_objects(sink, &by, ledger, nodes, stop).await,
        Leave::Viola { sink, provider, whose } => {
            Ok(leave_viola(&sink, provider.as_deref(), &whose, nodes, stop).await)
        }
    }
}

async fn leave_objects(
    sink: Arc<KubernetesSink>,
    by: &BTreeSet<ConfigKey>,
    ledger: Ledger,
    mut nodes: BTreeMap<NodeName, Leaver>,
    stop: Arc<AtomicBool>,
) -> Result<Remains, SinkError> {
    let mut there: BTreeMap<NodeName, BTreeSet<ConfigKey>> = BTreeMap::new();
    for row in sink.published().await? {
        there.entry(row.node).or_default().insert(row.owner);
    }
    there.retain(|_, owners| !owners.is_disjoint(by));
    let ledger = Arc::new(ledger);
    let mut remains = Remains::default();
    let mut leaves = Vec::new();
    for (node, whose) in there {
        if !whose.is_subset(by) {
            // Whoever else publishes there takes our NICs out of the object.
            remains.nodes.insert(node, (whose, Rest::Shared));
            continue;
        }
        let Some(leaver) = nodes.remove(&node) else {
            remains.nodes.insert(node, (whose, Rest::Untried));
            continue;
        };
        let (sink, ledger, stop) = (Arc::clone(&sink), Arc::clone(&ledger), Arc::clone(&stop));
        leaves.push(async move {
            let rest = match stop.load(Ordering::Relaxed) {
                true => Some(Rest::Untried),
                false => leave_object(&sink, &node, &leaver, &ledger, &stop).await,
            };
            (node, whose, rest)
        });
    }
    let mut leaves = std::pin::pin!(stream::iter(leaves).buffer_unordered(AT_ONCE));
    while let Some((node, whose, rest)) = leaves.next().await {
        remains.take(node, whose, rest);
    }
    Ok(remains)
}

/// None where nothing of the node is left.
async fn leave_object(
    sink: &KubernetesSink,
    node: &NodeName,
    leaver: &Leaver,
    ledger: &Ledger,
    stop: &AtomicBool,
) -> Option<Rest> {
    let elsewhere = match leaver.elsewhere(node).await {
        Ok(Some(found)) => found.into_iter().map(|(_, object)| object).collect::<Vec<_>>(),
        Ok(None) => return Some(Rest::Waits),
        Err(error) => return Some(Rest::Failed(error)),
    };
    match sink.take_leave(node, &elsewhere, leaver.viola, ledger).await {
        Ok(Farewell::Gone | Farewell::Kept) => None,
        Ok(Farewell::Releasing) => Some(Rest::Waits),
        Ok(Farewell::Read) => Some(Rest::IsRead),
        Err(error) => {
            if error.is_silence() {
                stop.store(true, Ordering::Relaxed);
            }
            Some(Rest::Failed(error))
        }
    }
}

async fn leave_viola(
    sink: &ViolaSink,
    provider: Option<&str>,
    whose: &ConfigKey,
    nodes: BTreeMap<NodeName, Leaver>,
    stop: Arc<AtomicBool>,
) -> Remains {
    let whose = BTreeSet::from([whose.clone()]);
    let mut remains = Remains::default();
    let asked = &stop;
    let looks = nodes.into_iter().map(|(node, leaver)| async move {
        if asked.load(Ordering::Relaxed) {
            return (node, leaver.tombstone, Ok(None));
        }
        let found = leaver.elsewhere(&node).await;
        // An object that Viola wrote too is the one that it would delete.
        let shared =
            found.map(|found| found.map(|found| found.iter().any(|(sink, object)| sink.is_shared(object))));
        (node, leaver.tombstone, shared)
    });
    let looks: Vec<_> = looks.collect();
    let mut looks = std::pin::pin!(stream::iter(looks).buffer_unordered(AT_ONCE));
    let mut tombstones = Vec::new();
    while let Some((node, tombstone, shared)) = looks.next().await {
        match shared {
            Ok(Some(true)) => {}
            Ok(Some(false)) => tombstones.push(tombstone),
            Ok(None) => remains.take(node, whose.clone(), Some(Rest::Waits)),
            Err(error) => remains.take(node, whose.clone(), Some(Rest::Failed(error))),
        }
    }
    for tombstones in tombstones.chunks(TOLD_AT_ONCE) {
        if stop.load(Ordering::Relaxed) || remains.silent.is_some() {
            let nodes = tombstones.iter().map(|tombstone| tombstone.config.node.clone());
            nodes.for_each(|node| remains.take(node, whose.clone(), Some(Rest::Untried)));
            continue;
        }
        for (node, result) in sink.deliver(provider, tombstones).await {
            remains.take(node, whose.clone(), result.err().map(Rest::Failed));
        }
    }
    remains
}

impl Leaver {
    /// The objects of a node at the places where it is published as one now; none while one of them is not there.
    async fn elsewhere(
        &self,
        node: &NodeName,
    ) -> Result<Option<Vec<(&KubernetesSink, MultiNicNodeConfig)>>, SinkError> {
        let mut found = Vec::new();
        for sink in &self.stands {
            match sink.object(node).await? {
                Some(object) if object.metadata.deletion_timestamp.is_none() => found.push((&**sink, object)),
                Some(_) | None => return Ok(None),
            }
        }
        Ok(Some(found))
    }
}

impl Remains {
    fn take(&mut self, node: NodeName, whose: BTreeSet<ConfigKey>, rest: Option<Rest>) {
        if let Some(Rest::Failed(error)) = &rest
            && error.is_silence()
        {
            self.silent.get_or_insert_with(|| error.clone());
        }
        if let Some(rest) = rest {
            self.nodes.insert(node, (whose, rest));
        }
    }
}
