//! One pass over the node: look, plan, change, look again. Whatever happens to one NIC, the others are served.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multinic_core::MacAddr;
use multinic_core::node::doctor::{Finding, Severity, examine};
use multinic_core::node::observed::{Link, NicFile, Observed};
use multinic_core::node::{Change, ChangeKind, NicTarget, NodePlan, RefusalReason, Step, plan};
use multinic_host::backend::detect::Detected;
use multinic_host::failures::since_boot;
use multinic_host::{Cause, FailureKind, Host, HostError, Process, Unchecked};
use multinic_telemetry::shutdown::Shutdown;
use tokio::time::Instant;

use crate::attempts::Attempts;
use crate::forecast;
use crate::metrics::{Ending, ErrorType, Metrics};
use crate::news::{News, Subject};
use crate::reports::Unmade;
use crate::status::StatusBoard;
use crate::wishes::Wishes;

/// How often a pass looks again at what it changed. A change can free what another one waits for (a name, a slot); more
/// than a few rounds mean that somebody works against us, and then events and back-off take over.
const ROUNDS: u32 = 3;

/// When a NIC that would harm the node, or be harmed, is looked at again: what mends that tells nobody.
const UNSAFE_PAUSE: Duration = Duration::from_secs(30);

/// The node and what is remembered about the work on it.
#[derive(Debug)]
pub struct Node {
    /// The guest.
    pub host: Host,
    /// The name under which it is logged.
    pub name: String,
    slots: u8,
    dry_run: bool,
    attempts: Attempts,
    news: News,
    metrics: Metrics,
    board: StatusBoard,
    started: Instant,
    /// When that was, since the boot.
    started_at: Duration,
    /// The processes of others that last changed addresses of links.
    hands: BTreeMap<u32, Process>,
    /// The NICs that were seen to go into other network namespaces.
    moved: BTreeSet<MacAddr>,
    /// Whether the node is looked at for what would do harm although nothing is to be done: at first, and while something is
    /// refused for it.
    examine: bool,
}

/// How a pass ended.
#[derive(Debug, Default)]
pub struct Passed {
    /// The last look.
    pub observed: Observed,
    /// The plan of the last look: what is settled in it is verified.
    pub plan: NodePlan,
    /// Changes that were not made, or failed.
    pub unmade: Unmade,
    /// How many changes were made.
    pub made: usize,
    /// How many of those took a NIC away.
    pub released: usize,
    /// The links (by index) that were let go of with those.
    pub let_go: BTreeSet<u32>,
    /// When a change that was held back may be made, or is judged again.
    pub retry_at: Option<Instant>,
    /// What the network manager was not asked or told of what it is to read at the next boot.
    pub unchecked: Option<Unchecked>,
    /// How it has NICs of ours otherwise until then.
    pub untold: Vec<String>,
    /// How the node keeps the configuration of its NICs; none before a look.
    pub backend: Option<Detected>,
}

impl Passed {
    fn retry_by(&mut self, at: Instant) {
        self.retry_at = Some(self.retry_at.map_or(at, |earlier| earlier.min(at)));
    }
}

impl Node {
    /// Work on a node, with nothing remembered yet.
    pub fn new(
        host: Host,
        name: String,
        slots: u8,
        dry_run: bool,
        metrics: Metrics,
        board: StatusBoard,
    ) -> Self {
        let moved = host.moved().clone();
        Self {
            host,
            name,
            slots,
            dry_run,
            attempts: Attempts::default(),
            news: News::default(),
            metrics,
            board,
            started: Instant::now(),
            started_at: since_boot(),
            hands: BTreeMap::new(),
            moved,
            examine: true,
        }
    }

    /// Goes on from what an agent before this one could not do in this boot.
    pub fn resume(&mut self) {
        self.attempts = Attempts::after(self.host.failures().clone(), self.now());
    }

    /// The time since the boot.
    fn now(&self) -> Duration {
        self.started_at + self.started.elapsed()
    }

    /// Remembers on the node which changes failed.
    fn keep_failures(&mut self) {
        if let Err(error) = self.host.remember_failures(self.attempts.failures()) {
            tracing::warn!(node_name = %self.name, %error, "which changes failed is forgotten when this process ends");
        }
    }

    /// Remembers on the node which of the NICs that are waited for went into other network namespaces.
    fn keep_moved(&mut self, absent: &[MacAddr]) {
        let moved = absent.iter().filter(|mac| self.moved.contains(mac)).copied().collect();
        if let Err(error) = self.host.remember_moved(&moved) {
            tracing::warn!(node_name = %self.name, %error, "where a NIC went is forgotten when this process ends");
        }
    }

