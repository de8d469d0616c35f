//! What the leader does, turn by turn: read the configurations with their Secrets, make a pass, tell everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::{Api, Client, ResourceExt};
use multinic_core::ConfigKey;
use multinic_core::config::{ConfigErrors, Defaults, FieldError};
use multinic_core::fleet::Listing;
use multinic_store::{Store, StoreError};
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;

use super::ClusterError;
use super::deliver::Deliverer;
use super::entry::{Entry, Mark};
use super::finalizer::{self, Definition, Wish};
use super::gone::Gone;
use super::lease::Leadership;
use super::manifest::{Resolved, Unresolved, down_ports_of, resolve};
use super::metrics::ClusterMetrics;
use super::places::Standing;
use super::report::Reporter;
use super::restore::Unread;
use super::triggers::{Mode, Triggers};
use super::watch::{View, configs};
use crate::errands::TURN;
use crate::pass::{Configs, Controller, Reads, Report};
use crate::pulse::{Counts, Pulse};
use crate::status::Outcome;
use multinic_core::brief::short;

/// How many requests to the API server may be in flight.
pub(super) const AT_ONCE: usize = 8;
/// Changes that come together, such as those of one `kubectl apply`, are carried out together.
const COALESCING: Duration = Duration::from_millis(20);
/// So are answers of slow clouds and places.
const MOST_COALESCING: Duration = Duration::from_secs(5);
/// Between two turns while the list of configurations is not up to date, and after what the API server refused.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// At least so often the loop shows that it turns.
const PULSE: Duration = Duration::from_secs(60);
/// How often the inventory is told what agents reported in their objects.
const OBSERVING: Duration = Duration::from_secs(10);

/// What the leader works with.
pub(super) struct Reconciler {
    pub client: Client,
    pub controller: Controller,
    pub store: Store,
    pub deliverer: Deliverer,
    pub defaults: Defaults,
    pub confirmed: BTreeSet<String>,
    pub triggers: Triggers,
    pub view: watch::Receiver<View>,
    pub definition: Definition,
    pub reporter: Reporter,
    pub metrics: ClusterMetrics,
    pub pulse: Arc<Pulse>,
    pub entries: BTreeMap<ConfigKey, Entry>,
    pub scheduled: Option<Timestamp>,
    pub orphans: usize,
    /// What the last delivery left undone, and when it is tried again; none where everything is tried again at once.
    pub undelivered: Option<Pending>,
    /// Places whose objects know what the ledger does not.
    pub unread: Unread,
    /// Nodes that may never clean up.
    pub gone: Gone,
    /// Until when anything may be written.
    pub leadership: Leadership,
    /// When what agents report is looked at next.
    pub observe_at: Instant,
}

/// What the last delivery left undone.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub again: Option<Instant>,
    /// For whom that delivery was.
    pub standing: Standing,
}

/// What the objects ask of a turn.
struct Asked {
    configs: Configs,
    /// The configurations that somebody deleted.
    deleted: BTreeMap<ConfigKey, Arc<DynamicObject>>,
    /// Why those are not carried out, if they are not.
    undeletable: Option<String>,
    /// When something that failed is tried again.
    retry: Option<Instant>,
}

impl Reconciler {
    /// Works until it is dropped, nobody follows the configurations any more, or the ledger is gone.
    pub async fn run(mut self) -> ClusterError {
        match self.work().await {
            Err(ended) => ended,
        }
    }

    async fn work(&mut self) -> Result<Infallible, ClusterError> {
        // Before a first complete list nothing is known of what there is.
        self.view.wait_for(|view| view.listed).await.map_err(ClusterError::Unfollowed)?;
        self.controller.wait_at_most(Some(TURN));
        self.remember().await.map_err(ClusterError::LedgerGone)?;
        loop {
            let seen = marks(&self.view.borrow_and_update());
            let started = Instant::now();
            let wake = self.turn().await.map_err(ClusterError::LedgerGone)?;
            self.wait(&seen, wake, started.elapsed()).await.map_err(ClusterError::Unfollowed)?;
        }
    }

