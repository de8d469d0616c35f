//! Back to what was before a change: live and on disk, and then looked at again.
//!
//! It can be begun again after having been interrupted at any point, since it looks at what is there and changes only
//! what differs. What fails does not keep the rest from being done.

use std::borrow::Cow;
use std::time::SystemTime;

use multinic_core::node::observed::{Link, LinkAddress, Route, RouteOrigin, Setting};
use multinic_core::{MacAddr, Vlan};

use crate::another_boot::as_of_this_boot;
use crate::faults::{self, Point};
use crate::files::{FileError, HostRoot};
use crate::journal::{self, Entry, FileBefore, LinkBefore, RuleBefore, VlanBefore};
use crate::netlink::{LinkRef, LinkState, Netlink, Saved};
use crate::{backups, sysctl};

/// What rolling back works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub root: &'a HostRoot,
    pub netlink: &'a Netlink,
    pub backups: usize,
}

/// Collects what fails.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn take<T, E: std::fmt::Display>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.0.push(error.to_string());
                None
            }
        }
    }

    fn into_result(self) -> Result<(), Vec<String>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

/// Rolls a change back.
pub(crate) fn roll_back(ground: Ground<'_>, entry: &Entry) -> Result<(), Vec<String>> {
    let mut failures = Failures::default();
    failures.take(faults::point(Point::RollbackBegun));
    let entry = &*failures.take(as_of_this_boot(ground, entry)).unwrap_or(Cow::Borrowed(entry));
    let link = failures.take(changed_link(ground, entry)).flatten();
    if let Some((before, state)) = link {
        made_vlans(ground, entry, before, &mut failures);
        failures.take(faults::point(Point::RollbackVlans));
        live(ground, entry, before, &state, &mut failures);
        for vlan in &entry.vlans {
            restore_vlan(ground, entry, before, vlan, &mut failures);
        }
    }
    rules(ground, entry, &mut failures);
    failures.take(faults::point(Point::RollbackRules));
    failures.take(faults::point(Point::RollbackLive));
    for file in &entry.files {
        failures.take(restore_file(ground, file));
    }
    failures.take(faults::point(Point::RollbackFiles));
    if failures.0.is_empty() {
        verify(ground, entry, &mut failures);
        failures.take(faults::point(Point::RollbackVerified));
    }
    failures.into_result()
}

/// The link as it is now, if it is still the one that was changed.
pub(crate) fn changed_link<'a>(
    ground: Ground<'_>,
    entry: &'a Entry,
) -> Result<Option<(&'a LinkBefore, LinkState)>, crate::HostError> {
    let Some(before) = &entry.link else { return Ok(None) };
    // The kernel that was changed is gone with its boot, and this one was made nothing of.
    if journal::boot()? != entry.boot {
        return Ok(None);
    }
    let state = ground.netlink.link_state(before.index)?;
    Ok(state.filter(|state| is_of(&state.link, entry.mac)).map(|state| (before, state)))
}

/// Whether a link is the NIC of this MAC. An index is given anew only after very many links, but it is.
pub(crate) fn is_of(link: &Link, mac: MacAddr) -> bool {
    link.mac == Some(mac) || link.permanent_mac == Some(mac)
}

/// The VLANs on the NIC that the change made, as far as they are there.
fn made<'a>(entry: &Entry, nic: &LinkBefore, links: &'a [Link]) -> Vec<(Vlan, &'a Link)> {
    let found = entry.made_vlans.iter().filter_map(|vlan| {
        let name = vlan.to_string();
        let is = |link: &&Link| {
            let on_nic = link.is_vlan(nic.index, vlan.id);
            link.name == name && on_nic && !entry.vlans.iter().any(|before| before.link.index == link.index)
        };
        Some((*vlan, links.iter().find(is)?))
    });
    found.collect()
}

/// A VLAN that was not there goes, with all that it has.
fn made_vlans(ground: Ground<'_>, entry: &Entry, nic: &LinkBefore, failures: &mut Failures) {
    if entry.made_vlans.is_empty() {
        return;
    }
    let Some(links) = failures.take(ground.netlink.links()) else { return };
    for (_, link) in made(entry, nic, &links) {
        failures.take(ground.netlink.remove_link(&LinkRef::from(link)));
    }
}

