//! What planning came to, remembered for as long as it would come to the same.
//!
//! Planning is a pure function of its premises. Where it once came to nothing that had to be written, it would do so again
//! as long as every premise is as it was, whatever the size of the fleet; so it is not done again, and the ledger is not
//! read. A pass that wrote something, held something back, or asked a cloud about single ports is never one to go by: the
//! next one sees what came of it.
//!
//! What depends on time is not in it: when clouds are looked at, the retries of DOWN ports, the purge of tombstones and the
//! deliveries go on as they do with any pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use multinic_core::ConfigKey;
use multinic_core::config::Selection;
use multinic_core::fleet::{Held, Listing, Problem};
use multinic_store::Mark;

use crate::pass::Written;

/// How many conclusions are kept: one for each set of configurations whose clouds are looked at in the same pass.
const MOST: usize = 16;

/// All that planning depends on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Premises {
    /// The ledger.
    pub ledger: Mark,
    pub listing: Listing,
    /// The configurations, with what is known of those that are carried out.
    pub configs: BTreeMap<ConfigKey, Option<Known>>,
    pub deleted: BTreeSet<ConfigKey>,
    pub confirmed: BTreeSet<String>,
}

/// What is known of a configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub selection: Selection,
    pub spec_hash: String,
    /// Which read of its cloud; none if the last one failed.
    pub read: Option<u64>,
    /// Whether this pass looked at its cloud.
    pub current: bool,
    /// Whether that has not answered yet.
    pub under_way: bool,
}

/// What planning came to.
#[derive(Debug, Default)]
pub(crate) struct Conclusion {
    /// How many interfaces each configuration has published, also those that are not there any more.
    pub interfaces: BTreeMap<ConfigKey, usize>,
    pub problems: BTreeMap<ConfigKey, Vec<Problem>>,
    /// Configurations of which something that is published changed.
    pub changed: BTreeSet<ConfigKey>,
    pub held: Option<Held>,
    pub written: Written,
    /// Configurations whose change waits for the list of configurations to settle.
    pub unfinished: Vec<ConfigKey>,
    /// Whether the ledger was written to at all, or a cloud was asked about single ports.
    pub moving: bool,
}

/// What was concluded from which premises, the latest last.
#[derive(Debug, Default)]
pub(crate) struct Conclusions(Vec<(Premises, Arc<Conclusion>)>);

impl Conclusions {
    /// What these premises led to, if that is known.
    pub fn of(&self, premises: &Premises) -> Option<Arc<Conclusion>> {
        let known = self.0.iter().find(|(known, _)| known == premises);
        known.map(|(_, conclusion)| Arc::clone(conclusion))
    }

    /// Remembers a conclusion that would be drawn again.
    pub fn keep(&mut self, premises: Premises, conclusion: &Arc<Conclusion>) {
        let Conclusion { held, unfinished, moving, .. } = &**conclusion;
        if *moving || held.is_some() || !unfinished.is_empty() {
            return self.forget();
        }
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push((premises, Arc::clone(conclusion)));
    }

    /// Forgets everything: the next pass plans.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}
