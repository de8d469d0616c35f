//! `run`: the loop. It sleeps until the source is to be read, a link that matters changes, or a change that was held
//! back may be made; nothing else wakes it.

use std::time::Duration;

use multinic_core::node::poll::{PollRules, PollSchedule};
use multinic_host::HostError;
use multinic_telemetry::shutdown::Shutdown;
use rand::RngExt;
use tokio::time::{Instant, sleep_until};

use crate::cycle::{Agent, Cycle};
use crate::metrics::{ErrorType, Metrics};
use crate::node::Passed;
use crate::source::SourceNews;
use crate::status::StatusBoard;
use crate::watch::Watch;

/// How long a cycle may take: a slow database, and a change to every one of 64 NICs.
const CYCLE_BOUND: Duration = Duration::from_secs(600);
/// The pause after the kernel or the disk could not be worked with at all.
const HOST_PAUSE: Duration = Duration::from_secs(10);
/// Agents that start together do not stay in step.
const JITTER: f64 = 0.1;

/// The loop's times and what it tells.
#[derive(Debug)]
pub struct Service {
    agent: Agent,
    news: SourceNews,
    watch: Watch,
    rules: PollRules,
    schedule: PollSchedule,
    full_pass: Duration,
    metrics: Metrics,
    board: StatusBoard,
    next_read: Instant,
    next_full: Instant,
    retry_at: Option<Instant>,
}

impl Service {
    /// A loop whose first act is to read.
    pub fn new(
        agent: Agent,
        watch: Watch,
        rules: PollRules,
        full_pass: Duration,
        metrics: Metrics,
        board: StatusBoard,
    ) -> Self {
        let now = Instant::now();
        Self {
            news: agent.news(),
            agent,
            watch,
            rules,
            schedule: PollSchedule::default(),
            full_pass,
            metrics,
            board,
            next_read: now,
            next_full: now + full_pass,
            retry_at: None,
        }
    }

    /// Runs until a stop is requested; the change at hand is finished, or rolled back, before it returns. Returns the
    /// agent, whose source may have something to write yet.
    pub async fn run(mut self, mut shutdown: Shutdown) -> Agent {
        while !shutdown.is_requested() {
            let wake = self.retry_at.into_iter().fold(self.next_read.min(self.next_full), Instant::min);
            self.board.back_within(wake.saturating_duration_since(Instant::now()));
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                () = self.watch.relevant() => {
                    self.board.back_within(CYCLE_BOUND);
                    self.agent.node.set_hands(self.watch.hands());
                    self.agent.node.set_moved(self.watch.moved().clone());
                    self.look(&shutdown).await;
                }
                () = self.news.changed() => {
                    self.board.back_within(CYCLE_BOUND);
                    self.read(&shutdown).await;
                }
                () = sleep_until(wake) => {
                    self.board.back_within(CYCLE_BOUND);
                    if self.next_read <= Instant::now() {
                        self.read(&shutdown).await;
                    } else {
                        self.look(&shutdown).await;
                    }
                }
            }
        }
        self.agent
    }

    /// A cycle with a read of the source.
    async fn read(&mut self, shutdown: &Shutdown) {
        self.retry_at = None;
        let wait = match self.agent.cycle(shutdown).await {
            Ok(Cycle::Unread(_)) => self.schedule.after_error(&self.rules),
            Ok(Cycle::Stale) => self.schedule.after_quiet(&self.rules),
            Ok(Cycle::Passed(passed, _)) => {
                let changed = passed.made > 0;
                self.passed(&passed);
                if changed {
                    self.schedule.after_change(&self.rules)
                } else {
                    self.schedule.after_quiet(&self.rules)
                }
            }
            Ok(Cycle::Stopped) => return,
            Err(error) => {
                self.host_failed(&error);
                self.schedule.after_quiet(&self.rules).min(HOST_PAUSE)
            }
        };
        self.metrics.backoff(self.schedule.level());
        self.next_read = Instant::now() + jittered(wait);
    }

    /// A pass with what was read last.
    async fn look(&mut self, shutdown: &Shutdown) {
        self.retry_at = None;
        match self.agent.local_pass(shutdown).await {
            Ok(Some(passed)) => {
                if passed.made > 0 && self.schedule.level() == 0 {
                    // What was changed is to be reported soon.
                    let soon = jittered(self.schedule.after_change(&self.rules));
                    self.next_read = self.next_read.min(Instant::now() + soon);
                }
                self.passed(&passed);
            }
            Ok(None) => self.next_full = Instant::now() + self.full_pass,
            Err(error) => self.host_failed(&error),
        }
    }

    fn passed(&mut self, passed: &Passed) {
        self.next_full = Instant::now() + self.full_pass;
        self.retry_at = passed.retry_at;
        self.watch.set(self.agent.macs(), &self.agent.node.host, &passed.observed);
    }

    fn host_failed(&mut self, error: &HostError) {
        self.metrics.error(ErrorType::System);
        tracing::error!(
            node_name = %self.agent.node.name,
            error = %error,
            error_type = ErrorType::System.label(),
            "the node cannot be worked on; it is tried again"
        );
        let now = Instant::now();
        self.retry_at = Some(now + HOST_PAUSE);
        self.next_full = now + self.full_pass;
    }
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(1.0 - JITTER..=1.0 + JITTER))
}
