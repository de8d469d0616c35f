//! The operator: carries out a [`MultiNicOperator`](multinic_api::MultiNicOperator).
//!
//! * [`manifests`]: what `deploy/` says of each program; [`kinds`], [`object`]: objects, their kinds and whose they are.
//! * [`check`](mod@check): what is wrong with a spec. [`desired`](mod@desired): which objects a spec wants. Both pure.
//!   [`credentials`](mod@credentials): the accounts of the database; [`rotation`]: when they change. [`tls`]: its certificate, of
//!   [`certificates`].
//! * [`observe`](mod@observe): what is there. [`plan`](mod@plan): what is to be done about the difference. [`apply`]: it is done. [`record`]: what was.
//! * [`component`], [`shown`](mod@shown), [`status`]: how it is, and how that is told.
//! * [`protection`]: what others may do to it. [`claims`]: what configurations and nodes contradict each other in. [`webhook`]: how
//!   API servers ask about both.
//! * `watch`: when to look. `reconciler`: the turns around all this. `parts`: what a spec says of each part; `wanted`:
//!   what that comes to, and `nodes`: where the cluster's nodes are; `found`: how it is. `tell`, `events`: what happened.
//! * [`backup`]: the database is backed up and restored.
//! * [`settings`], [`metrics`], [`pulse`]: the process.
//!
//! What is removed, and what is not:
//! * An object goes when a complete read shows that it bears this operator's labels, that in its own namespace this
//!   `MultiNicOperator` owns it, and when the spec does not want it any more.
//! * When a `MultiNicOperator` is deleted, the garbage collector takes what it owns. What it cannot own, because it is of the
//!   whole cluster or in another namespace, is owned by the operator's namespace and taken away by the operator. There is no
//!   finalizer: neither the deletion of a `MultiNicOperator` nor that of the namespace ever waits for a program that may be gone.
//! * Nodes keep their NICs whatever is removed here: nothing here touches `MultiNicNodeConfig` or `OpenstackConfig` objects.

mod api_servers;
pub mod apply;
pub mod backup;
pub mod certificates;
pub mod check;
pub mod claims;
pub mod component;
pub mod credentials;
pub mod desired;
mod events;
mod found;
pub mod kinds;
pub mod manifests;
pub mod metrics;
mod nodes;
pub mod object;
pub mod observe;
mod parts;
pub mod plan;
pub mod protection;
pub mod pulse;
mod reconciler;
pub mod record;
pub mod rotation;
mod said;
pub mod settings;
pub mod shown;
pub mod status;
mod tell;
pub mod tls;
mod wanted;
mod watch;
pub mod webhook;

pub use reconciler::{Operator, TurnError};
