//! What can go wrong with a control plane.

use std::io;
use std::path::PathBuf;

use crate::relay::RelayError;

/// Why there is no control plane, or no way into it.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// A program is not there.
    #[error("{program} is not in {}; build it: testbed/kubernetes/build.sh {target}", folder.display())]
    Missing {
        /// The program.
        program: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
        /// What builds it.
        target: &'static str,
    },
    /// A program could not be run.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program did not come up. Its whole log is kept.
    #[error("{program} did not become ready; the end of {}:\n{tail}", log.display())]
    NotUp {
        /// The program.
        program: &'static str,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// No free port.
    #[error("no free port at {at}: {source}")]
    Port {
        /// The address.
        at: std::net::IpAddr,
        /// Why the last one tried was not to be had.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate for {subject}: {source}")]
    Certificate {
        /// Whose.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A certificate made here names two groups at most.
    #[error("a client certificate for {user} cannot name {groups} groups, only two")]
    TooManyGroups {
        /// The user.
        user: String,
        /// How many were asked for.
        groups: usize,
    },
    /// The API server could not be asked, or refused.
    #[error("cannot {act}: {source}")]
    Api {
        /// What was tried.
        act: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// The API server left out what it always answers with.
    #[error("the API server answered without {0}")]
    Incomplete(&'static str),
    /// A resource definition was not taken into use.
    #[error("{0} is not established")]
    NotEstablished(String),
    /// No way in from a namespace.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The proxy could not be set up.
    #[error("cannot set up the proxy: {0}")]
    Proxy(String),
}

/// Names what was tried with the API server.
pub(super) fn api(act: impl Into<String>) -> impl FnOnce(kube::Error) -> KubernetesError {
    move |source| KubernetesError::Api { act: act.into(), source: Box::new(source) }
}

/// Names the file that was not written.
pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> KubernetesError {
    move |source| KubernetesError::File { path: path.into(), source }
}
