//! One cycle: read the source, weigh what it says, make the node so, report what was verified.

use std::collections::BTreeSet;
use std::time::Duration;

use multinic_core::MacAddr;
use multinic_core::desired::{DesiredState, EntryId, Outcome};
use multinic_core::node::absence::{AbsenceLedger, AbsenceRules, Proof, Trust};
use multinic_host::{Anchors, HostError};
use multinic_store::{AgentSource, StoreError};
use multinic_telemetry::shutdown::Shutdown;
use tokio::time::Instant;

use crate::lifeline::NodeAddresses;
use crate::metrics::{ErrorType, Metrics, Query};
use crate::news::{News, Subject};
use crate::node::{Node, Passed};
use crate::reports::{self, ReportBook, Verified};
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
    source: AgentSource,
    lifeline: NodeAddresses,
    ledger: AbsenceLedger,
    rules: AbsenceRules,
    dry_run: bool,
    wishes: Option<Wishes>,
    /// What the last read said of this node, without what we reported ourselves.
    substance: Option<Substance>,
    last_complete: Option<Instant>,
    absent: BTreeSet<MacAddr>,
    book: ReportBook,
    news: News,
    metrics: Metrics,
    board: StatusBoard,
}

/// Why nothing can be foretold.
#[derive(Debug, thiserror::Error)]
pub enum ForecastError {
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] StoreError),
    /// The node cannot be looked at.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// How a cycle ended.
