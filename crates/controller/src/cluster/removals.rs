//! Removals and the places that each has to reach. The ledger notes what each has reached, so that a process that was just
//! started tells the rest, and nothing is forgotten that somebody was not told.
//!
//! A removal has reached a place when the place took what its node is to have, or that the node has nothing any more, and no
//! agent still cleans up there. What has reached every place is purged in time. The slot of a NIC behind Viola is free when
//! Viola says that the node's object is gone, else [`VIOLA_RELEASE`] after every place was reached: an agent there reports to
//! somebody else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use multinic_core::desired::Position;
use multinic_core::{ConfigKey, MacAddr, NodeName, ServerId};
use multinic_store::{Reached, RemovalId, Removed, Store, StoreError};

use super::deliver::{Delivered, Deliverer};
use super::placement::{Location, Placement};
use super::project::{Projection, Whereabouts, tombstone};
use super::reconciler::sooner;
use super::rounds::Place;
use crate::sinks::NodeWish;

/// How long after a removal was delivered the slot of a NIC behind Viola is free, where nobody says when the node let it go.
/// Agents act within seconds of their object's change.
pub(super) const VIOLA_RELEASE: Duration = Duration::from_secs(600);

/// The removals of a delivery.
pub(super) struct Removals(Vec<Removal>);

struct Removal {
    id: RemovalId,
    node: NodeName,
    mac: MacAddr,
    owner: Option<ConfigKey>,
    server: Option<ServerId>,
    released: bool,
    delivered: Reached,
    /// Where its configuration is delivered to; none where that is not known now.
    places: Option<BTreeSet<Location>>,
    /// The Viola among them, by id and provider.
    viola: Option<(String, String)>,
}

impl Removals {
    /// What has no owner any more has no place to reach.
    pub fn new<'a>(removed: &[Removed], place: impl Fn(&ConfigKey) -> Whereabouts<'a>) -> Self {
        let nowhere = Placement::default();
        let removal = |removed: &Removed| {
            let Removed { id, node, mac, owner, server, project: _, released, delivered } = removed.clone();
            let placement = match owner.as_ref().map(&place) {
                Some(Whereabouts::Known(placement)) => Some(placement),
                Some(Whereabouts::Unknown) => None,
                None => Some(&nowhere),
            };
            let provider = placement.and_then(|it| it.provider.clone()).unwrap_or_default();
            let viola = placement.and_then(|placement| placement.viola.as_ref());
            let viola = viola.map(|viola| (viola.id.clone(), provider));
            let places = placement.map(Placement::locations);
            Removal { id, node, mac, owner, server, released, delivered, places, viola }
        };
        Self(removed.iter().map(removal).collect())
    }

    /// Removals of nodes that have nothing left behind a Viola which does not know it, by Viola and provider.
    pub fn tombstones(&self, projection: &Projection) -> BTreeMap<(String, String), Vec<Arc<NodeWish>>> {
        let mut tombstones: BTreeMap<(String, String), BTreeMap<&NodeName, Arc<NodeWish>>> = BTreeMap::new();
        for removal in &self.0 {
            let Some(viola) = &removal.viola else { continue };
            let has = |location: &Location| {
                matches!(location, Location::Viola { .. }) && removal.delivered.has(&location.text())
            };
            let node = &removal.node;
            let wished = projection.viola.get(viola).into_iter().flatten();
            if removal.places.iter().flatten().any(has)
                || projection.skipped.contains(node)
                || wished.into_iter().any(|wish| wish.config.node == *node)
            {
                continue;
            }
            let provider = Some(viola.1.as_str()).filter(|provider| !provider.is_empty());
            let wish = tombstone(node, removal.server.as_ref(), provider);
            tombstones.entry(viola.clone()).or_default().insert(node, wish);
        }
        tombstones.into_iter().map(|(viola, nodes)| (viola, nodes.into_values().collect())).collect()
    }
}

impl Deliverer {
    /// Notes what removals have reached, and frees the slots behind Viola.
    pub(super) async fn note_removals(
        &self,
        (store, position): (&Store, &Position),
        removals: &Removals,
        projection: &Projection,
        batches: &[(Place, Vec<Arc<NodeWish>>)],
        done: &mut Delivered,
    ) -> Result<(), StoreError> {
        if removals.0.is_empty() {
            return Ok(());
        }
        let known = self.known(position, projection, batches, done);
        let (mut reached, mut everything) = (Vec::new(), Vec::new());
        let (mut gone, mut waiting) = (Vec::new(), Vec::new());
        for removal in &removals.0 {
            let Removal { id, node, mac, owner, delivered, places, .. } = removal;
            let Some(places) = places else { continue };
            let behind_viola = places.iter().any(|place| matches!(place, Location::Viola { .. }));
            let free = !removal.released && behind_viola;
            if *delivered == Reached::Everything {
                if free {
                    waiting.push(*id);
                }
                continue;
            }
            let leaves = owner.as_ref().is_some_and(|owner| done.leaving.contains_key(owner));
            if projection.skipped.contains(node) || leaves {
                continue;
            }
            let news = places.iter().filter(|place| known.contains(&((*place).clone(), node.clone())));
            let news: Vec<String> = news.map(Location::text).filter(|text| !delivered.has(text)).collect();
            let all = places.iter().all(|place| delivered.has(&place.text()) || news.contains(&place.text()));
            if all {
                everything.push(*id);
                if free && done.gone.contains(node) {
                    gone.push((node.clone(), *mac));
                } else if free {
                    waiting.push(*id);
                }
            } else {
                reached.extend(news.into_iter().map(|place| (*id, place)));
            }
        }
        if !reached.is_empty() || !everything.is_empty() {
            store.note_delivered(&reached, &everything).await?;
        }
        let mut count = 0;
        if !gone.is_empty() {
            count += store.release(&gone).await?;
        }
        if !waiting.is_empty() {
            count += store.release_delivered(&waiting, VIOLA_RELEASE).await?;
            sooner(&mut done.again, Instant::now() + VIOLA_RELEASE);
        }
        if count > 0 {
            tracing::debug!(count, "slots behind Viola are free");
        }
        Ok(())
    }

    /// The places that have what nodes are to have of which something was taken away.
    fn known(
        &self,
        position: &Position,
        projection: &Projection,
        batches: &[(Place, Vec<Arc<NodeWish>>)],
        done: &Delivered,
    ) -> BTreeSet<(Location, NodeName)> {
        let mut known = done.buried.clone();
        let lossy = |wish: &&Arc<NodeWish>| projection.losses.contains_key(&wish.config.node);
        for (place, wishes) in batches {
            let Place::Kubernetes(target) = place else { continue };
            let Some(cluster) = self.memory.sinks.get(target) else { continue };
            let ledger = self.memory.trust.ledger(target, position);
            let there = wishes.iter().filter(lossy).filter(|wish| cluster.sink.has(wish, &ledger));
            let there = there.map(|wish| (Location::Kubernetes(target.clone()), wish.config.node.clone()));
            known.extend(there);
        }
        for ((id, provider), wishes) in &projection.viola {
            let place = Place::Viola { id: id.clone(), provider: provider.clone() };
            let there: Vec<_> = wishes.iter().filter(lossy).filter(|wish| self.has(&place, wish)).collect();
            if let Some(location) = (!there.is_empty()).then(|| self.location(&place)).flatten() {
                known.extend(there.into_iter().map(|wish| (location.clone(), wish.config.node.clone())));
            }
        }
        known
    }
}
