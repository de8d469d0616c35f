//! Tokens: how they are had, kept and renewed.

use std::time::Duration;

use futures_util::future::join_all;
use multinic_core::config::{CloudAccess, Credentials};
use multinic_openstack::{CloudError, Gate};
use multinic_testbed::cloud_simulator::{Fault, Role};

use crate::{client, observed, scene};

const TOKENS: &str = "/v3/auth/tokens";

pub fn login(access: &mut CloudAccess, user: &str, secret: &str) {
    if let Credentials::Password { username, password, .. } = &mut access.credentials {
        *username = user.to_owned();
        *password = secret.into();
    }
}

#[tokio::test]
async fn a_token_is_used_again() {
    let scene = scene().await;
    let client = scene.client();
    for _ in 0..3 {
        client.snapshot(&scene.selection()).await.unwrap();
    }
    assert_eq!(scene.cloud.tokens_issued(), 1);
}

#[tokio::test]
async fn twenty_refused_at_once_fetch_one_token() {
    let scene = scene().await;
    let client = scene.client();
    let selection = scene.selection();
    client.snapshot(&selection).await.unwrap();
    scene.cloud.expire_tokens();
    let reads = join_all((0..20).map(|_| client.snapshot(&selection))).await;
    assert!(reads.iter().all(Result::is_ok));
    assert_eq!(scene.cloud.tokens_issued(), 2);
}

#[tokio::test]
async fn twenty_with_a_wrong_password_try_it_once() {
    let scene = scene().await;
    let mut access = scene.cloud.access();
    login(&mut access, "operator", "wrong");
    let client = client(&access);
    let selection = scene.selection();
    for error in join_all((0..20).map(|_| client.snapshot(&selection))).await {
        let error = error.unwrap_err();
        assert!(matches!(error, CloudError::KeystoneRefused { .. }), "{error}");
        assert_eq!((error.reason(), error.retry()), ("KeystoneError", false));
        assert!(error.to_string().contains("\"operator\""), "{error}");
    }
    assert_eq!(scene.cloud.count(TOKENS), 1);
    // The next read is another try: the password may have been mended.
    client.snapshot(&selection).await.unwrap_err();
    assert_eq!(scene.cloud.count(TOKENS), 2);
}

#[tokio::test]
async fn a_token_that_ends_soon_is_renewed_before_it_is_refused() {
    let scene = scene().await;
    scene.cloud.set_token_lifetime(Duration::ZERO);
    let (client, seen) = observed(&scene.cloud.access(), Gate::default());
    client.snapshot(&scene.selection()).await.unwrap_err();
    scene.cloud.set_token_lifetime(Duration::from_secs(3600));
    seen.lock().unwrap().clear();
    client.snapshot(&scene.selection()).await.unwrap();
    assert!(seen.lock().unwrap().iter().all(|(_, status)| *status != 401));
}

#[tokio::test]
async fn a_token_that_is_refused_again_is_an_error_and_no_loop() {
    let scene = scene().await;
    let client = scene.client();
    scene.cloud.inject_always("/v2.0/subnets", Fault::ExpireTokens);
    let error = client.snapshot(&scene.selection()).await.unwrap_err();
    assert_eq!(error.reason(), "NeutronSubnetError", "{error}");
    assert!(error.to_string().contains("401"), "{error}");
    assert_eq!(scene.cloud.count("/v2.0/subnets"), 2);
}

#[tokio::test]
async fn an_application_credential_needs_no_project() {
    let scene = scene().await;
    let project = scene.cloud.project().clone();
    scene.cloud.add_application_credential("cred", "secret", "operator", &project).unwrap();
    let mut access = scene.cloud.access();
    access.credentials = Credentials::ApplicationCredential {
        auth_url: scene.cloud.url().join("v3/").unwrap(),
        id: "cred".to_owned(),
        secret: "secret".into(),
    };
    access.project = None;
    let snapshot = client(&access).snapshot(&scene.selection()).await.unwrap();
    assert_eq!(snapshot.project, Some(project));

    access.project = Some("another".into());
    let error = client(&access).snapshot(&scene.selection()).await.unwrap_err();
    assert!(matches!(error, CloudError::WrongProject { .. }), "{error}");
    assert_eq!(error.reason(), "KeystoneError");
}

#[tokio::test]
async fn a_project_without_a_role_is_refused() {
    let scene = scene().await;
    let mut access = scene.cloud.access();
    access.project = Some(scene.cloud.add_project("other"));
    let error = client(&access).snapshot(&scene.selection()).await.unwrap_err();
    assert!(matches!(error, CloudError::KeystoneRefused { .. }), "{error}");
    let project = access.project.clone().unwrap();
    scene.cloud.set_role("operator", &project, Some(Role::Reader)).unwrap();
    // Let in, it does not see what is another project's.
    let error = client(&access).snapshot(&scene.selection()).await.unwrap_err();
    assert_eq!(error, CloudError::SubnetNotFound(scene.v4.to_string()));
}

#[tokio::test]
async fn what_is_no_token_is_keystones_error() {
    let scene = scene().await;
    let answer = |body: &str| Fault::Answer { status: 201, headers: vec![], body: body.to_owned() };
    for fault in [
        Fault::Html(200),
        Fault::Html(500),
        Fault::Truncated,
        answer("{}"),
        answer(r#"{"token": {"project": {"id": "x"}}}"#),
    ] {
        scene.cloud.inject(TOKENS, fault.clone());
        let error = scene.snapshot().await.unwrap_err();
        assert!(matches!(error, CloudError::Keystone(_)), "{fault:?}: {error}");
        assert!(error.to_string().contains(TOKENS), "{error}");
    }
}

#[tokio::test]
async fn keystone_is_asked_again_when_that_can_help() {
    let scene = scene().await;
    scene.cloud.inject(TOKENS, Fault::Html(503));
    scene.cloud.inject(TOKENS, Fault::Reset);
    scene.snapshot().await.unwrap();
    assert_eq!(scene.cloud.count(TOKENS), 3);
}
