//! The turns of the operator: read what is wanted and what is there, carry out the difference, tell how it is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use multinic_core::brief::short;
use multinic_telemetry::shutdown::Shutdown;
use serde_json::json;
use tokio::sync::watch::Sender;

use crate::apply::{Applied, Change, carry_out, look, take_away};
use crate::backup::restoration::Restoration;
use crate::component::Phase;
use crate::events::Events;
use crate::found::Program;
use crate::kinds::Key;
use crate::manifests::{ManifestError, Manifests};
use crate::metrics::Metrics;
use crate::object::{Object, Owner};
use crate::observe::{ObserveError, Observed, observe};
use crate::parts::Parts;
use crate::plan::{left_over, plan};
use crate::protection::Wanted;
use crate::protection::change::Operation;
use crate::pulse::{Carried, Pulse};
use crate::record::Record;
use crate::settings::OperatorArgs;
use crate::status::{Certificate, Findings, Problem};
use crate::tell::{Way, is_begun, is_carried_out, protection_of, status_of};
use crate::tls;
use crate::watch::{follow, operators};
use crate::webhook::{Webhook, is_part};

/// Between two looks at what is as it should be, in case that a watch missed something.
const CALM: Duration = Duration::from_secs(300);
/// Between two looks at what is not ready: what its pods say comes by no watch of ours.
const BUSY: Duration = Duration::from_secs(10);
/// Between two turns that failed, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Reason: something could not be done.
pub(crate) const RECONCILE_ERROR: &str = "ReconcileError";
/// The finalizer of the first generation of operators. What it was for is done by owner references, so that nothing ever waits
/// for an operator that is not there any more.
const OLD_FINALIZER: &str = "multinic.example.com/operator-finalizer";

/// Why a turn failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The operators, or their namespace, cannot be read.
    #[error("cannot read {what}: {source}")]
    Read {
        /// What.
        what: String,
        /// Why.
        source: kube::Error,
    },
    /// What operators made cannot be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// A `MultiNicOperator` cannot be written to.
    #[error("cannot write {what} of the MultiNicOperator {name}: {source}")]
    Write {
        /// What of it.
        what: &'static str,
        /// Its name.
        name: String,
        /// Why.
        source: kube::Error,
    },
}

/// The operator of one namespace.
pub struct Operator {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) manifests: Manifests,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    pulse: Arc<Pulse>,
    pub(crate) webhook: Arc<Webhook>,
    /// Whether it has to be known where nodes are.
    pub(crate) needs_nodes: Sender<bool>,
    /// When the database's certificate was looked at last.
    pub(crate) looked: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// How objects are carried out.
struct How {
    /// Whether they are all that is wanted: then others go.
    is_known: bool,
    /// Whether what others changed is put back.
    recovers: bool,
}

/// What a turn came to.
struct Turn {
    phase: Option<Phase>,
    /// Whether something could not be done that is to be tried again.
    failed: bool,
    /// When to look again at the latest, if something is to be done then.
    again: Option<Duration>,
}

impl Operator {
    /// One that works once it [runs](Self::run).
    ///
    /// # Errors
    /// Where its own manifests cannot be read; never those that are there.
    pub fn new(client: Client, args: &OperatorArgs, metrics: Metrics) -> Result<Self, ManifestError> {
        Ok(Self {
            manifests: Manifests::of(&args.pod_namespace)?,
            events: Events::new(client.clone(), args.identity()),
            namespace: args.pod_namespace.clone(),
            pulse: Arc::default(),
            webhook: Arc::new(Webhook::new(client.clone(), args, metrics.clone())),
            metrics,
            client,
            needs_nodes: Sender::new(false),
            looked: Mutex::default(),
        })
    }

    /// What probes see of the loop.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// What API servers ask. It has to be bound and served for that.
    pub fn webhook(&self) -> Arc<Webhook> {
        Arc::clone(&self.webhook)
    }

