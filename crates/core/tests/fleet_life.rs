//! The life of a fleet: ports, servers and specs that come and go, clouds that fail or tell half, and what must hold
//! through all of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use multinic_core::cloud::{Port, PortProof};
use multinic_core::config::Selection;
use multinic_core::fleet::{Listing, Standing};
use multinic_core::published::PublishedInterface;
use proptest::prelude::*;
use support::*;

const SERVERS: u16 = 4;
const SUBNETS: [&str; 2] = ["sub-a", "sub-b"];
const CONFIGS: [&str; 3] = ["one", "two", "three"];
/// Fewer than the brake holds.
const MOST_PORTS: usize = 10;

#[derive(Debug, Clone)]
enum Event {
    Attach { server: u16, subnet: usize, building: bool },
    Activate(usize),
    Readdress(usize),
    Move { port: usize, server: u16 },
    Detach(usize),
    Delete(usize),
    Spec { config: usize, vms: u8, subnets: u8 },
    Unconfigure(usize),
    Rename { server: u16, name: u8 },
    Release(usize),
}

/// What goes wrong in one pass.
#[derive(Debug, Clone)]
struct Faults {
    unread: u8,
    unparsed: u8,
    /// Configurations that are not even listed; the listing says so.
    unlisted: u8,
    /// Or the listing says that it is being written.
    unsettled: bool,
    /// Configurations that are not due: what was read earlier has to do.
    late: u8,
    /// By configuration and port, bit by bit: rows that the list lacks.
    lacking: [u16; 3],
    nameless: u8,
    unproven: bool,
}

const NO_FAULT: Faults = Faults {
    unread: 0,
    unparsed: 0,
    unlisted: 0,
    unsettled: false,
    late: 0,
    lacking: [0; 3],
    nameless: 0,
    unproven: false,
};

fn bit(bits: impl Into<u16>, at: usize) -> bool {
    bits.into() >> at & 1 == 1
}

#[derive(Debug, Clone, Default)]
struct World {
    ports: BTreeMap<u16, Port>,
    names: BTreeMap<u16, String>,
    specs: BTreeMap<&'static str, Selection>,
    made: u16,
    renamed: bool,
    model: Model,
    /// The last read of each configuration, and of which spec.
    reads: BTreeMap<&'static str, (Selection, Standing)>,
}

impl World {
    fn name(&self, server: u16) -> String {
        self.names.get(&server).cloned().unwrap_or(format!("w{server}"))
    }

