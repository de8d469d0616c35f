//! Configurations that moved: to other sinks, another cluster, another namespace. What they published at the old place is
//! taken away there, once it stands at the new one. Of objects it can be told whether two names lead to one place: one that
//! stands at the new place is not deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use multinic_core::desired::Position;
use multinic_core::published::Published;
use multinic_core::{ConfigKey, NodeName};
use multinic_store::{Removed, Store, StoreError};

use super::conditions::Undelivered;
use super::deliver::{Delivered, Deliverer};
use super::failures::Failure;
use super::farewells::{Left, Standing, Terms};
use super::leave::{Leave, Leaver, Rest};
use super::ledger::{STALE, unbelieved};
use super::placement::{Location, Placement, Target};
use super::places;
use super::project::{Projection, tombstone};
use super::reconciler::sooner;
use super::rounds::Place;
use crate::sinks::{KubernetesSink, NodeWish, SinkError, ViolaSink};

/// The reason of what is being taken away.
const MOVING: &str = "Moving";

/// Wishes by place.
type Batches = Vec<(Place, Vec<Arc<NodeWish>>)>;

/// Places that were left, with what may be there.
#[derive(Default)]
pub(super) struct Departures {
    /// Each with who left it, and where those publish now.
    left: BTreeMap<Left, Terms>,
    /// Of Violas among them, the configurations whose clouds have to be read before anything is taken away there.
    awaited: BTreeMap<Left, BTreeSet<ConfigKey>>,
    /// Who publishes each node now.
    owners: BTreeMap<NodeName, BTreeSet<ConfigKey>>,
    /// Wishes that wait for what is delivered elsewhere.
    late: BTreeMap<Place, Vec<Arc<NodeWish>>>,
}

impl Deliverer {
    /// Puts together what was left.
    pub(super) fn departures(
        &mut self,
        places: Vec<(ConfigKey, Location)>,
        published: &Published,
        removed: &[Removed],
        standing: &places::Standing,
    ) -> Departures {
        let mut departures = Departures::default();
        let setbacks = self.memory.trust.setbacks();
        for (owner, location) in places {
            let now = self.placements.get(&owner).map(Placement::locations).unwrap_or_default();
            let whose = matches!(location, Location::Viola { .. }).then(|| owner.clone());
            let terms = departures.left.entry(Left { location, whose });
            let terms = terms.or_insert_with(|| Terms { by: BTreeMap::new(), setbacks });
            terms.by.insert(owner, now);
        }
        self.memory.farewells.adjust(&departures.left);
        if departures.left.is_empty() {
            return departures;
        }
        for left in departures.left.keys() {
            let awaited = self.awaited_at(&left.location, standing);
            if !awaited.is_empty() {
                departures.awaited.insert(left.clone(), awaited);
            }
        }
        for row in &published.interfaces {
            departures.owners.entry(row.node.clone()).or_default().insert(row.owner.clone());
        }
        for left in departures.left.keys() {
            let Some(whose) = &left.whose else { continue };
            let there = published.interfaces.iter().filter(|row| row.owner == *whose).map(|row| &row.node);
            let gone = removed.iter().filter(|it| it.owner.as_ref() == Some(whose)).map(|it| &it.node);
            // Who else publishes a node there goes on doing so.
            let stays =
                |owner| self.placement_now(owner).is_some_and(|it| it.locations().contains(&left.location));
            let is_left = |node: &&NodeName| !departures.owners.get(*node).into_iter().flatten().any(stays);
            let nodes = there.chain(gone).filter(is_left);
            let nodes = nodes.map(|node| (node.clone(), BTreeSet::from([whose.clone()]))).collect();
            self.memory.farewells.tell(left, nodes);
        }
        departures
    }

