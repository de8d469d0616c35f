//! One pass over the whole fleet. Where configurations come from and where their status goes is not known here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use multinic_core::cloud::PortProof;
use multinic_core::config::{CloudAccess, ConfigErrors, OpenstackConfig};
use multinic_core::fleet::pace::{DownPortRetry, Pace, Pass};
use multinic_core::fleet::{
    Decision, FleetLimits, Held, Listing, Problem, Selected, Standing, candidates, decide, merge,
};
use multinic_core::published::{Publication, Published};
use multinic_core::{ConfigKey, Interface, PortId};
use multinic_openstack::{Broker, Cloud, CloudError, Gate, Reading};
use multinic_store::{Mark, Store, StoreError};

use crate::conclusion::{Conclusion, Conclusions, Known, Premises};
use crate::looks::Looks;
use crate::metrics::Metrics;
use crate::observe::{Clouds, Sight, prove};
use crate::status::Outcome;

/// The configurations of a pass.
#[derive(Debug, Clone)]
pub struct Configs {
    /// Every configuration whose name is known, parsed or with what is wrong with it.
    pub by_key: BTreeMap<ConfigKey, Result<OpenstackConfig, ConfigErrors>>,
    /// Whether there may be others.
    pub listing: Listing,
    /// Configurations that somebody deleted; none of them is in [`Self::by_key`].
    pub deleted: BTreeSet<ConfigKey>,
    /// Configurations whose cloud is to be read now, whatever the time of their next read, with what tells this request from
    /// another: a read that is under way serves the request that it was begun for.
    pub asked: BTreeMap<ConfigKey, String>,
    /// Configurations that are not to be carried out yet: what they published stays as it is, and their clouds are not
    /// read.
    pub waiting: BTreeSet<ConfigKey>,
}

impl Configs {
    /// Configurations of which none was deleted, is asked for or waits.
    pub fn new(by_key: BTreeMap<ConfigKey, Result<OpenstackConfig, ConfigErrors>>, listing: Listing) -> Self {
        Self { by_key, listing, deleted: BTreeSet::new(), asked: BTreeMap::new(), waiting: BTreeSet::new() }
    }
}

/// When a cloud is read again, beside when its configuration changed or is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reads {
    /// When its time has come, and at every pass while the last read failed.
    #[default]
    Eager,
    /// When its time has come.
    Timed,
    /// Not at all; only a read that failed is tried again after the error interval, and a change is only read when it is
    /// asked for.
    Asked,
}

/// What a pass came to.
#[derive(Debug, Default)]
pub struct Report {
    /// By configuration, also of those whose cloud was not due.
    pub outcomes: BTreeMap<ConfigKey, Outcome>,
    /// Configurations whose cloud has not answered yet. What they published stays as it is.
    pub under_way: BTreeSet<ConfigKey>,
    /// How many configurations were as their spec wants it when they were last carried out.
    pub ready: usize,
    /// How many were not.
    pub failing: usize,
    /// Removals that wait for a person.
    pub held: Option<Held>,
    /// How many interfaces were added, changed, removed.
    pub written: Written,
    /// What keeps the interfaces of configurations that are not there any more.
    pub leftovers: BTreeMap<ConfigKey, Leftover>,
}

/// What is still published of a configuration that is not there any more.
#[derive(Debug, Clone, Default)]
pub struct Leftover {
    /// How many interfaces.
    pub interfaces: usize,
    /// Why they stay.
    pub problems: Vec<Problem>,
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

impl Report {
    /// Logs what a person should know of.
    pub fn log(&self) {
        if self.written.anything() {
            let Written { added, changed, removed } = self.written;
            tracing::info!(added, changed, removed, "published");
        }
        if let Some(held) = &self.held {
            tracing::warn!(
                count = held.count,
                published = held.published,
                digest = %held.digest,
                "MassRemovalHeld: removals wait until they are confirmed"
            );
        }
        for (key, outcome) in &self.outcomes {
            match outcome {
                Outcome::Published { problems, .. } => {
                    for problem in problems.iter().filter(|problem| problem.reason.is_error()) {
                        tracing::warn!(config = %key, reason = problem.reason.as_str(), "{}: {}", problem.subject, problem.message);
                    }
                }
                Outcome::Failed { reason, message } => {
                    tracing::error!(config = %key, reason, error = %message, "the configuration is not published");
                }
            }
        }
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
    reads: Reads,
    patience: Option<Duration>,
    looks: Looks,
    /// Whether what is published is delivered to somebody who does not read the ledger.
    delivers: bool,
    states: BTreeMap<ConfigKey, State>,
    conclusions: Conclusions,
    /// How many reads of clouds there were that differed from the one before.
    count: u64,
    purged: Option<Instant>,
}

/// What is kept of one configuration.
#[derive(Debug, Default)]
struct State {
    spec_hash: String,
    pace: Pace,
    due: Option<Instant>,
    /// What it selected when its cloud was last looked at, with the spec's hash; none if that failed.
    seen: Option<(String, Arc<Selected>)>,
    /// What spares the next look the reading; lent to the look that is under way.
    reading: Option<Reading>,
    /// Which read that was.
    read: u64,
    /// Whether this pass looked.
    current: bool,
    /// Whether it is to be read as soon as it can be.
    owed: bool,
    /// Whether it was as its spec wants it when it was last carried out; none before that.
    ready: Option<bool>,
}

impl State {
    /// What it selects, as far as that was read for this spec.
    fn selected(&self, spec_hash: &str) -> Option<&Arc<Selected>> {
        self.seen.as_ref().filter(|(hash, _)| hash == spec_hash).map(|(_, selected)| selected)
    }

