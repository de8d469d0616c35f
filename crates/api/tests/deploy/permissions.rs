//! What the ServiceAccounts may do: everything that the programs need, and nothing else.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::kubectl::Site;

const OURS: &str = "multinic-system";
const OTHER: &str = "elsewhere";

/// Verb, group, resource (with subresource), namespace, name; empty is any, or none.
type Act = (&'static str, &'static str, &'static str, &'static str, &'static str);

const CONFIGS: &str = "multinic.example.com";
const NODES: &str = "multinic.io";

const CONTROLLER_NEEDS: &[Act] = &[
    ("list", CONFIGS, "openstackconfigs", "", ""),
    ("watch", CONFIGS, "openstackconfigs", "", ""),
    ("get", CONFIGS, "openstackconfigs", OTHER, "a"),
    ("patch", CONFIGS, "openstackconfigs", OTHER, "a"),
    ("patch", CONFIGS, "openstackconfigs/status", OTHER, "a"),
    ("update", CONFIGS, "openstackconfigs/finalizers", OTHER, "a"),
    ("get", "apiextensions.k8s.io", "customresourcedefinitions", "", "openstackconfigs.multinic.example.com"),
    ("get", "", "secrets", OTHER, "a"),
    ("create", "", "secrets", OTHER, ""),
    ("patch", "", "secrets", OTHER, "rabbitmq-a"),
    ("get", "", "nodes", "", "worker-1"),
    ("create", "events.k8s.io", "events", "default", ""),
    ("patch", "events.k8s.io", "events", OTHER, "a"),
    ("create", "authentication.k8s.io", "tokenreviews", "", ""),
    ("create", "authorization.k8s.io", "subjectaccessreviews", "", ""),
    ("list", NODES, "multinicnodeconfigs", OURS, ""),
    ("watch", NODES, "multinicnodeconfigs", OURS, ""),
    ("get", NODES, "multinicnodeconfigs", OURS, "worker-1"),
    ("create", NODES, "multinicnodeconfigs", OURS, ""),
    ("patch", NODES, "multinicnodeconfigs", OURS, "worker-1"),
    ("delete", NODES, "multinicnodeconfigs", OURS, "worker-1"),
    ("create", "coordination.k8s.io", "leases", OURS, ""),
    ("get", "coordination.k8s.io", "leases", OURS, "multinic-controller"),
    ("update", "coordination.k8s.io", "leases", OURS, "multinic-controller"),
];

const CONTROLLER_LACKS: &[Act] = &[
    ("create", CONFIGS, "openstackconfigs", OTHER, ""),
    ("update", CONFIGS, "openstackconfigs", OTHER, "a"),
    ("delete", CONFIGS, "openstackconfigs", OTHER, "a"),
    ("deletecollection", CONFIGS, "openstackconfigs", OTHER, ""),
    ("get", CONFIGS, "multinicoperators", OURS, "a"),
    (
        "patch",
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "",
        "openstackconfigs.multinic.example.com",
    ),
    ("get", "apiextensions.k8s.io", "customresourcedefinitions", "", "multinicnodeconfigs.multinic.io"),
    ("update", "", "secrets", OTHER, "rabbitmq-a"),
    ("list", "", "secrets", OTHER, ""),
    ("watch", "", "secrets", "", ""),
    ("delete", "", "secrets", OTHER, "rabbitmq-a"),
    ("list", "", "nodes", "", ""),
    ("patch", "", "nodes", "", "worker-1"),
    ("patch", "", "nodes/status", "", "worker-1"),
    ("list", "", "pods", OURS, ""),
    ("create", "", "pods", OURS, ""),
    ("create", "", "pods/exec", OURS, "a"),
    ("create", "", "serviceaccounts/token", OURS, "multinic-agent"),
    ("get", "", "configmaps", OURS, "operator-config"),
    ("list", "", "namespaces", "", ""),
    ("get", "events.k8s.io", "events", OTHER, "a"),
    ("list", NODES, "multinicnodeconfigs", "", ""),
    ("get", NODES, "multinicnodeconfigs", OTHER, "worker-1"),
    ("create", NODES, "multinicnodeconfigs", OTHER, ""),
    ("update", NODES, "multinicnodeconfigs", OURS, "worker-1"),
    ("deletecollection", NODES, "multinicnodeconfigs", OURS, ""),
    ("patch", NODES, "multinicnodeconfigs/status", OURS, "worker-1"),
    ("get", "coordination.k8s.io", "leases", OURS, "another"),
    ("update", "coordination.k8s.io", "leases", "kube-system", "kube-scheduler"),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings", "", ""),
    ("patch", "rbac.authorization.k8s.io", "clusterroles", "", "multinic-controller"),
    (
        "patch",
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
        "",
        "multinic-controller-secrets",
    ),
    ("impersonate", "", "users", "", "admin"),
    ("patch", "apps", "deployments", OURS, "multinic-controller"),
    ("patch", "apps", "daemonsets", OURS, "multinic-agent"),
];

const VIOLA_NEEDS: &[Act] = &[
    ("get", NODES, "multinicnodeconfigs", OURS, "worker-1"),
    ("create", NODES, "multinicnodeconfigs", OURS, ""),
    ("patch", NODES, "multinicnodeconfigs", OURS, "worker-1"),
    ("delete", NODES, "multinicnodeconfigs", OURS, "worker-1"),
];

const VIOLA_LACKS: &[Act] = &[
    ("get", CONFIGS, "openstackconfigs", OURS, "a"),
    ("list", NODES, "multinicnodeconfigs", OURS, ""),
    ("get", NODES, "multinicnodeconfigs", OTHER, "worker-1"),
    ("patch", NODES, "multinicnodeconfigs/status", OURS, "worker-1"),
    ("deletecollection", NODES, "multinicnodeconfigs", OURS, ""),
    ("get", "", "secrets", OURS, "viola-routing"),
    ("get", "", "nodes", "", "worker-1"),
    ("get", "coordination.k8s.io", "leases", OURS, "multinic-controller"),
];

async fn may(client: &Client, (verb, group, resource, namespace, name): Act) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let attributes = ResourceAttributes {
        verb: some(verb),
        group: some(group),
        resource: some(resource),
        subresource: some(subresource),
        namespace: some(namespace),
        name: some(name),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

/// Every right that the client has in a namespace, one a line, without those of everybody.
async fn rights(client: &Client, namespace: &str) -> BTreeSet<String> {
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) };
    let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    let reviews: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let status = reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap();
    assert!(!status.incomplete);
    let mut rights = BTreeSet::new();
    for rule in status.resource_rules {
        for verb in &rule.verbs {
            for group in rule.api_groups.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    let names = rule.resource_names.clone().unwrap_or_default().join(",");
                    rights.insert(format!("{verb} {group}/{resource} {names}").trim_end().to_owned());
                }
            }
        }
    }
    rights.retain(|right| {
        !right.starts_with("create authorization.k8s.io/selfsubject")
            && !right.starts_with("create authentication.k8s.io/selfsubject")
    });
    rights
}

