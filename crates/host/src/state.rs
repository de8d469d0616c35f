//! What this program knows about itself from one start to the next: which NICs it configured, and which of their changes
//! were made. One file, replaced whole; putting it in place is the moment at which a change counts as made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use multinic_core::MacAddr;
use multinic_core::node::absence::Newest;
use multinic_core::node::{ChangeKind, Owned, OwnedNic};
use serde::{Deserialize, Serialize};

use crate::earlier::Earlier;
use crate::failures::Failures;
use crate::faults::Point;
use crate::files::{FileCopy, FileError, HostRoot};
use crate::of_boot::OfBoot;

/// Where we keep what is ours, below the node's root.
pub const DIRECTORY: &str = "var/lib/multinic";
const FILE: &str = "var/lib/multinic/state.json";
const VERSION: u32 = 1;

/// The state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is not what we wrote.
    #[error(
        "{path} cannot be read as our state: {reason}. Nothing is changed until it is: restore it from a backup, or \
         move it away, and then NICs are recognised as ours by their files"
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// What we configured.
    pub owned: Owned,
    /// The newest content that was ever read from the source of desired state.
    pub newest: Option<Newest>,
    /// The number of the last change that was made, by MAC: what tells a journal entry of a change that was made from
    /// one of a change that was not.
    pub made: BTreeMap<MacAddr, u64>,
    /// The addresses that were taken for the node's own at one time or another, where nobody said which they are.
    pub own_addresses: BTreeSet<IpAddr>,
    /// NICs that the network manager let go of for a change that another one completes.
    pub taken: BTreeSet<MacAddr>,
    /// What we made of NICs in this boot and unmade again.
    pub earlier: Earlier,
    /// The changes that failed in this boot.
    pub failures: Failures,
    /// The NICs that went into other network namespaces in this boot and have not come back.
    pub moved: Moved,
}

/// NICs that are in other network namespaces, as those of pods.
pub type Moved = OfBoot<BTreeSet<MacAddr>>;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    nics: BTreeMap<MacAddr, OwnedNic>,
    made: BTreeMap<MacAddr, u64>,
    newest: Option<Newest>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    own_addresses: BTreeSet<IpAddr>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    taken: BTreeSet<MacAddr>,
    #[serde(default, skip_serializing_if = "Earlier::is_empty")]
    earlier: Earlier,
    #[serde(default, skip_serializing_if = "Failures::is_empty")]
    failures: Failures,
    #[serde(default, skip_serializing_if = "Moved::is_empty")]
    moved: Moved,
}

impl State {
    /// Reads the state; a node that never had any has an empty one, and a broken one is an error.
    pub fn load(root: &HostRoot) -> Result<Self, StateError> {
        let Some(copy) = root.read(Path::new(FILE))? else { return Ok(Self::default()) };
        Self::parse(&copy.bytes).map_err(|reason| StateError::Broken { path: root.path().join(FILE), reason })
    }

