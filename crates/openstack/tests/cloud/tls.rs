//! Whom a client believes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use multinic_core::config::{CloudAccess, Credentials, Tls, VmRef};
use multinic_openstack::{Cloud, CloudError, Gate, Problem, TrustError};
use multinic_testbed::cloud_simulator::Simulator;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::{client, select};

/// A cloud whose Keystone is behind TLS, and the file with its certificate.
struct Secured {
    cloud: Simulator,
    folder: tempfile::TempDir,
    access: CloudAccess,
}

async fn secured() -> Secured {
    let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let inside = cloud.url().socket_addrs(|| None).unwrap()[0];
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut outer = acceptor.accept(stream).await?;
                let mut inner = TcpStream::connect(inside).await?;
                copy_bidirectional(&mut outer, &mut inner).await
            });
        }
    });
    let mut access = cloud.access();
    if let Credentials::Password { auth_url, .. } = &mut access.credentials {
        *auth_url = url;
    }
    Secured { cloud, folder, access }
}

impl Secured {
    async fn read(&self, tls: Tls) -> Result<(), CloudError> {
        let server = self.cloud.add_server("x");
        let network = self.cloud.add_network("n", None);
        let subnet = self.cloud.add_subnet(&network, "s", "10.0.0.0/24".parse().unwrap()).unwrap();
        let access = CloudAccess { tls, ..self.access.clone() };
        client(&access).snapshot(&select(vec![VmRef::Id(server)], &[&subnet])).await.map(drop)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[tokio::test]
async fn a_certificate_of_the_ca_file_is_believed() {
    let secured = secured().await;
    secured.read(Tls { insecure: false, ca_file: Some(secured.file("ca.pem")) }).await.unwrap();
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_and_not_tried_again() {
    let secured = secured().await;
    let error = secured.read(Tls::default()).await.unwrap_err();
    let CloudError::Keystone(failed) = &error else { panic!("{error}") };
    assert!(matches!(*failed.problem, Problem::NoConnection { passing: false, .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(secured.cloud.count("/v3"), 0);
}

#[tokio::test]
async fn only_insecure_believes_everybody() {
    let secured = secured().await;
    secured.read(Tls { insecure: true, ca_file: None }).await.unwrap();
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_used_is_found_at_once() {
    let secured = secured().await;
    std::fs::write(secured.file("empty.pem"), "no certificate\n").unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(secured.file("broken.pem"), broken).unwrap();
    let error = |path: &Path| {
        let tls = Tls { insecure: false, ca_file: Some(path.to_owned()) };
        Cloud::new(&CloudAccess { tls, ..secured.access.clone() }, Gate::default()).unwrap_err()
    };
    for name in ["absent.pem", "empty.pem", "broken.pem"] {
        let error = error(&secured.file(name));
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!((error.reason(), error.retry()), ("KeystoneError", false));
    }
    let absent = error(&secured.file("absent.pem"));
    assert!(matches!(absent, CloudError::Trust(TrustError::Unreadable { .. })), "{absent}");
}
