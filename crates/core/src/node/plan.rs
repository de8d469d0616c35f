//! Desired and observed state, and what we own, to steps or refusals. Planning again after the steps gives no steps.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::changes::{Change, ChangeKind, NodePlan, Refusal, RefusalReason, Settled};
use super::observed::{Found, Link, NicFile, NicFileContent, Observed, Route, RouteOrigin, Rule};
use super::preflight::{self, Obstacle};
use super::routing::RuleTarget;
use super::target::{Drift, Former, NicTarget, Owned, Step, drift, link_drift};
use crate::desired::DesiredNic;
use crate::{InterfaceName, InterfaceOptions, MacAddr, Slot, Vlan};

/// Plans a whole node. `releases` are the NICs that may be taken away (see [`super::absence`]); of these, the desired
/// ones are ignored. `slots` is how many slots a node may use where the source leaves the choice to it.
pub fn plan(
    desired: &[DesiredNic],
    releases: &BTreeSet<MacAddr>,
    owned: &Owned,
    observed: &Observed,
    slots: u8,
) -> NodePlan {
    let wanted: BTreeSet<MacAddr> = desired.iter().map(|nic| nic.mac).collect();
    let mut planner = Planner {
        owned,
        observed,
        stripped: BTreeSet::new(),
        asked: desired.iter().filter_map(|nic| Some((nic.slot?.interface(), nic.mac))).collect(),
        names: BTreeMap::new(),
        freed: BTreeSet::new(),
        plan: NodePlan::default(),
    };
    planner.stripped = planner.stripped_links(wanted.union(releases));
    for mac in releases.difference(&wanted) {
        planner.release(*mac);
    }
    let (desired, twice): (Vec<_>, Vec<_>) =
        desired.iter().partition(|nic| desired.iter().filter(|other| other.mac == nic.mac).nth(1).is_none());
    let twice: BTreeSet<MacAddr> = twice.into_iter().map(|nic| nic.mac).collect();
    for mac in twice {
        planner.refuse(mac, None, RefusalReason::NamedTwice);
    }
    // Verified names first, then asked-for ones, so that a name that works is never given to somebody else.
    let (verified, others): (Vec<_>, Vec<_>) =
        desired.into_iter().partition(|nic| planner.verified_name(nic.mac).is_some());
    let (mut asking, free): (Vec<_>, Vec<_>) = others.into_iter().partition(|nic| nic.slot.is_some());
    // Of two that ask for one name, whoever had it before has it.
    asking.sort_by_key(|nic| owned.get(&nic.mac).map(|owned| owned.target.name.slot()) != nic.slot);
    let mut waiting: Vec<&DesiredNic> = verified.into_iter().chain(asking).chain(free).collect();
    // A name may be had as soon as another NIC of this plan has given it up, by whoever comes first among those that wait for it:
    // the next plan finds it free from the start, and has to come to the same.
    while !waiting.is_empty() {
        if let Some(at) = waiting.iter().position(|nic| planner.configure(nic, slots).is_ok()) {
            waiting.remove(at);
            continue;
        }
        let Some(aside) = planner.break_ring(&waiting, slots) else { break };
        waiting.retain(|nic| nic.mac != aside);
    }
    for nic in waiting {
        if let Err((link, reason)) = planner.configure(nic, slots) {
            planner.refuse(nic.mac, Some(link), reason);
        }
    }
    planner.plan
}

/// One plan in the making.
pub(super) struct Planner<'a> {
    pub(super) owned: &'a Owned,
    pub(super) observed: &'a Observed,
    /// Links (by index) that lose their leases in this plan.
    stripped: BTreeSet<u32>,
    /// Names that entries ask for, whether their NICs are there or not.
    asked: BTreeMap<InterfaceName, MacAddr>,
    /// Names given in this plan.
    names: BTreeMap<InterfaceName, MacAddr>,
    /// Links (by index) that lose their name in this plan.
    pub(super) freed: BTreeSet<u32>,
    pub(super) plan: NodePlan,
}

