//! The agent's planner: desired and observed state, and what we own, to a list of steps or a refusal with a reason.
//!
//! * [`observed`]: what the kernel and the disk show.
//! * [`absence`]: which of our NICs may be taken away, and why the others may not.
//! * [`doctor`]: what on the node would do harm, and how to mend it.
//! * [`preflight`]: which links may be touched at all.
//! * [`plan()`]: the steps.
//! * [`routing`]: which routes and rules are an interface's own.
//! * [`poll`]: when to read the source again.

pub mod absence;
mod aside;
mod changes;
pub mod doctor;
pub mod observed;
mod plan;
pub mod poll;
pub mod preflight;
mod release;
pub mod routing;
mod target;

pub use changes::{Change, ChangeKind, NodePlan, Refusal, RefusalReason, Settled};
pub use plan::plan;
pub use target::{Drift, Former, NicTarget, Owned, OwnedNic, Step, drift};