    fn pick(&mut self, at: usize) -> Option<&mut Port> {
        let count = self.ports.len().max(1);
        self.ports.values_mut().nth(at % count)
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Attach { server, subnet, building } => {
                if self.ports.len() < MOST_PORTS {
                    self.made += 1;
                    let n = self.made;
                    let ip = format!("10.{subnet}.{}.{}", n / 200, n % 200 + 1);
                    let mut port = port(n, &format!("vm-{server}"), &[(&ip, SUBNETS[*subnet])]);
                    if *building {
                        port.status = "BUILD".to_owned();
                    }
                    self.ports.insert(n, port);
                }
            }
            Event::Activate(at) => {
                if let Some(port) = self.pick(*at) {
                    port.status = "ACTIVE".to_owned();
                }
            }
            Event::Readdress(at) => {
                if let Some(port) = self.pick(*at) {
                    let octets = port.fixed_ips[0]
                        .ip
                        .to_string()
                        .replace("10.0.", "10.0.9")
                        .replace("10.1.", "10.1.9");
                    port.fixed_ips[0].ip = octets.parse().unwrap_or(port.fixed_ips[0].ip);
                    port.revision_number += 1;
                }
            }
            Event::Move { port, server } => {
                if let Some(port) = self.pick(*port) {
                    port.device = format!("vm-{server}").into();
                    port.revision_number += 1;
                }
            }
            Event::Detach(at) => {
                if let Some(port) = self.pick(*at) {
                    port.device = "".into();
                    port.revision_number += 1;
                }
            }
            Event::Delete(at) => {
                let n = self.ports.keys().nth(at % self.ports.len().max(1)).copied();
                self.ports.remove(&n.unwrap_or_default());
            }
            Event::Spec { config, vms, subnets } => {
                let vms: Vec<String> = (1..=SERVERS)
                    .filter(|n| bit(*vms, usize::from(n - 1)))
                    .map(|n| format!("vm-{n}"))
                    .collect();
                let vms: Vec<&str> = vms.iter().map(String::as_str).collect();
                let subnets: Vec<&str> =
                    (0..2).filter(|at| bit(*subnets, *at)).map(|at| SUBNETS[at]).collect();
                if !vms.is_empty() && !subnets.is_empty() {
                    self.specs.insert(CONFIGS[*config], selection(&vms, &subnets));
                }
            }
            Event::Unconfigure(config) => {
                // The loss of the last one is held, which has its own test.
                if self.specs.len() > 1 {
                    self.specs.remove(CONFIGS[*config]);
                }
            }
            Event::Rename { server, name } => {
                self.renamed = true;
                self.names.insert(*server, format!("n{name}"));
            }
            Event::Release(at) => {
                let releasing = &mut self.model.published.releasing;
                if !releasing.is_empty() {
                    releasing.remove(at % releasing.len());
                }
            }
        }
    }

    fn standings(&mut self, faults: &Faults) -> Vec<Standing> {
        let mut standings = Vec::new();
        for (name, spec) in &self.specs.clone() {
            let at = CONFIGS.iter().position(|config| config == name).unwrap();
            if bit(faults.unlisted, at) {
                continue;
            }
            if bit(faults.unparsed, at) {
                standings.push(broken(name));
                continue;
            }
            let earlier_read = self.reads.get(name).filter(|(of, _)| of == spec && bit(faults.late, at));
            if let Some((_, standing)) = earlier_read {
                standings.push(earlier(standing.clone()));
                continue;
            }
            self.reads.remove(name);
            if bit(faults.unread, at) {
                standings.push(unread(name, spec));
                continue;
            }
            let named = |n: &u16| spec_names(spec, &format!("vm-{n}"));
            let servers: Vec<_> = (1..=SERVERS)
                .filter(named)
                .map(|n| {
                    let mut server = server(&format!("vm-{n}"), &self.name(n));
                    if bit(faults.nameless, n.into()) {
                        server.identity = Err("503".to_owned());
                    }
                    server
                })
                .collect();
            let ports: Vec<Port> = self
                .ports
                .iter()
                .filter(|(n, port)| {
                    spec_names(spec, port.device.as_str()) && !bit(faults.lacking[at], usize::from(**n % 16))
                })
                .map(|(_, port)| port.clone())
                .collect();
            let selected: Vec<&str> = SUBNETS.into_iter().filter(|id| spec_selects(spec, id)).collect();
            let standing = read(name, spec, &snapshot(&selected, &servers, &ports));
            self.reads.insert(name, (spec.clone(), standing.clone()));
            standings.push(standing);
        }
        standings
    }

    fn pass(&mut self, faults: &Faults) -> multinic_core::fleet::Decision {
        let omitted = self
            .specs
            .keys()
            .any(|name| bit(faults.unlisted, CONFIGS.iter().position(|config| config == name).unwrap()));
        let listing = match (faults.unsettled, omitted) {
            (true, _) => Listing::Unsettled,
            (false, true) => Listing::Partial,
            (false, false) => Listing::Complete,
        };
        let proofs: Vec<(u16, PortProof)> = (1..=self.made)
            .map(|n| {
                let row = self.model.published.interfaces.iter().find(|row| row.mac() == mac(n));
                let before = row.and_then(|row| row.device());
                let truth = match self.ports.get(&n) {
                    _ if faults.unproven => PortProof::Unproven("503".to_owned()),
                    None => PortProof::Gone,
                    Some(port) if Some(&port.device) == before => PortProof::StillAttached,
                    Some(port) => PortProof::Moved(port.device.clone()),
                };
                (n, truth)
            })
            .collect();
        let standings = self.standings(faults);
        self.model.pass_with(standings, listing, &proofs, &[])
    }

    fn wanted(&self, port: &Port) -> bool {
        let subnet = &port.fixed_ips[0].subnet;
        self.specs
            .values()
            .any(|spec| spec_names(spec, port.device.as_str()) && spec_selects(spec, subnet.as_str()))
    }

    /// Whether an interface that was published may be missing now.
    fn may_go(&self, row: &PublishedInterface) -> bool {
        let port = self.ports.values().find(|port| port.id == *row.port());
        port.is_none_or(|port| Some(&port.device) != row.device() || !self.wanted(port))
    }
}

fn spec_names(spec: &Selection, device: &str) -> bool {
    spec.vms.iter().any(|vm| *vm == multinic_core::config::VmRef::Id(device.into()))
}

fn spec_selects(spec: &Selection, subnet: &str) -> bool {
    matches!(&spec.subnets, multinic_core::config::SubnetSelector::Ids(ids) if ids.contains(&subnet.into()))
}