    /// Sets wishes aside that would take NICs away at a place that was left, before they stand at their new one: of objects,
    /// and of what Violas are to be told.
    pub(super) fn set_aside(
        &self,
        departures: &mut Departures,
        objects: &mut BTreeMap<Target, Vec<Arc<NodeWish>>>,
        news: &mut Batches,
    ) {
        let Departures { left, owners, late, .. } = departures;
        for (place, terms) in left {
            let there = match &place.location {
                Location::Kubernetes(_) => self.memory.farewells.there(place),
                // It is known of those only who are to have nothing there.
                Location::Viola { .. } => None,
            };
            let may_be_there = |wish: &mut Arc<NodeWish>| match there {
                Some(there) => there.contains_key(&wish.config.node),
                // Nobody has looked yet.
                None => {
                    owners.get(&wish.config.node).into_iter().flatten().any(|it| terms.by.contains_key(it))
                }
            };
            match &place.location {
                Location::Kubernetes(target) => {
                    let Some(wishes) = objects.get_mut(target) else { continue };
                    let late = late.entry(Place::Kubernetes(target.clone())).or_default();
                    late.extend(wishes.extract_if(.., may_be_there));
                }
                Location::Viola { .. } => {
                    for (viola, wishes) in news.iter_mut().filter(|(it, _)| it.is_at(&place.location)) {
                        let late = late.entry(viola.clone()).or_default();
                        late.extend(wishes.extract_if(.., may_be_there));
                    }
                }
            }
        }
    }

    /// Takes away what was left, as far as it stands at its new place.
    pub(super) async fn take_leave(
        &mut self,
        (store, position): (&Store, &Position),
        departures: &Departures,
        projection: &Projection,
        failures: &[Failure],
        done: &mut Delivered,
    ) -> Result<(), StoreError> {
        let failed: BTreeSet<&NodeName> = failures.iter().map(|failure| &failure.node).collect();
        let is_settled = |node: &NodeName| !failed.contains(node) && !projection.skipped.contains(node);
        for (left, terms) in &departures.left {
            let Some(due) = self.due_at(left, terms, departures, is_settled) else { continue };
            match self.leave(left, terms, position).await {
                Ok(leave) => {
                    let leavers = self.leavers(left, due, departures, projection).await;
                    self.memory.farewells.begin(left, leave, leavers, &self.leadership);
                }
                Err(error) => self.memory.farewells.fail(left, error, self.error_interval),
            }
        }
        self.memory.farewells.collect(self.error_interval).await;
        for (left, terms) in &departures.left {
            if self.due_at(left, terms, departures, is_settled).is_some() {
                sooner(&mut done.again, Instant::now());
            }
            let waiting = self.waiting((left, terms), departures, &projection.skipped, done);
            for owner in terms.by.keys() {
                self.conclude(store, owner, &left.location, waiting.contains(owner), done).await?;
            }
            if let Location::Kubernetes(target) = &left.location
                && waiting.is_empty()
                && !self.places().any(|it| it.kubernetes.as_ref() == Some(target))
            {
                self.memory.sinks.remove(target);
            }
        }
        Ok(())
    }

    /// The nodes to be taken away at a place now; none where nothing is to be done.
    fn due_at(
        &self,
        left: &Left,
        terms: &Terms,
        departures: &Departures,
        is_settled: impl Fn(&NodeName) -> bool,
    ) -> Option<BTreeSet<NodeName>> {
        // What is on its way there could arrive after it.
        if departures.awaited.contains_key(left)
            || self.memory.rounds.is_under_way(|place| place.is_at(&left.location))
        {
            return None;
        }
        self.memory.farewells.due(left, departures.owned_by(terms), is_settled)
    }

    /// How a place that was left is spoken to.
    async fn leave(&mut self, left: &Left, terms: &Terms, position: &Position) -> Result<Leave, SinkError> {
        match (&left.location, &left.whose) {
            (Location::Kubernetes(target), _) => {
                let sink = self.cluster(target).await?;
                let ledger = self.memory.trust.ledger(target, position);
                Ok(Leave::Objects { sink, by: terms.by.keys().cloned().collect(), ledger })
            }
            (Location::Viola { endpoint, provider }, whose) => {
                let whose = whose.clone().unwrap_or_else(|| ConfigKey::new("", ""));
                let access = self.placements.get(&whose).map(|it| it.access.clone()).unwrap_or_default();
                let viola = self.defaults.left_viola(endpoint, &access, &self.environment);
                let viola = viola.map_err(|error| SinkError::Setting {
                    setting: "VIOLA_ENDPOINT",
                    problem: error.problem,
                })?;
                let sink = Arc::new(ViolaSink::new(viola.settings)?);
                let provider = Some(provider.clone()).filter(|provider| !provider.is_empty());
                Ok(Leave::Viola { sink, provider, whose })
            }
        }
    }

