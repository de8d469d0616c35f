//! Subnets: by id, by name, and those that hold further addresses of a port.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use multinic_core::SubnetId;
use multinic_core::cloud::Subnet;
use multinic_core::config::SubnetSelector;
use multinic_core::ids::Interner;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Neutron;
use super::by_id::{Kind, row};
use crate::api::{at, with_query};
use crate::paging::{Listing, Next};
use crate::{CloudError, ReadError};

const FIELDS: [(&str, &str); 5] = [
    ("fields", "id"),
    ("fields", "name"),
    ("fields", "cidr"),
    ("fields", "network_id"),
    ("fields", "project_id"),
];

pub(crate) const SUBNET: Kind<Subnet> = Kind {
    listed: "neutron.subnets",
    single: "neutron.subnet",
    collection: "subnets",
    object: "subnet",
    absence: "SubnetNotFound",
    fields: &FIELDS,
    parse: |text, interner| row::<Row<'_>>(text).map(|row| row.into_subnet(interner)),
    id: |subnet| subnet.id.as_str(),
};

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    name: Option<String>,
    cidr: IpNet,
    #[serde(borrow)]
    network_id: Cow<'a, str>,
    #[serde(default)]
    project_id: Option<String>,
}

type Named = BTreeMap<SubnetId, Subnet>;

impl Row<'_> {
    fn into_subnet(self, interner: &mut Interner) -> Subnet {
        let Self { id, name, cidr, network_id, project_id: _ } = self;
        Subnet {
            id: interner.get(&id),
            name: name.unwrap_or_default(),
            network: interner.get(&network_id),
            cidr,
        }
    }
}

impl Neutron<'_> {
    /// The subnets that a configuration selects, in its order.
    pub async fn select(&self, selector: &SubnetSelector) -> Result<Vec<Subnet>, CloudError> {
        match selector {
            SubnetSelector::Ids(ids) => {
                let texts: Vec<&str> = ids.iter().map(SubnetId::as_str).collect();
                let read = self.read_by_ids(&SUBNET, &texts).await;
                let (mut found, _absent) = read.map_err(CloudError::of(CloudError::Subnets))?;
                let take = |id: &SubnetId| {
                    found.remove(id.as_str()).ok_or_else(|| CloudError::SubnetNotFound(id.to_string()))
                };
                ids.iter().map(take).collect()
            }
            SubnetSelector::Name(name) => self.named(name).await.map(|subnet| vec![subnet]),
        }
    }

    /// The subnets of these ids, without those that Neutron says it does not have.
    pub async fn subnets(&self, ids: &BTreeSet<SubnetId>) -> Result<BTreeMap<SubnetId, Subnet>, ReadError> {
        let ids: Vec<&str> = ids.iter().map(SubnetId::as_str).collect();
        let (found, _absent) = self.read_by_ids(&SUBNET, &ids).await?;
        Ok(found.into_values().map(|subnet| (subnet.id.clone(), subnet)).collect())
    }

    /// The one subnet of this name among the project's own and those that are shared with it.
    async fn named(&self, name: &str) -> Result<Subnet, CloudError> {
        let (own, foreign) = self.all_named(name).await.map_err(CloudError::of(CloudError::Subnets))?;
        let mut found = own;
        if !foreign.is_empty() {
            // A token with an administrator's role sees every project's subnets; of those only the shared count.
            let networks = foreign.iter().map(|subnet| subnet.network.as_str()).collect::<BTreeSet<_>>();
            let usable = self.usable_networks(&networks).await;
            let usable = usable.map_err(CloudError::of(CloudError::Networks))?;
            found.extend(foreign.into_iter().filter(|subnet| usable.contains(subnet.network.as_str())));
        }
        if found.len() > 1 {
            let ids = found.into_iter().map(|subnet| subnet.id).collect();
            return Err(CloudError::SubnetNotUnique { name: name.to_owned(), ids });
        }
        found.pop().ok_or_else(|| CloudError::SubnetNotFound(name.to_owned()))
    }

    /// The subnets of exactly this name: our project's, and the others.
    async fn all_named(&self, name: &str) -> Result<(Vec<Subnet>, Vec<Subnet>), ReadError> {
        let pairs = [("name", name)].into_iter().chain(FIELDS);
        let listing = Listing {
            api: self.api,
            operation: SUBNET.listed,
            collection: SUBNET.collection,
            url: with_query(at(&self.base, [SUBNET.collection]), pairs),
            limit: 1000,
        };
        let mut named = (BTreeMap::new(), BTreeMap::new());
        let take = |(own, foreign): &mut (Named, Named), url: &str, raw: &RawValue| {
            // A namesake that can't be read could be the one that makes the name ambiguous.
            let row: Row<'_> =
                row(raw.get()).map_err(|error| ReadError::unreadable(url, "a subnet", &error))?;
            let found = row.name.as_deref().unwrap_or_default();
            if !same_without_case(found, name) {
                return Err(ReadError::unasked(url, format!("subnet {} with the name {found:?}", row.id)));
            }
            // Databases that compare without case return more than was asked for.
            if found == name {
                let is_own = row.project_id.as_deref() == Some(self.project.as_str());
                let subnet = row.into_subnet(&mut self.interner());
                let list = if is_own { own } else { foreign };
                list.insert(subnet.id.clone(), subnet);
            }
            Ok(())
        };
        listing.read(&mut named, take, |_, _| Next::Page).await?;
        let (own, foreign) = named;
        Ok((own.into_values().collect(), foreign.into_values().collect()))
    }

    /// Which of these networks the project can attach to: its own and the shared.
    async fn usable_networks(&self, ids: &BTreeSet<&str>) -> Result<BTreeSet<String>, ReadError> {
        let kind = Kind {
            listed: "neutron.networks",
            single: "neutron.network",
            collection: "networks",
            object: "network",
            absence: "NetworkNotFound",
            fields: &[("fields", "id"), ("fields", "shared"), ("fields", "project_id")],
            parse: |text, _| row::<Sharing>(text),
            id: |network| &network.id,
        };
        let ids: Vec<&str> = ids.iter().copied().collect();
        let (found, _absent) = self.read_by_ids(&kind, &ids).await?;
        let usable = |network: &Sharing| {
            network.shared || network.project_id.as_deref() == Some(self.project.as_str())
        };
        Ok(found.into_iter().filter(|(_, network)| usable(network)).map(|(id, _)| id).collect())
    }
}

#[derive(Deserialize)]
struct Sharing {
    id: String,
    #[serde(default)]
    shared: bool,
    #[serde(default)]
    project_id: Option<String>,
}

/// How MySQL compares names, as far as it matters for telling a lost query from a loose comparison: without case,
/// trailing blanks and accents.
fn same_without_case(found: &str, wanted: &str) -> bool {
    let plain = |text: &str| text.trim_end().to_lowercase();
    !found.is_ascii() || plain(found) == plain(wanted)
}
