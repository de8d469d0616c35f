//! The guest of a node: its links and addresses by rtnetlink, its netplan files, and the transaction around a change.
//!
//! What is to be done is planned in [`multinic_core::node`]; here it is looked at and acted upon.
//!
//! * [`Host`]: look, change, recover, listen.
//! * [`netlink`]: the kernel's links, addresses and routes.
//! * [`netplan`]: the files for the next boot.
//! * `transaction`, `rollback`, [`journal`], [`state`]: old or new, never between.
//! * [`files`]: files that are whole or not there.
//! * [`faults`]: where a test can break it.

pub mod backups;
pub mod error;
pub mod faults;
pub mod files;
mod host;
pub mod journal;
pub mod netlink;
pub mod netplan;
mod rollback;
pub mod state;
mod sysctl;
mod transaction;

pub use error::{ApplyError, Cause, FailureKind, HostError, Rollback};
pub use host::{Access, Anchors, CheckWith, Host, Options, Recovered, Recovery};
pub use netlink::events::{Event, Events};
