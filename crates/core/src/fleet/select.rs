//! One configuration: which ports its spec selects, and which node each belongs to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use super::{Problem, Reason};
use crate::cloud::{CloudSnapshot, Port, Server, ServerIdentity, Unresolved};
use crate::config::{Selection, StatusFilter};
use crate::published::SubnetRecord;
use crate::{Addresses, Interface, Mtu, NodeName, PortId, ProjectId, ServerId, SubnetId};

/// What one configuration selects.
#[derive(Debug, Clone, Default)]
pub struct Selected {
    /// The NICs.
    pub wanted: Vec<Arc<Wanted>>,
    /// What could not be selected.
    pub problems: Vec<Problem>,
    /// The subnets that the NICs name.
    pub subnets: BTreeMap<SubnetId, SubnetRecord>,
    /// The project that the read was scoped to: ports of others are not in it.
    pub project: Option<ProjectId>,
    /// The servers that the spec names and the cloud knows.
    pub servers: HashSet<ServerId>,
    /// Every name that a setting could make of a server now. A node's name that is no longer among its server's is one
    /// that somebody changed in the cloud.
    pub names: HashMap<ServerId, BTreeSet<NodeName>>,
    /// Whether every VM that the spec names has its server.
    pub all_resolved: bool,
    /// Ports that are there, attached to a selected server, but not in a selected subnet: excluded by the spec.
    pub excluded: HashSet<PortId>,
    /// Ports that are there, attached to a selected server, and kept from publication by a problem that is reported:
    /// what is published of them stays.
    pub stuck: HashSet<PortId>,
    /// The ids of the selected ports that are DOWN, in order.
    pub down: BTreeSet<PortId>,
}

/// One NIC that a configuration wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The node.
    pub node: NodeName,
    /// What it is, shared with the wish and the publication that come of it.
    pub interface: Arc<Interface>,
    /// The project whose token saw it.
    pub project: ProjectId,
    /// The place of its subnet in the user's list: new NICs take slots in this order.
    pub rank: usize,
    /// Then in this order. A port without a time comes last.
    pub created_at: Option<Timestamp>,
    /// Rises with each change of the port: of two reads of one port, the higher one counts.
    pub revision: i64,
    /// Whether a NIC that is not published yet is taken up: its port's status is among the allowed ones. One that is
    /// published stays, since a status is no proof that the NIC is gone.
    pub admitted: bool,
}

/// Applies a spec to a complete snapshot.
pub fn select(selection: &Selection, snapshot: &CloudSnapshot) -> Selected {
    let mut selected = Selected {
        all_resolved: snapshot.unresolved.is_empty(),
        project: snapshot.project.clone(),
        ..Selected::default()
    };
    for vm in &snapshot.unresolved {
        let (reason, message) = match &vm.why {
            Unresolved::NotFound => (
                Reason::VmNotFound,
                "Nova knows no such server in this project; mend spec.vmNames".to_owned(),
            ),
            Unresolved::Ambiguous(ids) => {
                let ids: Vec<&str> = ids.iter().map(ServerId::as_str).collect();
                (
                    Reason::VmNotUnique,
                    format!("several servers have this name, give the UUID: {}", ids.join(", ")),
                )
            }
        };
        selected.problem(reason, format!("VM {}", vm.vm), message);
    }
    for port in &snapshot.unreadable {
        let id = port.id.as_ref().map_or("without a readable id", |id| id.as_str());
        selected.problem(Reason::PortUnreadable, format!("port {id}"), port.problem.clone());
        selected.stuck.extend(port.id.clone());
    }
    let mut nodes: BTreeMap<ServerId, Option<NodeName>> = BTreeMap::new();
    for server in &snapshot.servers {
        selected.servers.insert(server.id.clone());
        selected.names.insert(server.id.clone(), possible_names(server));
        let name = match &server.identity {
            Ok(identity) => node_name(selection, identity, &server.id)
                .map_err(|message| (Reason::NodeNameInvalid, message)),
            Err(why) => Err((
                Reason::NodeNameUnknown,
                format!("its node is skipped until Nova tells its name and metadata: {why}"),
            )),
        };
        let name =
            name.map_err(|(reason, message)| selected.problem(reason, format!("VM {}", server.id), message));
        nodes.insert(server.id.clone(), name.ok());
    }
    let project = snapshot.project.clone();
    let mut matched: HashSet<ServerId> = HashSet::new();
    for port in &snapshot.ports {
        let Some(rank) = rank(snapshot, port) else {
            selected.excluded.insert(port.id.clone());
            continue;
        };
        matched.insert(port.device.clone());
        let Some(Some(node)) = nodes.get(&port.device) else {
            selected.stuck.insert(port.id.clone());
            continue;
        };
        match interface(snapshot, port) {
            Ok(interface) => {
                selected.record_subnet(snapshot, &interface.subnet);
                if port.status.eq_ignore_ascii_case("DOWN") {
                    selected.down.insert(port.id.clone());
                }
                selected.wanted.push(Arc::new(Wanted {
                    node: node.clone(),
                    interface: Arc::new(interface),
                    project: project.clone().unwrap_or_else(|| port.project.clone()),
                    rank,
                    created_at: port.created_at,
                    revision: port.revision_number,
                    admitted: admits(&selection.statuses, &port.status),
                }));
            }
            Err((reason, message)) => {
                selected.stuck.insert(port.id.clone());
                selected.problem(reason, format!("port {} ({}) of node {node}", port.id, port.mac), message);
            }
        }
    }
    for server in snapshot.servers.iter().filter(|server| !matched.contains(&server.id)) {
        selected.problem(
            Reason::NoMatchingPort,
            format!("VM {}", server.id),
            "has no port in the selected subnets (yet)".to_owned(),
        );
    }
    selected
}

