//! Which of our NICs may be taken away. Absence of evidence is not deletion: a NIC goes by a tombstone, by an object
//! that named it before and does not name it now, by the deletion of that object, or by an absence that was confirmed
//! over time in complete reads of a source that is not older than one we saw before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::MacAddr;
use crate::desired::{DesiredState, Position, Silence};

/// How long an absence must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbsenceRules {
    /// For a NIC whose entry is gone while other entries of the node are there.
    pub some: Duration,
    /// For the NICs of a node whose entries are all gone.
    pub all: Duration,
    /// How many complete reads must have shown it, at least.
    pub reads: u32,
}

impl Default for AbsenceRules {
    fn default() -> Self {
        Self { some: Duration::from_secs(600), all: Duration::from_secs(3600), reads: 3 }
    }
}

/// What is remembered from read to read. The times are lost with the process, which only makes us wait longer; what
/// must survive it is [`Self::newest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AbsenceLedger {
    absent: BTreeMap<MacAddr, Absent>,
    /// Whether the last read had no entry of the node at all.
    emptied: bool,
    /// Whether the source is of another kind than before, and the NICs that came with the change are not written down
    /// yet.
    moved: bool,
    /// The newest content that was ever read.
    pub newest: Option<Newest>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Absent {
    lasted: Duration,
    reads: u32,
}

/// The newest content that was ever read from the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// How new it was.
    pub position: Position,
    /// The revision at which we first met this epoch, if we knew another one before: until the controller has
    /// published beyond it, the source may be a restored copy of the past.
    pub met_at: Option<u64>,
    /// The NICs of ours that this object named, at whatever generation. Empty for a database.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub named: BTreeSet<MacAddr>,
    /// NICs of ours that came from a source of another kind and that this one has never named: its silence about them
    /// means nothing, however long it lasts.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub inherited: BTreeSet<MacAddr>,
}

impl Newest {
    /// The first content that was ever read.
    pub fn first(position: Position) -> Self {
        Self { position, met_at: None, named: BTreeSet::new(), inherited: BTreeSet::new() }
    }
}

/// What a read is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Everything.
    Full,
    /// It may add and change, and removes nothing.
    NoRemovals(&'static str),
    /// It is older than one we saw before: it is not used at all.
    Stale,
}

/// What may be taken away, and what may not yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// The NICs that may be taken away, each with the proof.
    pub releases: BTreeMap<MacAddr, Proof>,
    /// NICs of ours that the source does not name, and why they stay for now.
    pub held: BTreeMap<MacAddr, &'static str>,
}

/// Why a NIC may be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The source says so.
    Tombstone,
    /// The object that named it does not name it any more.
    NotListed,
    /// The object of the node is being deleted.
    Deletion,
    /// The source has not named it for long enough.
    LongAbsence,
}

impl AbsenceLedger {
    /// Weighs a read against what was seen before, and remembers it.
    pub fn weigh(&mut self, read: &DesiredState) -> Trust {
        let Some(position) = &read.position else {
            // An object that is not there is silent about everything, which is judged NIC by NIC.
            return if self.newest.is_some() && read.silence != Silence::NoObject {
                // Tables of the older programs cannot tell; a source that could tell before is another one now.
                Trust::NoRemovals("the source lost its revision; is this the right database?")
            } else {
                Trust::Full
            };
        };
        let first = Newest::first(position.clone());
        let (next, trust) = match self.newest.take() {
            Some(newest) if newest.position.epoch == position.epoch => {
                if position.revision < newest.position.revision {
                    self.newest = Some(newest);
                    return Trust::Stale;
                }
                let trust = match newest.met_at {
                    Some(met) if position.revision <= met => RESTORED,
                    _ => Trust::Full,
                };
                let met_at = newest.met_at.filter(|_| trust != Trust::Full);
                (Newest { position: position.clone(), met_at, ..newest }, trust)
            }
            Some(newest) if newest.position.is_of_object() != position.is_of_object() => {
                self.moved = true;
                self.absent.clear();
                if position.is_of_object() {
                    (first, Trust::Full)
                } else {
                    (Newest { met_at: Some(position.revision), ..first }, RESTORED)
                }
            }
            // Another object in the place of the one before: what it does not name has to be absent for long.
            Some(newest) if position.is_of_object() => {
                self.absent.clear();
                (Newest { inherited: newest.inherited, ..first }, Trust::Full)
            }
            Some(newest) => {
                let met_at = Some(position.revision);
                (Newest { met_at, inherited: newest.inherited, ..first }, RESTORED)
            }
            None => {
                // What is ours by now came from tables of the older programs, or from the older programs' own files.
                self.moved = position.is_of_object();
                (first, Trust::Full)
            }
        };
        self.newest = Some(next);
        trust
    }

    /// Takes a read that is older than one before as the newest, because it has been so for long. Nothing is known of
    /// what was named meanwhile.
    pub fn go_back(&mut self, read: &DesiredState) {
        if let (Some(newest), Some(position)) = (&mut self.newest, &read.position) {
            newest.position = position.clone();
            newest.named.clear();
            self.absent.clear();
        }
    }

