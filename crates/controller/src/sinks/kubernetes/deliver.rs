//! A delivery: each wish is compared with what is there, and what differs is written.

use std::borrow::Borrow;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kube::Resource as _;
use multinic_api::MultiNicNodeConfig;
use multinic_core::NodeName;

use super::KubernetesSink;
use super::ledger::{Guarded, Ledger, Mark};
use super::object::{self, Content};
use super::table::Wanted;
use super::writer::Removal;
use crate::sinks::wish::{Results, all_failed};
use crate::sinks::{Delivery, NodeWish, SinkError};

/// How many writes are under way at once.
const CONCURRENCY: usize = 16;

/// What comparing a wish with what is there came to.
enum Compared {
    Met(Delivery),
    Do(Act),
}

/// What is to be done.
enum Act {
    Apply {
        object: Box<MultiNicNodeConfig>,
        look: bool,
    },
    /// The object that is there is ahead of the ledger.
    Weigh {
        object: Box<MultiNicNodeConfig>,
        fingerprint: u64,
    },
    Delete,
}

impl KubernetesSink {
    /// Whether a node is there as it is to be, as far as the watch and what was last wanted tell. Nothing is asked.
    pub fn has(&self, wish: &NodeWish, ledger: &Ledger) -> bool {
        let (fingerprint, mark) = (wish.fingerprint(), ledger.mark());
        let known = |wanted: &Wanted| {
            wanted.fingerprint == fingerprint && wanted.mark.is_some_and(|named| named.is_covered_by(mark))
        };
        !wish.is_tombstone()
            && self.table.is_read().is_ok()
            && self.table.with(wish.config.node.as_str(), |seen, wanted| {
                wanted.is_some_and(|wanted| known(wanted) && wanted.is_met(seen))
            })
    }

    /// Delivers each wish that is not yet as it should be. One node's failure is its own; but where a write has no answer at
    /// all, no other is begun. What the ledger may not know is not removed: see [`super::ledger`].
    pub async fn deliver<W: Borrow<NodeWish> + Sync>(&self, wishes: &[W], ledger: &Ledger) -> Results {
        if let Err(problem) = self.table.is_read() {
            let problem = problem.unwrap_or_else(|| "the first list is under way".to_owned());
            let error = SinkError::NotRead { place: self.place.clone(), problem };
            return all_failed(wishes, &error);
        }
        let mut results = Vec::with_capacity(wishes.len());
        let mut wishes = wishes.iter().map(Borrow::borrow);
        let mut under_way = FuturesUnordered::new();
        let mut silent: Option<SinkError> = None;
        loop {
            // An object is made when it is sent: those of a whole fleet together would be most of the memory.
            while under_way.len() < CONCURRENCY {
                let Some(wish) = wishes.next() else { break };
                let node = &wish.config.node;
                match (self.compare(wish, ledger), &silent) {
                    (Ok(Compared::Met(delivery)), _) => results.push((node.clone(), Ok(delivery))),
                    (Err(error), _) => results.push((node.clone(), Err(error))),
                    (Ok(Compared::Do(_)), Some(error)) => results.push((node.clone(), Err(error.clone()))),
                    (Ok(Compared::Do(act)), None) => under_way.push(self.carry_out(node, act, ledger)),
                }
            }
            match under_way.next().await {
                Some((node, result)) => {
                    silent = silent.or_else(|| result.as_ref().err().filter(|it| it.is_silence()).cloned());
                    results.push((node, result));
                }
                None => return results,
            }
        }
    }

    async fn carry_out(
        &self,
        node: &NodeName,
        act: Act,
        ledger: &Ledger,
    ) -> (NodeName, Result<Delivery, SinkError>) {
        let result = match act {
            Act::Apply { object, look } => self.apply(&object, look).await,
            Act::Weigh { object, fingerprint } => self.weigh(node, *object, fingerprint, ledger).await,
            Act::Delete => self.remove(node, ledger).await,
        };
        (node.clone(), result)
    }