async fn client_of(site: &Site, account: &str) -> Client {
    site.control_plane.service_account(OURS, account).await.unwrap().client().unwrap()
}

#[tokio::test]
async fn controller_and_viola_may_do_what_they_need_and_nothing_else() {
    let Some(site) = Site::deployed() else { return };
    for (account, needs, lacks) in [
        ("multinic-controller", CONTROLLER_NEEDS, CONTROLLER_LACKS),
        ("multinic-viola", VIOLA_NEEDS, VIOLA_LACKS),
    ] {
        let client = client_of(&site, account).await;
        for act in needs {
            assert!(may(&client, *act).await, "{account} may not {act:?}");
        }
        for act in lacks {
            assert!(!may(&client, *act).await, "{account} may {act:?}");
        }
        // What is needed is all that there is.
        for namespace in [OURS, OTHER] {
            let expected = needs.iter().filter(|(_, _, _, place, _)| namespace == OURS || *place != OURS);
            let expected: BTreeSet<String> = expected
                .map(|(verb, group, resource, _, name)| {
                    // RBAC names objects of these only.
                    let named =
                        matches!(*resource, "customresourcedefinitions" | "leases") && *verb != "create";
                    let name = if named { *name } else { "" };
                    format!("{verb} {group}/{resource} {name}").trim_end().to_owned()
                })
                .collect();
            assert_eq!(rights(&client, namespace).await, expected, "{account} in {namespace}");
        }
    }
}

#[tokio::test]
async fn those_who_may_edit_or_view_a_namespace_may_do_so_with_our_resources() {
    let Some(site) = Site::deployed() else { return };
    site.kubectl(&["create", "namespace", OTHER]);
    for (role, of) in [("multinic-view", &["view"][..]), ("multinic-edit", &["edit", "admin"])] {
        let binding = ["create", "rolebinding", role, "-n", OTHER, "--clusterrole", role, "--user", role];
        site.kubectl(&binding);
        // By these labels a controller makes them part of the roles that everybody knows.
        for of in of {
            let label = format!("rbac.authorization.k8s.io/aggregate-to-{of}=true");
            let labelled = site.kubectl(&["get", "clusterroles", "-l", &label, "-o", "name"]);
            assert!(labelled.contains(&format!("/{role}\n")), "{role} is not in {of}");
        }
    }
    for (user, act, expected) in [
        ("multinic-edit", ("create", CONFIGS, "openstackconfigs", OTHER, ""), true),
        ("multinic-edit", ("delete", CONFIGS, "openstackconfigs", OTHER, "a"), true),
        ("multinic-edit", ("patch", CONFIGS, "openstackconfigs/status", OTHER, "a"), false),
        ("multinic-edit", ("patch", NODES, "multinicnodeconfigs", OTHER, "worker-1"), false),
        ("multinic-view", ("get", NODES, "multinicnodeconfigs", OTHER, "worker-1"), true),
        // It may hold a password.
        ("multinic-view", ("get", CONFIGS, "openstackconfigs", OTHER, "a"), false),
    ] {
        let client = site.control_plane.client_for(user, &[]).unwrap();
        assert_eq!(may(&client, act).await, expected, "{user}: {act:?}");
    }
}
