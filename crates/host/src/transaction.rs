//! One change to one NIC: made whole, or not at all.
//!
//! The order is: see what works on the node, arm what restores the NIC if we die, write down what is (the journal), take the
//! steps, make the network manager agree, look whether kernel and file show what was asked for, and whether what worked still
//! works, put the new state in place (from then on the change counts as made), remove the journal entry. Whatever fails before
//! that is rolled back at once; whatever is interrupted before that is rolled back by what was armed, before the next change to
//! the same NIC, or at the next start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use multinic_core::node::observed::{Link, Observed, Route};
use multinic_core::node::routing::surplus_rules;
use multinic_core::node::{Change, ChangeKind, Drift, NicTarget, OwnedNic, Step, drift};
use multinic_core::{Addresses, NicOptions, Vlan};

use crate::backend::{Rendered, held, places};
use crate::error::{ApplyError, Cause, HostError, Rollback};
use crate::faults::{self, Point};
use crate::files::FileCopy;
use crate::host::Host;
use crate::journal::{self, Entry, FileBefore, LinkBefore, RuleBefore, VlanBefore};
use crate::manager::{self, Told};
use crate::netlink::LinkRef;
use crate::probes::{Probes, Works};
use crate::rollback::{changed_link, is_of, restore_lost, restore_routes_of_others, roll_back};
use crate::{backups, sysctl};

/// How long the kernel may take to find out whether another host has an address: it asks after up to one second and waits
/// for one more (RFC 4862).
const LONGEST_PROBING: Duration = Duration::from_secs(5);

/// How often it is asked meanwhile.
const PROBING_PAUSE: Duration = Duration::from_millis(25);

impl Host {
    /// Makes a change, or leaves everything as it was and says why.
    ///
    /// If this is dropped while it waits (for netplan to check a file, never between two steps), the change stays
    /// half-made until the next call for the same NIC or [`Self::recover`] rolls it back.
    pub async fn apply(&mut self, change: &Change) -> Result<(), ApplyError> {
        let mac = change.mac;
        let failed = |cause, rollback| ApplyError { mac, cause, rollback };
        let works = self.works().await.map_err(|error| failed(Cause::Look(error), Rollback::NotNeeded))?;
        let mut entry = self.begin(change).await.map_err(|cause| failed(cause, Rollback::NotNeeded))?;
        let before = self.state.clone();
        let Err(mut cause) = self.make(change, &entry, &works).await else {
            self.forget(&entry).await;
            return Ok(());
        };
        let after = std::mem::replace(&mut self.state, before);
        let mut rolled_back = self.undo(&entry).await;
        if self.state != after {
            // The new state may be in place although putting it there failed: the directory could not be synced.
            if let Err(error) = self.state.save(&self.root, None) {
                rolled_back = Err([rolled_back.err().unwrap_or_default(), vec![error.to_string()]].concat());
            }
        }
        if rolled_back.is_ok() {
            rolled_back = self.close(&entry).await;
        } else {
            // Whoever settles it later has not to say that we died.
            entry.told = true;
            let _ = journal::write(&self.root, &entry);
        }
        if let Cause::Cut { still, .. } = &mut cause {
            *still = self.probes.still(&works, None, &self.netlink).await.err().unwrap_or_default();
        }
        Err(failed(cause, rolled_back.map_or_else(Rollback::Failed, |()| Rollback::Verified)))
    }

