//! Deliveries to places, each round a task of its own. A node that was refused is tried again after a time that doubles, and
//! in rounds apart from the others, so that neither it nor a place that does not answer holds up anybody else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use multinic_core::NodeName;

use super::lease::Leadership;
use super::placement::{Location, Target};
use crate::errands::{Errands, TURN};
use crate::sinks::{Delivery, KubernetesSink, Ledger, NodeWish, SinkError, ViolaSink};

/// Before what failed is tried again: the least, doubled each time up to the configurations' error interval.
pub(super) const LEAST_RETRY: Duration = Duration::from_secs(1);
/// How long a new sink may take to see what is there before its nodes count as not delivered.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// What is delivered to in one go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A namespace of a cluster.
    Kubernetes(Target),
    /// A Viola, for a provider; empty for none.
    Viola {
        /// Which one.
        id: String,
        /// For whom.
        provider: String,
    },
}

/// How a place is spoken to.
#[derive(Debug, Clone)]
pub(super) enum Sink {
    Kubernetes(Arc<KubernetesSink>, Arc<Ledger>),
    Viola(Arc<ViolaSink>),
}

/// A node that was sent to a place, and what became of it. Not the wish itself: while a round waits to be taken in, the next
/// pass may be planning for the whole fleet.
#[derive(Debug)]
pub(super) struct Sent {
    pub node: NodeName,
    pub fingerprint: u64,
    /// How many NICs it is to have; none is a tombstone.
    pub interfaces: usize,
    pub result: Result<Delivery, SinkError>,
}

/// How a wish stands that was to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress<'a> {
    Delivered,
    /// It was sent, or is when what is under way has come.
    UnderWay,
    /// It was refused; it is tried again at that time.
    Refused(&'a SinkError, Instant),
}

/// Deliveries that are under way, and what was refused.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// By place, and whether it is for those that were refused there before.
    errands: Errands<(Place, bool), (Place, bool), Vec<Sent>>,
    refused: BTreeMap<Place, BTreeMap<NodeName, Refused>>,
    /// What was taken since this delivery began, by fingerprint.
    taken: BTreeMap<Place, BTreeMap<NodeName, u64>>,
}

#[derive(Debug)]
struct Refused {
    fingerprint: u64,
    error: SinkError,
    again: Again,
}

/// When something that failed is tried again: after a time that doubles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    times: u32,
    /// When that is.
    pub at: Instant,
}

impl Place {
    /// For people.
    pub fn name(&self) -> String {
        match self {
            Self::Kubernetes(target) => target.name(),
            Self::Viola { provider, .. } if provider.is_empty() => "Viola".to_owned(),
            Self::Viola { provider, .. } => format!("Viola for provider {provider:?}"),
        }
    }

    /// Whether it is what the ledger calls so.
    pub fn is_at(&self, location: &Location) -> bool {
        match (self, location) {
            (Self::Kubernetes(target), Location::Kubernetes(other)) => target == other,
            (Self::Viola { id, provider }, Location::Viola { endpoint, provider: for_whom }) => {
                provider == for_whom && endpoint_of(id) == Some(endpoint)
            }
            (Self::Kubernetes(_), Location::Viola { .. }) | (Self::Viola { .. }, Location::Kubernetes(_)) => {
                false
            }
        }
    }

    /// For metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kubernetes(_) => "kubernetes",
            Self::Viola { .. } => "viola",
        }
    }

    /// The reason of a condition for an error.
    pub fn reason(&self, error: &SinkError) -> &'static str {
        match self {
            _ if matches!(error, SinkError::LedgerStale { .. }) => error.reason(),
            Self::Kubernetes(_) => "KubernetesApplyError",
            Self::Viola { .. } => "ViolaPostError",
        }
    }
}

impl Sink {
    /// Whether a node is there as it is to be.
    fn has(&self, wish: &NodeWish) -> bool {
        match self {
            Self::Kubernetes(sink, ledger) => sink.has(wish, ledger),
            // It cannot be asked.
            Self::Viola(_) => false,
        }
    }

