//! One cycle: read the source, weigh what it says, make the node so, report what was verified.

mod say;

use std::collections::BTreeSet;
use std::time::Duration;

use multinic_core::MacAddr;
use multinic_core::desired::{DesiredState, EntryId, Outcome, Position};
use multinic_core::node::absence::{AbsenceLedger, AbsenceRules, Trust};
use multinic_host::{Anchors, HostError};
use multinic_store::StoreError;
use multinic_telemetry::shutdown::Shutdown;
use tokio::time::Instant;

use crate::facts::Facts;
use crate::lifeline::NodeAddresses;
use crate::metrics::{ErrorType, Metrics, Query};
use crate::news::{News, Subject};
use crate::node::{Node, Passed};
use crate::node_resource::ResourceError;
use crate::node_resource::read::Refusal;
use crate::reports::{self, ReportBook, Verified};
use crate::source::{Source, SourceError, SourceNews};
use crate::status::{Counts, StatusBoard};
use crate::wishes::Wishes;

/// What a read says of this node: its entries, each with the publication that last changed it, and its tombstones.
type Substance = (BTreeSet<(EntryId, u64)>, BTreeSet<MacAddr>);

fn substance(read: &DesiredState) -> Substance {
    let nics = read.nics.iter().map(|nic| (nic.entry, nic.revision));
    let invalid = read.invalid.iter().map(|entry| (entry.entry, entry.revision));
    (nics.chain(invalid).collect(), read.tombstones.iter().map(|tombstone| tombstone.mac).collect())
}

/// The source, the node, and what is remembered between two reads.
#[derive(Debug)]
pub struct Agent {
    /// The node.
    pub node: Node,
    source: Source,
    lifeline: NodeAddresses,
    ledger: AbsenceLedger,
    rules: AbsenceRules,
    stale_confirm: Duration,
    stale_since: Option<Instant>,
    dry_run: bool,
    wishes: Option<Wishes>,
    /// What the last read said of this node, without what we reported ourselves.
    substance: Option<Substance>,
    last_complete: Option<Instant>,
    absent: BTreeSet<MacAddr>,
    /// When the source was asked about the kubelet last, and how often it still is.
    kubelet_asked: Option<Instant>,
    kubelet_asks: u8,
    book: ReportBook,
    news: News,
    metrics: Metrics,
    board: StatusBoard,
}

/// A cloud controller manager says of a new node what it is after a while: so often that is asked for.
const KUBELET_ASKS: u8 = 10;
/// Between two times.
const KUBELET_PAUSE: Duration = Duration::from_secs(60);
/// How long a source must say something that may be a mistake of its own.
#[derive(Debug, Clone, Copy)]
pub struct Doubt {
    /// That a NIC of ours is absent.
    pub rules: AbsenceRules,
    /// That an object is older than it was.
    pub stale_confirm: Duration,
}

/// Why nothing can be foretold.
#[derive(Debug, thiserror::Error)]
pub enum ForecastError {
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The node cannot be looked at.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// How a cycle ended.
#[derive(Debug)]
pub enum Cycle {
    /// The source could not be read.
    Unread(SourceError),
    /// The source is older than what was read before, and was not used.
    Stale,
    /// The node was brought towards what the read asks for.
    Passed(Box<Passed>, Counts),
    /// A stop was requested before anything was changed.
    Stopped,
}

impl Agent {
    /// An agent that has read nothing yet.
    pub fn new(
        node: Node,
        source: Source,
        lifeline: NodeAddresses,
        doubt: Doubt,
        dry_run: bool,
        metrics: Metrics,
        board: StatusBoard,
    ) -> Self {
        let Doubt { rules, stale_confirm } = doubt;
        let mut node = node;
        if let Some(reach) = source.reach() {
            node.host.set_reach(reach);
        }
        let mut ledger = AbsenceLedger::default();
        ledger.newest = node.host.newest().cloned();
        Self {
            node,
            source,
            lifeline,
            ledger,
            rules,
            stale_confirm,
            stale_since: None,
            dry_run,
            wishes: None,
            substance: None,
            last_complete: None,
            absent: BTreeSet::new(),
            kubelet_asked: None,
            kubelet_asks: KUBELET_ASKS,
            book: ReportBook::default(),
            news: News::default(),
            metrics,
            board,
        }
    }