    /// Writes down what is.
    async fn begin(&mut self, change: &Change) -> Result<Entry, Cause> {
        let mac = change.mac;
        if !self.is_writable() {
            return Err(Cause::ReadOnly);
        }
        if let Some(interrupted) = journal::read(&self.root, mac)? {
            let made =
                self.settle(&interrupted).await.map_err(|failures| Cause::Unsettled { mac, failures })?;
            if !made {
                return Err(Cause::Outdated { mac });
            }
        }
        let mut entry = Entry::new(mac, self.state.next_change(mac), journal::boot()?, change.target.clone());
        if let Some(index) = change.link {
            let state = self.netlink.link_state(index)?.filter(|state| is_of(&state.link, mac));
            let state = state.ok_or(Cause::Gone { mac })?;
            let accept_ra = sysctl::read_accept_ra(&self.root, &state.link.name);
            // A change that leaves the link up is none of its manager's business, if that has the NIC as it is to be.
            let stays_up = |step: &Step| !matches!(step, Step::SetDown | Step::Rename(_) | Step::SetUp);
            let stays_with = change.target.as_ref().filter(|_| change.steps.iter().all(stays_up));
            let name = &state.link.name;
            entry.held = manager::has_a_hand_on(self.backend, &self.root, name, stays_with).await?;
            if self.state.taken.contains(&mac)
                && manager::has_a_hand_on(self.backend, &self.root, name, None).await?
            {
                // It has the NIC again, as after a boot.
                self.state.taken.remove(&mac);
                self.state.save(&self.root, None)?;
            }
            entry.link = Some(LinkBefore::new(state, accept_ra));
        }
        entry.vlans = self.vlans_before(change)?;
        let mut touched: BTreeSet<IpNet> = change.former.addresses.clone();
        let targets = change.target.iter().chain(&change.former.earlier);
        touched.extend(targets.flat_map(|target| target.addresses.iter()));
        let rules = self.netlink.rules_with_protocols()?;
        for step in &change.steps {
            match of_either(step) {
                Step::WriteFile(target) => {
                    for file in self.backend.render(target) {
                        let copy = self.root.read(&file.path)?;
                        let theirs = |copy: &FileCopy| {
                            let of_vlan = places::vlan(&file.path);
                            of_vlan.is_some_and(|vlan| !change.former.vlans().contains(&vlan))
                                && !held::is_ours(copy)
                        };
                        if copy.as_ref().is_some_and(theirs) {
                            return Err(Cause::NotOurs(file.path));
                        }
                        let content = copy.map(Into::into);
                        entry.files.push(FileBefore { path: file.path, content, written: Some(file.text) });
                    }
                    for path in self.others(target)? {
                        entry.files.push(self.file_before(path)?);
                    }
                }
                Step::RemoveFile(name) => {
                    for path in held::of_nic(&self.root, *name, mac)? {
                        entry.files.push(self.file_before(path)?);
                    }
                }
                Step::AddAddress(net) | Step::RemoveAddress(net) => {
                    touched.insert(*net);
                }
                Step::AddRoute(route) => entry.touched_routes.push(route.clone()),
                Step::AddRule(rule) | Step::RemoveRule(rule) => {
                    let before = rules.iter().find(|(found, _)| rule.is(found));
                    let (was_there, protocol) =
                        (before.is_some(), before.and_then(|(_, protocol)| *protocol));
                    entry.touched_rules.push(RuleBefore { rule: rule.clone(), was_there, protocol });
                }
                Step::AddVlan(vlan) => {
                    if self.netlink.knows_vlans(&vlan.to_string()) == Some(false) {
                        return Err(Cause::NoVlans(*vlan));
                    }
                    entry.made_vlans.push(*vlan);
                }
                Step::RemoveVlan { .. }
                | Step::OnVlan(..)
                | Step::Set(..)
                | Step::SetDown
                | Step::DropAltName(_)
                | Step::Rename(_)
                | Step::SetMtu(_)
                | Step::IgnoreRouterAdvertisements
                | Step::HeedRouterAdvertisements
                | Step::RemoveRoute(_)
                | Step::SetUp => {}
            }
        }
        entry.touched = touched.into_iter().collect();
        entry.checkpoint = self.arm(entry.link.as_ref().map(|link| link.name.as_str())).await?;
        if let Err(error) = journal::write(&self.root, &entry) {
            if let Some(checkpoint) = &entry.checkpoint {
                // Nothing was changed; at worst the manager goes back to what is there.
                let _ = manager::release_checkpoint(&self.root, checkpoint).await;
            }
            return Err(error.into());
        }
        Ok(entry)
    }

