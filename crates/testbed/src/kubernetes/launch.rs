//! How the programs are started, and when they count as ready.

use std::fs;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hyper::http::Request;
use kube::Client;
use kube::client::Body;
use rand::RngExt as _;

use super::binaries::{API_SERVER, CONTROLLERS, ETCD};
use super::error::{api, file};
use super::guarded::Guarded;
use super::{Access, KubernetesError, Options, binaries};

/// Two busy cores need most of it; an idle machine four seconds.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Below the ports that Linux gives to outgoing connections (32768), so that none of those has it after a stop.
const PORTS: std::ops::Range<u16> = 18_000..32_000;
/// The first address of the service network is that of the API server itself.
const SERVICE_NETWORK: &str = "10.0.0.0/24";
/// How long one question may take of them.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How much of a log a message quotes.
const QUOTED_LINES: usize = 12;

/// It speaks on a socket in the folder: no port to be taken by another.
pub(super) fn start_etcd(folder: &Path) -> Result<Guarded, KubernetesError> {
    // A member has to say where others would find it. Nobody asks.
    let nowhere = "http://127.0.0.1:1";
    let arguments = [
        "--name=test".to_owned(),
        "--data-dir=data".to_owned(),
        format!("--listen-client-urls=unix://{}", socket(folder).display()),
        format!("--listen-peer-urls=unix://{}", folder.join("peers").display()),
        format!("--advertise-client-urls={nowhere}"),
        format!("--initial-advertise-peer-urls={nowhere}"),
        format!("--initial-cluster=test={nowhere}"),
        // Nothing here has to outlive the machine.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    let etcd = Guarded::start(folder, &binaries::find(ETCD)?, &arguments)?;
    until_ready(ETCD, &etcd, || UnixStream::connect(socket(folder)).is_ok())?;
    Ok(etcd)
}

pub(super) fn start_api_server(
    folder: &Path,
    options: &Options,
    port: u16,
    admin: &Access,
) -> Result<Guarded, KubernetesError> {
    let mut arguments = vec![
        format!("--etcd-servers=unix://{}", socket(folder).display()),
        format!("--bind-address={}", options.address),
        format!("--advertise-address={}", options.address),
        format!("--secure-port={port}"),
        format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
    ];
    let fixed = [
        "--tls-cert-file=server.crt",
        "--tls-private-key-file=server.key",
        "--client-ca-file=ca.crt",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=service-accounts.pub",
        "--service-account-signing-key-file=service-accounts.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
    ];
    arguments.extend(fixed.map(str::to_owned));
    arguments.extend(options.arguments.iter().cloned());
    // What is said of an earlier start is not said of this one.
    let _ = fs::remove_file(folder.join(format!("{API_SERVER}.log")));
    let api = Guarded::start(folder, &binaries::find(API_SERVER)?, &arguments)?;
    // Ready is more than its word: the `default` namespace comes a moment later, and tests use it at once.
    until_there(API_SERVER, &api, admin, &["/readyz", "/api/v1/namespaces/default"])?;
    Ok(api)
}

pub(super) fn start_controllers(
    folder: &Path,
    user: &Access,
    admin: &Access,
) -> Result<Guarded, KubernetesError> {
    let program = binaries::find(CONTROLLERS)?;
    user.write_kubeconfig(&folder.join("controllers.kubeconfig"))?;
    let arguments = [
        "--kubeconfig=controllers.kubeconfig",
        "--leader-elect=false",
        "--use-service-account-credentials",
        "--service-account-private-key-file=service-accounts.key",
        "--root-ca-file=ca.crt",
        // Nobody asks for its metrics, and the port would be another to be taken.
        "--secure-port=0",
    ];
    let controllers = Guarded::start(folder, &program, &arguments.map(str::to_owned))?;
    // One of them makes it.
    until_there(CONTROLLERS, &controllers, admin, &["/api/v1/namespaces/default/serviceaccounts/default"])?;
    Ok(controllers)
}

/// Waits until the API server has all of these. On a thread of its own, so that callers may be within a runtime or not.
fn until_there(
    program: &'static str,
    server: &Guarded,
    admin: &Access,
    paths: &[&str],
) -> Result<(), KubernetesError> {
    thread::scope(|scope| {
        let wait = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(file("a Tokio runtime"))?;
            until_ready(program, server, || runtime.block_on(has(admin, paths)).unwrap_or(false))
        });
        wait.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

async fn has(admin: &Access, paths: &[&str]) -> Result<bool, KubernetesError> {
    let mut config = admin.config()?;
    config.default_retry = false;
    let client = Client::try_from(config).map_err(api("make a client"))?;
    for path in paths {
        let request =
            Request::get(*path).body(Body::empty()).map_err(kube::Error::HttpError).map_err(api("ask"))?;
        let answer = tokio::time::timeout(ANSWER_LIMIT, client.send(request)).await;
        if !matches!(answer, Ok(Ok(answer)) if answer.status().is_success()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn until_ready(
    program: &'static str,
    server: &Guarded,
    mut ready: impl FnMut() -> bool,
) -> Result<(), KubernetesError> {
    let deadline = Instant::now() + START_LIMIT;
    while !ready() {
        if Instant::now() > deadline || !server.is_running() {
            let text = fs::read(server.log()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let tail =
                lines.iter().skip(lines.len().saturating_sub(QUOTED_LINES)).copied().collect::<Vec<_>>();
            let log = server.log().to_owned();
            return Err(KubernetesError::NotUp { program, log, tail: tail.join("\n") });
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("etcd.socket")
}

pub(super) fn free_port(at: IpAddr) -> Result<u16, KubernetesError> {
    let mut source = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..100 {
        let port = rand::rng().random_range(PORTS);
        match TcpListener::bind((at, port)) {
            Ok(_) => return Ok(port),
            Err(error) => source = error,
        }
    }
    Err(KubernetesError::Port { at, source })
}
