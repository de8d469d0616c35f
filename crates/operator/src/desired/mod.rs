//! Which objects a `MultiNicOperator` wants: a pure function of its spec and the manifests.

mod agent;
mod backup;
mod container;
mod controller;
mod database;
mod network;
mod settings;

use multinic_api::MultiNicOperatorSpec;
use multinic_api::operator::RestoreAsked;

use crate::credentials::Credentials;
use crate::manifests::Manifests;
use crate::object::{Object, Owner};
use crate::tls::Tls;

pub use agent::AGENT;
pub(crate) use agent::RESERVED as RESERVED_OF_AGENT;
pub use backup::BACKUP;
pub(crate) use backup::RESTORE;
pub use controller::CONTROLLER;
pub use database::DATABASE;
pub(crate) use database::{AUTHORITIES_VOLUME, CERTIFICATE_VOLUME, PORT as DATABASE_PORT};
pub use network::Addresses;
pub(crate) use network::is_wanted as has_policies;
pub(crate) use settings::RESERVED;

/// Every object that is wanted, in the order in which they are to be made. The spec has passed [`check`](crate::check::check).
/// There are `credentials` where the spec wants a database, and `tls` where that has it. NetworkPolicies are
/// among them where the `addresses` are known that they name. `restore` is what the database is still to be filled from.
pub fn desired(
    owner: &Owner,
    spec: &MultiNicOperatorSpec,
    manifests: &Manifests,
    credentials: Option<&Credentials>,
    tls: Option<&Tls>,
    addresses: Option<&Addresses>,
    restore: Option<&RestoreAsked>,
) -> Vec<Object> {
    let connection = database::connection(owner, &spec.database, credentials, tls);
    let mut objects = controller::objects(owner, spec, &manifests.controller, connection.as_ref());
    if let Some(credentials) = credentials.filter(|_| spec.database.enabled) {
        objects.extend(database::objects(owner, spec, &manifests.database, credentials, tls, restore));
    }
    if let Some(agent) = &spec.agent {
        let connection = database::connection_of_agents(owner, &spec.database, credentials, tls);
        objects.extend(agent::objects(owner, agent, &manifests.agent, connection.as_ref()));
    }
    if let Some(addresses) = addresses.filter(|_| has_policies(spec)) {
        objects.extend(policies(owner, spec, manifests, addresses));
    }
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    objects
}

/// The NetworkPolicies that a spec wants which wants any.
pub(crate) fn policies(
    owner: &Owner,
    spec: &MultiNicOperatorSpec,
    manifests: &Manifests,
    addresses: &Addresses,
) -> Vec<Object> {
    network::objects(owner, spec, &manifests.network, addresses)
}

/// A text of a spec. A blank one is as if it were absent: the older programs wrote such.
pub(crate) fn given(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}
