//! What is wrong with a configuration, a VM or a port, in words that stay the same.

use std::fmt;

use serde::Serialize;

/// One thing that could not be done as the user wants it. Nothing invalid is skipped in silence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The stable word.
    pub reason: Reason,
    /// What it is about: a VM, a port, a node.
    pub subject: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.reason.as_str(), self.subject, self.message)
    }
}

/// The stable word for a [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reason {
    /// Nova knows no such server.
    VmNotFound,
    /// Several servers have the name.
    VmNotUnique,
    /// The server's name and metadata could not be read, so its node is not known.
    NodeNameUnknown,
    /// The name cannot be a node's.
    NodeNameInvalid,
    /// Two servers have the name of one node.
    NodeNameNotUnique,
    /// The server's name changed under a node that has NICs.
    NodeNameChanged,
    /// The network's MTU is not known.
    MtuUnknown,
    /// An address, subnet or MTU of a port that no NIC can have.
    InterfaceInvalid,
    /// A row of a port that could not be read.
    PortUnreadable,
    /// Two ports of one node have the same MAC.
    MacConflict,
    /// More NICs than slots.
    TooManyInterfaces,
    /// An interface that nobody selects any more, without proof that it may go.
    RemovalUnproven,
    /// More removals at once than the brake allows.
    MassRemovalHeld,
    /// A VM without a port in the selected subnets. Not an error: it may come.
    NoMatchingPort,
}

impl Reason {
    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VmNotFound => "VmNotFound",
            Self::VmNotUnique => "VmNotUnique",
            Self::NodeNameUnknown => "NodeNameUnknown",
            Self::NodeNameInvalid => "NodeNameInvalid",
            Self::NodeNameNotUnique => "NodeNameNotUnique",
            Self::NodeNameChanged => "NodeNameChanged",
            Self::MtuUnknown => "MtuUnknown",
            Self::InterfaceInvalid => "InterfaceInvalid",
            Self::PortUnreadable => "PortUnreadable",
            Self::MacConflict => "MacConflict",
            Self::TooManyInterfaces => "TooManyInterfaces",
            Self::RemovalUnproven => "RemovalUnproven",
            Self::MassRemovalHeld => "MassRemovalHeld",
            Self::NoMatchingPort => "NoMatchingPort",
        }
    }

    /// Whether it keeps the configuration from being `Ready`.
    pub fn is_error(self) -> bool {
        self != Self::NoMatchingPort
    }
}
