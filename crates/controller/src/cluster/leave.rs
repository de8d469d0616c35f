//! Takes leave of a place: looks at what is there, and takes node by node away, each only while it stands elsewhere. Where a
//! place elsewhere does not answer, those wait who are to stand there, and nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream;
use futures_util::{Stream, StreamExt as _};
use multinic_api::MultiNicNodeConfig;
use multinic_core::{ConfigKey, NodeName};
use tokio::sync::watch;

use super::placement::Target;
use crate::sinks::kubernetes::Farewell;
use crate::sinks::{KubernetesSink, Ledger, NodeWish, SinkError, ViolaSink};

/// How many nodes are taken leave of at once, of those that stand at the same places.
const AT_ONCE: usize = 16;
/// How many removals a Viola is told of before it is asked whether there are to be more.
const TOLD_AT_ONCE: usize = 64;

/// Whether a farewell is to end: what is being looked at is let be, and what is being taken away is ended.
pub(super) type Stop = Arc<watch::Sender<bool>>;

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
    pub stands: BTreeMap<Target, Arc<KubernetesSink>>,
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
    /// Where there was no answer at the place that is left: no other was asked there.
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
    /// Whether it stands elsewhere cannot be seen.
    Unseen {
        /// Where.
        place: String,
        /// Why.
        error: SinkError,
    },
    /// It cannot be taken away.
    Failed(SinkError),
}

impl Rest {
    /// Whether another one comes of the same. What is said of a place may name any node that was asked for there.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unseen { place, .. }, Self::Unseen { place: other, .. }) => place == other,
            _ => self == other,
        }
    }
}

/// Places elsewhere that did not answer, with what was asked there: nothing more is.
#[derive(Debug, Default)]
struct Silences(Mutex<BTreeMap<Target, SinkError>>);

impl Silences {
    fn of(&self, target: &Target) -> Option<SinkError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(target).cloned()
    }

    fn note(&self, target: &Target, error: &SinkError) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(target.clone()).or_insert_with(|| error.clone());
    }
}

