//! Backups of the database: what makes them by the clock, and what fills an empty server from one before it starts.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{
    Container, EnvVar, KeyToPath, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodSpec,
    ProjectedVolumeSource, SecretProjection, Volume, VolumeMount, VolumeProjection,
};
use multinic_api::SecretKeyRef;
use multinic_api::operator::{BackupSpec, RestoreAsked, S3Target};

use super::container::named;
use super::database::{Connection, sized};
use super::given;
use crate::backup::place::{CONTAINER, Place};
use crate::backup::restoration::{ASKED, mark};

/// The name of the CronJob and the label of its pods.
pub const BACKUP: &str = "multinic-backup";
/// The container that copies our program to where MariaDB's programs are.
const PROGRAM: &str = "program";
/// The container that fills the server.
pub(crate) const RESTORE: &str = "restore";
/// The volume with the backups.
const BACKUPS: &str = "backups";
/// The option that says where that is.
const FOLDER: &str = "--folder=";
/// The volume with the keys of a bucket, and where it is.
const KEYS: &str = "s3";
const KEYS_FOLDER: &str = "/etc/multinic/s3";
/// How many backups are kept where nothing is said.
const KEPT: i32 = 14;

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
    /// The claim, unless the spec names another place.
    pub(super) fn volume(&self, manifest: &PersistentVolumeClaim) -> Option<PersistentVolumeClaim> {
        let is_ours = self.spec.s3.is_none() && given(self.spec.claim_name.as_ref()).is_none();
        is_ours.then(|| sized(manifest.clone(), self.spec.storage_size.as_ref()))
    }

    /// The CronJob.
    pub(super) fn job(&self, connection: &Connection) -> CronJob {
        let BackupSpec { schedule, timezone, retention, claim_name: _, storage_size: _, s3: _ } = self.spec;
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
    pub(super) fn restore(&self, server: &mut StatefulSet, asked: &RestoreAsked, database: &str) {
        let Some(server) = server.spec.as_mut().map(|spec| &mut spec.template) else { return };
        let annotations = server.metadata.get_or_insert_default().annotations.get_or_insert_default();
        annotations.insert(ASKED.to_owned(), mark(asked));
        let pod = server.spec.as_mut();
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
        arguments.push(format!("--from={}", asked.from));
        arguments.push(format!("--request={}", mark(asked)));
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

    /// Images, and the place.
    fn fill_in(&self, pod: &mut PodSpec) {
        for container in pod.init_containers.iter_mut().flatten().chain(&mut pod.containers) {
            let is_ours = container.name == PROGRAM;
            container.image = Some(if is_ours { self.program } else { self.image }.to_owned());
        }
        match (Place::of(self.spec), &self.spec.s3) {
            (Place::Bucket { arguments, .. }, Some(target)) => point_to_bucket(pod, arguments, target),
            (Place::Claim(claim_name), _) => {
                let volumes = pod.volumes.iter_mut().flatten().filter(|volume| volume.name == BACKUPS);
                volumes.for_each(|volume| {
                    volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                        claim_name: claim_name.clone(),
                        ..PersistentVolumeClaimVolumeSource::default()
                    });
                });
            }
            (Place::Bucket { .. }, None) => {}
        }
    }
}

/// Lets a pod have its backups in a bucket, and not on a volume. Its keys are files: whoever may read a pod does not read them.
fn point_to_bucket(pod: &mut PodSpec, places: Vec<String>, target: &S3Target) {
    let S3Target { access_key_id_secret_ref, secret_access_key_secret_ref, ca_secret_ref, .. } = target;
    let keys = [
        ("--s3-access-key-id-file", "access-key-id", Some(access_key_id_secret_ref)),
        ("--s3-secret-access-key-file", "secret-access-key", Some(secret_access_key_secret_ref)),
        ("--s3-ca", "ca.crt", ca_secret_ref.as_ref()),
    ];
    let keys = keys.iter().filter_map(|(option, file, reference)| Some((option, file, (*reference)?)));
    let source = |(_, file, reference): (_, &&str, &SecretKeyRef)| VolumeProjection {
        secret: Some(SecretProjection {
            name: reference.name.trim().to_owned(),
            items: Some(vec![KeyToPath { key: reference.key.clone(), path: (*file).to_owned(), mode: None }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    let sources = keys.clone().map(source).collect();
    // It is for the node that has the claim.
    pod.affinity = None;
    let volumes = pod.volumes.get_or_insert_default();
    volumes.retain(|volume| volume.name != BACKUPS);
    volumes.push(Volume {
        name: KEYS.to_owned(),
        projected: Some(ProjectedVolumeSource { sources: Some(sources), default_mode: None }),
        ..Volume::default()
    });
    let Some(container) = named(pod, CONTAINER) else { return };
    let mounts = container.volume_mounts.get_or_insert_default();
    mounts.retain(|mount| mount.name != BACKUPS);
    mounts.push(VolumeMount {
        name: KEYS.to_owned(),
        mount_path: KEYS_FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    let arguments = container.args.get_or_insert_default();
    arguments.retain(|argument| !argument.starts_with(FOLDER));
    arguments.extend(places);
    arguments.extend(keys.map(|(option, file, _)| format!("{option}={KEYS_FOLDER}/{file}")));
}
