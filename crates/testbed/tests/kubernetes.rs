//! A real Kubernetes API for tests: what it allows, what it refuses, and how it comes and goes.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hyper::Request;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource as _};
use multinic_testbed::kubernetes::{ControlPlane, FaultProxy, KubernetesError};
use multinic_testbed::node::NetNs;

fn config_map(name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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

    control_plane.pause();
    let waiting = tokio::time::timeout(Duration::from_millis(300), maps.get("kept"));
    waiting.await.unwrap_err();
    control_plane.resume();
    maps.get("kept").await.unwrap();
}

#[test]
fn a_server_that_does_not_start_says_why_and_leaves_its_log() {
    if !ControlPlane::installed() {
        return;
    }
    let error = ControlPlane::options().argument("--no-such-flag").start().err().unwrap();
    assert!(error.to_string().contains("unknown flag: --no-such-flag"), "{error}");
    let KubernetesError::NotUp { log, .. } = error else { unreachable!("{error}") };
    assert!(log.is_file());
    fs::remove_dir_all(log.parent().unwrap()).unwrap();
}

#[tokio::test]
async fn a_kubeconfig_works_within_a_namespace() {
    if !ControlPlane::installed() {
        return;
    }
    let control_plane = ControlPlane::shared().unwrap();
    let node = NetNs::new("node").unwrap();
    let url = control_plane.reach_from(&node, "127.0.0.1".parse().unwrap()).unwrap();
    let kubeconfig = control_plane.user("alice", &[]).unwrap().at(&url).kubeconfig();
    let name = node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).unwrap();
            let config =
                Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
            who_am_i(Client::try_from(config).unwrap()).await.username
        })
    });
    assert_eq!(name.unwrap().as_deref(), Some("alice"));
}

#[tokio::test]
async fn the_controllers_remove_what_has_lost_its_owner() {
    if !ControlPlane::installed() {
        return;
    }
    let mut control_plane = ControlPlane::start().unwrap();
    // They belong to a cluster; what is required here is the API server.
    match control_plane.start_controllers() {
        Err(KubernetesError::Missing { program, .. }) => return eprintln!("SKIPPED: {program} is not there"),
        started => started.unwrap(),
    }
    let maps: Api<ConfigMap> = Api::namespaced(control_plane.client().unwrap(), "default");
    let owner = maps.create(&PostParams::default(), &config_map("owner")).await.unwrap();
    let mut owned = config_map("owned");
    owned.metadata.owner_references = owner.owner_ref(&()).map(|owner| vec![owner]);
    maps.create(&PostParams::default(), &owned).await.unwrap();
    maps.delete("owner", &DeleteParams::default()).await.unwrap();
    eventually("the garbage collector", async || maps.get_opt("owned").await.unwrap().is_none()).await;
}