    fn forget(&mut self) {
        (self.seen, self.reading) = (None, None);
    }

    fn is_due(&self, reads: Reads, now: Instant) -> bool {
        match reads {
            Reads::Eager => self.due.is_none_or(|due| due <= now) || self.seen.is_none(),
            Reads::Timed => self.due.is_none_or(|due| due <= now),
            Reads::Asked => self.due.is_some_and(|due| due <= now),
        }
    }
}

/// Why a cloud is not asked about single ports.
const UNANSWERED: &str = "the cloud is being read and has not answered yet";

/// How often tombstones are looked through for old ones.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

impl Controller {
    /// A controller that publishes to `store`.
    pub fn new(store: Store, gate: Gate, limits: FleetLimits, retention: Duration, metrics: Metrics) -> Self {
        let clouds = Clouds::new(gate, metrics.observer());
        Self {
            store,
            clouds,
            limits,
            retention,
            metrics,
            reads: Reads::default(),
            patience: None,
            looks: Looks::default(),
            states: BTreeMap::new(),
            conclusions: Conclusions::default(),
            count: 0,
            delivers: false,
            purged: None,
        }
    }

    /// The same with another rule of when clouds are read.
    pub fn reading(self, reads: Reads) -> Self {
        Self { reads, ..self }
    }

    /// From now on a pass waits so long for clouds at most, and goes on with what has come; without a limit it waits for all
    /// of them. What comes later is told by [`Self::come`].
    pub fn wait_at_most(&mut self, patience: Option<Duration>) {
        self.patience = patience;
    }

    /// Returns when a cloud has answered that the last pass did not wait for: it is time for the next.
    pub async fn come(&mut self) {
        self.looks.come().await;
    }

    /// The same where removals are kept until the ledger says that they were delivered.
    pub fn delivering(self) -> Self {
        Self { delivers: true, ..self }
    }

    /// The database that is published to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What the ledger has. Interfaces that are there as a configuration selects them are shared with what is kept of that.
    ///
    /// # Errors
    /// The store's.
    pub async fn published(&self) -> Result<Published, StoreError> {
        let selected = self.states.values().filter_map(|state| state.seen.as_ref());
        let wanted = selected.flat_map(|(_, selected)| &selected.wanted).map(|wanted| &wanted.interface);
        let known: HashMap<&str, &Arc<Interface>> =
            wanted.map(|interface| (interface.port.as_str(), interface)).collect();
        self.store.published_beside(&|port| known.get(port).copied().cloned()).await
    }

    /// Whether the next pass, if it is made at `now`, reads this configuration's cloud although nobody asks for it. A
    /// change of the configuration is not known here.
    pub fn is_due(&self, key: &ConfigKey, now: Instant) -> bool {
        if self.looks.is_under_way(key) {
            return false;
        }
        self.states.get(key).map_or(self.reads != Reads::Asked, |state| state.is_due(self.reads, now))
    }

    /// Tells what an earlier process knew of a configuration's DOWN ports. Without effect once its cloud was read.
    pub fn remember(&mut self, key: &ConfigKey, down: DownPortRetry) {
        let state = self.states.entry(key.clone()).or_default();
        if state.seen.is_none() && state.pace.down.is_none() {
            state.pace.down = Some(down);
        }
    }

    /// The client of a cloud, which passes share.
    pub fn cloud(&mut self, access: &CloudAccess) -> Result<Cloud, CloudError> {
        self.clouds.client(access)
    }

