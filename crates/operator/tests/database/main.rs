//! The database as the operator runs it, on a real MariaDB.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod accounts;
mod backup;
mod bucket;
mod server;
mod tls;
