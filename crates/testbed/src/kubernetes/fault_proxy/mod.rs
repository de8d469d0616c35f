//! A proxy between clients and an API server that makes the trouble that networks, load balancers and busy clusters make.

mod api_request;
mod faults;
mod serve;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString};
use tokio::sync::{oneshot, watch};

use self::faults::Faults;
use super::access::Credentials;
use super::error::file;
use super::{Access, ControlPlane, KubernetesError};
use crate::node::NetNs;
use crate::relay::relay;

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The verb as RBAC has it: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for
    /// what is no resource the method in lower case.
    pub verb: String,
    /// The resource as RBAC has it, such as `pods` or `pods/status`; for what is no resource the path.
    pub resource: String,
    /// The namespace, where there is one.
    pub namespace: Option<String>,
    /// The object's name, where the request names one.
    pub name: Option<String>,
    /// The HTTP status of the answer. A watch is answered when it begins.
    pub status: u16,
    /// Whether the proxy answered in place of the API server.
    pub fault: bool,
}

/// What the handle and the connections share.
struct Shared {
    upstream: Access,
    /// The identity that a bearer token of the proxy's own stands for.
    tickets: Mutex<HashMap<String, Access>>,
    /// The clients of those identities. They belong to the runtime of the proxy.
    clients: Mutex<HashMap<Option<String>, kube::Client>>,
    faults: Mutex<Faults>,
    /// What is not answered, by verb and resource.
    silent: watch::Sender<BTreeSet<(String, String)>>,
    records: Mutex<Vec<Record>>,
    cut: watch::Sender<()>,
    open_watches: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running proxy. It speaks HTTP/1.1 over TLS, with a certificate of the control plane's authority, and needs no
/// runtime of the caller's. With its end, all connections end.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts one on a free port of 127.0.0.1, without any fault.
    ///
    /// # Errors
    /// Where it cannot listen or gets no certificate.
    pub fn start(control_plane: &ControlPlane) -> Result<Self, KubernetesError> {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let tls = serve::acceptor(&control_plane.authority.server(&names)?)?;
        let failed = |source| KubernetesError::Port { at: Ipv4Addr::LOCALHOST.into(), source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(file("a Tokio runtime"))?;
        let shared = Arc::new(Shared {
            upstream: control_plane.anonymous(),
            tickets: Mutex::default(),
            clients: Mutex::default(),
            faults: Mutex::default(),
            silent: watch::Sender::default(),
            records: Mutex::default(),
            cut: watch::Sender::new(()),
            open_watches: AtomicUsize::new(0),
        });
        let (end, ended) = oneshot::channel();
        let serving = shared.clone();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve::serve(listener, tls, serving) => {}
                    _ = ended => {}
                }
            });
        });
        Ok(Self { address, shared, end: Some(end), thread: Some(thread) })
    }

    /// Somebody's way in through the proxy. Who has a certificate shows the proxy a token in its place, and the proxy
    /// shows the API server the certificate; tokens go through as they are.
    pub fn access(&self, access: &Access) -> Access {
        let mut through = access.at(&self.url());
        if let Credentials::Certificate { .. } = access.credentials {
            let ticket = Alphanumeric.sample_string(&mut rand::rng(), 32);
            lock(&self.shared.tickets).insert(ticket.clone(), access.clone());
            through.credentials = Credentials::Token(ticket.into());
        }
        through
    }

    /// The URL of the proxy.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Makes the proxy reachable within a namespace, at 127.0.0.1 there. Returns the URL for [`Access::at`].
    ///
    /// # Errors
    /// Where the namespace cannot be used.
    pub fn reach_from(&self, node: &NetNs) -> Result<String, KubernetesError> {
        let at = IpAddr::from(Ipv4Addr::LOCALHOST);
        let port = relay(node, at, self.address)?;
        Ok(format!("https://{}", SocketAddr::new(at, port)))
    }

    /// Breaks the connection of every open watch, in the midst of the answer. Returns how many there were.
    pub fn cut_watches(&self) -> usize {
        let open = self.open_watches();
        self.shared.cut.send_replace(());
        open
    }

    /// Breaks every watch that is opened from now on after a random time of this range; `None` ends that.
    pub fn limit_watches(&self, lifetime: Option<Range<Duration>>) {
        lock(&self.shared.faults).watch_lifetime = lifetime;
    }

    /// Answers the first of each kind of write (verb, resource, name) with 409 Conflict, as if another had been faster,
    /// counted from now; `false` ends that. Events have names that are made up, so all of a namespace are one kind.
    /// Questions in the form of a write (reviews, requests for tokens) are let through.
    pub fn conflict_once(&self, on: bool) {
        lock(&self.shared.faults).conflicted = on.then(Default::default);
    }

    /// Answers the next lists and watches of a resource (such as `pods`) as the API server does where it no longer has
    /// the version: a list with 410, a watch with an event of that content.
    pub fn expire_next(&self, resource: &str, count: usize) {
        lock(&self.shared.faults).expire.insert(resource.to_owned(), count);
    }

    /// Answers everything with 503 and a page for people, as a load balancer without a server does, until told
    /// otherwise. Watches that are open stay so.
    pub fn set_unavailable(&self, on: bool) {
        lock(&self.shared.faults).unavailable = on;
    }

    /// Lets every request wait this long before it goes on.
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.shared.faults).latency = latency;
    }

    /// Answers no request of a verb and a resource, both as in [`Record`], until the faults end; then those that wait too.
    pub fn silence(&self, verb: &str, resource: &str) {
        let asked = (verb.to_owned(), resource.to_owned());
        self.shared.silent.send_modify(|silent| {
            silent.insert(asked);
        });
    }

    /// Ends all faults.
    pub fn heal(&self) {
        *lock(&self.shared.faults) = Faults::default();
        self.shared.silent.send_replace(BTreeSet::new());
    }

    /// How many watches are open.
    pub fn open_watches(&self) -> usize {
        self.shared.open_watches.load(Ordering::SeqCst)
    }

    /// What was answered so far, in the order of the answers.
    pub fn records(&self) -> Vec<Record> {
        lock(&self.shared.records).clone()
    }

    /// How many requests of a verb and a resource were answered; both as in [`Record`].
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        lock(&self.shared.records).iter().filter(|it| it.verb == verb && it.resource == resource).count()
    }

    /// How many requests were answered, by verb and resource.
    pub fn counts(&self) -> BTreeMap<(String, String), usize> {
        let mut counts = BTreeMap::new();
        for record in lock(&self.shared.records).iter() {
            *counts.entry((record.verb.clone(), record.resource.clone())).or_default() += 1;
        }
        counts
    }

    /// Begins [`Self::records`] anew.
    pub fn forget(&self) {
        lock(&self.shared.records).clear();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
