//! Configurations as files of a directory, without Kubernetes: the directory is followed, and each configuration's
//! status is written beside its file.

mod directory;
mod status_files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use multinic_core::ConfigKey;
use multinic_core::config::Defaults;
use multinic_core::fleet::Listing;
use multinic_store::StoreError;
use multinic_telemetry::shutdown::Shutdown;

use crate::errands::TURN;
use crate::pass::{Configs, Controller};
use crate::pulse::{Counts, Pulse};
use crate::status::Outcome;

pub use directory::{Contents, Directory, Fingerprint, ReadError, Source};
use status_files::StatusFiles;

/// How often the directory is looked at for changes. A look is a few system calls per file.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A directory whose files changed within this time may be half written: it supports no removal. Programs that write a
/// file in several goes, or remove one and make it anew, take far less.
const SETTLING: Duration = Duration::from_secs(2);

/// How many times that a pass on demand waits for a directory that keeps changing.
const SETTLING_PATIENCE: u32 = 10;

/// The controller over a directory.
#[derive(Debug)]
pub struct Standalone {
    controller: Controller,
    directory: Directory,
    statuses: StatusFiles,
    /// What the directory looked like, and since when.
    look: Option<(Fingerprint, Instant)>,
    settling: Duration,
    /// The file of each configuration at the last pass.
    files: BTreeMap<ConfigKey, PathBuf>,
    defaults: Defaults,
    confirmed: BTreeSet<String>,
    error_interval: Duration,
    pulse: Arc<Pulse>,
}

/// What one pass over the directory came to.
#[derive(Debug)]
pub struct Summary {
    /// Configurations, and how many of them are as their spec wants it.
    pub ready: usize,
    /// Configurations that are not.
    pub failing: usize,
    /// Files that could not be read as configurations at all.
    pub broken_files: usize,
    /// Removals that wait for a person.
    pub held: usize,
}