    /// The MACs that mean something to this agent.
    pub fn macs(&self) -> BTreeSet<MacAddr> {
        let wished = self.wishes.iter().flat_map(Wishes::macs);
        wished.chain(self.node.host.owned().keys().copied()).collect()
    }

    /// Reads the source and does what follows from it.
    pub async fn cycle(&mut self, shutdown: &Shutdown) -> Result<Cycle, HostError> {
        let begun = Instant::now();
        let mut stop = shutdown.clone();
        let read = tokio::select! {
            read = self.read() => read,
            // A read changes nothing, so it need not be finished.
            () = stop.requested() => return Ok(Cycle::Stopped),
        };
        let cycle = match read {
            Ok(read) => self.use_read(read, shutdown).await,
            Err(error) => Ok(self.unread(error)),
        };
        self.metrics.cycle(begun.elapsed());
        cycle
    }

    /// Finds the way to the source, which must not be cut, and reads it.
    async fn read(&mut self) -> Result<DesiredState, SourceError> {
        let begun = Instant::now();
        let source = &mut self.source;
        let read = async {
            let source_addresses = source.addresses().await?.into_iter().collect();
            Ok::<_, SourceError>((source_addresses, source.read().await?))
        };
        let read = read.await;
        self.metrics.query(Query::GetPending, begun.elapsed());
        let (source_addresses, read) = read?;
        if self.source.answers_reads() {
            self.node.host.source_answered();
        }
        self.ask_about_kubelet().await;
        let node_addresses = self.lifeline.of(&mut self.node.host);
        self.node.host.set_anchors(Anchors { node_addresses, source_addresses });
        Ok(read)
    }

    async fn ask_about_kubelet(&mut self) {
        let is_due = self.kubelet_asked.is_none_or(|last| last.elapsed() >= KUBELET_PAUSE);
        if self.kubelet_asks == 0 || !is_due {
            return;
        }
        self.kubelet_asked = Some(Instant::now());
        if let Some(kubelet) = self.source.kubelet().await {
            self.kubelet_asks = if kubelet.external_cloud { 0 } else { self.kubelet_asks - 1 };
            self.node.host.set_kubelet(kubelet);
        }
    }

    fn unread(&mut self, error: SourceError) -> Cycle {
        // What was absent before the failure may have been there while we could not read.
        self.ledger.interrupt();
        self.last_complete = None;
        self.stale_since = None;
        self.node.host.source_failed();
        if let SourceError::Resource(ResourceError::Refused(refusal)) = &error {
            self.source.refused(refusal.clone(), self.node.host.owned().is_empty());
        }
        let kind = error_type(&error);
        let text = error.to_string();
        self.metrics.database(false);
        self.metrics.error(kind);
        if self.news.is_new(Subject::Source, &text) {
            tracing::error!(
                node_name = %self.node.name,
                error = text,
                error_type = kind.label(),
                "the source cannot be read; everything stays as it is"
            );
        }
        self.board.not_read(text);
        Cycle::Unread(error)
    }