    /// Arms what restores the NIC if we die, and says which checkpoint the network manager made.
    async fn arm(&mut self, link: Option<&str>) -> Result<Option<String>, Cause> {
        let Some(guard) = &mut self.guard else { return Ok(None) };
        let unit = guard.arm(&self.root).await;
        let checkpoint = match link {
            Some(link) => manager::remember(self.backend, &self.root, link, self.safe_apply).await,
            None => Ok(None),
        };
        let checkpoint = checkpoint.unwrap_or_else(|error| {
            tracing::warn!(link, %error, "NetworkManager makes no checkpoint");
            None
        });
        match unit {
            Err(error) if checkpoint.is_none() && !guard.settings.unarmed => Err(error.into()),
            Err(error) => {
                if !std::mem::replace(&mut guard.complained, true) {
                    tracing::warn!(%error, "no timer of the node would undo a change if the agent died in the middle of it");
                }
                Ok(checkpoint)
            }
            Ok(()) => Ok(checkpoint),
        }
    }

    /// The VLANs that a change takes away, or does something to.
    fn vlans_before(&self, change: &Change) -> Result<Vec<VlanBefore>, Cause> {
        let Some(nic) = change.link else { return Ok(Vec::new()) };
        let links = self.netlink.links()?;
        let mut found: Vec<VlanBefore> = Vec::new();
        for link in &links {
            let concerned = change.steps.iter().any(|step| match step {
                Step::RemoveVlan { vlan, link: index } => {
                    *index == link.index && vlan.to_string() == link.name
                }
                Step::OnVlan(vlan, _) => vlan.to_string() == link.name,
                _ => false,
            });
            let Some(id) = link.vlan.filter(|_| concerned) else { continue };
            let Some(state) = self.netlink.link_state(link.index)? else { continue };
            let parent = links.iter().find(|other| Some(other.index) == link.lower);
            let parent = parent.filter(|parent| parent.index != nic).map(LinkRef::from);
            let accept_ra = sysctl::read_accept_ra(&self.root, &link.name);
            found.push(VlanBefore {
                id,
                parent: parent.map(|parent| parent.name),
                link: LinkBefore::new(state, accept_ra),
            });
        }
        Ok(found)
    }

    fn file_before(&self, path: PathBuf) -> Result<FileBefore, Cause> {
        let content = self.root.read(&path)?.map(Into::into);
        Ok(FileBefore { path, content, written: None })
    }

    /// The files about an interface that go when its own are written: an older program's, or another backend's.
    fn others(&self, target: &NicTarget) -> Result<Vec<PathBuf>, Cause> {
        let ours = self.backend.render(target);
        let there = held::of(&self.root, target.name)?.into_iter().map(|file| file.path);
        Ok(there.filter(|path| !ours.iter().any(|file| file.path == *path)).collect())
    }

    async fn make(&mut self, change: &Change, entry: &Entry, works: &Works) -> Result<(), Cause> {
        faults::point(Point::JournalWritten)?;
        if let Some(link) = entry.link.as_ref().filter(|_| entry.held) {
            manager::take_from(self.backend, &self.root, &link.name).await?;
            faults::point(Point::ManagerHeld)?;
        }
        self.take_steps(change, entry).await?;
        self.spare_others(change, entry);
        self.wait_for_addresses(change).await?;
        self.tell_manager(change, entry).await?;
        faults::point(Point::ManagerAgrees)?;
        // The answers come while we look.
        Probes::begin(works, change.link, &self.netlink);
        self.verify(change)?;
        let cut = |lost| Cause::Cut { lost, still: Vec::new() };
        self.probes.still(works, change.link, &self.netlink).await.map_err(cut)?;
        // While a manager has an address away for a moment, everything that it cuts off works.
        self.verify(change)?;
        self.probes.ways_still(works, change.link, &self.netlink).await.map_err(cut)?;
        faults::point(Point::Verified)?;
        self.commit(change, entry)
    }