/// Why a pass over the directory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// The directory could not be read. Nothing was removed.
    #[error(transparent)]
    Directory(#[from] ReadError),
    /// The database failed. Nothing was published.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Standalone {
    /// A controller over `directory`, with statuses in `status_directory` or beside each file.
    pub fn new(
        controller: Controller,
        directory: PathBuf,
        status_directory: Option<PathBuf>,
        defaults: Defaults,
        confirmed: BTreeSet<String>,
    ) -> Self {
        let error_interval = defaults.cadence.error;
        Self {
            controller,
            directory: Directory::new(directory),
            statuses: StatusFiles::new(status_directory),
            look: None,
            settling: SETTLING,
            files: BTreeMap::new(),
            defaults,
            confirmed,
            error_interval,
            pulse: Arc::default(),
        }
    }

    /// The same with another time for which files must have been unchanged to support a removal; 2 s by default.
    pub fn settling(self, settling: Duration) -> Self {
        Self { settling, ..self }
    }

    /// What probes see.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// One pass, once nobody is writing to the directory.
    pub async fn once(&mut self) -> Result<Summary, StandaloneError> {
        let deadline = Instant::now() + self.settling * SETTLING_PATIENCE;
        loop {
            let rest = self.settles_in(self.directory.fingerprint());
            if rest.is_zero() || Instant::now() >= deadline {
                return self.pass().await;
            }
            tokio::time::sleep(rest).await;
        }
    }

    /// How long it takes until the directory, if it stays as it is, counts as settled.
    fn settles_in(&mut self, fingerprint: Fingerprint) -> Duration {
        let now = Instant::now();
        let since = match self.look.take() {
            Some((before, since)) if before == fingerprint => since,
            Some(_) => now,
            // Just started: what the files say of themselves has to do. A file that was removed says nothing.
            None => now.checked_sub(self.directory.unchanged_for().min(self.settling)).unwrap_or(now),
        };
        self.look = Some((fingerprint, since));
        self.settling.saturating_sub(now.duration_since(since))
    }

    /// Passes until a stop is requested: at once when a file changes, else when a cloud is due.
    ///
    /// # Errors
    /// Where the database's tables are gone: whoever starts anew makes them.
    pub async fn run(&mut self, mut shutdown: Shutdown) -> Result<(), StandaloneError> {
        self.controller.wait_at_most(Some(TURN));
        loop {
            let seen = self.directory.fingerprint();
            let rest = self.settles_in(seen.clone());
            let settled = (!rest.is_zero()).then(|| Instant::now() + rest);
            let passed = tokio::select! {
                passed = self.pass() => passed,
                // What is published goes in one transaction: one that is not complete is not there.
                () = shutdown.requested() => return Ok(()),
            };
            let retry = match passed {
                Ok(summary) => {
                    let failing = summary.failing + summary.broken_files;
                    self.pulse.passed(Counts { ready: summary.ready, failing });
                    None
                }
                Err(error) => {
                    self.pulse.failed(&error);
                    tracing::error!(error = %error, "the pass failed; nothing was removed");
                    if matches!(&error, StandaloneError::Store(error) if error.finds_no_tables()) {
                        return Err(error);
                    }
                    Some(Instant::now() + self.error_interval)
                }
            };
            let due = retry.or_else(|| self.controller.next_due()).into_iter().chain(settled).min();
            loop {
                tokio::select! {
                    () = shutdown.requested() => return Ok(()),
                    () = self.controller.come() => break,
                    () = tokio::time::sleep(LOOK_INTERVAL) => self.pulse.turn(),
                }
                if self.directory.fingerprint() != seen || due.is_some_and(|due| due <= Instant::now()) {
                    break;
                }
            }
        }
    }

    /// One pass at once. While somebody is writing to the directory, it supports no removal.
    pub async fn pass(&mut self) -> Result<Summary, StandaloneError> {
        let before = self.directory.fingerprint();
        let mut contents = self.directory.read(&self.defaults)?;
        contents.attribute(&self.files);
        let settled = self.directory.fingerprint() == before && self.settles_in(before).is_zero();
        let Contents { sources, broken } = contents;
        for error in &broken {
            tracing::error!(error = %error, "a file is not read as a configuration; the others go on, and no configuration counts as removed meanwhile");
        }
        let listing = match (settled, broken.is_empty()) {
            (false, _) => Listing::Unsettled,
            (true, false) => Listing::Partial,
            (true, true) => Listing::Complete,
        };
        let mut by_key = BTreeMap::new();
        let mut files: BTreeMap<ConfigKey, PathBuf> = BTreeMap::new();
        for (key, Source { file, config }) in sources {
            files.insert(key.clone(), file);
            by_key.insert(key, config);
        }
        if listing == Listing::Complete {
            self.statuses.retain(|key| by_key.contains_key(key));
            self.files.clear();
        }
        self.files.extend(files.iter().map(|(key, file)| (key.clone(), file.clone())));
        let configs = Configs::new(by_key, listing);
        let result = self.controller.pass(&configs, &self.confirmed).await;
        let held = result.as_ref().map_or(0, |report| report.held.as_ref().map_or(0, |held| held.count));
        let outcomes = match &result {
            Ok(report) => {
                report.log();
                report.outcomes.clone()
            }
            Err(error) => {
                let failed = Outcome::Failed { reason: "DatabaseError", message: error.to_string() };
                configs.by_key.keys().map(|key| (key.clone(), failed.clone())).collect()
            }
        };
        for (key, outcome) in &outcomes {
            let Some(file) = files.get(key) else { continue };
            let down = self.controller.pace(key).and_then(|pace| pace.down.clone());
            self.statuses.follow(key, file, outcome, down);
        }
        result?;
        let ready = outcomes.values().filter(|outcome| outcome.is_ready()).count();
        Ok(Summary { ready, failing: outcomes.len() - ready, broken_files: broken.len(), held })
    }
}
