//! Delivers what is published to the sinks of each configuration, and remembers what they have.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use multinic_core::desired::Position;
use multinic_core::published::Published;
use multinic_core::{ConfigKey, MacAddr, NodeName};
use multinic_store::inventory::RecordKey;
use multinic_store::{Removed, Store, StoreError};
use tokio::sync::Notify;

use super::access::Cluster;
use super::conditions::Undelivered;
use super::failures::{Failure, Owners, failed, failure, hold, judge, skipped};
use super::farewells::Farewells;
use super::lease::Leadership;
use super::ledger::Trust;
use super::metrics::ClusterMetrics;
use super::placement::{Defaults, Location, Placement, Target};
use super::places::{Places, Standing};
use super::project::{Projection, project};
use super::reconciler::sooner;
use super::removals::Removals;
use super::rounds::{LEAST_RETRY, Place, Progress, Rounds, Sent};
use crate::inventory::Inventory;
use crate::inventory::reports::Reports;
use crate::pass::Controller;
use crate::sinks::{Delivery, NodeWish, SinkError, ViolaSink};

/// How long a NIC that came back from a lost ledger must not be named by any configuration before its node is delivered
/// without it.
pub(super) const UNCLAIMED: Duration = Duration::from_secs(600);
/// When nodes that are cleaning up are looked at again.
const RELEASING: Duration = Duration::from_secs(5);
/// The same behind a Viola, which has to be asked.
const VIOLA_RELEASING: Duration = Duration::from_secs(15);

/// Looks a variable up that is secret and so no flag.
pub(super) type Environment = fn(&str) -> Option<String>;

/// Delivers.
pub(super) struct Deliverer {
    pub client: Client,
    pub defaults: Defaults,
    pub environment: Environment,
    pub inventory: Option<Inventory>,
    pub metrics: ClusterMetrics,
    /// The longest time before what failed is tried again.
    pub error_interval: Duration,
    /// Told when a sink has something else than what was delivered.
    pub drift: Arc<Notify>,
    /// The last known placement of each configuration that is there.
    pub placements: BTreeMap<ConfigKey, Placement>,
    /// Configurations that are there and whose placement was never known.
    pub unplaced: BTreeSet<ConfigKey>,
    /// The recorded placements of configurations that are not there and own something; none where what is recorded cannot be
    /// spoken to.
    pub absent: BTreeMap<ConfigKey, Option<Placement>>,
    /// Until when anything may be sent.
    pub leadership: Leadership,
    pub(super) memory: Memory,
}

/// What is remembered between deliveries.
#[derive(Default)]
pub(super) struct Memory {
    pub sinks: BTreeMap<Target, Cluster>,
    pub violas: HashMap<String, Arc<ViolaSink>>,
    /// Deliveries that are under way, and what was refused.
    pub rounds: Rounds,
    /// The same for what was left.
    pub farewells: Farewells,
    /// What each Viola was sent.
    posted: BTreeMap<(Place, NodeName), u64>,
    /// Configurations of which somebody asks that Violas are sent everything again: these cannot be asked what they have.
    pub resend: BTreeSet<ConfigKey>,
    /// The inventory's records with the hashes of their configurations; none before they were read.
    pub records: Option<BTreeMap<RecordKey, String>>,
    /// How far what agents report was taken.
    pub reports: Reports,
    /// Nodes whose agents were seen to clean up.
    pub releasing: BTreeSet<(Target, NodeName)>,
    /// Where configurations were delivered; none before it was read.
    pub places: Option<Places>,
    /// NICs that were taken away from nodes which have others, and whose slots are not free yet.
    pub shrunk: BTreeMap<NodeName, Vec<MacAddr>>,
    /// How new the ledger is.
    pub trust: Trust,
}

impl Memory {
    /// Returns when a delivery has come to its end that nobody waited for.
    pub async fn come(&mut self) {
        tokio::select! {
            () = self.rounds.come() => {}
            () = self.farewells.come() => {}
        }
    }

    /// It is not known any more what Violas have of the nodes of those who ask for it.
    fn forget_resent(&mut self, published: &Published) {
        let resend = std::mem::take(&mut self.resend);
        if resend.is_empty() {
            return;
        }
        let rows = published.interfaces.iter().filter(|row| resend.contains(&row.owner));
        let nodes: BTreeSet<&NodeName> = rows.map(|row| &row.node).collect();
        self.posted.retain(|(_, node), _| !nodes.contains(node));
    }

    /// It is not known any more what a Viola has of a node.
    pub fn forget_posted(&mut self, location: &Location, node: &NodeName) {
        self.posted.retain(|(place, name), _| !(name == node && place.is_at(location)));
    }
}