    /// The NICs that are ours: configured by us, or by an older program whose file names them.
    pub fn ours(&self, observed: &Observed) -> BTreeSet<MacAddr> {
        let in_files = observed.files.iter().filter_map(NicFile::mac);
        self.host.owned().keys().copied().chain(in_files).collect()
    }

    /// Makes the node as wished. A stop that is requested meanwhile is heeded between two changes.
    pub async fn pass(&mut self, wishes: &Wishes, shutdown: &Shutdown) -> Result<Passed, HostError> {
        let passed = self.rounds(wishes, shutdown).await;
        self.host.stand_down().await;
        passed
    }

    async fn rounds(&mut self, wishes: &Wishes, shutdown: &Shutdown) -> Result<Passed, HostError> {
        let mut passed = Passed::default();
        for round in 0..=ROUNDS {
            passed.observed = self.host.observe().await?;
            passed.plan = self.plan(wishes, &passed.observed).await?;
            self.keep_moved(&passed.plan.absent);
            self.say_findings(&passed.plan);
            if round == ROUNDS
                || shutdown.is_requested_by_now().await
                || !self.make(&mut passed, shutdown).await
            {
                break;
            }
        }
        if self.examine {
            passed.retry_by(Instant::now() + UNSAFE_PAUSE);
        }
        passed.backend = Some(self.host.backend().clone());
        passed.unchecked = self.host.unchecked().filter(|_| !self.host.owned().is_empty());
        if let Some(Unchecked { reason: _, why }) = &passed.unchecked
            && self.news.is_new(Subject::Unchecked, why)
        {
            tracing::warn!(node_name = %self.name, reason = why, "what is to be read at the next boot was not checked by who reads it");
        }
        passed.untold = self.host.untold(&passed.observed);
        let untold = passed.untold.join("; ");
        if self.news.is_new(Subject::Untold, &untold) && !untold.is_empty() {
            tracing::warn!(
                node_name = %self.name,
                found = untold,
                "systemd-networkd has interfaces otherwise than asked for, and is not told while it runs; what it sets is repaired"
            );
        }
        Ok(passed)
    }

    /// What is to be done, without what would do harm. The node is looked at for that when something is to be done, once at first, and
    /// while something is refused for it: any other pass in which nothing changed reads no file for it.
    pub async fn plan(&mut self, wishes: &Wishes, observed: &Observed) -> Result<NodePlan, HostError> {
        let mut plan = plan(&wishes.nics, &wishes.releases(), self.host.owned(), observed, self.slots);
        if !self.examine && plan.changes.iter().all(|change| change.target.is_none()) {
            return Ok(plan);
        }
        let changed = plan.changes.iter().filter_map(|change| change.target.as_ref());
        let targets: Vec<NicTarget> =
            changed.chain(plan.settled.iter().map(|settled| &settled.target)).cloned().collect();
        let findings = examine(&targets, self.host.owned(), observed, &self.host.survey(&targets).await?);
        self.metrics.findings(&findings);
        self.examine = findings.iter().any(|finding| finding.severity == Severity::Refuse);
        // What refuses a NIC is said with that NIC.
        let said = |finding: &&Finding| finding.severity == Severity::Warn || finding.mac.is_none();
        for finding in findings.iter().filter(said) {
            let Finding { code, severity: _, mac, what, place, mend } = finding;
            if self.news.is_new(Subject::Finding(code, *mac), what) {
                tracing::warn!(
                    node_name = %self.name,
                    mac_address = mac.map(|mac| mac.to_string()),
                    finding = code,
                    place,
                    mend,
                    "{what}"
                );
            }
        }
        self.news.keep(|subject| match subject {
            Subject::Finding(code, mac) => {
                findings.iter().any(|finding| finding.code == code && finding.mac == mac)
            }
            Subject::Source | Subject::Entry(_) | Subject::Nic(_) | Subject::Held(_) => true,
            Subject::Fight(_) | Subject::Unchecked | Subject::Untold => true,
        });
        plan.heed(&findings);
        Ok(plan)
    }