    /// Returns when there is something to do. `turn` is how long the last turn took.
    async fn wait(
        &mut self,
        seen: &(bool, BTreeMap<ConfigKey, Mark>),
        wake: Option<Instant>,
        turn: Duration,
    ) -> Result<(), RecvError> {
        let drift = Arc::clone(&self.deliverer.drift);
        loop {
            let pulse = Instant::now() + PULSE;
            let wake = wake.map_or(pulse, |wake| wake.min(pulse));
            tokio::select! {
                // In this order: however often there is something to do, the rest comes round too.
                biased;
                () = tokio::time::sleep_until(self.observe_at.into()) => {
                    if let Err(error) = self.deliverer.observe(&self.store).await {
                        tracing::warn!(error = %error, "what agents report is not taken up");
                    }
                    self.observe_at = Instant::now() + OBSERVING;
                }
                changed = self.view.changed() => {
                    changed?;
                    if marks(&self.view.borrow_and_update()) != *seen {
                        tokio::time::sleep(COALESCING).await;
                        return Ok(());
                    }
                }
                () = self.controller.come() => {
                    // Others may be about to come. Turns for them take no more than half of the time.
                    tokio::time::sleep(turn.clamp(COALESCING, MOST_COALESCING)).await;
                    return Ok(());
                }
                () = self.deliverer.memory.come() => {
                    tokio::time::sleep(turn.clamp(COALESCING, MOST_COALESCING)).await;
                    if let Some(pending) = &mut self.undelivered {
                        pending.again = Some(Instant::now());
                    }
                    return Ok(());
                }
                () = self.unread.come() => {
                    tokio::time::sleep(COALESCING).await;
                    return Ok(());
                }
                () = self.gone.come() => {
                    tokio::time::sleep(COALESCING).await;
                    return Ok(());
                }
                () = drift.notified() => {
                    // Whoever changed one object may be changing more.
                    tokio::time::sleep(COALESCING).await;
                    self.undelivered = None;
                    return Ok(());
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    if wake < pulse {
                        return Ok(());
                    }
                    self.pulse.turn();
                }
            }
        }
    }

    /// One turn. Returns when the next is due. An error says that the ledger is gone.
    async fn turn(&mut self) -> Result<Option<Instant>, StoreError> {
        let view = self.view.borrow().clone();
        let asked = self.ask(&view).await;
        let Asked { mut configs, deleted, undeletable, mut retry } = asked;
        if undeletable.is_none() {
            configs.deleted = deleted.keys().cloned().collect();
        }
        let passed = self.controller.pass(&configs, &self.confirmed).await;
        if !self.leadership.is_held() {
            // Planning may have kept everything else from running, whoever ends this turn included.
            std::future::pending::<()>().await;
        }
        let report = match passed {
            Ok(report) => {
                self.note(&report, &configs);
                report
            }
            Err(error) => {
                self.pulse.failed(&error);
                tracing::error!(error = %error, "the pass failed; nothing was removed");
                let wait = if matches!(error, StoreError::Overtaken { .. }) {
                    PATIENCE
                } else {
                    self.defaults.cadence.error
                };
                sooner(&mut retry, Instant::now() + wait);
                let failed = Outcome::Failed { reason: "DatabaseError", message: error.to_string() };
                let outcomes = configs.by_key.keys().map(|key| (key.clone(), failed.clone())).collect();
                self.tell(&configs, &Report { outcomes, ..Report::default() }, &mut retry).await;
                return if error.finds_no_tables() { Err(error) } else { Ok(retry) };
            }
        };
        self.deliver(&configs, &report, &mut retry).await;
        self.release_gone(&mut retry).await;
        self.write_brokers(&configs, &report, &mut retry).await;
        self.tell(&configs, &report, &mut retry).await;
        self.finish(&deleted, undeletable.as_deref(), &report, &mut retry).await;
        if configs.listing == Listing::Unsettled {
            sooner(&mut retry, Instant::now() + PATIENCE);
        }
        let least =
            Instant::now() + if configs.listing == Listing::Unsettled { PATIENCE } else { Duration::ZERO };
        let due = self.controller.next_due().map(|due| due.max(least));
        let scheduled = self.scheduled.map(|at| {
            let wait = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
            Instant::now() + wait
        });
        Ok([retry, due, scheduled].into_iter().flatten().min())
    }

