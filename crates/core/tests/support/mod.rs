//! A small cloud, a small store and one pass of the controller's planner over them.
#![allow(dead_code)] // Each test file uses a part of it.

pub mod kernel;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use multinic_core::cloud::{
    CloudSnapshot, FixedIp, Network, Port, PortProof, Server, ServerIdentity, Subnet, Unresolved,
    UnresolvedVm,
};
use multinic_core::config::{Selection, StatusFilter, SubnetSelector, VmRef};
use multinic_core::fleet::{
    Candidate, Decision, FleetLimits, Listing, Problem, Reason, Standing, candidates, decide, merge, select,
};
use multinic_core::published::{Publication, Published, PublishedInterface, PublishedNic, Releasing};
use multinic_core::{ConfigKey, MacAddr, NodeName, PortId, ServerId, Slot};

pub fn mac(n: u16) -> MacAddr {
    let [high, low] = n.to_be_bytes();
    MacAddr::from_bytes([0xfa, 0x16, 0x3e, 0, high, low]).unwrap()
}

pub fn slot(n: u8) -> Slot {
    Slot::new(n.into()).unwrap()
}

pub fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

pub fn key(name: &str) -> ConfigKey {
    ConfigKey::new("default", name)
}

pub fn server(id: &str, name: &str) -> Server {
    let identity = ServerIdentity { name: name.to_owned(), metadata: BTreeMap::new() };
    Server { id: id.into(), identity: Ok(identity) }
}

pub fn with_metadata(mut server: Server, key: &str, value: &str) -> Server {
    server.identity.as_mut().unwrap().metadata.insert(key.to_owned(), value.to_owned());
    server
}

/// The network of a subnet `sub-X` or `sub-X6` is `net-X`.
pub fn network_of(subnet: &str) -> String {
    format!("net-{}", subnet.trim_start_matches("sub-").trim_end_matches('6'))
}

/// A port `port-N` with MAC N on a server, ACTIVE, made in second N, with these addresses.
pub fn port(n: u16, device: &str, addresses: &[(&str, &str)]) -> Port {
    Port {
        id: format!("port-{n}").into(),
        network: addresses.first().map_or("net-a".to_owned(), |(_, subnet)| network_of(subnet)).into(),
        device: device.into(),
        project: "project".into(),
        mac: mac(n),
        status: "ACTIVE".to_owned(),
        fixed_ips: addresses
            .iter()
            .map(|(ip, subnet)| FixedIp { ip: ip.parse().unwrap(), subnet: (*subnet).into() })
            .collect(),
        created_at: Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(n.into())),
        revision_number: 1,
    }
}

/// A port with one address in `sub-a`.
pub fn port_a(n: u16, device: &str) -> Port {
    port(n, device, &[(&format!("10.0.{}.{}", n / 200, n % 200 + 1), "sub-a")])
}

/// Subnets `sub-a` 10.0.0.0/16 and `sub-a6` fd00:a::/64 on `net-a`, `sub-b` 10.1.0.0/16 on `net-b`, MTU 1500.
pub fn snapshot(selected: &[&str], servers: &[Server], ports: &[Port]) -> CloudSnapshot {
    let subnets = [("sub-a", "10.0.0.0/16"), ("sub-a6", "fd00:a::/64"), ("sub-b", "10.1.0.0/16")];
    CloudSnapshot {
        project: Some("project".into()),
        servers: servers.to_vec(),
        selected: selected.iter().map(|id| (*id).into()).collect(),
        subnets: subnets
            .into_iter()
            .map(|(id, cidr)| {
                let subnet = Subnet {
                    id: id.into(),
                    name: format!("name of {id}"),
                    network: network_of(id).into(),
                    cidr: cidr.parse().unwrap(),
                };
                (id.into(), subnet)
            })
            .collect(),
        networks: ["net-a", "net-b"].map(|id| (id.into(), Network { id: id.into(), mtu: Some(1500) })).into(),
        ports: ports.to_vec(),
        ..CloudSnapshot::default()
    }
}

pub fn not_found(vm: &str) -> UnresolvedVm {
    UnresolvedVm { vm: vm.to_owned(), why: Unresolved::NotFound }
}

