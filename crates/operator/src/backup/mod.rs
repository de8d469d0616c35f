//! Backups of the database: a dump that was restored into a scratch server and counted before anybody relies on it, and its
//! way back into an empty server.
//!
//! * [`archive`]: the folder with the backups, what is kept of it and what goes.
//! * [`programs`]: MariaDB's own programs, which do the work.
//! * [`make`](mod@make): a backup is made. [`restore`](mod@restore): a server is filled from one.
//! * [`report`]: what a container says in its end, for the operator to read.
//! * [`fresh`]: whether the newest backup is as new as its schedule says. [`restoration`]: what came of a restoration.
//!
//! All but the last two runs where the database's image is, as a program of its own: the operator never logs in anywhere.

pub mod archive;
pub mod fresh;
pub mod make;
pub mod programs;
pub mod report;
pub mod restoration;
pub mod restore;

use std::io;
use std::path::{Path, PathBuf};

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
    #[error("there is no backup {from} in {}; there are: {names}", folder.display())]
    NotFound {
        /// What was asked for.
        from: String,
        /// Where.
        folder: PathBuf,
        /// The names of those that there are.
        names: String,
    },
    /// A backup's file is not as it was.
    #[error("{} is not as it was when it was verified: its checksum is another", path.display())]
    Damaged {
        /// The dump.
        path: PathBuf,
    },
}

/// An error about this file or folder.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path, source }
}
