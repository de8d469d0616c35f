//! Who of several controllers works: the holder of a Lease, in the way of client-go's leader election.
//!
//! Clocks of machines are not compared: a lease has run out when it was not renewed for its duration as *this* process
//! saw it. A holder stops working well before that, counted from before its last renewal was sent, whatever becomes of its
//! requests: so one has stopped before another can begin, also where the API server does not answer. (The crates for this
//! compare wall clocks, or go on leading while a renewal hangs.)
//!
//! The lease is renewed on a thread of its own, with a client of its own: all else shares one thread, which planning for a
//! large fleet keeps for longer than a lease lasts where processors are busy. That allows nobody more than before. Until when
//! a holder may work is still counted from before the renewal that was granted, and he looks at the clock himself: after
//! planning, before anything of it is delivered, and whenever he goes on after having waited ([`Leadership::guard`]). Once that
//! time was over he begins anew, also where the lease turns out to be his again. One who does not get to run writes nothing
//! either; and what he had begun to write to a ledger that others share is refused where they have written since
//! ([`StoreError::Overtaken`](multinic_store::StoreError::Overtaken)). One who hangs for good keeps the lease, as with
//! client-go: that his loop does not turn is for the liveness probe to see.
//!
//! The holder writes the epoch of its ledger into the lease. Whoever keeps his ledger in a file of his own does not lead
//! where it names another: his file was left behind. An empty one may: it is filled from what is published.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, Config};
use multinic_api::LEDGER_EPOCH_ANNOTATION;
use tokio::sync::{oneshot, watch};

use super::metrics::ClusterMetrics;
use crate::sinks::SinkError;
use crate::sinks::kubernetes::kubeconfig::client_of;
use multinic_core::brief::short;

/// A time during which this process may work.
#[derive(Debug, Clone, Copy, Default)]
struct Tenure {
    /// Another one after each end, also if nobody else was there meanwhile.
    term: u64,
    /// None before the first time, and after an end that is known.
    until: Option<Instant>,
}

impl Tenure {
    /// Its end, if that has not come.
    fn end(self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }

    /// Whoever holds the lease may work until then. Returns whether a new term begins.
    fn extend(&mut self, until: Instant) -> bool {
        // A renewal that is noticed too late allows nothing.
        let begins = self.end().is_none() && until > Instant::now();
        *self = Self { term: self.term + u64::from(begins), until: Some(until) };
        begins
    }
}

/// Until when this process may work, if it may at all.
#[derive(Debug, Clone)]
pub struct Leadership {
    tenure: watch::Receiver<Tenure>,
    /// The term that was gained. With the end of it, this leadership is over.
    term: u64,
}

impl Leadership {
    fn of(tenure: watch::Receiver<Tenure>) -> Self {
        Self { tenure, term: 0 }
    }

    /// One that nobody else can have: there is no election.
    pub fn granted() -> Self {
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        let until = Instant::now().checked_add(century);
        Self::of(watch::channel(Tenure { term: 0, until }).1)
    }

    /// Whether this process may work now.
    pub fn is_held(&self) -> bool {
        let tenure = self.tenure.borrow();
        tenure.term == self.term && tenure.end().is_some()
    }

    /// Does something while this process may work, and nothing of it after that: where it was kept from running, and that
    /// time ended meanwhile, it does not go on.
    pub fn guard<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        let leadership = self.clone();
        async move {
            let mut work = pin!(work);
            // Whoever waits for it gives it up when the leadership is lost.
            std::future::poll_fn(|context| match leadership.is_held() {
                true => work.as_mut().poll(context),
                false => Poll::Pending,
            })
            .await
        }
    }

    /// Returns once this process may work.
    ///
    /// # Errors
    /// Where it never will: nobody stands for election any more.
    pub async fn gained(&mut self) -> Result<(), ElectionError> {
        loop {
            let tenure = *self.tenure.borrow_and_update();
            if tenure.end().is_some() {
                self.term = tenure.term;
                return Ok(());
            }
            self.tenure.changed().await.map_err(|_| ElectionError::Ended)?;
        }
    }

    /// Returns once this process may not work any more.
    pub async fn lost(&mut self) {
        loop {
            let tenure = *self.tenure.borrow_and_update();
            let Some(until) = tenure.end().filter(|_| tenure.term == self.term) else { return };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                changed = self.tenure.changed() => if changed.is_err() {
                    tokio::time::sleep_until(until.into()).await;
                }
            }
        }
    }
}