/// VMs by id, subnets by id, ACTIVE and DOWN.
pub fn selection(vms: &[&str], subnets: &[&str]) -> Selection {
    Selection {
        vms: vms.iter().map(|id| VmRef::Id((*id).into())).collect(),
        subnets: SubnetSelector::Ids(subnets.iter().map(|id| (*id).into()).collect()),
        statuses: StatusFilter::Only(["ACTIVE", "DOWN"].map(str::to_owned).into()),
        node_name_key: None,
    }
}

pub fn by_name(vms: &[&str], subnet_name: &str) -> Selection {
    Selection {
        vms: vms.iter().map(|name| VmRef::Name((*name).to_owned())).collect(),
        subnets: SubnetSelector::Name(subnet_name.to_owned()),
        ..selection(&[], &[])
    }
}

/// What stands in for the hash of a spec: any text that differs when the spec does.
pub fn hash(selection: &Selection) -> String {
    format!("v1:{selection:?}")
}

/// A configuration whose cloud was read.
pub fn read(name: &str, selection: &Selection, snapshot: &CloudSnapshot) -> Standing {
    Standing { selected: Some(select(selection, snapshot).into()), ..unread(name, selection) }
}

/// A configuration whose cloud could not be read.
pub fn unread(name: &str, selection: &Selection) -> Standing {
    Standing {
        key: key(name),
        selection: Some(selection.clone()),
        spec_hash: Some(hash(selection)),
        selected: None,
        current: true,
    }
}

/// The same, read in an earlier pass.
pub fn earlier(standing: Standing) -> Standing {
    Standing { current: false, ..standing }
}

/// A configuration that could not be parsed.
pub fn broken(name: &str) -> Standing {
    Standing { key: key(name), selection: None, spec_hash: None, selected: None, current: true }
}

/// What the store holds, and what becomes of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    pub published: Published,
}

impl Model {
    /// Publishes what these configurations want. Nothing may be left to ask the cloud, nothing may be wrong.
    pub fn of(standings: Vec<Standing>) -> Self {
        let mut model = Self::default();
        let decision = model.pass(standings);
        assert_eq!(errors(&decision), Vec::<String>::new());
        model
    }

    pub fn candidates(&self, standings: &[Standing], listing: Listing) -> Vec<Candidate> {
        candidates(&merge(standings.to_vec()), &self.published, listing)
    }

    /// A pass in which the cloud answers no question.
    pub fn pass(&mut self, standings: Vec<Standing>) -> Decision {
        self.pass_with(standings, Listing::Complete, &[], &[])
    }

    pub fn pass_proving(&mut self, standings: Vec<Standing>, proofs: &[(u16, PortProof)]) -> Decision {
        self.pass_with(standings, Listing::Complete, proofs, &[])
    }

    pub fn pass_with(
        &mut self,
        standings: Vec<Standing>,
        listing: Listing,
        proofs: &[(u16, PortProof)],
        confirmed: &[&str],
    ) -> Decision {
        let asked: BTreeSet<PortId> =
            self.candidates(&standings, listing).into_iter().map(|candidate| candidate.port).collect();
        // Only what was asked is answered.
        let proofs: HashMap<PortId, PortProof> = proofs
            .iter()
            .map(|(n, proof)| (PortId::from(format!("port-{n}")), proof.clone()))
            .filter(|(port, _)| asked.contains(port))
            .collect();
        let confirmed = confirmed.iter().map(|digest| (*digest).to_owned()).collect();
        let decision =
            decide(merge(standings), &self.published, listing, &proofs, &confirmed, &FleetLimits::default());
        self.publish(&decision.publication);
        decision
    }

    /// A pass after somebody deleted configurations.
    pub fn pass_without(&mut self, standings: Vec<Standing>, deleted: &[&str], listing: Listing) -> Decision {
        let mut fleet = merge(standings);
        fleet.deleted = deleted.iter().map(|name| key(name)).collect();
        let (proofs, confirmed) = (HashMap::new(), BTreeSet::new());
        let decision = decide(fleet, &self.published, listing, &proofs, &confirmed, &FleetLimits::default());
        self.publish(&decision.publication);
        decision
    }

