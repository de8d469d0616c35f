//! Taking a NIC away: it is left down, without our addresses and files, with the MTU that it came with, under a name that is
//! not ours.

use super::changes::{Change, ChangeKind, RefusalReason};
use super::observed::{Found, Link};
use super::plan::{Planner, rule_of};
use super::routing;
use super::target::Step;
use crate::names::INTERFACE_PREFIX;
use crate::{MacAddr, Mtu};

impl Planner<'_> {
    pub(super) fn release(&mut self, mac: MacAddr) {
        let link = match self.observed.find(mac) {
            Found::One(link) => Some(link),
            Found::None => None,
            Found::Several(names) => {
                let names = names.into_iter().map(str::to_owned).collect();
                return self.refuse(mac, None, RefusalReason::AmbiguousMac(names));
            }
        };
        let remove_files: Vec<Step> =
            self.files_of(mac).map(|file| Step::RemoveFile(file.slot.interface())).collect();
        let former = self.former(mac);
        let mut change = Change {
            mac,
            kind: ChangeKind::Release,
            link: None,
            original_name: String::new(),
            original_mtu: self.owned.get(&mac).and_then(|nic| nic.original_mtu),
            target: None,
            former,
            steps: Vec::new(),
            name_conflict: None,
        };
        if let Some(link) = link.filter(|_| self.is_ours(mac)) {
            let obstacles = self.obstacles(mac, link);
            if !obstacles.is_empty() {
                return self.refuse(mac, Some(link), RefusalReason::InUse(obstacles));
            }
            change.link = Some(link.index);
            change.original_name = self.name_to_give_back(mac, link);
            change.steps = self.unconfigure(link, &change);
            self.freed.insert(link.index);
        } else if remove_files.is_empty() && !self.owned.contains_key(&mac) {
            return self.plan.released.push(mac);
        }
        let rules = routing::surplus_rules(self.observed, None, &change.former);
        change.steps.extend(rules.into_iter().filter_map(rule_of).map(Step::RemoveRule));
        change.steps.extend(remove_files);
        self.plan.changes.push(change);
    }

    fn unconfigure(&self, link: &Link, change: &Change) -> Vec<Step> {
        let mut steps = Vec::new();
        for vlan in change.former.vlans() {
            let found = self.observed.vlan(vlan, link);
            steps.extend(found.map(|link| Step::RemoveVlan { vlan, link: link.index }));
        }
        let former = change.former.of_nic();
        if link.up {
            // Its routes go with that.
            steps.push(Step::SetDown);
        }
        let gone = self.observed.addresses_of(link.index).filter(|present| {
            // IPv6 addresses went with the link; a lease of the guest's own manager is worthless on a link that is down.
            (present.dynamic && !present.link_local) || former.has(present.net)
        });
        steps.extend(gone.map(|present| Step::RemoveAddress(present.net)));
        if link.name != change.original_name {
            if link.altnames.contains(&change.original_name) {
                steps.push(Step::DropAltName(change.original_name.clone()));
            }
            steps.push(Step::Rename(change.original_name.clone()));
        }
        let mtu = change.original_mtu.filter(|mtu| *mtu != link.mtu);
        steps.extend(mtu.and_then(|mtu| Mtu::new(mtu.into()).ok()).map(Step::SetMtu));
        steps.push(Step::HeedRouterAdvertisements);
        let ours = former.target.iter().flat_map(|target| target.options.settings());
        let default = self.observed.default_settings;
        let changed = ours.filter(|(setting, _)| link.settings.get(*setting) != default.get(*setting));
        steps.extend(changed.map(|(setting, _)| Step::Set(setting, default.get(setting))));
        steps
    }

    /// The name of before our first rename, or one that nobody has and that is not one of ours.
    pub(super) fn name_to_give_back(&self, mac: MacAddr, link: &Link) -> String {
        let remembered = self.owned.get(&mac).map(|nic| nic.original_name.clone());
        let known = remembered.into_iter().chain(link.altnames.iter().cloned());
        let mut candidates =
            known.filter(|name| !name.starts_with(INTERFACE_PREFIX) && self.is_free(name, link));
        candidates.next().unwrap_or_else(|| self.fresh_name(link))
    }

    /// A name that nobody has, and that no usual pattern of a network manager's files fits.
    pub(super) fn fresh_name(&self, link: &Link) -> String {
        let names = (link.index..).map(|number| format!("nic{number}"));
        let mut free = names.filter(|name| self.is_free(name, link) && !link.altnames.contains(name));
        free.next().unwrap_or_else(|| format!("nic{}", link.index))
    }

    /// Whether no other link has this name, and no change of this plan gives it to one.
    fn is_free(&self, name: &str, link: &Link) -> bool {
        let mut others = self.observed.links.iter().filter(|other| other.index != link.index);
        let gives = |change: &Change| {
            change.original_name == name
                || matches!(&change.kind, ChangeKind::StepAside(aside) if aside == name)
        };
        others.all(|other| other.name != name && !other.altnames.iter().any(|altname| altname == name))
            && !self.plan.changes.iter().any(gives)
    }
}
