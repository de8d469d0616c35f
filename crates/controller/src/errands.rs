//! Work toward others (clouds, clusters, Violas), each piece a task of its own: a turn waits a moment for what is under way,
//! and goes on with what has come. So somebody who answers slowly, or not at all, holds up nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;

/// How long a turn waits. What comes later makes another turn.
pub(crate) const TURN: Duration = Duration::from_secs(2);

/// What is under way, by what it is for (`K`), to whom (`P`), and what comes of it (`T`).
#[derive(Debug)]
pub(crate) struct Errands<K, P, T> {
    tasks: JoinSet<(K, u64, T)>,
    under_way: BTreeMap<K, UnderWay<P>>,
    /// What came while nobody was waiting for it.
    came: Vec<(K, u64, T)>,
    /// To whom the last errand took longer than a turn waits.
    slow: BTreeSet<P>,
    begun: u64,
}

#[derive(Debug)]
struct UnderWay<P> {
    ticket: u64,
    to: P,
    task: AbortHandle,
}

impl<K, P, T> Default for Errands<K, P, T> {
    fn default() -> Self {
        let (under_way, slow) = (BTreeMap::new(), BTreeSet::new());
        Self { tasks: JoinSet::new(), under_way, came: Vec::new(), slow, begun: 0 }
    }
}

impl<K, P, T> Errands<K, P, T>
where
    K: Ord + Clone + Send + 'static,
    P: Ord + Clone,
    T: Send + 'static,
{
    /// Begins an errand. Another for the same that is under way is given up.
    pub fn begin(&mut self, key: K, to: P, errand: impl Future<Output = T> + Send + 'static) {
        self.give_up(&key);
        self.begun += 1;
        let (ticket, name) = (self.begun, key.clone());
        let task = self.tasks.spawn(async move { (name, ticket, errand.await) });
        self.under_way.insert(key, UnderWay { ticket, to, task });
    }

    /// Whether something is under way for this.
    pub fn is_under_way(&self, key: &K) -> bool {
        self.under_way.contains_key(key)
    }

    /// For what something is under way.
    pub fn under_way(&self) -> impl Iterator<Item = &K> {
        self.under_way.keys()
    }

    /// Gives up what nobody wants any more.
    pub fn retain(&mut self, wanted: impl Fn(&K) -> bool) {
        let unwanted: Vec<K> = self.under_way.keys().filter(|key| !wanted(key)).cloned().collect();
        unwanted.iter().for_each(|key| self.give_up(key));
    }

    fn give_up(&mut self, key: &K) {
        if let Some(under_way) = self.under_way.remove(key) {
            under_way.task.abort();
        }
    }

    /// What has come.
    pub fn take(&mut self) -> Vec<(K, T)> {
        while let Some(joined) = self.tasks.try_join_next() {
            self.came.extend(finished(joined));
        }
        let mut taken = Vec::new();
        for (key, ticket, result) in std::mem::take(&mut self.came) {
            // Another one may have been begun since.
            if self.under_way.get(&key).is_some_and(|under_way| under_way.ticket == ticket)
                && let Some(UnderWay { to, .. }) = self.under_way.remove(&key)
            {
                self.slow.remove(&to);
                taken.push((key, result));
            }
        }
        taken
    }

    /// What has come; waits for the rest, but no longer than `patience`, and not for those who were slow the last time.
    /// Without a limit it waits for everything.
    pub async fn collect(&mut self, patience: Option<Duration>) -> Vec<(K, T)> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut collected = Vec::new();
        loop {
            collected.extend(self.take());
            let is_awaited = |errand: &UnderWay<P>| patience.is_none() || !self.slow.contains(&errand.to);
            if !self.under_way.values().any(is_awaited) {
                return collected;
            }
            let next = self.tasks.join_next();
            let joined = match deadline {
                None => next.await,
                Some(deadline) => match tokio::time::timeout_at(deadline, next).await {
                    Ok(joined) => joined,
                    Err(_) => {
                        self.slow.extend(self.under_way.values().map(|errand| errand.to.clone()));
                        return collected;
                    }
                },
            };
            self.came.extend(joined.and_then(finished));
        }
    }

    /// Returns when something comes that nobody waits for. What came before that and was not taken is no news.
    pub async fn come(&mut self) {
        loop {
            match self.tasks.join_next().await.map(finished) {
                Some(Some(news)) => return self.came.push(news),
                // It was given up.
                Some(None) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// None for what was given up.
fn finished<R>(joined: Result<R, JoinError>) -> Option<R> {
    match joined {
        Ok(result) => Some(result),
        Err(error) if error.is_cancelled() => None,
        // As if there were no task.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    type Plain = Errands<u8, &'static str, &'static str>;

    const MOMENT: Option<Duration> = Some(Duration::from_millis(1));
    const LONG: Option<Duration> = Some(Duration::from_secs(60));

    #[tokio::test]
    async fn who_is_slow_is_waited_for_once() {
        let mut errands = Plain::default();
        let (answer, answered) = oneshot::channel();
        errands.begin(1, "slow", async { answered.await.unwrap() });
        assert_eq!(errands.collect(MOMENT).await, []);
        errands.begin(2, "prompt", async { "at once" });
        // However long it would wait: nobody waits for the slow one a second time.
        assert_eq!(errands.collect(LONG).await, [(2, "at once")]);
        assert!(errands.is_under_way(&1));
        answer.send("late").unwrap();
        errands.come().await;
        assert_eq!(errands.take(), [(1, "late")]);
        assert_eq!(errands.under_way().count(), 0);
        let (answer, answered) = oneshot::channel();
        errands.begin(1, "slow", async { answered.await.unwrap() });
        let sender = tokio::spawn(async { answer.send("prompt again").unwrap() });
        assert_eq!(errands.collect(LONG).await, [(1, "prompt again")]);
        sender.await.unwrap();
    }

    #[tokio::test]
    async fn without_a_limit_everything_is_waited_for() {
        let mut errands = Plain::default();
        let (answer, answered) = oneshot::channel();
        errands.begin(1, "slow", async { answered.await.unwrap() });
        assert_eq!(errands.collect(MOMENT).await, []);
        let sender = tokio::spawn(async { answer.send("late").unwrap() });
        assert_eq!(errands.collect(None).await, [(1, "late")]);
        sender.await.unwrap();
    }

    #[tokio::test]
    async fn a_new_errand_takes_the_place_of_an_old_one() {
        let mut errands = Plain::default();
        errands.begin(1, "them", async { "old" });
        tokio::task::yield_now().await;
        errands.begin(1, "them", async { "new" });
        errands.begin(2, "them", std::future::pending());
        errands.retain(|key| *key == 1);
        assert_eq!(errands.collect(LONG).await, [(1, "new")]);
    }
}