/// The ledger of one that wants the lease.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its epoch.
    pub epoch: String,
    /// Whether it is good only where the lease names it: a file that nobody else writes to, with something in it.
    pub exclusive: bool,
    /// Whether it became so by leading: it was empty before.
    pub filled_by_leading: bool,
    /// Told why this process does not lead because of it; none where that is not so.
    pub refusal: watch::Sender<Option<String>>,
}

/// One that wants the lease.
#[derive(Debug)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    duration: Duration,
    metrics: ClusterMetrics,
    claim: Claim,
    /// The lease of another as it was first seen to be as it is, and when.
    seen: Option<(LeaseSpec, Instant)>,
}

/// Why nobody can stand for election.
#[derive(Debug, thiserror::Error)]
pub enum ElectionError {
    /// The thread.
    #[error("cannot start the thread that renews the lease: {0}")]
    Thread(#[from] std::io::Error),
    /// The client.
    #[error("cannot make the client that renews the lease: {0}")]
    Client(#[from] SinkError),
    /// It does not run any more.
    #[error("the thread that renews the lease has ended")]
    Ended,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Attempt {
    Held,
    /// Another holds it.
    Others(String),
    /// Another was faster just now.
    Overtaken,
    /// The lease names this ledger, and ours is another.
    OtherLedger(String),
}

impl Candidate {
    /// A candidate under a name that no other process has.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: String,
        duration: Duration,
        metrics: ClusterMetrics,
        claim: Claim,
    ) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), identity, duration, metrics, claim, seen: None }
    }

    async fn contend(mut self, tenure: watch::Sender<Tenure>, mut stopped: watch::Receiver<bool>) {
        let end = || tenure.send_modify(|tenure| tenure.until = None);
        let mut leads = false;
        // A request may get lost: the first attempt leaves time for a second one within the term, which may take all of it.
        let third = self.duration / 3;
        let mut patience = third / 2;
        loop {
            let began = Instant::now();
            let attempt = tokio::time::timeout(patience, self.attempt());
            let attempt = tokio::select! {
                attempt = attempt => attempt,
                _ = stopped.wait_for(|stopped| *stopped) => break,
            };
            patience = if attempt.is_err() { third } else { third / 2 };
            let wait = match attempt {
                Ok(Ok(Attempt::Held)) => {
                    self.claim.exclusive |= self.claim.filled_by_leading;
                    self.claim.refusal.send_replace(None);
                    let (until, mut begins) = (began + self.duration * 2 / 3, false);
                    tenure.send_modify(|tenure| begins = tenure.extend(until));
                    if begins {
                        self.metrics.elections.inc();
                        tracing::info!(lease = %self.name, identity = %self.identity, "this controller leads");
                    }
                    leads = true;
                    third
                }
                Ok(Ok(Attempt::Others(holder))) => {
                    self.claim.refusal.send_replace(None);
                    end();
                    if leads {
                        tracing::warn!(lease = %self.name, holder, "another controller leads now");
                    }
                    leads = false;
                    self.duration / 5
                }
                Ok(Ok(Attempt::OtherLedger(epoch))) => {
                    end();
                    leads = false;
                    self.refuse(&epoch);
                    self.duration / 5
                }
                Ok(Ok(Attempt::Overtaken)) => self.duration / 10,
                Ok(Err(error)) => {
                    tracing::warn!(lease = %self.name, error = %short(&error), "cannot renew the lease");
                    self.duration / 10
                }
                Err(_) => {
                    tracing::warn!(lease = %self.name, "the API server does not answer about the lease");
                    Duration::ZERO
                }
            };
            leads = leads && tenure.borrow().end().is_some();
            self.metrics.leader.set(i64::from(leads));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
        }
        end();
        self.metrics.leader.set(0);
        if leads {
            // The next one need not wait for the lease to run out.
            let released = tokio::time::timeout(self.duration / 3, self.release()).await;
            if !matches!(released, Ok(Ok(()))) {
                tracing::warn!(lease = %self.name, "could not give the lease back; it runs out by itself");
            }
        }
    }

    /// Says once that the lease names another ledger.
    fn refuse(&self, epoch: &str) {
        let problem = format!(
            "LedgerStale: this controller's ledger is a file of its own (epoch {}), and Lease {} names another (epoch {epoch}): \
             this one was left behind, so it does not lead; remove the file to have it filled from what is published, or set \
             LEDGER_TAKEOVER=true to go on with it",
            self.claim.epoch, self.name
        );
        let said = |told: &Option<String>| told.as_ref() == Some(&problem);
        if !said(&self.claim.refusal.borrow()) {
            tracing::error!("{problem}");
            self.claim.refusal.send_replace(Some(problem));
        }
    }

    /// Takes or renews the lease if it is free or ours.
    async fn attempt(&mut self) -> Result<Attempt, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    annotations: Some(
                        [(LEDGER_EPOCH_ANNOTATION.to_owned(), self.claim.epoch.clone())].into(),
                    ),
                    ..ObjectMeta::default()
                },
                spec: Some(self.terms(None)),
            };
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(_) => Ok(Attempt::Held),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(Attempt::Overtaken),
                Err(error) => Err(error),
            };
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        let ours = holder.as_ref() == Some(&self.identity);
        let named = lease.metadata.annotations.as_ref().and_then(|all| all.get(LEDGER_EPOCH_ANNOTATION));
        if let Some(other) =
            named.filter(|named| **named != self.claim.epoch && self.claim.exclusive && !ours)
        {
            return Ok(Attempt::OtherLedger(other.clone()));
        }
        if let Some(holder) = holder.filter(|_| !ours) {
            let now = Instant::now();
            let since = match &self.seen {
                Some((before, since)) if *before == spec => *since,
                _ => {
                    self.seen = Some((spec.clone(), now));
                    now
                }
            };
            let duration = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            let duration = duration.map_or(self.duration, Duration::from_secs);
            if since + duration > now {
                return Ok(Attempt::Others(holder));
            }
        }
        self.replace(lease, self.terms(Some(&spec))).await
    }

    async fn replace(&self, mut lease: Lease, spec: LeaseSpec) -> Result<Attempt, kube::Error> {
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.insert(LEDGER_EPOCH_ANNOTATION.to_owned(), self.claim.epoch.clone());
        // With the version that was read: whoever is second is refused.
        let lease = Lease { spec: Some(spec), ..lease };
        match self.api.replace(&self.name, &PostParams::default(), &lease).await {
            Ok(_) => Ok(Attempt::Held),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Attempt::Overtaken),
            Err(error) => Err(error),
        }
    }

    fn terms(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let ours = before.is_some_and(|before| before.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|before| before.lease_transitions);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs().max(1)).ok(),
            acquire_time: before
                .filter(|_| ours)
                .and_then(|before| before.acquire_time.clone())
                .or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(match transitions {
                None => 0,
                Some(count) if ours => count,
                Some(count) => count.saturating_add(1),
            }),
            ..LeaseSpec::default()
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_ref() == Some(&self.identity) {
            let free = LeaseSpec {
                holder_identity: Some(String::new()),
                lease_duration_seconds: Some(1),
                ..self.terms(Some(&spec))
            };
            self.replace(lease, free).await?;
        }
        Ok(())
    }
}

