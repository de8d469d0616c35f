//! Credentials by way of Contrabass.

use std::time::Duration;

use multinic_core::config::{CloudAccess, Credentials, Tls};
use multinic_openstack::{Cloud, CloudError, Gate};
use multinic_testbed::cloud_simulator::{Fault, Provider, Role, encrypt};

use crate::{Scene, client, scene};

const KEY: &str = "0123456789abcdef";
const PATH: &str = "/v1/contrabass/admin/infra/provider/";

fn provider(scene: &Scene, password: &str) -> Provider {
    Provider {
        keystone: scene.cloud.url().to_string(),
        admin: "root".to_owned(),
        domain: "default".to_owned(),
        encrypted_password: encrypt(KEY, password, [7; 16]).unwrap(),
        encrypted_broker_password: "not even Base64".to_owned(),
    }
}

fn access(scene: &Scene, id: &str, key: &str) -> CloudAccess {
    let credentials = Credentials::Provider {
        contrabass: scene.cloud.url().clone(),
        provider_id: id.to_owned(),
        key: key.into(),
        timeout: Duration::from_secs(5),
        tls: Tls::default(),
    };
    CloudAccess { credentials, ..scene.cloud.access() }
}

async fn with_provider(id: &str) -> Scene {
    let scene = scene().await;
    scene.cloud.add_user("root", "first", scene.cloud.project(), Role::Admin).unwrap();
    scene.cloud.set_provider(id, &provider(&scene, "first"));
    scene
}

#[tokio::test]
async fn a_provider_leads_to_the_cloud_whatever_its_brokers_password() {
    let scene = with_provider("p-1").await;
    client(&access(&scene, "p-1", KEY)).snapshot(&scene.selection()).await.unwrap();
}

#[tokio::test]
async fn keystones_url_may_have_its_version() {
    let scene = with_provider("p-1").await;
    let keystone = scene.cloud.url().join("v3").unwrap().to_string();
    scene.cloud.set_provider("p-1", &Provider { keystone, ..provider(&scene, "first") });
    client(&access(&scene, "p-1", KEY)).snapshot(&scene.selection()).await.unwrap();
}

#[tokio::test]
async fn an_id_is_escaped() {
    let id = "a b/../c?d#e%";
    let scene = with_provider(id).await;
    client(&access(&scene, id, KEY)).snapshot(&scene.selection()).await.unwrap();
    assert_eq!(scene.cloud.requests()[0].path, format!("{PATH}a%20b%2F..%2Fc%3Fd%23e%25"));
    let error = Cloud::new(&access(&scene, "..", KEY), Gate::default()).unwrap_err();
    assert_eq!(error.reason(), "ContrabassError", "{error}");
}

#[tokio::test]
async fn the_provider_is_read_once_and_again_when_keystone_refuses_it() {
    let scene = with_provider("p-1").await;
    let client = client(&access(&scene, "p-1", KEY));
    client.snapshot(&scene.selection()).await.unwrap();
    scene.cloud.expire_tokens();
    client.snapshot(&scene.selection()).await.unwrap();
    assert_eq!(scene.cloud.count(PATH), 1);

    scene.cloud.set_password("root", "second").unwrap();
    scene.cloud.expire_tokens();
    scene.cloud.set_provider("p-1", &provider(&scene, "second"));
    client.snapshot(&scene.selection()).await.unwrap();
    assert_eq!(scene.cloud.count(PATH), 2);
}

#[tokio::test]
async fn a_refused_password_is_not_tried_twice() {
    let scene = with_provider("p-1").await;
    let client = client(&access(&scene, "p-1", KEY));
    client.snapshot(&scene.selection()).await.unwrap();
    scene.cloud.set_password("root", "second").unwrap();
    scene.cloud.expire_tokens();
    scene.cloud.forget_requests();
    let error = client.snapshot(&scene.selection()).await.unwrap_err();
    assert!(matches!(error, CloudError::KeystoneRefused { .. }), "{error}");
    assert_eq!((scene.cloud.count(PATH), scene.cloud.count("/v3/auth/tokens")), (1, 1));
}

#[tokio::test]
async fn a_key_of_a_wrong_length_is_found_at_once() {
    let scene = scene().await;
    for length in [0, 15, 20, 33] {
        let access = access(&scene, "p-1", &"k".repeat(length));
        let error = Cloud::new(&access, Gate::default()).unwrap_err();
        assert!(matches!(error, CloudError::ContrabassKey(_)), "{error}");
        assert!(error.to_string().contains("16, 24 or 32"), "{error}");
        assert_eq!((error.reason(), error.retry()), ("ContrabassError", false));
    }
}

#[tokio::test]
async fn another_key_than_the_one_it_was_encrypted_with_is_said() {
    let scene = with_provider("p-1").await;
    let error =
        client(&access(&scene, "p-1", "fedcba9876543210")).snapshot(&scene.selection()).await.unwrap_err();
    assert!(matches!(error, CloudError::ContrabassPassword { .. }), "{error}");
    assert!(error.to_string().contains("another key") && error.to_string().contains("p-1"), "{error}");
}

#[tokio::test]
async fn what_is_no_provider_says_what_is_missing_and_quotes_nothing() {
    let scene = with_provider("p-1").await;
    let answer = |status, body: &str| Fault::Answer { status, headers: vec![], body: body.to_owned() };
    for (fault, word) in [
        (Fault::Html(200), "HTML page"),
        (Fault::Truncated, "line 1"),
        (answer(200, r#"{"returnCode": "500", "returnMessage": "BROKEN", "data": null}"#), "BROKEN"),
        (
            answer(200, r#"{"data": {"attributes": {"adminId": "a", "adminPw": "QUOTED"}}}"#),
            "url of provider",
        ),
        (answer(200, r#"{"data": {"url": "QUOTED", "attributes": {}}}"#), "no http or https URL"),
        (answer(200, r#"{"data": {"url": "http://x", "attributes": {}}}"#), "adminId"),
        (answer(200, r#"{"data": {"url": "http://x", "attributes": {"adminId": "a"}}}"#), "domain"),
        (
            answer(200, r#"{"data": {"url": "http://x", "attributes": {"adminId": "a", "domain": "d"}}}"#),
            "adminPw",
        ),
        (answer(200, r#"{"data": {"attributes": "QUOTED"}}"#), "line 1"),
    ] {
        scene.cloud.inject(PATH, fault.clone());
        let error = client(&access(&scene, "p-1", KEY)).snapshot(&scene.selection()).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.reason(), "ContrabassError", "{fault:?}: {text}");
        assert!(text.contains(word) && text.contains(PATH) && !text.contains("QUOTED"), "{fault:?}: {text}");
    }
}

#[tokio::test]
async fn an_unknown_provider_is_contrabass_error() {
    let scene = scene().await;
    let error = client(&access(&scene, "nobody", KEY)).snapshot(&scene.selection()).await.unwrap_err();
    assert!(matches!(error, CloudError::Contrabass(_)), "{error}");
    assert_eq!((error.reason(), error.retry()), ("ContrabassError", false));
}