    async fn deliver(&self, place: &Place, wishes: Vec<Arc<NodeWish>>) -> Vec<Sent> {
        let results = match (self, place) {
            (Self::Viola(sink), Place::Viola { provider, .. }) => {
                sink.deliver(Some(provider.as_str()).filter(|it| !it.is_empty()), &wishes).await
            }
            (Self::Viola(sink), Place::Kubernetes(_)) => sink.deliver(None, &wishes).await,
            (Self::Kubernetes(sink, ledger), _) => {
                // One that cannot look at what is there says so when something is delivered.
                let _ = tokio::time::timeout(FIRST_LOOK, sink.until_read()).await;
                sink.deliver(&wishes, ledger).await
            }
        };
        let wanted: HashMap<&NodeName, &NodeWish> =
            wishes.iter().map(|wish| (&wish.config.node, &**wish)).collect();
        let sent = results.into_iter().filter_map(|(node, result)| {
            let wish = wanted.get(&node)?;
            let (fingerprint, interfaces) = (wish.fingerprint(), wish.config.interfaces.len());
            Some(Sent { node, fingerprint, interfaces, result })
        });
        sent.collect()
    }
}

impl Again {
    /// After something failed; `before` is when it was tried again because it had failed already.
    pub fn after(before: Option<Self>, longest: Duration) -> Self {
        let times = before.map_or(0, |before| before.times.saturating_add(1));
        let wait = LEAST_RETRY.saturating_mul(1 << times.min(10)).min(longest.max(LEAST_RETRY));
        Self { times, at: Instant::now() + wait }
    }

    /// Whether it is time.
    pub fn is_due(self) -> bool {
        self.at <= Instant::now()
    }
}

impl Rounds {
    /// A new delivery begins: what was taken before is for the sinks to know.
    pub fn anew(&mut self) {
        self.taken.clear();
    }

    fn is_taken(&self, place: &Place, wish: &NodeWish) -> bool {
        let taken = self.taken.get(place).and_then(|nodes| nodes.get(&wish.config.node));
        taken.is_some_and(|taken| *taken == wish.fingerprint())
    }

    /// Whether anything is under way to such places.
    pub fn is_under_way(&self, is_meant: impl Fn(&Place) -> bool) -> bool {
        self.errands.under_way().any(|(place, _)| is_meant(place))
    }

    /// Whether any of these wishes is to be sent now.
    pub fn is_due(&self, place: &Place, wishes: &[Arc<NodeWish>]) -> bool {
        let now = Instant::now();
        wishes.iter().any(|wish| self.turn_of(place, wish, now).is_some())
    }

    /// In which round a wish is sent, if it is to be sent now.
    fn turn_of(&self, place: &Place, wish: &NodeWish, now: Instant) -> Option<bool> {
        let refused = self.refused.get(place).and_then(|nodes| nodes.get(&wish.config.node));
        let due = refused.is_none_or(|it| it.again.at <= now || it.fingerprint != wish.fingerprint());
        due.then_some(refused.is_some())
    }

    /// Sends what is to be sent now and is not `held`, unless a round is under way. Returns what is sent.
    pub fn begin(
        &mut self,
        place: &Place,
        sink: &Sink,
        wishes: &[Arc<NodeWish>],
        held: &BTreeSet<NodeName>,
        leadership: &Leadership,
    ) -> Vec<Arc<NodeWish>> {
        let now = Instant::now();
        let mut sent = Vec::new();
        for again in [false, true] {
            let key = (place.clone(), again);
            if self.errands.is_under_way(&key) {
                continue;
            }
            let due = wishes.iter().filter(|it| self.turn_of(place, it, now) == Some(again));
            let due = due.filter(|it| !held.contains(&it.config.node));
            let due = due.filter(|it| !sink.has(it) && !self.is_taken(place, it));
            let wishes: Vec<Arc<NodeWish>> = due.cloned().collect();
            if !wishes.is_empty() {
                sent.extend(wishes.iter().cloned());
                let (sink, place) = (sink.clone(), place.clone());
                let delivery = async move { sink.deliver(&place, wishes).await };
                self.errands.begin(key.clone(), key, leadership.guard(delivery));
            }
        }
        sent
    }