    async fn use_read(&mut self, read: DesiredState, shutdown: &Shutdown) -> Result<Cycle, HostError> {
        self.metrics.database(true);
        let mut trust = self.ledger.weigh(&read);
        if trust == Trust::Stale && self.is_stale_for_long(&read) {
            tracing::warn!(
                node_name = %self.node.name,
                "the object has been older than what was read before for so long that it is taken as it is now"
            );
            self.ledger.go_back(&read);
            trust = self.ledger.weigh(&read);
        }
        if trust == Trust::Stale {
            self.stale(&read);
            return Ok(Cycle::Stale);
        }
        self.stale_since = None;
        self.say_source(&read, &trust);
        let substance = substance(&read);
        let wishes = self.judge(read, &trust).await?;
        self.remember(substance).await?;
        self.source.agree();
        self.board.read();
        let passed = self.pass(&wishes, shutdown).await;
        let (passed, verified) = match passed {
            Ok(done) => done,
            Err(error) => {
                self.wishes = Some(wishes);
                return Err(error);
            }
        };
        self.report(&wishes, &passed, &verified).await;
        self.absent = passed.plan.absent.iter().copied().collect();
        let counts = counts(&wishes, &verified);
        self.wishes = Some(wishes);
        Ok(Cycle::Passed(Box::new(passed), counts))
    }

    /// Whether a read that is older than one before has been so for the time after which it is accepted. A table never
    /// is: the controller publishes beyond what it lost.
    fn is_stale_for_long(&mut self, read: &DesiredState) -> bool {
        let since = *self.stale_since.get_or_insert_with(Instant::now);
        read.position.as_ref().is_some_and(Position::is_of_object) && since.elapsed() >= self.stale_confirm
    }

    fn stale(&mut self, read: &DesiredState) {
        self.ledger.interrupt();
        self.last_complete = None;
        let text = "the source is older than what was read before: is it a restored copy or a late replica?";
        if self.news.is_new(Subject::Source, text) {
            self.metrics.error(ErrorType::Database);
            tracing::error!(node_name = %self.node.name, error = text, "the read is not used");
        }
        self.board.not_read(text.to_owned());
        let known = self.ledger.newest.as_ref().map(|newest| newest.position.revision).unwrap_or_default();
        let shown = read.position.as_ref().map(|position| position.revision).unwrap_or_default();
        let message = format!(
            "generation {shown} comes after {known}: is it a restored copy? It is taken as it is after {:?}",
            self.stale_confirm
        );
        self.source.refused(Refusal { reason: "StaleGeneration", message }, false);
    }

    /// Keeps over a restart how new the source was. Every publication anywhere in the fleet makes a database newer; one
    /// that is stale by publications that did not concern this node says nothing else of it, so only one that did is
    /// written. An object is about this node alone.
    async fn remember(&mut self, substance: Substance) -> Result<(), HostError> {
        let Some(newest) = self.ledger.newest.clone().filter(|_| !self.dry_run) else { return Ok(()) };
        let same_source = self.node.host.newest().is_some_and(|held| {
            held.position.epoch == newest.position.epoch
                && held.met_at == newest.met_at
                && held.inherited == newest.inherited
        });
        let substance = Some(substance);
        if same_source && !newest.position.is_of_object() && self.substance == substance {
            return Ok(());
        }
        self.node.host.remember_newest(&newest).await?;
        self.substance = substance;
        Ok(())
    }

    async fn judge(&mut self, read: DesiredState, trust: &Trust) -> Result<Wishes, HostError> {
        let observed = self.node.host.observe().await?;
        let ours = self.node.ours(&observed);
        let now = Instant::now();
        let elapsed = self.last_complete.map_or(Duration::ZERO, |last| now - last);
        self.last_complete = Some(now);
        let verdict = self.ledger.judge(&read, trust, &ours, elapsed, &self.rules);
        let wishes = Wishes::new(read, verdict);
        self.say_wishes(&wishes, &ours);
        Ok(wishes)
    }

    /// What the next cycle would work with, and nothing done about it. None: the source is older than what was read
    /// before.
    pub async fn forecast(&mut self) -> Result<Option<Wishes>, ForecastError> {
        let read = self.read().await?;
        let trust = self.ledger.weigh(&read);
        if trust == Trust::Stale {
            return Ok(None);
        }
        Ok(Some(self.judge(read, &trust).await?))
    }