impl Selected {
    fn problem(&mut self, reason: Reason, subject: String, message: String) {
        self.problems.push(Problem { reason, subject, message });
    }

    fn record_subnet(&mut self, snapshot: &CloudSnapshot, id: &SubnetId) {
        if let Some(subnet) = snapshot.subnets.get(id).filter(|_| !self.subnets.contains_key(id)) {
            let record = SubnetRecord {
                name: subnet.name.clone(),
                cidr: subnet.cidr.to_string(),
                network: subnet.network.clone(),
            };
            self.subnets.insert(id.clone(), record);
        }
    }
}

/// Metadata key, then server name, then id; each trimmed, the first that is not empty.
fn node_name(selection: &Selection, identity: &ServerIdentity, id: &ServerId) -> Result<NodeName, String> {
    let from_metadata = selection.node_name_key.as_ref().and_then(|key| identity.metadata.get(key));
    let name = [from_metadata.map(String::as_str), Some(identity.name.as_str()), Some(id.as_str())]
        .into_iter()
        .flatten()
        .map(str::trim)
        .find(|name| !name.is_empty())
        .unwrap_or_default();
    name.parse().map_err(|error| format!("{error}; rename the server or name the node in its metadata"))
}

/// The name, the id and each value of the metadata, as far as a node could be called so.
fn possible_names(server: &Server) -> BTreeSet<NodeName> {
    let Ok(identity) = &server.identity else { return BTreeSet::new() };
    let texts = identity.metadata.values().chain([&identity.name]).map(String::as_str);
    texts.chain([server.id.as_str()]).filter_map(|text| text.trim().parse().ok()).collect()
}

fn admits(filter: &StatusFilter, status: &str) -> bool {
    match filter {
        StatusFilter::Any => true,
        StatusFilter::Only(allowed) => status.is_empty() || allowed.contains(&status.to_ascii_uppercase()),
    }
}

/// The place of the first selected subnet in which the port has an address, and whose network it is on. A subnet that
/// the read lacks selects too: such a port has an error, which is no reason to call it excluded.
fn rank(snapshot: &CloudSnapshot, port: &Port) -> Option<usize> {
    snapshot.selected.iter().position(|id| {
        let on_network = snapshot.subnets.get(id).is_none_or(|subnet| subnet.network == port.network);
        on_network && port.fixed_ips.iter().any(|fixed| fixed.subnet == *id)
    })
}

/// What the port is as a NIC, whichever configuration selects it: every fixed IP, IPv4 first.
fn interface(snapshot: &CloudSnapshot, port: &Port) -> Result<Interface, (Reason, String)> {
    let invalid = |message: String| (Reason::InterfaceInvalid, message);
    let mut addresses = Vec::with_capacity(port.fixed_ips.len());
    for fixed in &port.fixed_ips {
        let subnet = snapshot.subnets.get(&fixed.subnet).ok_or_else(|| {
            invalid(format!("fixed IP {} is in subnet {}, which cannot be read", fixed.ip, fixed.subnet))
        })?;
        if !subnet.cidr.contains(&fixed.ip) {
            let message = format!("fixed IP {} is outside {} of subnet {}", fixed.ip, subnet.cidr, subnet.id);
            return Err(invalid(message));
        }
        let net =
            IpNet::new(fixed.ip, subnet.cidr.prefix_len()).map_err(|error| invalid(error.to_string()))?;
        addresses.push((net, subnet));
    }
    addresses.sort_by_key(|(net, _)| matches!(net, IpNet::V6(_)));
    let (_, primary) = addresses.first().ok_or_else(|| invalid("it has no fixed IP".to_owned()))?;
    let mtu = snapshot.networks.get(&port.network).and_then(|network| network.mtu).ok_or_else(|| {
        let message = format!(
            "Neutron gives no MTU for network {}; set one with openstack network set --mtu",
            port.network
        );
        (Reason::MtuUnknown, message)
    })?;
    let mtu = Mtu::new(mtu).map_err(|error| invalid(format!("network {}: {error}", port.network)))?;
    let (subnet, cidr) = (primary.id.clone(), primary.cidr.trunc());
    let addresses = Addresses::new(addresses.into_iter().map(|(net, _)| net))
        .map_err(|error| invalid(error.to_string()))?;
    mtu.carries(&addresses).map_err(|error| invalid(format!("network {}: {error}", port.network)))?;
    Ok(Interface {
        mac: port.mac,
        port: port.id.clone(),
        network: port.network.clone(),
        subnet,
        device: port.device.clone(),
        addresses,
        cidr,
        mtu,
    })
}
