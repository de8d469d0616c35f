//! A node: what its kernel and its disk do with the steps of a plan.

use std::collections::BTreeSet;

use ipnet::IpNet;
use multinic_core::desired::{DesiredNic, EntryId, Reported};
use multinic_core::node::observed::{
    Lifelines, Link, LinkAddress, NicFile, NicFileContent, Observed, Route, RouteOrigin, Rule, Settings,
};
use multinic_core::node::routing::MAIN_TABLE;
use multinic_core::node::{Change, NicTarget, NodePlan, Owned, OwnedNic, Step, plan};
use multinic_core::{Addresses, InterfaceOptions, MacAddr, Mtu, NicOptions, Vlan};

use super::{mac, slot};

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub fn addresses(list: &[&str]) -> Addresses {
    Addresses::parse(list.iter().copied()).unwrap()
}

pub fn target(n: u16, at: u8, list: &[&str]) -> NicTarget {
    NicTarget {
        mac: mac(n),
        name: slot(at).interface(),
        addresses: addresses(list),
        mtu: Mtu::new(1500).unwrap(),
        options: NicOptions::default(),
    }
}

/// Without the one option that is on by itself.
pub fn desired(n: u16, at: Option<u8>, list: &[&str]) -> DesiredNic {
    DesiredNic {
        entry: EntryId(n.into()),
        revision: 1,
        mac: mac(n),
        slot: at.map(slot),
        port: None,
        addresses: addresses(list),
        mtu: Mtu::new(1500).unwrap(),
        options: InterfaceOptions { strict_arp: Some(false), ..InterfaceOptions::default() },
        reported: Reported::default(),
    }
}

pub fn link(index: u32, name: &str, n: u16) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: Some(mac(n)),
        permanent_mac: None,
        mtu: 1500,
        up: false,
        master: None,
        stacked: false,
        lower: None,
        vlan: None,
        altnames: Vec::new(),
        settings: Settings::default(),
        accept_ra: Some(1),
    }
}

pub fn address(link: u32, text: &str) -> LinkAddress {
    LinkAddress {
        link,
        net: net(text),
        dynamic: false,
        link_local: false,
        duplicate: false,
        tentative: false,
        no_prefix_route: false,
    }
}

pub fn lease(link: u32, text: &str) -> LinkAddress {
    LinkAddress { dynamic: true, ..address(link, text) }
}

pub fn route(link: u32, to: &str, origin: RouteOrigin) -> Route {
    Route { table: MAIN_TABLE, link, destination: net(to), gateway: None, metric: 100, source: None, origin }
}

pub fn file(target: &NicTarget) -> NicFile {
    NicFile { slot: target.name.slot(), content: NicFileContent::Exact(target.clone()) }
}

/// A file of an older program.
pub fn old_file(at: u8, n: u16, list: &[&str]) -> NicFile {
    let content =
        NicFileContent::Other { mac: Some(mac(n)), addresses: list.iter().map(|text| net(text)).collect() };
    NicFile { slot: slot(at), content }
}

/// Index and MAC of the management NIC.
pub const MANAGEMENT: (u32, u16) = (2, 1000);

/// A node with its loopback and its management NIC, which has the node's address and the default route.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    pub seen: Observed,
    pub owned: Owned,
}

impl Node {
    pub fn new(links: Vec<Link>) -> Self {
        let (index, n) = MANAGEMENT;
        let loopback = Link { mac: None, mtu: 65536, up: true, ..link(1, "lo", 1) };
        let management = Link { up: true, ..link(index, "eth0", n) };
        let seen = Observed {
            links: [vec![loopback, management], links].concat(),
            addresses: vec![address(1, "127.0.0.1/8"), address(index, "192.0.2.10/24")],
            routes: vec![route(index, "0.0.0.0/0", RouteOrigin::Static)],
            files: Vec::new(),
            lifelines: Lifelines {
                node_addresses: [net("192.0.2.10/24").addr()].into(),
                source_links: [index].into(),
            },
            ..Observed::default()
        };
        Self { seen, owned: Owned::new() }
    }

    pub fn own(&mut self, target: NicTarget, original_name: &str) {
        let nic = OwnedNic { target, original_name: original_name.to_owned(), original_mtu: None };
        self.owned.insert(nic.target.mac, nic);
    }

