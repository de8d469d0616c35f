//! All configurations together: one wish per port, and what contradicts another left out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Problem, Reason, Selected, Wanted};
use crate::config::{Selection, SubnetSelector, VmRef};
use crate::published::{PublishedInterface, SubnetRecord};
use crate::{ConfigKey, MacAddr, NodeName, PortId, ServerId, SubnetId};

/// One configuration, with what its cloud showed. A configuration whose cloud could not be read, or that could not be
/// parsed, has no `selected`: what it published stays as it is.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its name.
    pub key: ConfigKey,
    /// Its spec, if it could be parsed.
    pub selection: Option<Selection>,
    /// The hash of its spec, if it could be parsed.
    pub spec_hash: Option<String>,
    /// What it selects, if its cloud could be read. Of a fleet that is too much to have it twice.
    pub selected: Option<Arc<Selected>>,
    /// Whether that was read in this pass. What an earlier pass read keeps what is published, and changes nothing of it:
    /// something newer may have been published since.
    pub current: bool,
}

impl Standing {
    /// Whether this configuration, whose cloud could not be read, might want the interface. Errs towards yes.
    pub(super) fn might_want(&self, row: &PublishedInterface) -> bool {
        let Some(selection) = &self.selection else { return true };
        let excludes_vm = row.device().is_some_and(|device| excludes_vm(selection, device));
        !excludes_vm
    }

    /// Whether this configuration, whose cloud was read, selects the server and the subnet of the interface, although
    /// its list of ports lacks it.
    pub(super) fn should_list(&self, row: &PublishedInterface) -> bool {
        let (Some(selection), Some(selected)) = (&self.selection, &self.selected) else { return false };
        let has_server = row.device().is_none_or(|device| selected.servers.contains(device));
        let other_project = match (&selected.project, &row.project) {
            (Some(ours), Some(theirs)) => ours != theirs,
            _ => false,
        };
        has_server
            && !other_project
            && !selected.excluded.contains(row.port())
            && !excludes_subnet(selection, row)
    }
}

/// Whether the spec positively excludes a server: it names only UUIDs, and this is none of them.
pub(super) fn excludes_vm(selection: &Selection, device: &ServerId) -> bool {
    selection.vms.iter().all(|vm| matches!(vm, VmRef::Id(id) if id != device))
}

/// Whether the spec positively excludes what was published: it names subnets by id, and the row's is none of them. A row
/// names only the subnet of its primary address; one with addresses in others may be selected by those.
pub(super) fn excludes_subnet(selection: &Selection, row: &PublishedInterface) -> bool {
    let SubnetSelector::Ids(ids) = &selection.subnets else { return false };
    let is_whole = row
        .interface()
        .is_none_or(|interface| interface.addresses.iter().all(|net| interface.cidr.contains(&net.addr())));
    is_whole && !ids.contains(row.subnet())
}

/// Whether a recorded hash is one of ours: the older programs hashed other things, so theirs say nothing about ours.
pub(super) fn is_our_hash(hash: &str) -> bool {
    hash.starts_with(crate::config::SPEC_HASH_PREFIX)
}

/// What all configurations together wish for.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// Every configuration by name.
    pub configs: BTreeMap<ConfigKey, Standing>,
    /// The wishes by port.
    pub wishes: HashMap<PortId, Wish>,
    /// Ports that were selected but contradict one another: what is published of them stays.
    pub disputed: HashSet<PortId>,
    /// The subnets that the wishes name.
    pub subnets: BTreeMap<SubnetId, SubnetRecord>,
    /// What is wrong, by configuration.
    pub problems: BTreeMap<ConfigKey, Vec<Problem>>,
    /// Configurations that somebody deleted, which is known and not only concluded from their absence. They are not
    /// among [`Self::configs`].
    pub deleted: BTreeSet<ConfigKey>,
}

/// Configurations that want a NIC, in order of name. Most ports of a configuration have the same, and share them.
pub type Owners = Arc<[ConfigKey]>;

/// One NIC that at least one configuration wants.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What is wanted, shared with the configuration's own list.
    pub wanted: Arc<Wanted>,
    /// By whom.
    pub owners: Owners,
    /// The place among new NICs: the first configuration's place, then the subnet's.
    pub order: (usize, usize),
    /// Whether one of them takes it up although it is not published yet.
    pub admitted: bool,
    /// Whether this pass read it. Otherwise it keeps what is published as it is.
    pub current: bool,
}

/// Brings all configurations together.
pub fn merge(standings: Vec<Standing>) -> Fleet {
    let configs: BTreeMap<ConfigKey, Standing> =
        standings.into_iter().map(|standing| (standing.key.clone(), standing)).collect();
    let mut fleet = Fleet::default();
    // Grown one by one it would be there twice, time and again.
    let most = configs.values().filter_map(|it| it.selected.as_ref()).map(|it| it.wanted.len()).sum();
    fleet.wishes.reserve(most);
    let mut names = Names::default();
    for (place, (key, standing)) in configs.iter().enumerate() {
        let (Some(selected), current) = (&standing.selected, standing.current) else { continue };
        fleet.problems.insert(key.clone(), selected.problems.clone());
        fleet.subnets.extend(selected.subnets.clone());
        let alone: Owners = [key.clone()].into();
        let mut joined = None;
        for wanted in &selected.wanted {
            names.see(wanted);
            let order = (place, wanted.rank);
            let wish = fleet.wishes.entry(wanted.interface.port.clone()).or_insert_with(|| Wish {
                wanted: Arc::clone(wanted),
                owners: Arc::clone(&alone),
                order,
                admitted: false,
                current,
            });
            if wish.owners.last() != Some(key) {
                wish.owners = join(&wish.owners, key, &mut joined);
            }
            wish.order = wish.order.min(order);
            wish.admitted |= wanted.admitted;
            // The same port read twice: what was read now is the truth, and of that the later revision.
            if (current, wanted.revision) > (wish.current, wish.wanted.revision) {
                wish.wanted = Arc::clone(wanted);
                wish.current = current;
            }
        }
    }
    fleet.configs = configs;
    fleet.dispute_servers(&names.twice);
    fleet.dispute_nodes();
    fleet.dispute_macs();
    fleet
}

