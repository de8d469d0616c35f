//! Who may post to the Viola API, and with which credentials it goes on to the clusters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod viola_support;

use multinic_controller::viola::settings::{Settings, TlsPaths};
use multinic_controller::viola::target::{Link, Token};
use multinic_testbed::kubernetes::ControlPlane;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::json;
use viola_support::{Server, World, cluster, node};

#[tokio::test]
async fn a_callers_token_is_asked_for_and_may_rotate() {
    let Some(world) = World::new().await else { return };
    let tokens = world.file("tokens");
    std::fs::write(&tokens, "# callers\nfirst-token\nsecond-token\n").unwrap();
    let server = Server::start(Settings { tokens: Some(tokens.clone()), ..world.settings() }).await;
    let body = json!([node("worker-1", &[0])]);
    let status = async |token| server.post_as(token, &body).await;
    assert_eq!(status(None).await, 401);
    assert_eq!(status(Some("third-token")).await, 401);
    assert_eq!(status(Some("first-token")).await, 200);
    assert_eq!(status(Some("second-token")).await, 200);
    std::fs::write(&tokens, "third-token\n").unwrap();
    assert_eq!(status(Some("first-token")).await, 401);
    assert_eq!(status(Some("third-token")).await, 200);
    // A file that is gone lets nobody in, and is no reason to let everybody in.
    std::fs::remove_file(&tokens).unwrap();
    assert_eq!(status(Some("third-token")).await, 503);
    assert_eq!(server.ask("GET", "/healthz").await.0, 200);
}

#[tokio::test]
async fn the_token_for_a_cluster_is_read_again_when_it_rotates() {
    let Some(world) = World::new().await else { return };
    let plane = ControlPlane::shared().unwrap();
    let (ca, token) = (world.file("ca"), world.file("token"));
    std::fs::write(&ca, plane.ca_pem()).unwrap();
    let powerless = plane.service_account(&world.namespace, "powerless").await.unwrap();
    let secret = |access: &multinic_testbed::kubernetes::Access| {
        use secrecy::ExposeSecret as _;
        access.token().unwrap().expose_secret().to_owned()
    };
    std::fs::write(&token, secret(&powerless)).unwrap();
    let local = Link::Server { server: plane.url().to_owned(), ca, token: Token::File(token.clone()) };
    let server = Server::start(Settings { local: Some(local), ..world.settings() }).await;
    let body = json!([node("worker-1", &[0])]);
    let (status, answer) = server.post(None, &body).await;
    assert_eq!((status, &answer["errors"][0]["code"]), (500, &json!(403)), "{answer}");
    let powerful = cluster::admin_account(plane, &world.namespace, "powerful").await;
    std::fs::write(&token, &powerful).unwrap();
    let (status, answer) = server.post(None, &body).await;
    assert_eq!(status, 200, "{answer}");
    // In the midst of a rotation the file may be empty: yesterday's token is better than none.
    std::fs::write(&token, "").unwrap();
    let (status, answer) = server.post(None, &body).await;
    assert_eq!(status, 200, "{answer}");
    assert!(!answer.to_string().contains(&powerful));
}

#[tokio::test]
async fn a_kubeconfig_is_read_again_when_it_rotates() {
    let Some(world) = World::new().await else { return };
    let plane = ControlPlane::shared().unwrap();
    let path = world.file("kubeconfig");
    plane.user("stranger", &[]).unwrap().write_kubeconfig(&path).unwrap();
    let routing = world.routing(&format!("default:\n  kubeconfig: {}\n", path.display()));
    let server = Server::start(routing).await;
    let body = json!([node("worker-1", &[0])]);
    assert_eq!(server.post(Some("any"), &body).await.1["errors"][0]["code"], 403);
    plane.admin().write_kubeconfig(&path).unwrap();
    assert_eq!(server.post(Some("any"), &body).await.0, 200);
}

struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    fn sign(&self, names: &[&str], usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn a_callers_certificate_is_asked_for() {
    let Some(world) = World::new().await else { return };
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.sign(&["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let paths = ["server.crt", "server.key", "clients.crt"].map(|name| world.file(name));
    for (path, content) in paths.iter().zip([&certificate, &key, &authority.pem]) {
        std::fs::write(path, content).unwrap();
    }
    let [certificate, key, clients] = paths;
    let tls = Some(TlsPaths { certificate, key, clients: Some(clients) });
    let server = Server::start(Settings { tls, ..world.settings() }).await;
    let client = |identity: Option<(String, String)>| {
        let root = reqwest::Certificate::from_pem(authority.pem.as_bytes()).unwrap();
        let builder = reqwest::Client::builder().tls_certs_only([root]);
        let identity = identity.map(|(certificate, key)| {
            reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap()
        });
        match identity {
            Some(identity) => builder.identity(identity).build().unwrap(),
            None => builder.build().unwrap(),
        }
    };
    let post = async |client: reqwest::Client| {
        let url = format!("https://{}/v1/k8s/multinic/node-configs", server.address());
        client.post(url).body(json!([node("worker-1", &[0])]).to_string()).send().await
    };
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    let known = client(Some(authority.sign(&["operator"], usage.clone())));
    assert_eq!(post(known).await.unwrap().status(), 200);
    post(client(None)).await.unwrap_err();
    post(client(Some(stranger.sign(&["operator"], usage)))).await.unwrap_err();
}

#[tokio::test]
async fn a_routing_file_that_is_not_understood_is_an_error_at_start() {
    let Some(world) = World::new().await else { return };
    let kubeconfig = world.file("kubeconfig");
    std::fs::write(&kubeconfig, "apiVersion: v1\nusers: [{name: a, user: {exec: {command: sh}}}]\n").unwrap();
    let kubeconfig = kubeconfig.display();
    let exec = format!("targets:\n- providerId: a\n  kubeconfig: {kubeconfig}\n");
    let cases = [
        ("providerId: a\nkubeconfig: /x\n", "kubeconfig: unknown field `kubeconfig`"),
        (
            "targets:\n- providerId: a\n  kubeConfig: /x\n",
            "targets[0].kubeConfig: unknown field `kubeConfig`",
        ),
        ("targets:\n  a: {}\n", "targets: invalid type: map"),
        ("strict: maybe\n", "strict: invalid type"),
        ("targets:\n- kubeconfig: /x\n", "targets[0].providerId: is missing"),
        ("targets:\n- providerId: a\n- providerId: a\n", "targets[1].providerId: \"a\" is there twice"),
        (
            "targets:\n- providerId: a\n  mode: ssh\n  sshHost: h\n",
            "targets[0].mode: ssh: a cluster is not reached",
        ),
        ("targets:\n- providerId: a\n  sshPass: hunter2\n", "targets[0].sshPass: a cluster is not reached"),
        ("targets:\n- providerId: a\n  mode: telnet\n", "targets[0].mode: unsupported mode: telnet"),
        ("targets:\n- providerId: a\n  kubeToken: 12345\n", "targets[0].kubeToken: must be a text"),
        (
            "targets:\n- providerId: a\n  kubeApiServer: https://x\n  kubeCaPath: /x\n",
            "targets[0]: kubeToken or kubeTokenPath is required beside kubeApiServer",
        ),
        ("targets:\n- providerId: a\n  kubeconfig: /nowhere\n", "targets[0]: /nowhere: No such file"),
        ("strict: true\n", "targets: there is none"),
        ("", "holds nothing"),
        ("a: b: c\n", "is not YAML"),
        (exec.as_str(), "there is no context"),
    ];
    for (text, expected) in cases {
        let error = Server::try_start(world.routing(text)).await.unwrap_err().to_string();
        assert!(error.starts_with("ROUTING_CONFIG ") && error.contains(expected), "{text:?}: {error}");
        assert!(!error.contains("hunter2") && !error.contains("12345"), "{error}");
    }
    // Without a file and without a cluster there is nobody to serve.
    let error =
        Server::try_start(Settings { local: None, ..world.settings() }).await.unwrap_err().to_string();
    assert!(error.starts_with("KUBE_API_SERVER: is not set"), "{error}");
}

#[test]
fn the_example_of_a_routing_file_is_understood() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/viola/routing.yaml");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = viola_support::bare_settings(Some(path.into()));
    let error = runtime.block_on(Server::try_start(settings)).unwrap_err().to_string();
    // All of it is understood; only the files that it names are not here.
    assert!(error.contains("targets[0]: /etc/multinic/clusters/blue/kubeconfig: No such file"), "{error}");
}