/// A VLAN that was there is as it was; under its old index, by which its addresses and routes know it.
fn restore_vlan(
    ground: Ground<'_>,
    entry: &Entry,
    nic: &LinkBefore,
    vlan: &VlanBefore,
    failures: &mut Failures,
) {
    let VlanBefore { id, parent, link: before } = vlan;
    let Some(now) = failures.take(ground.netlink.link_state(before.index)) else { return };
    let now = now.filter(|now| now.link.vlan == Some(*id));
    let now = match now {
        Some(now) => Some(now),
        None => {
            let nic_name = &nic.name;
            let parent = parent.as_ref().unwrap_or(nic_name);
            let Some(links) = failures.take(ground.netlink.links()) else { return };
            let Some(parent) = links.iter().find(|link| link.name == *parent) else {
                return failures.0.push(format!("{}: {parent}, on which it was, is gone", before.name));
            };
            // Somebody made it again, under an index of its own.
            let again = links.iter().find(|link| link.name == before.name && link.is_vlan(parent.index, *id));
            if let Some(again) = again {
                failures.take(ground.netlink.remove_link(&LinkRef::from(again)));
            }
            let parent = LinkRef::from(parent);
            let again = ground.netlink.add_vlan(&parent, &before.name, *id, Some(before.index));
            failures.take(again);
            failures.take(ground.netlink.link_state(before.index)).flatten()
        }
    };
    if let Some(now) = now {
        live(ground, entry, before, &now, failures);
    }
}

fn live(ground: Ground<'_>, entry: &Entry, before: &LinkBefore, now: &LinkState, failures: &mut Failures) {
    let netlink = ground.netlink;
    let mut link = LinkRef::from(&now.link);
    let rename = now.link.name != before.name;
    let mut up = now.link.up;
    if up && (rename || !before.up) {
        up = failures.take(netlink.set_up(&link, false)).is_none();
    }
    if rename {
        if now.link.altnames.contains(&before.name) {
            failures.take(netlink.drop_altname(&link, &before.name));
        }
        if failures.take(netlink.rename(&link, &before.name)).is_some() {
            link.name.clone_from(&before.name);
        }
    }
    for altname in before.altnames.iter().filter(|name| !now.link.altnames.contains(name)) {
        failures.take(netlink.add_altname(&link, altname));
    }
    if now.link.mtu != before.mtu {
        failures.take(netlink.set_mtu(&link, before.mtu));
    }
    if let Some(value) = &before.accept_ra
        && sysctl::read_accept_ra(ground.root, &link.name).as_ref() != Some(value)
        && let Err(error) = sysctl::write_accept_ra(ground.root, &link.name, value)
    {
        // As when it was set: a container may not be allowed to, and the link works without.
        tracing::warn!(link = link.name, %error, "cannot set accept_ra back to {value}");
    }
    for setting in Setting::ALL {
        let value = before.settings.map(|settings| settings.get(setting));
        if let Some(value) = value.filter(|value| *value != now.link.settings.get(setting)) {
            failures.take(netlink.set(&link, setting, value));
        }
    }
    failures.take(faults::point(Point::RollbackName));
    addresses(netlink, entry, before, &link, failures);
    failures.take(faults::point(Point::RollbackAddresses));
    if before.up && !up {
        failures.take(netlink.set_up(&link, true));
    }
    added_routes(netlink, entry, before, &link, failures);
    // They need the link to be up.
    routes(netlink, before, &link, failures);
}

fn addresses(netlink: &Netlink, entry: &Entry, before: &LinkBefore, link: &LinkRef, failures: &mut Failures) {
    let Some(Some(now)) = failures.take(netlink.link_state(link.index)) else { return };
    for (address, saved) in &now.addresses {
        let differs = match before.addresses.iter().find(|old| old.net == address.net) {
            Some(old) => !saved.is_same_address(&old.saved),
            None => entry.touched.contains(&address.net),
        };
        if differs {
            failures.take(netlink.remove_address(link, address.net));
        }
    }
    // The kernel removes the secondary addresses of a network with the primary one.
    missing_addresses(netlink, before, link, failures);
}