    /// The message broker of a cloud, where Contrabass named one when it was asked last.
    pub fn broker(&mut self, access: &CloudAccess) -> Option<Arc<Broker>> {
        self.clouds.client(access).ok()?.broker()
    }

    /// When the next pass is due; none if there is nothing to look at.
    pub fn next_due(&self) -> Option<Instant> {
        self.states.values().filter_map(|state| state.due).min()
    }

    /// The state of a configuration's DOWN ports, for its status.
    pub fn pace(&self, key: &ConfigKey) -> Option<&Pace> {
        self.states.get(key).map(|state| &state.pace)
    }

    /// Looks at the clouds that are due, plans, publishes. An error is the store's: nothing was published, and every
    /// configuration is due again after its error interval.
    pub async fn pass(
        &mut self,
        configs: &Configs,
        confirmed: &BTreeSet<String>,
    ) -> Result<Report, StoreError> {
        let started = Instant::now();
        let mut outcomes = self.read_due(configs, started).await;
        let mut confirmed = confirmed.clone();
        for config in configs.by_key.values().flatten() {
            confirmed.extend(config.confirmed_removals.iter().cloned());
        }
        let concluded = match self.conclude(configs, confirmed).await {
            Ok(concluded) => concluded,
            Err(error) => return Err(self.store_failed(configs, error)),
        };
        let Conclusion { interfaces, problems, changed, held, written, unfinished, moving: _ } = &*concluded;
        let is_there = |key: &ConfigKey| configs.by_key.contains_key(key) || configs.deleted.contains(key);
        for (key, problems) in problems.iter().filter(|(key, _)| !is_there(key)) {
            // It has no status in which somebody could read them.
            for problem in problems {
                tracing::warn!(config = %key, reason = problem.reason.as_str(), "{}: {}", problem.subject, problem.message);
            }
        }
        for (key, config) in configs.by_key.iter().filter(|(key, _)| !configs.waiting.contains(*key)) {
            // What the cloud of one that is being looked at shows is told when it has answered.
            let state =
                self.states.get(key).filter(|state| state.seen.is_some() && !self.looks.is_under_way(key));
            let (Ok(_), Some(state)) = (config, state) else { continue };
            let outcome = Outcome::Published {
                current: state.current,
                interfaces: interfaces.get(key).copied().unwrap_or_default(),
                changed: changed.contains(key),
                problems: problems.get(key).cloned().unwrap_or_default(),
            };
            outcomes.insert(key.clone(), outcome);
        }
        let leftovers = leftovers(configs, interfaces, problems);
        self.schedule(configs, &outcomes);
        for key in unfinished {
            // A cloud that failed keeps its time: a wrong password is not tried every second.
            if let Some(state) = self.states.get_mut(key).filter(|state| state.current) {
                state.due = Some(Instant::now());
            }
        }
        self.purge().await;
        let under_way = self.looks.under_way().cloned().collect();
        let (ready, failing) = self.standing(&outcomes);
        self.metrics.pass(started.elapsed(), (ready, failing), written, held.as_ref());
        Ok(Report { outcomes, under_way, ready, failing, held: held.clone(), written: *written, leftovers })
    }

    /// Plans and publishes, unless it is known that there would be nothing to publish.
    async fn conclude(
        &mut self,
        configs: &Configs,
        confirmed: BTreeSet<String>,
    ) -> Result<Arc<Conclusion>, StoreError> {
        // Taken first: of what is written from here on it is not known whether it was seen.
        let ledger = self.timed("mark", self.store.mark()).await?;
        let premises = self.premises(configs, confirmed, ledger);
        if let Some(concluded) = self.conclusions.of(&premises) {
            return Ok(concluded);
        }
        let concluded = Arc::new(self.plan(configs, &premises.confirmed).await?);
        self.conclusions.keep(premises, &concluded);
        Ok(concluded)
    }

