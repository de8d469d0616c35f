//! The turns of the operator: read what is wanted and what is there, carry out the difference, tell how it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use multinic_api::MultiNicOperatorSpec;
use multinic_api::operator::{BackupSpec, DatabaseSpec};
use multinic_telemetry::shutdown::Shutdown;
use rand::distr::{Alphanumeric, SampleString as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::apply::{Applied, Change, carry_out, look, take_away};
use crate::backup::fresh::{ends, freshness, newer};
use crate::backup::restoration::{Restoration, restoration};
use crate::check::check;
use crate::component::{Component, Phase, troubles};
use crate::credentials::{Credentials, Progress, SECRET, credentials};
use crate::desired::{AGENT, BACKUP, CONTROLLER, DATABASE, desired};
use crate::events::Events;
use crate::kinds::{Key, Kind};
use crate::manifests::{ManifestError, Manifests};
use crate::metrics::Metrics;
use crate::object::Owner;
use crate::observe::{ObserveError, Observed, observe};
use crate::plan::{left_over, plan};
use crate::protection::Wanted;
use crate::protection::change::Operation;
use crate::pulse::{Carried, Pulse};
use multinic_core::brief::short;

use crate::rotation::{self, Rotation, Workloads};
use crate::said::answer;
use crate::settings::OperatorArgs;
use crate::status::{Backup, Findings, Problem};
use crate::tell::{Way, is_carried_out, protection_of, status_of};
use crate::tls::{self, Keys};
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
/// Some 190 bits.
const PASSWORD_LENGTH: usize = 32;
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
    client: Client,
    namespace: String,
    manifests: Manifests,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    pulse: Arc<Pulse>,
    pub(crate) webhook: Arc<Webhook>,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// A component's workload.
#[derive(Debug, Clone, Copy)]
struct Program {
    kind: &'static str,
    /// The workload's, and that of its pods.
    name: &'static str,
    /// In metrics.
    label: &'static str,
}

impl Program {
    const CONTROLLER: Self = Self { kind: "Deployment", name: CONTROLLER, label: "controller" };
    const AGENT: Self = Self { kind: "DaemonSet", name: AGENT, label: "agent" };
    const DATABASE: Self = Self { kind: "StatefulSet", name: DATABASE, label: "database" };
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
        let (notice, _watches) = follow(&self.client, &self.namespace);
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
        let observed = observe(&self.client, &self.namespace).await?;
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
        let wanted = Wanted::of(&owner.namespace, &object.data);
        self.webhook.want(wanted.clone());
        let untold = self.webhook.tally().untold();
        // Also where the rest of the spec cannot be read.
        let has_agents = object.data.pointer("/spec/agent/image").is_some();
        let has_database = object.data.pointer("/spec/database/enabled") == Some(&Value::Bool(true));
        let generation = object.metadata.generation;
        let refused = |message: String| Problem { reason: "InvalidSpec", message, is_stalled: true };
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        let mut protection = None;
        let (applied, problem, rotation) = match serde_json::from_value::<MultiNicOperatorSpec>(spec) {
            Err(error) => (Applied::default(), Some(refused(format!("spec: {error}"))), None),
            Ok(spec) => match check(&owner.name, &spec).as_slice() {
                [] => {
                    let prepared = self.webhook.prepare().await;
                    let way = Way { wanted: &wanted, prepared: &prepared };
                    let done = self.carry_out(object, owner, &spec, observed, &way).await;
                    let (applied, ..) = &done;
                    if let Ok(Some(prepared)) = &prepared {
                        *again = self.webhook.applied(prepared, applied);
                    }
                    protection = Some(protection_of(&way, applied));
                    done
                }
                wrong => {
                    let all: Vec<String> = wrong.iter().map(ToString::to_string).collect();
                    (Applied::default(), Some(refused(all.join("; "))), None)
                }
            },
        };
        if let Some(protection) = &protection {
            self.metrics.protected(&owner.name, protection.is_active);
        }
        let controller = self.component(owner, &applied, Program::CONTROLLER).await;
        let database = match has_database {
            true => Some(self.component(owner, &applied, Program::DATABASE).await),
            false => None,
        };
        let agent = match has_agents {
            true => Some(self.component(owner, &applied, Program::AGENT).await),
            false => None,
        };
        let backup = self.backup(object, owner, observed).await;
        let restored = self.restored(object).await;
        let names = |keys: &[Key]| keys.iter().map(ToString::to_string).collect();
        Findings {
            generation,
            problem,
            controller: Some(controller),
            database,
            agent,
            differing: names(&applied.differing),
            held: names(&applied.held),
            protection,
            untold,
            backup,
            restored,
            rotation,
        }
    }

    /// How backups are, where the spec wants any.
    async fn backup(&self, object: &DynamicObject, owner: &Owner, observed: &Observed) -> Option<Backup> {
        // Also where the rest of the spec cannot be read.
        let spec = object.data.pointer("/spec/database/backup")?.clone();
        let spec: BackupSpec = serde_json::from_value(spec).ok()?;
        let ends = ends(&self.pods(BACKUP).await);
        let last = newer(status_of(object).last_backup, ends.made);
        let now = Timestamp::now();
        let since = Kind::find("batch", "CronJob").and_then(|kind| {
            let key = Key { kind, namespace: Some(owner.namespace.clone()), name: BACKUP.to_owned() };
            Some(observed.objects.get(&key)?.creation_timestamp.as_ref()?.0)
        });
        let freshness = freshness(&spec, last.as_ref(), ends.failed.as_ref(), since.unwrap_or(now), now);
        Some(Backup { last, freshness })
    }

    /// What came of a restoration, where the spec wants one.
    async fn restored(&self, object: &DynamicObject) -> Option<Restoration> {
        let from = object.data.pointer("/spec/database/restoreFrom")?.as_str()?.trim();
        if from.is_empty() {
            return None;
        }
        Some(restoration(from, &self.pods(DATABASE).await))
    }

    /// The accounts of the database: those that there are, and new ones for the rest. While they change, also what that
    /// waits for.
    async fn credentials(
        &self,
        spec: &DatabaseSpec,
    ) -> Result<Option<(Credentials, Option<Rotation>)>, String> {
        if !spec.enabled {
            return Ok(None);
        }
        let known = self.secret(SECRET).await?;
        let progress = match known.as_ref().filter(|known| rotation::step(known).is_some()) {
            Some(known) => {
                let workloads = self.workloads().await;
                let workloads =
                    workloads.map_err(|error| format!("the workloads cannot be read: {}", answer(&error)))?;
                rotation::progress(known, &workloads)
            }
            None => Progress::default(),
        };
        let fresh = || Alphanumeric.sample_string(&mut rand::rng(), PASSWORD_LENGTH);
        let credentials = credentials(spec, known.as_ref(), progress, fresh);
        let rotation = credentials.other.as_ref().map(|(step, _)| rotation::told(*step, progress));
        Ok(Some((credentials, rotation)))
    }

    /// The database's certificate and its authority: those that there are, as far as they are good.
    async fn keys(&self, spec: &DatabaseSpec) -> Result<Option<Keys>, String> {
        if !tls::is_wanted(spec) {
            return Ok(None);
        }
        let known = self.secret(tls::SECRET).await?;
        let keys = tls::keys(known.as_ref(), &tls::hosts(&self.namespace), Timestamp::now());
        keys.map(Some).map_err(|error| error.to_string())
    }

    async fn secret(&self, name: &str) -> Result<Option<Secret>, String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = secrets.get_opt(name).await;
        found.map_err(|error| format!("the Secret {name} cannot be read: {}", answer(&error)))
    }

    async fn workloads(&self) -> Result<Workloads, kube::Error> {
        let (client, namespace) = (&self.client, self.namespace.as_str());
        Ok(Workloads {
            server: Api::namespaced(client.clone(), namespace).get_opt(DATABASE).await?,
            controller: Api::namespaced(client.clone(), namespace).get_opt(CONTROLLER).await?,
            agents: Api::namespaced(client.clone(), namespace).get_opt(AGENT).await?,
        })
    }

    async fn carry_out(
        &self,
        object: &DynamicObject,
        owner: &Owner,
        spec: &MultiNicOperatorSpec,
        observed: &Observed,
        way: &Way<'_>,
    ) -> (Applied, Option<Problem>, Option<Rotation>) {
        let kept = async { Ok((self.credentials(&spec.database).await?, self.keys(&spec.database).await?)) };
        let (credentials, keys) = match kept.await {
            Ok(kept) => kept,
            Err(message) => {
                let problem = Problem { reason: RECONCILE_ERROR, message, is_stalled: false };
                return (Applied::default(), Some(problem), None);
            }
        };
        let (credentials, rotation) = credentials.unzip();
        let mut objects = desired(owner, spec, &self.manifests, credentials.as_ref(), keys.as_ref());
        if let Ok(Some(prepared)) = way.prepared {
            objects.extend(prepared.objects(owner, &self.manifests.protection, way.wanted));
            objects.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let mut plan = plan(owner, objects, observed);
        let rules = way.wanted.rules.as_ref();
        let others_scale = rules.is_some_and(|rules| rules.allowed.contains(&Operation::Scale));
        plan.keeps_scale = is_carried_out(object) && others_scale;
        if way.prepared.is_err() {
            // They are wanted, and stay as they are until it is known how.
            plan.remove.retain(|removal| !is_part(&removal.key));
        }
        let recovers =
            spec.protection.as_ref().and_then(|protection| protection.enable_auto_recovery) != Some(false);
        let applied = if recovers || !is_carried_out(object) {
            carry_out(&self.client, plan, observed).await
        } else {
            look(&self.client, plan, observed).await
        };
        self.announce(object, &applied.changes).await;
        let problem = (!applied.failures.is_empty()).then(|| {
            let all: Vec<String> =
                applied.failures.iter().map(|(key, why)| format!("{key}: {why}")).collect();
            Problem { reason: RECONCILE_ERROR, message: all.join("; "), is_stalled: false }
        });
        (applied, problem, rotation.flatten())
    }

    /// A component as it is now.
    async fn component(&self, owner: &Owner, applied: &Applied, program: Program) -> Component {
        let Program { kind, name, label } = program;
        let Some(kind) = Kind::find("apps", kind) else { return Component::absent(name) };
        let key = Key { kind, namespace: Some(owner.namespace.clone()), name: name.to_owned() };
        let live = match applied.live.get(&key) {
            Some(live) => Some(live.clone()),
            // It was not applied, and may be there nevertheless.
            None => key.api(self.client.clone()).get_opt(name).await.ok().flatten(),
        };
        let found = live.and_then(|live| match kind.name {
            "DaemonSet" => Some(Component::of_daemon_set(&typed::<DaemonSet>(live)?)),
            "StatefulSet" => Some(Component::of_stateful_set(&typed::<StatefulSet>(live)?)),
            _ => Some(Component::of_deployment(&typed::<Deployment>(live)?)),
        });
        let component = match found {
            Some(component) if component.phase == Phase::Running => component,
            Some(component) => component.with_troubles(&troubles(&self.pods(name).await)),
            None => Component::absent(name),
        };
        let component = match applied.failures.iter().find(|(failed, _)| *failed == key) {
            Some((_, why)) => Component::failed(Some(component), why.clone()),
            None => component,
        };
        self.metrics.component(label, &owner.namespace, &owner.name, &component);
        component
    }

    /// The pods of a program. What they say is told; that they cannot be read is not worth a failure.
    async fn pods(&self, program: &str) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let label = format!("app.kubernetes.io/name={program}");
        match pods.list(&ListParams::default().labels(&label)).await {
            Ok(list) => list.items,
            Err(error) => {
                tracing::debug!(program, error = %short(&error), "its pods cannot be read");
                Vec::new()
            }
        }
    }
}

/// One that is not carried out because another is.
fn another(object: &DynamicObject, first: &str) -> Findings {
    let message = format!("the MultiNicOperator {first} is carried out: a namespace has one, the oldest");
    let problem = Problem { reason: "AnotherOperator", message, is_stalled: true };
    Findings { generation: object.metadata.generation, problem: Some(problem), ..Findings::default() }
}

fn typed<T: DeserializeOwned>(object: DynamicObject) -> Option<T> {
    serde_json::from_value(serde_json::to_value(object).ok()?).ok()
}
