//! Vocabulary, validation and the two planners of MultiNIC.
//!
//! Nothing here does I/O, reads a clock or waits: every rule (filters, names, slots, diff, deletion safety) is a
//! function from values to values, so that it can be tested as one.
//!
//! * [`config`]: what a user declares, an `OpenstackConfig`, as a value.
//! * [`cloud`]: what the controller saw in OpenStack.
//! * [`published`]: what the controller published earlier, and what it wants to publish now.
//! * [`fleet`]: the controller's planner, from the three above to a [`published::Publication`].
//! * [`desired`]: what a node's agent reads, and what it reports back.
//! * [`options`]: what is said of an interface beyond its addresses.
//! * [`vlan`]: VLANs on top of an interface.
//! * [`node`]: the agent's planner, from desired and observed state to steps.
//! * [`duration`]: durations in texts.
//! * [`brief`]: texts in a length that fits into a log line or a status.

pub mod address;
pub mod brief;
pub mod cloud;
pub mod config;
pub mod desired;
pub mod duration;
pub mod fleet;
pub mod ids;
pub mod interface;
pub mod mac;
pub mod names;
pub mod node;
pub mod options;
pub mod published;
pub mod vlan;

pub use address::{AddressError, Addresses, Mtu, MtuError};
pub use ids::{ConfigKey, NetworkId, PortId, ProjectId, ServerId, SubnetId};
pub use interface::{Interface, NodeConfig};
pub use mac::{MacAddr, ParseMacError};
pub use names::{InterfaceName, NameError, NodeName, Slot};
pub use options::{InterfaceOptions, NicOptions};
pub use vlan::{Vlan, VlanId};
