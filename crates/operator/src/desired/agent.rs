//! The agents: their DaemonSet and all that they need.

use k8s_openapi::DeepMerge as _;
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
pub(crate) const RESERVED: [&str; 17] = [
    DATA_SOURCE,
    "NODE_CR_NAMESPACE",
    "NODE_NAME",
    "NODE_IP",
    "HOST_ROOT",
    "HEALTH_PORT",
    "INSTALL_DROPIN",
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
    let connection = connection.filter(|_| given(spec.data_source.as_ref()) == Some("db"));
    let daemon_set = changed(with_folders(spec, manifests), spec, connection);
    let fixed = manifests.fixed.iter().map(|object| Object::new(owner, object));
    fixed.chain([Object::new(owner, &daemon_set)]).flatten().collect()
}

/// The DaemonSet of the manifest, with the folders of the node that only some clusters need.
fn with_folders(spec: &AgentSpec, manifests: &AgentManifests) -> DaemonSet {
    let AgentManifests { fixed: _, daemon_set, sysconfig, drop_in } = manifests;
    let mut daemon_set = daemon_set.clone();
    for (is_wanted, patch) in [(spec.sysconfig, sysconfig), (spec.install_drop_in, drop_in)] {
        if is_wanted == Some(true) {
            daemon_set.merge_from(patch.clone());
        }
    }
    daemon_set
}

fn changed(mut daemon_set: DaemonSet, spec: &AgentSpec, connection: Option<&Connection>) -> DaemonSet {
    let AgentSpec { image, resources, data_source: _, sysconfig: _, install_drop_in: _, settings } = spec;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::manifests::Manifests;

    fn daemon_set(sysconfig: Option<bool>, install_drop_in: Option<bool>) -> Value {
        let image = "multinic-agent:1".to_owned();
        let spec = AgentSpec { image, sysconfig, install_drop_in, ..AgentSpec::default() };
        let manifests = Manifests::of("here").unwrap().agent;
        json!(changed(with_folders(&spec, &manifests), &spec, None))
    }

    /// Mounts, volumes and variables of a DaemonSet's pods.
    fn parts(daemon_set: &Value) -> BTreeSet<String> {
        let pod = &daemon_set["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let lists = [&container["volumeMounts"], &pod["volumes"], &container["env"]];
        lists.into_iter().filter_map(Value::as_array).flatten().map(Value::to_string).collect()
    }

    fn component(text: &str) -> BTreeSet<String> {
        let component: Value = serde_saphyr::from_str(text).unwrap();
        parts(&serde_saphyr::from_str(component["patches"][0]["patch"].as_str().unwrap()).unwrap())
    }

    #[test]
    fn agents_have_the_folders_of_the_components_that_the_spec_asks_for_and_no_others() {
        let plain = daemon_set(None, None);
        assert_eq!(plain, daemon_set(Some(false), Some(false)));
        let sysconfig = component(include_str!("../../../../deploy/components/sysconfig/kustomization.yaml"));
        let drop_in =
            component(include_str!("../../../../deploy/components/networkd-drop-in/kustomization.yaml"));
        assert_eq!((sysconfig.len(), drop_in.len()), (4, 3));
        for (with, wanted) in [
            (daemon_set(Some(true), None), sysconfig.clone()),
            (daemon_set(None, Some(true)), drop_in.clone()),
            (daemon_set(Some(true), Some(true)), &sysconfig | &drop_in),
        ] {
            assert_eq!(&parts(&with) - &parts(&plain), wanted);
            assert!(parts(&with).is_superset(&parts(&plain)));
            assert_eq!(without_parts(with), without_parts(plain.clone()));
        }
    }

    fn without_parts(mut daemon_set: Value) -> Value {
        let pod = &mut daemon_set["spec"]["template"]["spec"];
        pod["volumes"].take();
        pod["containers"][0]["volumeMounts"].take();
        pod["containers"][0]["env"].take();
        daemon_set
    }
}
