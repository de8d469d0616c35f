//! Taking away what was left at a place, each place a task of its own: it looks at what is there and takes leave node by
//! node, each only while it stands at its new place.
//!
//! While that is under way, nothing is delivered to the place for the nodes that it may take away. Where the terms change on
//! which it was begun (who left, where they publish now, the ledger's word), it ends what it has begun and begins no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use multinic_api::MultiNicNodeConfig;
use multinic_core::{ConfigKey, NodeName};

use super::placement::Location;
use super::rounds::{Again, Place};
use crate::errands::{Errands, TURN};
use crate::sinks::kubernetes::Farewell;
use crate::sinks::{KubernetesSink, Ledger, NodeWish, SinkError, ViolaSink};

/// How many nodes are taken leave of at once.
const AT_ONCE: usize = 16;
/// How many removals a Viola is told of before it is asked whether there are to be more.
const TOLD_AT_ONCE: usize = 64;

/// A place that was left.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Left {
    pub location: Location,
    /// Who left it, where that matters for how it is spoken to: behind Viola.
    pub whose: Option<ConfigKey>,
}

/// What a farewell depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// Who left, and where each publishes now.
    pub by: BTreeMap<ConfigKey, BTreeSet<Location>>,
    /// How often the ledger turned out to be older than it was.
    pub setbacks: u64,
}

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
    nodes: BTreeMap<NodeName, (BTreeSet<ConfigKey>, Rest)>,
    /// Where there was no answer: no other was asked.
    silent: Option<SinkError>,
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

/// Farewells that are under way, and what is known of the places.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    errands: Errands<Left, Left, Result<Remains, SinkError>>,
    known: BTreeMap<Left, Known>,
}

/// What is known of a place that was left.
#[derive(Debug)]
struct Known {
    terms: Terms,
    /// Nodes that have something there, with whose that is; none before it was looked at.
    there: Option<BTreeMap<NodeName, BTreeSet<ConfigKey>>>,
    /// Nodes that were taken away.
    gone: BTreeSet<NodeName>,
    /// Those that were tried and are still there.
    tried: BTreeMap<NodeName, (Rest, Again)>,
    /// Why nothing is known of it, or nobody answers there.
    failed: Option<(SinkError, Again)>,
    running: Option<Running>,
}

/// A farewell that is under way.
#[derive(Debug)]
struct Running {
    /// What it may take away.
    nodes: BTreeSet<NodeName>,
    stop: Arc<AtomicBool>,
    /// Whether its terms are no longer those of now.
    outdated: bool,
}

