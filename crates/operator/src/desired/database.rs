//! The database: one that the operator runs, or where another one is; and what of it the controller is told.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, KeyToPath, PersistentVolumeClaim, PodSpec, Secret, SecretKeySelector,
    SecretVolumeSource, Service, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use multinic_api::MultiNicOperatorSpec;
use multinic_api::operator::{DatabaseService, DatabaseSpec, ExternalDatabase, RestoreAsked};

use super::backup::Parts;
use super::container::{named, set_limits};
use super::given;
use crate::credentials::{Account, Credentials, PASSWORD, SECRET, SERVER_REVISION, USER};
use crate::manifests::DatabaseManifests;
use crate::object::{Object, Owner};
use crate::tls::{self, Tls};

/// The name of the StatefulSet, its Service, its container and its label.
pub const DATABASE: &str = "mariadb";
/// The container that makes the system tables.
const PREPARE: &str = "prepare";
/// What the startup probe's argument begins with that the server is asked by.
const ASKS: &str = "--execute=";
pub(crate) const PORT: u16 = 3306;
/// Where a program finds its password, and the authority of a server of one's own.
const FOLDER: &str = "/etc/multinic/database";
const CA: &str = "ca.crt";
/// Where it finds the authorities of the database that the operator runs.
const AUTHORITIES: &str = "/etc/multinic/database-ca";
/// The volume with them, in a program's pod.
pub const AUTHORITIES_VOLUME: &str = "mariadb-ca";
/// The volume with the server's certificate, in its own.
pub const CERTIFICATE_VOLUME: &str = "certificate";
/// The server's options of which TLS is made.
const OPTIONS: [&str; 3] = ["--ssl-cert=", "--ssl-key=", "--event-scheduler="];

pub(super) fn objects(
    owner: &Owner,
    spec: &MultiNicOperatorSpec,
    manifests: &DatabaseManifests,
    credentials: &Credentials,
    tls: Option<&Tls>,
    restore: Option<&RestoreAsked>,
) -> Vec<Object> {
    let DatabaseManifests { volume, service, stateful_set, backup, backup_volume } = manifests;
    let program = &spec.controller.image;
    let spec = &spec.database;
    let mut stateful_set = server(stateful_set.clone(), spec, credentials);
    let mut of_backups = Vec::new();
    if let Some(wanted) = &spec.backup {
        let parts = Parts { spec: wanted, image: image(spec), program: program.trim(), manifest: backup };
        if let Some(asked) = restore {
            parts.restore(&mut stateful_set, asked, &credentials.database);
        }
        let connection = to_own(owner, spec, credentials, tls, &credentials.current.backup);
        of_backups.push(
            parts.volume(backup_volume).and_then(|volume| Object::new(owner, &volume)).map(Object::lasting),
        );
        of_backups.push(Object::new(owner, &parts.job(&connection)));
    }
    let keeps = given(spec.deletion_policy.as_ref()) != Some("Delete");
    let lasting = |object: Object| if keeps { object.lasting() } else { object };
    let objects = [
        Object::new(owner, &secret(&stateful_set, credentials)).map(lasting),
        tls.and_then(|tls| Object::new(owner, &tls.keys.secret(stateful_set.metadata.labels.clone()))),
        Object::new(owner, &sized(volume.clone(), spec.storage_size.as_ref())).map(lasting),
        Object::new(owner, &served(service.clone(), spec.service.as_ref())),
        Object::new(owner, &stateful_set),
    ];
    objects.into_iter().chain(of_backups).flatten().collect()
}

/// The server's image.
fn image(spec: &DatabaseSpec) -> &str {
    given(spec.image.as_ref()).unwrap_or("mariadb:10.11")
}

fn secret(stateful_set: &StatefulSet, credentials: &Credentials) -> Secret {
    let metadata = ObjectMeta {
        name: Some(SECRET.to_owned()),
        labels: stateful_set.metadata.labels.clone(),
        annotations: Some(credentials.annotations()),
        ..ObjectMeta::default()
    };
    Secret { metadata, data: Some(credentials.data()), ..Secret::default() }
}

/// A claim of this size, if one is given.
pub(super) fn sized(mut volume: PersistentVolumeClaim, size: Option<&String>) -> PersistentVolumeClaim {
    if let (Some(size), Some(claim)) = (given(size), &mut volume.spec) {
        let resources = claim.resources.get_or_insert_with(VolumeResourceRequirements::default);
        resources.requests.get_or_insert_default().insert("storage".to_owned(), Quantity(size.to_owned()));
    }
    volume
}