#[derive(Debug)]
pub enum Cycle {
    /// The source could not be read.
    Unread(StoreError),
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
        source: AgentSource,
        lifeline: NodeAddresses,
        rules: AbsenceRules,
        dry_run: bool,
        metrics: Metrics,
        board: StatusBoard,
    ) -> Self {
        let mut ledger = AbsenceLedger::default();
        ledger.newest = node.host.newest().cloned();
        Self {
            node,
            source,
            lifeline,
            ledger,
            rules,
            dry_run,
            wishes: None,
            substance: None,
            last_complete: None,
            absent: BTreeSet::new(),
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
    async fn read(&mut self) -> Result<DesiredState, StoreError> {
        let begun = Instant::now();
        let read = async {
            let source_addresses = self.source.database_addresses().await?.into_iter().collect();
            Ok::<_, StoreError>((source_addresses, self.source.read().await?))
        };
        let read = read.await;
        self.metrics.query(Query::GetPending, begun.elapsed());
        let (source_addresses, read) = read?;
        let node_addresses = self.lifeline.addresses();
        self.node.host.set_anchors(Anchors { node_addresses, source_addresses });
        Ok(read)
    }

    fn unread(&mut self, error: StoreError) -> Cycle {
        // What was absent before the failure may have been there while we could not read.
        self.ledger.interrupt();
        self.last_complete = None;
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
        let trust = self.ledger.weigh(&read);
        if trust == Trust::Stale {
            self.ledger.interrupt();
            self.last_complete = None;
            let text =
                "the source is older than what was read before: is it a restored copy or a late replica?";
            if self.news.is_new(Subject::Source, text) {
                self.metrics.error(ErrorType::Database);
                tracing::error!(node_name = %self.node.name, error = text, "the read is not used");
            }
            self.board.not_read(text.to_owned());
            return Ok(Cycle::Stale);
        }
        self.say_source(&read, &trust);
        self.remember(&read).await?;
        let wishes = self.judge(read, &trust).await?;
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

    /// Keeps over a restart how new the source was. Every publication anywhere in the fleet makes it newer; a source that
    /// is stale by publications that did not concern this node says nothing else of it, so only one that did is written.
    async fn remember(&mut self, read: &DesiredState) -> Result<(), HostError> {
        let substance = Some(substance(read));
        let Some(newest) = self.ledger.newest.clone().filter(|_| !self.dry_run) else { return Ok(()) };
        let same_source =
            self.node.host.newest().is_some_and(|held| {
                held.position.epoch == newest.position.epoch && held.met_at == newest.met_at
            });
        if same_source && self.substance == substance {
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
        let verified = reports::outcomes(wishes, &passed.plan, &passed.unmade, &self.absent);
        self.board.pass(counts(wishes, &verified));
        Ok((passed, verified))
    }

    /// Makes the node as the last good read wished, without reading again. Reports wait for the next read, whose
    /// answer shows what the source holds.
    pub async fn local_pass(&mut self, shutdown: &Shutdown) -> Result<Option<Passed>, HostError> {
        let Some(wishes) = self.wishes.take() else { return Ok(None) };
        let passed = self.pass(&wishes, shutdown).await;
        self.wishes = Some(wishes);
        Ok(Some(passed?.0))
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

    fn say_source(&mut self, read: &DesiredState, trust: &Trust) {
        let text = match trust {
            Trust::NoRemovals(why) => format!("nothing is removed: {why}"),
            Trust::Full if read.node_known => "read".to_owned(),
            Trust::Full | Trust::Stale => "unknown".to_owned(),
        };
        if !self.news.is_new(Subject::Source, &text) {
            return;
        }
        let node_name = &self.node.name;
        let entries = read.nics.len() + read.invalid.len();
        match trust {
            Trust::NoRemovals(why) => {
                tracing::warn!(%node_name, interface_count = entries, error = why, "the source was read; on its word nothing is taken away");
            }
            _ if read.node_known => {
                tracing::info!(%node_name, interface_count = entries, source = %self.source.place(), "the source was read");
            }
            _ => tracing::warn!(
                %node_name,
                source = %self.source.place(),
                "the source does not know a node of this name: nothing is configured, and nothing is taken away; is NODE_NAME the name of its server in OpenStack?"
            ),
        }
    }

    fn say_wishes(&mut self, wishes: &Wishes, ours: &BTreeSet<MacAddr>) {
        let node_name = &self.node.name;
        for entry in &wishes.invalid {
            if self.news.is_new(Subject::Entry(entry.entry), &entry.reason) {
                self.metrics.error(ErrorType::Validation);
                tracing::error!(
                    %node_name,
                    interface_id = entry.entry.0,
                    mac_address = entry.mac.map(|mac| mac.to_string()),
                    error = entry.reason,
                    error_type = ErrorType::Validation.label(),
                    "entry cannot be used; what it stands for stays as it is"
                );
            }
        }
        for (mac, why) in wishes.held.iter().filter(|(mac, _)| ours.contains(mac)) {
            if self.news.is_new(Subject::Held(*mac), why) {
                tracing::warn!(%node_name, mac_address = %mac, error = why, "interface is not named by the source and stays");
            }
        }
        for (mac, proof) in wishes.releases.iter().filter(|(mac, _)| ours.contains(mac)) {
            let proof = match proof {
                Proof::Tombstone => "the source says so",
                Proof::LongAbsence => "the source has not named it for long enough",
            };
            if self.news.is_new(Subject::Held(*mac), proof) {
                tracing::info!(%node_name, mac_address = %mac, reason = proof, "interface is to be taken away");
            }
        }
        let entries: BTreeSet<_> = wishes.invalid.iter().map(|entry| entry.entry).collect();
        self.news.keep(|subject| match subject {
            Subject::Entry(entry) => entries.contains(&entry),
            Subject::Held(mac) => wishes.held.contains_key(&mac) || wishes.releases.contains_key(&mac),
            Subject::Source | Subject::Nic(_) => true,
        });
    }
}

fn counts(wishes: &Wishes, verified: &[Verified]) -> Counts {
    let applied = verified.iter().filter(|one| matches!(one.report.outcome, Outcome::Applied { .. })).count();
    Counts { entries: wishes.entries(), failed: wishes.entries().saturating_sub(applied) }
}

fn error_type(error: &StoreError) -> ErrorType {
    match error {
        StoreError::TimedOut { .. } => ErrorType::Timeout,
        _ => ErrorType::Database,
    }
}
