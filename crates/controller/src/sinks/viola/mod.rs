//! Publishes nodes by POST to the Viola API, which makes the objects in the business clusters.
//!
//! * `settings`: where Viola is.
//! * `exchange`: one request and its answer.

mod exchange;
mod settings;

use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};

use futures_util::{StreamExt as _, stream};
use multinic_core::NodeName;
use secrecy::SecretString;

pub use self::settings::{ViolaArgs, ViolaSettings};

use self::exchange::{Accepted, Exchange, Refusal};
use super::wish::{Results, all_failed};
use super::{Delivery, NodePayload, NodeWish, SinkError};

/// The path of the contract, below the endpoint.
pub const PATH: &str = "v1/k8s/multinic/node-configs";
/// Viola takes 4 MiB; a proxy before it may count headers too.
const LARGEST_REQUEST: usize = 4 * 1024 * 1024 - 64 * 1024;
/// How many tombstones are under way at once.
const CONCURRENCY: usize = 4;
/// How many further requests may be spent on finding the nodes for which a batch was refused.
const SEARCH: usize = 24;

/// Publishes to one Viola.
#[derive(Debug)]
pub struct ViolaSink {
    exchange: Exchange,
    batch: usize,
}

/// A node on its way, as JSON.
struct Item<'a> {
    node: &'a NodeName,
    json: String,
}

impl ViolaSink {
    /// A sink for these settings.
    ///
    /// # Errors
    /// Where the endpoint is no HTTP URL, or the CA file cannot be used.
    pub fn new(settings: ViolaSettings) -> Result<Self, SinkError> {
        let batch = settings.batch.max(1);
        Ok(Self { exchange: Exchange::new(settings)?, batch })
    }

    /// Where it posts to.
    pub fn url(&self) -> &str {
        self.exchange.url()
    }

    /// Delivers every wish, whether it is there already or not: Viola cannot be asked what is there. Nodes with NICs go in
    /// batches, each tombstone in a request of its own. A node for which a batch is refused does not stop the others; where
    /// there is no answer at all, no other request is begun.
    pub async fn deliver<W: Borrow<NodeWish> + Sync>(&self, provider: Option<&str>, wishes: &[W]) -> Results {
        let token = match self.exchange.token() {
            Ok(token) => token,
            Err(error) => return all_failed(wishes, &error),
        };
        let mut results = Vec::with_capacity(wishes.len());
        let mut items = Vec::new();
        let mut tombstones = Vec::new();
        for wish in wishes.iter().map(Borrow::borrow) {
            let node = &wish.config.node;
            match serde_json::to_string(&NodePayload::from(wish).without_what_follows()) {
                Ok(json) if wish.is_tombstone() => tombstones.push(Item { node, json }),
                Ok(json) => items.push(Item { node, json }),
                Err(error) => {
                    results.push((node.clone(), Err(self.exchange.failed(error.to_string(), None))));
                }
            }
        }
        let mut silent: Option<SinkError> = None;
        for batch in batches(items, self.batch) {
            if let Some(error) = &silent {
                results.extend(batch.into_iter().map(|item| (item.node.clone(), Err(error.clone()))));
                continue;
            }
            let before = results.len();
            self.post_batch(provider, token.as_ref(), batch, &mut results).await;
            let mut errors = results.iter().skip(before).filter_map(|(_, result)| result.as_ref().err());
            silent = errors.find(|error| error.is_silence()).cloned();
        }
        if let Some(error) = silent {
            let kept = tombstones.into_iter().map(|item| (item.node.clone(), Err(error.clone())));
            results.extend(kept);
            return results;
        }
        // In a loop: futures that closures make of borrowed items are not known to be `Send`.
        let mut removals = Vec::with_capacity(tombstones.len());
        for item in &tombstones {
            let token = token.as_ref();
            removals
                .push(async move { (item.node.clone(), self.post_tombstone(provider, token, item).await) });
        }
        let mut removals = std::pin::pin!(stream::iter(removals).buffer_unordered(CONCURRENCY));
        while let Some(result) = removals.next().await {
            results.push(result);
        }
        results
    }

