//! What is there, as the watch shows it, beside what was last wanted.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::Resource as _;
use kube::api::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use multinic_api::MultiNicNodeConfig;
use tokio::sync::{Notify, watch};

use super::ledger::Mark;
use super::object::{Content, number};
use super::takeover::is_shared;
use super::writer::is_ours;

/// How many objects that went are remembered: many more than writes are under way at once.
const GONE: usize = 1024;

/// An object as the watch last showed it. Ten thousand of them are held, so none is held whole.
#[derive(Debug)]
pub(super) struct Seen {
    /// None where the object does not have the shape that it should.
    pub content: Option<Content>,
    /// A number of the object's uid: generations of two objects of one name say nothing about one another.
    pub uid: u64,
    pub ours: bool,
    /// The ledger that it was written from; none where it does not say so.
    pub mark: Option<Mark>,
    /// Whether somebody else holds something of `spec.interfaces`.
    pub shared: bool,
    pub deleting: bool,
    pub generation: i64,
    /// The status as JSON.
    pub status: Option<Box<str>>,
}

/// What was last wanted of a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub fingerprint: u64,
    /// None: no object.
    pub content: Option<Content>,
    /// The ledger that the object is to name; none where there is to be no object.
    pub mark: Option<Mark>,
}

#[derive(Debug, Default)]
struct Rows {
    seen: HashMap<Box<str>, Seen>,
    wanted: HashMap<Box<str>, Wanted>,
    /// Objects of a list that has not come to its end.
    listing: HashMap<Box<str>, Seen>,
    /// The uids of objects that went, the last ones.
    gone: VecDeque<u64>,
    /// Why the watch is not up to date, where it knows.
    problem: Option<String>,
}

/// The table and who waits for it.
pub(super) struct Table {
    manager: String,
    content: Mutex<Rows>,
    read: watch::Sender<bool>,
    drift: Notify,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("manager", &self.manager).finish_non_exhaustive()
    }
}

impl Rows {
    fn show(&mut self, name: Box<str>, seen: Seen) -> Option<Seen> {
        // After a restore of etcd it is there again.
        self.gone.retain(|uid| *uid != seen.uid);
        self.seen.insert(name, seen)
    }

    fn is_gone(&mut self, uid: u64) {
        if self.gone.len() >= GONE {
            self.gone.pop_front();
        }
        self.gone.push_back(uid);
    }
}