/// Makes a candidate, who stands for election from now on, on a thread of its own.
///
/// # Errors
/// Where there can be no such thread, or no client.
pub async fn stand(
    config: Config,
    candidate: impl FnOnce(Client) -> Candidate + Send + 'static,
) -> Result<(Leadership, Standing), ElectionError> {
    let (tenure, held) = watch::channel(Tenure::default());
    let (stop, stopped) = watch::channel(false);
    let (begun, begins) = oneshot::channel();
    let (ended, ends) = oneshot::channel();
    let work = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(begun.send(Err(ElectionError::Thread(error)))),
        };
        runtime.block_on(async move {
            // What a client does in the background it does where it was made.
            match client_of(config) {
                Ok(client) => {
                    let _ = begun.send(Ok(()));
                    candidate(client).contend(tenure, stopped).await;
                }
                Err(error) => drop(begun.send(Err(ElectionError::Client(error)))),
            }
        });
        // Nobody may be waiting for it.
        let _ = ended.send(());
    };
    std::thread::Builder::new().name("lease".to_owned()).spawn(work)?;
    begins.await.unwrap_or(Err(ElectionError::Ended))?;
    Ok((Leadership::of(held), Standing { stop, ends }))
}

/// A candidature. Whoever drops it withdraws, and does not wait for the end of it.
#[derive(Debug)]
pub struct Standing {
    stop: watch::Sender<bool>,
    ends: oneshot::Receiver<()>,
}