    /// Works until a stop is requested; a turn at hand is finished.
    pub async fn run(self, mut shutdown: Shutdown) {
        let (notice, _watches) = follow(&self.client, &self.namespace, self.needs_nodes.subscribe());
        let _claims = self.webhook.claims().follow(&self.client, &self.namespace);
        let mut wait = RETRY.0;
        while !shutdown.is_requested() {
            let next = match self.turn().await {
                Ok(Turn { phase, failed: false, again }) => {
                    wait = RETRY.0;
                    self.pulse.passed(Carried(phase));
                    let calm = phase == Some(Phase::Running) || phase.is_none();
                    again.unwrap_or(CALM).min(if calm { CALM } else { BUSY })
                }
                outcome => {
                    match outcome {
                        Ok(turn) => self.pulse.passed(Carried(turn.phase)),
                        Err(error) => {
                            let error = short(&error);
                            tracing::warn!(error, "a turn failed; it is made again");
                            self.pulse.failed(&error);
                        }
                    }
                    let next = wait;
                    wait = (wait * 2).min(RETRY.1);
                    next
                }
            };
            tokio::select! {
                () = notice.notified() => {}
                () = self.webhook.tally().news() => {}
                () = tokio::time::sleep(next) => {}
                () = shutdown.requested() => {}
            }
        }
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let api = operators(self.client.clone(), &self.namespace);
        let read = |what: &str| {
            let what = what.to_owned();
            move |source| TurnError::Read { what, source }
        };
        let wished = api.list(&ListParams::default()).await.map_err(read("the MultiNicOperators"))?.items;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = namespaces.get(&self.namespace).await.map_err(read("the operator's namespace"))?;
        let mut observed = observe(&self.client, &self.namespace).await?;
        // Whatever its labels say, no operator made it.
        observed.objects.retain(|key, _| self.manifests.may_be_made(key));
        for object in &wished {
            self.let_go(&api, object).await?;
        }
        let mut staying: Vec<&DynamicObject> =
            wished.iter().filter(|object| object.metadata.deletion_timestamp.is_none()).collect();
        // Two would fight over the same objects.
        staying.sort_by_key(|object| {
            (object.metadata.creation_timestamp.clone().map(|time| time.0), object.name_any())
        });
        let mut turn = Turn { phase: None, failed: false, again: None };
        let mut first: Option<String> = None;
        for object in &staying {
            let name = object.name_any();
            let started = Instant::now();
            let findings = match &first {
                Some(first) => another(object, first),
                None => {
                    let owner = Owner {
                        name: name.clone(),
                        uid: object.uid().unwrap_or_default(),
                        namespace: self.namespace.clone(),
                        namespace_uid: namespace.uid().unwrap_or_default(),
                    };
                    self.pass(object, &owner, &observed, &mut turn.again).await
                }
            };
            let phase = self.tell(&api, object, &findings).await?;
            if first.is_none() {
                let is_done = findings.problem.is_none();
                self.metrics.passed(&name, is_done, started.elapsed());
                turn.phase = Some(phase);
                if findings.rotation.is_some() {
                    turn.again = Some(turn.again.map_or(BUSY, |again| again.min(BUSY)));
                }
                turn.failed = findings.problem.is_some_and(|problem| !problem.is_stalled);
                first = Some(name);
            }
        }
        if staying.is_empty() {
            self.webhook.want(Wanted::default());
            self.needs_nodes.send_replace(false);
            self.metrics.gone();
        }
        let names: BTreeSet<String> = staying.iter().map(|object| object.name_any()).collect();
        for removal in left_over(&self.namespace, &names, &observed) {
            match take_away(&self.client, &removal).await {
                Ok(true) => {
                    tracing::info!(object = %removal.key, "removed, since its MultiNicOperator is gone");
                    self.metrics.changed(Change::Removed);
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(object = %removal.key, error = short(&error), "cannot be removed");
                    turn.failed = true;
                }
            }
        }
        Ok(turn)
    }