    /// Makes the changes of a plan that may be made now. Returns whether anything was tried, so that the node has to
    /// be looked at again.
    async fn make(&mut self, passed: &mut Passed, shutdown: &Shutdown) -> bool {
        let changes = std::mem::take(&mut passed.plan.changes);
        // What is refused for a while is still to be done.
        let refused = |mac| passed.plan.refused.iter().any(|refusal| refusal.mac == mac);
        let pending = |mac| changes.iter().any(|change| change.mac == mac) || refused(mac);
        self.attempts.settle(&pending, self.now());
        let mut tried = false;
        let mut renamed = BTreeSet::new();
        for change in &changes {
            if shutdown.is_requested_by_now().await {
                break;
            }
            if self.dry_run {
                self.say_intention(change);
                passed.unmade.insert(change.mac, "DryRun: it would be changed".to_owned());
            } else if let Some(reason) = waits_for_name(change, &passed.observed, &renamed) {
                // It would go down, and come up as it was.
                passed.unmade.insert(change.mac, reason);
            } else if let Err(hold) = self.attempts.admit(change, self.now()) {
                let until = self.started + hold.until.saturating_sub(self.started_at);
                passed.retry_by(until);
                let mut reason = hold.reason;
                if hold.fight
                    && let Some(who) = self.who_fights(change).await
                {
                    reason = format!("{reason}; it seems to be {who}");
                }
                if hold.fight && self.news.is_new(Subject::Fight(change.mac), "") {
                    tracing::warn!(node_name = %self.name, mac_address = %change.mac, error = reason, "interface is fought about");
                }
                passed.unmade.insert(change.mac, reason);
            } else {
                tried = true;
                match self.change(change, &passed.observed).await {
                    Ok(()) => {
                        passed.made += 1;
                        renamed.extend(change.link.filter(|_| new_name(change).is_some()));
                        if change.kind == ChangeKind::Release {
                            passed.released += 1;
                            passed.let_go.extend(change.link);
                        }
                        passed.unmade.remove(&change.mac);
                    }
                    Err(error) => {
                        passed.unmade.insert(change.mac, error);
                    }
                }
            }
        }
        self.metrics.rolled_back(changes.iter().filter_map(|change| self.attempts.failed_before(change)));
        passed.plan.changes = changes;
        self.keep_failures();
        tried
    }

    /// Who it is that undoes our repairs, as far as can be known.
    async fn who_fights(&self, change: &Change) -> Option<String> {
        let link = change.link?;
        if let Some(Process { id, name }) = self.hands.get(&link) {
            return Some(format!("the process {name} ({id})"));
        }
        self.host.other_manager(link, change.target.as_ref()?).await
    }

    /// The NICs that were seen to go into other network namespaces.
    pub fn moved(&self) -> &BTreeSet<MacAddr> {
        &self.moved
    }

    /// Which these are now.
    pub fn set_moved(&mut self, moved: BTreeSet<MacAddr>) {
        self.moved = moved;
    }

    /// The processes of others that last changed addresses of links.
    pub fn set_hands(&mut self, hands: BTreeMap<u32, Process>) {
        self.hands = hands;
    }

    async fn change(&mut self, change: &Change, observed: &Observed) -> Result<(), String> {
        if let ChangeKind::Repair(drifts) = &change.kind {
            for drift in drifts {
                self.metrics.drift(drift, observed, change.link);
            }
        }
        self.metrics.tasks(1);
        let begun = Instant::now();
        let result = self.host.apply(change).await;
        let took = begun.elapsed();
        self.metrics.tasks(0);
        let name = change.target.as_ref().map(|target| target.name);
        let now = self.now();
        match result {
            Ok(()) => {
                let repairs = self.attempts.succeeded(change, now);
                self.metrics.changed(name, Ending::Success, took);
                if change.kind == ChangeKind::Release {
                    self.metrics.deletion();
                    self.board.deletion();
                }
                self.say_success(change, took, repairs);
                Ok(())
            }
            Err(error) => {
                let kind = error_type(error.kind());
                self.metrics.changed(name, Ending::Failed, took);
                self.metrics.error(kind);
                let text = format!("{}: {error}", error.reason());
                let failures = if matches!(error.cause, Cause::Outdated { .. }) {
                    // It was not tried: what counts is the one before it.
                    self.attempts.take(change.mac, self.host.failures())
                } else {
                    self.attempts.failed(change, now, text.clone())
                };
                self.keep_failures();
                tracing::error!(
                    node_name = %self.name,
                    mac_address = %change.mac,
                    interface_name = name.map(|name| name.to_string()),
                    change = forecast::kind(&change.kind),
                    error = %error,
                    error_type = kind.label(),
                    failures,
                    as_before = error.is_as_before(),
                    "interface could not be changed"
                );
                Err(text)
            }
        }
    }

    fn say_success(&self, change: &Change, took: Duration, repairs: u32) {
        let message = match change.kind {
            ChangeKind::Create => "interface configured",
            ChangeKind::Adopt => "interface adopted from an earlier configuration",
            ChangeKind::Update(_) => "interface updated",
            ChangeKind::Repair(_) => "interface repaired",
            ChangeKind::StepAside(_) => "interface stepped aside, so that others get their names",
            ChangeKind::Release => "interface taken away",
        };
        let addresses = change.target.as_ref().map(|target| target.addresses.to_string());
        let because = forecast::drifts(change).join(", ");
        tracing::info!(
            node_name = %self.name,
            mac_address = %change.mac,
            interface_name = %forecast::name_of(change),
            change = forecast::kind(&change.kind),
            addresses,
            because = (!because.is_empty()).then_some(because),
            repairs_in_a_row = (repairs > 1).then_some(repairs),
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "{message}"
        );
    }

