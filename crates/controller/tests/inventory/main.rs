//! The inventory over HTTP, on real databases and a real API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod access;
mod bench;
mod kept;
mod load;
mod paths;
mod watching;