/// What became of a delivery.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// What could not be delivered, by configuration.
    pub undelivered: BTreeMap<ConfigKey, Vec<Undelivered>>,
    /// Nodes that were written, with how many NICs they are to have.
    pub written: Vec<(NodeName, usize)>,
    /// When to deliver again although nothing changes.
    pub again: Option<Instant>,
    /// The places that were told that nodes have nothing left, and know it.
    pub buried: BTreeSet<(Location, NodeName)>,
    /// Nodes of which a Viola says that they have no object any more.
    pub gone: BTreeSet<NodeName>,
    /// Configurations that moved and of which something is still at the old place, with its name.
    pub leaving: BTreeMap<ConfigKey, String>,
}

impl Deliverer {
    /// Delivers everything that is published and not there yet. An error is the ledger's or the inventory's.
    pub async fn deliver(
        &mut self,
        controller: &Controller,
        standing: &Standing,
    ) -> Result<Delivered, StoreError> {
        let store = controller.store();
        // Before what is delivered: an object never names more than it has.
        let position = store.position().await?;
        self.memory.trust.stands(&position);
        let published = controller.published().await?;
        let removed = store.removed().await?;
        self.memory.forget_resent(&published);
        let mut done = Delivered::default();
        self.memory.rounds.anew();
        let rounds = self.memory.rounds.take();
        self.settle_rounds(store, rounds, &removed, &mut done).await?;
        self.memory.farewells.take(self.error_interval);
        self.read_records().await?;
        let unknown = self.defaults.place_unknown(&self.environment);
        let mut owners = Owners::new();
        for Removed { node, owner, .. } in &removed {
            owners.entry(node.clone()).or_default().extend(owner.clone());
        }
        let unsettled = standing.live.iter().find(|key| !published.spec_hashes.contains_key(*key));
        let mut places = match self.memory.places.take() {
            Some(places) => places,
            None => Places::read(store).await?,
        };
        self.place_absent(&places, &published, &removed);
        let left = self.places_left(store, &mut places, (&published, &removed), standing).await?;
        self.memory.places = Some(places);
        let (mut projection, removals) = {
            let targets = self.places().chain([&unknown]).filter_map(|it| it.kubernetes.as_ref());
            let targets: BTreeSet<&Target> = targets.collect();
            let place = |key: &ConfigKey| self.place_of(key, &unknown);
            (project(&published, &removed, targets, place), Removals::new(&removed, place))
        };
        let mut departures = self.departures(left, &published, &removed, standing);
        let mut failures = skipped(&projection, &published);
        let sure = unsettled.is_none() && self.memory.trust.is_sure_of(&standing.live);
        let records = if sure { self.unknown_records(&published, &removed) } else { Vec::new() };
        drop(published);
        self.memory.shrunk = shrunk(&projection, &removed);
        let unclaimed = store.unclaimed(unsettled.is_none().then_some(UNCLAIMED)).await?;
        hold(&mut projection, unclaimed, unsettled, &owners, &mut failures);
        if !failures.is_empty() {
            // What is left as it is does not stay so for ever.
            sooner(&mut done.again, Instant::now() + self.error_interval.max(LEAST_RETRY));
        }
        let mut objects = std::mem::take(&mut projection.kubernetes);
        let mut news = self.news_for_violas(&projection, &removals);
        self.keep_back(&mut news, standing, &owners, &mut failures);
        self.set_aside(&mut departures, &mut objects, &mut news);
        let mut batches = wishes_of(objects);
        batches.extend(news);
        self.post((store, &position), &batches, &removed, &owners, &mut done, &mut failures).await?;
        let (late, waiting) = departures.due(&failures);
        for (place, wish) in
            waiting.iter().flat_map(|(place, wishes)| wishes.iter().map(move |it| (place, it)))
        {
            let lost = owners.get(&wish.config.node).into_iter().flatten();
            failures.push(failed(wish, lost, Undelivered::set_aside(&wish.config.node, &place.name())));
        }
        if !late.is_empty() {
            self.post((store, &position), &late, &removed, &owners, &mut done, &mut failures).await?;
            batches.extend(late);
        }
        self.memory.rounds.retain(&batches);
        self.take_leave((store, &position), &departures, &projection, &failures, &mut done).await?;
        self.note_removals((store, &position), &removals, &projection, &batches, &mut done).await?;
        Self::wait_for_leave(standing, &mut done);
        // What was delivered is delivered, whatever becomes of the inventory.
        let kept = self.keep_records(&projection, &failures, &records).await;
        if let Err(error) = kept {
            tracing::error!(error = %error, "the inventory cannot be written; it is tried again");
            sooner(&mut done.again, Instant::now() + self.error_interval);
        }
        self.tell_stale(standing, &batches, &failures, &mut done);
        judge(failures, &mut done);
        Ok(done)
    }

