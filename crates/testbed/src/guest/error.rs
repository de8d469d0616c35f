//! What can go wrong with a guest.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::node::NodeError;

/// Why there is no guest, or why it did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// A program could not be run.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{program} failed ({status}): {output}")]
    Failed {
        /// The program and its arguments.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// The guest did not come up.
    #[error("{guest} did not boot within {} s; its console:\n{console}", limit.as_secs())]
    NotUp {
        /// The guest.
        guest: String,
        /// How long it had.
        limit: Duration,
        /// The end of its console.
        console: String,
    },
    /// The guest did not go down.
    #[error("{guest} did not go down within {} s", limit.as_secs())]
    NotDown {
        /// The guest.
        guest: String,
        /// How long it had.
        limit: Duration,
    },
    /// The guest is off.
    #[error("{0} does not run")]
    Off(String),
    /// A file could not be written or read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The network refused.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Names the file.
pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> GuestError {
    move |source| GuestError::File { path: path.into(), source }
}

/// Names the program.
pub(crate) fn run(program: impl Into<String>) -> impl FnOnce(io::Error) -> GuestError {
    move |source| GuestError::Run { program: program.into(), source }
}
