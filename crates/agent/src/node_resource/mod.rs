//! The agent's side of Kubernetes: one object, `MultiNicNodeConfig/<node>`, and the node's own `Node`.
//!
//! * [`access`]: how the API is reached. [`firmware`]: which server this node is.
//! * [`object`]: what of the object matters. [`watched`]: the object as it is now. [`read`]: what it asks for.
//! * [`status`]: what is verified, in the form of the object's status. [`occasions`]: what of it is worth an event.
//!   [`herald`]: writes both, and the node's label and annotation ([`node_keys`]), when something changed.
//! * [`resource`]: all of it as a source of desired state.

pub mod access;
pub mod firmware;
pub mod herald;
mod kubelet;
pub mod node_keys;
pub mod object;
pub mod occasions;
pub mod read;
pub mod resource;
pub mod status;
pub mod watched;

pub use resource::{NodeResource, ResourceError};
