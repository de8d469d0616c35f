//! What a container says in its end: the message of its termination, in which the operator reads it.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use multinic_core::brief::cut;
use serde::{Deserialize, Serialize};

use super::archive::Record;
use super::{BackupError, Restored, at};

/// Kubernetes takes no more of a container's message: 4096 bytes, of which a character has up to four.
const MOST: usize = 1_000;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// A backup was made and verified.
    #[serde(rename_all = "camelCase")]
    BackedUp {
        /// When it was begun.
        time: Timestamp,
        /// The name of its dump.
        file: String,
        /// Bytes.
        size: u64,
        /// Rows of all tables.
        rows: u64,
    },
    /// The server was filled, now or at an earlier start.
    Restored {
        /// The name of the dump.
        file: String,
        /// Rows of all tables.
        rows: u64,
    },
    /// The server was not filled, since it is not empty. It runs as it is.
    NotEmpty {
        /// How many rows it has.
        rows: u64,
    },
    /// Another one is at work in the folder.
    Busy,
    /// It failed.
    Failed {
        /// At what, and why.
        error: String,
    },
}

impl Report {
    /// Of a backup.
    pub fn of_backup(done: &Result<Record, BackupError>) -> Self {
        match done {
            Ok(record) => Self::BackedUp {
                time: record.time,
                file: record.file.clone(),
                size: record.size,
                rows: record.rows(),
            },
            Err(BackupError::Busy { .. }) => Self::Busy,
            Err(error) => Self::failed(error),
        }
    }

    /// Of a restoration.
    pub fn of_restoration(done: &Result<Restored, BackupError>) -> Self {
        match done {
            Ok(Restored::Filled { file, rows }) => Self::Restored { file: file.clone(), rows: *rows },
            Ok(Restored::NotEmpty { rows }) => Self::NotEmpty { rows: *rows },
            Err(error) => Self::failed(error),
        }
    }

    fn failed(error: &BackupError) -> Self {
        Self::Failed { error: cut(error.to_string(), MOST) }
    }

    /// Writes it where Kubernetes looks for it.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), BackupError> {
        // Only maps with keys that are not texts fail to serialise, and there is none.
        fs::write(path, serde_json::to_string(self).unwrap_or_default()).map_err(at(path))
    }
}
