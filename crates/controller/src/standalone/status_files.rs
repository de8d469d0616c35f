//! The status of each configuration as a file, for people and scripts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use multinic_core::ConfigKey;
use multinic_core::fleet::pace::DownPortRetry;

use crate::status::{Outcome, Status};

/// A pass that changed nothing moves `lastSyncedAt` only; the file is rewritten for that no more often than this.
const REFRESH: Duration = Duration::from_secs(300);

/// Writes statuses, each only when it changes.
#[derive(Debug)]
pub struct StatusFiles {
    directory: Option<PathBuf>,
    known: BTreeMap<ConfigKey, Known>,
}

#[derive(Debug, Default)]
struct Known {
    path: PathBuf,
    status: Status,
    written: Option<Status>,
}

impl StatusFiles {
    /// Statuses in this directory, or beside each configuration's file.
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, known: BTreeMap::new() }
    }

    /// Brings a configuration's status up to an outcome.
    pub fn follow(&mut self, key: &ConfigKey, file: &Path, outcome: &Outcome, down: Option<DownPortRetry>) {
        let path = self.path(key, file);
        let new = || Known { path: path.clone(), status: read(&path), written: None };
        let known = self.known.entry(key.clone()).or_insert_with(new);
        if known.path != path {
            // Its file went to another directory.
            *known = new();
        }
        known.status.follow(outcome, down, Timestamp::now());
        if known.written.as_ref().is_some_and(|written| !worth_writing(written, &known.status)) {
            return;
        }
        match write(&path, key, &known.status) {
            Ok(()) => known.written = Some(known.status.clone()),
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %error, "cannot write a status; set STATUS_DIR to a directory that can be written");
            }
        }
    }

    /// Removes the statuses of configurations that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&ConfigKey) -> bool) {
        self.known.retain(|key, known| {
            let stays = is_there(key);
            if !stays && let Err(error) = fs::remove_file(&known.path) {
                tracing::debug!(path = %known.path.display(), error = %error, "cannot remove a status");
            }
            stays
        });
    }

    /// `NAMESPACE.NAME.status.yaml`: a file may hold several configurations.
    fn path(&self, key: &ConfigKey, file: &Path) -> PathBuf {
        let beside = || file.parent().map(Path::to_owned).unwrap_or_default();
        let name = format!("{}.{}.status.yaml", key.namespace, key.name).replace('/', "_");
        self.directory.clone().unwrap_or_else(beside).join(name)
    }
}

fn worth_writing(written: &Status, now: &Status) -> bool {
    let same_otherwise = Status { last_synced_at: now.last_synced_at, ..written.clone() } == *now;
    let age = match (written.last_synced_at, now.last_synced_at) {
        (Some(before), Some(now)) => Duration::try_from(now.duration_since(before)).unwrap_or_default(),
        (None, None) => Duration::ZERO,
        (None, Some(_)) | (Some(_), None) => REFRESH,
    };
    !same_otherwise || age >= REFRESH
}

/// A status that cannot be read only loses the times of its transitions.
fn read(path: &Path) -> Status {
    #[derive(serde::Deserialize)]
    struct File {
        status: Status,
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    serde_saphyr::from_str::<File>(&text).map(|file| file.status).unwrap_or_default()
}

fn write(path: &Path, key: &ConfigKey, status: &Status) -> io::Result<()> {
    #[derive(serde::Serialize)]
    struct File<'a> {
        config: String,
        status: &'a Status,
    }
    let text = serde_saphyr::to_string(&File { config: key.to_string(), status })
        .map_err(|error| io::Error::other(error.to_string()))?;
    // Whoever reads it meanwhile sees the old or the new one.
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}