    /// The nodes to be taken away, with the places where they must stand.
    async fn leavers(
        &mut self,
        left: &Left,
        nodes: BTreeSet<NodeName>,
        departures: &Departures,
        projection: &Projection,
    ) -> BTreeMap<NodeName, Leaver> {
        let mut sinks: BTreeMap<Target, Result<Arc<KubernetesSink>, SinkError>> = BTreeMap::new();
        let mut leavers = BTreeMap::new();
        for node in nodes {
            let owners = departures.owners.get(&node).into_iter().flatten();
            let placements: Vec<Placement> =
                owners.filter_map(|owner| self.placement_now(owner)).cloned().collect();
            let targets: BTreeSet<&Target> =
                placements.iter().filter_map(|it| it.kubernetes.as_ref()).collect();
            let mut stands = Ok(BTreeMap::new());
            for target in targets {
                if !sinks.contains_key(target) {
                    let sink = self.cluster(target).await;
                    sinks.insert(target.clone(), sink);
                }
                match (&mut stands, sinks.get(target)) {
                    (Ok(stands), Some(Ok(sink))) => {
                        stands.insert(target.clone(), Arc::clone(sink));
                    }
                    (_, Some(Err(error))) => {
                        stands = Err(Rest::Unseen { place: target.name(), error: error.clone() });
                    }
                    _ => {}
                }
            }
            let stands = match stands {
                Ok(stands) => stands,
                Err(rest) => {
                    self.memory.farewells.refuse(left, node, rest, self.error_interval);
                    continue;
                }
            };
            let viola = placements.iter().any(|placement| placement.viola.is_some());
            let server = projection.losses.get(&node).and_then(|loss| loss.server.as_ref());
            let provider = match &left.location {
                Location::Viola { provider, .. } => Some(provider.as_str()).filter(|it| !it.is_empty()),
                Location::Kubernetes(_) => None,
            };
            // Until there is an answer nobody knows what it has.
            self.memory.forget_posted(&left.location, &node);
            let tombstone = tombstone(&node, server, provider);
            leavers.insert(node, Leaver { stands, viola, tombstone });
        }
        leavers
    }

    /// Those of whom something is still at a place. Says what has to be said of it.
    fn waiting(
        &self,
        (left, terms): (&Left, &Terms),
        departures: &Departures,
        skipped: &BTreeSet<NodeName>,
        done: &mut Delivered,
    ) -> BTreeSet<ConfigKey> {
        let place = left.location.name();
        let everybody = || terms.by.keys().cloned().collect();
        if let Some(awaited) = departures.awaited.get(left) {
            for owner in terms.by.keys() {
                done.not_left(owner, &place, STALE, &unbelieved(awaited));
            }
            return everybody();
        }
        if let Some(again) = self.memory.farewells.again(left) {
            sooner(&mut done.again, again);
        }
        let standing = match self.memory.farewells.standing(left) {
            Standing::UnderWay => {
                for owner in terms.by.keys() {
                    done.moving(owner, format!("what was published at {place} is being taken away"));
                }
                return everybody();
            }
            Standing::Failed(error) => {
                for owner in terms.by.keys() {
                    done.not_left(owner, &place, error.reason(), &error.to_string());
                }
                return everybody();
            }
            Standing::Seen(there) => there,
        };
        let mut waiting = BTreeSet::new();
        if let Some(whose) = &left.whose
            && departures.late_at(left).any(|(viola, wish)| !wish.is_tombstone() && !self.has(viola, wish))
        {
            // Others publish a node there too, and the list that is left of it is not there yet.
            waiting.insert(whose.clone());
        }
        for (node, (whose, rest)) in standing {
            let problem = match rest {
                Rest::Shared => {
                    // One that is left as it is has no wish, and stands nowhere else.
                    let is_late = departures.late_at(left).any(|(_, wish)| wish.config.node == *node);
                    if is_late || skipped.contains(node) {
                        waiting.extend(whose.iter().cloned());
                    }
                    continue;
                }
                Rest::Untried | Rest::Waits => None,
                Rest::IsRead => {
                    let why = "its agent still reads the object there: give it the new NODE_CR_NAMESPACE or cluster";
                    Some(("AgentElsewhere", why.to_owned()))
                }
                Rest::Unseen { place, error } => {
                    Some((error.reason(), format!("whether it stands in {place} cannot be seen: {error}")))
                }
                Rest::Failed(error) => Some((error.reason(), error.to_string())),
            };
            if let Some((reason, problem)) = problem {
                for owner in whose.iter().filter(|owner| terms.by.contains_key(*owner)) {
                    done.not_left(owner, &format!("node {node} at {place}"), reason, &problem);
                }
            }
            waiting.extend(whose.iter().cloned());
        }
        waiting
    }