    fn compare(&self, wish: &NodeWish, ledger: &Ledger) -> Result<Compared, SinkError> {
        let node = wish.config.node.as_str();
        let fingerprint = wish.fingerprint();
        let mark = ledger.mark();
        if self.has(wish, ledger) {
            return Ok(Compared::Met(Delivery::Unchanged));
        }
        if wish.is_tombstone() {
            self.table.want(node, Wanted { fingerprint, content: None, mark: None });
            return Ok(self.table.with(node, |seen, _| match seen {
                Some(seen) if seen.ours && seen.deleting => Compared::Met(Delivery::Releasing),
                Some(seen) if seen.ours => Compared::Do(Act::Delete),
                // What others wrote is not what we published for the node.
                Some(_) | None => Compared::Met(Delivery::Unchanged),
            }));
        }
        let mut object = object::wanted(wish, &self.objects.namespace)?;
        ledger.sign(&mut object);
        let content = Content::of(&object);
        let wanted = Wanted { fingerprint, content: Some(content), mark: Some(mark) };
        let (compared, wanted) = self.table.with(node, |seen, _| match seen {
            Some(seen) if seen.is_ahead_of(mark) => {
                let same = seen.content.is_some_and(|is| is.satisfies(content));
                // It goes on naming its own ledger.
                let wanted = Wanted { mark: seen.mark, ..wanted };
                match same && !ledger.is_fresh(wish.owners.values()) {
                    true => (Compared::Met(Delivery::Unchanged), wanted),
                    false => (Compared::Do(Act::Weigh { object: Box::new(object), fingerprint }), wanted),
                }
            }
            // The agent takes the NICs away and lets the object go; then there is a new one.
            Some(seen) if seen.deleting => (Compared::Met(Delivery::Releasing), wanted),
            seen if wanted.is_met(seen) => (Compared::Met(Delivery::Unchanged), wanted),
            seen => {
                let look = seen.is_some_and(|seen| seen.shared);
                (Compared::Do(Act::Apply { object: Box::new(object), look }), wanted)
            }
        });
        self.table.want(node, wanted);
        Ok(compared)
    }

    async fn apply(&self, object: &MultiNicNodeConfig, look: bool) -> Result<Delivery, SinkError> {
        let applied = self.writer.apply(object, look).await?;
        self.table.wrote(&applied);
        Ok(Delivery::Applied)
    }

    /// Brings an object up to what is wanted that was written from another ledger or a newer state of this one.
    async fn weigh(
        &self,
        node: &NodeName,
        wanted: MultiNicNodeConfig,
        fingerprint: u64,
        ledger: &Ledger,
    ) -> Result<Delivery, SinkError> {
        let there = self.writer.get(node.as_str()).await?;
        let Some(there) = there.filter(|there| self.writer.wrote(there)) else {
            return self.apply(&wanted, true).await;
        };
        if there.meta().deletion_timestamp.is_some() {
            return Ok(Delivery::Releasing);
        }
        let Guarded { object, kept, owners } = ledger.guard(&there, wanted);
        let (content, mark) = (Content::of(&object), Mark::of(object.meta()));
        self.table.want(node.as_str(), Wanted { fingerprint, content: Some(content), mark });
        let same = Content::of(&there).satisfies(content) && Mark::of(there.meta()) == mark;
        let done = if same { Delivery::Unchanged } else { self.apply(&object, true).await? };
        if kept.is_empty() { Ok(done) } else { Err(ledger.stale(node, &there, &kept, owners)) }
    }

    async fn remove(&self, node: &NodeName, ledger: &Ledger) -> Result<Delivery, SinkError> {
        if self.table.with(node.as_str(), |seen, _| seen.is_some_and(|it| it.is_ahead_of(ledger.mark())))
            && let Some(there) = self.writer.get(node.as_str()).await?
        {
            ledger.may_go(node, &there)?;
        }
        let removal = self.writer.delete(node.as_str(), |object| self.writer.wrote(object)).await?;
        Ok(match removal {
            Removal::Absent | Removal::Gone => Delivery::Removed,
            Removal::Releasing => Delivery::Releasing,
        })
    }
}