    /// Sends what is not there yet, as far as it is due, and says how every wish stands.
    async fn post(
        &mut self,
        (store, position): (&Store, &Position),
        batches: &[(Place, Vec<Arc<NodeWish>>)],
        removed: &[Removed],
        owners: &Owners,
        done: &mut Delivered,
        failures: &mut Vec<Failure>,
    ) -> Result<(), StoreError> {
        let mut sinks = Vec::new();
        for (place, wishes) in batches {
            let sink = match self.memory.rounds.is_due(place, wishes) {
                true => self.sink(place, position).await,
                // One that is known says what is there.
                false => Ok(self.known_sink(place, position)),
            };
            let held = self.memory.farewells.held(place);
            if let Ok(Some(sink)) = &sink {
                for wish in self.memory.rounds.begin(place, sink, wishes, &held, &self.leadership) {
                    // Until there is an answer nobody knows what a Viola has.
                    self.memory.posted.remove(&(place.clone(), wish.config.node.clone()));
                }
            }
            if let Err(error) = &sink {
                for wish in wishes {
                    self.memory.rounds.refuse(
                        place,
                        (&wish.config.node, wish.fingerprint()),
                        error,
                        self.error_interval,
                    );
                }
            }
            sinks.push((sink.ok().flatten(), held));
        }
        let rounds = self.memory.rounds.collect().await;
        self.settle_rounds(store, rounds, removed, done).await?;
        for ((place, wishes), (sink, held)) in batches.iter().zip(sinks) {
            let location = self.location(place);
            for wish in wishes {
                // Whoever lost a NIC waits for it to go, but not at a place where it never was.
                let lost = owners.get(&wish.config.node).into_iter().flatten();
                let lost = lost.filter(|owner| location.as_ref().is_none_or(|it| self.may_be_at(owner, it)));
                let progress = match held.contains(&wish.config.node) {
                    true => Progress::UnderWay,
                    false => self.memory.rounds.progress(place, sink.as_ref(), wish),
                };
                let failure = match progress {
                    Progress::Delivered => continue,
                    Progress::UnderWay => {
                        if !self.memory.rounds.is_under_way(|other| other == place) {
                            sooner(&mut done.again, Instant::now() + LEAST_RETRY);
                        }
                        failed(wish, lost, Undelivered::under_way(&place.name()))
                    }
                    Progress::Refused(error, again) => {
                        sooner(&mut done.again, again);
                        failure(wish, lost, place, error)
                    }
                };
                if !failure.owners.is_empty() {
                    failures.push(failure);
                }
            }
        }
        Ok(())
    }

    /// Whether something of a configuration may be at a place: it is published there, or was, or nobody knows.
    pub(super) fn may_be_at(&self, owner: &ConfigKey, location: &Location) -> bool {
        let recorded = self.memory.places.as_ref();
        recorded.is_none_or(|places| places.knows(owner, location))
            || self.placements.get(owner).is_none_or(|placement| placement.locations().contains(location))
    }

