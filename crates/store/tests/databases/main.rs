//! The store on real databases: every test runs on SQLite and on a MariaDB server of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing loudly; the lints' own exemption does not reach a macro's body"
)]

mod agent;
mod check;
mod connection;
mod database;
mod mark;
mod publish;
mod scale;
mod servers;
mod upgrade;
mod world;
