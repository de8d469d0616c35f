//! Configurations that moved: to other sinks, another cluster, another namespace. What they published at the old place is
//! taken away there, once it stands at the new one.
//!
//! The ledger records each place before anything is delivered to it, so that a place that was left is known after a restart
//! too. Only what the configuration itself says of places makes it leave one: where a setting of the controller moves it, such
//! as a variable that was lost, everything stays. So it does where one Viola takes the place of another, since nobody can tell
//! whether both lead to one cluster. Of objects it can be told: one that stands at the new place is not deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use multinic_core::desired::Position;
use multinic_core::published::Published;
use multinic_core::{ConfigKey, NodeName};
use multinic_store::{PlaceRecord, Reached, Removed, Store, StoreError};

use super::conditions::Undelivered;
use super::deliver::{Delivered, Deliverer, Failure};
use super::placement::{Location, Placement, Target};
use super::project::{Projection, tombstone};
use super::rounds::{Place, Progress, Round, Sink};
use crate::sinks::kubernetes::Farewell;
use crate::sinks::{KubernetesSink, Ledger, NodeWish, SinkError, ViolaSink};

/// The configurations that a delivery is for.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Those that are there and not deleted.
    pub live: BTreeSet<ConfigKey>,
    /// Those whose annotation lets everything stay where it is.
    pub forsaking: BTreeSet<ConfigKey>,
}

/// What is remembered of places.
#[derive(Debug)]
pub(super) struct Places {
    /// Each place with what was said when it was last delivered there.
    known: BTreeMap<(ConfigKey, Location), Said>,
    /// Places that a setting of the controller left; told once.
    told: BTreeSet<(ConfigKey, Location)>,
}

/// What a record of a place says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    /// The configuration's choice.
    choice: String,
    /// Rises from record to record.
    number: u64,
}

/// Places that were left, with what may be there.
#[derive(Default)]
pub(super) struct Departures {
    /// By target: who left it, and the nodes with objects that name those, with everybody whom they name.
    targets: BTreeMap<Target, Left>,
    /// By configuration, endpoint and provider: the nodes that may be there.
    violas: BTreeMap<(ConfigKey, String, String), BTreeSet<NodeName>>,
    /// Who publishes each node now.
    owners: BTreeMap<NodeName, BTreeSet<ConfigKey>>,
    /// Wishes that wait for what is delivered elsewhere.
    late: BTreeMap<Target, Vec<Arc<NodeWish>>>,
}

struct Left {
    by: BTreeSet<ConfigKey>,
    sink: Arc<KubernetesSink>,
    nodes: BTreeMap<NodeName, BTreeSet<ConfigKey>>,
}

/// What there is to say of what was left.
enum Rest {
    Nothing,
    Waits,
    /// The node's agent has to look at the other object first.
    IsRead,
}

impl Deliverer {
    /// Records where each configuration is delivered to, and finds out what was left.
    pub(super) async fn departures(
        &mut self,
        store: &Store,
        published: &Published,
        removed: &[Removed],
        standing: &Standing,
        done: &mut Delivered,
    ) -> Result<Departures, StoreError> {
        let left = self.places_left(store, published, removed, standing).await?;
        let mut departures = Departures::default();
        if left.is_empty() {
            return Ok(departures);
        }
        for row in &published.interfaces {
            departures.owners.entry(row.node.clone()).or_default().insert(row.owner.clone());
        }
        let mut targets: BTreeMap<Target, BTreeSet<ConfigKey>> = BTreeMap::new();
        for (owner, location) in left {
            match location {
                Location::Kubernetes(target) => drop(targets.entry(target).or_default().insert(owner)),
                Location::Viola { endpoint, provider } => {
                    let there =
                        published.interfaces.iter().filter(|row| row.owner == owner).map(|row| &row.node);
                    let gone =
                        removed.iter().filter(|it| it.owner.as_ref() == Some(&owner)).map(|it| &it.node);
                    let nodes = there.chain(gone).cloned().collect();
                    departures.violas.insert((owner, endpoint, provider), nodes);
                }
            }
        }
        for (target, by) in targets {
            let (name, pause) = (target.name(), self.error_interval);
            let mut silent = std::mem::take(&mut self.memory.silent);
            let found = silent.look(&name, pause, self.look_back(&target)).await;
            self.memory.silent = silent;
            match found {
                Ok((sink, mut nodes)) => {
                    nodes.retain(|_, owners| !owners.is_disjoint(&by));
                    departures.targets.insert(target, Left { by, sink, nodes });
                }
                Err(error) => {
                    for owner in by {
                        done.not_left(&owner, &target.name(), error.reason(), &error.to_string());
                    }
                }
            }
        }
        Ok(departures)
    }

