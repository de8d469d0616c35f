//! The manifests of `deploy/`, which are also what the operator makes: there is one description of each program.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kinds::Key;

/// The namespace that the manifests name, wherever they do.
const NAMESPACE: &str = "multinic-system";

const CONTROLLER: [&str; 3] = [
    include_str!("../../../deploy/controller/serviceaccount.yaml"),
    include_str!("../../../deploy/controller/rbac.yaml"),
    include_str!("../../../deploy/controller/admission-policy.yaml"),
];
/// What the operator may do, and so what it may make and take away.
const OPERATOR_RIGHTS: &str = include_str!("../../../deploy/operator/rbac.yaml");
const CONTROLLER_CONFIG: &str = include_str!("../../../deploy/controller/config.yaml");
const CONTROLLER_SERVICE: &str = include_str!("../../../deploy/controller/service.yaml");
const CONTROLLER_DEPLOYMENT: &str = include_str!("../../../deploy/controller/deployment.yaml");
const AGENT: [&str; 3] = [
    include_str!("../../../deploy/agent/serviceaccount.yaml"),
    include_str!("../../../deploy/agent/rbac.yaml"),
    include_str!("../../../deploy/agent/admission-policy.yaml"),
];
const AGENT_DAEMON_SET: &str = include_str!("../../../deploy/agent/daemonset.yaml");
const SYSCONFIG: &str = include_str!("../../../deploy/components/sysconfig/kustomization.yaml");
const DROP_IN: &str = include_str!("../../../deploy/components/networkd-drop-in/kustomization.yaml");
const PROTECTION: [&str; 2] = [
    include_str!("../../../deploy/protection/policy.yaml"),
    include_str!("../../../deploy/protection/webhooks.yaml"),
];
const CONFIGURATIONS: &str = include_str!("../../../deploy/protection/configurations.yaml");
const DATABASE_VOLUME: &str = include_str!("../../../deploy/database/volume.yaml");
const DATABASE_SERVICE: &str = include_str!("../../../deploy/database/service.yaml");
const DATABASE_STATEFUL_SET: &str = include_str!("../../../deploy/database/statefulset.yaml");
const BACKUP: &str = include_str!("../../../deploy/database/backup.yaml");
const BACKUP_VOLUME: &str = include_str!("../../../deploy/database/backup-volume.yaml");
const NETWORK: [&str; 1] = [include_str!("../../../deploy/network/policies.yaml")];

