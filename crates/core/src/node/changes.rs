//! What a plan consists of: changes, refusals, and what is as it should be.

use ipnet::IpNet;

use super::doctor::{Finding, Severity};
use super::preflight::Obstacle;
use super::target::{Drift, Former, NicTarget, Step};
use crate::names::INTERFACE_PREFIX;
use crate::{InterfaceName, MacAddr, Slot, Vlan};

/// What is to be done on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodePlan {
    /// The changes, one per NIC, in the order in which they are to be made: releases first, since they free names.
    pub changes: Vec<Change>,
    /// NICs that are left alone, each with its reason.
    pub refused: Vec<Refusal>,
    /// NICs that are as desired.
    pub settled: Vec<Settled>,
    /// Desired NICs that the kernel does not show (yet).
    pub absent: Vec<MacAddr>,
    /// NICs to be released of which nothing is left on this node.
    pub released: Vec<MacAddr>,
}

impl NodePlan {
    /// Leaves NICs alone that a finding stands against, or all of them if it is about the node as a whole. What is to be taken
    /// away, is: that makes nothing worse.
    pub fn heed(&mut self, findings: &[Finding]) {
        self.changes.retain(|change| {
            let against = |finding: &&Finding| {
                finding.severity == Severity::Refuse && finding.mac.is_none_or(|mac| mac == change.mac)
            };
            let against: Vec<String> = match change.target {
                Some(_) => findings.iter().filter(against).map(Finding::sentence).collect(),
                None => Vec::new(),
            };
            let kept = against.is_empty();
            if !kept {
                let reason = RefusalReason::HostUnsafe(against);
                self.refused.push(Refusal { mac: change.mac, link: None, reason });
            }
            kept
        });
    }
}

/// The change to one NIC: made whole, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The NIC.
    pub mac: MacAddr,
    /// Why.
    pub kind: ChangeKind,
    /// The kernel's index of the link; none when only files are left of a NIC that is to be released.
    pub link: Option<u32>,
    /// The name that the NIC is to be given back when it is released one day, or is given now.
    pub original_name: String,
    /// The MTU that the NIC is to be given back with that name, as far as it is known.
    pub original_mtu: Option<u32>,
    /// What it is to be like afterwards; none when it is released.
    pub target: Option<NicTarget>,
    /// What it has of ours from before, which goes as far as it is not in the target.
    pub former: Former,
    /// The steps.
    pub steps: Vec<Step>,
    /// It works under another name than the desired one, which is reported.
    pub name_conflict: Option<Slot>,
}

/// Why a NIC is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// A new NIC.
    Create,
    /// One that an older program configured, or we before our state was lost.
    Adopt,
    /// Its desired state changed.
    Update(Vec<Drift>),
    /// It is no longer as it was verified.
    Repair(Vec<Drift>),
    /// It has the name of another NIC, which has its own, by itself or over others. It gets this name until the next plan, and
    /// is otherwise as it was verified, but for its files.
    StepAside(String),
    /// It is taken away.
    Release,
}

/// A NIC that is as desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// What it is like.
    pub target: NicTarget,
    /// Another name was desired; a verified name is never changed.
    pub name_conflict: Option<Slot>,
    /// Addresses that another host has too, as the kernel found out.
    pub duplicates: Vec<IpNet>,
}

/// A NIC that is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The NIC.
    pub mac: MacAddr,
    /// The link, if one was found.
    pub link: Option<String>,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a NIC is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// Preflight found it in use.
    #[error("InUse: {}", join(.0))]
    InUse(Vec<Obstacle>),
    /// Several links have the MAC.
    #[error("AmbiguousMac: several links have this MAC: {}", .0.join(", "))]
    AmbiguousMac(Vec<String>),
    /// The link has another address than its hardware's.
    #[error("MacChanged: the link has MAC {0} now; give it back its own address first")]
    MacChanged(String),
    /// Another NIC has the name.
    #[error("NameConflict: {name} is the name of another link, {holder}")]
    NameConflict {
        /// The desired name.
        name: InterfaceName,
        /// Whose name it is.
        holder: String,
    },
    /// Somebody else's link has the name of the VLAN, or is that VLAN of the NIC.
    #[error(
        "VlanConflict: options.vlan asks for {vlan}, and there is {holder}, which we did not make; remove that, or ask \
         for another VLAN"
    )]
    VlanConflict {
        /// The desired VLAN.
        vlan: Vlan,
        /// Whose name or number it is.
        holder: String,
    },
    /// The file of the name belongs to another NIC.
    #[error("FileConflict: the file of {name} belongs to MAC {holder}, whose removal is not confirmed")]
    FileConflict {
        /// The desired name.
        name: InterfaceName,
        /// The MAC in the file.
        holder: MacAddr,
    },
    /// It would harm the node as things are, or be harmed (see [`super::doctor`]).
    #[error("HostUnsafe: {}", .0.join("; "))]
    HostUnsafe(Vec<String>),
    /// Every slot is taken.
    #[error("NoFreeSlot: all of {INTERFACE_PREFIX}0 … {INTERFACE_PREFIX}{} are taken", .0.saturating_sub(1))]
    NoFreeSlot(u8),
    /// Several entries name the MAC, so it cannot be told which is meant.
    #[error("NamedTwice: several entries of this node name this MAC; only one may")]
    NamedTwice,
}

fn join(obstacles: &[Obstacle]) -> String {
    let texts: Vec<String> =
        obstacles.iter().map(|obstacle| format!("{} ({})", obstacle.label(), obstacle.explain())).collect();
    texts.join("; ")
}
