//! What the token of an agent's pod may do with the manifests of `deploy/agent`, and what not.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::{Cluster, NAMESPACE, interface, resource, run};
use crate::database::nic;
use crate::world::World;

fn attributes(verb: &str, group: &str, resource: &str, namespace: &str) -> ResourceAttributes {
    let (resource, subresource) = resource.split_once('/').map_or((resource, None), |(a, b)| (a, Some(b)));
    ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        namespace: Some(namespace.to_owned()),
        ..ResourceAttributes::default()
    }
}

async fn may(client: &Client, attributes: ResourceAttributes) -> bool {
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

/// Everything that an agent needs: verb, group, resource, namespace.
const NEEDED: [(&str, &str, &str, &str); 8] = [
    ("get", "multinic.io", "multinicnodeconfigs", NAMESPACE),
    ("list", "multinic.io", "multinicnodeconfigs", NAMESPACE),
    ("watch", "multinic.io", "multinicnodeconfigs", NAMESPACE),
    ("patch", "multinic.io", "multinicnodeconfigs", NAMESPACE),
    ("patch", "multinic.io", "multinicnodeconfigs/status", NAMESPACE),
    ("patch", "", "nodes", ""),
    ("create", "events.k8s.io", "events", "default"),
    ("patch", "events.k8s.io", "events", "default"),
];

#[test]
fn rbac_allows_what_is_needed_and_nothing_else() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    run(async {
        let client = cluster.access.client().unwrap();
        for (verb, group, resource, namespace) in NEEDED {
            assert!(may(&client, attributes(verb, group, resource, namespace)).await, "{verb} {resource}");
        }
        let own = ResourceAttributes {
            name: Some(NAMESPACE.to_owned()),
            ..attributes("get", "", "namespaces", NAMESPACE)
        };
        assert!(may(&client, own).await, "get of the objects' namespace");
        // `get` of the status is part of reading the object.
        let also = [("get", "multinic.io", "multinicnodeconfigs/status", NAMESPACE)];
        let verbs = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
        let things = [
            ("multinic.io", "multinicnodeconfigs"),
            ("multinic.io", "multinicnodeconfigs/status"),
            ("multinic.io", "multinicnodeconfigs/finalizers"),
            ("multinic.example.com", "openstackconfigs"),
            ("", "nodes"),
            ("", "nodes/status"),
            ("", "nodes/proxy"),
            ("", "namespaces"),
            ("", "pods"),
            ("", "pods/exec"),
            ("", "secrets"),
            ("", "configmaps"),
            ("", "events"),
            ("", "serviceaccounts/token"),
            ("events.k8s.io", "events"),
            ("batch", "jobs"),
            ("apps", "daemonsets"),
            ("coordination.k8s.io", "leases"),
            ("rbac.authorization.k8s.io", "clusterroles"),
            ("apiextensions.k8s.io", "customresourcedefinitions"),
            ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ];
        let mut denied = 0;
        for (group, resource) in things {
            for verb in verbs {
                for namespace in [NAMESPACE, "default", "kube-system", ""] {
                    let asked = (verb, group, resource, namespace);
                    // Nodes have no namespace, so that the question about one is the question about all.
                    let same = |known: &&(&str, &str, &str, &str)| {
                        (known.0, known.1, known.2) == (verb, group, resource)
                            && (known.3 == namespace || resource == "nodes")
                    };
                    if NEEDED.iter().chain(&also).any(|known| same(&known)) {
                        continue;
                    }
                    assert!(!may(&client, attributes(verb, group, resource, namespace)).await, "{asked:?}");
                    denied += 1;
                }
            }
        }
        println!("{} allowed, {denied} denied", NEEDED.len() + also.len() + 1);
    });
}

/// How a patch of somebody's object is taken: none where it is allowed.
async fn refusal(client: &Client, name: &str, status: bool, patch: &Value) -> Option<String> {
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource());
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
    let patched = if status {
        objects.patch_status(name, &parameters, &patch).await
    } else {
        objects.patch(name, &parameters, &patch).await
    };
    patched.err().map(|error| error.to_string())
}