    async fn take_steps(&self, change: &Change, entry: &Entry) -> Result<(), Cause> {
        let mut link = None;
        if let Some(index) = change.link {
            let links = self.netlink.links()?;
            let found = links.iter().find(|link| link.index == index && is_of(link, change.mac));
            link = Some(LinkRef::from(found.ok_or(Cause::Gone { mac: change.mac })?));
        }
        for step in &change.steps {
            match (step, &mut link) {
                (Step::WriteFile(target), _) => self.write_files(target).await?,
                (Step::RemoveFile(name), _) => {
                    for path in held::of_nic(&self.root, *name, change.mac)? {
                        self.remove_file(&path)?;
                    }
                }
                (Step::RemoveRule(rule), _) => {
                    self.netlink.remove_rule(rule)?;
                    faults::point(Point::RemoveRule)?;
                }
                (Step::AddVlan(vlan), Some(link)) => {
                    self.add_vlan(*vlan, link)?;
                    faults::point(Point::AddVlan)?;
                }
                (Step::RemoveVlan { vlan, link: index }, Some(_)) => {
                    if change.target.as_ref().and_then(NicTarget::vlan) != Some(*vlan) {
                        self.forget_vlan(*vlan).await?;
                    }
                    if let Some(link) = self.vlan(*vlan)?.filter(|link| link.index == *index) {
                        self.netlink.remove_link(&link)?;
                    }
                    faults::point(Point::RemoveVlan)?;
                }
                (Step::OnVlan(vlan, step), Some(_)) => {
                    let mut link = self.vlan(*vlan)?.ok_or(Cause::VlanGone(*vlan))?;
                    self.take_link_step(change, entry, step, &mut link)?;
                }
                (step, Some(link)) => self.take_link_step(change, entry, step, link)?,
                (_, None) => return Err(Cause::Gone { mac: change.mac }),
            }
        }
        Ok(())
    }

    /// Makes a VLAN. A manager that has its profile may have been quicker.
    fn add_vlan(&self, vlan: Vlan, nic: &LinkRef) -> Result<(), Cause> {
        let Err(error) = self.netlink.add_vlan(nic, &vlan.to_string(), vlan.id, None) else { return Ok(()) };
        let is_there = |link: &Link| link.name == vlan.to_string() && link.is_vlan(nic.index, vlan.id);
        if self.netlink.links()?.iter().any(is_there) { Ok(()) } else { Err(error.into()) }
    }

    /// Takes its profile of a VLAN from NetworkManager, which otherwise makes that again as soon as it is gone.
    async fn forget_vlan(&self, vlan: Vlan) -> Result<(), Cause> {
        if let Some(profile) = self.backend.profile_of_vlan(vlan)
            && self.root.read(&profile)?.is_some_and(|copy| held::is_ours(&copy))
        {
            self.remove_file(&profile)?;
            let told = Told { files: &[profile], held: false };
            manager::forget(self.backend, &self.root, told).await?;
        }
        Ok(())
    }

    /// What others set over the links stays.
    fn spare_others(&self, change: &Change, entry: &Entry) {
        let Some(target) = &change.target else { return };
        let of_ours: Vec<_> = std::iter::once(target).chain(change.former.targets()).collect();
        let tables: Vec<u32> =
            of_ours.iter().filter_map(|nic| nic.options.source_routing).map(|own| own.table).collect();
        let routes: Vec<_> = of_ours.iter().flat_map(|nic| nic.routes()).collect();
        let is_ours = |route: &Route| {
            tables.contains(&route.table)
                || routes.iter().any(|ours| ours.is(route))
                || change
                    .steps
                    .iter()
                    .any(|step| matches!(of_either(step), Step::RemoveRoute(gone) if gone == route))
        };
        let links = entry.link.iter().chain(entry.vlans.iter().map(|vlan| &vlan.link));
        for before in links {
            restore_routes_of_others(&self.netlink, before.clone(), is_ours);
        }
    }

    /// The link that has the name of a VLAN of ours.
    fn vlan(&self, vlan: Vlan) -> Result<Option<LinkRef>, Cause> {
        let name = vlan.to_string();
        Ok(self.netlink.links()?.iter().find(|link| link.name == name).map(LinkRef::from))
    }

    /// The link that has the addresses of a NIC: itself, or its VLAN.
    fn ip_link(&self, nic: u32, target: &NicTarget) -> Result<Option<u32>, Cause> {
        match target.vlan() {
            Some(vlan) => Ok(self.vlan(vlan)?.map(|link| link.index)),
            None => Ok(Some(nic)),
        }
    }