    /// Forgets a place that nothing is left at.
    async fn conclude(
        &mut self,
        store: &Store,
        owner: &ConfigKey,
        location: &Location,
        waits: bool,
        done: &mut Delivered,
    ) -> Result<(), StoreError> {
        if waits {
            done.leaving.insert(owner.clone(), location.name());
            return Ok(());
        }
        if let Some(places) = &mut self.memory.places {
            places.forget(store, owner, location).await?;
        }
        tracing::info!(config = %owner, place = location.name(), "what was published there is gone");
        Ok(())
    }
}

impl Departures {
    /// The nodes that those who left a place publish.
    fn owned_by(&self, terms: &Terms) -> impl Iterator<Item = &NodeName> {
        let is_by = |owners: &BTreeSet<ConfigKey>| owners.iter().any(|owner| terms.by.contains_key(owner));
        self.owners.iter().filter(move |(_, owners)| is_by(owners)).map(|(node, _)| node)
    }

    /// The wishes that were set aside: those whose nodes were delivered everywhere else, and those that wait for it.
    pub(super) fn due(&self, failures: &[Failure]) -> (Batches, Batches) {
        let failed: BTreeSet<&NodeName> = failures.iter().map(|failure| &failure.node).collect();
        let (mut due, mut waiting) = (Vec::new(), Vec::new());
        for (place, wishes) in &self.late {
            let (now, later): (Vec<_>, Vec<_>) =
                wishes.iter().cloned().partition(|wish| !failed.contains(&wish.config.node));
            due.push((place.clone(), now));
            waiting.push((place.clone(), later));
        }
        (due, waiting)
    }

    /// The wishes that were set aside of a place that was left.
    fn late_at(&self, left: &Left) -> impl Iterator<Item = (&Place, &NodeWish)> {
        let late = self.late.iter().filter(|(place, _)| place.is_at(&left.location));
        late.flat_map(|(place, wishes)| wishes.iter().map(move |wish| (place, &**wish)))
    }
}

impl Delivered {
    /// What was left is being taken away.
    pub(super) fn moving(&mut self, owner: &ConfigKey, message: String) {
        self.removal(owner, Undelivered { reason: MOVING, removal: true, message });
    }

    /// What was left cannot be taken away.
    fn not_left(&mut self, owner: &ConfigKey, what: &str, reason: &'static str, error: &str) {
        let message = format!(
            "{what}, where the configuration published before it moved: {error}; the annotation {} lets what is there stay",
            multinic_api::ORPHAN_ANNOTATION
        );
        self.removal(owner, Undelivered { reason, removal: true, message });
    }

    /// One speaks for all.
    fn removal(&mut self, owner: &ConfigKey, undelivered: Undelivered) {
        let list = self.undelivered.entry(owner.clone()).or_default();
        if !list.iter().any(|one| one.removal) {
            list.push(undelivered);
        }
    }
}