#[test]
fn an_agent_writes_to_its_own_object_only_and_only_what_is_its_own() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let other = Cluster::new(&world).unwrap();
    cluster.apply(&[nic(0)]);
    other.apply(&[nic(1)]);
    let theirs = json!({"metadata": {"labels": {"a": "1"}, "finalizers": ["example.com/theirs"]}});
    cluster.patch(theirs);
    let both = json!(["example.com/theirs", "multinic.io/cleanup"]);
    let status = json!({"status": {"state": "Configured"}});
    let allowed = [
        (false, json!({"metadata": {"finalizers": both}})),
        (true, status.clone()),
        (false, json!({"metadata": {"finalizers": ["example.com/theirs"]}})),
    ];
    let denied = [
        ("does not change spec", json!({"spec": {"instanceId": "x"}})),
        ("does not change spec", json!({"spec": {"interfaces": [interface(&nic(5))]}})),
        ("no finalizer but", json!({"metadata": {"finalizers": null}})),
        ("no finalizer but", json!({"metadata": {"finalizers": ["example.com/theirs", "example.com/mine"]}})),
        ("no labels", json!({"metadata": {"labels": {"multinic.io/node-name": "x"}}})),
        ("no labels", json!({"metadata": {"labels": {"a": null}}})),
        ("no labels", json!({"metadata": {"annotations": {"multinic.io/orphan": "true"}}})),
        (
            "owners",
            json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "u"}]}}),
        ),
    ];
    run(async {
        let client = cluster.access.client().unwrap();
        for (of_status, patch) in allowed {
            assert_eq!(refusal(&client, &cluster.node, of_status, &patch).await, None, "{patch}");
        }
        for (why, patch) in denied {
            let text = refusal(&client, &cluster.node, false, &patch).await.unwrap_or_default();
            assert!(text.contains(why), "{patch}: {text:?}");
        }
        let finalizer = json!({"metadata": {"finalizers": ["multinic.io/cleanup"]}});
        for (of_status, patch) in [(false, finalizer), (true, status)] {
            let text = refusal(&client, &other.node, of_status, &patch).await.unwrap_or_default();
            assert!(text.contains("of that node only"), "{patch}: {text:?}");
        }
        // Reads cannot be told apart by node.
        let objects: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &resource());
        assert!(objects.list(&ListParams::default()).await.unwrap().items.len() >= 2);
        // A token that is bound to no pod names no node.
        let loose = cluster.plane.service_account(NAMESPACE, crate::cluster::SERVICE_ACCOUNT).await.unwrap();
        let patch = json!({"status": {"state": "Failed"}});
        let text = refusal(&loose.client().unwrap(), &cluster.node, true, &patch).await.unwrap_or_default();
        assert!(text.contains("names no node"), "{text:?}");
    });
    cluster.patch(json!({"metadata": {"finalizers": null}}));
}

#[test]
fn an_agent_writes_to_its_own_node_only_and_only_below_our_prefix() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let other = Cluster::new(&world).unwrap();
    let label = |key: &str, value: Value| json!({"metadata": {"labels": {key: value}}});
    let annotation = |key: &str, value: Value| json!({"metadata": {"annotations": {key: value}}});
    run(async {
        let admin: Api<Node> = Api::all(cluster.plane.client().unwrap());
        let prepared = json!({"metadata": {"labels": {"zone": "a"}, "annotations": {"note": "b"}}});
        admin.patch(&cluster.node, &PatchParams::default(), &Patch::Merge(prepared)).await.unwrap();
        let nodes: Api<Node> = Api::all(cluster.access.client().unwrap());
        let patch = async |name: &str, patch: &Value| {
            let patched = nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
            patched.err().map(|error| error.to_string())
        };
        for allowed in [
            label("multinic.io/interfaces", json!("2")),
            annotation("multinic.io/interfaces", json!("[]")),
            label("multinic.io/interfaces", Value::Null),
            annotation("multinic.io/interfaces", Value::Null),
        ] {
            assert_eq!(patch(&cluster.node, &allowed).await, None, "{allowed}");
        }
        for (why, denied) in [
            ("only labels", label("node-role.kubernetes.io/control-plane", json!(""))),
            ("only labels", label("zone", json!("b"))),
            ("only labels", label("zone", Value::Null)),
            ("only labels", label("evil-multinic.io/interfaces", json!("2"))),
            ("only annotations", annotation("note", json!("c"))),
            ("only annotations", annotation("note", Value::Null)),
            ("spec of a Node", json!({"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}})),
            ("spec of a Node", json!({"spec": {"unschedulable": true}})),
            ("finalizers", json!({"metadata": {"finalizers": ["multinic.io/cleanup"]}})),
        ] {
            let text = patch(&cluster.node, &denied).await.unwrap_or_default();
            assert!(text.contains(why), "{denied}: {text:?}");
        }
        let text = patch(&other.node, &label("multinic.io/interfaces", json!("2"))).await.unwrap_or_default();
        assert!(text.contains("that Node only"), "{text:?}");
        assert!(nodes.get(&cluster.node).await.is_err(), "not even reading");
    });
}
