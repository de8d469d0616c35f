//! Where the wishes of nodes are delivered to, besides the database.
//!
//! * [`wish`]: what is delivered, and what became of it.
//! * [`payload`]: a node as the Viola API and the inventory write it.
//! * [`error`]: why a delivery failed.
//! * [`kubernetes`]: `MultiNicNodeConfig` objects.
//! * [`viola`]: the Viola API.

pub mod error;
pub mod kubernetes;
pub mod payload;
pub(crate) mod said;
pub mod viola;
pub mod wish;

/// Annotation of a [`MultiNicNodeConfig`](multinic_api::MultiNicNodeConfig): which configuration each port comes from, as
/// a JSON object from port id to `namespace/name`.
pub const INTERFACE_OWNERS_ANNOTATION: &str = "multinic.io/interface-owners";

pub use error::SinkError;
pub use kubernetes::KubernetesSink;
pub use kubernetes::ledger::Ledger;
pub use payload::{InterfacePayload, NodePayload};
pub use viola::{ViolaSettings, ViolaSink};
pub use wish::{Delivery, NodeWish};
