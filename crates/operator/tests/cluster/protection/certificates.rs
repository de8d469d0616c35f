//! Certificates change, and nobody notices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::hands::{Hand, Try, key, spec, until_heard};
use crate::bench::{Bench, NAMESPACE};

/// Two thirds of it pass before another is made.
const LIFETIME: Duration = Duration::from_secs(45);
/// What two rotations take on two busy cores, and more.
const LIMIT: Duration = Duration::from_secs(300);

async fn served(bench: &Bench) -> String {
    let secrets: Api<Secret> = Api::namespaced(bench.client.clone(), NAMESPACE);
    let secret = secrets.get("multinic-operator-webhook").await.unwrap();
    String::from_utf8(secret.data.unwrap()["tls.crt"].0.clone()).unwrap()
}

#[tokio::test]
async fn certificates_are_renewed_under_load_and_no_question_is_lost() {
    let Some(mut bench) = Bench::empty().await else { return };
    bench.run_asked(LIFETIME).await;
    bench.want("multinic", spec(true, &[])).await;
    bench.until_running("multinic").await;
    let admin = Hand::new(&bench, "admin");
    until_heard(&bench, &admin, false, false).await;
    let controller = key("apps", "Deployment", "multinic-controller");
    let mut certificates = BTreeSet::from([served(&bench).await]);
    let (mut asked, begun) = (0, Instant::now());
    // The second one is served for a while too.
    while certificates.len() < 4 {
        assert!(begun.elapsed() < LIMIT, "{} certificates after {asked} questions", certificates.len());
        let tries: Vec<_> = (0..8).map(|_| admin.tries(&controller, &Try::Delete)).collect();
        for came in futures_util::future::join_all(tries).await {
            let said = came.unwrap_err();
            assert!(said.contains("denied the request"), "a question was lost after {asked}: {said}");
            asked += 1;
        }
        certificates.insert(served(&bench).await);
    }
    let configuration = bench
        .get("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "multinic-operator-protection")
        .await
        .unwrap();
    let bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"].clone();
    let bundle: ByteString = serde_json::from_value(bundle).unwrap();
    let count = String::from_utf8(bundle.0).unwrap().matches("BEGIN CERTIFICATE").count();
    assert!((2..=3).contains(&count), "{count} authorities are trusted");
    assert!(asked > 100, "only {asked} questions");
}