    /// An IPv6 address is none before the kernel has found no other host that has it. Where that fails, it is reported as a
    /// duplicate of a NIC that is otherwise as it should be.
    async fn wait_for_addresses(&self, change: &Change) -> Result<(), Cause> {
        let (Some(target), Some(index)) = (&change.target, change.link) else { return Ok(()) };
        let Some(index) = self.ip_link(index, target)? else { return Ok(()) };
        let deadline = Instant::now() + LONGEST_PROBING;
        while self.netlink.is_probing(index, &target.addresses)? && Instant::now() < deadline {
            tokio::time::sleep(PROBING_PAUSE).await;
        }
        Ok(())
    }

    /// Makes the network manager agree with what is there now. What others added to the link, and the manager took away
    /// meanwhile, is put back.
    async fn tell_manager(&self, change: &Change, entry: &Entry) -> Result<(), Cause> {
        if matches!(change.kind, ChangeKind::StepAside(_)) {
            // Its files have another name; the change that gives it that gives it back, too.
            return Ok(());
        }
        let files = entry.paths();
        let told = Told { files: &files, held: self.lets_go(entry) };
        let (Some(target), Some(index)) = (&change.target, change.link) else {
            return Ok(manager::forget(self.backend, &self.root, told).await?);
        };
        let mut before = Vec::new();
        for index in
            [Some(index), self.ip_link(index, target)?.filter(|ip| *ip != index)].into_iter().flatten()
        {
            before.extend(self.netlink.link_state(index)?);
        }
        let nic = before.iter().map(|before| &before.link).find(|link| link.index == index);
        let names = nic.into_iter().flat_map(|link| link.altnames.iter().chain([&link.name]));
        let names: Vec<&str> = names.map(String::as_str).collect();
        if !manager::adopt(self.backend, &self.root, (index, &names), target, told).await? {
            return Ok(());
        }
        before.into_iter().try_for_each(|before| restore_lost(&self.netlink, before)).map_err(Cause::Lost)
    }

    fn take_link_step(
        &self,
        change: &Change,
        entry: &Entry,
        step: &Step,
        link: &mut LinkRef,
    ) -> Result<(), Cause> {
        let point = match step {
            Step::SetDown => {
                self.netlink.set_up(link, false)?;
                Point::SetDown
            }
            Step::DropAltName(name) => {
                self.netlink.drop_altname(link, name)?;
                Point::DropAltName
            }
            Step::Rename(name) => {
                self.netlink.rename(link, name)?;
                link.name.clone_from(name);
                Point::Rename
            }
            Step::SetMtu(mtu) => {
                self.netlink.set_mtu(link, u32::from(mtu.bytes()))?;
                Point::SetMtu
            }
            Step::IgnoreRouterAdvertisements => {
                if let Err(error) = sysctl::write_accept_ra(&self.root, &link.name, "0") {
                    // Read-only, in a container without the node's own /proc/sys/net, or no IPv6 at all. The addresses that a router
                    // adds are drift, which is repaired.
                    tracing::warn!(link = link.name, %error, "cannot make the link ignore router advertisements");
                }
                Point::IgnoreRouterAdvertisements
            }
            Step::HeedRouterAdvertisements => {
                if let Some(value) = sysctl::read_accept_ra(&self.root, sysctl::DEFAULT)
                    && sysctl::read_accept_ra(&self.root, &link.name).as_ref() != Some(&value)
                    && let Err(error) = sysctl::write_accept_ra(&self.root, &link.name, &value)
                {
                    // For the same reasons.
                    tracing::warn!(link = link.name, %error, "cannot make the link heed router advertisements");
                }
                Point::HeedRouterAdvertisements
            }
            Step::RemoveRoute(route) => {
                self.netlink.remove_route(link, route)?;
                Point::RemoveRoute
            }
            Step::RemoveAddress(net) => {
                self.netlink.remove_address(link, *net)?;
                Point::RemoveAddress
            }
            Step::Set(setting, value) => {
                self.netlink.set(link, *setting, *value)?;
                Point::Set
            }
            Step::AddRoute(route) => {
                self.netlink.add_route(link, route)?;
                Point::AddRoute
            }
            Step::AddRule(rule) => {
                self.netlink.add_rule(rule, None)?;
                Point::AddRule
            }
            Step::AddAddress(net) => {
                let ours = change.target.as_ref().filter(|target| target.addresses.contains(*net));
                match entry.address(link.index, *net).filter(|_| ours.is_none()) {
                    // One of others that went with ours.
                    Some(saved) => self.netlink.restore_address(link, &net.to_string(), &saved)?,
                    None => {
                        let prefix_route = !ours.is_some_and(|target| target.options.no_prefix_route);
                        self.netlink.add_address(link, *net, prefix_route)?;
                    }
                }
                Point::AddAddress
            }
            Step::SetUp => {
                self.netlink.set_up(link, true)?;
                Point::SetUp
            }
            // Taken by who calls.
            Step::WriteFile(_)
            | Step::RemoveFile(_)
            | Step::RemoveRule(_)
            | Step::AddVlan(_)
            | Step::RemoveVlan { .. }
            | Step::OnVlan(..) => return Ok(()),
        };
        Ok(faults::point(point)?)
    }

