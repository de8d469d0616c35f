//! What is under `deploy/`, put into a real API server with kubectl, and what the controller may do there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod kubectl;
mod make;
mod manifests;
mod permissions;
mod policies;
