//! Links, addresses and routes of the process' network namespace, over `NETLINK_ROUTE`.
//!
//! Requests are synchronous: the kernel has answered by the time that the request is sent, so there is nothing to wait
//! for, a change is never dropped half-way by a caller who stops polling, and an answer that is not understood is an
//! error instead of a link that is missing from a list. Only [`events`] waits.

pub mod events;
mod neighbours;
mod read;
mod rules;
mod socket;
mod write;

use std::io;

use rustix::io::Errno;

pub use neighbours::Neighbour;
pub use read::{LinkState, OwnAddresses, Saved};
pub use socket::Netlink;

/// The kernel refused, or could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// There is no connection to the kernel.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// A change was refused.
    #[error("cannot {operation} {link}: {source}{}", Hint(.hint))]
    Refused {
        /// What was tried.
        operation: String,
        /// On which link, or which rule.
        link: String,
        /// Why it failed.
        source: io::Error,
        /// The kernel's own words, if it had any.
        hint: String,
    },
    /// A list could not be read.
    #[error("cannot read the {what} of the kernel: {source}")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A list kept changing while it was read.
    #[error("the {what} of the kernel changed at every attempt to read them")]
    Restless {
        /// What was to be read.
        what: &'static str,
    },
}

impl NetlinkError {
    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open(source) | Self::Refused { source, .. } | Self::Read { source, .. } => {
                source.raw_os_error()
            }
            Self::Restless { .. } => None,
        }
    }

    /// Whether the link that was to be changed is not there any more.
    pub fn is_no_link(&self) -> bool {
        self.errno() == Some(Errno::NODEV.raw_os_error())
    }
}

struct Hint<'a>(&'a str);

impl std::fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

/// A link by index and by the name that it had when it was last seen, for errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRef {
    /// The kernel's index.
    pub index: u32,
    /// The name.
    pub name: String,
}

impl std::fmt::Display for LinkRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (index {})", self.name, self.index)
    }
}