fn missing_addresses(netlink: &Netlink, before: &LinkBefore, link: &LinkRef, failures: &mut Failures) {
    let Some(present) = failures.take(addresses_of(netlink, link)) else { return };
    for old in before.addresses.iter().filter(|old| !present.iter().any(|found| found.net == old.net)) {
        match old.saved() {
            Some(saved) => {
                failures.take(netlink.restore_address(link, &old.net.to_string(), &saved));
            }
            None => failures.0.push(format!("the journal does not say how {} was", old.net)),
        }
    }
}

/// Puts back what somebody took from a link meanwhile: addresses that had no lifetime, and routes that were set. The routes
/// that come with an address or a lease are left to who makes them.
pub(crate) fn restore_lost(netlink: &Netlink, mut before: LinkState) -> Result<(), Vec<String>> {
    let mut failures = Failures::default();
    let link = LinkRef::from(&before.link);
    before.addresses.retain(|(address, _)| !address.dynamic);
    before.routes.retain(|(route, _)| route.origin == RouteOrigin::Static);
    let before = LinkBefore::new(before, None);
    missing_addresses(netlink, &before, &link, &mut failures);
    routes(netlink, &before, &link, &mut failures);
    failures.into_result()
}

/// Puts routes back that others set over a link, and that went with what a change took from it: the kernel drops the IPv4
/// ones of all tables with the last IPv4 address, and all of a link that goes down. Where one needs what the link was to
/// lose, such as the network of its gateway, it stays away, which is not the change's fault.
pub(crate) fn restore_routes_of_others(
    netlink: &Netlink,
    mut before: LinkBefore,
    is_ours: impl Fn(&Route) -> bool,
) {
    let of_others = |route: &Route| route.origin == RouteOrigin::Static && !is_ours(route);
    before
        .routes
        .retain(|route| route.saved().and_then(|saved| saved.route()).is_some_and(|route| of_others(&route)));
    let link = LinkRef { index: before.index, name: before.name.clone() };
    let mut failures = Failures::default();
    routes(netlink, &before, &link, &mut failures);
    for failure in failures.0 {
        tracing::warn!(link = before.name, error = failure, "a route of others is lost with what it needs");
    }
}

fn addresses_of(netlink: &Netlink, link: &LinkRef) -> Result<Vec<LinkAddress>, crate::netlink::NetlinkError> {
    let mut addresses = netlink.addresses()?;
    addresses.retain(|address| address.link == link.index);
    Ok(addresses)
}

/// The routes that the change added, as far as they are there.
fn added<'a>(entry: &Entry, before: &LinkBefore, now: &'a LinkState) -> Vec<&'a Route> {
    let was_there = |saved: &Saved| before.routes.iter().any(|old| saved.is_same_route(&old.saved));
    let added = now.routes.iter().filter(|(route, saved)| {
        entry.touched_routes.iter().any(|touched| touched.is(route)) && !was_there(saved)
    });
    added.map(|(route, _)| route).collect()
}

fn added_routes(
    netlink: &Netlink,
    entry: &Entry,
    before: &LinkBefore,
    link: &LinkRef,
    failures: &mut Failures,
) {
    let Some(Some(now)) = failures.take(netlink.link_state(link.index)) else { return };
    for route in added(entry, before, &now) {
        failures.take(netlink.remove_route(link, route));
    }
}

/// Rules belong to no link: they are there without it too, as long as the kernel is the same.
fn rules(ground: Ground<'_>, entry: &Entry, failures: &mut Failures) {
    if entry.touched_rules.is_empty() || failures.take(journal::boot()).is_none_or(|boot| boot != entry.boot)
    {
        return;
    }
    for RuleBefore { rule, was_there, protocol } in &entry.touched_rules {
        failures.take(if *was_there {
            ground.netlink.add_rule(rule, *protocol)
        } else {
            ground.netlink.remove_rule(rule)
        });
    }
    let Some(now) = failures.take(ground.netlink.rules()) else { return };
    for RuleBefore { rule, was_there, protocol: _ } in &entry.touched_rules {
        if now.iter().any(|found| rule.is(found)) != *was_there {
            failures.0.push(format!("the rule {} from {} is not as before", rule.priority, rule.from));
        }
    }
}

