//! The Kubernetes resources of MultiNIC.
//!
//! * [`OpenstackConfig`] (`multinic.example.com/v1alpha1`): which VMs, which subnets, which credentials.
//! * [`MultiNicOperator`] (`multinic.example.com/v1alpha1`): what the operator runs.
//! * [`MultiNicNodeConfig`] (`multinic.io/v1alpha1`): the NICs of one node.
//!
//! Every field of the older programs is there under its name, so that their manifests apply unchanged.

#![allow(clippy::duplicated_attributes, reason = "several printer columns have the same type")]

pub mod condition;
pub mod definitions;
pub mod desired_nic;
pub mod interface_options;
pub mod node_config;
pub mod openstack_config;
pub mod operator;
mod schema;
pub mod secret_ref;

pub use condition::{Condition, Conditions, Readiness};
pub use interface_options::OptionsSpec;
pub use node_config::{MultiNicNodeConfig, MultiNicNodeConfigSpec, MultiNicNodeConfigStatus};
pub use openstack_config::{OpenstackConfig, OpenstackConfigSpec, OpenstackConfigStatus};
pub use operator::{MultiNicOperator, MultiNicOperatorSpec, MultiNicOperatorStatus};
pub use secret_ref::SecretKeyRef;

/// The category of all our resources: `kubectl get multinic`.
pub const CATEGORY: &str = "multinic";
/// The finalizer that an agent holds on its node's object, and the controller on a configuration.
pub const CLEANUP_FINALIZER: &str = "multinic.io/cleanup";
/// Annotation on a configuration or a node's object: its finalizer goes without any clean-up. Any value but `false`.
pub const ORPHAN_ANNOTATION: &str = "multinic.io/orphan";
/// Annotation on a node's object, and on the controllers' Lease: the epoch of the ledger that it was written from.
pub const LEDGER_EPOCH_ANNOTATION: &str = "multinic.io/ledger-epoch";
/// Annotation on a node's object: the revision of that ledger.
pub const LEDGER_REVISION_ANNOTATION: &str = "multinic.io/ledger-revision";
/// Annotation on a configuration: another value (any text, by custom a time) asks for a reconciliation.
pub const RECONCILE_AT_ANNOTATION: &str = "multinic.io/reconcile-at";
/// Label of a [`MultiNicNodeConfig`]: the node.
pub const NODE_NAME_LABEL: &str = "multinic.io/node-name";
/// Label of a [`MultiNicNodeConfig`]: the Nova server.
pub const INSTANCE_ID_LABEL: &str = "multinic.io/instance-id";
/// Label of a [`MultiNicNodeConfig`]: the `k8sProviderID` it came with.
pub const PROVIDER_ID_LABEL: &str = "multinic.io/provider-id";