/// The names that configurations make of servers.
#[derive(Default)]
struct Names {
    first: HashMap<ServerId, NodeName>,
    /// Servers with more than one.
    twice: BTreeMap<ServerId, BTreeSet<NodeName>>,
}

impl Names {
    fn see(&mut self, Wanted { node, interface, .. }: &Wanted) {
        match self.first.get(&interface.device) {
            None => {
                self.first.insert(interface.device.clone(), node.clone());
            }
            Some(first) if first == node => {}
            Some(first) => {
                let names = self.twice.entry(interface.device.clone()).or_default();
                names.extend([first.clone(), node.clone()]);
            }
        }
    }
}

/// The owners and one more. Ports that follow one another mostly have the same: `last` is what was joined last, before and
/// after.
fn join(owners: &Owners, key: &ConfigKey, last: &mut Option<(Owners, Owners)>) -> Owners {
    if let Some((_, after)) = last.as_ref().filter(|(before, _)| Arc::ptr_eq(before, owners)) {
        return Arc::clone(after);
    }
    let after: Owners = owners.iter().chain([key]).cloned().collect();
    *last = Some((Arc::clone(owners), Arc::clone(&after)));
    after
}

impl Fleet {
    pub(super) fn problem(&mut self, key: &ConfigKey, reason: Reason, subject: String, message: String) {
        self.problems.entry(key.clone()).or_default().push(Problem { reason, subject, message });
    }

    fn dispute(&mut self, ports: &[PortId], reason: Reason, subject: &str, message: &str) {
        let mut owners = BTreeSet::new();
        for port in ports {
            if let Some(wish) = self.wishes.remove(port) {
                owners.extend(wish.owners.iter().cloned());
            }
            self.disputed.insert(port.clone());
        }
        for owner in owners {
            self.problem(&owner, reason, subject.to_owned(), message.to_owned());
        }
    }

    /// One server cannot be two nodes: configurations that name it must agree on what its node is called.
    fn dispute_servers(&mut self, twice: &BTreeMap<ServerId, BTreeSet<NodeName>>) {
        if twice.is_empty() {
            return;
        }
        let mut ports: BTreeMap<ServerId, Vec<PortId>> = BTreeMap::new();
        for interface in self.wishes.values().map(|wish| &wish.wanted.interface) {
            if twice.contains_key(&interface.device) {
                ports.entry(interface.device.clone()).or_default().push(interface.port.clone());
            }
        }
        for (server, ports) in ports {
            let names = twice.get(&server).into_iter().flatten().map(NodeName::as_str);
            let message = format!(
                "configurations make different node names of this server, give all of them the same \
                 openstackNodeNameMetadataKey: {}",
                names.collect::<Vec<_>>().join(", ")
            );
            self.dispute(&ports, Reason::NodeNameNotUnique, &format!("VM {server}"), &message);
        }
    }

    /// Two servers cannot be one node.
    fn dispute_nodes(&mut self) {
        let mut servers: HashMap<&NodeName, &ServerId> = HashMap::new();
        let mut twice: BTreeMap<NodeName, BTreeSet<ServerId>> = BTreeMap::new();
        for wish in self.wishes.values() {
            let (node, server) = (&wish.wanted.node, &wish.wanted.interface.device);
            if let Some(other) = servers.insert(node, server).filter(|other| *other != server) {
                twice.entry(node.clone()).or_default().extend([other.clone(), server.clone()]);
            }
        }
        for (node, servers) in twice {
            let ids: Vec<&str> = servers.iter().map(ServerId::as_str).collect();
            let message =
                format!("several servers have the name of this node, rename all but one: {}", ids.join(", "));
            let of_node = self.wishes.values().filter(|wish| wish.wanted.node == node);
            let ports: Vec<PortId> = of_node.map(|wish| wish.wanted.interface.port.clone()).collect();
            self.dispute(&ports, Reason::NodeNameNotUnique, &format!("node {node}"), &message);
        }
    }

    /// Two ports of one node with the same MAC cannot be told apart on the node.
    fn dispute_macs(&mut self) {
        let mut ports: HashMap<(&NodeName, MacAddr), &PortId> = HashMap::new();
        let mut twice: BTreeMap<(NodeName, MacAddr), BTreeSet<PortId>> = BTreeMap::new();
        for wish in self.wishes.values() {
            let (node, interface) = (&wish.wanted.node, &wish.wanted.interface);
            if let Some(other) = ports.insert((node, interface.mac), &interface.port) {
                let disputed = twice.entry((node.clone(), interface.mac)).or_default();
                disputed.extend([other.clone(), interface.port.clone()]);
            }
        }
        for ((node, mac), ports) in twice {
            let ids: Vec<&str> = ports.iter().map(PortId::as_str).collect();
            let message = format!("several ports have this MAC, detach all but one: {}", ids.join(", "));
            let ports: Vec<PortId> = ports.iter().cloned().collect();
            self.dispute(&ports, Reason::MacConflict, &format!("{mac} on node {node}"), &message);
        }
    }
}
