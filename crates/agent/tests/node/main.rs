//! The agent as a program, on real links in a network namespace of each test's own, with a real database.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing loudly; the lints' own exemption does not reach their helpers"
)]

mod agent;
mod apply;
mod backoff;
mod commands;
mod crash;
mod database;
mod doctor;
mod drifts;
mod harm;
mod links;
mod moved;
mod pages;
mod refusal;
mod removal;
mod routing;
mod stop;
mod world;
