//! One cloud as one configuration reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use multinic_core::cloud::{CloudSnapshot, Network, Port, Subnet, UnreadablePort};
use multinic_core::config::{CloudAccess, Endpoints, Selection};
use multinic_core::ids::Interner;
use multinic_core::{NetworkId, ServerId, SubnetId};

use crate::api::Api;
use crate::http::{Http, Options};
use crate::identity::catalog::{neutron_base, nova_base};
use crate::identity::{Broker, Identity, Session};
use crate::neutron::Neutron;
use crate::neutron::ports::Ports;
use crate::nova::Nova;
use crate::reading::{Reading, Record, Subject};
use crate::{CloudError, Gate};

/// A cloud. Clones share token and connections.
#[derive(Clone)]
pub struct Cloud {
    api: Api,
    endpoints: Arc<Endpoints>,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Cloud {
    /// Prepares the way to a cloud; nothing is asked yet. Keys that can't be keys and CA files that can't be read are
    /// errors here.
    pub fn new(access: &CloudAccess, gate: Gate) -> Result<Self, CloudError> {
        Self::with(access, gate, Options::default())
    }

    /// The same with other retries, or with an observer.
    pub fn with(access: &CloudAccess, gate: Gate, options: Options) -> Result<Self, CloudError> {
        let http = Http::new(&access.tls, access.timeout, gate, options).map_err(CloudError::Trust)?;
        let identity = Arc::new(Identity::new(access, http.clone())?);
        Ok(Self { api: Api { http, identity, record: None }, endpoints: Arc::new(access.endpoints.clone()) })
    }

    /// The message broker, where Contrabass named one when it was asked last. Nothing is asked here.
    pub fn broker(&self) -> Option<Arc<Broker>> {
        self.api.identity.broker()
    }

    /// Reads everything that a configuration names, and what is needed to understand it.
    pub async fn snapshot(&self, selection: &Selection) -> Result<CloudSnapshot, CloudError> {
        let interner = Mutex::new(Interner::default());
        let neutron = self.neutron(&interner).await?;
        let nova = self.nova().await?;
        let servers =
            async { nova.resolve(&selection.vms).await.map_err(CloudError::of(CloudError::Servers)) };
        let (resolved, selected) = tokio::try_join!(servers, neutron.select(&selection.subnets))?;

        let ids: Vec<ServerId> = resolved.servers.iter().map(|server| server.id.clone()).collect();
        let ports = neutron.ports(&ids).await.map_err(CloudError::of(CloudError::Ports))?;
        let Ports { mut readable, mut unreadable } = ports;

        let chosen: Vec<SubnetId> = selected.iter().map(|subnet| subnet.id.clone()).collect();
        let mut subnets: BTreeMap<SubnetId, Subnet> =
            selected.into_iter().map(|subnet| (subnet.id.clone(), subnet)).collect();
        let others = other_subnets(&readable, &subnets);
        let wanted: BTreeSet<NetworkId> = readable.iter().map(|port| port.network.clone()).collect();
        let (others, networks) = tokio::try_join!(
            async { neutron.subnets(&others).await.map_err(CloudError::of(CloudError::Subnets)) },
            async { neutron.networks(&wanted).await.map_err(CloudError::of(CloudError::Networks)) },
        )?;
        subnets.extend(others);
        set_aside(&mut readable, &mut unreadable, &subnets, &networks);
        Ok(CloudSnapshot {
            project: Some(neutron.project.clone()),
            servers: resolved.servers,
            unresolved: resolved.unresolved,
            selected: chosen,
            subnets,
            networks,
            ports: readable,
            unreadable,
        })
    }

    /// The same, with what tells later whether a new read would come to something else.
    pub async fn read(&self, selection: &Selection) -> Result<(CloudSnapshot, Reading), CloudError> {
        let of = self.subject(selection).await?;
        let record = Record::default();
        let recording = Self {
            api: Api { record: Some(record.clone()), ..self.api.clone() },
            endpoints: Arc::clone(&self.endpoints),
        };
        let snapshot = recording.snapshot(selection).await?;
        Ok((snapshot, Reading { of, asked: record.take() }))
    }

    /// Whether a read would come to what it came to then: the cloud answers everything as it did. Where the answer is no, it
    /// may still be the same, or fail.
    pub async fn comes_again(&self, selection: &Selection, reading: &Reading) -> Result<bool, CloudError> {
        Ok(reading.of == self.subject(selection).await? && reading.is_answered_again(&self.api).await)
    }

    async fn subject(&self, selection: &Selection) -> Result<Subject, CloudError> {
        let interner = Mutex::default();
        let Neutron { base: neutron, project, .. } = self.neutron(&interner).await?;
        let Nova { base: nova, .. } = self.nova().await?;
        Ok(Subject { selection: selection.clone(), project, neutron, nova })
    }

    /// Neutron for one read.
    pub(crate) async fn neutron<'a>(
        &'a self,
        interner: &'a Mutex<Interner>,
    ) -> Result<Neutron<'a>, CloudError> {
        let session = self.session().await?;
        let Endpoints { neutron, nova: _, interface, region } = &*self.endpoints;
        let url = match neutron {
            Some(url) => url.clone(),
            None => session
                .catalog
                .choose("network", interface, region.as_deref())
                .map_err(CloudError::NeutronEndpoint)?,
        };
        Ok(Neutron { api: &self.api, base: neutron_base(&url), project: session.project.clone(), interner })
    }

    pub(crate) async fn nova(&self) -> Result<Nova<'_>, CloudError> {
        let session = self.session().await?;
        let Endpoints { neutron: _, nova, interface, region } = &*self.endpoints;
        let url = match nova {
            Some(url) => url.clone(),
            None => session
                .catalog
                .choose("compute", interface, region.as_deref())
                .map_err(CloudError::NovaEndpoint)?,
        };
        Ok(Nova { api: &self.api, base: nova_base(&url) })
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    pub(crate) async fn session(&self) -> Result<Arc<Session>, CloudError> {
        self.api.identity.session(None).await
    }
}

fn other_subnets(ports: &[Port], known: &BTreeMap<SubnetId, Subnet>) -> BTreeSet<SubnetId> {
    let mut others = BTreeSet::new();
    for ip in ports.iter().flat_map(|port| &port.fixed_ips) {
        if !known.contains_key(&ip.subnet) && !others.contains(&ip.subnet) {
            others.insert(ip.subnet.clone());
        }
    }
    others
}

/// A port whose network or subnets we may not see can't be understood. It does not stop the others.
fn set_aside(
    ports: &mut Vec<Port>,
    unreadable: &mut Vec<UnreadablePort>,
    subnets: &BTreeMap<SubnetId, Subnet>,
    networks: &BTreeMap<NetworkId, Network>,
) {
    ports.retain(|port| {
        let subnet = port.fixed_ips.iter().find(|ip| !subnets.contains_key(&ip.subnet));
        let problem = match subnet {
            Some(ip) => {
                format!("its address {} is in subnet {}, which Neutron does not show us", ip.ip, ip.subnet)
            }
            None if networks.contains_key(&port.network) => return true,
            None => format!("its network {} is one that Neutron does not show us", port.network),
        };
        let (id, device) = (Some(port.id.clone()), Some(port.device.clone()));
        unreadable.push(UnreadablePort { id, device, problem });
        false
    });
}