    /// The places that configurations have left, and where something is to be taken away.
    async fn places_left(
        &mut self,
        store: &Store,
        published: &Published,
        removed: &[Removed],
        standing: &Standing,
    ) -> Result<Vec<(ConfigKey, Location)>, StoreError> {
        let mut places = match self.memory.places.take() {
            Some(places) => places,
            None => Places::read(store).await?,
        };
        let mut news = Vec::new();
        for (owner, placement) in &self.placements {
            for location in placement.locations() {
                let key = (owner.clone(), location);
                if places.known.get(&key).is_none_or(|said| said.choice != placement.choice) {
                    news.push((key, placement.choice.clone()));
                }
            }
        }
        places.record(store, news).await?;
        let (mut left, mut forgotten) = (Vec::new(), Vec::new());
        for (key, Said { choice, .. }) in &places.known {
            let (owner, location) = key;
            let Some(placement) = self.placements.get(owner) else {
                let due =
                    |it: &Removed| it.owner.as_ref() == Some(owner) && it.delivered != Reached::Everything;
                let has_nothing = || {
                    !published.interfaces.iter().any(|row| row.owner == *owner) && !removed.iter().any(due)
                };
                if !self.unplaced.contains(owner) && has_nothing() {
                    forgotten.push(key.clone());
                }
                continue;
            };
            if placement.locations().contains(location) {
                continue;
            }
            let other_viola = matches!(location, Location::Viola { .. }) && placement.viola.is_some();
            if standing.forsaking.contains(owner) || other_viola {
                tracing::warn!(config = %owner, place = location.name(), "what was published there stays there");
                forgotten.push(key.clone());
            } else if *choice != placement.choice {
                left.push(key.clone());
            } else if places.told.insert(key.clone()) {
                tracing::warn!(
                    config = %owner, place = location.name(),
                    "what was published there stays there, since the controller's settings and not the configuration left it"
                );
            }
        }
        for key in forgotten {
            store.forget_place(&key.0, &key.1.text()).await?;
            places.known.remove(&key);
        }
        self.memory.places = Some(places);
        Ok(left)
    }

    /// The objects of a place, with the configurations that they name.
    async fn look_back(
        &mut self,
        target: &Target,
    ) -> Result<(Arc<KubernetesSink>, BTreeMap<NodeName, BTreeSet<ConfigKey>>), SinkError> {
        let sink = self.look(target).await?;
        let mut nodes: BTreeMap<NodeName, BTreeSet<ConfigKey>> = BTreeMap::new();
        for row in sink.published().await? {
            nodes.entry(row.node).or_default().insert(row.owner);
        }
        Ok((sink, nodes))
    }