fn served(mut service: Service, spec: Option<&DatabaseService>) -> Service {
    let (Some(wanted), Some(DatabaseService { type_, node_port, port })) = (&mut service.spec, spec) else {
        return service;
    };
    let type_ = given(type_.as_ref());
    if let Some(type_) = type_ {
        wanted.type_ = Some(type_.to_owned());
    }
    for entry in wanted.ports.iter_mut().flatten() {
        entry.port = port.filter(|port| *port != 0).unwrap_or(entry.port);
        // Only these have one.
        let has_node_port = matches!(type_, Some("NodePort" | "LoadBalancer"));
        entry.node_port = node_port.filter(|port| *port != 0 && has_node_port);
    }
    service
}

fn server(mut stateful_set: StatefulSet, spec: &DatabaseSpec, credentials: &Credentials) -> StatefulSet {
    let Some(wanted) = &mut stateful_set.spec else { return stateful_set };
    let metadata = wanted.template.metadata.get_or_insert_default();
    let revision = credentials.server_revision.clone();
    metadata.annotations.get_or_insert_default().insert(SERVER_REVISION.to_owned(), revision);
    let Some(pod) = &mut wanted.template.spec else { return stateful_set };
    let accounts = pod.volumes.iter_mut().flatten().filter_map(|volume| volume.secret.as_mut());
    let accounts = accounts.filter(|source| source.secret_name.as_deref() == Some(SECRET));
    for item in accounts.flat_map(|source| source.items.iter_mut().flatten()) {
        item.key = credentials.init_key();
    }
    let image = image(spec);
    let prepare = pod.init_containers.iter_mut().flatten().filter(|container| container.name == PREPARE);
    prepare.for_each(|container| container.image = Some(image.to_owned()));
    if let Some(container) = named(pod, DATABASE) {
        container.image = Some(image.to_owned());
        set_limits(container, spec.resources.as_ref());
        let probe = container.startup_probe.as_mut().and_then(|probe| probe.exec.as_mut());
        let asks = probe.and_then(|exec| exec.command.as_mut()?.iter_mut().find(|it| it.starts_with(ASKS)));
        if let Some(asks) = asks {
            *asks = format!("{ASKS}{}", credentials.question());
        }
    }
    if !tls::is_wanted(spec) {
        take_certificate(pod);
    }
    stateful_set
}

/// Takes from the server what the manifest gives it for TLS.
fn take_certificate(pod: &mut PodSpec) {
    pod.volumes.iter_mut().for_each(|volumes| volumes.retain(|volume| volume.name != CERTIFICATE_VOLUME));
    let Some(Container { command: Some(command), volume_mounts: Some(mounts), .. }) = named(pod, DATABASE)
    else {
        return;
    };
    command.retain(|argument| !OPTIONS.iter().any(|option| argument.starts_with(option)));
    mounts.retain(|mount| mount.name != CERTIFICATE_VOLUME);
}

