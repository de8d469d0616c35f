//! A turn's deliveries: where each configuration's interfaces go, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use kube::api::DynamicObject;
use multinic_core::ConfigKey;
use multinic_core::config::ConfigErrors;

use super::conditions::Undelivered;
use super::deliver::Deliverer;
use super::finalizer::is_orphan;
use super::manifest::{Unresolved, spec_of};
use super::places::Standing;
use super::rabbitmq;
use super::reconciler::{Pending, Reconciler, sooner};
use crate::pass::{Configs, Report};
use crate::status::Outcome;
use multinic_core::brief::short;

impl Reconciler {
    /// Delivers what is published, if something of it changed or is not delivered yet.
    pub(super) async fn deliver(&mut self, configs: &Configs, report: &Report, retry: &mut Option<Instant>) {
        let now = Instant::now();
        let again = self.undelivered.as_ref().and_then(|pending| pending.again);
        let mut hurry = self.deliverer.memory.trust.hear(configs, report) || self.undelivered.is_none();
        for (key, entry) in &mut self.entries {
            let request = entry.request().cloned();
            if request.is_some() && entry.hurried != request {
                entry.hurried = request;
                let placement = self.deliverer.placements.get(key);
                let resend = placement.is_some_and(|placement| placement.viola.is_some());
                if resend {
                    self.deliverer.memory.resend.insert(key.clone());
                }
                // Where nothing is owed there is nothing to hurry, and a look at all that is published is dear.
                hurry |= again.is_some() || resend;
            }
        }
        if hurry {
            self.deliverer.memory.rounds.hurry();
            self.deliverer.memory.farewells.hurry();
        }
        let standing = self.standing(configs);
        let news = self.undelivered.as_ref().is_none_or(|pending| pending.standing != standing);
        if hurry || news || again.is_some_and(|again| again <= now) || report.written.anything() {
            match self.deliverer.deliver(&self.controller, &standing).await {
                Ok(done) => {
                    for (key, entry) in &mut self.entries {
                        entry.undelivered = done.undelivered.get(key).cloned().unwrap_or_default();
                    }
                    let nodes: Vec<_> = done
                        .written
                        .into_iter()
                        .map(|(node, count)| (node, format!("{count} interface(s) are to be configured")))
                        .collect();
                    self.reporter.events.on_nodes(&nodes, "InterfacesPublished").await;
                    self.undelivered = Some(Pending { again: done.again, standing });
                }
                Err(error) => {
                    tracing::error!(error = %error, "what is published cannot be delivered");
                    // Nothing is known of any of them: none may be called delivered, and none that is deleted may go.
                    let message = format!("what is published could not be delivered: {error}");
                    let unknown = Undelivered { reason: "DatabaseError", removal: false, message };
                    for entry in self.entries.values_mut() {
                        entry.undelivered = vec![unknown.clone()];
                    }
                    let again = Some(now + self.defaults.cadence.error);
                    self.undelivered = Some(Pending { again, standing });
                }
            }
        }
        if let Some(again) = self.undelivered.as_ref().and_then(|pending| pending.again) {
            sooner(retry, again);
        }
    }

    fn standing(&self, configs: &Configs) -> Standing {
        let forsaking = self.entries.iter().filter(|(_, entry)| is_orphan(&entry.object));
        let forsaking = forsaking.map(|(key, _)| key.clone());
        Standing { live: configs.by_key.keys().cloned().collect(), forsaking: forsaking.collect() }
    }

    /// Works out where each configuration's interfaces are delivered to. One that names no place where that could be is wrong
    /// as one that cannot be read; what waits is told so too, and stays where it is.
    pub(super) fn place(
        &mut self,
        waiting: &BTreeSet<ConfigKey>,
        deleted: &BTreeMap<ConfigKey, Arc<DynamicObject>>,
    ) {
        let Deliverer { defaults, environment, placements, unplaced, memory, .. } = &mut self.deliverer;
        let before = placements.len();
        placements.retain(|key, _| self.entries.contains_key(key));
        let mut changed = before != placements.len();
        for (key, entry) in &mut self.entries {
            let Some(Ok(resolved)) = &entry.resolved else { continue };
            match defaults.place(key, resolved, environment) {
                Ok(_) if waiting.contains(key) => {}
                Ok(placement) => {
                    if !placements.get(key).is_some_and(|before| before.is_same(&placement)) {
                        placements.insert(key.clone(), placement);
                        changed = true;
                    }
                }
                Err(error) => {
                    let errors = ConfigErrors(vec![error]);
                    entry.resolved = Some(Err(Unresolved { errors, passing: false, trouble: false }));
                }
            }
        }
        for (key, entry) in &self.entries {
            // Its Secrets cannot be read; where its objects are does not depend on them.
            if !placements.contains_key(key)
                && !waiting.contains(key)
                && let Ok(spec) = spec_of(&entry.object)
                && let Some(placement) = defaults.place_without_secrets(key, &spec)
            {
                placements.insert(key.clone(), placement);
                changed = true;
            }
        }
        // One that is deleted is delivered to nowhere new: what the ledger says of it is all that there is.
        // One that waits and was not seen before stays where it was delivered last.
        let places = memory.places.as_ref();
        let stays = |key: &ConfigKey| {
            waiting.contains(key) && places.is_some_and(|places| !places.last_of(key).locations.is_empty())
        };
        let unknown =
            |key: &&ConfigKey| !placements.contains_key(*key) && !deleted.contains_key(*key) && !stays(key);
        *unplaced = self.entries.keys().filter(unknown).cloned().collect();
        if changed {
            self.undelivered = None;
        }
    }

    /// Writes what Contrabass says of message brokers, if it says something else, and whenever the cloud was read: the Secret may
    /// have gone, or be another one.
    pub(super) async fn write_brokers(
        &mut self,
        configs: &Configs,
        report: &Report,
        retry: &mut Option<Instant>,
    ) {
        for (key, config) in configs.by_key.iter().filter(|(key, _)| !configs.waiting.contains(*key)) {
            let (Ok(config), Some(entry)) = (config, self.entries.get_mut(key)) else { continue };
            let Some(broker) = self.controller.broker(&config.cloud) else { continue };
            let digest = rabbitmq::digest(&broker);
            let was_read = matches!(report.outcomes.get(key), Some(Outcome::Published { current: true, .. }));
            if entry.broker == Some(digest) && !was_read {
                continue;
            }
            match rabbitmq::write(&self.client, &entry.object, &broker).await {
                Ok(()) => entry.broker = Some(digest),
                Err(error) => {
                    entry.broker = None;
                    tracing::warn!(config = %key, error = %short(&error), "cannot write the Secret of the message broker");
                    sooner(retry, Instant::now() + self.defaults.cadence.error);
                }
            }
        }
    }
}
