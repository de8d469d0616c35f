//! One pass over the whole fleet. Where configurations come from and where their status goes is not known here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use multinic_core::config::{CloudAccess, ConfigErrors, OpenstackConfig};
use multinic_core::fleet::pace::{Pace, Pass};
use multinic_core::fleet::{
    Decision, FleetLimits, Held, Listing, Selected, Standing, candidates, decide, merge,
};
use multinic_core::published::{Publication, Published};
use multinic_core::{ConfigKey, PortId};
use multinic_openstack::Gate;
use multinic_store::{Store, StoreError};

use crate::metrics::Metrics;
use crate::observe::{Clouds, observe, prove};
use crate::status::Outcome;

/// The configurations of a pass.
#[derive(Debug, Clone)]
pub struct Configs {
    /// Every configuration whose name is known, parsed or with what is wrong with it.
    pub by_key: BTreeMap<ConfigKey, Result<OpenstackConfig, ConfigErrors>>,
    /// Whether there may be others.
    pub listing: Listing,
}

/// What a pass came to.
#[derive(Debug, Default)]
pub struct Report {
    /// By configuration, also of those whose cloud was not due.
    pub outcomes: BTreeMap<ConfigKey, Outcome>,
    /// Removals that wait for a person.
    pub held: Option<Held>,
    /// How many interfaces were added, changed, removed.
    pub written: Written,
}

/// How much a pass wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// New interfaces, and removed ones that came back.
    pub added: u64,
    /// Changed ones.
    pub changed: u64,
    /// Removed ones.
    pub removed: u64,
}

impl Written {
    /// Whether anything was written.
    pub fn anything(self) -> bool {
        self != Self::default()
    }
}

/// What is kept from pass to pass.
#[derive(Debug)]
pub struct Controller {
    store: Store,
    clouds: Clouds,
    limits: FleetLimits,
    retention: Duration,
    metrics: Metrics,
    states: BTreeMap<ConfigKey, State>,
    purged: Option<Instant>,
}

/// What is kept of one configuration.
#[derive(Debug, Default)]
struct State {
    spec_hash: String,
    pace: Pace,
    due: Option<Instant>,
    /// What its cloud showed when it was last read; none if that read failed.
    selected: Option<Selected>,
    /// Whether that was in this pass.
    current: bool,
}

/// How often tombstones are looked through for old ones.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

impl Controller {
    /// A controller that publishes to `store`.
    pub fn new(store: Store, gate: Gate, limits: FleetLimits, retention: Duration, metrics: Metrics) -> Self {
        let clouds = Clouds::new(gate, metrics.observer());
        Self { store, clouds, limits, retention, metrics, states: BTreeMap::new(), purged: None }
    }

    /// When the next pass is due; none if there is nothing to look at.
    pub fn next_due(&self) -> Option<Instant> {
        self.states.values().filter_map(|state| state.due).min()
    }

    /// The state of a configuration's DOWN ports, for its status.
    pub fn pace(&self, key: &ConfigKey) -> Option<&Pace> {
        self.states.get(key).map(|state| &state.pace)
    }

