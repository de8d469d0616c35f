//! Where what a configuration published is delivered to that is not there any more: to where the ledger says that it was
//! delivered last. Only what has no record goes where the controller's own settings lead.

use std::collections::BTreeSet;

use multinic_core::ConfigKey;
use multinic_core::config::FieldError;
use multinic_core::published::Published;
use multinic_store::{Removed, Store, StoreError};

use super::deliver::Deliverer;
use super::manifest::ViolaAccess;
use super::moves::Places;
use super::placement::{Location, Placement};
use super::project::Place;

impl Deliverer {
    /// Finds the recorded placements of configurations that own something and are not there.
    pub(super) async fn place_absent(
        &mut self,
        store: &Store,
        published: &Published,
        removed: &[Removed],
    ) -> Result<(), StoreError> {
        if self.memory.places.is_none() {
            self.memory.places = Some(Places::read(store).await?);
        }
        let owners = published.interfaces.iter().map(|row| &row.owner);
        let owners: BTreeSet<&ConfigKey> =
            owners.chain(removed.iter().filter_map(|removed| removed.owner.as_ref())).collect();
        let absent = owners
            .into_iter()
            .filter(|owner| !self.placements.contains_key(*owner) && !self.unplaced.contains(*owner));
        let places = self.memory.places.as_ref();
        let placement = |owner: &ConfigKey| {
            let last = places.map(|places| places.last_of(owner)).filter(|last| !last.is_empty())?;
            Some((owner.clone(), self.placement_of(owner, &last)))
        };
        self.absent = absent.filter_map(placement).collect();
        Ok(())
    }

    /// Every placement that is known.
    pub(super) fn places(&self) -> impl Iterator<Item = &Placement> {
        self.placements.values().chain(self.absent.values().flatten())
    }

    /// Where a configuration's interfaces are delivered to; `unknown` is for those of which nothing is known.
    pub(super) fn place_of<'a>(&'a self, owner: &ConfigKey, unknown: &'a Placement) -> Place<'a> {
        match (self.placements.get(owner), self.absent.get(owner)) {
            (Some(placement), _) => Place::Known(placement),
            (None, _) if self.unplaced.contains(owner) => Place::Unknown,
            (None, Some(Some(placement))) => Place::Known(placement),
            (None, Some(None)) => Place::Unknown,
            (None, None) => Place::Known(unknown),
        }
    }

    fn placement_of(&self, owner: &ConfigKey, last: &[&Location]) -> Option<Placement> {
        // A place of objects does not say which provider it was for.
        let mut placement = Placement { assumed: true, ..Placement::default() };
        for location in last {
            match location {
                Location::Kubernetes(target) => placement.kubernetes = Some(target.clone()),
                Location::Viola { endpoint, provider } => {
                    // Its own token went with it.
                    let access = ViolaAccess::default();
                    match self.defaults.left_viola(endpoint, &access, &self.environment) {
                        Ok(viola) => placement.viola = Some(viola),
                        Err(FieldError { problem, .. }) => {
                            tracing::warn!(config = %owner, endpoint, problem, "its Viola cannot be spoken to");
                            return None;
                        }
                    }
                    placement.provider = Some(provider.clone()).filter(|provider| !provider.is_empty());
                    placement.assumed = false;
                }
            }
        }
        Some(placement)
    }
}