    /// Brings what is remembered of NICs up to date with a read that is used.
    fn remember(&mut self, read: &DesiredState, named: &BTreeSet<MacAddr>, ours: &BTreeSet<MacAddr>) {
        let Some(newest) = self.newest.as_mut().filter(|_| read.position.is_some()) else { return };
        if std::mem::take(&mut self.moved) {
            newest.inherited.clone_from(ours);
        }
        newest.inherited.retain(|mac| ours.contains(mac) && !named.contains(mac));
        newest.named.retain(|mac| ours.contains(mac));
        if newest.position.is_of_object() {
            newest.named.extend(named);
        }
    }

    /// Judges what may be taken away. `ours` are the NICs that we configured; `elapsed` is the time since the last
    /// complete read by this process, zero for the first and for one that follows a failure.
    pub fn judge(
        &mut self,
        read: &DesiredState,
        trust: &Trust,
        ours: &BTreeSet<MacAddr>,
        elapsed: Duration,
        rules: &AbsenceRules,
    ) -> Verdict {
        let desired: BTreeSet<MacAddr> = read.nics.iter().map(|nic| nic.mac).collect();
        let unreadable: BTreeSet<MacAddr> = read.invalid.iter().filter_map(|entry| entry.mac).collect();
        let buried: BTreeSet<MacAddr> = read.tombstones.iter().map(|tombstone| tombstone.mac).collect();
        let mut verdict = Verdict::default();
        let all_named: BTreeSet<MacAddr> = desired.union(&unreadable).copied().collect();
        self.remember(read, &all_named, ours);
        let named = |mac: &MacAddr| all_named.contains(mac);
        self.absent.retain(|mac, _| ours.contains(mac) && !named(mac) && !buried.contains(mac));
        let hold = match trust {
            Trust::Full => None,
            Trust::NoRemovals(why) => Some(*why),
            Trust::Stale => Some("the source is older than what was read before"),
        };
        if hold.is_some() {
            // What such a read lacks may be there, and what was missing before it may have been back.
            self.absent.clear();
        }
        for mac in buried.iter().filter(|mac| !named(mac)) {
            if let Some(why) = hold {
                verdict.held.insert(*mac, why);
            } else {
                verdict.releases.insert(*mac, Proof::Tombstone);
            }
        }
        let missing: Vec<MacAddr> =
            ours.iter().filter(|mac| !named(mac) && !buried.contains(mac)).copied().collect();
        // Tombstones are no entries: a source that lost its interfaces may still have those.
        let nothing_left = desired.is_empty() && unreadable.is_empty();
        if std::mem::replace(&mut self.emptied, nothing_left) && !nothing_left {
            // The source is being filled again, one entry before the other: it gets the time for that.
            self.absent.clear();
        }
        for mac in missing {
            let inherited = self.newest.as_ref().is_some_and(|newest| newest.inherited.contains(&mac));
            let listed = self.newest.as_ref().is_some_and(|newest| newest.named.contains(&mac));
            let hold = hold.or_else(|| {
                if read.silence == Silence::NoObject {
                    Some("there is no object of this node, and it did not go by way of a clean-up")
                } else if inherited {
                    Some("it came from a source of another kind, and this one has never named it")
                } else if read.silence == Silence::Deleted {
                    None
                } else if !read.node_known {
                    // No time makes a wrong node name right.
                    Some("the source does not know a node of this name")
                } else if read.invalid.iter().any(|entry| entry.mac.is_none()) {
                    Some("an entry of this node has no readable MAC, so it may be this one")
                } else {
                    None
                }
            });
            if let Some(why) = hold {
                self.absent.remove(&mac);
                verdict.held.insert(mac, why);
                continue;
            }
            let proof = match read.silence {
                Silence::Deleted => Some(Proof::Deletion),
                Silence::NotListed if listed => Some(Proof::NotListed),
                Silence::NotListed | Silence::Nothing | Silence::NoObject => None,
            };
            if let Some(proof) = proof {
                verdict.releases.insert(mac, proof);
                continue;
            }
            let absent = self.absent.entry(mac).or_default();
            absent.reads += 1;
            absent.lasted += if absent.reads == 1 { Duration::ZERO } else { elapsed };
            let enough = if nothing_left { rules.all } else { rules.some };
            if absent.reads >= rules.reads && absent.lasted >= enough {
                verdict.releases.insert(mac, Proof::LongAbsence);
            } else {
                verdict.held.insert(mac, "its absence from the source is not confirmed over time yet");
            }
        }
        verdict
    }

    /// Forgets the times, after a read that failed: what was absent before may have been there meanwhile.
    pub fn interrupt(&mut self) {
        self.absent.clear();
    }
}

const RESTORED: Trust = Trust::NoRemovals(
    "the source has another epoch than before and the controller has not published to it since",
);
