//! What the network manager that runs on a node is told of a change, so that it agrees with what is there and keeps its
//! hands off it. Never more than about the one NIC.
//!
//! * netplan: nothing, but that networkd [lets go](networkd) of a NIC that somebody's file for every NIC gave it. Its generator
//!   reads the files at the next boot; `netplan apply` is an act on the whole node. What
//!   networkd has of the last one meanwhile is [said](crate::Host::untold).
//! * networkd: to read its files again, where that takes nothing away that others set (see [`networkd`]).
//! * NetworkManager, for keyfiles and ifcfg files: to let go of the NIC while we work, to read its profile, and to
//!   activate that (see [`network_manager`]).
//! * wicked: `wicked ifup` of the NIC (see [`wicked`]).
//!
//! A manager that does not run is told nothing: it reads the files when it starts. One that runs must agree, or the change
//! has failed. What it answers is not believed: it is asked again how the NIC stands with it, and then the kernel is
//! looked at.

use std::path::PathBuf;
use std::time::Duration;

use multinic_core::MacAddr;
use multinic_core::node::NicTarget;

use crate::backend::Backend;
use crate::files::HostRoot;
use crate::netlink::LinkRef;

pub mod bus;
pub mod network_manager;
pub mod networkd;
pub mod wicked;

use bus::BusError;

/// How long a manager may take to agree. It takes some tenths of a second; this is for a node that hardly moves.
const LONGEST: Duration = Duration::from_secs(20);

/// How often it is asked meanwhile.
const PAUSE: Duration = Duration::from_millis(25);

/// The network manager does not agree, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// It did not take a file.
    #[error("{manager} does not take {path}; its own log says why")]
    Refused {
        /// Who.
        manager: &'static str,
        /// The file on the node.
        path: PathBuf,
    },
    /// It says something else of the NIC.
    #[error("{manager} does not agree about {interface} within {seconds} s: {found}", seconds = LONGEST.as_secs())]
    Disagrees {
        /// Who.
        manager: &'static str,
        /// The interface.
        interface: String,
        /// What it says.
        found: String,
    },
    /// A program could not be run, or did not end.
    #[error("cannot run {program}: {reason}")]
    Program {
        /// The program.
        program: PathBuf,
        /// Why.
        reason: String,
    },
}

impl ManagerError {
    /// Whether somebody took too long.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Disagrees { .. } | Self::Bus(BusError::TooSlow { .. }))
    }
}

/// The files that a change wrote or removed, and the NIC that it is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    /// The files, below the node's root.
    pub files: &'a [PathBuf],
    /// Whether the manager had let go of the NIC for the change.
    pub held: bool,
}

/// Whether the manager has a hand on a link, and must let go of it before it is changed. `target`: what it is to be
/// like; a manager that has it so already needs not let go for a change that leaves the link up.
pub(crate) async fn has_a_hand_on(
    backend: Backend,
    root: &HostRoot,
    link: &str,
    stays_with: Option<&NicTarget>,
) -> Result<bool, ManagerError> {
    match backend {
        Backend::NetworkManager | Backend::Ifcfg => {
            network_manager::has_a_hand_on(root, link, stays_with).await
        }
        Backend::Netplan | Backend::Networkd | Backend::Wicked => Ok(false),
    }
}

/// Has the manager remember how a link stands with it, and go back to that after a time unless it is told otherwise. None
/// where it cannot, or does not have the link.
pub(crate) async fn remember(
    backend: Backend,
    root: &HostRoot,
    link: &str,
    after: Duration,
) -> Result<Option<String>, ManagerError> {
    match backend {
        Backend::NetworkManager | Backend::Ifcfg => network_manager::checkpoint(root, link, after).await,
        Backend::Netplan | Backend::Networkd | Backend::Wicked => Ok(None),
    }
}

/// Tells the manager not to go back to what [`remember`] gave.
pub(crate) async fn release_checkpoint(root: &HostRoot, checkpoint: &str) -> Result<(), ManagerError> {
    network_manager::destroy_checkpoint(root, checkpoint).await
}

/// Who has a link of ours other than by what we wrote.
pub(crate) async fn another_hand(root: &HostRoot, index: u32, target: &NicTarget) -> Option<String> {
    if let Some(file) = networkd::other_file(root, index, target.name) {
        return Some(format!("systemd-networkd, by {}", file.display()));
    }
    // One that does not answer is not found out by this.
    let profile = network_manager::other_profile(root, target).await.ok().flatten()?;
    Some(format!("NetworkManager, by its profile {profile}"))
}

/// How the manager has NICs of ours, by the indices of their links, otherwise than what was written says, and is not told
/// while it runs.
pub(crate) fn untold<'a>(
    backend: Backend,
    root: &HostRoot,
    nics: impl Iterator<Item = (u32, &'a NicTarget)>,
) -> Vec<String> {
    match backend {
        Backend::Netplan | Backend::Networkd => {
            nics.filter_map(|(index, target)| networkd::untold(root, index, target)).collect()
        }
        Backend::NetworkManager | Backend::Ifcfg | Backend::Wicked => Vec::new(),
    }
}

/// Makes the manager let go of a link.
pub(crate) async fn take_from(backend: Backend, root: &HostRoot, link: &str) -> Result<(), ManagerError> {
    match backend {
        Backend::NetworkManager | Backend::Ifcfg => network_manager::take_from(root, link).await,
        Backend::Netplan | Backend::Networkd | Backend::Wicked => Ok(()),
    }
}

/// Tells the manager of a NIC that is as it is to be, in the kernel and on disk. `names`: all that its link has. Says whether
/// the manager may have touched it.
pub(crate) async fn adopt(
    backend: Backend,
    root: &HostRoot,
    (index, names): (u32, &[&str]),
    target: &NicTarget,
    told: Told<'_>,
) -> Result<bool, ManagerError> {
    match backend {
        Backend::Netplan => return networkd::let_go(root, index, names).await,
        Backend::Networkd => networkd::adopt(root, index, target.name, told).await?,
        Backend::NetworkManager | Backend::Ifcfg => network_manager::adopt(root, target, told).await?,
        Backend::Wicked => wicked::adopt(root, target).await?,
    }
    Ok(true)
}

/// Tells the manager of files that are gone, with the NIC that they were about.
pub(crate) async fn forget(backend: Backend, root: &HostRoot, told: Told<'_>) -> Result<(), ManagerError> {
    match backend {
        Backend::NetworkManager | Backend::Ifcfg => network_manager::forget(root, told).await,
        Backend::Netplan | Backend::Networkd | Backend::Wicked => Ok(()),
    }
}

/// Tells the manager that files and links are as they were before a change. Says whether it has made a link anew by that,
/// which is to be looked at again then.
pub(crate) async fn give_back(
    backend: Backend,
    root: &HostRoot,
    nic: MacAddr,
    links: &[LinkRef],
    told: Told<'_>,
) -> Result<bool, ManagerError> {
    match backend {
        Backend::NetworkManager | Backend::Ifcfg => network_manager::give_back(root, nic, links, told).await,
        Backend::Networkd => networkd::give_back(root, links, told).await,
        Backend::Netplan | Backend::Wicked => Ok(false),
    }
}