    /// Takes away what was left, as far as it stands at its new place.
    pub(super) async fn take_leave(
        &mut self,
        (store, position): (&Store, &Position),
        departures: Departures,
        projection: &Projection,
        failures: &[Failure],
        done: &mut Delivered,
    ) -> Result<(), StoreError> {
        let failed: BTreeSet<&NodeName> = failures.iter().map(|failure| &failure.node).collect();
        let is_settled = |node: &NodeName| !failed.contains(node) && !projection.skipped.contains(node);
        let Departures { targets, violas, owners, late } = departures;
        for (target, Left { by, sink, nodes }) in targets {
            let ledger = self.memory.trust.ledger(&target, position);
            let mut waiting: BTreeSet<ConfigKey> = BTreeSet::new();
            for (node, named) in nodes {
                let rest = if !named.is_subset(&by) {
                    // Whoever else publishes there takes our NICs out of the object.
                    let wishes = late.get(&target).into_iter().flatten();
                    let shared = wishes.into_iter().any(|wish| wish.config.node == node);
                    if shared { Ok(Rest::Waits) } else { Ok(Rest::Nothing) }
                } else if is_settled(&node) {
                    let (name, pause) = (target.name(), self.error_interval);
                    let mut silent = std::mem::take(&mut self.memory.silent);
                    let leave = self.leave_node(&sink, &node, owners.get(&node), &ledger);
                    let left = silent.look(&name, pause, leave).await;
                    self.memory.silent = silent;
                    left
                } else {
                    Ok(Rest::Waits)
                };
                match rest {
                    Ok(Rest::Nothing) => {}
                    Ok(Rest::Waits) => waiting.extend(named),
                    Ok(Rest::IsRead) => {
                        let why = "its agent still reads the object there: give it the new NODE_CR_NAMESPACE or cluster";
                        for owner in named.intersection(&by) {
                            done.not_left(
                                owner,
                                &format!("node {node} in {}", target.name()),
                                "AgentElsewhere",
                                why,
                            );
                        }
                        waiting.extend(named);
                    }
                    Err(error) => {
                        for owner in named.intersection(&by) {
                            done.not_left(
                                owner,
                                &format!("node {node} in {}", target.name()),
                                error.reason(),
                                &error.to_string(),
                            );
                        }
                        waiting.extend(named);
                    }
                }
            }
            for owner in by {
                let key = (owner, Location::Kubernetes(target.clone()));
                self.settle(store, key, &waiting, done).await?;
            }
            let used =
                self.placements.values().any(|placement| placement.kubernetes.as_ref() == Some(&target));
            if !used && waiting.is_empty() {
                self.memory.sinks.remove(&target);
            }
        }
        for ((owner, endpoint, provider), nodes) in violas {
            let mut waiting = BTreeSet::new();
            let mut gone = Vec::new();
            for node in nodes {
                if !is_settled(&node) {
                    waiting.insert(owner.clone());
                    continue;
                }
                let pause = self.error_interval;
                let mut silent = std::mem::take(&mut self.memory.silent);
                let look = self.is_viola_left(&node, &endpoint, &provider, owners.get(&node), projection);
                let left =
                    silent.look(&format!("what {owner} published behind {endpoint}"), pause, look).await;
                self.memory.silent = silent;
                match left {
                    Ok(None) => drop(waiting.insert(owner.clone())),
                    Ok(Some(false)) => {}
                    Ok(Some(true)) => gone.push(tombstone(
                        &node,
                        projection.losses.get(&node).and_then(|loss| loss.server.as_ref()),
                        Some(&provider).filter(|it| !it.is_empty()).map(String::as_str),
                    )),
                    Err(error) => {
                        done.not_left(
                            &owner,
                            &format!("node {node} behind {endpoint}"),
                            error.reason(),
                            &error.to_string(),
                        );
                        waiting.insert(owner.clone());
                    }
                }
            }
            for (node, error) in self.tombstones(&owner, &endpoint, &provider, &gone).await {
                if let Some(error) = error {
                    done.not_left(
                        &owner,
                        &format!("node {node} behind {endpoint}"),
                        error.reason(),
                        &error.to_string(),
                    );
                }
                waiting.insert(owner.clone());
            }
            self.settle(store, (owner, Location::Viola { endpoint, provider }), &waiting, done).await?;
        }
        Ok(())
    }

    /// Forgets a place that nothing is left at; else it is looked at again, and a configuration that is deleted waits.
    async fn settle(
        &mut self,
        store: &Store,
        key: (ConfigKey, Location),
        waiting: &BTreeSet<ConfigKey>,
        done: &mut Delivered,
    ) -> Result<(), StoreError> {
        let (owner, location) = &key;
        if waiting.contains(owner) {
            done.leaving.insert(owner.clone(), location.name());
            return Ok(());
        }
        store.forget_place(owner, &location.text()).await?;
        tracing::info!(config = %owner, place = location.name(), "what was published there is gone");
        if let Some(places) = &mut self.memory.places {
            places.known.remove(&key);
        }
        Ok(())
    }