    /// Reads the ledger, plans, publishes.
    async fn plan(
        &mut self,
        configs: &Configs,
        confirmed: &BTreeSet<String>,
    ) -> Result<Conclusion, StoreError> {
        let mut fleet = merge(self.standings(configs));
        let wished = |port: &str| fleet.wishes.get(port).map(|wish| Arc::clone(&wish.wanted.interface));
        let published = self.timed("published", self.store.published_beside(&wished)).await?;
        fleet.deleted.clone_from(&configs.deleted);
        let mut asked = candidates(&fleet, &published, configs.listing);
        // A cloud that has not answered yet would not answer this either.
        let unanswered = asked.extract_if(.., |candidate| self.looks.is_under_way(&candidate.owner));
        let unanswered =
            unanswered.map(|candidate| (candidate.port, PortProof::Unproven(UNANSWERED.to_owned())));
        let unanswered: Vec<_> = unanswered.collect();
        let access: HashMap<ConfigKey, &CloudAccess> = configs
            .by_key
            .iter()
            .filter_map(|(key, config)| Some((key.clone(), &config.as_ref().ok()?.cloud)))
            .collect();
        let mut proofs = prove(&mut self.clouds, &access, &published, &asked).await;
        proofs.extend(unanswered);
        let Decision { publication, problems, held, changed } =
            decide(fleet, &published, configs.listing, &proofs, confirmed, &self.limits);
        let interfaces = published_after(&published, &publication);
        let unfinished = unfinished(configs, &published);
        drop(published);
        for removal in &publication.removals {
            tracing::info!(
                node_name = %removal.node, mac_address = %removal.mac, port_id = %removal.port,
                reason = removal.evidence.as_str(), "removing an interface"
            );
        }
        let result = self.timed("publish", self.store.publish(&publication)).await?;
        let written = Written {
            added: result.inserted + result.revived,
            changed: result.updated,
            removed: result.removed,
        };
        let moving = result.revision.is_some() || !asked.is_empty();
        Ok(Conclusion { interfaces, problems, changed, held, written, unfinished, moving })
    }

    /// Looks at the clouds that are due. Failures become outcomes and leave nothing to plan with.
    async fn read_due(&mut self, configs: &Configs, now: Instant) -> BTreeMap<ConfigKey, Outcome> {
        let mut outcomes = BTreeMap::new();
        self.states.retain(|key, _| configs.by_key.contains_key(key));
        self.clouds.retain(configs.by_key.values().flatten().map(|config| &config.cloud));
        self.looks
            .retain(|key| matches!(configs.by_key.get(key), Some(Ok(_))) && !configs.waiting.contains(key));
        for (key, config) in &configs.by_key {
            let state = self.states.entry(key.clone()).or_default();
            state.current = false;
            if configs.waiting.contains(key) {
                // Its time would only come round again and again.
                state.due = None;
                continue;
            }
            match config {
                Ok(config) => {
                    let hash = &config.spec_hash;
                    let asked = configs.asked.get(key);
                    let changed = state.spec_hash != *hash && self.reads != Reads::Asked;
                    let under_way = self.looks.is_under_way(key);
                    let wanted = changed
                        || state.owed
                        || asked.is_some()
                        || (!under_way && state.is_due(self.reads, now));
                    if wanted && !self.looks.serves(key, hash, asked) {
                        state.spec_hash.clone_from(hash);
                        state.owed = false;
                        let client = self.clouds.client(&config.cloud);
                        self.looks.begin(config, client, state.reading.take(), asked.cloned());
                    }
                }
                Err(errors) => {
                    state.forget();
                    // Once its text is right it is read, in every mode.
                    state.owed = true;
                    // There is nothing to read until its text changes.
                    state.due = None;
                    let outcome = Outcome::Failed { reason: "ConfigError", message: errors.to_string() };
                    outcomes.insert(key.clone(), outcome);
                }
            }
        }
        for (key, look) in self.looks.collect(self.patience).await {
            let Some(state) = self.states.get_mut(&key) else { continue };
            self.metrics.look(look.as_ref().ok().map(|sight| sight.selected.is_none()));
            match look {
                Ok(Sight { selected, reading }) => {
                    if let Some(selected) = selected {
                        self.count += 1;
                        state.read = self.count;
                        state.seen = Some((state.spec_hash.clone(), Arc::new(selected)));
                    } else if let Some((hash, _)) = &mut state.seen {
                        // Of another spec that selects the same.
                        hash.clone_from(&state.spec_hash);
                    }
                    state.reading = Some(reading);
                    state.current = true;
                }
                Err(error) => {
                    state.forget();
                    let outcome = Outcome::Failed { reason: error.reason(), message: error.to_string() };
                    outcomes.insert(key, outcome);
                }
            }
        }
        outcomes
    }

    /// How many configurations were as their spec wants it when they were last carried out, and how many were not.
    fn standing(&mut self, outcomes: &BTreeMap<ConfigKey, Outcome>) -> (usize, usize) {
        for (key, outcome) in outcomes {
            if let Some(state) = self.states.get_mut(key) {
                state.ready = Some(outcome.is_ready());
            }
        }
        let count = |ready| self.states.values().filter(|state| state.ready == Some(ready)).count();
        (count(true), count(false))
    }