    /// Reads the clouds that are due, plans, publishes. An error is the store's: nothing was published, and every
    /// configuration is due again after its error interval.
    pub async fn pass(
        &mut self,
        configs: &Configs,
        confirmed: &BTreeSet<String>,
    ) -> Result<Report, StoreError> {
        let started = Instant::now();
        let mut outcomes = self.read_due(configs, started).await;
        let published = self.timed("published", self.store.published()).await;
        let published = match published {
            Ok(published) => published,
            Err(error) => return Err(self.store_failed(configs, error)),
        };
        let fleet = merge(self.standings(configs));
        let asked = candidates(&fleet, &published, configs.listing);
        let access: HashMap<ConfigKey, &CloudAccess> = configs
            .by_key
            .iter()
            .filter_map(|(key, config)| Some((key.clone(), &config.as_ref().ok()?.cloud)))
            .collect();
        let proofs = prove(&mut self.clouds, &access, &published, &asked).await;
        let mut confirmed = confirmed.clone();
        for config in configs.by_key.values().flatten() {
            confirmed.extend(config.confirmed_removals.iter().cloned());
        }
        let Decision { publication, problems, held, changed } =
            decide(fleet, &published, configs.listing, &proofs, &confirmed, &self.limits);
        for (key, problems) in problems.iter().filter(|(key, _)| !configs.by_key.contains_key(*key)) {
            // It has no status in which somebody could read them.
            for problem in problems {
                tracing::warn!(config = %key, reason = problem.reason.as_str(), "{}: {}", problem.subject, problem.message);
            }
        }
        let mut interfaces = published_after(&published, &publication);
        let unfinished = unfinished(configs, &published);
        drop(published);
        for removal in &publication.removals {
            tracing::info!(
                node_name = %removal.node, mac_address = %removal.mac, port_id = %removal.port,
                reason = removal.evidence.as_str(), "removing an interface"
            );
        }
        let result = self.timed("publish", self.store.publish(&publication)).await;
        let result = match result {
            Ok(result) => result,
            Err(error) => return Err(self.store_failed(configs, error)),
        };
        let written = Written {
            added: result.inserted + result.revived,
            changed: result.updated,
            removed: result.removed,
        };
        for (key, config) in &configs.by_key {
            let state = self.states.get(key).filter(|state| state.selected.is_some());
            let (Ok(_), Some(state)) = (config, state) else { continue };
            let outcome = Outcome::Published {
                current: state.current,
                interfaces: interfaces.remove(key).unwrap_or_default(),
                changed: changed.contains(key),
                problems: problems.get(key).cloned().unwrap_or_default(),
            };
            outcomes.insert(key.clone(), outcome);
        }
        self.schedule(configs, &outcomes);
        for key in unfinished {
            // A cloud that failed keeps its time: a wrong password is not tried every second.
            if let Some(state) = self.states.get_mut(&key).filter(|state| state.current) {
                state.due = Some(Instant::now());
            }
        }
        self.purge().await;
        self.metrics.pass(started.elapsed(), &outcomes, &written, held.as_ref());
        Ok(Report { outcomes, held, written })
    }

    /// Reads the clouds that are due. Failures become outcomes and leave nothing to plan with.
    async fn read_due(&mut self, configs: &Configs, now: Instant) -> BTreeMap<ConfigKey, Outcome> {
        let mut outcomes = BTreeMap::new();
        self.states.retain(|key, _| configs.by_key.contains_key(key));
        self.clouds.retain(configs.by_key.values().flatten().map(|config| &config.cloud));
        let mut due = Vec::new();
        for (key, config) in &configs.by_key {
            let state = self.states.entry(key.clone()).or_default();
            state.current = false;
            match config {
                Ok(config) => {
                    let hash = config.spec_hash.clone();
                    if state.spec_hash != hash
                        || state.due.is_none_or(|due| due <= now)
                        || state.selected.is_none()
                    {
                        state.spec_hash = hash;
                        due.push(config);
                    }
                }
                Err(errors) => {
                    state.selected = None;
                    // There is nothing to read until its text changes.
                    state.due = None;
                    let outcome = Outcome::Failed { reason: "ConfigError", message: errors.to_string() };
                    outcomes.insert(key.clone(), outcome);
                }
            }
        }
        for (key, read) in observe(&mut self.clouds, due).await {
            let Some(state) = self.states.get_mut(&key) else { continue };
            match read {
                Ok(selected) => {
                    state.selected = Some(selected);
                    state.current = true;
                }
                Err(error) => {
                    state.selected = None;
                    let outcome = Outcome::Failed { reason: error.reason(), message: error.to_string() };
                    outcomes.insert(key, outcome);
                }
            }
        }
        outcomes
    }

