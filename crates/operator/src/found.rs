//! What a turn finds of programs, backups, restorations and certificates, for the status to tell.

use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use multinic_api::operator::{BackupSpec, RestoreAsked};
use multinic_core::brief::short;
use serde::de::DeserializeOwned;

use crate::apply::Applied;
use crate::backup::fresh::{ends, freshness, newest};
use crate::backup::place::Place;
use crate::backup::restoration::{Restoration, restoration};
use crate::certificates::{AUTHORITY, text};
use crate::component::{Component, Phase, troubles};
use crate::desired::{AGENT, BACKUP, CONTROLLER, DATABASE, DATABASE_PORT};
use crate::kinds::{Key, Kind};
use crate::object::Owner;
use crate::observe::Observed;
use crate::reconciler::Operator;
use crate::shown::shown;
use crate::status::{Backup, Certificate};
use crate::tell::status_of;
use crate::tls;

/// Between two looks at the certificate that the database shows.
const LOOK: Duration = Duration::from_secs(60);

/// A component's workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    kind: &'static str,
    /// The workload's, and that of its pods.
    name: &'static str,
    /// In metrics.
    label: &'static str,
    /// What it is at as long as it runs and its startup probe has not passed.
    starting: &'static str,
}

impl Program {
    pub const CONTROLLER: Self =
        Self { kind: "Deployment", name: CONTROLLER, label: "controller", starting: "not up yet" };
    pub const AGENT: Self = Self { kind: "DaemonSet", name: AGENT, label: "agent", starting: "not up yet" };
    pub const DATABASE: Self = Self {
        kind: "StatefulSet",
        name: DATABASE,
        label: "database",
        starting: "and its accounts are not all there yet: if that lasts, its log says at which statement of init.sql it stopped",
    };
}

impl Operator {
    /// A component as it is now.
    pub(crate) async fn component(&self, owner: &Owner, applied: &Applied, program: Program) -> Component {
        let Program { kind, name, label, starting } = program;
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
            Some(component) => component.with_troubles(&troubles(&self.pods(name).await, starting)),
            None => Component::absent(name),
        };
        let component = match applied.failures.iter().find(|(failed, _)| *failed == key) {
            Some((_, why)) => Component::failed(Some(component), why.clone()),
            None => component,
        };
        self.metrics.component(label, &owner.namespace, &owner.name, &component);
        component
    }

    /// How backups are.
    pub(crate) async fn backup(
        &self,
        object: &DynamicObject,
        owner: &Owner,
        spec: &BackupSpec,
        observed: &Observed,
    ) -> Backup {
        let place = Place::of(spec);
        let ends = ends(&self.pods(BACKUP).await, &place);
        let last = newest(status_of(object).last_backup, ends.made, &place);
        let now = Timestamp::now();
        let since = Kind::find("batch", "CronJob").and_then(|kind| {
            let key = Key { kind, namespace: Some(owner.namespace.clone()), name: BACKUP.to_owned() };
            Some(observed.objects.get(&key)?.creation_timestamp.as_ref()?.0)
        });
        let freshness = freshness(spec, last.as_ref(), ends.failed.as_ref(), since.unwrap_or(now), now);
        Backup { last, freshness }
    }

    /// What came of a restoration.
    pub(crate) async fn restored(&self, asked: RestoreAsked) -> Restoration {
        restoration(asked, &self.pods(DATABASE).await)
    }

    /// The certificate that the database shows, as one of its clients sees it.
    pub(crate) async fn certificate(&self, server: &Component) -> Certificate {
        if server.phase != Phase::Running || !self.is_time_to_look() {
            return Certificate::Unseen;
        }
        let pods = self.pods(DATABASE).await;
        let address =
            pods.iter().find_map(|pod| pod.status.as_ref()?.pod_ip.as_ref()?.parse::<IpAddr>().ok());
        let secret = self.secret(tls::SECRET).await.ok().flatten();
        let authorities = secret.and_then(|secret| text(&secret, AUTHORITY));
        let (Some(address), Some(authorities)) = (address, authorities) else { return Certificate::Unseen };
        let address = SocketAddr::new(address, DATABASE_PORT);
        shown(address, &authorities, Timestamp::now()).await.map_or(Certificate::Unseen, Certificate::Seen)
    }

    /// Whether the last look is some time ago; this is the next one then.
    fn is_time_to_look(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        if is_time {
            *looked = Some(Instant::now());
        }
        is_time
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

fn typed<T: DeserializeOwned>(object: DynamicObject) -> Option<T> {
    serde_json::from_value(serde_json::to_value(object).ok()?).ok()
}
