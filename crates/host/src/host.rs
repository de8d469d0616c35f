//! The node as the agent sees it: look, change, recover, listen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multinic_core::MacAddr;
use multinic_core::node::absence::Newest;
use multinic_core::node::doctor::Kubelet;
use multinic_core::node::observed::{Found, Lifelines, Link, Observed};
use multinic_core::node::{NicTarget, Owned};

use crate::backend::detect::{self, Detected};
use crate::backend::netplan::check::Check;
use crate::backend::{Backend, held};
use crate::backups;
use crate::error::HostError;
use crate::failures::Failed;
use crate::faults;
use crate::file_events::{FileEvents, FileEventsError};
use crate::files::HostRoot;
use crate::guard::{Guard, GuardSettings};
use crate::journal;
use crate::manager::{self, Told};
use crate::netlink::events::Events;
use crate::netlink::{LinkRef, Netlink};
use crate::probes::{Probes, Reach, Works};
use crate::rollback::Ground;
use crate::state::{self, State};
use crate::sysctl;

const LOCK: &str = "var/lib/multinic/lock";

/// As the older agents had it.
const SAFE_APPLY: Duration = Duration::from_secs(120);

/// How to open a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the node's root is: `/`, or where it is mounted.
    pub root: PathBuf,
    /// Whether it may be changed.
    pub access: Access,
    /// How many copies of each interface's earlier files are kept.
    pub backups: usize,
    /// How the node keeps the configuration of its NICs; none: what is found.
    pub backend: Option<Backend>,
    /// Whether netplan is asked about a file before that is put in place.
    pub check: CheckWith,
    /// What must not be cut.
    pub anchors: Anchors,
    /// How long a change may take before the node goes back by itself, and at most its probes.
    pub safe_apply: Duration,
    /// What is armed on the node before a change; none: nothing but the journal, which the next start settles.
    pub guard: Option<GuardSettings>,
}

/// Whether a node may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Not at all: no file is written, and no lock is taken.
    Read,
    /// By this process alone.
    Write,
    /// By this process alone, as soon as no other works on it.
    WriteInTurn,
}

/// Who checks a file before it is put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckWith {
    /// netplan, where it is installed and the node's root is our own; its copy in another root may not run here. Without it
    /// [`Host::unchecked`] says so.
    Installed,
    /// This program, called as `PROGRAM --root-dir DIRECTORY`.
    Program(PathBuf),
    /// Nobody.
    Nobody,
}

/// What must not be cut, as addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Anchors {
    /// The addresses by which the cluster knows the node.
    pub node_addresses: BTreeSet<IpAddr>,
    /// Where the desired state is read from: the links by which these are reached are left alone.
    pub source_addresses: BTreeSet<IpAddr>,
}

impl Options {
    /// A node that may be changed, with the usual settings.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            access: Access::Write,
            backups: 10,
            backend: None,
            check: CheckWith::Installed,
            anchors: Anchors::default(),
            safe_apply: SAFE_APPLY,
            guard: None,
        }
    }
}

/// What the network manager was not asked or told of the files for the next boot. Nothing has failed by that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchecked {
    /// Which manager, as the reason of a condition: `NetplanNotAsked`, `WickedNotTold`.
    pub reason: &'static str,
    /// Why.
    pub why: String,
}

/// What became of a change that an earlier run left unfinished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The NIC.
    pub mac: MacAddr,
    /// What became of it.
    pub outcome: Recovery,
}

/// How a recovery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// The change had been made; only its journal entry was left.
    Made,
    /// The change had not been made; kernel and files were found to be as before it.
    RolledBack,
    /// Neither: why. The entry is kept, and nothing else is done to this NIC before it is settled.
    Failed(Vec<String>),
}

