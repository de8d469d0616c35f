//! The operator against a real API server with its controllers, with no right but those of `deploy/operator`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod agents;
mod backup;
mod bench;
mod chaos;
mod controller;
mod database;
mod mutations;
mod network;
mod protection;
mod recovery;
mod rotation;
#[path = "../database/server.rs"]
#[allow(dead_code)] // What only the tests of the server alone use.
mod server;
mod storage;
mod tls;