/// A manifest that is none.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is no YAML.
    #[error("a manifest of this program is no YAML: {0}")]
    Yaml(#[from] serde_saphyr::Error),
    /// It is another object than the one that it is taken for.
    #[error("a manifest of this program is not what it is taken for: {0}")]
    Object(#[from] serde_json::Error),
}

/// The manifests for one namespace.
#[derive(Debug, Clone)]
pub struct Manifests {
    /// The controller's.
    pub controller: ControllerManifests,
    /// The database's.
    pub database: DatabaseManifests,
    /// The agent's.
    pub agent: AgentManifests,
    /// Those that make API servers ask.
    pub protection: ProtectionManifests,
    /// NetworkPolicies, with stand-ins for who has no labels.
    pub network: Vec<Value>,
    /// Plurals and names of what the operator has the right to make.
    names: BTreeSet<(String, String)>,
}

/// What `deploy/controller` holds.
#[derive(Debug, Clone)]
pub struct ControllerManifests {
    /// What no field of a `MultiNicOperator` changes: its ServiceAccount, rights and admission policies.
    pub fixed: Vec<Value>,
    /// `operator-config`.
    pub config: ConfigMap,
    /// Inventory, metrics and requests for reconciliations.
    pub service: Service,
    /// The controller itself.
    pub deployment: Deployment,
}

/// What `deploy/database` holds.
#[derive(Debug, Clone)]
pub struct DatabaseManifests {
    /// Where the data are.
    pub volume: PersistentVolumeClaim,
    /// Where the server is reached.
    pub service: Service,
    /// The server.
    pub stateful_set: StatefulSet,
    /// What makes backups of it.
    pub backup: CronJob,
    /// Where these are.
    pub backup_volume: PersistentVolumeClaim,
}

/// What `deploy/agent` holds, and the components for it.
#[derive(Debug, Clone)]
pub struct AgentManifests {
    /// What no field of a `MultiNicOperator` changes: its ServiceAccount, rights and admission policies.
    pub fixed: Vec<Value>,
    /// The agent itself.
    pub daemon_set: DaemonSet,
    /// What is merged into it for nodes with ifcfg or wicked.
    pub sysconfig: DaemonSet,
    /// What is merged into it for networkd's drop-in.
    pub drop_in: DaemonSet,
}

/// A component of kustomize's with one patch.
#[derive(Deserialize)]
struct Component {
    patches: [Patch; 1],
}

#[derive(Deserialize)]
struct Patch {
    patch: String,
}

/// What `deploy/protection` holds.
#[derive(Debug, Clone)]
pub struct ProtectionManifests {
    /// The webhooks for `OpenstackConfig` and `MultiNicNodeConfig` objects.
    pub configurations: Value,
    /// Policy and webhooks that keep others from changing what the operator made.
    pub protecting: Vec<Value>,
}

impl Manifests {
    /// Reads them.
    ///
    /// # Errors
    /// Where one cannot be read; none of those that are there.
    pub fn of(namespace: &str) -> Result<Self, ManifestError> {
        let all = |texts: &[&str]| -> Result<Vec<Value>, ManifestError> {
            let mut objects = Vec::new();
            for text in texts {
                objects.extend(serde_saphyr::from_multiple::<Value>(text)?);
            }
            objects.iter_mut().for_each(|object| localise(object, namespace));
            Ok(objects)
        };
        Ok(Self {
            controller: ControllerManifests {
                fixed: all(&CONTROLLER)?,
                config: one(CONTROLLER_CONFIG, namespace)?,
                service: one(CONTROLLER_SERVICE, namespace)?,
                deployment: one(CONTROLLER_DEPLOYMENT, namespace)?,
            },
            database: DatabaseManifests {
                volume: one(DATABASE_VOLUME, namespace)?,
                service: one(DATABASE_SERVICE, namespace)?,
                stateful_set: one(DATABASE_STATEFUL_SET, namespace)?,
                backup: one(BACKUP, namespace)?,
                backup_volume: one(BACKUP_VOLUME, namespace)?,
            },
            agent: AgentManifests {
                fixed: all(&AGENT)?,
                daemon_set: one(AGENT_DAEMON_SET, namespace)?,
                sysconfig: patch(SYSCONFIG, namespace)?,
                drop_in: patch(DROP_IN, namespace)?,
            },
            protection: ProtectionManifests {
                configurations: one(CONFIGURATIONS, namespace)?,
                protecting: all(&PROTECTION)?,
            },
            network: all(&NETWORK)?,
            names: all(&[OPERATOR_RIGHTS])?.iter().flat_map(rules).flat_map(names).collect(),
        })
    }

    /// Whether there is a spec for which the operator makes an object like this. One of another name is somebody else's, whatever
    /// its labels say, and the operator has no right to touch it.
    pub fn may_be_made(&self, key: &Key) -> bool {
        self.names.contains(&(key.kind.plural.to_owned(), key.name.clone()))
    }
}

/// The rules of a role.
fn rules(role: &Value) -> impl Iterator<Item = &Value> {
    role.get("rules").and_then(Value::as_array).into_iter().flatten()
}

/// What may be made by a rule that names it: pairs of plurals and names.
fn names(rule: &Value) -> Vec<(String, String)> {
    let texts = |field: &str| {
        let list = rule.get(field).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|it| it.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    if !texts("verbs").iter().any(|verb| verb == "delete") {
        return Vec::new();
    }
    let names = texts("resourceNames");
    texts("resources")
        .into_iter()
        .flat_map(|plural| names.iter().map(move |name| (plural.clone(), name.clone())).collect::<Vec<_>>())
        .collect()
}

fn one<T: DeserializeOwned>(text: &str, namespace: &str) -> Result<T, ManifestError> {
    let mut object: Value = serde_saphyr::from_str(text)?;
    localise(&mut object, namespace);
    Ok(serde_json::from_value(object)?)
}

/// What a component changes in an object.
fn patch<T: DeserializeOwned>(component: &str, namespace: &str) -> Result<T, ManifestError> {
    let Component { patches: [Patch { patch }] } = serde_saphyr::from_str(component)?;
    one(&patch, namespace)
}

/// Puts a namespace in the place of the one that the manifests name: also within the conditions of admission policies.
fn localise(value: &mut Value, namespace: &str) {
    match value {
        Value::String(text) if text.contains(NAMESPACE) => *text = text.replace(NAMESPACE, namespace),
        Value::Array(items) => items.iter_mut().for_each(|item| localise(item, namespace)),
        Value::Object(fields) => fields.values_mut().for_each(|field| localise(field, namespace)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use super::*;

    #[test]
    fn every_manifest_is_read_and_names_the_namespace_that_is_asked_for() {
        let Manifests { controller, database, agent, protection, network, names: _ } =
            Manifests::of("elsewhere").unwrap();
        let ControllerManifests { fixed, config, service, deployment } = controller;
        let DatabaseManifests { volume, service: database_service, stateful_set, backup, backup_volume } =
            database;
        let typed = [
            serde_json::to_value(volume).unwrap(),
            serde_json::to_value(database_service).unwrap(),
            serde_json::to_value(stateful_set).unwrap(),
            serde_json::to_value(backup).unwrap(),
            serde_json::to_value(backup_volume).unwrap(),
            serde_json::to_value(config).unwrap(),
            serde_json::to_value(service).unwrap(),
            serde_json::to_value(deployment).unwrap(),
            serde_json::to_value(agent.daemon_set).unwrap(),
            serde_json::to_value(agent.sysconfig).unwrap(),
            serde_json::to_value(agent.drop_in).unwrap(),
        ];
        for object in
            fixed.iter().chain(&agent.fixed).chain(&typed).chain(&protection.protecting).chain(&network)
        {
            let text = object.to_string();
            assert!(!text.contains(NAMESPACE), "{text}");
            assert!(object.pointer("/metadata/name").is_some(), "{text}");
        }
        // ServiceAccount, four of rights, two policies with their bindings; the agent has a Role more.
        assert_eq!((fixed.len(), agent.fixed.len()), (9, 11));
    }
}