impl Standing {
    /// Ends it and gives the lease back. To be called when nothing is done any more in its name.
    pub async fn withdraw(self) {
        self.stop.send_replace(true);
        // A thread that panicked has nothing to give back.
        let _ = self.ends.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_term_that_ran_out_is_over_although_the_lease_was_renewed_since() {
        let (tenure, held) = watch::channel(Tenure::default());
        let mut leadership = Leadership::of(held);
        let now = Instant::now();
        let extend = |until| {
            let mut begins = false;
            tenure.send_modify(|tenure| begins = tenure.extend(until));
            begins
        };
        assert!(extend(now + LONG));
        leadership.gained().await.unwrap();
        assert!(!extend(now + 2 * LONG), "it goes on");
        assert!(leadership.is_held());
        // The thread got to run too late.
        assert!(!extend(now));
        assert!(!leadership.is_held());
        assert!(!extend(now), "it does not begin where it is over");
        assert!(extend(now + LONG), "another term");
        assert!(!leadership.is_held(), "it is not the one that was gained");
        leadership.lost().await;
        leadership.gained().await.unwrap();
        assert!(leadership.is_held());
        tenure.send_modify(|tenure| tenure.until = None);
        leadership.lost().await;
        assert!(extend(now + LONG));
        assert!(!leadership.is_held());
    }

    #[tokio::test]
    async fn what_was_kept_from_running_until_the_term_was_over_does_not_go_on() {
        let (tenure, held) = watch::channel(Tenure::default());
        let mut leadership = Leadership::of(held);
        tenure.send_modify(|tenure| assert!(tenure.extend(Instant::now() + LONG)));
        leadership.gained().await.unwrap();
        let (said, heard) = watch::channel("nothing");
        let (answer, answered) = oneshot::channel();
        let work = tokio::spawn(leadership.guard(async move {
            said.send_replace("asked");
            let _ = answered.await;
            said.send_replace("went on");
        }));
        tokio::task::yield_now().await;
        assert_eq!(*heard.borrow(), "asked");
        // Both happened before it gets to run.
        tenure.send_modify(|tenure| tenure.until = None);
        answer.send(()).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(*heard.borrow(), "asked");
        work.abort();
    }

    #[tokio::test]
    async fn where_nobody_stands_any_more_that_is_said() {
        let (tenure, held) = watch::channel(Tenure::default());
        let mut leadership = Leadership::of(held);
        drop(tenure);
        assert!(matches!(leadership.gained().await, Err(ElectionError::Ended)));
        Leadership::granted().gained().await.unwrap();
    }
}
