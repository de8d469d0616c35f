//! Certificates change, and nobody notices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use multinic_operator::certificates::Pair;
use multinic_operator::settings::WebhookArgs;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::hands::{Hand, Try, condition, key, served, spec, until_heard};
use crate::bench::{Bench, NAMESPACE, own_certificate};

/// Two thirds of it pass before another is made.
const LIFETIME: Duration = Duration::from_secs(45);
/// What two rotations take on two busy cores, and more.
const LIMIT: Duration = Duration::from_secs(300);

#[tokio::test]
async fn certificates_are_renewed_under_load_and_no_question_is_lost() {
    let Some(mut bench) = Bench::empty().await else { return };
    bench.run_asked(own_certificate(LIFETIME)).await;
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
    let bundle = trusted(&bench).await;
    let count = bundle.matches("BEGIN CERTIFICATE").count();
    assert!((2..=3).contains(&count), "{count} authorities are trusted");
    assert!(asked > 100, "only {asked} questions");
}

const MINE: &str = "mine";

/// Puts a certificate where cert-manager would. Returns its authority.
async fn give(bench: &Bench) -> String {
    let Pair { certificate, key, authority } =
        Pair::issue("multinic-operator.multinic-system.svc", Timestamp::now(), LIMIT).unwrap();
    let secrets: Api<Secret> = Api::namespaced(bench.client.clone(), NAMESPACE);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": MINE}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate, "tls.key": key.expose_secret(), "ca.crt": authority},
    });
    let parameters = PatchParams::apply("cert-manager").force();
    secrets.patch(MINE, &parameters, &Patch::Apply(secret)).await.unwrap();
    authority
}

/// Whom API servers trust.
async fn trusted(bench: &Bench) -> String {
    let configuration = bench
        .get("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "multinic-operator-protection")
        .await;
    let bundle = configuration.unwrap_or_default()["webhooks"][0]["clientConfig"]["caBundle"].clone();
    String::from_utf8(serde_json::from_value::<ByteString>(bundle).unwrap_or_default().0).unwrap()
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_served_and_a_renewed_one_takes_its_place() {
    let Some(mut bench) = Bench::empty().await else { return };
    let secret = Some(MINE.to_owned());
    // API servers are given a tenth of it to hear of another authority.
    let webhook = WebhookArgs { webhook_cert_secret: secret, webhook_cert_lifetime: LIFETIME };
    bench.run_asked(webhook).await;
    bench.want("multinic", spec(true, &[])).await;
    bench
        .until("it is told that there is no such Secret", async || {
            let found = condition(&bench, "ProtectionActive").await;
            found == Some(("False".to_owned(), "NotServed".to_owned()))
        })
        .await;
    let first = give(&bench).await;
    bench.want("multinic", spec(true, &["label"])).await;
    let admin = Hand::new(&bench, "admin");
    until_heard(&bench, &admin, false, false).await;
    assert!(trusted(&bench).await.contains(first.trim()));
    assert_eq!(bench.get("", "Secret", "multinic-operator-webhook").await, None);

    let second = give(&bench).await;
    let controller = key("apps", "Deployment", "multinic-controller");
    bench.want("multinic", spec(true, &["restart"])).await;
    // The first is trusted as long as it is served.
    bench
        .until("only the second is trusted", async || {
            // So that it has another look.
            let allowed =
                json!({"spec": {"protection": {"allowedOperations": [Timestamp::now().to_string()]}}});
            let operators = bench.operators();
            operators.patch("multinic", &PatchParams::default(), &Patch::Merge(allowed)).await.unwrap();
            let said = admin.tries(&controller, &Try::Delete).await.unwrap_err();
            assert!(said.contains("denied the request"), "a question was lost: {said}");
            let trusted = trusted(&bench).await;
            trusted.contains(second.trim()) && !trusted.contains(first.trim())
        })
        .await;
    until_heard(&bench, &admin, false, false).await;
}
