//! Nothing that is printed holds a secret.

use multinic_core::config::Credentials;
use multinic_testbed::cloud_simulator::Fault;

use crate::{client, observed, scene};
use multinic_openstack::Gate;

const SECRET: &str = "s3cr3t-\"quoted\"";

#[tokio::test]
async fn a_quoted_request_does_not_reach_the_error() {
    let scene = scene().await;
    let mut access = scene.cloud.access();
    crate::token::login(&mut access, "operator", SECRET);
    let escaped = serde_json::to_string(SECRET).unwrap();
    for body in [
        format!(
            r#"{{"error": {{"code": 400, "message": "bad {}", "title": "x"}}}}"#,
            escaped.trim_matches('"')
        ),
        format!("nginx could not parse {escaped}"),
        format!("<html>{SECRET}</html>"),
    ] {
        for status in [400, 201] {
            scene.cloud.inject("/v3", Fault::Answer { status, headers: vec![], body: body.clone() });
            let error = client(&access).snapshot(&scene.selection()).await.unwrap_err();
            for text in [error.to_string(), format!("{error:?}")] {
                assert!(!text.contains("s3cr3t"), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_comes_back_does_not_reach_the_error() {
    let scene = scene().await;
    let token = "gAAAA-the-token";
    let project = scene.cloud.project();
    let url = scene.cloud.url();
    let grant = format!(
        r#"{{"token": {{"project": {{"id": "{project}"}}, "catalog": [
            {{"type": "network", "endpoints": [{{"interface": "public", "region": "R", "url": "{url}"}}]}},
            {{"type": "compute", "endpoints": [{{"interface": "public", "region": "R", "url": "{url}"}}]}}]}}}}"#
    );
    let headers = vec![("x-subject-token".to_owned(), token.to_owned())];
    scene.cloud.inject_always("/v3", Fault::Answer { status: 201, headers, body: grant });
    let body = format!("your token {token} is strange");
    for path in ["/v2.0/subnets", "/v2.0/ports", "/v2.1"] {
        scene.cloud.inject_always(path, Fault::Answer { status: 400, headers: vec![], body: body.clone() });
    }
    let error = scene.snapshot().await.unwrap_err();
    assert!(error.to_string().contains("[secret]"), "{error}");
    assert!(!format!("{error:?} {error}").contains(token), "{error}");
}

#[tokio::test]
async fn debug_output_holds_no_secret() {
    let scene = scene().await;
    let mut access = scene.cloud.access();
    crate::token::login(&mut access, "operator", SECRET);
    if let Credentials::Password { auth_url, .. } = &mut access.credentials {
        auth_url.set_username("user").unwrap();
        auth_url.set_password(Some("hidden")).unwrap();
    }
    let (cloud, _) = observed(&access, Gate::default());
    let error = cloud.snapshot(&scene.selection()).await.unwrap_err();
    for text in [format!("{cloud:?}"), format!("{error:?}"), error.to_string()] {
        assert!(!text.contains("s3cr3t") && !text.contains("hidden"), "{text}");
    }
}
