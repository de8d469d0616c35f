//! The way back: a server that holds nothing yet is filled from a backup, before anybody can reach it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::archive::Archive;
use super::make::{EPOCHS, compare, read};
use super::programs::Server;
use super::{BackupError, at};

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Restoring {
    /// The folder with the backups.
    pub folder: PathBuf,
    /// The name of one, or [`LATEST`](super::archive::LATEST).
    pub from: String,
    /// The database.
    pub database: String,
    /// The server's data, with its system tables. No server runs on them.
    pub data: PathBuf,
    /// An empty folder.
    pub work: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// It holds what the backup held, by this or an earlier call.
    Filled {
        /// The dump's name.
        file: String,
        /// Rows of all tables.
        rows: u64,
    },
    /// It was not touched: the database has rows.
    NotEmpty {
        /// How many.
        rows: u64,
    },
}

/// Beside the data: what was restored there.
const NOTE: &str = "multinic_restored";

/// What a note says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// What was asked for.
    from: String,
    /// The dump that it was.
    file: String,
    rows: u64,
    /// What is half filled is filled anew; it was empty before.
    is_complete: bool,
}

/// Fills an empty server. What was filled by an earlier call from what is asked for now stays as it is by now.
///
/// # Errors
/// Where there is no such backup, or it cannot be restored: the server is then not to be started, since it would be taken for
/// a new one.
pub fn restore(wanted: &Restoring) -> Result<Restored, BackupError> {
    let Restoring { folder, from, database, data, work } = wanted;
    let path = data.join(NOTE);
    let note = read_note(&path)?;
    if let Some(Note { file, rows, .. }) = note.clone().filter(|note| note.is_complete && note.from == *from)
    {
        return Ok(Restored::Filled { file, rows });
    }
    let server = Server::start(data, work, true)?;
    let rows = content(&server.counts(database)?);
    if rows > 0 && note.is_none_or(|note| note.is_complete) {
        server.stop()?;
        return Ok(Restored::NotEmpty { rows });
    }
    let archive = Archive::new(folder);
    let record = archive.find(from)?;
    let dump = archive.path(&record.file);
    if read(&dump)?.sha256 != record.sha256 {
        return Err(BackupError::Damaged { path: dump });
    }
    let (file, rows) = (record.file.clone(), record.rows());
    let mut note = Note { from: from.clone(), file: file.clone(), rows, is_complete: false };
    write_note(&path, &note)?;
    server.fill(database, &dump)?;
    compare(&record.tables, &server.counts(database)?)?;
    server.stop()?;
    note.is_complete = true;
    write_note(&path, &note)?;
    tracing::info!(file, rows, "the server was filled from a backup");
    Ok(Restored::Filled { file, rows })
}

/// Rows that say something: an epoch alone, and the version of the tables, are what every new database has.
fn content(counts: &BTreeMap<String, u64>) -> u64 {
    counts.iter().filter(|(table, _)| !EPOCHS.contains(&table.as_str())).map(|(_, rows)| rows).sum()
}

fn read_note(path: &Path) -> Result<Option<Note>, BackupError> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| at(path)(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

fn write_note(path: &Path, note: &Note) -> Result<(), BackupError> {
    let partial = path.with_extension("partial");
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(serde_json::to_string(note)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(path.parent().unwrap_or(path))?.sync_all()
    };
    write().map_err(at(path))
}
