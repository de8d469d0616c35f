//! Where the wishes of nodes are delivered to, besides the database.
//!
//! * [`wish`]: what is delivered, and what became of it.
//! * [`payload`]: a node as the Viola API and the inventory write it.
//! * [`error`]: why a delivery failed.

pub mod error;
pub mod payload;
pub mod wish;

pub use error::SinkError;
pub use payload::{InterfacePayload, NodePayload};
pub use wish::{Delivery, NodeWish};