    /// What the store does with a publication.
    pub fn publish(&mut self, publication: &Publication) {
        let mut rows: BTreeMap<PortId, PublishedInterface> =
            self.published.interfaces.drain(..).map(|row| (row.port().clone(), row)).collect();
        let mut leaving: Vec<PublishedInterface> = Vec::new();
        for removal in &publication.removals {
            let row = rows.remove(&removal.port).expect("a removal of something that is not published");
            assert_eq!((&row.node, row.mac()), (&removal.node, removal.mac));
            leaving.push(row);
        }
        for desired in &publication.interfaces {
            let interface = &desired.interface;
            let before = rows.remove(&interface.port);
            let same = before.as_ref().filter(|row| row.node == desired.node && row.mac() == interface.mac);
            let row = PublishedInterface {
                node: desired.node.clone(),
                owner: desired.owner.clone(),
                slot: Some(desired.slot),
                verified: same.and_then(|row| row.verified),
                project: Some(desired.project.clone()),
                nic: PublishedNic::Whole(interface.clone()),
            };
            leaving.extend(before.filter(|before| before.node != row.node || before.mac() != row.mac()));
            let twice = rows.insert(interface.port.clone(), row);
            assert_eq!(twice, None, "a port is published twice");
        }
        for row in leaving {
            self.published.releasing.retain(|old| (&old.node, old.mac) != (&row.node, row.mac()));
            let slot = row.remembered_slot();
            self.published.releasing.push(Releasing { mac: row.mac(), node: row.node, slot });
        }
        let live: BTreeSet<(NodeName, MacAddr)> =
            rows.values().map(|row| (row.node.clone(), row.mac())).collect();
        self.published.releasing.retain(|old| !live.contains(&(old.node.clone(), old.mac)));
        self.published.interfaces = rows.into_values().collect();
        self.published.spec_hashes.extend(publication.settled.clone());
        for key in &publication.forgotten {
            self.published.spec_hashes.remove(key);
        }
    }

    /// The node reports that it let a MAC go.
    pub fn release(&mut self, node: &str, n: u16) {
        self.published.releasing.retain(|old| (old.node.as_str(), old.mac) != (node, mac(n)));
    }

    pub fn row(&mut self, n: u16) -> &mut PublishedInterface {
        let id = PortId::from(format!("port-{n}"));
        self.published.interfaces.iter_mut().find(|row| *row.port() == id).unwrap()
    }

    /// `node/multinicN port-N owner`, sorted.
    pub fn shows(&self) -> Vec<String> {
        let line = |row: &PublishedInterface| {
            let slot = row.slot.map_or("-".to_owned(), |slot| slot.interface().to_string());
            format!("{}/{slot} {} {}", row.node, row.port(), row.owner.name)
        };
        let mut lines: Vec<String> = self.published.interfaces.iter().map(line).collect();
        lines.sort();
        lines
    }

    pub fn ports(&self) -> BTreeSet<String> {
        self.published.interfaces.iter().map(|row| row.port().to_string()).collect()
    }
}

/// The problems that keep configurations from being ready, as `config Reason subject`.
pub fn errors(decision: &Decision) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, problems) in &decision.problems {
        for Problem { reason, subject, .. } in problems.iter().filter(|problem| problem.reason.is_error()) {
            lines.push(format!("{} {} {subject}", key.name, reason.as_str()));
        }
    }
    lines
}

pub fn has(decision: &Decision, config: &str, reason: Reason) -> bool {
    let problems = decision.problems.get(&key(config));
    problems.is_some_and(|problems| problems.iter().any(|problem| problem.reason == reason))
}

/// `port-N Evidence node`, sorted.
pub fn removals(decision: &Decision) -> Vec<String> {
    let line = |removal: &multinic_core::published::Removal| {
        format!("{} {} {}", removal.port, removal.evidence.as_str(), removal.node)
    };
    let mut lines: Vec<String> = decision.publication.removals.iter().map(line).collect();
    lines.sort();
    lines
}

pub fn moved(to: &str) -> PortProof {
    PortProof::Moved(ServerId::from(to))
}