/// A node: its links in the network namespace of the thread that opened it, and its files below a root.
#[derive(Debug)]
pub struct Host {
    pub(crate) root: HostRoot,
    pub(crate) netlink: Netlink,
    pub(crate) state: State,
    pub(crate) backend: Backend,
    pub(crate) check: Option<Check>,
    /// Why there is nobody to check what netplan is to read.
    unchecked: Option<&'static str>,
    pub(crate) backups: usize,
    pub(crate) probes: Probes,
    pub(crate) guard: Option<Guard>,
    pub(crate) safe_apply: Duration,
    detected: Detected,
    anchors: Anchors,
    pub(crate) kubelet: Option<Kubelet>,
    lock: Option<File>,
}

impl Host {
    /// Leaves a link that is not ours any more to the network manager, which does with it as with any other. Without that,
    /// NetworkManager keeps its hands off a NIC that was taken away until that is plugged anew or the node boots.
    ///
    /// # Errors
    /// Where the manager runs and cannot be told, or the kernel refuses.
    pub async fn leave_to_manager(&self, link: &Link) -> Result<(), HostError> {
        let told = Told { files: &[], held: true };
        let Some(nic) = link.permanent_mac.or(link.mac) else { return Ok(()) };
        manager::give_back(self.backend, &self.root, nic, &[LinkRef::from(link)], told).await?;
        // It takes up what is down only when it finds it for the first time.
        if manager::has_a_hand_on(self.backend, &self.root, &link.name, None).await? {
            self.netlink.set_up(&LinkRef::from(link), true)?;
        }
        Ok(())
    }

    /// Opens a node. Before anything else, [`Self::recover`] is to be called on one that may be changed.
    pub fn open(options: Options) -> Result<Self, HostError> {
        let Options { root, access, backups, backend, check, anchors, safe_apply, guard } = options;
        faults::check()?;
        let root = HostRoot::open(&root)?;
        let mut lock = None;
        if access != Access::Read {
            root.make_directory(Path::new(state::DIRECTORY), 0o755)?;
            let busy = || HostError::Busy(root.path().join(LOCK));
            let in_turn = access == Access::WriteInTurn;
            lock = Some(root.lock(Path::new(LOCK), in_turn)?.ok_or_else(busy)?);
        }
        let detected = match backend {
            Some(backend) => detect::asked_for(&root, backend),
            None => detect::detect(&root),
        };
        let backend = detected.backend;
        let (check, unchecked) = match check {
            _ if backend != Backend::Netplan => (None, None),
            CheckWith::Installed if root.is_own() => match Check::find() {
                Some(check) => (Some(check), None),
                None => (None, Some("netplan's generator is not installed")),
            },
            CheckWith::Installed => (None, Some("the node's netplan cannot be run from within a container")),
            CheckWith::Nobody => (None, None),
            CheckWith::Program(program) => (Some(Check::new(program)), None),
        };
        let mut state = State::load(&root)?;
        let boot = journal::boot()?;
        state.earlier.in_boot(&boot);
        state.failures.in_boot(&boot);
        state.moved.in_boot(&boot);
        let guard = guard.map(|settings| Guard::new(settings, safe_apply, backend));
        let probes = Probes::new(safe_apply);
        let netlink = Netlink::open()?;
        Ok(Self {
            root,
            netlink,
            state,
            backend,
            check,
            unchecked,
            backups,
            probes,
            guard,
            safe_apply,
            detected,
            anchors,
            kubelet: None,
            lock,
        })
    }

    /// One look at the node.
    pub async fn observe(&self) -> Result<Observed, HostError> {
        self.look()
    }

    pub(crate) fn look(&self) -> Result<Observed, HostError> {
        let Anchors { node_addresses, source_addresses } = &self.anchors;
        let mut source_links = BTreeSet::new();
        for address in source_addresses {
            source_links.extend(self.netlink.route_to(*address)?);
        }
        let (routes, other_tables) = self.netlink.routes()?;
        let mut links = self.netlink.links()?;
        if !sysctl::is_accept_ra_writable(&self.root) {
            // What cannot be repaired is no drift; what routers add is.
            links.iter_mut().for_each(|link| link.accept_ra = None);
        }
        Ok(Observed {
            links,
            addresses: self.netlink.addresses()?,
            routes,
            other_tables,
            rules: self.netlink.rules()?,
            default_settings: sysctl::defaults(),
            files: held::all(&self.root, self.backend)?,
            earlier: self.state.earlier.nics().clone(),
            lifelines: Lifelines { node_addresses: node_addresses.clone(), source_links },
        })
    }

