//! The agent on its node's object: a real API server with the manifests of `deploy/agent`, and real links in a network
//! namespace of each test's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

#[path = "../node/agent.rs"]
#[allow(dead_code, reason = "shared with the tests on databases")]
mod agent;
mod apply;
mod cluster;
#[path = "../node/database.rs"]
#[allow(dead_code, reason = "shared with the tests on databases")]
mod database;
mod deletion;
mod faults;
mod identity;
mod job;
mod kubelet;
#[path = "../node/links.rs"]
#[allow(dead_code, reason = "shared with the tests on databases")]
mod links;
mod pace;
mod permissions;
mod repairs;
mod sources;
#[path = "../node/world.rs"]
#[allow(dead_code, reason = "shared with the tests on databases")]
mod world;