impl Table {
    pub fn new(manager: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            content: Mutex::default(),
            read: watch::Sender::new(false),
            drift: Notify::new(),
        }
    }

    fn content(&self) -> MutexGuard<'_, Rows> {
        // Nothing in here panics half-way through a change.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was a complete list, and why there was none.
    pub fn is_read(&self) -> Result<(), Option<String>> {
        if *self.read.borrow() { Ok(()) } else { Err(self.content().problem.clone()) }
    }

    /// Returns once there was a complete list.
    pub async fn until_read(&self) {
        // The sender is ours: it is not dropped while somebody waits.
        let _ = self.read.subscribe().wait_for(|read| *read).await;
    }

    /// Returns once an object that was wanted is no longer as it was wanted.
    pub async fn drifted(&self) {
        self.drift.notified().await;
    }

    /// What is wanted of a node from now on. Returns what was wanted before.
    pub fn want(&self, node: &str, wanted: Wanted) {
        self.content().wanted.insert(node.into(), wanted);
    }

    /// Looks a node up: what is there, and what was last wanted.
    pub fn with<T>(&self, node: &str, look: impl FnOnce(Option<&Seen>, Option<&Wanted>) -> T) -> T {
        let content = self.content();
        look(content.seen.get(node), content.wanted.get(node))
    }

    /// Every object that is there.
    pub fn each<T>(&self, mut take: impl FnMut(&str, &Seen) -> Option<T>) -> Vec<T> {
        self.content().seen.iter().filter_map(|(name, seen)| take(name, seen)).collect()
    }

    /// An object as the API server answered after a write of ours; the watch shows it a moment later, or has shown it and
    /// what others made of it since: an agent may be faster with its status than the answer is with us, and so may somebody
    /// who deletes it.
    pub fn wrote(&self, object: &MultiNicNodeConfig) {
        let mut seen = self.seen(&object.metadata, Some(object));
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let mut content = self.content();
        if content.gone.contains(&seen.uid) {
            return;
        }
        if let Some(known) = content.seen.get_mut(name).filter(|known| known.uid == seen.uid) {
            match known.generation.cmp(&seen.generation) {
                Ordering::Greater => return,
                Ordering::Equal => seen.status = known.status.take().or(seen.status),
                Ordering::Less => (),
            }
        }
        content.seen.insert(name.into(), seen);
    }

    /// The watch failed; it goes on by itself.
    pub fn failed(&self, problem: String) {
        self.content().problem = Some(problem);
    }

    /// Takes an event of the watch in.
    pub fn take(&self, event: Event<DeserializeGuard<MultiNicNodeConfig>>) {
        match event {
            Event::Init => self.content().listing.clear(),
            Event::InitApply(object) => {
                let (name, seen) = self.read(&object);
                self.content().listing.insert(name, seen);
            }
            Event::InitDone => {
                let mut content = self.content();
                let mut before = std::mem::take(&mut content.seen);
                content.seen = std::mem::take(&mut content.listing);
                before.retain(|name, before| content.seen.get(name).is_none_or(|now| now.uid != before.uid));
                before.values().for_each(|before| content.is_gone(before.uid));
                let Rows { seen, gone, .. } = &mut *content;
                let listed: HashSet<u64> = seen.values().map(|seen| seen.uid).collect();
                gone.retain(|uid| !listed.contains(uid));
                content.problem = None;
                let Rows { seen, wanted, .. } = &*content;
                let drifted = wanted.iter().any(|(name, wanted)| !wanted.is_met(seen.get(name)));
                drop(content);
                self.read.send_replace(true);
                if drifted {
                    self.drift.notify_one();
                }
            }
            Event::Apply(object) => {
                let (name, seen) = self.read(&object);
                let mut content = self.content();
                let wanted = content.wanted.get(&name).copied();
                let (is, deleting, mark) = (seen.content, seen.deleting, seen.mark);
                let drifted = wanted.is_some_and(|wanted| !wanted.is_met(Some(&seen)));
                let before = content.show(name, seen);
                // A node's agent writes its status all the time, also while we wait for a second attempt.
                let same = before.is_some_and(|before| {
                    before.content == is && before.deleting == deleting && before.mark == mark
                });
                drop(content);
                if drifted && !same {
                    self.drift.notify_one();
                }
            }
            Event::Delete(object) => {
                let name: Box<str> = object.meta().name.as_deref().unwrap_or_default().into();
                let mut content = self.content();
                content.seen.remove(&name);
                content.is_gone(number(&object.meta().uid));
                let drifted = content.wanted.get(&name).is_some_and(|wanted| !wanted.is_met(None));
                drop(content);
                if drifted {
                    self.drift.notify_one();
                }
            }
        }
    }

    fn read(&self, object: &DeserializeGuard<MultiNicNodeConfig>) -> (Box<str>, Seen) {
        let name = object.meta().name.as_deref().unwrap_or_default().into();
        let seen = match &object.0 {
            Ok(object) => self.seen(&object.metadata, Some(object)),
            Err(invalid) => {
                tracing::warn!(object = %name, error = %invalid.error, "an object that cannot be read");
                self.seen(&invalid.metadata, None)
            }
        };
        (name, seen)
    }

    fn seen(&self, meta: &ObjectMeta, object: Option<&MultiNicNodeConfig>) -> Seen {
        let status = object.and_then(|object| object.status.as_ref());
        Seen {
            content: object.map(Content::of),
            uid: number(&meta.uid),
            ours: is_ours(meta, &self.manager),
            mark: Mark::of(meta),
            shared: is_shared(meta.managed_fields.as_deref().unwrap_or_default(), &self.manager),
            deleting: meta.deletion_timestamp.is_some(),
            generation: meta.generation.unwrap_or_default(),
            status: status.and_then(|status| serde_json::to_string(status).ok()).map(String::into_boxed_str),
        }
    }
}

impl Seen {
    /// Whether an object of ours names another ledger than this, or a newer state of it.
    pub fn is_ahead_of(&self, ledger: Mark) -> bool {
        self.ours && !self.deleting && self.mark.is_some_and(|mark| !mark.is_covered_by(ledger))
    }
}