fn routes(netlink: &Netlink, before: &LinkBefore, link: &LinkRef, failures: &mut Failures) {
    let Some(Some(now)) = failures.take(netlink.link_state(link.index)) else { return };
    let is_there = |saved: &str| now.routes.iter().any(|(_, found)| found.is_same_route(saved));
    let mut missing: Vec<_> = before.routes.iter().filter(|route| !is_there(&route.saved)).collect();
    // One route may be the way to the gateway of another, so what fails is tried again as long as something succeeds.
    loop {
        let count = missing.len();
        let mut errors = Failures::default();
        missing.retain(|route| {
            let to = format!("the route to {}", route.destination);
            match route.saved() {
                Some(saved) => errors.take(netlink.restore_route(link, &to, &saved)).is_none(),
                None => {
                    errors.0.push(format!("the journal does not say how {to} was"));
                    true
                }
            }
        });
        if missing.is_empty() || missing.len() == count {
            return failures.0.extend(errors.0);
        }
    }
}

fn restore_file(ground: Ground<'_>, before: &FileBefore) -> Result<(), FileError> {
    let Ground { root, backups: keep, .. } = ground;
    let old = before.content.as_ref().map(journal::Content::to_copy);
    let now = root.read(&before.path)?;
    root.remove_temporary(&before.path)?;
    if now == old {
        return Ok(());
    }
    // Somebody may have written it since.
    if let Some(now) = &now
        && before.written.as_ref().is_none_or(|written| written.as_bytes() != now.bytes)
    {
        backups::take(root, &before.path, now, SystemTime::now(), keep)?;
    }
    match old {
        Some(old) => root.write(&before.path, &old, None),
        None => root.remove(&before.path).map(|_| ()),
    }
}

fn verify(ground: Ground<'_>, entry: &Entry, failures: &mut Failures) {
    for file in &entry.files {
        let old = file.content.as_ref().map(journal::Content::to_copy);
        if let Some(now) = failures.take(ground.root.read(&file.path))
            && now != old
        {
            failures.0.push(format!("{} is not as before", file.path.display()));
        }
    }
    let Some(Some((before, now))) = failures.take(changed_link(ground, entry)) else { return };
    if let Some(links) = failures.take(ground.netlink.links()) {
        for (vlan, _) in made(entry, before, &links) {
            failures.0.push(format!("{vlan} is still there"));
        }
    }
    verify_link(entry, before, now, failures);
    for VlanBefore { id: _, parent: _, link } in &entry.vlans {
        match failures.take(ground.netlink.link_state(link.index)).flatten() {
            Some(now) => verify_link(entry, link, now, failures),
            None => failures.0.push(format!("{} is missing", link.name)),
        }
    }
}

/// Whether a link is as before.
fn verify_link(entry: &Entry, before: &LinkBefore, now: LinkState, failures: &mut Failures) {
    for route in added(entry, before, &now) {
        failures.0.push(format!("{}: the route to {} is still there", before.name, route.destination));
    }
    let LinkState { link, addresses, routes } = now;
    let mut differ = |what: String| failures.0.push(format!("{}: {what}", before.name));
    if link.name != before.name {
        differ(format!("its name is {}", link.name));
    }
    if link.mtu != before.mtu {
        differ(format!("its MTU is {} and not {}", link.mtu, before.mtu));
    }
    if link.up != before.up {
        differ(format!("it is {}", if link.up { "up" } else { "down" }));
    }
    if before.settings.is_some_and(|settings| settings != link.settings) {
        differ("its settings are not as before".to_owned());
    }
    for old in &before.addresses {
        match addresses.iter().find(|(found, _)| found.net == old.net) {
            None => differ(format!("{} is missing", old.net)),
            Some((_, saved)) if !saved.is_same_address(&old.saved) => {
                differ(format!("{} is not as before", old.net));
            }
            Some(_) => {}
        }
    }
    for (found, _) in &addresses {
        if entry.touched.contains(&found.net) && !before.addresses.iter().any(|old| old.net == found.net) {
            differ(format!("{} is still there", found.net));
        }
    }
    for old in &before.routes {
        if !routes.iter().any(|(_, found)| found.is_same_route(&old.saved)) {
            differ(format!("the route to {} is missing", old.destination));
        }
    }
}