fn event() -> impl Strategy<Value = Event> {
    let (server, at) = (1..=SERVERS, 0usize..32);
    prop_oneof![
        6 => (server.clone(), 0usize..2, prop::bool::weighted(0.2))
            .prop_map(|(server, subnet, building)| Event::Attach { server, subnet, building }),
        1 => at.clone().prop_map(Event::Activate),
        1 => at.clone().prop_map(Event::Readdress),
        2 => (at.clone(), server.clone()).prop_map(|(port, server)| Event::Move { port, server }),
        1 => at.clone().prop_map(Event::Detach),
        2 => at.clone().prop_map(Event::Delete),
        4 => (0usize..3, 0u8..16, 0u8..4)
            .prop_map(|(config, vms, subnets)| Event::Spec { config, vms, subnets }),
        1 => (0usize..3).prop_map(Event::Unconfigure),
        1 => (server, 0u8..4).prop_map(|(server, name)| Event::Rename { server, name }),
        2 => at.prop_map(Event::Release),
    ]
}

fn faults() -> impl Strategy<Value = Faults> {
    let rarely = || prop_oneof![3 => Just(0u8), 1 => 0u8..8];
    let lacking = || prop_oneof![2 => Just(0u16), 1 => any::<u16>(), 1 => Just(u16::MAX)];
    let configs = (rarely(), rarely(), rarely(), prop::bool::weighted(0.2), 0u8..8);
    let some = (configs, [lacking(), lacking(), lacking()], rarely(), any::<bool>());
    let some =
        some.prop_map(|((unread, unparsed, unlisted, unsettled, late), lacking, nameless, unproven)| {
            Faults { unread, unparsed, unlisted, unsettled, late, lacking, nameless: nameless << 1, unproven }
        });
    prop_oneof![1 => Just(NO_FAULT), 2 => some]
}

fn slots_of(model: &Model) -> BTreeMap<(String, String), u8> {
    let rows = model.published.interfaces.iter();
    rows.map(|row| ((row.node.to_string(), row.port().to_string()), row.slot.unwrap().number())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_disappears_without_cause_slots_stay_and_a_quiet_cloud_makes_a_quiet_store(
        life in prop::collection::vec((prop::collection::vec(event(), 0..5), faults()), 1..14),
    ) {
        let mut world = World::default();
        for config in 0..2 {
            world.happen(&Event::Spec { config, vms: 0b0111 << config, subnets: 0b11 });
        }
        for (events, faults) in &life {
            for event in events {
                world.happen(event);
            }
            let before = world.model.clone();
            world.pass(faults);

            let after: BTreeSet<_> =
                world.model.published.interfaces.iter().map(|row| (row.node.clone(), row.port().clone())).collect();
            for row in &before.published.interfaces {
                prop_assert!(
                    after.contains(&(row.node.clone(), row.port().clone())) || world.may_go(row),
                    "{} {} is gone from {}", row.port(), row.mac(), row.node
                );
            }
            for row in &world.model.published.interfaces {
                let port = world.ports.values().find(|port| port.id == *row.port());
                let is_new = !before.published.interfaces.iter().any(|before| before.interface() == row.interface());
                let interface = row.interface().unwrap();
                let is_true = port.is_some_and(|port| {
                    port.device == interface.device && interface.addresses.iter().any(|net| net.addr() == port.fixed_ips[0].ip)
                });
                prop_assert!(is_true || !is_new, "{} is published as it was once", row.port());
            }
            let (old, new) = (slots_of(&before), slots_of(&world.model));
            for (nic, slot) in &new {
                prop_assert!(old.get(nic).is_none_or(|before| before == slot), "{nic:?} changed its slot");
            }
            let mut taken = BTreeSet::new();
            for row in &world.model.published.interfaces {
                prop_assert!(taken.insert((row.node.clone(), row.slot.unwrap())), "one slot twice on {}", row.node);
            }
            for releasing in &world.model.published.releasing {
                if let Some(slot) = releasing.slot {
                    prop_assert!(taken.insert((releasing.node.clone(), slot)), "a slot given away before its release");
                }
            }
        }
        // The clouds answer again, and everything comes to what the specs say.
        for port in world.ports.values_mut() {
            port.status = "ACTIVE".to_owned();
        }
        world.pass(&NO_FAULT);
        let first = world.pass(&NO_FAULT);
        let settled = world.model.clone();
        let second = world.pass(&NO_FAULT);
        prop_assert_eq!(&second.publication, &first.publication);
        prop_assert!(second.publication.removals.is_empty());
        prop_assert!(second.changed.is_empty(), "{:?}", second.changed);
        prop_assert_eq!(&second.problems, &first.problems);
        prop_assert_eq!(&world.model, &settled);
        if !world.renamed {
            let wanted: BTreeSet<String> =
                world.ports.values().filter(|port| world.wanted(port)).map(|port| port.id.to_string()).collect();
            prop_assert_eq!(world.model.ports(), wanted, "{:?}", second.problems);
            for row in &world.model.published.interfaces {
                prop_assert!(world.specs.contains_key(&*row.owner.name), "{} owns {}", row.owner, row.port());
            }
        }
    }
}