    async fn write_files(&self, target: &NicTarget) -> Result<(), Cause> {
        if let Some(check) = &self.check {
            check.check(target).await?;
        }
        let others = self.others(target)?;
        for Rendered { path, text, mode } in self.backend.render(target) {
            let copy = FileCopy { bytes: text.into_bytes(), mode, owner: None };
            if self.root.read(&path)?.is_some_and(|held| (&held.bytes, held.mode) == (&copy.bytes, mode)) {
                continue;
            }
            self.back_up(&path)?;
            self.root.make_directory(path.parent().unwrap_or(Path::new("")), 0o755)?;
            self.root.write(&path, &copy, Some(Point::FileTemporary))?;
            faults::point(Point::WriteFile)?;
        }
        others.iter().try_for_each(|path| self.remove_file(path))
    }

    fn remove_file(&self, path: &Path) -> Result<(), Cause> {
        self.back_up(path)?;
        self.root.remove(path)?;
        Ok(faults::point(Point::RemoveFile)?)
    }

    fn back_up(&self, path: &Path) -> Result<(), Cause> {
        if let Some(copy) = self.root.read(path)? {
            backups::take(&self.root, path, &copy, SystemTime::now(), self.backups)?;
            faults::point(Point::Backup)?;
        }
        Ok(())
    }

    /// Looks whether everything is as asked for.
    fn verify(&self, change: &Change) -> Result<(), Cause> {
        let observed = self.look().map_err(Cause::Look)?;
        let wrong = match &change.target {
            Some(target) => differences(&observed, change, target),
            None => remains(&observed, change),
        };
        if wrong.is_empty() { Ok(()) } else { Err(Cause::NotAsAsked(wrong)) }
    }

    /// Makes it count.
    fn commit(&mut self, change: &Change, entry: &Entry) -> Result<(), Cause> {
        let mac = change.mac;
        if let Some(unmade) = unmade(change) {
            self.state.earlier.remember(unmade, &self.state.owned);
        }
        match &change.target {
            Some(target) => {
                let original_name = change.original_name.clone();
                let original_mtu = change.original_mtu;
                let nic = OwnedNic { target: target.clone(), original_name, original_mtu };
                self.state.owned.insert(mac, nic);
            }
            None => {
                self.state.owned.remove(&mac);
            }
        }
        self.state.let_go(mac, &change.kind, entry.held);
        self.state.made.insert(mac, entry.number);
        Ok(self.state.save(&self.root, Some(Point::StateTemporary))?)
    }

    /// Removes the entry of a change that was made. If that fails, the next start does it.
    async fn forget(&self, entry: &Entry) {
        let mac = entry.mac;
        // The change was made: a fault that is asked for here can interrupt, but it cannot undo.
        let _ = faults::point(Point::Committed);
        if let Err(failures) = self.close(entry).await {
            let error = failures.join("; ");
            tracing::warn!(mac_address = %mac, error, "a journal entry of a change that was made is left over");
        }
        let _ = faults::point(Point::JournalRemoved);
    }