    /// Takes in what became of rounds.
    async fn settle_rounds(
        &mut self,
        store: &Store,
        rounds: Vec<(Place, Vec<Sent>)>,
        removed: &[Removed],
        done: &mut Delivered,
    ) -> Result<(), StoreError> {
        let (mut free, mut clean) = (Vec::new(), BTreeSet::new());
        for (place, round) in rounds {
            self.memory.rounds.settle(&place, &round, self.error_interval);
            let location = self.location(&place);
            let mut ailing = false;
            for Sent { node, fingerprint, interfaces, result } in round {
                let is_tombstone = interfaces == 0;
                self.metrics.delivered(place.kind(), word(&result));
                let delivery = match result {
                    Ok(delivery) => delivery,
                    Err(error) => {
                        ailing = true;
                        tracing::warn!(node_name = %node, place = place.name(), error = %error, "a node is not delivered");
                        continue;
                    }
                };
                if is_tombstone && delivery != Delivery::Releasing {
                    done.buried.extend(location.clone().map(|location| (location, node.clone())));
                }
                match &place {
                    Place::Kubernetes(target) => {
                        let releasing = (target.clone(), node.clone());
                        if delivery == Delivery::Releasing {
                            sooner(&mut done.again, Instant::now() + RELEASING);
                            self.memory.releasing.insert(releasing);
                            continue;
                        }
                        // Its agent held the object until its NICs were gone.
                        if self.memory.releasing.contains(&releasing) {
                            let gone = removed.iter().filter(|it| it.node == node && !it.released);
                            free.extend(gone.map(|it| (it.node.clone(), it.mac)));
                            clean.insert(releasing);
                        }
                        if delivery == Delivery::Unchanged {
                            continue;
                        }
                    }
                    // Nothing says when that ends but asking again.
                    Place::Viola { .. } if delivery == Delivery::Releasing => {
                        sooner(&mut done.again, Instant::now() + VIOLA_RELEASING);
                        continue;
                    }
                    Place::Viola { .. } => {
                        if is_tombstone && delivery == Delivery::Removed {
                            done.gone.insert(node.clone());
                        }
                        if !is_tombstone {
                            self.memory.posted.insert((place.clone(), node.clone()), fingerprint);
                        }
                    }
                }
                done.written.push((node, interfaces));
            }
            if let Place::Kubernetes(target) = &place
                && let Some(cluster) = self.memory.sinks.get_mut(target)
            {
                cluster.ailing = ailing;
            }
        }
        if !free.is_empty() {
            let count = store.release(&free).await?;
            tracing::debug!(count, "nodes have cleaned up; their slots are free");
        }
        // Only now: a ledger that fails is told again.
        self.memory.releasing.retain(|releasing| !clean.contains(releasing));
        Ok(())
    }

    /// What Violas are to be sent: what changed since they were, and what removals have not reached them.
    fn news_for_violas(
        &self,
        projection: &Projection,
        removals: &Removals,
    ) -> Vec<(Place, Vec<Arc<NodeWish>>)> {
        let mut batches = removals.tombstones(projection);
        for ((id, provider), wishes) in &projection.viola {
            let place = Place::Viola { id: id.clone(), provider: provider.clone() };
            let news = wishes.iter().filter(|wish| !self.has(&place, wish));
            batches.entry((id.clone(), provider.clone())).or_default().extend(news.cloned());
        }
        let place = |((id, provider), wishes)| (Place::Viola { id, provider }, wishes);
        batches.into_iter().map(place).collect()
    }

    /// Whether a Viola has a node as it is to be, by its answers to this process: a new one posts everything once.
    pub(super) fn has(&self, place: &Place, wish: &NodeWish) -> bool {
        let posted = self.memory.posted.get(&(place.clone(), wish.config.node.clone()));
        posted.is_some_and(|posted| *posted == wish.fingerprint())
    }

    /// Lets a configuration that is deleted wait for what is still at places that it left.
    fn wait_for_leave(standing: &Standing, done: &mut Delivered) {
        let leaving = done.leaving.iter().filter(|(owner, _)| !standing.live.contains(owner));
        let leaving: Vec<_> = leaving.map(|(owner, place)| (owner.clone(), place.clone())).collect();
        for (owner, place) in leaving {
            done.moving(&owner, format!("what was published at {place} is being taken away"));
        }
    }
}

fn wishes_of(kubernetes: BTreeMap<Target, Vec<Arc<NodeWish>>>) -> Vec<(Place, Vec<Arc<NodeWish>>)> {
    let wishes = kubernetes.into_iter().filter(|(_, wishes)| !wishes.is_empty());
    wishes.map(|(target, wishes)| (Place::Kubernetes(target), wishes)).collect()
}

/// What was taken away from nodes that have other NICs and has not been let go.
fn shrunk(projection: &Projection, removed: &[Removed]) -> BTreeMap<NodeName, Vec<MacAddr>> {
    let there: BTreeSet<&NodeName> = projection
        .kubernetes
        .values()
        .flatten()
        .filter(|wish| !wish.is_tombstone())
        .map(|wish| &wish.config.node)
        .collect();
    let mut shrunk: BTreeMap<NodeName, Vec<MacAddr>> = BTreeMap::new();
    for Removed { node, mac, .. } in removed.iter().filter(|it| !it.released && there.contains(&it.node)) {
        shrunk.entry(node.clone()).or_default().push(*mac);
    }
    shrunk
}

fn word(result: &Result<Delivery, SinkError>) -> &'static str {
    match result {
        Ok(Delivery::Unchanged) => "unchanged",
        Ok(Delivery::Applied) => "applied",
        Ok(Delivery::Removed) => "removed",
        Ok(Delivery::Releasing) => "releasing",
        Err(_) => "error",
    }
}