impl Wanted {
    /// Whether this is what is wanted. An object that is being deleted never is; one that is not ours is nothing to us
    /// where none is wanted.
    pub fn is_met(&self, seen: Option<&Seen>) -> bool {
        match (self.content, seen) {
            (None, None) => true,
            (None, Some(seen)) => seen.deleting || !seen.ours,
            (Some(_), None) => false,
            (Some(wanted), Some(seen)) => {
                seen.ours
                    && !seen.deleting
                    && seen.content.is_some_and(|is| is.satisfies(wanted))
                    && seen.mark.zip(self.mark).is_some_and(|(is, wanted)| is.is_covered_by(wanted))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use multinic_api::{MultiNicNodeConfigSpec, MultiNicNodeConfigStatus};

    use super::*;

    fn object(generation: i64, observed: i64) -> MultiNicNodeConfig {
        let mut object = MultiNicNodeConfig::new("w", MultiNicNodeConfigSpec::default());
        object.metadata.generation = Some(generation);
        let status = MultiNicNodeConfigStatus {
            observed_generation: Some(observed),
            ..MultiNicNodeConfigStatus::default()
        };
        object.status = Some(status);
        object
    }

    fn shown(first: Option<MultiNicNodeConfig>, answer: &MultiNicNodeConfig) -> (i64, String) {
        let table = Table::new("ours");
        if let Some(object) = first {
            table.take(Event::Apply(DeserializeGuard(Ok(object))));
        }
        table.wrote(answer);
        table.with("w", |seen, _| {
            let seen = seen.unwrap();
            (seen.generation, seen.status.as_deref().unwrap_or_default().to_owned())
        })
    }

    #[test]
    fn an_answer_that_the_watch_has_outrun_takes_nothing_back() {
        let status = |observed| shown(None, &object(1, observed)).1;
        assert_eq!(shown(Some(object(1, 1)), &object(2, 1)), (2, status(1)));
        assert_eq!(shown(Some(object(2, 2)), &object(2, 1)), (2, status(2)));
        assert_eq!(shown(Some(object(3, 2)), &object(2, 1)), (3, status(2)));
        // It was deleted, and ours is another object of its name.
        let mut another = object(1, 1);
        another.metadata.uid = Some("another".to_owned());
        assert_eq!(shown(Some(object(3, 2)), &another), (1, status(1)));
    }

    fn named(uid: &str) -> MultiNicNodeConfig {
        let mut object = object(1, 1);
        object.metadata.uid = Some(uid.to_owned());
        object
    }

    fn is_there(table: &Table) -> bool {
        table.with("w", |seen, _| seen.is_some())
    }

    fn take(
        table: &Table,
        event: fn(DeserializeGuard<MultiNicNodeConfig>) -> Ev,
        object: &MultiNicNodeConfig,
    ) {
        table.take(event(DeserializeGuard(Ok(object.clone()))));
    }

    type Ev = Event<DeserializeGuard<MultiNicNodeConfig>>;

    #[test]
    fn an_answer_about_an_object_that_went_meanwhile_does_not_bring_it_back() {
        let (table, object) = (Table::new("ours"), named("a"));
        take(&table, Event::Apply, &object);
        take(&table, Event::Delete, &object);
        table.wrote(&object);
        assert!(!is_there(&table));
        // Another of its name is there.
        table.wrote(&named("b"));
        assert!(is_there(&table));
        // It went while nobody watched.
        table.take(Event::Init);
        table.take(Event::InitDone);
        table.wrote(&named("b"));
        assert!(!is_there(&table));
        // An older state of the cluster was restored.
        take(&table, Event::Apply, &object);
        table.wrote(&object);
        assert!(is_there(&table));
        take(&table, Event::Delete, &object);
        table.take(Event::Init);
        take(&table, Event::InitApply, &object);
        table.take(Event::InitDone);
        assert!(is_there(&table) && table.content().gone == [number(&named("b").metadata.uid)]);
    }

    #[test]
    fn only_so_many_objects_that_went_are_remembered() {
        let table = Table::new("ours");
        for number in 0..=GONE {
            take(&table, Event::Delete, &named(&number.to_string()));
        }
        assert_eq!(table.content().gone.len(), GONE);
        table.wrote(&named(&GONE.to_string()));
        assert!(!is_there(&table));
    }
}