/// A proxy, a way in through it for the administrator that says at once what it hears, and a namespace.
async fn proxied() -> (FaultProxy, Client, String) {
    let control_plane = ControlPlane::shared().unwrap();
    let proxy = FaultProxy::start(control_plane).unwrap();
    let mut config = proxy.access(control_plane.admin()).config().unwrap();
    config.default_retry = false;
    let namespace = control_plane.new_namespace("proxied").await.unwrap();
    (proxy, Client::try_from(config).unwrap(), namespace)
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

#[tokio::test]
async fn the_proxy_shows_the_api_server_who_asks_and_counts() {
    if !ControlPlane::installed() {
        return;
    }
    let (proxy, _, namespace) = proxied().await;
    let control_plane = ControlPlane::shared().unwrap();
    let alice = proxy.access(&control_plane.user("alice", &["dev"]).unwrap()).client().unwrap();
    assert_eq!(who_am_i(alice.clone()).await.username.as_deref(), Some("alice"));
    let pod = control_plane.pod(&namespace, "agent", "agent", "node-1").await.unwrap();
    let pod = who_am_i(proxy.access(&pod).client().unwrap()).await;
    assert_eq!(pod.username, Some(format!("system:serviceaccount:{namespace}:agent")));
    let nobody = proxy.access(&control_plane.anonymous()).client().unwrap();
    let refused = Api::<Namespace>::all(nobody).list(&ListParams::default()).await.unwrap_err();
    assert!(refused.to_string().contains("system:anonymous"), "{refused}");
    assert_eq!(proxy.count("list", "namespaces"), 1);
    assert_eq!(proxy.count("create", "selfsubjectreviews"), 2);
}

#[tokio::test]
async fn a_watch_breaks_on_command_and_after_a_time() {
    if !ControlPlane::installed() {
        return;
    }
    let (proxy, client, namespace) = proxied().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    maps.create(&PostParams::default(), &config_map("seen")).await.unwrap();

    let mut watch = pin!(maps.watch(&WatchParams::default(), "0").await.unwrap());
    let first = watch.next().await.unwrap().unwrap();
    assert!(matches!(first, WatchEvent::Added(map) if map.metadata.name.as_deref() == Some("seen")));
    assert_eq!(proxy.cut_watches(), 1);
    while let Some(Ok(event)) = watch.next().await {
        assert!(!matches!(event, WatchEvent::Error(_)), "{event:?}");
    }
    eventually("the end of the watch", async || proxy.open_watches() == 0).await;

    proxy.limit_watches(Some(Duration::from_millis(1)..Duration::from_millis(50)));
    let mut watch = pin!(maps.watch(&WatchParams::default(), "0").await.unwrap());
    while let Some(Ok(_)) = watch.next().await {}
    assert_eq!(proxy.count("watch", "configmaps"), 2);
}

#[tokio::test]
async fn every_write_meets_one_conflict() {
    if !ControlPlane::installed() {
        return;
    }
    let (proxy, client, namespace) = proxied().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    proxy.conflict_once(true);
    for name in ["a", "b"] {
        let refused = maps.create(&PostParams::default(), &config_map(name)).await.unwrap_err();
        assert_eq!(code(&refused), Some(409), "{refused}");
        maps.create(&PostParams::default(), &config_map(name)).await.unwrap();
        maps.get(name).await.unwrap();
        let refused = maps.delete(name, &DeleteParams::default()).await.unwrap_err();
        assert_eq!(code(&refused), Some(409), "{refused}");
        maps.delete(name, &DeleteParams::default()).await.unwrap();
    }
    assert_eq!(proxy.count("create", "configmaps"), 4);
    assert_eq!(proxy.records().iter().filter(|record| record.fault).count(), 4);
    proxy.heal();
    maps.create(&PostParams::default(), &config_map("c")).await.unwrap();
}

#[tokio::test]
async fn a_version_is_gone_for_the_next_list_and_watch() {
    if !ControlPlane::installed() {
        return;
    }
    let (proxy, client, namespace) = proxied().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    proxy.expire_next("configmaps", 2);
    let refused = maps.list(&ListParams::default()).await.unwrap_err();
    assert_eq!(code(&refused), Some(410), "{refused}");
    let mut watch = pin!(maps.watch(&WatchParams::default(), "0").await.unwrap());
    let event = watch.next().await.unwrap().unwrap();
    assert!(matches!(&event, WatchEvent::Error(status) if status.code == 410), "{event:?}");
    maps.list(&ListParams::default()).await.unwrap();
}

#[tokio::test]
async fn nothing_but_a_page_is_there_for_a_while() {
    if !ControlPlane::installed() {
        return;
    }
    let (proxy, client, namespace) = proxied().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    proxy.set_unavailable(true);
    let refused = maps.list(&ListParams::default()).await.unwrap_err();
    assert_eq!(code(&refused), Some(503), "{refused}");
    let page = client.send(Request::get("/readyz").body(Vec::new().into()).unwrap()).await.unwrap();
    assert_eq!(page.headers().get("content-type").unwrap(), "text/html");
    proxy.set_unavailable(false);

    let latency = Duration::from_millis(200);
    proxy.set_latency(latency);
    let start = Instant::now();
    maps.list(&ListParams::default()).await.unwrap();
    assert!(start.elapsed() >= latency);
    assert_eq!(proxy.counts().get(&("list".to_owned(), "configmaps".to_owned())), Some(&2));
}
