//! What was asked, for those who count.

use std::collections::VecDeque;

/// How many requests are kept; the counters go on.
const KEPT: usize = 2048;

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query, as it arrived.
    pub query: String,
    /// The status of the answer; none if there was no answer (yet).
    pub status: Option<u16>,
}

/// The latest requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    latest: VecDeque<Request>,
    total: u64,
}

impl Requests {
    /// Notes a request and gives the number under which [`Self::answered`] finds it.
    pub fn arrived(&mut self, method: &str, path: &str, query: &str) -> u64 {
        if self.latest.len() == KEPT {
            self.latest.pop_front();
        }
        let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
        self.latest.push_back(Request { method, path, query, status: None });
        self.total += 1;
        self.total
    }

    pub fn answered(&mut self, number: u64, status: u16) {
        let back = usize::try_from(self.total - number).ok();
        let at = back.and_then(|back| self.latest.len().checked_sub(back + 1));
        if let Some(request) = at.and_then(|at| self.latest.get_mut(at)) {
            request.status = Some(status);
        }
    }

    pub fn list(&self) -> Vec<Request> {
        self.latest.iter().cloned().collect()
    }

    pub fn total(&self) -> u64 {
        self.total
    }
}
