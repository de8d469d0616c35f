//! Who may read.

use std::path::Path;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::PostParams;
use multinic_controller::inventory::Inventory;
use multinic_controller::inventory::access::Access;
use multinic_controller::inventory::server::Limits;
use multinic_testbed::kubernetes::{ControlPlane, FaultProxy};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::bench::*;

const LIST: &str = "/v1/inventory/node-configs";

async fn status(served: &Served, path: &str, token: &str) -> u16 {
    let request = served.client.get(served.url(path)).header("authorization", format!("Bearer {token}"));
    request.send().await.unwrap().status().as_u16()
}

/// As Kubernetes does it: a new file takes the place of the old.
fn rotate(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

#[tokio::test]
async fn only_who_shows_the_token_reads() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first-token\n").unwrap();
    let bench =
        Bench::with(&["--inventory-token-file", file.to_str().unwrap()], Limits::default(), None).await;
    assert_eq!(bench.text(LIST).await, (401, "unauthorized".into()));
    assert_eq!(bench.get(LIST).await.headers()["www-authenticate"], "Bearer");
    for wrong in ["", "first-toke", "first-token2", "FIRST-TOKEN"] {
        assert_eq!(status(&bench, LIST, wrong).await, 401, "{wrong}");
    }
    let basic = bench.client.get(bench.url(LIST)).header("authorization", "Basic first-token").send().await;
    assert_eq!(basic.unwrap().status(), 401);
    for path in [LIST, "/v1/interfaces/providers", "/v1/interfaces/node-configs/watch"] {
        assert_eq!(status(&bench, path, "first-token").await, 200);
        assert_eq!(bench.get(path).await.status(), 401);
    }
    // Whoever looks after the process has no token, and the description holds no data.
    for path in ["/healthz", "/openapi.yaml", "/openapi.json", "/docs"] {
        assert_eq!(bench.get(path).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_rotated_token_counts_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    rotate(&file, "one");
    let bench =
        Bench::with(&["--inventory-token-file", file.to_str().unwrap()], Limits::default(), None).await;
    assert_eq!(status(&bench, LIST, "one").await, 200);
    rotate(&file, "one\ntwo\n");
    assert_eq!([status(&bench, LIST, "one").await, status(&bench, LIST, "two").await], [200, 200]);
    rotate(&file, "two");
    assert_eq!([status(&bench, LIST, "one").await, status(&bench, LIST, "two").await], [401, 200]);
    std::fs::remove_file(&file).unwrap();
    let (code, text) = {
        let request = bench.client.get(bench.url(LIST)).bearer_auth("two").send().await.unwrap();
        (request.status().as_u16(), request.text().await.unwrap())
    };
    assert_eq!((code, text.as_str()), (503, "the file of tokens cannot be read"));
}

#[tokio::test]
async fn a_file_without_a_token_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let db = folder.path().join("inventory.db");
    let args =
        ["--inventory-db-path", db.to_str().unwrap(), "--inventory-token-file", file.to_str().unwrap()];
    for text in [None, Some(""), Some(" \n\n")] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let error = Inventory::open(&settings(&args), None).await.unwrap_err().to_string();
        assert!(error.contains("INVENTORY_TOKEN_FILE") && error.contains(file.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn kubernetes_says_who_reads() {
    if !ControlPlane::installed() {
        return;
    }
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let cluster = ControlPlane::shared().unwrap();
    let client = cluster.admin().client().unwrap();
    let role: ClusterRole = serde_json::from_value(json!({
        "metadata": {"name": "inventory-reader"},
        "rules": [{"nonResourceURLs": ["/v1/inventory/*"], "verbs": ["get"]}]
    }))
    .unwrap();
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "inventory-reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "inventory-reader"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "reader"}]
    }))
    .unwrap();
    let post = PostParams::default();
    Api::all(client.clone()).create(&post, &role).await.unwrap();
    Api::all(client.clone()).create(&post, &binding).await.unwrap();
    let token = async |name: &str| {
        let access = cluster.service_account("default", name).await.unwrap();
        access.token().unwrap().expose_secret().to_owned()
    };
    let (reader, stranger) = (token("reader").await, token("stranger").await);
    let bench =
        Bench::with(&[], Limits::default(), Some(Access::by_review(client.clone(), Vec::new()))).await;
    assert_eq!(bench.get(LIST).await.status(), 401);
    assert_eq!(status(&bench, LIST, "nobody").await, 401);
    // The role takes a moment to be known.
    until("the reader reads", async || {
        let access = Access::by_review(client.clone(), Vec::new());
        let mut headers = axum::http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {reader}").parse().unwrap());
        access.check(&headers, LIST).await.is_ok()
    })
    .await;
    assert_eq!(status(&bench, LIST, &reader).await, 200);
    assert_eq!(status(&bench, "/v1/interfaces/providers", &reader).await, 403);
    let denied = bench.client.get(bench.url(LIST)).bearer_auth(&stranger).send().await.unwrap();
    assert_eq!(denied.status(), 403);
    let text = denied.text().await.unwrap();
    assert!(text.contains("system:serviceaccount:default:stranger") && !text.contains(&stranger), "{text}");

    // One question about a token, whatever it is shown for, and one about each path.
    let proxy = FaultProxy::start(cluster).unwrap();
    let through = proxy.access(cluster.admin()).client().unwrap();
    let bench = Bench::with(&[], Limits::default(), Some(Access::by_review(through, Vec::new()))).await;
    for _ in 0..2 {
        assert_eq!(status(&bench, LIST, "nobody").await, 401);
        assert_eq!(status(&bench, "/v1/interfaces/providers", "nobody").await, 401);
        assert_eq!(status(&bench, LIST, &reader).await, 200);
        assert_eq!(status(&bench, "/v1/inventory/node-configs/nowhere", &reader).await, 404);
        assert_eq!(status(&bench, "/v1/interfaces/providers", &reader).await, 403);
    }
    assert_eq!(proxy.count("create", "tokenreviews"), 2);
    assert_eq!(proxy.count("create", "subjectaccessreviews"), 3);

    let other = Access::by_review(client, vec!["https://inventory.example".into()]);
    let bench = Bench::with(&[], Limits::default(), Some(other)).await;
    assert_eq!(status(&bench, LIST, &reader).await, 401);
}

#[tokio::test]
async fn it_speaks_tls_and_takes_a_new_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
    let renew = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        rotate(&certificate, &made.cert.pem());
        rotate(&key, &made.signing_key.serialize_pem());
        reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
    };
    let first = renew();
    let args = [
        "--inventory-tls-cert-file",
        certificate.to_str().unwrap(),
        "--inventory-tls-key-file",
        key.to_str().unwrap(),
    ];
    let bench = Bench::with(&args, Limits::default(), None).await;
    let url = format!("https://localhost:{}/healthz", bench.at.port());
    let trusting = |root| reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
    assert_eq!(trusting(first.clone()).get(&url).send().await.unwrap().text().await.unwrap(), "ok");
    assert!(bench.client.get(bench.url("/healthz")).send().await.is_err(), "plain text is not answered");
    let second = renew();
    until("the new certificate is shown", async || trusting(second.clone()).get(&url).send().await.is_ok())
        .await;
    assert!(trusting(first).get(&url).send().await.is_err());
}
