//! What was said already, so that a state that lasts is logged and counted once and not at every pass.

use std::collections::BTreeMap;

use multinic_core::MacAddr;
use multinic_core::desired::EntryId;

/// Whom a saying is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The source as a whole.
    Source,
    /// An entry that cannot be used.
    Entry(EntryId),
    /// A NIC that is refused, waits or is absent.
    Nic(MacAddr),
    /// A NIC of ours that the source does not name.
    Held(MacAddr),
    /// A NIC that somebody else keeps changing.
    Fight(MacAddr),
    /// What the network manager is to read at the next boot, and was not asked about.
    Unchecked,
    /// What the network manager has of our NICs otherwise than asked for, and is not told.
    Untold,
    /// Something of the node that would do harm, by its name, and the NIC that it is about.
    Finding(&'static str, Option<MacAddr>),
}

/// The last saying about each subject.
#[derive(Debug, Clone, Default)]
pub struct News {
    said: BTreeMap<Subject, String>,
}

impl News {
    /// Whether this is new, and remembers it.
    pub fn is_new(&mut self, subject: Subject, text: &str) -> bool {
        if self.said.get(&subject).is_some_and(|said| said == text) {
            return false;
        }
        self.said.insert(subject, text.to_owned());
        true
    }

    /// Forgets the subjects of which there is nothing to say any more, so that a return is news.
    pub fn keep(&mut self, still: impl Fn(Subject) -> bool) {
        self.said.retain(|subject, _| still(*subject));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_once_and_its_return_is_news() {
        let mut news = News::default();
        assert!(news.is_new(Subject::Source, "down"));
        assert!(!news.is_new(Subject::Source, "down"));
        assert!(news.is_new(Subject::Source, "slow"));
        news.keep(|subject| subject != Subject::Source);
        assert!(news.is_new(Subject::Source, "slow"));
    }
}
