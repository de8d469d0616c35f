//! Which requests nobody is asked about: the conditions of the manifests of `deploy/protection`, each told once. A manifest names
//! one, and this is what it says. Pure.

use crate::object::{MANAGER, PROTECTED};
use crate::protection::judge::BREAK_GLASS;

/// The programs of the cluster that are no service accounts.
const CLUSTER: &str = r#"["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:cloud-controller-manager"]"#;

/// The condition of this name, as CEL, for the operator of a namespace that runs as `user`.
pub(super) fn expression(name: &str, namespace: &str, user: &str) -> Option<String> {
    Some(match name {
        "not-the-operator" => format!("request.userInfo.username != {}", literal(user)),
        // Garbage collection, ends of namespaces, workloads, endpoints, volumes and whatever else there is: whoever has
        // kube-system has the cluster.
        "not-the-cluster" => format!(
            r#"!(request.userInfo.username.startsWith("system:serviceaccount:kube-system:") || request.userInfo.username in {CLUSTER})"#
        ),
        "not-going" => "!has(oldObject.metadata.deletionTimestamp)".to_owned(),
        // Not even if somebody gives it the labels.
        "not-the-operator-itself" => format!(
            r#"!(request.resource.resource == "deployments" && oldObject.metadata.name == {} && request.namespace == {})"#,
            literal(MANAGER),
            literal(namespace)
        ),
        // A selector looks at the object as it will be, too.
        "was-made-by-the-operator" => has("labels", PROTECTED, r#" == "true""#),
        "the-glass-is-whole" => format!("!({})", is_broken()),
        "a-change-or-the-glass-is-broken" => format!(r#"request.operation == "UPDATE" || ({})"#, is_broken()),
        _ => return None,
    })
}

/// As [`broken`](crate::protection::judge::broken) judges it: a reason that says nothing is none.
fn is_broken() -> String {
    has("annotations", BREAK_GLASS, r#".trim() != """#)
}

/// That an object has a label or an annotation of which something holds.
fn has(of: &str, name: &str, holds: &str) -> String {
    let name = literal(name);
    format!(
        "has(oldObject.metadata.{of}) && {name} in oldObject.metadata.{of} && oldObject.metadata.{of}[{name}]{holds}"
    )
}

/// A text in CEL, in which a quotation mark would end it.
pub(super) fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
