//! Where what a configuration published is delivered to that is not there any more: to where the ledger says that it was
//! delivered last. Only what has no record goes where the controller's own settings lead.

use std::collections::BTreeSet;

use multinic_core::ConfigKey;
use multinic_core::config::FieldError;
use multinic_core::published::Published;
use multinic_store::Removed;

use super::deliver::Deliverer;
use super::manifest::ViolaAccess;
use super::placement::{Location, Placement, Target};
use super::places::{Last, Places};
use super::project::Whereabouts;

impl Deliverer {
    /// Finds the recorded placements of configurations that own something and are not there.
    pub(super) fn place_absent(&mut self, places: &Places, published: &Published, removed: &[Removed]) {
        let owners = published.interfaces.iter().map(|row| &row.owner);
        let owners: BTreeSet<&ConfigKey> =
            owners.chain(removed.iter().filter_map(|removed| removed.owner.as_ref())).collect();
        let absent = owners
            .into_iter()
            .filter(|owner| !self.placements.contains_key(*owner) && !self.unplaced.contains(*owner));
        let placement = |owner: &ConfigKey| {
            let last = places.last_of(owner);
            (!last.locations.is_empty()).then(|| (owner.clone(), self.placement_of(owner, &last)))
        };
        self.absent = absent.filter_map(placement).collect();
    }

    /// Every placement that is known.
    pub(super) fn places(&self) -> impl Iterator<Item = &Placement> {
        self.placements.values().chain(self.absent.values().flatten())
    }

    /// The namespaces where a configuration was delivered last, as the ledger has them.
    pub(super) fn last_targets(&self, owner: &ConfigKey) -> Vec<Target> {
        let last = self.memory.places.as_ref().map(|places| places.last_of(owner)).unwrap_or_default();
        let target = |location: &Location| match location {
            Location::Kubernetes(target) => Some(target.clone()),
            Location::Viola { .. } => None,
        };
        last.locations.into_iter().filter_map(target).collect()
    }

    /// Where a configuration that is there, or is not and still owns something, publishes now, as far as that is known.
    pub(super) fn placement_now(&self, owner: &ConfigKey) -> Option<&Placement> {
        self.placements.get(owner).or_else(|| self.absent.get(owner)?.as_ref())
    }

    /// Where a configuration's interfaces are delivered to; `unknown` is for those of which nothing is known.
    pub(super) fn place_of<'a>(&'a self, owner: &ConfigKey, unknown: &'a Placement) -> Whereabouts<'a> {
        match (self.placements.get(owner), self.absent.get(owner)) {
            (Some(placement), _) => Whereabouts::Known(placement),
            (None, _) if self.unplaced.contains(owner) => Whereabouts::Unknown,
            (None, Some(Some(placement))) => Whereabouts::Known(placement),
            (None, Some(None)) => Whereabouts::Unknown,
            (None, None) => Whereabouts::Known(unknown),
        }
    }

    fn placement_of(&self, owner: &ConfigKey, last: &Last<'_>) -> Option<Placement> {
        let options = match last.options.map(serde_json::from_str).transpose() {
            Ok(options) => options.unwrap_or_default(),
            // Of a newer version of this project: without them its NICs would lose what they are to be like.
            Err(error) => {
                tracing::warn!(config = %owner, error = %error, "its recorded options are not understood");
                return None;
            }
        };
        // A place of objects does not say which provider it was for.
        let mut placement = Placement { assumed: true, options, ..Placement::default() };
        for location in &last.locations {
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
