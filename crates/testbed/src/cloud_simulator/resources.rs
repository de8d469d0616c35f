//! Networks, servers and ports of a simulated cloud, as a handle changes them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use multinic_core::{MacAddr, NetworkId, PortId, ProjectId, ServerId, SubnetId};
use serde_json::{Map, Value};

use super::handle::Simulator;
use super::uuid::Uuid;
use super::world::{Network, Server, Subnet, World, WorldError, unknown};

/// A port that was attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The port.
    pub port: PortId,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its addresses, in the order of the subnets.
    pub addresses: Vec<IpNet>,
}

/// Many servers at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// The servers.
    pub servers: Vec<ServerId>,
    /// The subnets: one for the first port of each server, one for the second, …
    pub subnets: Vec<SubnetId>,
}

impl Simulator {
    /// Adds a network of the first project. Without an MTU it is a cloud that does not say it.
    pub fn add_network(&self, name: &str, mtu: Option<i64>) -> NetworkId {
        self.insert_network(name, mtu, 0, false)
    }

    /// Adds a network of another project, shared with everybody or not.
    pub fn add_network_of(
        &self,
        project: &ProjectId,
        name: &str,
        mtu: Option<i64>,
        shared: bool,
    ) -> Result<NetworkId, WorldError> {
        let project = self.shared.world().project(project.as_str())?;
        Ok(self.insert_network(name, mtu, project, shared))
    }

    fn insert_network(&self, name: &str, mtu: Option<i64>, project: usize, shared: bool) -> NetworkId {
        let mut world = self.shared.world();
        let id = world.id();
        world.networks.insert(id, Network { name: name.to_owned(), project, mtu, shared });
        id.to_string().into()
    }

    /// Changes a network's MTU.
    pub fn set_mtu(&self, network: &NetworkId, mtu: Option<i64>) -> Result<(), WorldError> {
        let id = uuid("network", network.as_str())?;
        let mut world = self.shared.world();
        let found = world.networks.get_mut(&id).ok_or_else(|| unknown("network", network.as_str()))?;
        found.mtu = mtu;
        Ok(())
    }

    /// Deletes a network. Its subnets and ports stay, as they do for those who lose the right to see it.
    pub fn delete_network(&self, network: &NetworkId) -> Result<(), WorldError> {
        let id = uuid("network", network.as_str())?;
        let gone = self.shared.world().networks.remove(&id);
        gone.map(drop).ok_or_else(|| unknown("network", network.as_str()))
    }

    /// Adds a subnet; it belongs to its network's project.
    pub fn add_subnet(&self, network: &NetworkId, name: &str, cidr: IpNet) -> Result<SubnetId, WorldError> {
        let network_id = uuid("network", network.as_str())?;
        let mut world = self.shared.world();
        let of = world.networks.get(&network_id).ok_or_else(|| unknown("network", network.as_str()))?;
        let project = of.project;
        let id = world.id();
        let subnet =
            Subnet { name: name.to_owned(), network: network_id, project, cidr: cidr.trunc(), given: 0 };
        world.subnets.insert(id, subnet);
        Ok(id.to_string().into())
    }

    /// Deletes a subnet.
    pub fn delete_subnet(&self, subnet: &SubnetId) -> Result<(), WorldError> {
        let id = uuid("subnet", subnet.as_str())?;
        let gone = self.shared.world().subnets.remove(&id);
        gone.map(drop).ok_or_else(|| unknown("subnet", subnet.as_str()))
    }

    /// Adds a server of the first project.
    pub fn add_server(&self, name: &str) -> ServerId {
        self.insert_server(name, 0)
    }

    /// Adds a server of another project.
    pub fn add_server_of(&self, project: &ProjectId, name: &str) -> Result<ServerId, WorldError> {
        let project = self.shared.world().project(project.as_str())?;
        Ok(self.insert_server(name, project))
    }

    fn insert_server(&self, name: &str, project: usize) -> ServerId {
        let mut world = self.shared.world();
        let id = world.id();
        let server = Server { name: name.into(), project, metadata: Default::default(), ports: Vec::new() };
        world.servers.insert(id, server);
        id.to_string().into()
    }

    /// Renames a server.
    pub fn rename_server(&self, server: &ServerId, name: &str) -> Result<(), WorldError> {
        self.change_server(server, |found| found.name = name.into())
    }

    /// Sets a key of a server's metadata.
    pub fn set_metadata(&self, server: &ServerId, key: &str, value: &str) -> Result<(), WorldError> {
        self.change_server(server, |found| drop(found.metadata.insert(key.to_owned(), value.to_owned())))
    }

    fn change_server(&self, server: &ServerId, change: impl FnOnce(&mut Server)) -> Result<(), WorldError> {
        let id = uuid("server", server.as_str())?;
        let mut world = self.shared.world();
        change(world.servers.get_mut(&id).ok_or_else(|| unknown("server", server.as_str()))?);
        Ok(())
    }

