//! What a `MultiNicOperator` says, part by part: a part is what it is also where the rest cannot be carried out. Pure.

use kube::api::DynamicObject;
use multinic_api::MultiNicOperatorSpec;
use multinic_api::operator::{BackupSpec, DatabaseSpec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::backup::restoration::Asked;
use crate::check::check;
use crate::protection::Wanted;
use crate::tell::status_of;

/// The parts.
#[derive(Debug)]
pub(crate) struct Parts {
    /// What others may do.
    pub protection: Wanted,
    /// Whether what others changed is put back.
    pub recovers: bool,
    /// Whether the operator runs agents.
    pub has_agents: bool,
    /// The database.
    pub database: Option<DatabaseSpec>,
    /// Whether the operator runs it.
    pub has_database: bool,
    /// Backups of that.
    pub backup: Option<BackupSpec>,
    /// What it is to be filled from.
    pub restore: Option<Asked>,
    /// What NetworkPolicies are made of, where that can be carried out.
    pub network: Option<MultiNicOperatorSpec>,
    /// All of it, or why it cannot be carried out.
    pub spec: Result<MultiNicOperatorSpec, String>,
}

impl Parts {
    /// Those of an object of this name in this namespace, where the server's claim has this UID.
    pub fn of(namespace: &str, name: &str, object: &DynamicObject, claim: Option<&str>) -> Self {
        let at = |path: &str| object.data.pointer(path);
        let is = |path: &str, value: bool| at(path) == Some(&Value::Bool(value));
        let text = |path: &str| at(path)?.as_str().map(str::trim).filter(|text| !text.is_empty());
        let restore = text("/spec/database/restoreFrom").map(|from| {
            Asked::of(from, object.metadata.generation.unwrap_or_default(), claim, &status_of(object))
        });
        let wanted = at("/spec").cloned().unwrap_or_default();
        let network = network(name, &wanted);
        let mut spec = carried_out(name, wanted);
        if let (Ok(spec), Some(Asked { is_done: true, .. })) = (&mut spec, &restore) {
            spec.database.restore_from = None;
        }
        Self {
            protection: Wanted::of(namespace, &object.data),
            recovers: !is("/spec/protection/enableAutoRecovery", false),
            has_agents: at("/spec/agent/image").is_some(),
            database: at("/spec/database").and_then(read),
            has_database: is("/spec/database/enabled", true),
            backup: at("/spec/database/backup").and_then(read),
            restore,
            network,
            spec,
        }
    }
}

fn read<T: DeserializeOwned>(part: &Value) -> Option<T> {
    serde_json::from_value(part.clone()).ok()
}

/// A spec in which nothing is wrong of the policies, whatever else is.
fn network(name: &str, spec: &Value) -> Option<MultiNicOperatorSpec> {
    let spec: MultiNicOperatorSpec = read(spec)?;
    let is_wrong = check(name, &spec).iter().any(|wrong| wrong.field.starts_with("spec.networkPolicy"));
    (!is_wrong).then_some(spec)
}

fn carried_out(name: &str, spec: Value) -> Result<MultiNicOperatorSpec, String> {
    let spec = serde_json::from_value(spec).map_err(|error| format!("spec: {error}"))?;
    match check(name, &spec).as_slice() {
        [] => Ok(spec),
        wrong => Err(wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}