    fn say_intention(&mut self, change: &Change) {
        let text = format!("would {} {}", forecast::kind(&change.kind), forecast::name_of(change));
        if self.news.is_new(Subject::Nic(change.mac), &text) {
            tracing::info!(
                node_name = %self.name,
                mac_address = %change.mac,
                interface_name = %forecast::name_of(change),
                change = forecast::kind(&change.kind),
                "dry run: interface would be changed"
            );
        }
    }

    /// Says, and counts, what is refused and what is missing, once each.
    fn say_findings(&mut self, plan: &NodePlan) {
        for refusal in &plan.refused {
            let reason = refusal.reason.to_string();
            if !self.news.is_new(Subject::Nic(refusal.mac), &reason) {
                continue;
            }
            if let RefusalReason::InUse(obstacles) = &refusal.reason {
                for obstacle in obstacles {
                    self.metrics.blocked(*obstacle);
                }
            }
            self.metrics.error(ErrorType::Validation);
            tracing::warn!(
                node_name = %self.name,
                mac_address = %refusal.mac,
                link = refusal.link,
                error = reason,
                error_type = ErrorType::Validation.label(),
                "interface left alone"
            );
        }
        for mac in &plan.absent {
            if !self.moved.contains(mac) && self.news.is_new(Subject::Nic(*mac), "absent") {
                self.metrics.error(ErrorType::NotFound);
                if self.host.owned().contains_key(mac) {
                    self.metrics.missing_link();
                }
                tracing::info!(node_name = %self.name, mac_address = %mac, "waiting for a link with this MAC");
            }
            if self.moved.contains(mac) && self.news.is_new(Subject::Nic(*mac), "moved") {
                tracing::warn!(
                    node_name = %self.name,
                    mac_address = %mac,
                    "the link was moved into another network namespace; it is configured again when it comes back"
                );
            }
        }
        for settled in &plan.settled {
            let mac = settled.target.mac;
            let text = match (settled.duplicates.first(), settled.name_conflict) {
                (Some(net), _) => format!("another host has {} too", net.addr()),
                (None, Some(slot)) => format!("another name was asked for: {}", slot.interface()),
                (None, None) => continue,
            };
            if self.news.is_new(Subject::Nic(mac), &text) {
                self.metrics.error(ErrorType::Validation);
                tracing::warn!(
                    node_name = %self.name,
                    mac_address = %mac,
                    interface_name = %settled.target.name,
                    error = text,
                    "interface works, but not as desired"
                );
            }
        }
        let spoken_of = |mac: MacAddr| {
            plan.refused.iter().any(|refusal| refusal.mac == mac)
                || plan.absent.contains(&mac)
                || plan.changes.iter().any(|change| change.mac == mac)
                || plan.settled.iter().any(|settled| {
                    settled.target.mac == mac
                        && (settled.name_conflict.is_some() || !settled.duplicates.is_empty())
                })
        };
        self.news.keep(|subject| match subject {
            Subject::Nic(mac) => spoken_of(mac),
            Subject::Fight(mac) => self.attempts.is_fought_about(mac),
            Subject::Source | Subject::Entry(_) | Subject::Held(_) => true,
            Subject::Finding(..) | Subject::Unchecked | Subject::Untold => true,
        });
    }
}

/// The name that a change gives its link.
fn new_name(change: &Change) -> Option<&str> {
    change.steps.iter().find_map(|step| match step {
        Step::Rename(name) => Some(name.as_str()),
        _ => None,
    })
}

/// Why a change cannot be made yet: another link has the name, and what was to free it was not made. `renamed`: the links (by
/// index) that were given other names since the look.
fn waits_for_name(change: &Change, observed: &Observed, renamed: &BTreeSet<u32>) -> Option<String> {
    let name = new_name(change)?;
    let has_it = |link: &&Link| link.name == name && Some(link.index) != change.link;
    let holder = observed.links.iter().filter(|link| !renamed.contains(&link.index)).find(has_it)?;
    let who = holder.mac.map_or_else(|| format!("index {}", holder.index), |mac| mac.to_string());
    Some(format!("NameConflict: {name} is the name of another link, {who}, until that is changed"))
}

fn error_type(kind: FailureKind) -> ErrorType {
    match kind {
        FailureKind::Kernel => ErrorType::Network,
        FailureKind::System => ErrorType::System,
        FailureKind::Timeout => ErrorType::Timeout,
        FailureKind::NotFound => ErrorType::NotFound,
    }
}
