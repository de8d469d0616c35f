//! What the simulated cloud is made of.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::uuid::Uuid;

/// Why the cloud can't be changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// There is none.
    #[error("there is no {kind} {id:?} in the simulated cloud")]
    Unknown {
        /// Of what there is none.
        kind: &'static str,
        /// What was asked for.
        id: String,
    },
    /// A subnet has no free address.
    #[error("subnet {0} has no free address")]
    Exhausted(IpNet),
    /// A port needs a subnet.
    #[error("a port needs at least one subnet")]
    NoSubnet,
}

/// A project, a user and the like, by their position.
pub(super) type Index = usize;

pub(super) struct Project {
    /// Keystone writes them without dashes.
    pub id: String,
    pub name: String,
}

/// What a user may do in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// See what is the project's own, and what is shared with it.
    Reader,
    /// See everything of every project.
    Admin,
}

pub(super) struct User {
    pub name: String,
    pub domain: String,
    pub password: SecretString,
    pub roles: HashMap<Index, Role>,
}

pub(super) struct ApplicationCredential {
    pub id: String,
    pub secret: SecretString,
    pub user: Index,
    pub project: Index,
}

/// An endpoint of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `network`, `compute`, …
    pub service: String,
    /// `public`, `internal` or `admin`.
    pub interface: String,
    /// The region.
    pub region: String,
    /// The URL.
    pub url: String,
}

pub(super) struct Grant {
    pub project: Index,
    pub role: Role,
    pub expires_at: Timestamp,
}

pub(super) struct Network {
    pub name: String,
    pub project: Index,
    pub mtu: Option<i64>,
    pub shared: bool,
}

pub(super) struct Subnet {
    pub name: String,
    pub network: Uuid,
    pub project: Index,
    pub cidr: IpNet,
    /// How many addresses were given out.
    pub given: u32,
}

pub(super) struct Server {
    pub name: Box<str>,
    pub project: Index,
    pub metadata: BTreeMap<String, String>,
    pub ports: Vec<Uuid>,
}

pub(super) struct Port {
    pub network: Uuid,
    /// None: attached to nothing.
    pub device: Option<Uuid>,
    pub project: u32,
    pub mac: [u8; 6],
    pub status: Arc<str>,
    pub fixed_ips: Box<[(Uuid, IpAddr)]>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub revision: u32,
}

/// The whole of it.
pub(super) struct World {
    pub projects: Vec<Project>,
    pub users: Vec<User>,
    pub application_credentials: Vec<ApplicationCredential>,
    pub tokens: HashMap<String, Grant>,
    pub token_lifetime: std::time::Duration,
    pub tokens_issued: u64,
    pub endpoints: Vec<Endpoint>,
    /// Contrabass' answers by provider id.
    pub providers: HashMap<String, Value>,
    pub networks: BTreeMap<Uuid, Network>,
    pub subnets: BTreeMap<Uuid, Subnet>,
    pub servers: BTreeMap<Uuid, Server>,
    pub ports: BTreeMap<Uuid, Port>,
    /// Fields of rows that are shown otherwise than they are.
    pub distortions: HashMap<Uuid, Map<String, Value>>,
    /// Neutron's own limit of a page.
    pub page_limit: Option<usize>,
    statuses: Vec<Arc<str>>,
    macs: u32,
    rng: StdRng,
}

impl World {
    pub fn new() -> Self {
        Self {
            projects: Vec::new(),
            users: Vec::new(),
            application_credentials: Vec::new(),
            tokens: HashMap::new(),
            token_lifetime: std::time::Duration::from_secs(3600),
            tokens_issued: 0,
            endpoints: Vec::new(),
            providers: HashMap::new(),
            networks: BTreeMap::new(),
            subnets: BTreeMap::new(),
            servers: BTreeMap::new(),
            ports: BTreeMap::new(),
            distortions: HashMap::new(),
            page_limit: None,
            statuses: Vec::new(),
            macs: 0,
            // The same cloud each time: what goes wrong once goes wrong again.
            rng: StdRng::seed_from_u64(1),
        }
    }

    pub fn random(&mut self) -> u128 {
        self.rng.random()
    }

    pub fn id(&mut self) -> Uuid {
        Uuid::v4(self.random())
    }

