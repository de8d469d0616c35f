//! The way back: a server that holds nothing yet is filled from a backup, before anybody can reach it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::archive::{Archive, content};
use super::folder::{put, write};
use super::make::{compare, read};
use super::programs::Server;
use super::{BackupError, at};

/// What is wanted.
pub struct Restoring<'a> {
    /// Where the backups are.
    pub archive: &'a dyn Archive,
    /// The name of one, or [`LATEST`](super::archive::LATEST).
    pub from: String,
    /// What tells this request from another for the same backup.
    pub request: Option<String>,
    /// The database.
    pub database: String,
    /// The server's data, with its system tables. No server runs on them.
    pub data: PathBuf,
    /// An empty folder, with place for a dump where the archive is elsewhere.
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
    #[serde(default)]
    request: Option<String>,
    /// The dump that it was.
    file: String,
    rows: u64,
}

/// Fills an empty server, or one that an interrupted call has half filled. What was filled by an earlier call from what is
/// asked for now stays as it is by now.
///
/// # Errors
/// Where there is no such backup, or it cannot be restored: the server is then not to be started, since it would be taken for
/// a new one.
pub fn restore(wanted: &Restoring<'_>) -> Result<Restored, BackupError> {
    let Restoring { archive, from, request, database, data, work } = wanted;
    let path = data.join(NOTE);
    let server = Server::start(data, work, true)?;
    let rows = content(&server.counts(database)?);
    if rows > 0 && !server.is_half_filled()? {
        server.stop()?;
        let is_this = |note: &Note| note.from == *from && note.request == *request;
        return Ok(match read_note(&path)?.filter(is_this) {
            Some(Note { file, rows, .. }) => Restored::Filled { file, rows },
            None => Restored::NotEmpty { rows },
        });
    }
    let record = archive.find(from, database, Timestamp::now())?;
    let dump = archive.fetch(&record, work)?;
    if read(&dump)?.sha256 != record.sha256 {
        return Err(BackupError::Damaged { file: record.file, place: archive.to_string() });
    }
    let (file, rows) = (record.file.clone(), record.rows());
    server.fill(database, &dump)?;
    if dump.starts_with(work) {
        let _ = fs::remove_file(&dump);
    }
    compare(&record.tables, &server.counts(database)?)?;
    write_note(&path, &Note { from: from.clone(), request: request.clone(), file: file.clone(), rows })?;
    server.is_filled()?;
    server.stop()?;
    tracing::info!(file, rows, "the server was filled from a backup");
    Ok(Restored::Filled { file, rows })
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
    // Only maps with keys that are not texts fail to serialise, and there is none.
    let text = serde_json::to_string(note).unwrap_or_default();
    write(&partial, text.as_bytes()).and_then(|()| put(&partial, path)).map_err(at(path))
}
