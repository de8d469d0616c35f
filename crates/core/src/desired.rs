//! What a node's agent reads from its source, and what it reports back.

use serde::{Deserialize, Serialize};

use crate::{Addresses, InterfaceName, InterfaceOptions, MacAddr, Mtu, PortId, Slot};

/// One read of a node's desired state: complete, or an error. What is wrong with single entries is in
/// [`Self::invalid`]; such a read supports no conclusion from absence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DesiredState {
    /// Whether the source knows a node of this name at all.
    pub node_known: bool,
    /// How new the source's content is; none where the source cannot tell (tables of the older programs).
    pub position: Option<Position>,
    /// The NICs that the node is to have.
    pub nics: Vec<DesiredNic>,
    /// Entries that cannot be used, each with its reason.
    pub invalid: Vec<InvalidEntry>,
    /// NICs that are to be taken away: positive evidence.
    pub tombstones: Vec<Tombstone>,
    /// What it means that a NIC is not named.
    pub silence: Silence,
}

impl DesiredState {
    /// Fills what the source leaves open with what the node says of all its interfaces. An entry whose options do not go
    /// together then, or not with its addresses, cannot be used.
    #[must_use]
    pub fn with_options(mut self, node: &InterfaceOptions) -> Self {
        let mut kept = Vec::new();
        for nic in std::mem::take(&mut self.nics) {
            let options = nic.options.or(node);
            match options.check_for(&nic.addresses) {
                Ok(()) => kept.push(DesiredNic { options, ..nic }),
                Err(error) => self.invalid.push(InvalidEntry {
                    entry: nic.entry,
                    revision: nic.revision,
                    mac: Some(nic.mac),
                    reason: error.to_string(),
                    reported: nic.reported,
                }),
            }
        }
        self.nics = kept;
        self
    }
}

/// What it means that a source does not name a NIC that it could name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Silence {
    /// Nothing by itself: rows of a table come and go one by one, and a read may fall between two of them.
    #[default]
    Nothing,
    /// An object lists the node's NICs in one piece: one that this same object named before is to be taken away.
    NotListed,
    /// The object of the node is being deleted, and waits for the node to take everything of it away.
    Deleted,
    /// There is no object of the node, which is evidence of nothing.
    NoObject,
}

/// How new a source's content is. A lower revision within one epoch, or another epoch, is a stale or restored source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Made anew when a database is made anew.
    pub epoch: String,
    /// Rises with every publication that changes something.
    pub revision: u64,
}

/// What begins the epoch of a Kubernetes object; a database's epoch has no colon.
const OBJECT: &str = "uid:";

impl Position {
    /// How new a Kubernetes object is. Its uid is made anew when the object is made anew; its generation rises with every
    /// change of its spec.
    pub fn of_object(uid: &str, generation: u64) -> Self {
        Self { epoch: format!("{OBJECT}{uid}"), revision: generation }
    }

    /// Whether this is the position of a Kubernetes object.
    pub fn is_of_object(&self) -> bool {
        self.epoch.starts_with(OBJECT)
    }
}

/// One NIC that the node is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredNic {
    /// The entry's number in the source, for the report.
    pub entry: EntryId,
    /// The publication that last changed the entry; 0 where the source has none.
    pub revision: u64,
    /// The MAC address by which the NIC is found.
    pub mac: MacAddr,
    /// The slot it is to have; none where the source leaves that to the node.
    pub slot: Option<Slot>,
    /// The port, for people.
    pub port: Option<PortId>,
    /// Its addresses.
    pub addresses: Addresses,
    /// Its MTU.
    pub mtu: Mtu,
    /// What is said of it beyond that; they go together, and with the addresses.
    pub options: InterfaceOptions,
    /// What the source holds of our last report, so that nothing is reported twice.
    pub reported: Reported,
}

/// An entry's number in its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub i64);

/// The state of a report as the source holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reported {
    /// Whether the entry is marked as applied.
    pub applied: bool,
    /// The name under which it was verified.
    pub name: Option<InterfaceName>,
    /// The last error.
    pub error: Option<String>,
}

/// An entry that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEntry {
    /// The entry's number in the source.
    pub entry: EntryId,
    /// The publication that last changed the entry; 0 where the source has none.
    pub revision: u64,
    /// The MAC address, if that much could be read.
    pub mac: Option<MacAddr>,
    /// The field that is wrong, and why.
    pub reason: String,
    /// What the source holds of our last report.
    pub reported: Reported,
}

/// A NIC that is to be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The tombstone's number in the source; none where the source keeps no account of releases.
    pub entry: Option<EntryId>,
    /// The MAC address.
    pub mac: MacAddr,
}

/// What became of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicReport {
    /// The entry.
    pub entry: EntryId,
    /// The revision that this speaks of: a newer one in the source is left alone.
    pub revision: u64,
    /// What the kernel and the disk showed.
    pub outcome: Outcome,
}

/// What the kernel and the disk showed for an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Verified under this name, with these addresses of ours.
    Applied {
        /// The name.
        name: InterfaceName,
        /// The addresses that were verified.
        addresses: Addresses,
    },
    /// Not, or not as asked.
    Failed {
        /// The name under which the NIC works nevertheless (a name conflict), if it does.
        name: Option<InterfaceName>,
        /// Why: a reason in CamelCase, a colon, a sentence.
        error: String,
    },
}
