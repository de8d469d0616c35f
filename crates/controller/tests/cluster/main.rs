//! The controller against a real API server, with a simulated cloud.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod bench;
mod configs;
mod deletion;
mod farewells;
mod faults;
mod gone;
mod leaders;
mod manifests;
mod moves;
mod removals;
mod restoring;
mod sinks;
mod slow;
mod stale;
mod triggers;