    /// Deletes a server. Its ports become free.
    pub fn delete_server(&self, server: &ServerId) -> Result<(), WorldError> {
        let id = uuid("server", server.as_str())?;
        let mut world = self.shared.world();
        let gone = world.servers.remove(&id).ok_or_else(|| unknown("server", server.as_str()))?;
        for port in gone.ports {
            world.change_port(port, |port| port.device = None)?;
        }
        Ok(())
    }

    /// Gives a server a new port of the server's project, with an address in each of these subnets of one network.
    pub fn attach(&self, server: &ServerId, subnets: &[&SubnetId]) -> Result<Attached, WorldError> {
        self.attach_as(None, server, subnets)
    }

    /// The same with a port that another project owns, as an administrator or a stranger can make it.
    pub fn attach_of(
        &self,
        project: &ProjectId,
        server: &ServerId,
        subnets: &[&SubnetId],
    ) -> Result<Attached, WorldError> {
        self.attach_as(Some(project), server, subnets)
    }

    fn attach_as(
        &self,
        project: Option<&ProjectId>,
        server: &ServerId,
        subnets: &[&SubnetId],
    ) -> Result<Attached, WorldError> {
        let server = uuid("server", server.as_str())?;
        let subnets = subnets.iter().map(|id| uuid("subnet", id.as_str())).collect::<Result<Vec<_>, _>>()?;
        let mut world = self.shared.world();
        let project = project.map(|project| world.project(project.as_str())).transpose()?;
        let id = world.attach(server, &subnets, project)?;
        attached(&mut world, id)
    }

    /// Detaches a port: it stays, attached to nothing, and is down.
    pub fn detach(&self, port: &PortId) -> Result<(), WorldError> {
        let mut world = self.shared.world();
        let down = world.status("DOWN");
        world.change_port(uuid("port", port.as_str())?, |port| {
            port.device = None;
            port.status = down;
        })
    }

    /// Attaches a port that is there to a server.
    pub fn move_port(&self, port: &PortId, server: &ServerId) -> Result<(), WorldError> {
        let server = uuid("server", server.as_str())?;
        let mut world = self.shared.world();
        let active = world.status("ACTIVE");
        world.change_port(uuid("port", port.as_str())?, |port| {
            port.device = Some(server);
            port.status = active;
        })
    }

    /// Deletes a port.
    pub fn delete_port(&self, port: &PortId) -> Result<(), WorldError> {
        self.shared.world().delete_port(uuid("port", port.as_str())?)
    }

    /// Sets a port's status.
    pub fn set_status(&self, port: &PortId, status: &str) -> Result<(), WorldError> {
        let mut world = self.shared.world();
        let status = world.status(status);
        world.change_port(uuid("port", port.as_str())?, |port| port.status = status)
    }

    /// Shows a field of a port, a network, a subnet or a server otherwise than it is; `None` shows it as it is again.
    pub fn distort(&self, id: &str, field: &str, value: Option<Value>) -> Result<(), WorldError> {
        let id = uuid("object", id)?;
        let mut world = self.shared.world();
        let fields: &mut Map<String, Value> = world.distortions.entry(id).or_default();
        match value {
            Some(value) => drop(fields.insert(field.to_owned(), value)),
            None => drop(fields.remove(field)),
        }
        Ok(())
    }

    /// Adds `nodes` servers (`node-00000`, …) with `nics` ports each: the first of each server in one network, the
    /// second in another, and so on.
    pub fn add_fleet(&self, nodes: usize, nics: u8) -> Result<Fleet, WorldError> {
        let mut subnets = Vec::new();
        for nic in 0..nics {
            let network = self.add_network(&format!("fleet-{nic}"), Some(1450));
            let cidr = Ipv4Net::new_assert(Ipv4Addr::new(10, nic, 0, 0), 16);
            subnets.push(self.add_subnet(&network, &format!("fleet-{nic}"), cidr.into())?);
        }
        let ids = subnets.iter().map(|id| uuid("subnet", id.as_str())).collect::<Result<Vec<_>, _>>()?;
        let servers: Vec<ServerId> = (0..nodes).map(|n| self.add_server(&format!("node-{n:05}"))).collect();
        let mut world = self.shared.world();
        for server in &servers {
            let server = uuid("server", server.as_str())?;
            for subnet in &ids {
                world.attach(server, &[*subnet], None)?;
            }
        }
        Ok(Fleet { servers, subnets })
    }
}

fn uuid(kind: &'static str, text: &str) -> Result<Uuid, WorldError> {
    text.parse().map_err(|()| unknown(kind, text))
}

fn attached(world: &mut World, id: Uuid) -> Result<Attached, WorldError> {
    let port = world.ports.get(&id).ok_or_else(|| unknown("port", &id.to_string()))?;
    let mac = MacAddr::from_bytes(port.mac).map_err(|_| unknown("port", &id.to_string()))?;
    let ips: Vec<(Uuid, IpAddr)> = port.fixed_ips.to_vec();
    let mut addresses = Vec::with_capacity(ips.len());
    for (subnet, ip) in ips {
        let cidr = world.subnet(subnet)?.cidr;
        addresses.push(IpNet::new(ip, cidr.prefix_len()).unwrap_or(cidr));
    }
    Ok(Attached { port: id.to_string().into(), mac, addresses })
}