    async fn pass(
        &mut self,
        wishes: &Wishes,
        shutdown: &Shutdown,
    ) -> Result<(Passed, Vec<Verified>), HostError> {
        let passed = self.node.pass(wishes, shutdown).await?;
        let verified = self.outcomes(wishes, &passed);
        self.board.pass(counts(wishes, &verified));
        let ours = self.node.ours(&passed.observed);
        self.board.held(ours.len());
        if !self.dry_run {
            let inherited = self.ledger.newest.as_ref().map(|newest| &newest.inherited);
            let theirs = |mac: &MacAddr| inherited.is_some_and(|inherited| inherited.contains(mac));
            let nothing_left = ours.iter().all(theirs);
            self.source.passed(|| Facts::new(wishes, &verified, &passed), nothing_left);
        }
        Ok((passed, verified))
    }

    fn outcomes(&self, wishes: &Wishes, passed: &Passed) -> Vec<Verified> {
        reports::outcomes(wishes, &passed.plan, &passed.unmade, &self.absent, self.node.moved())
    }

    /// Makes the node as the last good read wished, without reading again. Reports wait for the next read, whose
    /// answer shows what the source holds.
    pub async fn local_pass(&mut self, shutdown: &Shutdown) -> Result<Option<Passed>, HostError> {
        let Some(wishes) = self.wishes.take() else { return Ok(None) };
        let passed = self.pass(&wishes, shutdown).await;
        self.wishes = Some(wishes);
        Ok(Some(passed?.0))
    }

    /// What tells of changes of the source after this moment.
    pub fn news(&self) -> SourceNews {
        self.source.news()
    }

    /// Everything that the last pass found.
    pub fn facts(&self, passed: &Passed) -> Option<Facts> {
        let wishes = self.wishes.as_ref()?;
        let verified = self.outcomes(wishes, passed);
        Some(Facts::new(wishes, &verified, passed))
    }

    /// Whether the last good read knew this node.
    pub fn node_known(&self) -> bool {
        self.wishes.as_ref().is_some_and(|wishes| wishes.node_known)
    }

    /// The source, to be told that nothing more comes.
    pub fn into_source(self) -> Source {
        self.source
    }

    async fn report(&mut self, wishes: &Wishes, passed: &Passed, verified: &[Verified]) {
        if self.dry_run {
            return;
        }
        self.book.keep_only(wishes);
        let reports = self.book.unknown(verified);
        let released = self.book.unknown_releases(wishes, &passed.plan);
        if reports.is_empty() && released.is_empty() {
            return;
        }
        let begun = Instant::now();
        let sent = self.source.report(&reports, &released).await;
        self.metrics.query(Query::UpdateStatus, begun.elapsed());
        match sent {
            Ok(()) => {
                self.book.sent(&reports, &released);
                tracing::debug!(
                    node_name = %self.node.name,
                    interface_count = reports.len(),
                    deleted_total = released.len(),
                    "reported"
                );
            }
            Err(error) => {
                let kind = error_type(&error);
                self.metrics.error(kind);
                tracing::warn!(
                    node_name = %self.node.name,
                    error = %error,
                    error_type = kind.label(),
                    "the report could not be written; it is made again after the next read"
                );
            }
        }
    }
}

fn counts(wishes: &Wishes, verified: &[Verified]) -> Counts {
    let applied = verified.iter().filter(|one| matches!(one.report.outcome, Outcome::Applied { .. })).count();
    Counts { entries: wishes.entries(), failed: wishes.entries().saturating_sub(applied) }
}

fn error_type(error: &SourceError) -> ErrorType {
    match error {
        SourceError::Database(StoreError::TimedOut { .. }) => ErrorType::Timeout,
        SourceError::Resource(ResourceError::Refused(_)) => ErrorType::Validation,
        SourceError::Database(_) | SourceError::Resource(_) => ErrorType::Database,
    }
}
