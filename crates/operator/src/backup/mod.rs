//! Backups of the database: a dump that was restored into a scratch server and counted before anybody relies on it, and its
//! way back into an empty server.
//!
//! * [`archive`]: where backups are, what is kept of them and what goes. [`folder`]: a folder. [`bucket`]: one of S3.
//! * [`programs`]: MariaDB's own programs, which do the work.
//! * [`make`](mod@make): a backup is made. [`restore`](mod@restore): a server is filled from one.
//! * [`report`]: what a container says in its end, for the operator to read.
//! * [`place`]: where the backups of a spec are. [`fresh`]: whether the newest backup is as new as its schedule says. [`restoration`]: what came of a restoration.
//!
//! All but the last three runs where the database's image is, as a program of its own: the operator never logs in anywhere.

pub mod archive;
pub mod bucket;
pub mod folder;
pub mod fresh;
pub mod make;
pub mod place;
pub mod programs;
pub mod report;
pub mod restoration;
pub mod restore;

use std::io;
use std::path::{Path, PathBuf};

use bucket::{S3Error, SettingsError};
pub use make::{Source, make};
pub use restore::{Restored, Restoring, restore};

/// What a backup or a restoration failed at.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else is at work in the folder.
    #[error("another backup is being made in {}", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// The bucket cannot be used as it is given.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A request to the bucket.
    #[error(transparent)]
    S3(Box<S3Error>),
    /// A program is not there, or cannot be started.
    #[error(
        "cannot run {program}: {source}; it is part of MariaDB's image, or of Debian's mariadb-server-core and mariadb-client"
    )]
    Run {
        /// Its name.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// A server of ours does not answer.
    #[error("mariadbd in {} does not answer: {said}", folder.display())]
    NotUp {
        /// Its data.
        folder: PathBuf,
        /// The end of its log.
        said: String,
    },
    /// A program said something that it does not say.
    #[error("mariadb said {text:?} where a table and its number of rows were asked for")]
    Answer {
        /// What.
        text: String,
    },
    /// The dump does not end as dumps do.
    #[error("the dump {} is not complete", path.display())]
    Incomplete {
        /// The dump.
        path: PathBuf,
    },
    /// The scratch server does not hold what the dump does.
    #[error(
        "the dump does not come back as it was: table {table} has {dumped} rows in it and {restored} when it is restored"
    )]
    Unequal {
        /// The table.
        table: String,
        /// Rows in the dump.
        dumped: u64,
        /// Rows in the server that was filled from it.
        restored: u64,
    },
    /// The dump does not hold what the database does, although nobody wrote there meanwhile.
    #[error("the dump lacks rows: table {table} has {dumped} in it and {there} in the database")]
    Partial {
        /// The table.
        table: String,
        /// Rows in the dump.
        dumped: u64,
        /// Rows in the database.
        there: u64,
    },
    /// The database holds nothing, and there is a backup from when it did.
    #[error(
        "the database is empty, and the backup {file} of it holds {rows} rows: nothing is made of it, and no backup goes. \
         If it has to be empty, move the older backups elsewhere"
    )]
    Emptied {
        /// The newest such backup.
        file: String,
        /// Its rows.
        rows: u64,
    },
    /// There is no such backup.
    #[error("there is no backup {from} in {place}; there are: {names}")]
    NotFound {
        /// What was asked for.
        from: String,
        /// Where: a folder, or the URL of a bucket.
        place: String,
        /// The names of those that there are.
        names: String,
    },
    /// A backup's file is not as it was.
    #[error("{file} in {place} is not as it was when it was verified: its checksum is another")]
    Damaged {
        /// The dump's name.
        file: String,
        /// Where: a folder, or the URL of a bucket.
        place: String,
    },
}

/// Rare, and larger than the others.
impl From<S3Error> for BackupError {
    fn from(error: S3Error) -> Self {
        Self::S3(Box::new(error))
    }
}

/// An error about this file or folder.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path, source }
}
