//! The agent of a node: it reads what the node is to have, looks at what the node has, makes the difference go away,
//! and reports what it verified.
//!
//! * [`config`]: flags, environment and file.
//! * [`commands`]: `run`, `once`, `plan`, `cleanup`.
//! * [`service`]: the loop of `run`; [`watch`] says which events of the kernel wake it.
//! * [`source`]: the database or the node's Kubernetes object ([`node_resource`]).
//! * [`cycle`]: read, weigh, pass, report. [`wishes`] is what the last good read asks for.
//! * [`node`]: one pass over the node. [`attempts`] says when a change may be made again, [`lifeline`] what is never cut.
//! * [`reports`]: what the source does not know yet. [`facts`]: what is known of every NIC after a pass.
//! * [`job`]: `RUN_MODE=job`, and what it leaves behind as its [`termination`] message.
//! * [`forecast`]: a plan in words. [`news`]: what was said already.
//! * [`metrics`], [`status`], [`pages`]: what the agent tells about itself.

pub mod attempts;
pub mod commands;
pub mod config;
pub mod cycle;
pub mod doctor;
mod doctor_database;
pub mod facts;
pub mod forecast;
pub mod job;
pub mod lifeline;
pub mod metrics;
pub mod news;
pub mod node;
pub mod node_resource;
pub mod pages;
pub mod reports;
pub mod service;
pub mod source;
pub mod status;
pub mod termination;
pub mod watch;
pub mod wishes;