    /// Puts together what the objects ask for.
    async fn ask(&mut self, view: &View) -> Asked {
        let now = Instant::now();
        let mut retry = None;
        let mut configs =
            Configs::new(BTreeMap::new(), if view.alive { Listing::Watched } else { Listing::Unsettled });
        let (mut deleted, mut unguarded, mut orphaned) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut live = BTreeMap::new();
        for (key, object) in &view.objects {
            match finalizer::wish(object) {
                Wish::Gone => continue,
                Wish::Orphaned => orphaned.push(Arc::clone(object)),
                Wish::Deleted => drop(deleted.insert(key.clone(), Arc::clone(object))),
                Wish::Unguarded => {
                    unguarded.push(Arc::clone(object));
                    live.insert(key.clone(), Arc::clone(object));
                }
                Wish::Live => drop(live.insert(key.clone(), Arc::clone(object))),
            }
        }
        let undeletable = match deleted.is_empty() {
            true => None,
            false => match self.definition.is_being_deleted().await {
                Ok(false) => None,
                Ok(true) => {
                    tracing::warn!(
                        count = deleted.len(),
                        "the definition of OpenstackConfig is being deleted, and with it every configuration; what they published stays"
                    );
                    orphaned.extend(std::mem::take(&mut deleted).into_values());
                    None
                }
                Err(problem) => {
                    sooner(&mut retry, now + PATIENCE * 5);
                    Some(problem)
                }
            },
        };
        self.release(&orphaned, &mut retry).await;
        let guarded = self.guard(&unguarded).await;
        self.entries.retain(|key, _| live.contains_key(key) || deleted.contains_key(key));
        for (key, object) in &live {
            self.meet(key, object);
        }
        for (key, object) in &deleted {
            let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry::new(Arc::clone(object)));
            entry.object = Arc::clone(object);
        }
        let everybody = self.schedule_fired();
        for key in live.keys() {
            let Some(entry) = self.entries.get(key) else { continue };
            let requested = everybody || entry.request().is_some();
            let reads_changes = self.triggers.mode == Mode::Immediate || self.triggers.on_change;
            if requested || (reads_changes && entry.changed()) {
                let generation = entry.object.metadata.generation;
                configs.asked.insert(key.clone(), format!("{generation:?} {:?}", entry.request()));
            } else if entry.changed() {
                configs.waiting.insert(key.clone());
            }
        }
        let all =
            live.iter().chain(&deleted).map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        self.resolve(&all, &configs, now).await;
        self.place(&configs.waiting, &deleted);
        self.mind_ledger().await;
        self.remember_others(&mut retry).await;
        let mut reading = BTreeSet::new();
        for key in live.into_keys() {
            let Some(entry) = self.entries.get(&key) else { continue };
            if let Some(at) = entry.retry {
                sooner(&mut retry, at);
            }
            // What has no finalizer yet is not published: it could go without anybody noticing.
            if guarded.contains_key(&key) {
                sooner(&mut retry, now + PATIENCE);
                configs.waiting.insert(key.clone());
            }
            let unread =
                self.target(&entry.object).and_then(|target| Some((self.unread.problem(&target)?, target)));
            if unread.as_ref().is_some_and(|(_, target)| self.unread.is_being_read(target)) {
                configs.waiting.insert(key.clone());
                reading.insert(key.clone());
            }
            let config = match (&entry.resolved, unread) {
                (_, Some((problem, target))) if !reading.contains(&key) => {
                    let field = match target.kubeconfig {
                        Some(_) => "spec.target.kubeconfigSecretRef",
                        None => "spec.target.namespace",
                    };
                    let field = field.to_owned();
                    Err(ConfigErrors(vec![FieldError { field, problem }]))
                }
                (Some(Ok(resolved)), _) => Ok(resolved.config.clone()),
                (Some(Err(unresolved)), _) => Err(unresolved.errors.clone()),
                (None, _) => Err(ConfigErrors(Vec::new())),
            };
            configs.by_key.insert(key, config);
        }
        for (key, entry) in &mut self.entries {
            entry.place_is_read = reading.contains(key);
        }
        Asked { configs, deleted, undeletable, retry }
    }

    /// Remembers a configuration. Another object of the same name is another configuration, which begins anew.
    fn meet(&mut self, key: &ConfigKey, object: &Arc<DynamicObject>) {
        let known = self.entries.get_mut(key).filter(|entry| entry.object.uid() == object.uid());
        match known {
            Some(entry) => entry.object = Arc::clone(object),
            None => {
                let entry = Entry::new(Arc::clone(object));
                if let Some(down) = down_ports_of(&entry.status) {
                    self.controller.remember(key, down);
                }
                self.entries.insert(key.clone(), entry);
            }
        }
    }

    /// Whether the schedule's time has come since the last turn.
    fn schedule_fired(&mut self) -> bool {
        if self.triggers.mode != Mode::Scheduled {
            return false;
        }
        let now = Timestamp::now();
        // A process that has just begun does not know what it missed: it begins with a pass.
        let fired = self.scheduled.is_none_or(|at| at <= now);
        if fired {
            self.scheduled = self.triggers.times.after(now);
        }
        fired
    }

    /// Reads what has to be read anew, Secrets included: what changed, what is asked for, and whatever cloud is read.
    async fn resolve(
        &mut self,
        live: &BTreeMap<ConfigKey, Arc<DynamicObject>>,
        configs: &Configs,
        now: Instant,
    ) {
        let outdated = live.iter().filter(|(key, object)| {
            let entry = self.entries.get(*key);
            entry.is_none_or(|entry| entry.is_outdated(&Mark::of(object), now))
                || configs.asked.contains_key(*key)
                || (live.contains_key(*key) && self.controller.is_due(key, now))
        });
        let reads = outdated.map(|(key, object)| {
            let (client, defaults) = (&self.client, &self.defaults);
            async move { (key.clone(), Mark::of(object), resolve(client, object, defaults).await) }
        });
        let reads: Vec<(ConfigKey, Mark, Result<Resolved, Unresolved>)> =
            stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await;
        for (key, mark, read) in reads {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.retry = None;
            if let Err(unresolved) = &read
                && unresolved.passing
            {
                entry.retry = Some(now + self.defaults.cadence.error);
                let knew_better =
                    matches!(&entry.resolved, Some(Ok(_))) && entry.resolved_from.as_ref() == Some(&mark);
                if unresolved.trouble && knew_better {
                    // The API server does not answer: that says nothing about the Secret.
                    tracing::warn!(config = %key, error = %unresolved.errors, "Secrets cannot be read; those of before are used");
                    continue;
                }
            }
            entry.resolved = Some(read);
            entry.resolved_from = Some(mark);
        }
    }

    /// Adds the finalizer where it is not there. Returns those that could not be given one.
    async fn guard(&self, objects: &[Arc<DynamicObject>]) -> BTreeMap<ConfigKey, ()> {
        let writes = objects.iter().map(|object| async move {
            let added = finalizer::add(&self.api(object), object).await;
            (super::watch::key(object), added)
        });
        let done: Vec<_> = stream::iter(writes.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await;
        let mut failed = BTreeMap::new();
        for (key, added) in done {
            if let Err(error) = added {
                tracing::warn!(config = %key, error = %short(&error), "cannot add the finalizer; the configuration waits");
                failed.insert(key, ());
            }
        }
        failed
    }

    /// Takes the finalizer away.
    async fn release(&self, objects: &[Arc<DynamicObject>], retry: &mut Option<Instant>) {
        let writes = objects.iter().map(|object| async move {
            let key = super::watch::key(object);
            (key, finalizer::remove(&self.api(object), object).await)
        });
        let done: Vec<_> = stream::iter(writes.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await;
        for (key, removed) in done {
            match removed {
                Ok(()) => tracing::info!(config = %key, "the configuration is let go"),
                Err(error) => {
                    tracing::warn!(config = %key, error = %short(&error), "cannot take the finalizer away");
                    sooner(retry, Instant::now() + PATIENCE);
                }
            }
        }
    }

    /// Logs what a pass came to as a whole.
    fn note(&mut self, report: &Report, configs: &Configs) {
        self.pulse.passed(Counts { ready: report.ready, failing: report.failing });
        report.log();
        let orphans: usize = report
            .leftovers
            .iter()
            .filter(|(key, _)| !configs.deleted.contains(*key))
            .map(|(_, leftover)| leftover.interfaces)
            .sum();
        if orphans != self.orphans && orphans > 0 {
            tracing::warn!(
                interfaces = orphans,
                "interfaces are published whose configuration is not there; they stay, since nobody was seen to delete it: \
                 make it again, and delete it if they are to go"
            );
        }
        self.orphans = orphans;
        self.metrics.orphans.set(i64::try_from(orphans).unwrap_or(i64::MAX));
    }

    /// Tells everybody what became of each configuration.
    async fn tell(&mut self, configs: &Configs, report: &Report, retry: &mut Option<Instant>) {
        let downs: BTreeMap<ConfigKey, _> = report
            .outcomes
            .keys()
            .filter_map(|key| Some((key.clone(), self.controller.pace(key)?.down.clone()?)))
            .collect();
        if !self.reporter.report(&mut self.entries, configs, report, &downs).await {
            sooner(retry, Instant::now() + PATIENCE);
        }
    }

    /// Lets go of deleted configurations of which nothing is published any more.
    async fn finish(
        &mut self,
        deleted: &BTreeMap<ConfigKey, Arc<DynamicObject>>,
        undeletable: Option<&str>,
        report: &Report,
        retry: &mut Option<Instant>,
    ) {
        let mut done = Vec::new();
        for (key, object) in deleted {
            let leftover = report.leftovers.get(key);
            let target = self.target(object);
            let Some(entry) = self.entries.get_mut(key) else { continue };
            let interfaces = leftover.map_or(0, |leftover| leftover.interfaces);
            // What its objects remember may be more than the ledger knows.
            let unread = self
                .deliverer
                .last_targets(key)
                .into_iter()
                .chain(target)
                .find_map(|target| self.unread.problem(&target));
            let undecided = self.gone.is_undecided(key);
            let undecided =
                undecided.then_some("whether the agents of its nodes are there is being looked at");
            let undeletable = undeletable.or(unread.as_deref()).or(undecided);
            if interfaces == 0 && undeletable.is_none() && entry.undelivered.is_empty() {
                done.push(Arc::clone(object));
                continue;
            }
            sooner(retry, Instant::now() + self.defaults.cadence.error);
            if !self.reporter.report_deletion(entry, interfaces, undeletable, leftover).await {
                sooner(retry, Instant::now() + PATIENCE * 5);
            }
        }
        self.release(&done, retry).await;
    }

    fn api(&self, object: &DynamicObject) -> Api<DynamicObject> {
        configs(self.client.clone(), object.namespace().as_deref())
    }
}

/// Polling in `immediate`; in the other modes only what is asked for.
pub(super) fn reads(mode: Mode) -> Reads {
    match mode {
        Mode::Immediate => Reads::Timed,
        Mode::Scheduled | Mode::Manual | Mode::Webhook => Reads::Asked,
    }
}

pub(super) fn sooner(retry: &mut Option<Instant>, at: Instant) {
    *retry = Some(retry.map_or(at, |before| before.min(at)));
}

fn marks(view: &View) -> (bool, BTreeMap<ConfigKey, Mark>) {
    (view.alive, view.objects.iter().map(|(key, object)| (key.clone(), Mark::of(object))).collect())
}