/// How it stands with a place that was left.
#[derive(Debug)]
pub(super) enum Standing<'a> {
    /// It is being looked at, or something is being taken away there.
    UnderWay,
    /// It could not be looked at.
    Failed(&'a SinkError),
    /// What is still there.
    Seen(BTreeMap<&'a NodeName, (&'a BTreeSet<ConfigKey>, &'a Rest)>),
}

impl Farewells {
    /// Takes in what has been left, on which terms.
    pub fn adjust(&mut self, left: &BTreeMap<Left, Terms>) {
        self.known.retain(|place, known| {
            if left.get(place) == Some(&known.terms) {
                return true;
            }
            let Some(running) = &mut known.running else { return false };
            running.stop.store(true, Ordering::Relaxed);
            running.outdated = true;
            true
        });
        for (place, terms) in left {
            self.known.entry(place.clone()).or_insert_with(|| Known::new(terms.clone()));
        }
    }

    /// The nodes of which something is known to be there; none before it was looked at.
    pub fn there(&self, place: &Left) -> Option<&BTreeMap<NodeName, BTreeSet<ConfigKey>>> {
        self.known.get(place).filter(|known| !known.is_outdated())?.there.as_ref()
    }

    /// Nodes to which nothing may be delivered at a place: they are being taken away there.
    pub fn held(&self, place: &Place) -> BTreeSet<NodeName> {
        let known = self.known.iter().filter(|(left, _)| place.is_at(&left.location));
        known
            .filter_map(|(_, known)| known.running.as_ref())
            .flat_map(|it| it.nodes.iter().cloned())
            .collect()
    }

    /// Nodes that can be told to have gone from a place without a look at it. Those of which that was told are not among
    /// them any more.
    pub fn tell(&mut self, place: &Left, mut nodes: BTreeMap<NodeName, BTreeSet<ConfigKey>>) {
        if let Some(known) = self.known.get_mut(place) {
            nodes.retain(|node, _| !known.gone.contains(node));
            known.there = Some(nodes);
        }
    }

    /// The nodes whose turn it is, of those that are `settled`; none where nothing is to be done at the place now. `likely`
    /// are those that may be there as long as nobody has looked.
    pub fn due<'a>(
        &self,
        place: &Left,
        likely: impl Iterator<Item = &'a NodeName>,
        settled: impl Fn(&NodeName) -> bool,
    ) -> Option<BTreeSet<NodeName>> {
        let known = self.known.get(place).filter(|known| known.running.is_none())?;
        if known.failed.as_ref().is_some_and(|(_, again)| !again.is_due()) {
            return None;
        }
        let Some(there) = &known.there else {
            return Some(likely.filter(|node| settled(node)).cloned().collect());
        };
        let (mut due, mut look) = (BTreeSet::new(), false);
        for node in there.keys() {
            match known.tried.get(node) {
                Some((_, again)) if !again.is_due() => {}
                Some((Rest::Shared, _)) => look = true,
                Some(_) | None if settled(node) => drop(due.insert(node.clone())),
                Some(_) | None => {}
            }
        }
        (look || !due.is_empty()).then_some(due)
    }

    /// Begins to take nodes away.
    pub fn begin(&mut self, place: &Left, leave: Leave, nodes: BTreeMap<NodeName, Leaver>) {
        let Some(known) = self.known.get_mut(place) else { return };
        let stop = Arc::new(AtomicBool::new(false));
        let names = nodes.keys().cloned().collect();
        known.running = Some(Running { nodes: names, stop: Arc::clone(&stop), outdated: false });
        self.errands.begin(place.clone(), place.clone(), carry_out(leave, nodes, stop));
    }

    /// Nothing can be begun at a place.
    pub fn fail(&mut self, place: &Left, error: SinkError, longest: Duration) {
        if let Some(known) = self.known.get_mut(place) {
            tracing::warn!(place = place.location.name(), error = %error, "what was left there cannot be taken away");
            let before = known.failed.as_ref().map(|(_, again)| *again);
            known.failed = Some((error, Again::after(before, longest)));
        }
    }

    /// Where a node is to stand cannot be looked at.
    pub fn refuse(&mut self, place: &Left, node: NodeName, error: SinkError, longest: Duration) {
        if let Some(known) = self.known.get_mut(place) {
            let before = known.tried.get(&node).map(|(_, again)| *again);
            known.tried.insert(node, (Rest::Failed(error), Again::after(before, longest)));
        }
    }

    /// Takes in what has come; waits a moment for the rest.
    pub async fn collect(&mut self, longest: Duration) {
        for (place, result) in self.errands.collect(Some(TURN)).await {
            self.settle(&place, result, longest);
        }
    }

    /// Takes in what has come.
    pub fn take(&mut self, longest: Duration) {
        for (place, result) in self.errands.take() {
            self.settle(&place, result, longest);
        }
    }

    /// Returns when something has come that nobody waited for.
    pub async fn come(&mut self) {
        self.errands.come().await;
    }

    fn settle(&mut self, place: &Left, result: Result<Remains, SinkError>, longest: Duration) {
        let Some(known) = self.known.get_mut(place) else { return };
        let Some(Running { nodes: asked, outdated: false, .. }) = known.running.take() else {
            // What it did is seen when it is looked at anew.
            self.known.remove(place);
            return;
        };
        let Remains { nodes, silent } = match result {
            Ok(remains) => remains,
            Err(error) => return self.fail(place, error, longest),
        };
        known.gone.extend(asked.into_iter().filter(|node| !nodes.contains_key(node)));
        let mut seen = BTreeMap::new();
        for (node, (whose, rest)) in nodes {
            let before = known.tried.remove(&node);
            if let Rest::Failed(error) = &rest {
                let place = place.location.name();
                tracing::warn!(node_name = %node, place, error = %error, "a node that moved is not removed");
            }
            let tried = match (rest, before) {
                // Now it is ours alone.
                (Rest::Untried, Some((Rest::Shared, _))) => None,
                (Rest::Untried, before) => before,
                (rest, before) => {
                    let before = before.filter(|(was, _)| *was == rest).map(|(_, again)| again);
                    Some((rest, Again::after(before, longest)))
                }
            };
            known.tried.extend(tried.map(|tried| (node.clone(), tried)));
            seen.insert(node, whose);
        }
        match (&place.location, &mut known.there) {
            // Nobody can look behind it.
            (Location::Viola { .. }, Some(there)) => there.retain(|node, _| !known.gone.contains(node)),
            (Location::Viola { .. } | Location::Kubernetes(_), there) => *there = Some(seen),
        }
        let there = known.there.as_ref();
        known.tried.retain(|node, _| there.is_some_and(|there| there.contains_key(node)));
        match silent {
            Some(error) => self.fail(place, error, longest),
            None => known.failed = None,
        }
    }

    /// Tries everything again at once.
    pub fn hurry(&mut self) {
        let now = Instant::now();
        for known in self.known.values_mut() {
            let tried = known.tried.values_mut().map(|(_, again)| again);
            tried.chain(known.failed.as_mut().map(|(_, again)| again)).for_each(|again| again.at = now);
        }
    }

    /// When something is tried again at a place.
    pub fn again(&self, place: &Left) -> Option<Instant> {
        let known = self.known.get(place).filter(|known| known.running.is_none())?;
        match &known.failed {
            Some((_, again)) => Some(again.at),
            None => known.tried.values().map(|(_, again)| again.at).min(),
        }
    }

    /// How it stands with a place.
    pub fn standing(&self, place: &Left) -> Standing<'_> {
        let Some(known) = self.known.get(place) else { return Standing::UnderWay };
        match (known, &known.there) {
            (Known { running: Some(_), .. }, _) => Standing::UnderWay,
            (Known { failed: Some((error, _)), .. }, _) => Standing::Failed(error),
            (_, None) => Standing::UnderWay,
            (_, Some(there)) => {
                let rest = |node| known.tried.get(node).map_or(&Rest::Untried, |(rest, _)| rest);
                Standing::Seen(there.iter().map(|(node, whose)| (node, (whose, rest(node)))).collect())
            }
        }
    }
}

impl Known {
    fn new(terms: Terms) -> Self {
        let (gone, tried) = (BTreeSet::new(), BTreeMap::new());
        Self { terms, there: None, gone, tried, failed: None, running: None }
    }

    fn is_outdated(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.outdated)
    }
}

async fn carry_out(
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
                false => leave_object(&sink, &node, &leaver, &ledger).await,
            };
            if matches!(&rest, Some(Rest::Failed(error)) if error.is_silence()) {
                stop.store(true, Ordering::Relaxed);
            }
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
        Err(error) => Some(Rest::Failed(error)),
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
    let looks = nodes.into_iter().map(|(node, leaver)| async move {
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