    /// Reads what [`Self::save`] wrote; an error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let File { version, nics, made, newest, own_addresses, taken, earlier, failures, moved } =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!("its version is {version}, this program writes {VERSION}"));
        }
        if let Some((mac, nic)) = nics.iter().find(|(mac, nic)| **mac != nic.target.mac) {
            return Err(format!("the entry of {mac} is about {}", nic.target.mac));
        }
        Ok(Self { owned: nics, newest, made, own_addresses, taken, earlier, failures, moved })
    }

    /// Puts the state in place.
    pub fn save(&self, root: &HostRoot, between: Option<Point>) -> Result<(), StateError> {
        let Self { owned, newest, made, own_addresses, taken, earlier, failures, moved } = self.clone();
        let file = File {
            version: VERSION,
            nics: owned,
            made,
            newest,
            own_addresses,
            taken,
            earlier,
            failures,
            moved,
        };
        let broken = |error: serde_json::Error| StateError::Broken {
            path: root.path().join(FILE),
            reason: error.to_string(),
        };
        let mut bytes = serde_json::to_vec_pretty(&file).map_err(broken)?;
        bytes.push(b'\n');
        root.make_directory(Path::new(DIRECTORY), 0o755)?;
        Ok(root.write(Path::new(FILE), &FileCopy::private(bytes), between)?)
    }

    /// The number of a NIC's next change.
    pub fn next_change(&self, mac: MacAddr) -> u64 {
        self.made.get(&mac).copied().unwrap_or_default() + 1
    }

    /// Remembers of a change that is made whether the network manager is to be given the NIC back by the one that completes it.
    /// `held`: whether it had to let go of the NIC for this one.
    pub fn let_go(&mut self, mac: MacAddr, kind: &ChangeKind, held: bool) {
        if !matches!(kind, ChangeKind::StepAside(_)) {
            self.taken.remove(&mac);
        } else if held {
            self.taken.insert(mac);
        }
    }

    /// Whether a change was made.
    pub fn is_made(&self, mac: MacAddr, number: u64) -> bool {
        self.made.get(&mac).is_some_and(|made| *made >= number)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use multinic_core::desired::Position;
    use multinic_core::node::NicTarget;
    use multinic_core::{Addresses, InterfaceOptions, Mtu, Slot};

    use super::*;
    use crate::failures::Failed;

    #[test]
    fn the_state_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        assert_eq!(State::load(&root).unwrap(), State::default());
        let mac: MacAddr = "fa:16:3e:00:00:01".parse().unwrap();
        let target = NicTarget {
            mac,
            name: "multinic3".parse().unwrap(),
            addresses: Addresses::parse(["192.0.2.10/24", "2001:db8::10/64"]).unwrap(),
            mtu: Mtu::new(1450).unwrap(),
            options: InterfaceOptions::default().resolve(Slot::new(3).unwrap()),
        };
        let mut earlier = Earlier::default();
        earlier.in_boot("0c3e");
        earlier.remember(target.clone(), &Owned::new());
        let mut failures = Failures::default();
        failures.in_boot("0c3e");
        let (last, error) = (Duration::from_millis(12_345_670), "ApplyFailed: busy".to_owned());
        failures.set([(mac, Failed::after(None, Some(target.clone()), Some(7), last, error))].into());
        failures.undone(mac, Some(target.clone()), None);
        let mut moved = Moved::default();
        moved.set([mac].into());
        let nic = OwnedNic { target, original_name: "ens7".to_owned(), original_mtu: Some(1500) };
        let position = Position { epoch: "e".to_owned(), revision: 7 };
        let state = State {
            owned: [(mac, nic)].into(),
            newest: Some(Newest { named: [mac].into(), inherited: [mac].into(), ..Newest::first(position) }),
            made: [(mac, 4)].into(),
            own_addresses: ["192.0.2.1".parse().unwrap()].into(),
            taken: [mac].into(),
            earlier,
            failures,
            moved,
        };
        state.save(&root, None).unwrap();
        assert_eq!(State::load(&root).unwrap(), state);
        assert!(state.is_made(mac, 4));
        assert!(!state.is_made(mac, state.next_change(mac)));
    }

    #[test]
    fn what_the_manager_let_go_of_is_known_until_a_change_completes_it() {
        let mac: MacAddr = "fa:16:3e:00:00:01".parse().unwrap();
        let aside = ChangeKind::StepAside("ens7".to_owned());
        let mut state = State::default();
        state.let_go(mac, &aside, false);
        assert!(!state.taken.contains(&mac));
        state.let_go(mac, &aside, true);
        // It has let go of it already.
        state.let_go(mac, &aside, false);
        assert!(state.taken.contains(&mac));
        state.let_go(mac, &ChangeKind::Repair(Vec::new()), false);
        assert!(!state.taken.contains(&mac));
    }

    #[test]
    fn a_broken_state_is_an_error_and_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        root.make_directory(Path::new(DIRECTORY), 0o755).unwrap();
        let other_mac = r#"{"version":1,"made":{},"newest":null,"nics":{"fa:16:3e:00:00:01":{"target":
            {"mac":"fa:16:3e:00:00:02","name":"multinic0","addresses":[],"mtu":1500},"original_name":"ens7"}}}"#;
        for text in ["", "{", "{}", r#"{"version":2,"nics":{},"made":{},"newest":null}"#, other_mac] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let error = State::load(&root).unwrap_err();
            assert!(matches!(error, StateError::Broken { .. }), "{text:?}: {error}");
            assert!(error.to_string().contains("state.json"));
        }
    }
}
