//! Networks: their MTU.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use multinic_core::NetworkId;
use multinic_core::cloud::Network;
use multinic_core::ids::Interner;
use serde::Deserialize;

use super::Neutron;
use super::by_id::{Kind, row};
use crate::ReadError;

pub(crate) const NETWORK: Kind<Network> = Kind {
    listed: "neutron.networks",
    single: "neutron.network",
    collection: "networks",
    object: "network",
    absence: "NetworkNotFound",
    fields: &[("fields", "id"), ("fields", "mtu")],
    parse: |text, interner| row::<Row<'_>>(text).map(|row| row.into_network(interner)),
    id: |network| network.id.as_str(),
};

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    mtu: Option<i64>,
}

impl Row<'_> {
    fn into_network(self, interner: &mut Interner) -> Network {
        let Self { id, mtu } = self;
        // Neutron writes 0 where it does not know.
        Network { id: interner.get(&id), mtu: mtu.filter(|mtu| *mtu != 0) }
    }
}

impl Neutron<'_> {
    /// The networks of these ids, without those that Neutron says it does not have.
    pub async fn networks(
        &self,
        ids: &BTreeSet<NetworkId>,
    ) -> Result<BTreeMap<NetworkId, Network>, ReadError> {
        let ids: Vec<&str> = ids.iter().map(NetworkId::as_str).collect();
        let (found, _absent) = self.read_by_ids(&NETWORK, &ids).await?;
        Ok(found.into_values().map(|network| (network.id.clone(), network)).collect())
    }

    /// One network; none if Neutron says that there is none that we may see.
    pub async fn network(&self, id: &NetworkId) -> Result<Option<Network>, ReadError> {
        self.read_by_id(&NETWORK, id.as_str()).await
    }
}
