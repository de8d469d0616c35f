//! The guest of a node: its links and addresses by rtnetlink, the files of its network manager, and the transaction around
//! a change.
//!
//! What is to be done is planned in [`multinic_core::node`]; here it is looked at and acted upon.
//!
//! * [`Host`]: look, change, recover, listen.
//! * [`netlink`]: the kernel's links, addresses and routes.
//! * [`backend`]: the files for the next boot, of each of five network managers.
//! * [`manager`]: what the one that runs is told.
//! * `transaction`, `rollback`, `another_boot`, [`journal`], [`state`], [`earlier`], [`failures`]: old or new, never between.
//! * [`probes`]: what worked before a change works after it. [`guard`]: who restores a NIC when we die.
//! * [`survey`], [`claims`], `running`, [`hindrances`]: what others have configured there, and whether they can be told.
//! * [`files`]: files that are whole or not there. [`file_events`]: somebody else changed one.
//! * [`faults`]: where a test can break it.

mod another_boot;
pub mod backend;
pub mod backups;
pub mod claims;
pub mod earlier;
pub mod error;
pub mod failures;
pub mod faults;
pub mod file_events;
pub mod files;
pub mod guard;
pub mod hindrances;
mod host;
pub mod journal;
pub mod manager;
pub mod netlink;
pub mod of_boot;
pub mod probes;
mod rollback;
mod running;
pub mod state;
pub mod survey;
mod sysctl;
mod transaction;

pub use error::{
    APPLY_FAILED, ApplyError, Cause, FailureKind, HostError, ROLLBACK_FAILED, ROLLED_BACK, Rollback,
};
pub use file_events::{FileEvents, FileEventsError};
pub use host::{Access, Anchors, CheckWith, Host, Options, Recovered, Recovery, Unchecked};
pub use netlink::events::{Event, Events, Process};
