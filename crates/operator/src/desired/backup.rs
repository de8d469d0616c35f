//! Backups of the database: what makes them by the clock, and what fills an empty server from one before it starts.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{
    Container, EnvVar, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodSpec, VolumeMount,
};
use multinic_api::operator::BackupSpec;

use super::container::named;
use super::database::{Connection, sized};
use super::given;

/// The name of the CronJob and the label of its pods.
pub const BACKUP: &str = "multinic-backup";
/// The container that makes a backup.
const CONTAINER: &str = "backup";
/// The container that copies our program to where MariaDB's programs are.
const PROGRAM: &str = "program";
/// The container that fills the server.
pub(crate) const RESTORE: &str = "restore";
/// The volume with the backups.
const BACKUPS: &str = "backups";
/// The claim that the operator makes for them.
const CLAIM: &str = "multinic-backups";
/// How many backups are kept where nothing is said.
const KEPT: i32 = 14;

/// The claim that backups are on.
pub(crate) fn claim(spec: &BackupSpec) -> &str {
    given(spec.claim_name.as_ref()).unwrap_or(CLAIM)
}

/// What the objects are made of.
pub(super) struct Parts<'a> {
    pub(super) spec: &'a BackupSpec,
    /// The database's image.
    pub(super) image: &'a str,
    /// The image of our program.
    pub(super) program: &'a str,
    pub(super) manifest: &'a CronJob,
}

impl Parts<'_> {
    /// The claim, unless the spec names one.
    pub(super) fn volume(&self, manifest: &PersistentVolumeClaim) -> Option<PersistentVolumeClaim> {
        let is_ours = given(self.spec.claim_name.as_ref()).is_none();
        is_ours.then(|| sized(manifest.clone(), self.spec.storage_size.as_ref()))
    }

    /// The CronJob.
    pub(super) fn job(&self, connection: &Connection) -> CronJob {
        let BackupSpec { schedule, timezone, retention, claim_name: _, storage_size: _ } = self.spec;
        let mut job = self.manifest.clone();
        let Some(wanted) = &mut job.spec else { return job };
        schedule.trim().clone_into(&mut wanted.schedule);
        if let Some(timezone) = given(timezone.as_ref()) {
            wanted.time_zone = Some(timezone.to_owned());
        }
        let template = wanted.job_template.spec.as_mut().and_then(|job| job.template.spec.as_mut());
        let Some(pod) = template else { return job };
        self.fill_in(pod);
        connection.mount(pod, CONTAINER);
        let Some(container) = named(pod, CONTAINER) else { return job };
        let count = retention.as_ref().and_then(|retention| retention.count).unwrap_or(KEPT);
        let arguments = container.args.get_or_insert_default();
        arguments.push(format!("--keep-count={count}"));
        if let Some(age) = retention.as_ref().and_then(|retention| given(retention.max_age.as_ref())) {
            arguments.push(format!("--keep-age={age}"));
        }
        container.env.get_or_insert_default().extend(connection.settings.iter().map(|(name, value)| {
            EnvVar { name: (*name).to_owned(), value: Some(value.clone()), ..EnvVar::default() }
        }));
        job
    }

    /// Lets a server be filled before it starts.
    pub(super) fn restore(&self, server: &mut StatefulSet, from: &str, database: &str) {
        let pod = server.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
        let template = self.manifest.spec.as_ref().and_then(|spec| spec.job_template.spec.as_ref());
        let (Some(pod), Some(mut job)) = (pod, template.and_then(|job| job.template.spec.clone())) else {
            return;
        };
        self.fill_in(&mut job);
        let PodSpec { init_containers, containers, volumes, .. } = job;
        let container = containers.into_iter().find(|container| container.name == CONTAINER);
        let Some(container) = container else { return };
        let mut mounts = container.volume_mounts.unwrap_or_default();
        mounts
            .iter_mut()
            .filter(|mount| mount.name == BACKUPS)
            .for_each(|mount| mount.read_only = Some(true));
        mounts.push(VolumeMount {
            name: "data".to_owned(),
            mount_path: "/var/lib/mysql".to_owned(),
            ..VolumeMount::default()
        });
        let words = ["/program/multinic", "backup", "restore"];
        let mut arguments = container.args.unwrap_or_default();
        arguments.push(format!("--from={from}"));
        arguments.push(format!("--database={database}"));
        arguments.push("--data=/var/lib/mysql".to_owned());
        let restore = Container {
            name: RESTORE.to_owned(),
            command: Some(words.map(str::to_owned).to_vec()),
            args: Some(arguments),
            volume_mounts: Some(mounts),
            ..container
        };
        let program = init_containers.into_iter().flatten().filter(|container| container.name == PROGRAM);
        // After the one that makes the system tables.
        pod.init_containers.get_or_insert_default().extend(program.chain([restore]));
        let there = pod.volumes.get_or_insert_default();
        let names: Vec<String> = there.iter().map(|volume| volume.name.clone()).collect();
        there.extend(volumes.into_iter().flatten().filter(|volume| !names.contains(&volume.name)));
    }

    /// Images and the claim.
    fn fill_in(&self, pod: &mut PodSpec) {
        for container in pod.init_containers.iter_mut().flatten().chain(&mut pod.containers) {
            let is_ours = container.name == PROGRAM;
            container.image = Some(if is_ours { self.program } else { self.image }.to_owned());
        }
        if let Some(name) = given(self.spec.claim_name.as_ref()) {
            let volumes = pod.volumes.iter_mut().flatten().filter(|volume| volume.name == BACKUPS);
            volumes.for_each(|volume| {
                volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                    claim_name: name.to_owned(),
                    ..PersistentVolumeClaimVolumeSource::default()
                });
            });
        }
    }
}
