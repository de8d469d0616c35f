//! Which field of a `MultiNicOperator` does properly what somebody tried at an object. Pure.

use super::change::Difference;
use crate::desired::{AGENT, CONTROLLER, DATABASE};

/// The field for a change of an object; none where no field does it.
pub fn field(kind: &str, name: &str, differences: &[Difference]) -> Option<String> {
    let program = program(kind, name)?;
    let fields: &[(&str, &str)] = match (program, kind) {
        (DATABASE, "Service") => &[("type", "service.type"), ("ports", "service.port"), ("spec", "service")],
        (DATABASE, "PersistentVolumeClaim") => &[("spec", "storageSize")],
        (DATABASE, "Secret") => &[("data", "credentials")],
        (_, "ConfigMap") => &[("data", "settings")],
        (CONTROLLER, "Deployment") => &[
            ("replicas", "replicas"),
            ("image", "image"),
            ("resources", "resources"),
            ("env", "settings"),
            ("livenessProbe", "healthProbe"),
            ("readinessProbe", "healthProbe"),
            ("startupProbe", "healthProbe"),
        ],
        (_, "DaemonSet" | "StatefulSet") => {
            &[("image", "image"), ("resources", "resources"), ("env", "settings")]
        }
        _ => &[],
    };
    let found = fields
        .iter()
        .find(|(name, _)| differences.iter().any(|difference| difference.passes(name)))
        // The server has no further settings.
        .filter(|(_, field)| !(program == DATABASE && *field == "settings"));
    found.map(|(_, field)| format!("spec.{}.{field}", part(program)))
}

/// What makes an object go that is not wanted any more.
pub fn end(kind: &str, name: &str) -> String {
    match program(kind, name) {
        Some(AGENT) => "without spec.agent the operator removes it".to_owned(),
        Some(DATABASE) => "with spec.database.enabled: false the operator removes it".to_owned(),
        _ => "it goes with its MultiNicOperator".to_owned(),
    }
}

/// The part of a spec that speaks of a program.
fn part(program: &str) -> &'static str {
    match program {
        AGENT => "agent",
        DATABASE => "database",
        _ => "controller",
    }
}

/// The program of which an object is a part.
fn program(kind: &str, name: &str) -> Option<&'static str> {
    match (kind, name) {
        ("ConfigMap", "operator-config") => Some(CONTROLLER),
        (_, name) if name.starts_with(AGENT) => Some(AGENT),
        (_, name) if name.starts_with(CONTROLLER) => Some(CONTROLLER),
        (_, name) if name.contains(DATABASE) || name == crate::credentials::SECRET => Some(DATABASE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::change::differences;
    use super::*;

    #[test]
    fn the_field_is_that_of_the_program_and_of_what_was_tried() {
        let container =
            |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"image": image}]}}}});
        let image = differences("Deployment", &container("a"), &container("b"));
        let replicas = differences("", &json!({"spec": {"replicas": 1}}), &json!({"spec": {"replicas": 2}}));
        let data = differences("", &json!({"data": {"A": "1"}}), &json!({"data": {"A": "2"}}));
        for (kind, name, differences, is) in [
            ("Deployment", "multinic-controller", &image, Some("spec.controller.image")),
            ("DaemonSet", "multinic-agent", &image, Some("spec.agent.image")),
            ("StatefulSet", "mariadb", &image, Some("spec.database.image")),
            ("Deployment", "multinic-controller", &replicas, Some("spec.controller.replicas")),
            ("StatefulSet", "mariadb", &replicas, None),
            ("ConfigMap", "operator-config", &data, Some("spec.controller.settings")),
            ("Secret", "multinic-database", &data, Some("spec.database.credentials")),
            ("ClusterRole", "multinic-controller", &data, None),
        ] {
            assert_eq!(field(kind, name, differences).as_deref(), is, "{kind} {name}");
        }
        assert!(end("DaemonSet", "multinic-agent").contains("spec.agent"));
        assert!(end("PersistentVolumeClaim", "mysql-storage-mariadb-0").contains("spec.database.enabled"));
    }
}
