//! A Kubernetes cluster whose pods really run: every node is a booted [`Guest`](crate::guest::Guest) with kubelet,
//! containerd, runc and kube-proxy.
//!
//! * [`Cluster`]: the control plane, in a network namespace, and the nodes.
//! * [`image`]: container images out of folders, without an engine or a registry.
//! * [`mariadb_image`]: the image of a MariaDB.
//!
//! It needs root, the programs that `testbed/kubernetes/build.sh cluster` builds, what guests need, and the plugins of
//! Debian's `containernetworking-plugins`. Its DNS knows the cluster's services only, and nobody enforces network policies. Everything
//! ends with the process that started it.
//!
//! | network | what |
//! |---|---|
//! | 10.210.0.0/24 | the nodes: 10.210.0.2 is the control plane and everybody's gateway, 10.210.0.11 the first node |
//! | 10.244.N.0/24 | the pods of node N |
//! | 10.0.0.0/24 | services |

mod error;
mod handle;
pub mod image;
mod kubelet;
pub mod mariadb_image;
mod network;
mod way_in;

pub use error::ClusterError;
pub use handle::{Cluster, NodeSpec};
