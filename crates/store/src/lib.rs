//! The SQL tables that the controller publishes and the agents read, on MariaDB or MySQL and on SQLite.
//!
//! * [`DatabaseSettings`]: where the database is and how it is spoken to.
//! * [`Store`]: the controller's side: create or upgrade the tables, read what was published, publish, purge.
//! * [`inventory`]: what was published, with what became of it, for people and programs to read.
//! * [`AgentSource`]: an agent's side: read one node's desired state, report what became of it; and [`check`] whether it can.
//!
//! The tables are those of the older programs with more columns, so that an older agent keeps working on a database
//! that this crate upgraded, and an agent of this project works on a database that it did not.

mod agent;
mod dialect;
mod error;
pub mod inventory;
mod mark;
mod memory;
mod migrate;
mod places;
mod position;
mod publish;
mod published;
mod purge;
mod removed;
mod schema;
mod session;
mod settings;
mod store;

pub use agent::{AgentSource, check};
pub use error::{Place, StoreError};
pub use mark::Mark;
pub use memory::RememberedNic;
pub use places::PlaceRecord;
pub use publish::PublishOutcome;
pub use removed::{Reached, RemovalId, Removed, place_digest};
pub use settings::{DatabaseParts, DatabaseSettings, SettingsError, Target, Tls};
pub use store::Store;