    /// The objects of a node at the places where it is published as one now; none while one of them is not there.
    async fn stand(
        &mut self,
        node: &NodeName,
        owners: Option<&BTreeSet<ConfigKey>>,
    ) -> Result<Option<Vec<(Arc<KubernetesSink>, multinic_api::MultiNicNodeConfig)>>, SinkError> {
        let targets =
            owners.into_iter().flatten().filter_map(|owner| self.placements.get(owner)?.kubernetes.clone());
        let mut found = Vec::new();
        for target in targets.collect::<BTreeSet<_>>() {
            let sink = self.look(&target).await?;
            match sink.object(node).await? {
                Some(object) if object.metadata.deletion_timestamp.is_none() => found.push((sink, object)),
                Some(_) | None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    async fn leave_node(
        &mut self,
        sink: &KubernetesSink,
        node: &NodeName,
        owners: Option<&BTreeSet<ConfigKey>>,
        ledger: &Ledger,
    ) -> Result<Rest, SinkError> {
        let Some(found) = self.stand(node, owners).await? else { return Ok(Rest::Waits) };
        let elsewhere: Vec<_> = found.into_iter().map(|(_, object)| object).collect();
        let has_viola = |owner| self.placements.get(owner).is_some_and(|placement| placement.viola.is_some());
        let shared = owners.into_iter().flatten().any(has_viola);
        Ok(match sink.take_leave(node, &elsewhere, shared, ledger).await? {
            Farewell::Gone | Farewell::Kept => Rest::Nothing,
            Farewell::Releasing => Rest::Waits,
            Farewell::Read => Rest::IsRead,
        })
    }

    /// Whether a node is to be taken away behind a Viola that was left; none while it does not stand elsewhere.
    async fn is_viola_left(
        &mut self,
        node: &NodeName,
        endpoint: &str,
        provider: &str,
        owners: Option<&BTreeSet<ConfigKey>>,
        projection: &Projection,
    ) -> Result<Option<bool>, SinkError> {
        let location = Location::Viola { endpoint: endpoint.to_owned(), provider: provider.to_owned() };
        let stays = |owner| {
            self.placements.get(owner).is_some_and(|it: &Placement| it.locations().contains(&location))
        };
        if owners.into_iter().flatten().any(stays) || projection.skipped.contains(node) {
            return Ok(Some(false));
        }
        let Some(found) = self.stand(node, owners).await? else { return Ok(None) };
        // An object that Viola wrote too is the one that it would delete.
        Ok(Some(!found.iter().any(|(sink, object)| sink.is_shared(object))))
    }

    /// Takes nodes away behind a Viola that was left. Returns those of which it is not done, with the error if there was one.
    async fn tombstones(
        &mut self,
        owner: &ConfigKey,
        endpoint: &str,
        provider: &str,
        wishes: &[Arc<NodeWish>],
    ) -> Vec<(NodeName, Option<SinkError>)> {
        if wishes.is_empty() {
            return Vec::new();
        }
        let access = self.placements.get(owner).map(|placement| placement.access.clone()).unwrap_or_default();
        let viola = self.defaults.left_viola(endpoint, &access, &self.environment);
        let settings = viola
            .map(|viola| viola.settings)
            .map_err(|error| SinkError::Setting { setting: "VIOLA_ENDPOINT", problem: error.problem });
        let sink = match settings.and_then(ViolaSink::new) {
            Ok(sink) => Arc::new(sink),
            Err(error) => {
                return wishes.iter().map(|wish| (wish.config.node.clone(), Some(error.clone()))).collect();
            }
        };
        let place = Place::Viola { id: format!("{owner} {endpoint}"), provider: provider.to_owned() };
        let (url, sink) = (sink.url().to_owned(), Sink::Viola(sink));
        for wish in self.memory.farewells.begin(&place, &sink, wishes) {
            self.memory.forget_posted(&url, provider, &wish.config.node);
        }
        let farewells = &mut self.memory.farewells;
        for (place, Round { wishes, results }) in farewells.collect().await {
            farewells.settle(&place, &wishes, &results, self.error_interval);
        }
        let mut undone = Vec::new();
        for wish in wishes {
            let node = &wish.config.node;
            match self.memory.farewells.progress(&place, None, wish) {
                Progress::Delivered => {}
                Progress::UnderWay => undone.push((node.clone(), None)),
                Progress::Refused(error, _) => undone.push((node.clone(), Some(error.clone()))),
            }
        }
        undone
    }
}

/// Whether a place of a farewell is this Viola for this provider.
pub(super) fn is_farewell(place: &Place, endpoint: &str, provider: &str) -> bool {
    match place {
        Place::Viola { id, provider: for_whom } => {
            for_whom == provider && id.split_once(' ').is_some_and(|(_, url)| url == endpoint)
        }
        Place::Kubernetes(_) => false,
    }
}

impl Departures {
    /// Sets wishes aside that would take NICs away at a place that was left, before they stand at their new one.
    pub(super) fn set_aside(&mut self, projection: &mut Projection) {
        for (target, Left { nodes, .. }) in &self.targets {
            let Some(wishes) = projection.kubernetes.get_mut(target) else { continue };
            let late = wishes.extract_if(.., |wish| nodes.contains_key(&wish.config.node));
            self.late.entry(target.clone()).or_default().extend(late);
        }
    }

    /// Those of them whose nodes were delivered everywhere else.
    pub(super) fn due(&self, failures: &[Failure]) -> Vec<(Place, Vec<Arc<NodeWish>>)> {
        let failed: BTreeSet<&NodeName> = failures.iter().map(|failure| &failure.node).collect();
        let mut due = Vec::new();
        for (target, wishes) in &self.late {
            let wishes = wishes.iter().filter(|wish| !failed.contains(&wish.config.node));
            due.push((Place::Kubernetes(target.clone()), wishes.cloned().collect()));
        }
        due
    }
}

impl Delivered {
    /// What was left cannot be taken away.
    fn not_left(&mut self, owner: &ConfigKey, what: &str, reason: &'static str, error: &str) {
        tracing::warn!(config = %owner, what, error, "what was published before the configuration moved is not removed");
        let message = format!(
            "{what}, where the configuration published before it moved: {error}; the annotation {} lets what is there stay",
            multinic_api::ORPHAN_ANNOTATION
        );
        let undelivered = Undelivered { reason, removal: true, message };
        let list = self.undelivered.entry(owner.clone()).or_default();
        // One speaks for all of a place.
        if !list.iter().any(|one| one.removal) {
            list.push(undelivered);
        }
        self.leaving.insert(owner.clone(), what.to_owned());
    }
}

impl Places {
    pub(super) async fn read(store: &Store) -> Result<Self, StoreError> {
        let mut known = BTreeMap::new();
        for PlaceRecord { owner, place, choice, number } in store.places().await? {
            match serde_json::from_str(&place) {
                Ok(location) => drop(known.insert((owner, location), Said { choice, number })),
                // Of a newer version of this project: it knows what to do with it.
                Err(error) => {
                    tracing::warn!(config = %owner, place, error = %error, "a place is not understood");
                }
            }
        }
        Ok(Self { known, told: BTreeSet::new() })
    }

    /// Whether a configuration was ever delivered there, as far as anything may be left.
    pub(super) fn knows(&self, owner: &ConfigKey, location: &Location) -> bool {
        self.known.contains_key(&(owner.clone(), location.clone()))
    }

    async fn record(
        &mut self,
        store: &Store,
        news: Vec<((ConfigKey, Location), String)>,
    ) -> Result<(), StoreError> {
        if news.is_empty() {
            return Ok(());
        }
        let record = |((owner, location), choice): &((ConfigKey, Location), String)| {
            (owner.clone(), location.text(), choice.clone())
        };
        let number = store.record_places(&news.iter().map(record).collect::<Vec<_>>()).await?;
        self.known.extend(news.into_iter().map(|(key, choice)| (key, Said { choice, number })));
        Ok(())
    }

    /// Where a configuration was delivered last: one place of each kind, of its last choice.
    pub(super) fn last_of(&self, owner: &ConfigKey) -> Vec<&Location> {
        let mut all: Vec<_> = self.known.iter().filter(|((of, _), _)| of == owner).collect();
        all.sort_by_key(|(_, said)| said.number);
        let Some((_, last)) = all.last() else { return Vec::new() };
        let chosen = all.iter().filter(|(_, said)| said.choice == last.choice);
        let kinds = chosen.map(|((_, location), _)| (matches!(location, Location::Viola { .. }), location));
        kinds.collect::<BTreeMap<_, _>>().into_values().collect()
    }
}
