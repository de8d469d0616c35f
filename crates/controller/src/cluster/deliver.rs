//! Delivers what is published to the sinks of each configuration, and remembers what they have.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use multinic_core::desired::Position;
use multinic_core::published::Published;
use multinic_core::{ConfigKey, MacAddr, NodeName};
use multinic_store::inventory::RecordKey;
use multinic_store::{RememberedNic, Removed, Store, StoreError};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::conditions::Undelivered;
use super::gone::Waiting;
use super::ledger::Trust;
use super::metrics::ClusterMetrics;
use super::moves::{Places, Standing, is_farewell};
use super::placement::{Defaults, Location, Placement, Target, Viola};
use super::project::{Projection, project};
use super::reconciler::sooner;
use super::removals::Removals;
use super::report::MANAGER;
use super::rounds::{LEAST_RETRY, Place, Progress, Round, Rounds, Silent, Sink};
use super::secrets::Secrets;
use crate::inventory::Inventory;
use crate::inventory::reports::Reports;
use crate::sinks::{Delivery, KubernetesSink, NodeWish, SinkError, ViolaSink};

/// A kubeconfig that rotated is found so late at most.
const KUBECONFIG_AGE: Duration = Duration::from_secs(300);
/// How long a NIC that came back from a lost ledger must not be named by any configuration before its node is delivered
/// without it.
const UNCLAIMED: Duration = Duration::from_secs(600);
/// How many deliveries of one configuration are told that failed.
const MOST_ALIKE: usize = 16;
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
    pub(super) memory: Memory,
}

/// What is remembered between deliveries.
#[derive(Default)]
pub(super) struct Memory {
    pub sinks: BTreeMap<Target, Cluster>,
    violas: HashMap<String, Arc<ViolaSink>>,
    /// Deliveries that are under way, and what was refused.
    pub rounds: Rounds,
    /// The same for what was left.
    pub farewells: Rounds,
    /// Places that did not answer when they were looked at.
    pub silent: Silent,
    /// What each Viola was sent, by Viola, provider and node.
    posted: BTreeMap<(String, String, NodeName), u64>,
    /// The inventory's records with the hashes of their configurations; none before they were read.
    pub records: Option<BTreeMap<RecordKey, String>>,
    /// How far what agents report was taken.
    pub reports: Reports,
    /// Nodes whose agents were seen to clean up.
    pub releasing: BTreeSet<(Target, NodeName)>,
    /// Objects that wait for their nodes' agents.
    pub waiting: Waiting,
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

    /// A Viola has nothing of a node any more.
    pub fn forget_posted(&mut self, url: &str, provider: &str, node: &NodeName) {
        let violas = &self.violas;
        let is_of = |id: &String| violas.get(id).is_some_and(|viola| viola.url() == url);
        self.posted.retain(|(id, at, name), _| !(at == provider && name == node && is_of(id)));
    }
}

