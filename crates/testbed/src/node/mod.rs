//! Nodes without machines: a network namespace for each, NICs with the MACs of ports, and an oracle that tells whether
//! anything was touched that is not ours.
//!
//! * [`NetNs`]: a network namespace that lives as long as it is held.
//! * `hand`: what others do to it (set links up and down, add addresses and routes), as methods of [`NetNs`].
//! * [`Switch`]: plugs NICs into namespaces, and connects those of one network.
//! * [`ForeignState`]: everything on a node that is not ours, before and after.
//! * [`NetlinkWatch`]: what the kernel said meanwhile about links that are not ours.
//!
//! All of it works as root, and within a user namespace that has its own network (`unshare -Urnm`).

mod foreign;
mod hand;
mod namespace;
mod switch;
mod watch;

use std::io;

pub use foreign::ForeignState;
pub use hand::NewRoute;
pub use namespace::NetNs;
pub use switch::Switch;
pub use watch::NetlinkWatch;

/// A node could not be made or looked at.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The system refused.
    #[error("cannot {act}: {source}")]
    System {
        /// What was tried.
        act: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {act}: {source}")]
    Netlink {
        /// What was tried.
        act: String,
        /// Why it failed.
        source: rtnetlink::Error,
    },
    /// The switch does not have this NIC.
    #[error("no NIC with MAC {0} is plugged")]
    NotPlugged(multinic_core::MacAddr),
    /// A namespace did not come to rest.
    #[error("the kernel does not come to an end with the IPv6 addresses of {0}")]
    Restless(String),
}

fn system(act: impl Into<String>) -> impl FnOnce(io::Error) -> NodeError {
    move |source| NodeError::System { act: act.into(), source }
}

fn netlink(act: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NodeError {
    move |source| NodeError::Netlink { act: act.into(), source }
}
