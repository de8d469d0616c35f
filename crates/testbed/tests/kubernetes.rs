//! A real Kubernetes API for tests: what it allows, what it refuses, and how it comes and goes.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use multinic_testbed::kubernetes::ControlPlane;

fn config_map(name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

async fn who_am_i(client: Client) -> UserInfo {
    let reviews: Api<SelfSubjectReview> = Api::all(client);
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    review.status.unwrap().user_info.unwrap()
}

#[tokio::test]
async fn the_administrator_may_do_everything_and_a_stranger_nothing() {
    if !ControlPlane::installed() {
        return;
    }
    let control_plane = ControlPlane::shared().unwrap();
    let namespaces: Api<Namespace> = Api::all(control_plane.client().unwrap());
    let names: Vec<_> = namespaces.list(&ListParams::default()).await.unwrap().items;
    assert!(names.iter().any(|namespace| namespace.metadata.name.as_deref() == Some("kube-system")));

    let client = control_plane.client_for("alice", &["dev", "ops"]).unwrap();
    let user = who_am_i(client.clone()).await;
    assert_eq!(user.username.as_deref(), Some("alice"));
    assert_eq!(user.groups.unwrap(), ["dev", "ops", "system:authenticated"]);
    let refused = Api::<Namespace>::all(client).list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
}

#[tokio::test]
async fn a_token_of_a_pod_carries_the_names_of_pod_and_node() {
    if !ControlPlane::installed() {
        return;
    }
    let control_plane = ControlPlane::shared().unwrap();
    let pod = control_plane.pod("multinic-system", "agent", "agent-abcde", "node-1").await.unwrap();
    let user = who_am_i(pod.client().unwrap()).await;
    assert_eq!(user.username.as_deref(), Some("system:serviceaccount:multinic-system:agent"));
    let extra: BTreeMap<String, Vec<String>> = user.extra.unwrap();
    assert_eq!(extra.get("authentication.kubernetes.io/node-name").unwrap(), &["node-1"]);
    assert_eq!(extra.get("authentication.kubernetes.io/pod-name").unwrap(), &["agent-abcde"]);

    let account = control_plane.service_account("multinic-system", "agent").await.unwrap();
    let user = who_am_i(account.client().unwrap()).await;
    assert!(!user.extra.unwrap().contains_key("authentication.kubernetes.io/node-name"));
}

#[tokio::test]
async fn a_restart_keeps_port_and_objects() {
    if !ControlPlane::installed() {
        return;
    }
    let mut control_plane = ControlPlane::start().unwrap();
    let url = control_plane.url().to_owned();
    let maps: Api<ConfigMap> = Api::namespaced(control_plane.client().unwrap(), "default");
    maps.create(&PostParams::default(), &config_map("kept")).await.unwrap();
    control_plane.kill();
    maps.get("kept").await.unwrap_err();
    control_plane.restart().unwrap();
    maps.get("kept").await.unwrap();
    control_plane.restart().unwrap();
    maps.get("kept").await.unwrap();
    assert_eq!(control_plane.url(), url);
}