    /// Removes an entry, and before that the checkpoint that it knows of.
    async fn close(&self, entry: &Entry) -> Result<(), Vec<String>> {
        if let Some(checkpoint) = &entry.checkpoint {
            let removed = manager::release_checkpoint(&self.root, checkpoint).await;
            removed.map_err(|error| vec![error.to_string()])?;
        }
        journal::remove(&self.root, entry.mac).map_err(|error| vec![error.to_string()])
    }

    /// Whether the network manager let go of the NIC, for this change or an earlier one that this one completes. What was earlier
    /// is not given back to it by a rollback: the NIC has no name yet by which it has our profile.
    fn lets_go(&self, entry: &Entry) -> bool {
        entry.held || self.state.taken.contains(&entry.mac)
    }

    /// Rolls a change back, and tells the network manager that everything is as it was.
    async fn undo(&self, entry: &Entry) -> Result<(), Vec<String>> {
        // It may have been given the link already, or have taken it back by its checkpoint.
        if self.lets_go(entry)
            && let Ok(Some((_, now))) = changed_link(self.ground(), entry)
            && let Err(error) = manager::take_from(self.backend, &self.root, &now.link.name).await
        {
            tracing::warn!(link = now.link.name, %error, "the network manager does not let go of the link");
        }
        // It would make a VLAN again as long as it has its profile.
        for vlan in &entry.made_vlans {
            let profile = self.backend.profile_of_vlan(*vlan);
            let was_there = |profile: &PathBuf| {
                entry.files.iter().any(|file| file.path == *profile && file.content.is_some())
            };
            if profile.is_some_and(|profile| !was_there(&profile))
                && let Err(error) = self.forget_vlan(*vlan).await
            {
                tracing::warn!(link = %vlan, %error, "the network manager does not forget the VLAN");
            }
        }
        let mut rolled_back = roll_back(self.ground(), entry);
        let files = entry.paths();
        let told = Told { files: &files, held: entry.held };
        let given_back = match self.links_of(entry) {
            Ok(links) => manager::give_back(self.backend, &self.root, entry.mac, &links, told).await,
            Err(error) => {
                rolled_back = Err([rolled_back.err().unwrap_or_default(), vec![error.to_string()]].concat());
                Ok(false)
            }
        };
        if rolled_back.is_ok() && matches!(given_back, Ok(true)) {
            rolled_back = roll_back(self.ground(), entry);
        }
        let mut failures = rolled_back.err().unwrap_or_default();
        failures.extend(given_back.err().map(|error| error.to_string()));
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }

    /// The NIC of a change, and the VLANs on it that the change was about, as far as they are there.
    fn links_of(&self, entry: &Entry) -> Result<Vec<LinkRef>, HostError> {
        let links = self.netlink.links()?;
        let nic = links.iter().find(|link| !link.stacked && is_of(link, entry.mac));
        let vlans = entry
            .vlans
            .iter()
            .filter_map(|vlan| links.iter().find(|link| link.name == vlan.link.name && link.vlan.is_some()));
        Ok(nic.into_iter().chain(vlans).map(LinkRef::from).collect())
    }

    /// Brings an interrupted change to an end: nothing is left to be done if it was made, else it is rolled back, and is a
    /// failed one.
    pub(crate) async fn settle(&mut self, entry: &Entry) -> Result<bool, Vec<String>> {
        let made = self.state.is_made(entry.mac, entry.number);
        if !made {
            self.undo(entry).await?;
            if let Err(error) = self.remember_undone(entry) {
                tracing::error!(mac_address = %entry.mac, %error, "that a change was undone is not remembered");
            }
        }
        self.close(entry).await?;
        Ok(made)
    }

    /// A boot ends the memory of what failed: it may have mended the cause.
    fn remember_undone(&mut self, entry: &Entry) -> Result<(), HostError> {
        if entry.told || entry.boot != journal::boot()? {
            return Ok(());
        }
        let link = entry.link.as_ref().map(|link| link.index);
        self.remember(|state| state.failures.undone(entry.mac, entry.target.clone(), link))
    }
}

/// A step to a NIC or to the VLAN on it.
fn of_either(step: &Step) -> &Step {
    match step {
        Step::OnVlan(_, step) => step,
        step => step,
    }
}