/// Takes nodes away, and no more once it is to stop.
pub(super) async fn carry_out(
    leave: Leave,
    nodes: BTreeMap<NodeName, Leaver>,
    stop: Stop,
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
    stop: Stop,
) -> Result<Remains, SinkError> {
    let mut there: BTreeMap<NodeName, BTreeSet<ConfigKey>> = BTreeMap::new();
    for row in sink.published().await? {
        there.entry(row.node).or_default().insert(row.owner);
    }
    there.retain(|_, owners| !owners.is_disjoint(by));
    let (ledger, silences) = (Arc::new(ledger), Arc::new(Silences::default()));
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
        let (places, silences) = (leaver.places(), Arc::clone(&silences));
        let leave = async move {
            let rest = leave_object(&sink, &node, &leaver, &ledger, &stop, &silences).await;
            (node, whose, rest)
        };
        leaves.push((places, leave));
    }
    let mut leaves = abreast(leaves);
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
    stop: &Stop,
    silences: &Silences,
) -> Option<Rest> {
    let elsewhere = match leaver.elsewhere(node, stop, silences).await {
        Ok(found) => found.into_iter().map(|(_, object)| object).collect::<Vec<_>>(),
        Err(rest) => return Some(rest),
    };
    match sink.take_leave(node, &elsewhere, leaver.viola, ledger).await {
        Ok(Farewell::Gone | Farewell::Kept) => None,
        Ok(Farewell::Releasing) => Some(Rest::Waits),
        Ok(Farewell::Read) => Some(Rest::IsRead),
        Err(error) => {
            if error.is_silence() {
                stop.send_replace(true);
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
    stop: Stop,
) -> Remains {
    let whose = BTreeSet::from([whose.clone()]);
    let mut remains = Remains::default();
    let silences = Arc::new(Silences::default());
    let mut looks = Vec::new();
    for (node, leaver) in nodes {
        let (places, silences, stop) = (leaver.places(), Arc::clone(&silences), Arc::clone(&stop));
        let look = async move {
            let found = leaver.elsewhere(&node, &stop, &silences).await;
            // An object that Viola wrote too is the one that it would delete.
            let shared = found.map(|found| found.iter().any(|(sink, object)| sink.is_shared(object)));
            (node, leaver.tombstone, shared)
        };
        looks.push((places, look));
    }
    let mut looks = abreast(looks);
    let mut tombstones = Vec::new();
    while let Some((node, tombstone, shared)) = looks.next().await {
        match shared {
            Ok(true) => {}
            Ok(false) => tombstones.push(tombstone),
            Err(rest) => remains.take(node, whose.clone(), Some(rest)),
        }
    }
    for tombstones in tombstones.chunks(TOLD_AT_ONCE) {
        if *stop.borrow() || remains.silent.is_some() {
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

/// What is done for nodes, some at once of those that stand at the same places. The others do not wait for these places.
fn abreast<T>(
    works: Vec<(BTreeSet<Target>, impl Future<Output = T> + Send)>,
) -> impl Stream<Item = T> + Send + Unpin
where
    T: Send,
{
    let mut by_places: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (places, work) in works {
        by_places.entry(places).or_default().push(work);
    }
    stream::select_all(by_places.into_values().map(|works| stream::iter(works).buffer_unordered(AT_ONCE)))
}

impl Leaver {
    fn places(&self) -> BTreeSet<Target> {
        self.stands.keys().cloned().collect()
    }

    /// The objects of a node at the places where it is published as one now; else what it waits for.
    async fn elsewhere(
        &self,
        node: &NodeName,
        stop: &Stop,
        silences: &Silences,
    ) -> Result<Vec<(&KubernetesSink, MultiNicNodeConfig)>, Rest> {
        let mut stopped = stop.subscribe();
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => Err(Rest::Untried),
            found = self.look(node, silences) => found,
        }
    }

    async fn look(
        &self,
        node: &NodeName,
        silences: &Silences,
    ) -> Result<Vec<(&KubernetesSink, MultiNicNodeConfig)>, Rest> {
        let mut found = Vec::new();
        for (target, sink) in &self.stands {
            let unseen = |error| Rest::Unseen { place: target.name(), error };
            if let Some(error) = silences.of(target) {
                return Err(unseen(error));
            }
            match sink.object(node).await {
                Ok(Some(object)) if object.metadata.deletion_timestamp.is_none() => {
                    found.push((&**sink, object));
                }
                Ok(Some(_) | None) => return Err(Rest::Waits),
                Err(error) => {
                    if error.is_silence() {
                        silences.note(target, &error);
                    }
                    return Err(unseen(error));
                }
            }
        }
        Ok(found)
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::super::project::tombstone;
    use super::*;
    use crate::sinks::ViolaSettings;
    use crate::sinks::kubernetes::kubeconfig::client_of;

    const NOBODY: &str = "http://127.0.0.1:1";

    /// What becomes of many nodes that leave a Viola and are to stand in a cluster.
    async fn leave_for(cluster: &str, stop: Stop) -> Remains {
        let client = client_of(kube::Config::new(cluster.parse().unwrap())).unwrap();
        let target = Target { kubeconfig: None, namespace: "new".to_owned() };
        let stands = BTreeMap::from([(target, Arc::new(KubernetesSink::new(client, "new", "test")))]);
        let leaver = |at: usize| {
            let node: NodeName = format!("worker-{at}").parse().unwrap();
            let tombstone = tombstone(&node, None, None);
            (node, Leaver { stands: stands.clone(), viola: false, tombstone })
        };
        let viola = ViolaSink::new(ViolaSettings::new(NOBODY.parse().unwrap())).unwrap();
        let nodes = (0..3 * AT_ONCE).map(leaver).collect();
        let remains = leave_viola(&viola, None, &ConfigKey::new("default", "a"), nodes, stop).await;
        assert_eq!(remains.nodes.len(), 3 * AT_ONCE);
        remains
    }

    #[tokio::test]
    async fn whoever_is_to_stop_waits_for_no_answer_and_asks_nobody_any_more() {
        // Nobody takes the connections.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (url, stop) = (format!("http://{}", silent.local_addr().unwrap()), Stop::default());
        let (remains, ()) = tokio::join!(leave_for(&url, Arc::clone(&stop)), async {
            tokio::task::yield_now().await;
            stop.send_replace(true);
        });
        assert!(remains.nodes.values().all(|(_, rest)| *rest == Rest::Untried), "{remains:?}");
    }

    #[tokio::test]
    async fn a_place_elsewhere_that_does_not_answer_is_not_asked_for_every_node() {
        let remains = leave_for(NOBODY, Stop::default()).await;
        assert_eq!(remains.silent, None, "the place that is left was not asked");
        let asked = remains.nodes.iter().filter(|(node, (_, rest))| match rest {
            Rest::Unseen { error: SinkError::Kubernetes { object, .. }, .. } => object == node.as_str(),
            _ => panic!("{node}: {rest:?}"),
        });
        assert!(asked.count() <= AT_ONCE);
    }

    #[test]
    fn whoever_stands_elsewhere_does_not_wait_for_places_that_do_not_answer() {
        let silent = Target { kubeconfig: None, namespace: "silent".to_owned() };
        let work = |at: usize| {
            let answers = at == 3 * AT_ONCE;
            let places = (!answers).then(|| silent.clone()).into_iter().collect();
            (places, async move { if answers { at } else { std::future::pending().await } })
        };
        let mut works = abreast((0..=3 * AT_ONCE).map(work).collect());
        assert_eq!(works.next().now_or_never(), Some(Some(3 * AT_ONCE)));
    }
}