    /// What has come; waits a moment for the rest.
    pub async fn collect(&mut self) -> Vec<(Place, Vec<Sent>)> {
        let rounds = self.errands.collect(Some(TURN)).await;
        rounds.into_iter().map(|((place, _), round)| (place, round)).collect()
    }

    /// What has come.
    pub fn take(&mut self) -> Vec<(Place, Vec<Sent>)> {
        self.errands.take().into_iter().map(|((place, _), round)| (place, round)).collect()
    }

    /// Returns when a round has come that nobody waited for.
    pub async fn come(&mut self) {
        self.errands.come().await;
    }

    /// Remembers what became of a round. `longest` bounds the time before what was refused is tried again.
    pub fn settle(&mut self, place: &Place, round: &[Sent], longest: Duration) {
        for Sent { node, fingerprint, interfaces, result } in round {
            match result {
                Err(error) => self.refuse(place, (node, *fingerprint), error, longest),
                Ok(delivery) => {
                    if let Some(nodes) = self.refused.get_mut(place) {
                        nodes.remove(node);
                    }
                    // An object that somebody deletes is none that has NICs.
                    if *interfaces == 0 || *delivery != Delivery::Releasing {
                        let taken = self.taken.entry(place.clone()).or_default();
                        taken.insert(node.clone(), *fingerprint);
                    }
                }
            }
        }
    }

    /// Remembers that a wish, by its node and fingerprint, was refused.
    pub fn refuse(
        &mut self,
        place: &Place,
        (node, fingerprint): (&NodeName, u64),
        error: &SinkError,
        longest: Duration,
    ) {
        let nodes = self.refused.entry(place.clone()).or_default();
        let before = nodes.get(node).filter(|before| before.fingerprint == fingerprint);
        let again = Again::after(before.map(|before| before.again), longest);
        nodes.insert(node.clone(), Refused { fingerprint, error: error.clone(), again });
    }

    /// Tries everything again at once that can succeed without anybody changing something.
    pub fn hurry(&mut self) {
        let now = Instant::now();
        for refused in self.refused.values_mut().flat_map(BTreeMap::values_mut) {
            if refused.error.retry() {
                refused.again.at = now;
            }
        }
    }

    /// How a wish stands.
    pub fn progress(&self, place: &Place, sink: Option<&Sink>, wish: &NodeWish) -> Progress<'_> {
        if sink.is_some_and(|sink| sink.has(wish)) || self.is_taken(place, wish) {
            return Progress::Delivered;
        }
        let refused = self.refused.get(place).and_then(|nodes| nodes.get(&wish.config.node));
        let under_way = self.errands.is_under_way(&(place.clone(), refused.is_some()));
        match refused {
            Some(it) if !under_way || it.fingerprint == wish.fingerprint() => {
                Progress::Refused(&it.error, it.again.at)
            }
            _ => Progress::UnderWay,
        }
    }

    /// Forgets what was refused of nodes that are not to be delivered there any more.
    pub fn retain(&mut self, wanted: &[(Place, Vec<Arc<NodeWish>>)]) {
        self.refused.retain(|place, nodes| {
            let wishes = wanted.iter().filter(|(other, _)| other == place).flat_map(|(_, wishes)| wishes);
            let wanted: BTreeSet<&NodeName> = wishes.map(|wish| &wish.config.node).collect();
            nodes.retain(|node, _| wanted.contains(node));
            !nodes.is_empty()
        });
    }
}

/// The base URL of a Viola, which its id begins with.
fn endpoint_of(id: &str) -> Option<&str> {
    id.split_once(' ').map(|(endpoint, _)| endpoint)
}
