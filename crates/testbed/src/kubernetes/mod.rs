//! A real etcd and kube-apiserver on loopback.
//!
//! * [`ControlPlane`]: starts them, stops them, and hands out ways in.
//! * [`Access`]: one identity's way in, as a [`kube::Client`] or as a kubeconfig.
//! * [`helm`]: the program.
//! * [`FaultProxy`]: stands between clients and the API server, and makes trouble.
//!
//! They need neither root nor a container, take about four seconds to start and 350 MB of memory, and end with the
//! process that started them, however that one ends. `testbed/kubernetes/build.sh api` builds them.

mod access;
mod authority;
mod binaries;
mod control_plane;
mod error;
mod fault_proxy;
mod guarded;
mod identities;
mod launch;
mod nodes;

pub use access::Access;
pub use binaries::helm;
pub use control_plane::{ControlPlane, Options};
pub use error::KubernetesError;
pub use fault_proxy::{FaultProxy, Record};
pub(crate) use nodes::DOMAIN;
pub use nodes::{Dns, Scheduler};
