//! Single writes to the API server: apply, delete, let go, each tried again where that can help.

use std::fmt;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder, Retryable as _};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Resource as _};
use multinic_api::{CLEANUP_FINALIZER, MultiNicNodeConfig};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::object::same_spec;
use super::takeover::{is_applied_by, is_shared, taken_over};
use crate::sinks::said::{causes, line};
use crate::sinks::{INTERFACE_OWNERS_ANNOTATION, SinkError};

/// Time limit of one attempt. The client itself asks again after 429, 503 and 504, when the server says so, for minutes.
const ATTEMPT: Duration = Duration::from_secs(10);
/// No attempt begins after this: whoever delivers has other nodes and will be back.
const TOTAL: Duration = Duration::from_secs(15);
/// How often a write is tried again.
const RETRIES: usize = 5;
/// The longest wait that a server is granted between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Writes to one namespace of one cluster, as one field manager.
#[derive(Clone)]
pub(crate) struct Writer {
    api: Api<MultiNicNodeConfig>,
    manager: String,
}

/// What a removal came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// There was nothing.
    Absent,
    /// The object is gone.
    Gone,
    /// The object is marked, and the node's agent cleans up.
    Releasing,
}

/// A failed attempt, with what the server asks us to wait.
struct Failure {
    error: SinkError,
    wait: Option<Duration>,
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Self { error, wait: None }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("manager", &self.manager).finish_non_exhaustive()
    }
}

impl Writer {
    pub fn new(api: Api<MultiNicNodeConfig>, manager: &str) -> Self {
        Self { api, manager: manager.to_owned() }
    }

    /// Whether an object is this manager's.
    pub fn wrote(&self, object: &MultiNicNodeConfig) -> bool {
        is_ours(object.meta(), &self.manager)
    }

    /// The object, if there is one.
    pub async fn get(&self, name: &str) -> Result<Option<MultiNicNodeConfig>, SinkError> {
        self.persist("read", name, || async {
            self.api.get_opt(name).await.map_err(|error| failure("read", name, &error))
        })
        .await
    }

    /// Makes the object as wanted and returns it as it is then. `look` asks who holds `spec.interfaces` before the first
    /// attempt and not only after one that failed.
    pub async fn apply(
        &self,
        wanted: &MultiNicNodeConfig,
        look: bool,
    ) -> Result<MultiNicNodeConfig, SinkError> {
        let name = wanted.metadata.name.clone().unwrap_or_default();
        let mut look = look;
        let started = Instant::now();
        let mut waits = waits().build();
        loop {
            match self.within("apply", &name, self.apply_once(wanted, &name, look)).await {
                Ok(object) => return Ok(object),
                Err(Failure { error, wait }) => {
                    // Entries of others can contradict ours: two MAC addresses that differ in case.
                    let hidden = !look && matches!(error, SinkError::Kubernetes { status: Some(422), .. });
                    look = true;
                    let again = hidden || (error.retry() && started.elapsed() < TOTAL);
                    let Some(next) = waits.next().filter(|_| again) else { return Err(error) };
                    let wait = wait.unwrap_or(next).min(LONGEST_WAIT);
                    tracing::debug!(object = name, %error, ?wait, "applying again");
                    tokio::time::sleep(if hidden { Duration::ZERO } else { wait }).await;
                }
            }
        }
    }

    async fn apply_once(
        &self,
        wanted: &MultiNicNodeConfig,
        name: &str,
        look: bool,
    ) -> Result<MultiNicNodeConfig, Failure> {
        if look && let Some(there) = self.api.get_opt(name).await.map_err(|e| failure("read", name, &e))? {
            self.take_over(&there, name).await?;
        }
        let applied = self.patch(wanted, name).await?;
        if same_spec(&applied.spec, &wanted.spec) {
            return Ok(applied);
        }
        if !is_shared(applied.meta().managed_fields.as_deref().unwrap_or_default(), &self.manager) {
            return Err(SinkError::NotKept { object: name.to_owned() }.into());
        }
        self.take_over(&applied, name).await?;
        let applied = self.patch(wanted, name).await?;
        if same_spec(&applied.spec, &wanted.spec) {
            return Ok(applied);
        }
        let problem = "somebody else edits it at the same time".to_owned();
        let object = name.to_owned();
        Err(SinkError::Kubernetes { action: "apply", object, problem, status: Some(409) }.into())
    }

    async fn patch(&self, wanted: &MultiNicNodeConfig, name: &str) -> Result<MultiNicNodeConfig, Failure> {
        let parameters = PatchParams::apply(&self.manager).force();
        let applied = self.api.patch(name, &parameters, &Patch::Apply(wanted)).await;
        applied.map_err(|error| failure("apply", name, &error))
    }

    /// Makes `spec.interfaces` ours alone, if it is not. Fails with 409 if the object changed in the meantime.
    async fn take_over(&self, there: &MultiNicNodeConfig, name: &str) -> Result<(), Failure> {
        let fields = there.meta().managed_fields.as_deref().unwrap_or_default();
        if !is_shared(fields, &self.manager) {
            return Ok(());
        }
        let version = MultiNicNodeConfig::api_version(&());
        let fields = taken_over(fields, &self.manager, &version, &there.spec.interfaces);
        // A patch that names the resource version is refused if it is no longer that one.
        let patch = json!([
            {"op": "replace", "path": "/metadata/managedFields", "value": fields},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": there.meta().resource_version},
        ]);
        self.json_patch("take over", name, patch).await
    }

