//! The whole way in a cluster, with the real programs: an OpenstackConfig in a real API server becomes working NICs of
//! nodes, straight or through Viola, whatever fails meanwhile; and no secret is told on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod agreement;
mod cloud;
mod faults;
mod http;
mod leaders;
mod node;
mod outages;
mod programs;
mod scene;
mod secrets;
mod site;
mod straight;
mod viola;
mod waiting;