    /// Takes the finalizer off that an older operator left, which nobody else would.
    async fn let_go(&self, api: &Api<DynamicObject>, object: &DynamicObject) -> Result<(), TurnError> {
        if !object.finalizers().iter().any(|finalizer| finalizer == OLD_FINALIZER) {
            return Ok(());
        }
        let rest: Vec<&String> =
            object.finalizers().iter().filter(|finalizer| *finalizer != OLD_FINALIZER).collect();
        let patch = json!({
            "metadata": { "finalizers": rest, "resourceVersion": object.resource_version() },
        });
        let name = object.name_any();
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(TurnError::Write { what: "the finalizers", name, source }),
        }
    }

    /// Carries one out.
    async fn pass(
        &self,
        object: &DynamicObject,
        owner: &Owner,
        observed: &Observed,
        again: &mut Option<Duration>,
    ) -> Findings {
        let claim = self.manifests.database.volume.name_any();
        let claim = observed.objects.iter().find(|(key, _)| key.is("PersistentVolumeClaim", &claim));
        // One that is being deleted only waits for its pod.
        let claim = claim.filter(|(_, metadata)| metadata.deletion_timestamp.is_none());
        let claim = claim.and_then(|(_, metadata)| metadata.uid.as_deref());
        let parts = Parts::of(&owner.namespace, &owner.name, object, claim);
        self.webhook.want(parts.protection.clone());
        let untold = self.webhook.tally().untold();
        let (wanted, rotation, problem) = match self.wanted(owner, &parts).await {
            Ok((wanted, rotation)) => (wanted, rotation, None),
            Err(problem) => (self.renewed(owner, &parts, observed).await, None, Some(problem)),
        };
        let prepared = self.webhook.prepare().await;
        let way = Way { wanted: &parts.protection, prepared: &prepared };
        let how = How { is_known: problem.is_none(), recovers: parts.recovers };
        let (applied, record) = self.carry_out(object, owner, wanted, observed, &way, how).await;
        if let Ok(Some(prepared)) = &prepared {
            *again = self.webhook.applied(prepared, &applied);
        }
        let protection = protection_of(&way, &applied);
        self.metrics.protected(&owner.name, protection.is_active);
        let controller = self.component(owner, &applied, Program::CONTROLLER).await;
        let database = match parts.has_database {
            true => Some(self.component(owner, &applied, Program::DATABASE).await),
            false => None,
        };
        let agent = match parts.has_agents {
            true => Some(self.component(owner, &applied, Program::AGENT).await),
            false => None,
        };
        let backup = match &parts.backup {
            Some(spec) => Some(self.backup(object, owner, spec, observed).await),
            None => None,
        };
        let restored = match parts.restore {
            Some(asked) if asked.is_done => Some(Restoration::earlier(asked.what)),
            Some(asked) => Some(self.restored(asked.what).await),
            None => None,
        };
        let has_certificate = parts.database.as_ref().is_some_and(tls::is_wanted);
        let certificate = match &database {
            Some(server) if has_certificate => self.certificate(server).await,
            _ => Certificate::None,
        };
        let names = |keys: &[Key]| keys.iter().map(ToString::to_string).collect();
        Findings {
            generation: object.metadata.generation,
            problem: problem.or_else(|| undone(&applied)),
            controller: Some(controller),
            database,
            agent,
            differing: names(&applied.differing),
            held: names(&applied.held),
            protection: Some(protection),
            untold,
            backup,
            restored,
            rotation,
            certificate,
            record,
        }
    }

    /// Carries out what is wanted, and what makes API servers ask: whoever is refused something is to be told why, and the
    /// certificate has to be renewed, whatever the rest of a spec says.
    async fn carry_out(
        &self,
        object: &DynamicObject,
        owner: &Owner,
        mut objects: Vec<Object>,
        observed: &Observed,
        way: &Way<'_>,
        how: How,
    ) -> (Applied, Record) {
        let How { is_known, recovers } = how;
        if let Ok(Some(prepared)) = way.prepared {
            objects.extend(prepared.objects(owner, &self.manifests.protection, way.wanted));
            objects.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let mut plan = plan(owner, objects, observed);
        let rules = way.wanted.rules.as_ref();
        let others_scale = rules.is_some_and(|rules| rules.allowed.contains(&Operation::Scale));
        plan.keeps_scale = is_carried_out(object) && others_scale;
        // What makes API servers ask stays as it is until it is known how it is to be.
        plan.remove.retain(|removal| if is_part(&removal.key) { way.prepared.is_ok() } else { is_known });
        let before = Record(status_of(object).carried_out);
        let wanted = Record::of(plan.apply.iter().chain(&plan.held));
        let applied = if recovers || !is_begun(object) {
            carry_out(&self.client, plan, observed).await
        } else {
            look(&self.client, plan, observed, &before).await
        };
        self.announce(object, &applied.changes).await;
        let record = match recovers {
            // Whoever turns it off changes the spec: all is carried out then.
            true => Record::default(),
            false => {
                let removed = applied.changes.iter().filter(|(_, change)| *change == Change::Removed);
                let removed = removed.map(|(key, _)| key.clone()).collect();
                before.after(&wanted, is_known, &applied.written, &removed)
            }
        };
        (applied, record)
    }
}

/// What could not be done.
fn undone(applied: &Applied) -> Option<Problem> {
    let all: Vec<String> = applied.failures.iter().map(|(key, why)| format!("{key}: {why}")).collect();
    (!all.is_empty()).then(|| Problem { reason: RECONCILE_ERROR, message: all.join("; "), is_stalled: false })
}

/// One that is not carried out because another is.
fn another(object: &DynamicObject, first: &str) -> Findings {
    let message = format!("the MultiNicOperator {first} is carried out: a namespace has one, the oldest");
    let problem = Problem { reason: "AnotherOperator", message, is_stalled: true };
    Findings { generation: object.metadata.generation, problem: Some(problem), ..Findings::default() }
}