    fn standings(&self, configs: &Configs) -> Vec<Standing> {
        let standing = |(key, config): (&ConfigKey, &Result<OpenstackConfig, ConfigErrors>)| {
            let config = config.as_ref().ok().filter(|_| !configs.waiting.contains(key));
            let state = config.and_then(|_| self.states.get(key));
            Standing {
                key: key.clone(),
                selection: config.map(|config| config.selection.clone()),
                spec_hash: config.map(|config| config.spec_hash.clone()),
                selected: state
                    .zip(config)
                    .and_then(|(state, config)| state.selected(&config.spec_hash))
                    .cloned(),
                current: state.is_some_and(|state| state.current),
            }
        };
        configs.by_key.iter().map(standing).collect()
    }

    /// All that the planning of this pass depends on.
    fn premises(&self, configs: &Configs, confirmed: BTreeSet<String>, ledger: Mark) -> Premises {
        let known = |(key, config): (&ConfigKey, &Result<OpenstackConfig, ConfigErrors>)| {
            let config = config.as_ref().ok().filter(|_| !configs.waiting.contains(key));
            let state = config.and_then(|_| self.states.get(key));
            let known = config.map(|config| Known {
                selection: config.selection.clone(),
                spec_hash: config.spec_hash.clone(),
                read: state.filter(|it| it.selected(&config.spec_hash).is_some()).map(|state| state.read),
                under_way: self.looks.is_under_way(key),
                current: state.is_some_and(|state| state.current),
            });
            (key.clone(), known)
        };
        Premises {
            ledger,
            listing: configs.listing,
            configs: configs.by_key.iter().map(known).collect(),
            deleted: configs.deleted.clone(),
            confirmed,
        }
    }

    fn schedule(&mut self, configs: &Configs, outcomes: &BTreeMap<ConfigKey, Outcome>) {
        let (now, clock) = (Instant::now(), Timestamp::now());
        let nothing = BTreeSet::<PortId>::new();
        for (key, config) in &configs.by_key {
            let (Some(state), Ok(config)) = (self.states.get_mut(key), config) else { continue };
            if self.looks.is_under_way(key) {
                // The next time follows from what comes of it.
                state.due = None;
                continue;
            }
            let pass = match outcomes.get(key) {
                Some(Outcome::Published { changed: true, .. }) => Pass::Changed,
                Some(Outcome::Published { .. }) => Pass::Unchanged,
                Some(Outcome::Failed { .. }) | None => Pass::Failed,
            };
            if state.due.is_some_and(|due| due > now) && pass == Pass::Unchanged {
                continue;
            }
            if configs.waiting.contains(key) || (self.reads == Reads::Asked && !outcomes.contains_key(key)) {
                continue;
            }
            let down = state.seen.as_ref().map_or(&nothing, |(_, selected)| &selected.down);
            let wait = state.pace.next(&config.cadence, pass, down, clock);
            let again = self.reads != Reads::Asked || pass == Pass::Failed;
            state.due = again.then(|| now + wait);
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
        match self.timed("purge", self.store.purge(self.retention, self.delivers)).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "purged tombstones that were kept long enough"),
            // The next hour tries again; old tombstones harm nobody.
            Err(error) => tracing::warn!(error = %error, "could not purge old tombstones"),
        }
        self.purged = Some(Instant::now());
        // Once in a while everything is gone through, whatever is known.
        self.conclusions.forget();
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

/// What is left of configurations that are not there any more.
fn leftovers(
    configs: &Configs,
    interfaces: &BTreeMap<ConfigKey, usize>,
    problems: &BTreeMap<ConfigKey, Vec<Problem>>,
) -> BTreeMap<ConfigKey, Leftover> {
    let gone = interfaces.iter().filter(|(key, _)| !configs.by_key.contains_key(*key));
    let leftover = |(key, interfaces): (&ConfigKey, &usize)| {
        let problems = problems.get(key).cloned().unwrap_or_default();
        (key.clone(), Leftover { interfaces: *interfaces, problems })
    };
    gone.map(leftover).collect()
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
    let stays = before.interfaces.iter().filter(|row| !named.contains(row.port())).map(|row| &row.owner);
    let mut counts = BTreeMap::new();
    for owner in written.map(|(_, owner)| owner).chain(stays) {
        match counts.get_mut(owner) {
            Some(count) => *count += 1,
            None => drop(counts.insert(owner.clone(), 1)),
        }
    }
    counts
}
