//! How a component is: read from its workload and, where that is not ready, from its pods.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, DeploymentCondition, StatefulSet};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// `status.phase` and that of components.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// All is as it should be.
    Running,
    /// It is being worked on.
    Pending,
    /// Somebody has to look at it.
    Error,
}

impl Phase {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Pending => "Pending",
            Self::Error => "Error",
        }
    }
}

/// A component as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// In one word.
    pub phase: Phase,
    /// How many pods are ready.
    pub ready: i32,
    /// How many there should be.
    pub desired: i32,
    /// The condition's reason.
    pub reason: &'static str,
    /// The condition's message.
    pub message: String,
}

/// Waiting for these mends nothing by itself, or not soon.
const TROUBLES: [&str; 8] = [
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

impl Component {
    /// One that is not there.
    pub fn absent(name: &str) -> Self {
        let message = format!("{name} is not there");
        Self { phase: Phase::Pending, ready: 0, desired: 0, reason: "NotFound", message }
    }

    /// One whose workload cannot be carried out.
    pub fn failed(before: Option<Self>, message: String) -> Self {
        let (ready, desired) = before.map_or((0, 0), |before| (before.ready, before.desired));
        Self { phase: Phase::Error, ready, desired, reason: "ReconcileError", message }
    }

    /// A Deployment's.
    pub fn of_deployment(deployment: &Deployment) -> Self {
        let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.clone().unwrap_or_default();
        let counts = Counts {
            is_seen: status.observed_generation >= deployment.metadata.generation,
            desired,
            ready: status.ready_replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            all: status.replicas.unwrap_or(0),
        };
        let stuck = status.conditions.iter().flatten().find(|condition| is_stuck(condition));
        match (counts.component(), stuck) {
            (component, None) => component,
            (component, Some(condition)) => Self {
                phase: Phase::Error,
                reason: "Stuck",
                message: condition.message.clone().unwrap_or_default(),
                ..component
            },
        }
    }

    /// A StatefulSet's.
    pub fn of_stateful_set(stateful_set: &StatefulSet) -> Self {
        let status = stateful_set.status.clone().unwrap_or_default();
        let counts = Counts {
            is_seen: status.observed_generation >= stateful_set.metadata.generation,
            desired: stateful_set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            ready: status.ready_replicas.unwrap_or(0),
            // It counts those of the current template only while another is being rolled out.
            updated: match status.current_revision == status.update_revision {
                true => status.replicas,
                false => status.updated_replicas.unwrap_or(0),
            },
            all: status.replicas,
        };
        counts.component()
    }

    /// A DaemonSet's: one pod for each node on which it belongs.
    pub fn of_daemon_set(daemon_set: &DaemonSet) -> Self {
        let status = daemon_set.status.clone().unwrap_or_default();
        let counts = Counts {
            is_seen: status.observed_generation >= daemon_set.metadata.generation,
            desired: status.desired_number_scheduled,
            ready: status.number_ready,
            updated: status.updated_number_scheduled.unwrap_or(0),
            all: status.current_number_scheduled,
        };
        counts.component()
    }

    /// The same with what its pods say, if it is not ready.
    #[must_use]
    pub fn with_troubles(self, troubles: &[Trouble]) -> Self {
        let Some(first) = troubles.first().filter(|_| self.phase != Phase::Running) else { return self };
        let all: Vec<&str> = troubles.iter().map(|trouble| trouble.message.as_str()).collect();
        Self {
            phase: if first.is_error { Phase::Error } else { self.phase },
            reason: if first.is_error { "Failing" } else { self.reason },
            message: format!("{}: {}", self.message, all.join("; ")),
            ..self
        }
    }
}

/// What a workload counts.
struct Counts {
    /// Whether these counts are of the workload as it is now.
    is_seen: bool,
    desired: i32,
    ready: i32,
    updated: i32,
    all: i32,
}

impl Counts {
    fn component(&self) -> Component {
        let Self { is_seen, desired, ready, updated, all } = *self;
        let (phase, reason) = match () {
            () if is_seen && ready == desired && updated == desired && all == desired => {
                (Phase::Running, "Ready")
            }
            () if ready == 0 => (Phase::Pending, "NotReady"),
            () if ready < desired => (Phase::Pending, "PartiallyReady"),
            () => (Phase::Pending, "RollingOut"),
        };
        let mut message = format!("{ready} of {desired} ready");
        if reason == "RollingOut" {
            message = format!("{message}, {updated} of them up to date");
        }
        Component { phase, ready, desired, reason, message }
    }
}

/// A rollout that does not get on (`ProgressDeadlineExceeded`), or pods that are refused.
fn is_stuck(condition: &DeploymentCondition) -> bool {
    match condition.type_.as_str() {
        "Progressing" => condition.status == "False",
        "ReplicaFailure" => condition.status == "True",
        _ => false,
    }
}

/// Why a pod is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Whether it does not pass by itself, or not soon.
    pub is_error: bool,
    /// Which pod, and why.
    pub message: String,
}

/// More than these tell nobody more.
const MOST: usize = 5;

/// What pods say, the worst first. `starting` is what a program does that runs and has not passed its startup probe.
pub fn troubles(pods: &[Pod], starting: &str) -> Vec<Trouble> {
    let mut troubles: Vec<Trouble> = pods.iter().flat_map(|pod| of_pod(pod, starting)).collect();
    troubles.sort_by_key(|trouble| !trouble.is_error);
    troubles.truncate(MOST);
    troubles
}

fn of_pod(pod: &Pod, starting: &str) -> Vec<Trouble> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(status) = &pod.status else { return Vec::new() };
    let unplaced = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let unplaced = unplaced.map(|condition| Trouble {
        is_error: false,
        message: format!(
            "pod {name} has no node: {}",
            condition.message.as_deref().or(condition.reason.as_deref()).unwrap_or_default()
        ),
    });
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    unplaced
        .into_iter()
        .chain(containers.filter_map(|container| of_container(name, container, starting)))
        .collect()
}

fn of_container(pod: &str, container: &ContainerStatus, starting: &str) -> Option<Trouble> {
    let state = container.state.as_ref()?;
    if let (Some(running), Some(false)) = (&state.running, container.started) {
        let since = running.started_at.as_ref().map(|time| format!(" since {}", time.0)).unwrap_or_default();
        let message = format!("pod {pod}, container {}: running{since}, {starting}", container.name);
        return Some(Trouble { is_error: false, message });
    }
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    if !TROUBLES.contains(&reason) {
        return None;
    }
    let mut message = format!("pod {pod}, container {}: {reason}", container.name);
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    match (last, &waiting.message) {
        (Some(last), _) => {
            message =
                format!("{message}, {} restarts, last exit code {}", container.restart_count, last.exit_code);
        }
        (None, Some(said)) => message = format!("{message}: {said}"),
        (None, None) => {}
    }
    Some(Trouble { is_error: true, message })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_program_that_runs_and_is_not_up_says_what_it_is_at() {
        let pod = |started: bool| -> Pod {
            let status = json!({"name": "mariadb", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "started": started, "state": {"running": {"startedAt": "2026-11-22T04:00:00Z"}}});
            let pod = json!({"metadata": {"name": "mariadb-0"}, "status": {"containerStatuses": [status]}});
            serde_json::from_value(pod).unwrap()
        };
        let said = troubles(&[pod(false)], "init.sql is not done");
        let message =
            "pod mariadb-0, container mariadb: running since 2026-11-22T04:00:00Z, init.sql is not done";
        assert_eq!(said, [Trouble { is_error: false, message: message.to_owned() }]);
        assert_eq!(troubles(&[pod(true)], ""), []);
    }
}