    /// Posts a batch. Where it is refused because of what is in it, posts its halves, and theirs, until the nodes are
    /// found that are refused; as far as [`SEARCH`] goes.
    async fn post_batch(
        &self,
        provider: Option<&str>,
        token: Option<&SecretString>,
        batch: Vec<Item<'_>>,
        results: &mut Results,
    ) {
        let mut search = SEARCH;
        let mut waiting = VecDeque::from([batch]);
        while let Some(mut batch) = waiting.pop_front() {
            match self.exchange.post(provider, token, &body(&batch)).await {
                Ok(accepted) => self.settle(batch, &accepted, results),
                Err(refusal) if refusal.is_about_content() && batch.len() > 1 && search >= 2 => {
                    search -= 2;
                    let second = batch.split_off(batch.len() / 2);
                    waiting.push_back(batch);
                    waiting.push_back(second);
                }
                Err(Refusal { error, nodes, .. }) => {
                    for item in batch {
                        let result = match nodes.outcome(item.node.as_str()) {
                            Some(outcome) => {
                                outcome.map_err(|(code, message)| self.refused_node(code, message))
                            }
                            None => Err(error.clone()),
                        };
                        results.push((item.node.clone(), result));
                    }
                }
            }
        }
    }

    fn settle(&self, batch: Vec<Item<'_>>, accepted: &Accepted, results: &mut Results) {
        for item in batch {
            let outcome = accepted.outcome(item.node.as_str()).unwrap_or(Ok(Delivery::Applied));
            let result = outcome.map_err(|(code, message)| self.refused_node(code, message));
            results.push((item.node.clone(), result));
        }
    }

    fn refused_node(&self, code: String, message: String) -> SinkError {
        SinkError::ViolaNode { url: self.url().to_owned(), code, message }
    }

    async fn post_tombstone(
        &self,
        provider: Option<&str>,
        token: Option<&SecretString>,
        item: &Item<'_>,
    ) -> Result<Delivery, SinkError> {
        let kept = |problem: String, status: Option<u16>| SinkError::RemovalNotPropagated {
            node: item.node.clone(),
            url: self.url().to_owned(),
            problem,
            status,
        };
        let json = format!("[{}]", item.json);
        match self.exchange.post(provider, token, &json).await {
            Ok(accepted) => match accepted.outcome(item.node.as_str()) {
                // It was taken; whether the node's object is gone is not said.
                None => Ok(Delivery::Applied),
                Some(Ok(delivery)) => Ok(delivery),
                Some(Err((code, message))) => Err(kept(format!("{code}: {message}"), None)),
            },
            Err(Refusal { problem, status: Some(status), .. }) => Err(kept(problem, Some(status))),
            // Nobody refused anything: there was no answer.
            Err(Refusal { error, .. }) => Err(error),
        }
    }
}

fn body(batch: &[Item<'_>]) -> String {
    let mut body = String::with_capacity(batch.iter().map(|item| item.json.len() + 1).sum::<usize>() + 2);
    body.push('[');
    for (at, item) in batch.iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        body.push_str(&item.json);
    }
    body.push(']');
    body
}

/// Groups of nodes that fit into one request each. A node of a name that is in the group already begins the next: two of
/// them in one request would be refused.
fn batches(items: Vec<Item<'_>>, most: usize) -> Vec<Vec<Item<'_>>> {
    let mut batches: Vec<Vec<Item<'_>>> = Vec::new();
    let mut size = 0;
    let mut names: BTreeMap<&NodeName, ()> = BTreeMap::new();
    for item in items {
        let length = item.json.len() + 1;
        let fits = size + length <= LARGEST_REQUEST && names.len() < most && !names.contains_key(item.node);
        match batches.last_mut().filter(|_| fits) {
            Some(batch) => {
                size += length;
                names.insert(item.node, ());
                batch.push(item);
            }
            None => {
                // The brackets.
                size = length + 1;
                names = BTreeMap::from([(item.node, ())]);
                batches.push(vec![item]);
            }
        }
    }
    batches
}
