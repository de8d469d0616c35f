//! Tells users what became of their configurations: statuses and events, each on change only.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream;
use jiff::Timestamp;
use kube::{Client, ResourceExt};
use multinic_api::{OpenstackConfigStatus, Readiness};
use multinic_core::ConfigKey;
use multinic_core::fleet::Reason;
use multinic_core::fleet::pace::DownPortRetry;

use super::conditions::{self, Findings};
use super::entry::Entry;
use super::events::Events;
use super::metrics::ClusterMetrics;
use super::reconciler::AT_ONCE;
use super::watch::configs as api;
use crate::pass::{Configs, Leftover, Report};
use crate::status::Outcome;
use multinic_core::brief::short;

/// Our field manager, and the name under which events are reported.
pub const MANAGER: &str = "multinic-controller";

/// Writes statuses and events.
#[derive(Debug)]
pub(super) struct Reporter {
    client: Held,
    /// Where events go.
    pub events: Events,
    metrics: ClusterMetrics,
}

/// A client has nothing to show of itself.
struct Held(Client);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Reporter {
    /// For a process of this name.
    pub fn new(client: Client, identity: &str, metrics: ClusterMetrics) -> Self {
        let events = Events::new(client.clone(), MANAGER, identity);
        Self { client: Held(client), events, metrics }
    }

    /// Tells what a pass came to. Returns whether everything could be told.
    pub async fn report(
        &self,
        entries: &mut BTreeMap<ConfigKey, Entry>,
        configs: &Configs,
        report: &Report,
        downs: &BTreeMap<ConfigKey, DownPortRetry>,
    ) -> bool {
        let now = Timestamp::now();
        let mut tasks = Vec::new();
        for (key, entry) in entries.iter_mut() {
            if configs.deleted.contains(key) || !configs.by_key.contains_key(key) {
                continue;
            }
            let wrong = configs.by_key.get(key).and_then(|config| config.as_ref().err());
            let status = if let Some(errors) = wrong.filter(|_| configs.waiting.contains(key)) {
                // That needs no time to come. What is carried out is that of before.
                let outcome = Outcome::Failed { reason: "ConfigError", message: errors.to_string() };
                let generation = entry.carried;
                let findings = Findings { generation, outcome: Some(&outcome), ..Findings::default() };
                conditions::after_pass(&entry.status, &findings, now)
            } else if entry.place_is_read {
                let message = "what is published at its place is being read; it stays as it is";
                conditions::waiting(&entry.status, "ReadingPlace", message, &entry.undelivered, now)
            } else if configs.waiting.contains(key) {
                let message =
                    "a change waits until a reconciliation is asked for, or the schedule's time comes";
                conditions::waiting(&entry.status, "WaitingForTrigger", message, &entry.undelivered, now)
            } else if report.under_way.contains(key) && entry.changed() {
                let message =
                    "the cloud is being read and has not answered yet; what was published stays as it is";
                conditions::waiting(&entry.status, "ReadingCloud", message, &entry.undelivered, now)
            } else {
                let outcome = report.outcomes.get(key);
                let carried = outcome.is_some();
                if carried {
                    entry.carried = entry.object.metadata.generation;
                    if let Some(at) = entry.request().cloned() {
                        entry.handled_at = Some(at);
                    }
                }
                if matches!(outcome, Some(Outcome::Published { current: true, .. })) {
                    entry.read_at = Some(now);
                }
                let is_held = matches!(outcome, Some(Outcome::Published { problems, .. })
                    if problems.iter().any(|problem| problem.reason == Reason::MassRemovalHeld));
                let findings = Findings {
                    generation: entry.carried,
                    outcome,
                    read_at: entry.read_at,
                    down: downs.get(key).cloned(),
                    undelivered: &entry.undelivered,
                    held: report.held.as_ref().filter(|_| is_held),
                    reconcile_at: entry.handled_at.as_deref(),
                };
                conditions::after_pass(&entry.status, &findings, now)
            };
            let outcome = report.outcomes.get(key);
            let changed = matches!(outcome, Some(Outcome::Published { changed: true, .. }));
            tasks.push(self.tell(entry, status, changed));
        }
        let told: Vec<bool> = stream::iter(tasks).buffer_unordered(AT_ONCE).collect().await;
        told.into_iter().all(|told| told)
    }

    /// Tells why a deleted configuration is still there. Returns whether that could be told.
    pub async fn report_deletion(
        &self,
        entry: &mut Entry,
        interfaces: usize,
        problem: Option<&str>,
        leftover: Option<&Leftover>,
    ) -> bool {
        let problems = leftover.map(|leftover| leftover.problems.as_slice()).unwrap_or_default();
        let reason = match (problem, problems.first(), entry.undelivered.first()) {
            (Some(problem), _, _) => problem.to_owned(),
            (None, Some(first), _) => {
                let more = problems.len() - 1;
                format!("{first}{}", if more == 0 { String::new() } else { format!(" (and {more} more)") })
            }
            (None, None, Some(undelivered)) => undelivered.message.clone(),
            (None, None, None) => "their removal is being published".to_owned(),
        };
        let message = format!(
            "{interfaces} interface(s) are still published: {reason}; the annotation {} lets the configuration go and leaves \
             them as they are",
            multinic_api::ORPHAN_ANNOTATION
        );
        let removal = entry.undelivered.iter().find(|one| one.removal).cloned();
        let generation = entry.object.metadata.generation;
        let status = conditions::deleting(
            &entry.status,
            generation,
            interfaces,
            &message,
            removal.as_ref(),
            Timestamp::now(),
        );
        self.tell(entry, status, false).await
    }

    async fn tell(&self, entry: &mut Entry, status: OpenstackConfigStatus, changed: bool) -> bool {
        if !conditions::worth_writing(&entry.status, &status) {
            return true;
        }
        let object = &entry.object;
        let api = api(self.client.0.clone(), object.namespace().as_deref());
        let written = conditions::write(&api, object, MANAGER, &status).await;
        self.metrics.status_written(written.is_ok());
        if let Err(error) = written {
            // The watch tells of an object that went.
            let gone = matches!(&error, kube::Error::Api(status) if status.code == 404);
            if !gone {
                tracing::warn!(
                    config = %super::watch::key(object), error = %short(&error), "cannot write a configuration's status"
                );
            }
            return gone;
        }
        let (before, after) = (Readiness::of(&entry.status.conditions), Readiness::of(&status.conditions));
        if let Some(after) = after {
            let turned = before.as_ref().is_none_or(|before| before.ready != after.ready);
            let other = before.as_ref().is_none_or(|before| before.reason != after.reason);
            let is_news = turned || (!after.ready && other) || (after.ready && changed);
            if is_news && !conditions::is_under_way(&after.reason) {
                self.events.on_config(object, !after.ready, &after.reason, &after.message).await;
            }
        }
        let inline = entry.resolved.as_ref().and_then(|resolved| resolved.as_ref().ok());
        let inline = inline.map(|resolved| resolved.inline_secrets.as_slice()).unwrap_or_default();
        if !inline.is_empty() && entry.status.observed_generation != status.observed_generation {
            let note = format!(
                "{} in clear: everybody who may read this object can read it; use spec.secrets instead",
                inline.join(", ")
            );
            self.events.on_config(object, true, "InlineSecret", &note).await;
        }
        entry.status = status;
        true
    }
}
