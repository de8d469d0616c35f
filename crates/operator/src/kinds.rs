//! The kinds of objects that the operator makes, and how one of them is named.

use std::fmt;

use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::{Api, Client};

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Its place in the order in which objects are made: what others name comes before them.
    order: usize,
    /// `apps`; empty for the oldest group.
    pub group: &'static str,
    /// `v1`.
    pub version: &'static str,
    /// `Deployment`.
    pub name: &'static str,
    /// `deployments`.
    pub plural: &'static str,
    /// Whether its objects are in namespaces.
    pub is_namespaced: bool,
}

const fn kind(
    order: usize,
    group: &'static str,
    name: &'static str,
    plural: &'static str,
    is_namespaced: bool,
) -> Kind {
    Kind { order, group, version: "v1", name, plural, is_namespaced }
}

pub(crate) const ADMISSION: &str = "admissionregistration.k8s.io";
pub(crate) const NETWORK_POLICY: &str = "NetworkPolicy";
const RBAC: &str = "rbac.authorization.k8s.io";

/// Every kind, in the order in which objects are made. They are removed in the opposite order.
pub static KINDS: [Kind; 18] = [
    kind(0, ADMISSION, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", false),
    kind(1, ADMISSION, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", false),
    kind(2, "", "ServiceAccount", "serviceaccounts", true),
    kind(3, RBAC, "ClusterRole", "clusterroles", false),
    kind(4, RBAC, "ClusterRoleBinding", "clusterrolebindings", false),
    kind(5, RBAC, "Role", "roles", true),
    kind(6, RBAC, "RoleBinding", "rolebindings", true),
    kind(7, "", "Secret", "secrets", true),
    kind(8, "", "ConfigMap", "configmaps", true),
    kind(9, "", "Service", "services", true),
    kind(10, "networking.k8s.io", NETWORK_POLICY, "networkpolicies", true),
    kind(11, "policy", "PodDisruptionBudget", "poddisruptionbudgets", true),
    kind(12, "", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    kind(13, "apps", "StatefulSet", "statefulsets", true),
    kind(14, "apps", "Deployment", "deployments", true),
    kind(15, "apps", "DaemonSet", "daemonsets", true),
    kind(16, "batch", "CronJob", "cronjobs", true),
    // Last: API servers ask when the certificate is there to answer with, and no longer when anything goes.
    kind(17, ADMISSION, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", false),
];

/// Where events about a Node are, which has no namespace: agents need a right there.
pub const EVENTS_NAMESPACE: &str = "default";

impl Kind {
    /// The kind of this group and name, if the operator makes such objects.
    pub fn find(group: &str, name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.group == group && kind.name == name)
    }

    /// `apps/v1`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// For a client that knows no types.
    pub fn resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version: self.api_version(),
            kind: self.name.to_owned(),
            plural: self.plural.to_owned(),
        }
    }

    /// Where objects of this kind may be, for an operator in `namespace`; none is the cluster.
    pub fn places<'a>(&self, namespace: &'a str) -> Vec<Option<&'a str>> {
        if !self.is_namespaced {
            return vec![None];
        }
        let has_more = matches!(self.name, "Role" | "RoleBinding") && namespace != EVENTS_NAMESPACE;
        let more = has_more.then_some(Some(EVENTS_NAMESPACE));
        [Some(namespace)].into_iter().chain(more).collect()
    }
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: &'static Kind,
    /// Its namespace, if its kind has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Whether it is this one. Of the kinds that it is asked for, each name is in one namespace.
    pub fn is(&self, kind: &str, name: &str) -> bool {
        self.kind.name == kind && self.name == name
    }

    /// Where it is asked for.
    pub fn api(&self, client: Client) -> Api<DynamicObject> {
        let resource = self.kind.resource();
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        }
    }
}

/// `Deployment multinic-controller`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_in_the_order_in_which_they_are_listed() {
        assert!(KINDS.is_sorted() && KINDS.iter().enumerate().all(|(place, kind)| kind.order == place));
    }

    #[test]
    fn roles_are_looked_for_where_events_about_nodes_are() {
        let role = Kind::find(RBAC, "Role").map(|kind| kind.places("a"));
        assert_eq!(role, Some(vec![Some("a"), Some("default")]));
        let role = Kind::find(RBAC, "Role").map(|kind| kind.places("default"));
        assert_eq!(role, Some(vec![Some("default")]));
        assert_eq!(Kind::find("apps", "Deployment").map(|kind| kind.places("a")), Some(vec![Some("a")]));
        assert_eq!(Kind::find(RBAC, "ClusterRole").map(|kind| kind.places("a")), Some(vec![None]));
    }
}
