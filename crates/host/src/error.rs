//! What can go wrong with a whole node, and with one change to it.

use std::fmt;

use multinic_core::{MacAddr, Vlan};

use crate::backend::netplan::check::CheckError;
use crate::faults::{BadFault, Injected};
use crate::files::FileError;
use crate::guard::GuardError;
use crate::journal::JournalError;
use crate::manager::ManagerError;
use crate::netlink::NetlinkError;
use crate::state::StateError;

/// A change was not made, and nothing was changed.
pub const APPLY_FAILED: &str = "ApplyFailed";
/// A change was undone, and everything was found to be as before.
pub const ROLLED_BACK: &str = "RolledBack";
/// A change could not be undone.
pub const ROLLBACK_FAILED: &str = "RollbackFailed";

/// The node could not be looked at, or our own state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The network manager.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Our state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Two programs that change the same node undo each other's work.
    #[error("another agent works on this node (it holds the lock {0}); stop it first")]
    Busy(std::path::PathBuf),
    /// It was opened to be looked at only.
    #[error("the node was opened for reading only")]
    ReadOnly,
    /// The variable for tests.
    #[error(transparent)]
    Fault(#[from] BadFault),
}

/// What a failure is about, for metrics and for who decides about another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The kernel refused, or does not show what was asked for.
    Kernel,
    /// A file, the network manager, or our own state.
    System,
    /// Something took too long.
    Timeout,
    /// The link went away.
    NotFound,
}

/// A change was not made.
#[derive(Debug, thiserror::Error)]
#[error("{cause}; {rollback}")]
pub struct ApplyError {
    /// The NIC.
    pub mac: MacAddr,
    /// Why.
    pub cause: Cause,
    /// What became of what had been done by then.
    pub rollback: Rollback,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The link is not there, or its index belongs to another one now.
    #[error("the link of {mac} is gone")]
    Gone {
        /// The NIC.
        mac: MacAddr,
    },
    /// The kernel has no VLANs.
    #[error(
        "this kernel knows no VLANs (IEEE 802.1Q), and {0} is to be one: load its module (modprobe 8021q, and 8021q in a \
         file of /etc/modules-load.d), or leave options.vlan out"
    )]
    NoVlans(Vlan),
    /// The VLAN went away.
    #[error("{0} is gone")]
    VlanGone(Vlan),
    /// Somebody else's file is where one about a VLAN is to be.
    #[error("/{} is there, and we did not write it: move it away, or ask for another options.vlan", .0.display())]
    NotOurs(std::path::PathBuf),
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// netplan refused the file.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The network manager does not agree.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// What others added to the link, and its manager took away, could not be put back.
    #[error("cannot put back what the network manager took from the link: {}", .0.join("; "))]
    Lost(Vec<String>),
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The state could not be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The node could not be looked at after all steps.
    #[error("cannot verify it: {0}")]
    Look(#[source] HostError),
    /// After all steps, the kernel or the file shows something else.
    #[error("not as asked for, although every step was done: {}", .0.join(", "))]
    NotAsAsked(Vec<String>),
    /// What worked before the change does not work after it.
    #[error("it cut what worked before: {}; {}", .lost.join("; "), Still(.still))]
    Cut {
        /// What does not work any more.
        lost: Vec<String>,
        /// What of it does not work either now that the NIC is as before.
        still: Vec<String>,
    },
    /// Nothing on the node would restore the NIC if we died meanwhile.
    #[error(
        "nothing would undo the change if the agent died meanwhile (ALLOW_UNARMED=true allows that): {0}"
    )]
    Unarmed(#[from] GuardError),
    /// An earlier change to the same NIC was interrupted and cannot be rolled back.
    #[error("an earlier change to {mac} was interrupted and cannot be rolled back: {}", .failures.join("; "))]
    Unsettled {
        /// The NIC.
        mac: MacAddr,
        /// Why.
        failures: Vec<String>,
    },
    /// An earlier change to the same NIC was interrupted and has been rolled back now, so this one was planned from what
    /// is not there any more.
    #[error("an interrupted change to {mac} was rolled back first; this one has to be planned again")]
    Outdated {
        /// The NIC.
        mac: MacAddr,
    },
    /// The node was opened for reading only.
    #[error("the node was opened for reading only")]
    ReadOnly,
    /// A failure that a test asked for.
    #[error(transparent)]
    Injected(#[from] Injected),
}

struct Still<'a>(&'a [String]);

impl fmt::Display for Still<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("all of it works again"),
            still => write!(f, "without the change, too: {}", still.join("; ")),
        }
    }
}

/// What became of a failed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollback {
    /// Nothing had been done yet.
    NotNeeded,
    /// Kernel and files were found to be as before.
    Verified,
    /// They are not as before, and why. The journal entry is kept, so that it is tried again before the next change to
    /// the NIC and at the next start.
    Failed(Vec<String>),
}

impl fmt::Display for Rollback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNeeded => f.write_str("nothing was changed"),
            Self::Verified => f.write_str("rolled back, everything is as it was before"),
            Self::Failed(failures) => {
                write!(f, "and ROLLING BACK FAILED TOO ({}); it will be tried again", failures.join("; "))
            }
        }
    }
}

impl ApplyError {
    /// What it is about.
    pub fn kind(&self) -> FailureKind {
        match &self.cause {
            Cause::Gone { .. } | Cause::VlanGone(_) => FailureKind::NotFound,
            Cause::Netlink(error) if error.is_no_link() => FailureKind::NotFound,
            Cause::Netlink(_)
            | Cause::NoVlans(_)
            | Cause::Look(HostError::Netlink(_))
            | Cause::NotAsAsked(_)
            | Cause::Lost(_)
            | Cause::Cut { .. }
            | Cause::Unsettled { .. } => FailureKind::Kernel,
            Cause::Manager(error) if error.is_timeout() => FailureKind::Timeout,
            Cause::File(_)
            | Cause::NotOurs(_)
            | Cause::Check(_)
            | Cause::Manager(_)
            | Cause::Journal(_)
            | Cause::State(_)
            | Cause::Look(_)
            | Cause::Unarmed(_)
            | Cause::Outdated { .. }
            | Cause::ReadOnly
            | Cause::Injected(_) => FailureKind::System,
        }
    }

    /// What became of the NIC, in a word: the first of a report.
    pub fn reason(&self) -> &'static str {
        match (&self.cause, &self.rollback) {
            (Cause::Unsettled { .. }, _) | (_, Rollback::Failed(_)) => ROLLBACK_FAILED,
            (_, Rollback::Verified) => ROLLED_BACK,
            (_, Rollback::NotNeeded) => APPLY_FAILED,
        }
    }

    /// Whether the NIC is as it was before.
    pub fn is_as_before(&self) -> bool {
        self.reason() != ROLLBACK_FAILED
    }
}
