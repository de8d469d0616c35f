//! The agents: their DaemonSet and all that they need.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::EnvVar;
use multinic_api::operator::AgentSpec;

use super::container::{named, set_limits, set_variable};
use super::database::Connection;
use super::given;
use crate::credentials::REVISION;
use crate::manifests::AgentManifests;
use crate::object::{Object, Owner};

/// The name of the DaemonSet and its ServiceAccount.
pub const AGENT: &str = "multinic-agent";
/// The container in the manifest.
const CONTAINER: &str = "agent";
const DATA_SOURCE: &str = "DATA_SOURCE";

/// What the manifest says because of what else it says, and what has a field of its own.
pub(crate) const RESERVED: [&str; 16] = [
    DATA_SOURCE,
    "NODE_CR_NAMESPACE",
    "NODE_NAME",
    "NODE_IP",
    "HOST_ROOT",
    "HEALTH_PORT",
    "DB_HOST",
    "DB_PORT",
    "DB_NAME",
    "DB_USER",
    "DB_PASSWORD",
    "DB_PASSWORD_FILE",
    "DB_TLS",
    "DB_TLS_CA",
    "DB_CA_FILE",
    "DATABASE_URL",
];

pub(super) fn objects(
    owner: &Owner,
    spec: &AgentSpec,
    manifests: &AgentManifests,
    connection: Option<&Connection>,
) -> Vec<Object> {
    let AgentManifests { fixed, daemon_set } = manifests;
    let connection = connection.filter(|_| given(spec.data_source.as_ref()) == Some("db"));
    let daemon_set = changed(daemon_set.clone(), spec, connection);
    let fixed = fixed.iter().map(|object| Object::new(owner, object));
    fixed.chain([Object::new(owner, &daemon_set)]).flatten().collect()
}

fn changed(mut daemon_set: DaemonSet, spec: &AgentSpec, connection: Option<&Connection>) -> DaemonSet {
    let AgentSpec { image, resources, data_source: _, settings } = spec;
    let Some(wanted) = &mut daemon_set.spec else { return daemon_set };
    if let Some(revision) = connection.and_then(|connection| connection.revision.clone()) {
        let metadata = wanted.template.metadata.get_or_insert_default();
        metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision);
    }
    let Some(pod) = &mut wanted.template.spec else { return daemon_set };
    if let Some(connection) = connection {
        connection.mount(pod, CONTAINER);
    }
    let Some(container) = named(pod, CONTAINER) else { return daemon_set };
    container.image = Some(image.trim().to_owned());
    set_limits(container, resources.as_ref());
    let mut further: Vec<(String, String)> = Vec::new();
    if let Some(connection) = connection {
        set_variable(container, DATA_SOURCE, "db");
        further.extend(connection.settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    }
    further.extend(settings.iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
    let variables = container.env.get_or_insert_default();
    variables.extend(further.into_iter().map(|(name, value)| EnvVar {
        name,
        value: Some(value),
        ..EnvVar::default()
    }));
    daemon_set
}
