//! The controller: observe, plan, publish.
//!
//! * [`settings`]: every flag, environment variable and default.
//! * [`observe`]: each configuration's cloud, read completely or not at all.
//! * `errands`: work toward others that holds nobody up; `looks`: the looks at clouds that are under way.
//! * [`pass`]: one pass over the whole fleet: observe, plan (in `core`), prove removals, publish.
//! * `conclusion`: a plan that would come to the same is not made again.
//! * [`pulse`]: what probes see of the loop.
//! * [`status`]: what a pass came to, as conditions for people and programs.
//! * [`cluster`]: configurations as objects of a Kubernetes API server.
//! * [`standalone`]: configurations as files of a directory, without Kubernetes.
//! * [`inventory`]: what was published and what became of it, over HTTP.
//! * [`sinks`]: other places than the database that nodes' wishes are delivered to.
//! * [`viola`]: the Viola API, which takes nodes over HTTP and makes objects of them.
//! * `page`: what the servers of the two have in common.
//! * [`database`]: what metrics say of the database's connections and certificate.

pub mod cluster;
mod conclusion;
pub mod database;
mod errands;
pub mod inventory;
mod looks;
pub mod metrics;
pub mod observe;
mod page;
pub mod pass;
pub mod pulse;
pub mod settings;
pub mod sinks;
pub mod standalone;
pub mod status;
pub mod viola;