/// A sink with what follows it.
pub(super) struct Cluster {
    pub sink: Arc<KubernetesSink>,
    follower: JoinHandle<()>,
    kubeconfig: Option<SecretString>,
    read: Instant,
    /// Whether the last delivery had an error.
    ailing: bool,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.follower.abort();
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

/// One node that could not be delivered.
pub(super) struct Failure {
    pub node: NodeName,
    owners: BTreeSet<ConfigKey>,
    undelivered: Undelivered,
}

impl Failure {
    /// Whether that is why.
    pub fn is(&self, reason: &str) -> bool {
        self.undelivered.reason == reason
    }
}

type Owners = BTreeMap<NodeName, BTreeSet<ConfigKey>>;

impl Deliverer {
    /// Delivers everything that is published and not there yet. An error is the ledger's or the inventory's.
    pub async fn deliver(&mut self, store: &Store, standing: &Standing) -> Result<Delivered, StoreError> {
        // Before what is delivered: an object never names more than it has.
        let position = store.position().await?;
        self.memory.trust.stands(&position);
        let published = store.published().await?;
        let removed = store.removed().await?;
        let mut done = Delivered::default();
        self.memory.rounds.anew();
        let rounds = self.memory.rounds.take();
        self.settle_rounds(store, rounds, &removed, &mut done).await?;
        self.memory.farewells.anew();
        for (place, Round { wishes, results }) in self.memory.farewells.take() {
            self.memory.farewells.settle(&place, &wishes, &results, self.error_interval);
        }
        self.read_records().await?;
        let unknown = self.defaults.place_unknown(&self.environment);
        let mut owners = Owners::new();
        for Removed { node, owner, .. } in &removed {
            owners.entry(node.clone()).or_default().extend(owner.clone());
        }
        let unsettled = standing.live.iter().find(|key| !published.spec_hashes.contains_key(*key));
        self.place_absent(store, &published, &removed).await?;
        let (mut projection, removals) = {
            let targets = self.places().chain([&unknown]).filter_map(|it| it.kubernetes.as_ref());
            let targets: BTreeSet<&Target> = targets.collect();
            let place = |key: &ConfigKey| self.place_of(key, &unknown);
            (project(&published, &removed, targets, place), Removals::new(&removed, place))
        };
        let mut departures = self.departures(store, &published, &removed, standing, &mut done).await?;
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
        departures.set_aside(&mut projection);
        let mut batches = wishes_of(std::mem::take(&mut projection.kubernetes));
        batches.extend(self.news_for_violas(&projection, &removals));
        self.post((store, &position), &batches, &removed, &owners, &mut done, &mut failures).await?;
        let late = departures.due(&failures);
        if !late.is_empty() {
            self.post((store, &position), &late, &removed, &owners, &mut done, &mut failures).await?;
            batches.extend(late);
        }
        self.memory.rounds.retain(&batches);
        self.take_leave((store, &position), departures, &projection, &failures, &mut done).await?;
        self.note_removals((store, &position), &removals, &projection, &batches, &mut done).await?;
        self.wait_for_leave(standing, &mut done);
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
            if let Ok(Some(sink)) = &sink
                && !self.is_being_left(place)
            {
                let sent = self.memory.rounds.begin(place, sink, wishes);
                self.forget_posted(place, &sent);
            }
            if let Err(error) = &sink {
                for wish in wishes {
                    self.memory.rounds.refuse(place, wish, error, self.error_interval);
                }
            }
            sinks.push(sink.ok().flatten());
        }
        let rounds = self.memory.rounds.collect().await;
        self.settle_rounds(store, rounds, removed, done).await?;
        for ((place, wishes), sink) in batches.iter().zip(sinks) {
            let location = self.location(place);
            for wish in wishes {
                // Whoever lost a NIC waits for it to go, but not at a place where it never was.
                let lost = owners.get(&wish.config.node).into_iter().flatten();
                let lost = lost.filter(|owner| location.as_ref().is_none_or(|it| self.may_be_at(owner, it)));
                let failure = match self.memory.rounds.progress(place, sink.as_ref(), wish) {
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

    /// Until there is an answer nobody knows what a Viola has.
    fn forget_posted(&mut self, place: &Place, sent: &[Arc<NodeWish>]) {
        if let Place::Viola { id, provider } = place {
            for wish in sent {
                self.memory.posted.remove(&(id.clone(), provider.clone(), wish.config.node.clone()));
            }
        }
    }

    /// Whether something is on its way that takes nodes away at a place: what is sent now could arrive before it.
    fn is_being_left(&self, place: &Place) -> bool {
        let Some(Location::Viola { endpoint, provider }) = self.location(place) else { return false };
        self.memory.farewells.is_under_way(|left| is_farewell(left, &endpoint, &provider))
    }

    /// Whether something of a configuration may be at a place: it is published there, or was, or nobody knows.
    fn may_be_at(&self, owner: &ConfigKey, location: &Location) -> bool {
        let recorded = self.memory.places.as_ref();
        recorded.is_none_or(|places| places.knows(owner, location))
            || self.placements.get(owner).is_none_or(|placement| placement.locations().contains(location))
    }

    /// Takes in what became of rounds.
    async fn settle_rounds(
        &mut self,
        store: &Store,
        rounds: Vec<(Place, Round)>,
        removed: &[Removed],
        done: &mut Delivered,
    ) -> Result<(), StoreError> {
        let mut free: Vec<(NodeName, MacAddr)> = Vec::new();
        for (place, Round { wishes, results }) in rounds {
            let wanted: HashMap<&NodeName, &Arc<NodeWish>> =
                wishes.iter().map(|wish| (&wish.config.node, wish)).collect();
            self.memory.rounds.settle(&place, &wishes, &results, self.error_interval);
            let mut ailing = false;
            for (node, result) in results {
                let Some(wish) = wanted.get(&node) else { continue };
                self.metrics.delivered(place.kind(), word(&result));
                let delivery = match result {
                    Ok(delivery) => delivery,
                    Err(error) => {
                        ailing = true;
                        tracing::warn!(node_name = %node, place = place.name(), error = %error, "a node is not delivered");
                        continue;
                    }
                };
                if wish.is_tombstone() && delivery != Delivery::Releasing {
                    done.buried.extend(self.location(&place).map(|location| (location, node.clone())));
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
                        if self.memory.releasing.remove(&releasing) {
                            let gone = removed.iter().filter(|it| it.node == node && !it.released);
                            free.extend(gone.map(|it| (it.node.clone(), it.mac)));
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
                    Place::Viola { id, provider } => {
                        if wish.is_tombstone() && delivery == Delivery::Removed {
                            done.gone.insert(node.clone());
                        }
                        let key = (id.clone(), provider.clone(), node.clone());
                        match wish.is_tombstone() {
                            true => drop(self.memory.posted.remove(&key)),
                            false => drop(self.memory.posted.insert(key, wish.fingerprint())),
                        }
                    }
                }
                done.written.push((node, wish.config.interfaces.len()));
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
        Ok(())
    }

    /// How a place is spoken to, if that is known already.
    fn known_sink(&self, place: &Place, position: &Position) -> Option<Sink> {
        match place {
            Place::Kubernetes(target) => {
                let sink = Arc::clone(&self.memory.sinks.get(target)?.sink);
                Some(Sink::Kubernetes(sink, Arc::new(self.memory.trust.ledger(target, position))))
            }
            Place::Viola { id, .. } => self.memory.violas.get(id).cloned().map(Sink::Viola),
        }
    }

    /// How a place is spoken to.
    async fn sink(&mut self, place: &Place, position: &Position) -> Result<Option<Sink>, SinkError> {
        if let Place::Kubernetes(target) = place {
            self.cluster(target).await?;
        }
        if let Some(known) = self.known_sink(place, position) {
            return Ok(Some(known));
        }
        let Place::Viola { id, .. } = place else { return Ok(None) };
        let Some(viola) = self.violas().find(|viola| viola.id == *id) else { return Ok(None) };
        let sink = Arc::new(ViolaSink::new(viola.settings)?);
        self.memory.violas.insert(id.clone(), Arc::clone(&sink));
        Ok(Some(Sink::Viola(sink)))
    }

    /// Every Viola that something may be delivered to.
    fn violas(&self) -> impl Iterator<Item = Viola> {
        let unknown = self.defaults.place_unknown(&self.environment).viola;
        let known = self.places().filter_map(|placement| placement.viola.clone()).collect::<Vec<_>>();
        known.into_iter().chain(unknown)
    }

    /// A place in the words of the ledger.
    pub(super) fn location(&self, place: &Place) -> Option<Location> {
        match place {
            Place::Kubernetes(target) => Some(Location::Kubernetes(target.clone())),
            Place::Viola { id, provider } => {
                let viola = self.violas().find(|viola| viola.id == *id)?;
                let endpoint = viola.settings.endpoint.to_string();
                Some(Location::Viola { endpoint, provider: provider.clone() })
            }
        }
    }

    /// The sink of a target, made anew where its kubeconfig is another one now.
    async fn cluster(&mut self, target: &Target) -> Result<Arc<KubernetesSink>, SinkError> {
        let now = Instant::now();
        if let Some(known) = self.memory.sinks.get(target) {
            let current = match &target.kubeconfig {
                None => true,
                Some(_) if !known.ailing => now.duration_since(known.read) < KUBECONFIG_AGE,
                Some(_) => false,
            };
            if current {
                return Ok(Arc::clone(&known.sink));
            }
        }
        let kubeconfig = self.kubeconfig(target).await?;
        if let Some(known) = self.memory.sinks.get_mut(target) {
            let text =
                |secret: &Option<SecretString>| secret.as_ref().map(|it| it.expose_secret().to_owned());
            known.read = now;
            if text(&known.kubeconfig) == text(&kubeconfig) {
                return Ok(Arc::clone(&known.sink));
            }
        }
        let sink = match &kubeconfig {
            None => KubernetesSink::new(self.client.clone(), &target.namespace, MANAGER),
            Some(text) => KubernetesSink::for_kubeconfig(text, &target.namespace, MANAGER).await?,
        };
        let sink = Arc::new(sink);
        let (watched, drift) = (Arc::clone(&sink), Arc::clone(&self.drift));
        let follower = tokio::spawn(async move {
            loop {
                watched.drifted().await;
                drift.notify_one();
            }
        });
        let cluster = Cluster { sink: Arc::clone(&sink), follower, kubeconfig, read: now, ailing: false };
        self.memory.sinks.insert(target.clone(), cluster);
        Ok(sink)
    }

    async fn kubeconfig(&self, target: &Target) -> Result<Option<SecretString>, SinkError> {
        let Some((namespace, name, key)) = &target.kubeconfig else { return Ok(None) };
        let mut secrets = Secrets::new(self.client.clone(), namespace);
        let text = secrets.text("spec.target.kubeconfigSecretRef", name, key).await;
        let text =
            text.map_err(|error| SinkError::Kubeconfig(format!("{}: {}", error.field, error.problem)))?;
        Ok(Some(text))
    }

    /// The sink of a target for a look at what is there.
    pub async fn look(&mut self, target: &Target) -> Result<Arc<KubernetesSink>, SinkError> {
        self.cluster(target).await
    }

    /// What Violas are to be sent: what changed since they were, and what removals have not reached them.
    fn news_for_violas(
        &self,
        projection: &Projection,
        removals: &Removals,
    ) -> Vec<(Place, Vec<Arc<NodeWish>>)> {
        let mut batches = removals.tombstones(projection, |owner| self.memory.trust.may_bury(owner));
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
        let Place::Viola { id, provider } = place else { return false };
        let node = wish.config.node.clone();
        let posted = self.memory.posted.get(&(id.clone(), provider.clone(), node));
        posted.is_some_and(|posted| *posted == wish.fingerprint())
    }

    /// Looks again at what was left, and lets a configuration that is deleted wait for it.
    fn wait_for_leave(&self, standing: &Standing, done: &mut Delivered) {
        for (owner, place) in std::mem::take(&mut done.leaving) {
            let list = done.undelivered.entry(owner.clone()).or_default();
            let wait = if list.is_empty() { RELEASING } else { self.error_interval.max(LEAST_RETRY) };
            sooner(&mut done.again, Instant::now() + wait);
            if list.is_empty() && !standing.live.contains(&owner) {
                let message = format!("what was published at {place} is being taken away");
                list.push(Undelivered { reason: "Moving", removal: true, message });
            }
        }
    }
}

/// Says of each configuration what of it is not delivered.
fn judge(failures: Vec<Failure>, done: &mut Delivered) {
    for Failure { node: _, owners, undelivered } in failures {
        for owner in owners {
            let list = done.undelivered.entry(owner).or_default();
            // Of many alike, a few say it all.
            let alike = list.iter().filter(|one| one.removal == undelivered.removal).count();
            if alike < MOST_ALIKE && !list.contains(&undelivered) {
                list.push(undelivered.clone());
            }
        }
    }
}

fn wishes_of(kubernetes: BTreeMap<Target, Vec<Arc<NodeWish>>>) -> Vec<(Place, Vec<Arc<NodeWish>>)> {
    let wishes = kubernetes.into_iter().filter(|(_, wishes)| !wishes.is_empty());
    wishes.map(|(target, wishes)| (Place::Kubernetes(target), wishes)).collect()
}

/// Leaves nodes as they are which have NICs that no configuration named yet since the ledger was lost: delivered without
/// them they would lose them, and nothing proves that they are to go.
fn hold(
    projection: &mut Projection,
    unclaimed: Vec<RememberedNic>,
    unsettled: Option<&ConfigKey>,
    owners: &Owners,
    failures: &mut Vec<Failure>,
) {
    let mut held: BTreeMap<NodeName, Vec<String>> = BTreeMap::new();
    for nic in unclaimed {
        held.entry(nic.node).or_default().push(nic.mac.to_string());
    }
    if held.is_empty() {
        return;
    }
    let until = match unsettled {
        Some(config) => format!("{config} is carried out completely"),
        None => format!("that has been so for {} minutes", UNCLAIMED.as_secs() / 60),
    };
    let mut seen = BTreeSet::new();
    let mut tell = |wish: &NodeWish| {
        let node = &wish.config.node;
        let Some(macs) = held.get(node).filter(|_| seen.insert(node.clone())) else { return };
        let message = format!(
            "node {node}: {} came back with a ledger that was lost, and no configuration names them yet; the node stays as \
             it is until {until}",
            macs.join(", ")
        );
        let undelivered = Undelivered { reason: "UnclaimedInterfaces", removal: false, message };
        failures.push(failed(wish, owners.get(node).into_iter().flatten(), undelivered));
    };
    let Projection { kubernetes, viola, providers, skipped, .. } = projection;
    let is_held = |wish: &NodeWish| held.contains_key(&wish.config.node);
    for wishes in kubernetes.values_mut() {
        wishes.extract_if(.., |wish| is_held(wish)).for_each(|wish| tell(&wish));
    }
    for wishes in viola.values_mut() {
        wishes.extract_if(.., |wish| is_held(wish)).for_each(|wish| tell(&wish));
    }
    for wishes in providers.values_mut() {
        wishes.retain(|wish| !is_held(wish));
    }
    skipped.extend(held.into_keys());
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

/// Nodes that are left as they are: whoever has something there is not delivered.
fn skipped(projection: &Projection, published: &Published) -> Vec<Failure> {
    let mut owners = Owners::new();
    for row in published.interfaces.iter().filter(|row| projection.skipped.contains(&row.node)) {
        owners.entry(row.node.clone()).or_default().insert(row.owner.clone());
    }
    let failure = |(node, owners): (NodeName, BTreeSet<ConfigKey>)| {
        let names: Vec<String> = owners.iter().map(ToString::to_string).collect();
        let message = format!(
            "node {node} is left as it is: where all of its configurations ({}) publish, and what, is not known yet",
            names.join(", ")
        );
        let undelivered = Undelivered { reason: "NodeSkipped", removal: false, message };
        Failure { node, owners, undelivered }
    };
    owners.into_iter().map(failure).collect()
}

fn failure<'a>(
    wish: &'a NodeWish,
    lost: impl Iterator<Item = &'a ConfigKey>,
    place: &Place,
    error: &SinkError,
) -> Failure {
    let reason = place.reason(error);
    let node = &wish.config.node;
    let removal = matches!(error, SinkError::RemovalNotPropagated { .. });
    let text = error.to_string();
    let message = if text.contains(node.as_str()) { text } else { format!("node {node}: {text}") };
    let mut failed = failed(wish, lost, Undelivered { reason, removal, message });
    if let SinkError::LedgerStale { owners, .. } = error {
        failed.owners.extend(owners.iter().cloned());
    }
    failed
}

/// `lost` are those who lost something of the node.
fn failed<'a>(
    wish: &'a NodeWish,
    lost: impl Iterator<Item = &'a ConfigKey>,
    undelivered: Undelivered,
) -> Failure {
    let owners = wish.owners.values().chain(lost).cloned().collect();
    Failure { node: wish.config.node.clone(), owners, undelivered }
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
