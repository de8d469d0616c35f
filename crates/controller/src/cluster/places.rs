//! Where each configuration was delivered, as the ledger has it: so a place that was left is known after a restart too. It is
//! recorded before anything is delivered there.
//!
//! Only what the configuration itself says of places makes it leave one: where a setting of the controller moves it, such as a
//! variable that was lost, everything stays. So it does where one Viola takes the place of another, since nobody can tell
//! whether both lead to one cluster.

use std::collections::{BTreeMap, BTreeSet};

use multinic_core::ConfigKey;
use multinic_core::published::Published;
use multinic_store::{PlaceRecord, Reached, Removed, Store, StoreError};

use super::deliver::Deliverer;
use super::placement::{Location, Placement};

/// The configurations that a delivery is for.
#[derive(Debug, Default, PartialEq, Eq)]
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
    /// Its options as JSON; none in records of older versions.
    options: Option<String>,
    /// Rises from record to record.
    number: u64,
}

/// Where a configuration was delivered last.
#[derive(Debug, Default)]
pub(super) struct Last<'a> {
    /// One place of each kind, of its last choice.
    pub locations: Vec<&'a Location>,
    /// Its options as JSON, where they are recorded.
    pub options: Option<&'a str>,
}

impl Deliverer {
    /// Records where each configuration is delivered to. Returns the places that configurations have left, and where
    /// something is to be taken away.
    pub(super) async fn places_left(
        &self,
        store: &Store,
        places: &mut Places,
        (published, removed): (&Published, &[Removed]),
        standing: &Standing,
    ) -> Result<Vec<(ConfigKey, Location)>, StoreError> {
        places.record(store, &self.placements).await?;
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
        for (owner, location) in forgotten {
            places.forget(store, &owner, &location).await?;
        }
        Ok(left)
    }
}

impl Places {
    /// As the ledger has them.
    pub async fn read(store: &Store) -> Result<Self, StoreError> {
        let mut known = BTreeMap::new();
        for PlaceRecord { owner, place, choice, options, number } in store.places().await? {
            match serde_json::from_str(&place) {
                Ok(location) => drop(known.insert((owner, location), Said { choice, options, number })),
                // Of a newer version of this project: it knows what to do with it.
                Err(error) => {
                    tracing::warn!(config = %owner, place, error = %error, "a place is not understood");
                }
            }
        }
        Ok(Self { known, told: BTreeSet::new() })
    }

    /// Whether a configuration was ever delivered there, as far as anything may be left.
    pub fn knows(&self, owner: &ConfigKey, location: &Location) -> bool {
        self.known.contains_key(&(owner.clone(), location.clone()))
    }

    /// Forgets a place at which a configuration has nothing any more.
    pub async fn forget(
        &mut self,
        store: &Store,
        owner: &ConfigKey,
        location: &Location,
    ) -> Result<(), StoreError> {
        store.forget_place(owner, &location.text()).await?;
        self.known.remove(&(owner.clone(), location.clone()));
        Ok(())
    }

    /// Where a configuration was delivered last.
    pub fn last_of(&self, owner: &ConfigKey) -> Last<'_> {
        let mut all: Vec<_> = self.known.iter().filter(|((of, _), _)| of == owner).collect();
        all.sort_by_key(|(_, said)| said.number);
        let Some((_, last)) = all.last() else { return Last::default() };
        let chosen = all.iter().filter(|(_, said)| said.choice == last.choice);
        let kinds = chosen.map(|((_, location), _)| (matches!(location, Location::Viola { .. }), location));
        let locations = kinds.collect::<BTreeMap<_, _>>().into_values().collect();
        Last { locations, options: last.options.as_deref() }
    }

    async fn record(
        &mut self,
        store: &Store,
        placements: &BTreeMap<ConfigKey, Placement>,
    ) -> Result<(), StoreError> {
        let mut news = Vec::new();
        for (owner, placement) in placements {
            let (choice, options) = (&placement.choice, placement.options_text());
            for location in placement.locations() {
                let key = (owner.clone(), location);
                let known = self.known.get(&key);
                if known.is_none_or(|said| said.choice != *choice || said.options != options) {
                    news.push((key, Said { choice: choice.clone(), options: options.clone(), number: 0 }));
                }
            }
        }
        if news.is_empty() {
            return Ok(());
        }
        let record = |((owner, location), said): &((ConfigKey, Location), Said)| PlaceRecord {
            owner: owner.clone(),
            place: location.text(),
            choice: said.choice.clone(),
            options: said.options.clone(),
            number: 0,
        };
        let number = store.record_places(&news.iter().map(record).collect::<Vec<_>>()).await?;
        self.known.extend(news.into_iter().map(|(key, said)| (key, Said { number, ..said })));
        Ok(())
    }
}