/// What a program is told of its database.
pub(super) struct Connection {
    /// Its settings.
    pub settings: Vec<(&'static str, String)>,
    /// The Secret with the password.
    secret: String,
    /// The files of it: keys and names.
    files: Vec<(String, &'static str)>,
    /// Which of the Secret's contents the program was started with.
    pub revision: Option<String>,
    is_external: bool,
    /// Whether the server has a certificate by the operator's authorities.
    has_authorities: bool,
}

/// The connection, if there is a database.
pub(super) fn connection(
    owner: &Owner,
    spec: &DatabaseSpec,
    credentials: Option<&Credentials>,
    tls: Option<&Tls>,
) -> Option<Connection> {
    match (spec.enabled, credentials, &spec.external) {
        (true, Some(credentials), _) => {
            Some(to_own(owner, spec, credentials, tls, &credentials.current.controller))
        }
        (false, _, Some(external)) => {
            let ExternalDatabase { host, port: at, database, tls, secret_name, ca_key } = external;
            let tls = given(tls.as_ref()).unwrap_or("verify");
            let mut files = vec![(PASSWORD.to_owned(), PASSWORD)];
            let mut settings = vec![
                ("DB_HOST", host.trim().to_owned()),
                ("DB_PORT", port(*at)),
                ("DB_NAME", given(database.as_ref()).unwrap_or("multinic").to_owned()),
                ("DB_TLS", tls.to_owned()),
                password_file(),
            ];
            if let Some(key) = given(ca_key.as_ref()) {
                files.push((key.to_owned(), CA));
                settings.push(("DB_TLS_CA", format!("{FOLDER}/{CA}")));
            }
            Some(Connection {
                settings,
                secret: secret_name.trim().to_owned(),
                files,
                revision: None,
                is_external: true,
                has_authorities: false,
            })
        }
        _ => None,
    }
}

/// The agents' connection, if the operator runs a database.
pub(super) fn connection_of_agents(
    owner: &Owner,
    spec: &DatabaseSpec,
    credentials: Option<&Credentials>,
    tls: Option<&Tls>,
) -> Option<Connection> {
    let credentials = credentials.filter(|_| spec.enabled)?;
    Some(to_own(owner, spec, credentials, tls, &credentials.current.agent))
}

/// To the database that the operator runs, by an account.
fn to_own(
    owner: &Owner,
    spec: &DatabaseSpec,
    credentials: &Credentials,
    tls: Option<&Tls>,
    account: &Account,
) -> Connection {
    let mut settings = vec![
        ("DB_HOST", format!("{DATABASE}.{}.svc", owner.namespace)),
        ("DB_PORT", port(spec.service.as_ref().and_then(|service| service.port))),
        ("DB_NAME", credentials.database.clone()),
        ("DB_USER", account.user.clone()),
        password_file(),
    ];
    let has_authorities = tls.is_some_and(|tls| tls.is_offered);
    if has_authorities {
        settings.extend([("DB_TLS", "verify".to_owned()), ("DB_TLS_CA", format!("{AUTHORITIES}/{CA}"))]);
    }
    Connection {
        settings,
        secret: SECRET.to_owned(),
        files: vec![(account.key(), PASSWORD)],
        revision: Some(credentials.revision.clone()),
        is_external: false,
        has_authorities,
    }
}

fn port(port: Option<i32>) -> String {
    port.filter(|port| *port != 0).unwrap_or(PORT.into()).to_string()
}

fn password_file() -> (&'static str, String) {
    ("DB_PASSWORD_FILE", format!("{FOLDER}/{PASSWORD}"))
}

impl Connection {
    /// Gives a program's pod what is secret of it: by a file, and the user's name by a variable where only the Secret has
    /// it.
    pub(super) fn mount(&self, pod: &mut PodSpec, container: &str) {
        let files: Vec<(&str, &str)> = self.files.iter().map(|(key, name)| (key.as_str(), *name)).collect();
        mount_files(pod, container, DATABASE, FOLDER, &self.secret, &files);
        if self.has_authorities {
            // Not the keys that this Secret holds too.
            mount_files(pod, container, AUTHORITIES_VOLUME, AUTHORITIES, tls::SECRET, &[(CA, CA)]);
        }
        let Some(container) = named(pod, container) else { return };
        if self.is_external {
            let selector = SecretKeySelector {
                name: self.secret.clone(),
                key: USER.to_owned(),
                ..SecretKeySelector::default()
            };
            let from = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
            container.env.get_or_insert_default().push(EnvVar {
                name: "DB_USER".to_owned(),
                value_from: Some(from),
                value: None,
            });
        }
    }
}

/// Gives a container files of a Secret: these keys, under these names.
fn mount_files(
    pod: &mut PodSpec,
    container: &str,
    name: &str,
    folder: &str,
    secret: &str,
    files: &[(&str, &str)],
) {
    let item = |(key, path): &(&str, &str)| KeyToPath {
        key: (*key).to_owned(),
        path: (*path).to_owned(),
        mode: None,
    };
    let source = SecretVolumeSource {
        secret_name: Some(secret.to_owned()),
        items: Some(files.iter().map(item).collect()),
        ..SecretVolumeSource::default()
    };
    let volume = Volume { name: name.to_owned(), secret: Some(source), ..Volume::default() };
    pod.volumes.get_or_insert_default().push(volume);
    let Some(container) = named(pod, container) else { return };
    container.volume_mounts.get_or_insert_default().push(VolumeMount {
        name: name.to_owned(),
        mount_path: folder.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
}
