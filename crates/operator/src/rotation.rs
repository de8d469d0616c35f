//! What a rotation of the database's accounts waits for. Pure.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PodTemplateSpec, Secret};

use crate::component::{Component, Phase};
use crate::credentials::{AGENT_USERNAME, Progress, SECRET, SERVER_REVISION, Step, USER};
use crate::desired::DATABASE;

/// The workloads as they are, as far as they are there.
#[derive(Debug, Clone, Default)]
pub struct Workloads {
    /// The server.
    pub server: Option<StatefulSet>,
    /// The controller.
    pub controller: Option<Deployment>,
    /// The agents.
    pub agents: Option<DaemonSet>,
}

/// How far a Secret's rotation has come, if one is under way.
pub fn step(secret: &Secret) -> Option<Step> {
    let data = secret.data.as_ref()?;
    [Step::Preparing, Step::Moving]
        .into_iter()
        .find(|step| data.contains_key(&format!("{}{USER}", step.prefix())))
}

/// What the workloads show of it.
pub fn progress(secret: &Secret, workloads: &Workloads) -> Progress {
    let Workloads { server, controller, agents } = workloads;
    let text = |key: &str| {
        let bytes = &secret.data.as_ref()?.get(key)?.0;
        String::from_utf8(bytes.clone()).ok()
    };
    let revision = secret.metadata.annotations.as_ref().and_then(|all| all.get(SERVER_REVISION));
    let server = server.as_ref().is_some_and(|server| {
        let is_meant = revision.is_some() && started_with(server) == revision;
        is_meant && is_running(&Component::of_stateful_set(server))
    });
    // What does not use the database has nothing to move.
    let has_moved = |template: Option<&PodTemplateSpec>, component: Component, user: Option<String>| {
        key(template).is_none_or(|key| {
            user.is_some_and(|user| key == format!("password.{user}")) && is_running(&component)
        })
    };
    let programs = controller.as_ref().is_none_or(|controller| {
        let template = controller.spec.as_ref().map(|spec| &spec.template);
        has_moved(template, Component::of_deployment(controller), text(USER))
    }) && agents.as_ref().is_none_or(|agents| {
        let template = agents.spec.as_ref().map(|spec| &spec.template);
        has_moved(template, Component::of_daemon_set(agents), text(AGENT_USERNAME))
    });
    Progress { server, programs }
}

/// The revision of what the server does when a pod of it starts.
fn started_with(server: &StatefulSet) -> Option<&String> {
    let template = server.spec.as_ref()?.template.metadata.as_ref()?;
    template.annotations.as_ref()?.get(SERVER_REVISION)
}

/// The key of the Secret that a pod of the server mounts.
pub(crate) fn mounted(server: &StatefulSet) -> Option<String> {
    let volumes = server.spec.as_ref()?.template.spec.as_ref()?.volumes.as_ref()?;
    let mut sources = volumes.iter().filter_map(|volume| volume.secret.as_ref());
    let accounts = sources.find(|source| source.secret_name.as_deref() == Some(SECRET))?;
    Some(accounts.items.as_ref()?.first()?.key.clone())
}

/// Whether all of it is as it is wanted.
pub(crate) fn is_running(component: &Component) -> bool {
    component.phase == Phase::Running
}

/// The key of the Secret that pods of a template read their password from.
fn key(template: Option<&PodTemplateSpec>) -> Option<String> {
    let volumes = template?.spec.as_ref()?.volumes.as_ref()?;
    let volume = volumes.iter().find(|volume| volume.name == DATABASE)?;
    Some(volume.secret.as_ref()?.items.as_ref()?.first()?.key.clone())
}

/// What a rotation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// In a word.
    pub step: &'static str,
    /// For people.
    pub waits_for: &'static str,
}

/// Tells it.
pub fn told(step: Step, progress: Progress) -> Rotation {
    let told = |step, waits_for| Rotation { step, waits_for };
    match (step, progress.server) {
        (Step::Preparing, _) => {
            told("Preparing", "the database is started with the new accounts beside the old ones")
        }
        (Step::Moving, true) => told(
            "Moving",
            "controller and agents are started with the new accounts; the old ones live until all are, \
             or until credentials.endRotation says otherwise",
        ),
        (Step::Moving, false) => told("Moving", "the database is not ready"),
    }
}
