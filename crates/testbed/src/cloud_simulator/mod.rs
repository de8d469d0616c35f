//! An OpenStack on loopback, for the demo and the tests: what MultiNIC reads of Keystone, Neutron, Nova and Contrabass,
//! over the same HTTP, with the same errors. It is changed in the process, and anything can be made to go wrong.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use multinic_testbed::cloud_simulator::{Fault, Simulator};
//!
//! let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await?;
//! let network = cloud.add_network("tenant", Some(1450));
//! let subnet = cloud.add_subnet(&network, "tenant-v4", "192.0.2.0/24".parse()?)?;
//! let server = cloud.add_server("worker-1");
//! let port = cloud.attach(&server, &[&subnet])?;
//! cloud.inject("/v2.0/ports", Fault::Html(503));
//! # Ok(())
//! # }
//! ```

mod answer;
mod contrabass;
mod faults;
mod handle;
mod keystone;
mod neutron;
mod nova;
mod query;
mod requests;
mod resources;
mod server;
mod uuid;
mod world;

pub use contrabass::{Provider, encrypt};
pub use faults::Fault;
pub use handle::{Simulator, USER};
pub use requests::Request;
pub use resources::{Attached, Fleet};
pub use world::{Endpoint, Role, WorldError};