    async fn json_patch(
        &self,
        action: &'static str,
        name: &str,
        patch: serde_json::Value,
    ) -> Result<(), Failure> {
        let patch = serde_json::from_value(patch).map_err(|error| SinkError::Kubernetes {
            action,
            object: name.to_owned(),
            problem: error.to_string(),
            status: Some(400),
        })?;
        let parameters = PatchParams { field_manager: Some(self.manager.clone()), ..PatchParams::default() };
        let patched = self.api.patch(name, &parameters, &Patch::Json::<()>(patch)).await;
        patched.map(drop).map_err(|error| failure(action, name, &error))
    }

    /// Deletes the object if `ours` says that it may go; never one that changed since it was looked at.
    pub async fn delete(
        &self,
        name: &str,
        ours: impl Fn(&MultiNicNodeConfig) -> bool,
    ) -> Result<Removal, SinkError> {
        self.persist("delete", name, || async {
            let there = self.api.get_opt(name).await.map_err(|error| failure("read", name, &error))?;
            let Some(there) = there else { return Ok(Removal::Absent) };
            if !ours(&there) {
                let (object, manager) = (name.to_owned(), self.manager.clone());
                return Err(SinkError::Foreign { object, manager }.into());
            }
            if there.meta().deletion_timestamp.is_some() {
                return Ok(Removal::Releasing);
            }
            let meta = there.meta();
            let (uid, resource_version) = (meta.uid.clone(), meta.resource_version.clone());
            let parameters = DeleteParams::default().preconditions(Preconditions { resource_version, uid });
            match self.api.delete(name, &parameters).await {
                // An object in the answer is one that is still there, for the sake of its finalizers.
                Ok(answer) => match answer.left().and_then(|object| object.metadata.finalizers) {
                    Some(finalizers) if !finalizers.is_empty() => Ok(Removal::Releasing),
                    Some(_) | None => Ok(Removal::Gone),
                },
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Removal::Gone),
                Err(error) => Err(failure("delete", name, &error)),
            }
        })
        .await
    }

    /// Takes the agent's finalizer from an object that is being deleted and that `may` says so of. Returns whether it
    /// was there.
    pub async fn drop_finalizer(
        &self,
        name: &str,
        may: impl Fn(&MultiNicNodeConfig) -> bool,
    ) -> Result<bool, SinkError> {
        let action = "drop the finalizer of";
        self.persist(action, name, || async {
            let there = self.api.get_opt(name).await.map_err(|error| failure("read", name, &error))?;
            let Some(there) = there else { return Ok(false) };
            let meta = there.meta();
            let mut finalizers = meta.finalizers.clone().unwrap_or_default();
            let held = finalizers.len();
            finalizers.retain(|finalizer| finalizer != CLEANUP_FINALIZER);
            if meta.deletion_timestamp.is_none() || finalizers.len() == held || !may(&there) {
                return Ok(false);
            }
            let patch = json!([
                {"op": "replace", "path": "/metadata/finalizers", "value": finalizers},
                {"op": "replace", "path": "/metadata/resourceVersion", "value": meta.resource_version},
            ]);
            self.json_patch(action, name, patch).await?;
            Ok(true)
        })
        .await
    }

    async fn within<T>(
        &self,
        action: &'static str,
        name: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        timeout(ATTEMPT, work).await.unwrap_or_else(|_| {
            let problem =
                format!("no success within {} s: no answer, or none but 429, 503, 504", ATTEMPT.as_secs());
            Err(SinkError::Kubernetes { action, object: name.to_owned(), problem, status: None }.into())
        })
    }

    /// Tries until it works, cannot work, or was tried often enough.
    async fn persist<T, F, Work>(&self, action: &'static str, name: &str, work: F) -> Result<T, SinkError>
    where
        F: Fn() -> Work,
        Work: Future<Output = Result<T, Failure>>,
    {
        let started = Instant::now();
        (|| self.within(action, name, work()))
            .retry(waits())
            .when(|failure| failure.error.retry() && started.elapsed() < TOTAL)
            // None ends the attempts, whatever the server asks for.
            .adjust(|failure, wait| wait.map(|wait| failure.wait.unwrap_or(wait).min(LONGEST_WAIT)))
            .await
            .map_err(|failure| failure.error)
    }
}

fn waits() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(RETRIES)
        .with_jitter()
}

/// Whether an object with these metadata was written by the manager. The annotation proves it too: restores from
/// back-ups lose the record of managers.
pub(crate) fn is_ours(meta: &kube::api::ObjectMeta, manager: &str) -> bool {
    is_applied_by(meta.managed_fields.as_deref().unwrap_or_default(), manager)
        || meta.annotations.as_ref().is_some_and(|all| all.contains_key(INTERFACE_OWNERS_ANNOTATION))
}

fn failure(action: &'static str, name: &str, error: &kube::Error) -> Failure {
    let object = name.to_owned();
    let (problem, status, wait) = match error {
        kube::Error::Api(answer) => {
            let asked = answer.details.as_ref().map(|details| details.retry_after_seconds);
            let wait =
                asked.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()));
            (line(&answer.message), Some(answer.code), wait)
        }
        other => (causes(other), None, None),
    };
    Failure { error: SinkError::Kubernetes { action, object, problem, status }, wait }
}