/// What of ours a NIC is not to be like any more.
fn unmade(change: &Change) -> Option<NicTarget> {
    let before = match (&change.former.target, &change.target) {
        (Some(before), _) => before.clone(),
        // Of an older program's files, the addresses are known.
        (None, Some(target)) if change.kind == ChangeKind::Adopt => {
            let addresses = Addresses::new(change.former.addresses.iter().copied()).ok()?;
            NicTarget { addresses, options: NicOptions::default(), ..target.clone() }
        }
        (None, _) => return None,
    };
    (Some(&before) != change.target.as_ref()).then_some(before)
}

/// How the NIC differs from what was asked for.
fn differences(observed: &Observed, change: &Change, target: &NicTarget) -> Vec<String> {
    let link = observed.links.iter().find(|link| Some(link.index) == change.link);
    let Some(link) = link.filter(|link| link.mac == Some(change.mac)) else {
        return vec!["the link is gone".to_owned()];
    };
    let mut found = drift(observed, link, target, &change.former);
    if let ChangeKind::StepAside(name) = &change.kind {
        found.retain(|drift| *drift != Drift::File && *drift != Drift::Name(name.clone()));
        if link.name != *name {
            found.push(Drift::Name(link.name.clone()));
        }
    }
    found.iter().map(words).collect()
}

/// What is left of a NIC that was to be taken away.
fn remains(observed: &Observed, change: &Change) -> Vec<String> {
    let mut found = Vec::new();
    let link = observed.links.iter().find(|link| Some(link.index) == change.link);
    // One that was unplugged meanwhile is gone as it should be.
    if let Some(link) = link.filter(|link| is_of(link, change.mac)) {
        if link.name != change.original_name {
            found.push(format!("its name is {}", link.name));
        }
        if change.original_mtu.is_some_and(|mtu| mtu != link.mtu) {
            found.push(format!("its MTU is {}", link.mtu));
        }
        if link.up {
            found.push("it is up".to_owned());
        }
        let left = observed.addresses_of(link.index).filter(|present| change.former.has(present.net));
        found.extend(left.map(|present| format!("{} is still there", present.net)));
    }
    let vlans = observed.links.iter().filter(|link| {
        let before = change.former.vlans().into_iter().any(|vlan| vlan.to_string() == link.name);
        before && link.vlan.is_some() && link.lower.is_some() && link.lower == change.link
    });
    found.extend(vlans.map(|link| format!("{} is still there", link.name)));
    let rules = surplus_rules(observed, None, &change.former);
    found.extend(rules.into_iter().map(|rule| format!("the rule {} is still there", rule.priority)));
    let files = observed.files.iter().filter(|file| file.mac() == Some(change.mac));
    found.extend(files.map(|file| format!("a file of {} is still there", file.slot.interface())));
    found
}

fn words(drift: &Drift) -> String {
    match drift {
        Drift::Name(name) => format!("its name is {name}"),
        Drift::Mtu(mtu) => format!("its MTU is {mtu}"),
        Drift::MissingAddress(net) => format!("{net} is missing"),
        Drift::ExtraAddress(net) => format!("{net} is still there"),
        Drift::ForeignRoute(route) | Drift::ExtraRoute(route) => {
            format!("the route to {} is still there", route.destination)
        }
        Drift::MissingRoute(route) => format!("the route to {} is missing", route.destination),
        Drift::PrefixRoute(net) => format!("the route to the network of {net} is not as asked for"),
        Drift::MissingRule(rule) => format!("the rule {} from {} is missing", rule.priority, rule.from),
        Drift::ExtraRule(rule) => format!("the rule {} is still there", rule.priority),
        Drift::Setting(setting, value) => format!("its {} is {value}", setting.key()),
        Drift::HeedsRouters => "it heeds router advertisements".to_owned(),
        Drift::Down => "it is down".to_owned(),
        Drift::MissingVlan(vlan) => format!("{vlan} is missing"),
        Drift::SurplusVlan { vlan, .. } => format!("{vlan} is still there"),
        Drift::OnVlan(vlan, drift) => format!("of {vlan}: {}", words(drift)),
        Drift::File => "its files are not as written".to_owned(),
    }
}
