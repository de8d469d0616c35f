//! The node's object as it is now: one object is watched, by its name.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use kube::Api;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::access::{RequestError, chain, limited};
use super::object::NodeObject;

/// How long the first list may take.
const FIRST_LIMIT: Duration = Duration::from_secs(15);

/// What the watch shows.
#[derive(Debug, Clone, Default)]
struct Sight {
    /// None: nothing was listed yet. Some(None): there is no such object.
    object: Option<Option<Arc<NodeObject>>>,
    /// Since when nothing is known: why the watch does not go on.
    broken: Option<String>,
}

impl Sight {
    /// Takes in a state of the object; returns whether there is anything to do about it.
    fn show(&mut self, object: Option<DynamicObject>) -> bool {
        let object = object.map(|object| Arc::new(NodeObject::new(object)));
        let mended = self.broken.take().is_some();
        let same = match (&self.object, &object) {
            (Some(Some(before)), Some(now)) => before.asks_the_same(now),
            (Some(None), None) => true,
            _ => false,
        };
        self.object = Some(object);
        mended || !same
    }
}

/// The node's object.
#[derive(Debug)]
pub struct Watched {
    api: Api<DynamicObject>,
    name: String,
    sight: watch::Sender<Sight>,
    news: watch::Receiver<Sight>,
    task: AbortHandle,
}

/// Tells when there is something new to be read.
#[derive(Debug)]
pub struct WatchedNews(watch::Receiver<Sight>);

impl WatchedNews {
    /// Returns when something happened since it returned last. Nothing is lost if this is dropped while it waits.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Watched {
    /// Begins to watch.
    pub fn start(api: Api<DynamicObject>, name: String) -> Self {
        let (sight, news) = watch::channel(Sight::default());
        let task = tokio::spawn(follow(api.clone(), name.clone(), sight.clone())).abort_handle();
        Self { api, name, sight, news, task }
    }

    /// What tells of changes after what was read so far.
    pub fn news(&self) -> WatchedNews {
        WatchedNews(self.news.clone())
    }

    /// The object as it is now; none where there is no such object. While the watch does not go on, it is asked for.
    pub async fn read(&mut self) -> Result<Option<Arc<NodeObject>>, RequestError> {
        let known = |sight: &Sight| sight.object.is_some() || sight.broken.is_some();
        let sight = match tokio::time::timeout(FIRST_LIMIT, self.news.wait_for(known)).await {
            Ok(Ok(sight)) => sight.clone(),
            Ok(Err(_)) | Err(_) => {
                let text = format!("nothing was listed within {FIRST_LIMIT:?}");
                return Err(RequestError { code: None, text });
            }
        };
        if let (Some(object), None) = (sight.object, sight.broken) {
            return Ok(object);
        }
        let found = limited(self.api.get_opt(&self.name)).await?;
        self.sight.send_if_modified(|sight| {
            // A watch that goes on again knows better.
            if sight.broken.is_some() {
                sight.show(found);
            }
            false
        });
        Ok(self.sight.borrow().object.clone().flatten())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(api: Api<DynamicObject>, name: String, sight: watch::Sender<Sight>) {
    let config = Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher(api, config).default_backoff();
    pin_mut!(events);
    let mut listed = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = None,
            Ok(Event::InitApply(object)) => listed = Some(object),
            Ok(Event::InitDone) => {
                let object = listed.take();
                sight.send_if_modified(|sight| sight.show(object));
            }
            Ok(Event::Apply(object)) => {
                sight.send_if_modified(|sight| sight.show(Some(object)));
            }
            Ok(Event::Delete(_)) => {
                sight.send_if_modified(|sight| sight.show(None));
            }
            Err(error) => {
                let text = chain(&error);
                tracing::debug!(error = text, "the watch of the node's object is interrupted");
                sight.send_if_modified(|sight| sight.broken.replace(text).is_none());
            }
        }
    }
}
