//! The controller's planner: what every configuration's cloud shows and what was published before, to what to publish.
//!
//! The order is [`select`] (one configuration: which ports, which node), [`merge`] (all configurations: one wish per
//! port), [`candidates`] (which published interfaces nobody wishes any more), then the cloud is asked about each of
//! those, and [`decide()`] makes the publication. [`pace`] says when to look again.

mod decide;
mod fate;
mod merge;
pub mod pace;
mod problem;
mod select;
mod slots;

pub use decide::{Candidate, Decision, FleetLimits, Held, Listing, candidates, decide};
pub use merge::{Fleet, Standing, Wish, merge};
pub use problem::{Problem, Reason};
pub use select::{Selected, Wanted, select};