    pub fn plan(&self, desired: &[DesiredNic], releases: &[u16]) -> NodePlan {
        let releases: BTreeSet<MacAddr> = releases.iter().map(|n| mac(*n)).collect();
        plan(desired, &releases, &self.owned, &self.seen, 10)
    }

    /// Plans and carries out. Planning again must give nothing more.
    pub fn settle(&mut self, desired: &[DesiredNic], releases: &[u16]) -> NodePlan {
        let first = self.plan(desired, releases);
        self.carry_out(&first).unwrap();
        assert_eq!(self.plan(desired, releases).changes, vec![], "planning again");
        first
    }

    pub fn carry_out(&mut self, plan: &NodePlan) -> Result<(), String> {
        for change in &plan.changes {
            self.change(change).map_err(|error| format!("{change:?}: {error}"))?;
        }
        Ok(())
    }

    fn change(&mut self, change: &Change) -> Result<(), String> {
        for step in &change.steps {
            self.step(change, step)?;
        }
        match &change.target {
            Some(target) => self.own(target.clone(), &change.original_name),
            None => {
                self.owned.remove(&change.mac);
            }
        }
        Ok(())
    }

    fn step(&mut self, change: &Change, step: &Step) -> Result<(), String> {
        let files = &mut self.seen.files;
        match step {
            Step::WriteFile(target) => {
                files.retain(|file| file.slot != target.name.slot());
                files.push(file(target));
                return Ok(());
            }
            Step::RemoveFile(name) => {
                files.retain(|file| file.slot != name.slot());
                return Ok(());
            }
            _ => {}
        }
        if let Step::RemoveRule(rule) = step {
            self.seen.rules.retain(|held| !rule.is(held));
            return Ok(());
        }
        let index = change.link.ok_or("a step on no link")?;
        let on_link = |link: &Link, vlan: Vlan| link.is_vlan(index, vlan.id);
        match step {
            Step::AddVlan(vlan) => {
                let links = &mut self.seen.links;
                if links.iter().any(|link| link.name == vlan.to_string() || on_link(link, *vlan)) {
                    return Err(format!("EEXIST: {vlan}"));
                }
                let made = links.iter().map(|link| link.index).max().unwrap_or_default() + 1;
                let nic = links.iter().find(|link| link.index == index).ok_or("no such link")?;
                let made = Link {
                    mac: nic.mac,
                    mtu: nic.mtu,
                    stacked: true,
                    lower: Some(index),
                    vlan: Some(vlan.id),
                    settings: self.seen.default_settings,
                    ..link(made, &vlan.to_string(), 1)
                };
                links.push(made);
                return Ok(());
            }
            Step::RemoveVlan { vlan, link } => {
                let named = |found: &Link| found.index == *link && found.name == vlan.to_string();
                if !self.seen.links.iter().any(named) {
                    return Err(format!("ENODEV: {vlan}"));
                }
                self.seen.links.retain(|found| found.index != *link);
                self.seen.addresses.retain(|held| held.link != *link);
                self.seen.routes.retain(|held| held.link != *link);
                self.seen.other_tables.retain(|held| held.link != *link);
                return Ok(());
            }
            Step::OnVlan(vlan, step) => {
                let found = self.seen.links.iter().find(|link| on_link(link, *vlan)).ok_or("no such VLAN")?;
                return self.step(&Change { link: Some(found.index), ..change.clone() }, step);
            }
            Step::SetDown | Step::SetUp | Step::SetMtu(_) => {
                // A VLAN follows its link.
                let of_link = |link: &&Link| link.vlan.is_some() && link.lower == Some(index);
                let vlans: Vec<Link> = self.seen.links.iter().filter(of_link).cloned().collect();
                for vlan in vlans {
                    let lower = matches!(step, Step::SetMtu(mtu) if vlan.mtu > u32::from(mtu.bytes()));
                    if lower || matches!(step, Step::SetDown | Step::SetUp) {
                        self.step(&Change { link: Some(vlan.index), ..change.clone() }, step)?;
                    }
                }
            }
            _ => {}
        }
        let taken: Vec<String> = self
            .seen
            .links
            .iter()
            .flat_map(|link| {
                let own = link.altnames.iter().cloned();
                own.chain((link.index != index).then(|| link.name.clone()))
            })
            .collect();
        let Observed { links, addresses, routes, other_tables, rules, .. } = &mut self.seen;
        let link = links.iter_mut().find(|link| link.index == index).ok_or("no such link")?;
        if link.mac != Some(change.mac) {
            return Err(format!("it is the link of {:?}", link.mac));
        }
        match step {
            Step::SetDown => {
                link.up = false;
                addresses.retain(|held| held.link != index || held.net.addr().is_ipv4());
                routes.retain(|route| route.link != index);
                other_tables.retain(|route| route.link != index);
            }
            Step::DropAltName(name) => link.altnames.retain(|altname| altname != name),
            Step::Rename(_) if link.up => return Err("EBUSY".to_owned()),
            Step::Rename(name) if taken.contains(name) => return Err(format!("EEXIST: {name}")),
            Step::Rename(name) => link.name.clone_from(name),
            Step::SetMtu(mtu) => link.mtu = mtu.bytes().into(),
            Step::IgnoreRouterAdvertisements => link.accept_ra = Some(0),
            Step::HeedRouterAdvertisements => link.accept_ra = Some(1),
            Step::Set(setting, value) => link.settings.set(*setting, *value),
            Step::RemoveRoute(route) => {
                routes.retain(|held| held != route);
                other_tables.retain(|held| held != route);
            }
            Step::AddRoute(_) if !link.up => return Err("ENETDOWN".to_owned()),
            Step::AddRoute(route) => {
                let held = if route.table == MAIN_TABLE { routes } else { other_tables };
                if !held.iter().any(|held| held.link == index && route.is(held)) {
                    held.push(Route {
                        table: route.table,
                        link: index,
                        destination: route.destination,
                        gateway: route.gateway,
                        metric: route.metric,
                        source: route.source,
                        origin: RouteOrigin::Static,
                    });
                }
            }
            Step::AddRule(rule) => {
                if !rules.iter().any(|held| rule.is(held)) {
                    let (priority, from, table) = (rule.priority, Some(rule.from), rule.table);
                    rules.push(Rule { priority, from, table, plain: true });
                }
            }
            Step::RemoveAddress(net) => {
                let same_network = |held: &LinkAddress| {
                    held.link == index && held.net.addr().is_ipv4() && held.net.trunc() == net.trunc()
                };
                // The first address of a network is its primary, and takes the others along.
                let primary =
                    addresses.iter().find(|held| same_network(held)).is_some_and(|held| held.net == *net);
                let source = Some(net.addr());
                addresses.retain(|held| {
                    let taken = held.link == index && held.net == *net;
                    let along = primary && same_network(held);
                    !taken && !along
                });
                other_tables.retain(|held| held.source != source);
                routes.retain(|held| held.source != source);
            }
            Step::AddAddress(net) => {
                if !net.addr().is_ipv4() && link.mtu < 1280 {
                    return Err("ENODEV: no IPv6 below 1280".to_owned());
                }
                let is_there = addresses.iter().any(|held| {
                    let same =
                        if net.addr().is_ipv4() { held.net == *net } else { held.net.addr() == net.addr() };
                    held.link == index && same
                });
                if !is_there {
                    let target = change.target.as_ref();
                    let no_prefix_route = target.is_some_and(|target| target.options.no_prefix_route);
                    addresses.push(LinkAddress { no_prefix_route, ..address(index, &net.to_string()) });
                }
            }
            Step::SetUp => {
                link.up = true;
                let local = net("fe80::1/64");
                if !addresses.iter().any(|held| held.link == index && held.net == local) {
                    addresses.push(LinkAddress { link_local: true, ..address(index, "fe80::1/64") });
                }
            }
            Step::WriteFile(_) | Step::RemoveFile(_) | Step::RemoveRule(_) => {}
            Step::AddVlan(_) | Step::RemoveVlan { .. } | Step::OnVlan(..) => {}
        }
        Ok(())
    }

    pub fn link(&self, index: u32) -> &Link {
        self.seen.links.iter().find(|link| link.index == index).unwrap()
    }

    /// The addresses of a link but the kernel's own, as text, sorted.
    pub fn shows(&self, index: u32) -> Vec<String> {
        let held = self.seen.addresses.iter().filter(|held| held.link == index && !held.link_local);
        let mut texts: Vec<String> =
            held.map(|held| format!("{}{}", held.net, if held.dynamic { " leased" } else { "" })).collect();
        texts.sort();
        texts
    }
}
