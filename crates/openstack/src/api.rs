//! An authorised request to Neutron or Nova.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use crate::ReadError;
use crate::http::failure::Shown;
use crate::http::{Answer, Ask, Http};
use crate::identity::Identity;
use crate::reading::Record;

/// The longest query. Beyond 4 KB of request line and headers (a token takes some of it) uWSGI, in front of Neutron in
/// many clouds, answers 200 without having seen the query.
pub(crate) const LONGEST_QUERY: usize = 1600;

/// Requests with a token.
#[derive(Clone)]
pub(crate) struct Api {
    pub http: Http,
    pub identity: Arc<Identity>,
    /// Where it is taken down what is asked, if it is.
    pub record: Option<Record>,
}

impl Api {
    /// Asks with the current token, and once more with a new one if that was refused.
    pub async fn get(&self, operation: &'static str, url: Url) -> Result<Answer, ReadError> {
        let outcome = self.ask(operation, &url).await;
        if let Some(record) = &self.record {
            record.note(operation, url, &outcome);
        }
        outcome
    }

    async fn ask(&self, operation: &'static str, url: &Url) -> Result<Answer, ReadError> {
        let length = url.query().map_or(0, str::len);
        if length > LONGEST_QUERY {
            let url = Shown(url).to_string();
            return Err(ReadError::QueryTooLong { url, length, limit: LONGEST_QUERY });
        }
        let session = self.identity.session(None).await.map_err(session_error)?;
        let ask = |token| Ask { operation, url: url.clone(), token: Some(token), body: None, secrets: &[] };
        match self.http.send(&ask(&session.token)).await {
            Err(error) if error.status() == Some(401) => {
                let session =
                    self.identity.session(Some(session.generation())).await.map_err(session_error)?;
                Ok(self.http.send(&ask(&session.token)).await?)
            }
            outcome => Ok(outcome?),
        }
    }
}

fn session_error(error: crate::CloudError) -> ReadError {
    ReadError::Session(Box::new(error))
}

/// The URL of a collection or an object below a base.
pub(crate) fn at<const N: usize>(base: &Url, path: [&str; N]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// A URL with a query.
pub(crate) fn with_query<'a>(mut url: Url, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Url {
    url.query_pairs_mut().extend_pairs(pairs);
    url
}

/// Any row: its id, if it has a readable one.
#[derive(Deserialize)]
pub(crate) struct RowId<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
}
