//! Neutron: ports of servers, the subnets of their addresses, the networks of both.

pub(crate) mod by_id;
pub(crate) mod chunks;
pub(crate) mod networks;
pub(crate) mod ports;
pub(crate) mod subnets;

use std::sync::{Mutex, MutexGuard, PoisonError};

use multinic_core::ProjectId;
use multinic_core::ids::Interner;
use url::Url;

use crate::api::Api;

/// Neutron as one project sees it during one read.
pub(crate) struct Neutron<'a> {
    pub api: &'a Api,
    /// With `/v2.0`.
    pub base: Url,
    pub project: ProjectId,
    /// Ids of networks, subnets and servers come back a thousand times over.
    pub interner: &'a Mutex<Interner>,
}

impl Neutron<'_> {
    /// Held while one page is parsed, never over a wait.
    fn interner(&self) -> MutexGuard<'_, Interner> {
        self.interner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
