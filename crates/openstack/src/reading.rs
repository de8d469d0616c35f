//! How a read is spared that would come to the same as the one before.
//!
//! A read is a function of the answers that it gets: nothing else decides what it asks next, or what it comes to. So if
//! everything that the last one asked is answered as it was then, byte for byte, it need not be made again. Of an answer its
//! digest is kept and compared; nothing of it is parsed.

use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, stream};
use multinic_core::ProjectId;
use multinic_core::config::Selection;
use sha2::{Digest, Sha256};
use url::Url;

use crate::api::Api;
use crate::http::Answer;
use crate::{ReadError, RequestError};

/// How many questions are asked again at once. A server may have a thread for each connection, and few threads.
const ABREAST: usize = 2;

/// What one complete read asked, and how it was answered.
#[derive(Debug)]
pub struct Reading {
    pub(crate) of: Subject,
    pub(crate) asked: Vec<Asked>,
}

/// What a read is about: beside the answers, all that decides what is asked first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub selection: Selection,
    pub project: ProjectId,
    pub neutron: Url,
    pub nova: Url,
}

/// A question with its answer.
#[derive(Debug)]
pub(crate) struct Asked {
    operation: &'static str,
    url: Url,
    /// None where there was none that could come again.
    answer: Option<Told>,
}

/// An answer, as far as it is kept.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// The SHA-256 of the body.
    Body([u8; 32]),
    /// A refusal that the read went on with: a server that Nova does not have.
    Refused(RequestError),
}

impl Told {
    fn of(outcome: &Result<Answer, ReadError>) -> Option<Self> {
        match outcome {
            Ok(answer) => Some(Self::Body(Sha256::digest(&answer.body).into())),
            Err(ReadError::Request(error)) => Some(Self::Refused(error.clone())),
            Err(_) => None,
        }
    }
}

/// Takes down what is asked during one read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<Asked>>>);

impl Record {
    pub fn note(&self, operation: &'static str, url: Url, outcome: &Result<Answer, ReadError>) {
        let answer = Told::of(outcome);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Asked { operation, url, answer });
    }

    /// Everything that was noted.
    pub fn take(&self) -> Vec<Asked> {
        let mut asked = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        asked.shrink_to_fit();
        asked
    }
}

impl Reading {
    /// Whether everything is answered as it was. Ends with the first answer that is another one.
    pub(crate) async fn is_answered_again(&self, api: &Api) -> bool {
        let questions: Vec<_> = self.asked.iter().map(|asked| asked.is_answered_again(api)).collect();
        stream::iter(questions).buffer_unordered(ABREAST).all(ready).await
    }
}

impl Asked {
    async fn is_answered_again(&self, api: &Api) -> bool {
        let Self { operation, url, answer } = self;
        answer.is_some() && Told::of(&api.get(operation, url.clone()).await) == *answer
    }
}