impl<'a> Planner<'a> {
    /// Those of these NICs that nothing stands against.
    fn stripped_links<'m>(&self, macs: impl Iterator<Item = &'m MacAddr>) -> BTreeSet<u32> {
        let found = macs.filter_map(|mac| match self.observed.find(*mac) {
            Found::One(link) => Some((mac, link)),
            Found::None | Found::Several(_) => None,
        });
        let free = found.filter(|(mac, link)| self.obstacles(**mac, link).is_empty());
        free.flat_map(|(_, link)| self.observed.carried_by(link)).collect()
    }

    pub(super) fn obstacles(&self, mac: MacAddr, link: &Link) -> Vec<Obstacle> {
        if self.is_ours(mac) {
            let mut found = preflight::lifelines(self.observed, link, &self.stripped);
            let vlans = self.former(mac).vlans().into_iter();
            let vlans = vlans.filter_map(|vlan| self.observed.by_name(&vlan.to_string()));
            for obstacle in vlans.flat_map(|vlan| preflight::lifelines(self.observed, vlan, &self.stripped)) {
                if !found.contains(&obstacle) {
                    found.push(obstacle);
                }
            }
            found
        } else {
            preflight::newcomer(self.observed, link, &self.stripped)
        }
    }

    pub(super) fn refuse(&mut self, mac: MacAddr, link: Option<&Link>, reason: RefusalReason) {
        self.plan.refused.push(Refusal { mac, link: link.map(|link| link.name.clone()), reason });
    }

    pub(super) fn is_ours(&self, mac: MacAddr) -> bool {
        self.owned.contains_key(&mac) || self.observed.is_adoptable(mac)
    }

    /// The name under which this NIC of ours is there now. One of our names that is not the one that we gave it was given by
    /// somebody else.
    fn verified_name(&self, mac: MacAddr) -> Option<InterfaceName> {
        let Found::One(link) = self.observed.find(mac) else { return None };
        let name = link.name.parse().ok().filter(|_| self.is_ours(mac))?;
        self.owned.get(&mac).is_none_or(|nic| nic.target.name == name).then_some(name)
    }

    pub(super) fn files_of(&self, mac: MacAddr) -> impl Iterator<Item = &NicFile> {
        self.observed.files.iter().filter(move |file| file.mac() == Some(mac))
    }

    /// What we, or an older program by its files, gave this NIC.
    pub(super) fn former(&self, mac: MacAddr) -> Former {
        let earlier = self.earlier(mac);
        if let Some(nic) = self.owned.get(&mac) {
            let addresses = nic.target.addresses.iter().collect();
            return Former { addresses, target: Some(nic.target.clone()), earlier };
        }
        let mut former = Former { earlier, ..Former::default() };
        for file in self.files_of(mac) {
            match &file.content {
                NicFileContent::Exact(target) => {
                    former.addresses.extend(target.addresses.iter());
                    former.target = Some(target.clone());
                }
                NicFileContent::Other { addresses, .. } => former.addresses.extend(addresses),
            }
        }
        former
    }

    /// What we made of it before that. A table that is another NIC's by now, is that one's alone.
    fn earlier(&self, mac: MacAddr) -> Vec<NicTarget> {
        let others = self.owned.iter().filter(|(other, _)| **other != mac);
        let taken: BTreeSet<u32> = others.filter_map(|(_, nic)| nic.target.table()).collect();
        let mut earlier = self.observed.earlier.get(&mac).cloned().unwrap_or_default();
        for target in &mut earlier {
            if target.table().is_some_and(|table| taken.contains(&table)) {
                (target.options.source_routing, target.options.routes) = (None, Vec::new());
            }
        }
        earlier
    }

    /// An error is that its name is not free (yet).
    fn configure(&mut self, nic: &DesiredNic, slots: u8) -> Result<(), (&'a Link, RefusalReason)> {
        let (mac, observed) = (nic.mac, self.observed);
        let link = match observed.find(mac) {
            Found::One(link) => link,
            Found::None => {
                self.plan.absent.push(mac);
                return Ok(());
            }
            Found::Several(names) => {
                let names = names.into_iter().map(str::to_owned).collect();
                self.refuse(mac, None, RefusalReason::AmbiguousMac(names));
                return Ok(());
            }
        };
        let ours = self.is_ours(mac);
        if !ours {
            let obstacles = self.obstacles(mac, link);
            if !obstacles.is_empty() {
                self.refuse(mac, Some(link), RefusalReason::InUse(obstacles));
                return Ok(());
            }
        }
        if link.mac != Some(mac) {
            let current = link.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
            self.refuse(mac, Some(link), RefusalReason::MacChanged(current));
            return Ok(());
        }
        let (name, name_conflict) = self.choose_name(nic, link, slots).map_err(|reason| (link, reason))?;
        self.name_is_free(name, link, mac).map_err(|reason| (link, reason))?;
        self.names.insert(name, mac);
        let options = nic.options.resolve(name.slot());
        let target = NicTarget { mac, name, addresses: nic.addresses.clone(), mtu: nic.mtu, options };
        self.converge(link, target, ours, name_conflict);
        Ok(())
    }

    /// A verified name wins; then the desired one; then the one we remember; then the lowest free one.
    pub(super) fn choose_name(
        &self,
        nic: &DesiredNic,
        link: &Link,
        slots: u8,
    ) -> Result<(InterfaceName, Option<Slot>), RefusalReason> {
        if let Some(name) = self.verified_name(nic.mac) {
            return Ok((name, nic.slot.filter(|slot| *slot != name.slot())));
        }
        if let Some(slot) = nic.slot {
            return Ok((slot.interface(), None));
        }
        if let Some(nic) = self.owned.get(&nic.mac) {
            return Ok((nic.target.name, None));
        }
        let lowest = Slot::first(slots).map(Slot::interface).find(|name| {
            !self.asked.contains_key(name)
                && self.name_is_free(*name, link, nic.mac).is_ok()
                && !self.owned.values().any(|nic| nic.target.name == *name)
        });
        lowest.map(|name| (name, None)).ok_or(RefusalReason::NoFreeSlot(slots))
    }

    fn name_is_free(&self, name: InterfaceName, link: &Link, mac: MacAddr) -> Result<(), RefusalReason> {
        if let Some(holder) = self.names.get(&name) {
            return Err(RefusalReason::NameConflict { name, holder: holder.to_string() });
        }
        let text = name.to_string();
        let holder = self.observed.links.iter().find(|other| {
            let named = other.name == text && !self.freed.contains(&other.index);
            other.index != link.index && (named || other.altnames.contains(&text))
        });
        if let Some(holder) = holder {
            let mac = holder.mac.map_or_else(String::new, |mac| format!(" with MAC {mac}"));
            return Err(RefusalReason::NameConflict { name, holder: format!("{}{mac}", holder.name) });
        }
        self.file_is_free(name, mac)
    }

    pub(super) fn file_is_free(&self, name: InterfaceName, mac: MacAddr) -> Result<(), RefusalReason> {
        // The file of a NIC that does not give it up holds its place: it may come back.
        let gives_up = |holder: &MacAddr| {
            self.plan
                .changes
                .iter()
                .any(|change| change.mac == *holder && change.steps.contains(&Step::RemoveFile(name)))
        };
        let files = self.observed.files.iter().filter(|file| file.slot == name.slot());
        let holder = files.filter_map(NicFile::mac).find(|holder| *holder != mac && !gives_up(holder));
        holder.map_or(Ok(()), |holder| Err(RefusalReason::FileConflict { name, holder }))
    }

    fn converge(&mut self, link: &Link, target: NicTarget, ours: bool, name_conflict: Option<Slot>) {
        let mac = target.mac;
        // On a newcomer nothing is anybody's: what is there was left by a lease or by an earlier life.
        let former = if ours {
            self.former(mac)
        } else {
            let present = self.observed.addresses_of(link.index).filter(|present| !present.link_local);
            let addresses = present.map(|present| present.net).collect();
            Former { addresses, target: None, earlier: self.earlier(mac) }
        };
        if let Some(vlan) = target.vlan()
            && let Err(reason) = self.vlan_is_free(vlan, link, &former)
        {
            return self.refuse(mac, Some(link), reason);
        }
        let owned = self.owned.get(&mac);
        let drift = drift(self.observed, link, &target, &former);
        if drift.is_empty() && owned.is_some_and(|nic| nic.target == target) {
            let link = self.observed.ip_link(link, &target).into_iter();
            let present = link.flat_map(|link| self.observed.addresses_of(link.index));
            let duplicates = present.filter(|present| present.duplicate).map(|present| present.net);
            let duplicates = duplicates.filter(|net| target.addresses.contains(*net)).collect();
            return self.plan.settled.push(Settled { target, name_conflict, duplicates });
        }
        let steps = self.steps(link, &target, &former, &drift);
        if ours {
            let mut obstacles = self.obstacles(mac, link);
            // What was verified, or written by us, is put back without that question; an older program's NIC is taken up, with what
            // every NIC has that nobody asked anything for.
            let is_new = match &former.target {
                Some(before) => *before != target,
                None => target.options != InterfaceOptions::default().resolve(target.name.slot()),
            };
            if !steps.iter().any(|step| step.is_disruptive() || (is_new && step.redirects())) {
                // Whoever enslaved it may have taken its addresses elsewhere: even adding them would be a dispute.
                obstacles.retain(|obstacle| *obstacle == Obstacle::Enslaved);
            }
            if !obstacles.is_empty() {
                return self.refuse(mac, Some(link), RefusalReason::InUse(obstacles));
            }
        }
        if steps.iter().any(|step| matches!(step, Step::Rename(_))) {
            self.freed.insert(link.index);
        }
        let kind = match owned {
            Some(nic) if nic.target == target => ChangeKind::Repair(drift),
            Some(_) => ChangeKind::Update(drift),
            None if ours => ChangeKind::Adopt,
            None => ChangeKind::Create,
        };
        let (original_name, original_mtu) = match owned {
            Some(nic) => (nic.original_name.clone(), nic.original_mtu),
            None if ours => (self.name_to_give_back(mac, link), None),
            None => (link.name.clone(), Some(link.mtu)),
        };
        self.plan.changes.push(Change {
            mac,
            kind,
            link: Some(link.index),
            original_name,
            original_mtu,
            target: Some(target),
            former,
            steps,
            name_conflict,
        });
    }

    /// A VLAN that somebody else made is theirs, whether it has the name of ours or its number.
    pub(super) fn vlan_is_free(&self, vlan: Vlan, nic: &Link, former: &Former) -> Result<(), RefusalReason> {
        let name = vlan.to_string();
        let conflict = |holder: &Link| {
            let what = holder.vlan.map_or_else(String::new, |id| {
                let lower = self.observed.links.iter().find(|link| Some(link.index) == holder.lower);
                let lower = lower.map_or("another network namespace", |lower| lower.name.as_str());
                format!(", VLAN {id} of {lower}")
            });
            Err(RefusalReason::VlanConflict { vlan, holder: format!("{}{what}", holder.name) })
        };
        let before = former.vlans();
        for link in &self.observed.links {
            let named = link.name == name || link.altnames.contains(&name);
            // One that was ours is made anew where it was replaced by another VLAN, and by nothing else.
            let was_ours = before.contains(&vlan) && link.name == name && link.vlan.is_some();
            if named && !was_ours {
                return conflict(link);
            }
            let numbered = link.is_vlan(nic.index, vlan.id);
            let ours = before.iter().any(|before| link.name == before.to_string());
            if numbered && !ours {
                return conflict(link);
            }
        }
        Ok(())
    }

    pub(super) fn steps(
        &self,
        link: &Link,
        target: &NicTarget,
        former: &Former,
        drift: &[Drift],
    ) -> Vec<Step> {
        let first_time = !self.owned.contains_key(&target.mac);
        let mut steps = Vec::new();
        let renamed = drift.iter().any(|drift| matches!(drift, Drift::Name(_)));
        steps.extend(drift.iter().filter_map(|drift| match drift {
            Drift::SurplusVlan { vlan, link } => Some(Step::RemoveVlan { vlan: *vlan, link: *link }),
            _ => None,
        }));
        // A rule belongs to no link. One of before goes before the routes and addresses that it leads to.
        steps.extend(drift.iter().filter_map(|drift| match drift {
            Drift::ExtraRule(rule) => rule_of(rule).map(Step::RemoveRule),
            _ => None,
        }));
        let nic = target.of_nic();
        let how = How { goes_down: renamed && link.up, is_new: renamed || first_time };
        steps.extend(self.link_steps(link, &nic, &former.of_nic(), drift, how));
        if let Some(vlan) = target.vlan() {
            let steps_of_vlan = self.vlan_steps(vlan, link, target, former, how);
            steps.extend(steps_of_vlan);
        }
        steps.extend(drift.iter().filter_map(|drift| match drift {
            Drift::MissingRule(rule) => Some(Step::AddRule(rule.clone())),
            _ => None,
        }));
        if drift.contains(&Drift::File) {
            steps.push(Step::WriteFile(target.clone()));
            let stray = self.files_of(target.mac).filter(|file| file.slot != target.name.slot());
            steps.extend(stray.map(|file| Step::RemoveFile(file.slot.interface())));
        }
        steps
    }

    /// The steps of the VLAN on a NIC, which goes down with that.
    fn vlan_steps(&self, vlan: Vlan, nic: &Link, target: &NicTarget, former: &Former, how: How) -> Vec<Step> {
        let on_vlan = |step| Step::OnVlan(vlan, Box::new(step));
        if let Some(link) = self.observed.vlan(vlan, nic) {
            let former = former.of_vlan(vlan);
            let drift = link_drift(self.observed, link, target, &former);
            let how = How { goes_down: how.goes_down && link.up, is_new: false };
            return self.link_steps(link, target, &former, &drift, how).into_iter().map(on_vlan).collect();
        }
        let link = Link {
            index: 0,
            name: vlan.to_string(),
            mac: Some(target.mac),
            permanent_mac: None,
            mtu: 0,
            up: false,
            master: None,
            stacked: true,
            lower: Some(nic.index),
            vlan: Some(vlan.id),
            altnames: Vec::new(),
            settings: self.observed.default_settings,
            accept_ra: None,
        };
        let former = Former::default();
        let drift = link_drift(self.observed, &link, target, &former);
        let how = How { goes_down: false, is_new: true };
        let steps = self.link_steps(&link, target, &former, &drift, how).into_iter().map(on_vlan);
        std::iter::once(Step::AddVlan(vlan)).chain(steps).collect()
    }

    /// The steps of one link, from what it differs in.
    fn link_steps(
        &self,
        link: &Link,
        target: &NicTarget,
        former: &Former,
        drift: &[Drift],
        how: How,
    ) -> Vec<Step> {
        let How { goes_down, is_new } = how;
        let mut steps = Vec::new();
        // Only a NIC is renamed; a VLAN goes down with it, and comes up with it.
        let name = target.name.to_string();
        if drift.iter().any(|drift| matches!(drift, Drift::Name(_))) {
            if goes_down {
                steps.push(Step::SetDown);
            }
            if link.altnames.contains(&name) {
                steps.push(Step::DropAltName(name.clone()));
            }
            steps.push(Step::Rename(name));
        }
        if drift.iter().any(|drift| matches!(drift, Drift::Mtu(_))) {
            steps.push(Step::SetMtu(target.mtu));
        }
        // A link that has no IPv6 yet, may have it next.
        if is_new || link.accept_ra.is_none() || drift.contains(&Drift::HeedsRouters) {
            steps.push(Step::IgnoreRouterAdvertisements);
        }
        let settings = target.settings(former, self.observed.default_settings);
        let wrong =
            |setting| drift.iter().any(|drift| matches!(drift, Drift::Setting(of, _) if *of == setting));
        let settings = settings.into_iter().filter(|(setting, _)| wrong(*setting));
        steps.extend(settings.map(|(setting, value)| Step::Set(setting, value)));
        let gone: Vec<IpNet> = drift
            .iter()
            .filter_map(|drift| match drift {
                // Whether the kernel makes a route is settled when an IPv4 address is added.
                Drift::ExtraAddress(net) | Drift::PrefixRoute(net) => Some(*net),
                _ => None,
            })
            .collect();
        // A leased address that is also desired must go before it can be set for good.
        let leased = self
            .observed
            .addresses_of(link.index)
            .filter(|present| present.dynamic && target.addresses.contains(present.net));
        let gone: Vec<IpNet> = gone.into_iter().chain(leased.map(|present| present.net)).collect();
        steps.extend(drift.iter().filter_map(|drift| match drift {
            // The kernel flushes the routes of a link that goes down.
            Drift::ForeignRoute(route) | Drift::ExtraRoute(route) if !goes_down => {
                Some(Step::RemoveRoute(route.clone()))
            }
            _ => None,
        }));
        // One that somebody else made in the kernel's name does not go with the address.
        let prefix_route = |route: &&Route| {
            let about =
                |drift: &Drift| matches!(drift, Drift::PrefixRoute(net) if net.trunc() == route.destination);
            route.origin == RouteOrigin::Kernel && drift.iter().any(about)
        };
        let routes = self.observed.routes_of(link.index).filter(prefix_route);
        steps.extend(routes.filter(|_| !goes_down).cloned().map(Step::RemoveRoute));
        steps.extend(gone.iter().map(|net| Step::RemoveAddress(*net)));
        // What goes down loses its IPv6 addresses, and the kernel removes the secondary IPv4 addresses of a network
        // with the primary one, so all are set again; adding one that is there does nothing.
        let again = goes_down || !gone.is_empty();
        let missing = |net: &IpNet| drift.contains(&Drift::MissingAddress(*net));
        steps.extend(target.addresses.iter().filter(|net| again || missing(net)).map(Step::AddAddress));
        // The same happens to addresses that others set; those are not ours to lose.
        let theirs = self.observed.addresses_of(link.index).filter(|present| {
            !present.dynamic
                && !present.link_local
                && !target.addresses.contains(present.net)
                && !gone.contains(&present.net)
        });
        let lost = theirs.map(|present| present.net).filter(|net| match net {
            IpNet::V4(_) => gone.iter().any(|gone| gone.trunc() == net.trunc()),
            IpNet::V6(_) => goes_down && target.mtu.bytes() >= 1280,
        });
        steps.extend(lost.map(Step::AddAddress));
        if goes_down || !link.up {
            steps.push(Step::SetUp);
        }
        // They go with the link, and with the address that they are sent from.
        let missing = |route| drift.contains(&Drift::MissingRoute(route));
        let routes = target.routes().into_iter().filter(|route| again || missing(route.clone()));
        steps.extend(routes.map(Step::AddRoute));
        steps
    }
}

/// What becomes of a link beside its drift.
#[derive(Debug, Clone, Copy)]
struct How {
    /// It goes down in between, and comes up again.
    goes_down: bool,
    /// It is new to us, or has a name that is new to it.
    is_new: bool,
}

/// A rule of ours as it is written; none for one that is about everything, which is none of ours.
pub(super) fn rule_of(rule: &Rule) -> Option<RuleTarget> {
    let Rule { priority, from, table, plain: _ } = *rule;
    Some(RuleTarget { priority, from: from?, table })
}