    /// Settles what earlier runs left unfinished, NIC by NIC. Can be called again at any time.
    pub async fn recover(&mut self) -> Result<Vec<Recovered>, HostError> {
        if !self.is_writable() {
            return Err(HostError::ReadOnly);
        }
        for directory in [state::DIRECTORY, journal::DIRECTORY, backups::DIRECTORY] {
            self.root.remove_temporaries(Path::new(directory))?;
        }
        let mut recovered = Vec::new();
        for mac in journal::pending(&self.root)? {
            let outcome = match journal::read(&self.root, mac) {
                Ok(None) => continue,
                Ok(Some(entry)) => match self.settle(&entry).await {
                    Ok(true) => Recovery::Made,
                    Ok(false) => Recovery::RolledBack,
                    Err(failures) => Recovery::Failed(failures),
                },
                Err(error) => Recovery::Failed(vec![error.to_string()]),
            };
            recovered.push(Recovered { mac, outcome });
        }
        if self.guard.is_some() {
            Guard::stand_down_earlier(&self.root).await;
        }
        // With no entry left, only our NICs' numbers are needed; the others would pile up.
        let owned = &self.state.owned;
        if self.state.made.keys().any(|mac| !owned.contains_key(mac))
            && journal::pending(&self.root)?.is_empty()
        {
            self.state.made.retain(|mac, _| owned.contains_key(mac));
            self.state.save(&self.root, None)?;
        }
        Ok(recovered)
    }

    /// How the node keeps the configuration of its NICs, and how that is known.
    pub fn backend(&self) -> &Detected {
        &self.detected
    }

    /// Why netplan itself was not asked about what it is to read at the next boot, or wicked, which runs, was not told. Each file
    /// was read back as it was written all the same, and has a form that the real netplan understood when this program was
    /// built.
    pub fn unchecked(&self) -> Option<Unchecked> {
        let unasked = self.unchecked.map(str::to_owned).or_else(|| self.check.as_ref()?.unasked());
        if let Some(why) = unasked {
            return Some(Unchecked { reason: "NetplanNotAsked", why });
        }
        let wicked = (self.backend == Backend::Wicked).then(|| manager::wicked::untold(&self.root)).flatten();
        wicked.map(|why| Unchecked { reason: "WickedNotTold", why: why.to_owned() })
    }

    /// How the network manager has NICs of ours otherwise than was asked for, without being told while it runs: networkd,
    /// which would drop what others set. It sets that again when a link comes back, and we repair it. One sentence for each NIC.
    pub fn untold(&self, observed: &Observed) -> Vec<String> {
        let nics = self.state.owned.values().filter_map(|nic| match observed.find(nic.target.mac) {
            Found::One(link) => Some((link.index, &nic.target)),
            Found::None | Found::Several(_) => None,
        });
        manager::untold(self.backend, &self.root, nics)
    }

    /// What we configured.
    pub fn owned(&self) -> &Owned {
        &self.state.owned
    }

    /// The newest content that was ever read from the source of desired state.
    pub fn newest(&self) -> Option<&Newest> {
        self.state.newest.as_ref()
    }

    /// Remembers the newest content that was read, for good. Nothing is written if it is known.
    pub async fn remember_newest(&mut self, newest: &Newest) -> Result<(), HostError> {
        if !self.is_writable() {
            return Err(HostError::ReadOnly);
        }
        if self.state.newest.as_ref() == Some(newest) {
            return Ok(());
        }
        self.remember(|state| state.newest = Some(newest.clone()))
    }

    /// The changes that failed in this boot and were not made since.
    pub fn failures(&self) -> &BTreeMap<MacAddr, Failed> {
        self.state.failures.nics()
    }