    pub fn project(&self, id: &str) -> Result<Index, WorldError> {
        let at = self.projects.iter().position(|project| project.id == id);
        at.ok_or_else(|| unknown("project", id))
    }

    pub fn project_id(&self, project: Index) -> &str {
        self.projects.get(project).map_or("", |project| &project.id)
    }

    pub fn user(&mut self, name: &str) -> Result<&mut User, WorldError> {
        self.users.iter_mut().find(|user| user.name == name).ok_or_else(|| unknown("user", name))
    }

    /// All ports share a handful of statuses.
    pub fn status(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.statuses.iter().find(|known| known.as_ref() == text) {
            return known.clone();
        }
        let status: Arc<str> = text.into();
        self.statuses.push(status.clone());
        status
    }

    /// Gives a server a port with an address in each of these subnets of one network.
    pub fn attach(
        &mut self,
        server: Uuid,
        subnets: &[Uuid],
        project: Option<Index>,
    ) -> Result<Uuid, WorldError> {
        let owner = self.servers.get(&server).ok_or_else(|| unknown("server", &server.to_string()))?.project;
        let first = subnets.first().ok_or(WorldError::NoSubnet)?;
        let network = self.subnet(*first)?.network;
        let mut ips = Vec::with_capacity(subnets.len());
        for id in subnets {
            let subnet = self.subnet(*id)?;
            let exhausted = WorldError::Exhausted(subnet.cidr);
            ips.push((*id, subnet.next_address().ok_or(exhausted)?));
        }
        let id = self.id();
        let now = Timestamp::now();
        let port = Port {
            network,
            device: Some(server),
            project: u32::try_from(project.unwrap_or(owner)).unwrap_or_default(),
            mac: self.mac(),
            status: self.status("ACTIVE"),
            fixed_ips: ips.into(),
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        self.ports.insert(id, port);
        if let Some(server) = self.servers.get_mut(&server) {
            server.ports.push(id);
        }
        Ok(id)
    }

    /// Changes a port, as Neutron does it: with a new revision.
    pub fn change_port(&mut self, id: Uuid, change: impl FnOnce(&mut Port)) -> Result<(), WorldError> {
        let port = self.ports.get_mut(&id).ok_or_else(|| unknown("port", &id.to_string()))?;
        let before = port.device;
        change(port);
        port.revision += 1;
        port.updated_at = Timestamp::now();
        let after = port.device;
        if before != after {
            if let Some(server) = before.and_then(|server| self.servers.get_mut(&server)) {
                server.ports.retain(|port| *port != id);
            }
            if let Some(server) = after.and_then(|server| self.servers.get_mut(&server)) {
                server.ports.push(id);
            }
        }
        Ok(())
    }

    pub fn delete_port(&mut self, id: Uuid) -> Result<(), WorldError> {
        let port = self.ports.remove(&id).ok_or_else(|| unknown("port", &id.to_string()))?;
        if let Some(server) = port.device.and_then(|server| self.servers.get_mut(&server)) {
            server.ports.retain(|port| *port != id);
        }
        Ok(())
    }

    pub fn subnet(&mut self, id: Uuid) -> Result<&mut Subnet, WorldError> {
        self.subnets.get_mut(&id).ok_or_else(|| unknown("subnet", &id.to_string()))
    }

    fn mac(&mut self) -> [u8; 6] {
        self.macs += 1;
        let [_, a, b, c] = self.macs.to_be_bytes();
        // Neutron's default base_mac.
        [0xfa, 0x16, 0x3e, a, b, c]
    }
}

pub(super) fn unknown(kind: &'static str, id: &str) -> WorldError {
    WorldError::Unknown { kind, id: id.to_owned() }
}

impl Subnet {
    /// The next address: `.1` is the gateway's, and nothing is given out twice.
    fn next_address(&mut self) -> Option<IpAddr> {
        let offset = self.given + 2;
        let address: IpAddr = match self.cidr {
            IpNet::V4(net) => {
                let address = std::net::Ipv4Addr::from(u32::from(net.network()).checked_add(offset)?);
                (net.contains(&address) && address != net.broadcast()).then_some(address)?.into()
            }
            IpNet::V6(net) => {
                let address = std::net::Ipv6Addr::from(u128::from(net.network()).checked_add(offset.into())?);
                net.contains(&address).then_some(address)?.into()
            }
        };
        self.given += 1;
        Some(address)
    }
}