    fn standings(&self, configs: &Configs) -> Vec<Standing> {
        let standing = |(key, config): (&ConfigKey, &Result<OpenstackConfig, ConfigErrors>)| {
            let config = config.as_ref().ok();
            let state = self.states.get(key);
            Standing {
                key: key.clone(),
                selection: config.map(|config| config.selection.clone()),
                spec_hash: config.map(|config| config.spec_hash.clone()),
                selected: state.and_then(|state| state.selected.clone()),
                current: state.is_some_and(|state| state.current),
            }
        };
        configs.by_key.iter().map(standing).collect()
    }

    fn schedule(&mut self, configs: &Configs, outcomes: &BTreeMap<ConfigKey, Outcome>) {
        let (now, clock) = (Instant::now(), Timestamp::now());
        let nothing = BTreeSet::<PortId>::new();
        for (key, config) in &configs.by_key {
            let (Some(state), Ok(config)) = (self.states.get_mut(key), config) else { continue };
            let pass = match outcomes.get(key) {
                Some(Outcome::Published { changed: true, .. }) => Pass::Changed,
                Some(Outcome::Published { .. }) => Pass::Unchanged,
                Some(Outcome::Failed { .. }) | None => Pass::Failed,
            };
            if state.due.is_some_and(|due| due > now) && pass == Pass::Unchanged {
                continue;
            }
            let down = state.selected.as_ref().map_or(&nothing, |selected| &selected.down);
            state.due = Some(now + state.pace.next(&config.cadence, pass, down, clock));
        }
    }

    fn store_failed(&mut self, configs: &Configs, error: StoreError) -> StoreError {
        let now = Instant::now();
        for (key, config) in &configs.by_key {
            if let (Some(state), Ok(config)) = (self.states.get_mut(key), config) {
                state.due = Some(now + config.cadence.error);
            }
        }
        error
    }

    async fn purge(&mut self) {
        if self.purged.is_some_and(|at| at.elapsed() < PURGE_INTERVAL) {
            return;
        }
        match self.timed("purge", self.store.purge(self.retention)).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "purged tombstones that were kept long enough"),
            // The next hour tries again; old tombstones harm nobody.
            Err(error) => tracing::warn!(error = %error, "could not purge old tombstones"),
        }
        self.purged = Some(Instant::now());
    }

    async fn timed<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let result = work.await;
        self.metrics.database(operation, result.is_ok(), started.elapsed());
        result
    }
}

/// The configurations whose change of spec waits for the list of configurations to settle.
fn unfinished(configs: &Configs, published: &Published) -> Vec<ConfigKey> {
    if configs.listing != Listing::Unsettled {
        return Vec::new();
    }
    let carried_out = |config: &OpenstackConfig| {
        published.spec_hashes.get(&config.key).is_some_and(|hash| *hash == config.spec_hash)
    };
    let valid = configs.by_key.values().flatten();
    valid.filter(|config| !carried_out(config)).map(|config| config.key.clone()).collect()
}

/// How many interfaces each configuration has published after this: what is written, and what stays without being.
fn published_after(before: &Published, publication: &Publication) -> BTreeMap<ConfigKey, usize> {
    let written = publication.interfaces.iter().map(|desired| (&desired.interface.port, &desired.owner));
    let gone = publication.removals.iter().map(|removal| &removal.port);
    let named: HashSet<&PortId> = written.clone().map(|(port, _)| port).chain(gone).collect();
    let stays = before.interfaces.iter().filter(|row| !named.contains(&row.port)).map(|row| &row.owner);
    let mut counts = BTreeMap::new();
    for owner in written.map(|(_, owner)| owner).chain(stays) {
        match counts.get_mut(owner) {
            Some(count) => *count += 1,
            None => drop(counts.insert(owner.clone(), 1)),
        }
    }
    counts
}