    /// Remembers these instead, for this boot. Nothing is written if they are known.
    ///
    /// # Errors
    /// Where the state cannot be written.
    pub fn remember_failures(&mut self, failures: &BTreeMap<MacAddr, Failed>) -> Result<(), HostError> {
        if self.failures() == failures {
            return Ok(());
        }
        self.remember(|state| state.failures.set(failures.clone()))
    }

    /// The NICs that are remembered as having gone into other network namespaces.
    pub fn moved(&self) -> &BTreeSet<MacAddr> {
        self.state.moved.nics()
    }

    /// Remembers these instead, for this boot. Nothing is written if they are known.
    ///
    /// # Errors
    /// Where the state cannot be written.
    pub fn remember_moved(&mut self, moved: &BTreeSet<MacAddr>) -> Result<(), HostError> {
        if self.moved() == moved {
            return Ok(());
        }
        self.remember(|state| state.moved.set(moved.clone()))
    }

    /// The addresses that were remembered as the node's own.
    pub fn own_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.state.own_addresses
    }

    /// Remembers addresses as the node's own, beside those that are remembered; for good, on a node that may be changed.
    /// Nothing is written if they are known.
    ///
    /// # Errors
    /// Where the state cannot be written.
    pub fn remember_own_addresses(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), HostError> {
        if addresses.is_subset(&self.state.own_addresses) {
            return Ok(());
        }
        self.remember(|state| state.own_addresses.extend(addresses))
    }

    /// Changes what is remembered, for good where the node may be changed. What cannot be written is not remembered either, so
    /// that it is tried again.
    pub(crate) fn remember(&mut self, change: impl FnOnce(&mut State)) -> Result<(), HostError> {
        let before = self.state.clone();
        change(&mut self.state);
        if self.is_writable()
            && let Err(error) = self.state.save(&self.root, None)
        {
            self.state = before;
            return Err(error.into());
        }
        Ok(())
    }

    /// Which network manager has a NIC of ours other than by what we wrote, as far as it says so itself.
    pub async fn other_manager(&self, link: u32, target: &NicTarget) -> Option<String> {
        manager::another_hand(&self.root, link, target).await
    }

    /// Changes what must not be cut.
    pub fn set_anchors(&mut self, anchors: Anchors) {
        self.anchors = anchors;
    }

    /// What the cluster says of how the kubelet was told of its node's address. The kubelet's own arguments, where they can be
    /// read, count before it.
    pub fn set_kubelet(&mut self, kubelet: Kubelet) {
        self.kubelet = Some(kubelet);
    }

    /// How the source of the desired state is asked whether it can be reached, after a change to a node that could reach it
    /// before.
    pub fn set_reach(&mut self, reach: Reach) {
        self.probes.reach = Some(reach);
    }

    /// The source was just read, so it can be reached.
    pub fn source_answered(&mut self) {
        self.probes.source_answered();
    }

    /// The source could not be read: whether it can be reached is asked before the next change.
    pub fn source_failed(&mut self) {
        self.probes.source_failed();
    }

    /// No change follows soon: what was armed for the last ones is disarmed.
    pub async fn stand_down(&mut self) {
        self.probes.forget();
        if let Some(guard) = &mut self.guard {
            guard.stand_down().await;
        }
    }

    /// What works on the node now, as far as its probes can tell.
    pub(crate) async fn works(&mut self) -> Result<Works, HostError> {
        Ok(self.probes.works(&self.netlink, &self.anchors.node_addresses).await?)
    }

    /// The events of the network namespace from now on. To be listened to before the first look, so that nothing falls
    /// between the two.
    pub fn events(&self) -> Result<Events, HostError> {
        Ok(Events::listen()?)
    }

    /// The events, from now on, of the files by which our NICs last.
    ///
    /// # Errors
    /// Where the kernel watches no more directories for this user.
    pub fn file_events(&self) -> Result<FileEvents, FileEventsError> {
        FileEvents::listen(self.root.clone())
    }

    /// Whether it was opened to be changed.
    pub fn is_writable(&self) -> bool {
        self.lock.is_some()
    }

    pub(crate) fn ground(&self) -> Ground<'_> {
        Ground { root: &self.root, netlink: &self.netlink, backups: self.backups }
    }
}
