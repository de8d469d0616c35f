//! A list to its end, or an error.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use crate::api::{Api, RowId, with_query};
use crate::http::Answer;
use crate::{ReadError, RequestError};

/// More pages than any project has. A list that is still not at its end is being made up.
const MOST_PAGES: usize = 2000;

/// A list to be read in pages.
pub(crate) struct Listing<'a> {
    pub api: &'a Api,
    /// What it is called in metrics.
    pub operation: &'static str,
    /// The key of the rows: `ports`, `servers`, …
    pub collection: &'static str,
    pub url: Url,
    /// How many rows to ask for at once. The server may give fewer.
    pub limit: usize,
}

/// Whether to go on after a page.
pub(crate) enum Next {
    /// To the next one.
    Page,
    /// What was looked for is found.
    Enough,
}

/// A link to another page.
#[derive(Deserialize)]
pub(crate) struct Link {
    rel: String,
    href: String,
}

impl Listing<'_> {
    /// Puts every row (with the URL that it came from) into `state` and asks after each page whether to go on.
    pub async fn read<S>(
        &self,
        state: &mut S,
        mut row: impl FnMut(&mut S, &str, &RawValue) -> Result<(), ReadError>,
        mut after: impl FnMut(&S, usize) -> Next,
    ) -> Result<(), ReadError> {
        let limit = self.limit.to_string();
        let first = with_query(self.url.clone(), [("limit", limit.as_str())]);
        let mut url = first.clone();
        let mut seen = HashSet::new();
        for page in 1..=MOST_PAGES {
            let answer = self.api.get(self.operation, url).await?;
            let (rows, links) = rows_of(self.collection, &answer)?;
            let mut fresh = 0;
            let mut last = None;
            for raw in &rows {
                if let Ok(RowId { id }) = serde_json::from_str(raw.get()) {
                    fresh += usize::from(seen.insert(id.clone().into_owned()));
                    last = Some(id.into_owned());
                }
                row(state, &answer.url, raw)?;
            }
            let next = links.iter().find_map(Link::next);
            // A full page without a link is not the end either: some proxies and older releases drop the links. A page
            // that is larger than asked for comes from a server without paging, which gives everything at once.
            if next.is_none() && rows.len() != self.limit {
                return Ok(());
            }
            if fresh == 0 {
                let problem = "brings nothing new";
                return Err(ReadError::Paging { url: answer.url, page, problem });
            }
            if matches!(after(state, page), Next::Enough) {
                return Ok(());
            }
            // Only the marker is taken from the link: behind a proxy its host and scheme are often wrong.
            let marker = next.flatten().or(last);
            let Some(marker) = marker else {
                let problem = "has no marker for the next";
                return Err(ReadError::Paging { url: answer.url, page, problem });
            };
            url = with_query(first.clone(), [("marker", marker.as_str())]);
        }
        Err(ReadError::Paging {
            url: crate::http::failure::Shown(&first).to_string(),
            page: MOST_PAGES,
            problem: "is not the last",
        })
    }
}

/// The rows of a page, and the links to others.
pub(crate) fn rows_of<'a>(
    collection: &'static str,
    answer: &'a Answer,
) -> Result<(Vec<&'a RawValue>, Vec<Link>), RequestError> {
    let whole: HashMap<String, &RawValue> = answer.json(collection)?;
    let malformed = |reason: String| answer.malformed(collection, reason, &[]);
    let rows = whole.get(collection).ok_or_else(|| malformed(format!("no key {collection:?}")))?;
    let rows = serde_json::from_str(rows.get()).map_err(|error| malformed(error.to_string()))?;
    let links = match whole.get(format!("{collection}_links").as_str()) {
        Some(links) => serde_json::from_str(links.get()).map_err(|error| malformed(error.to_string()))?,
        None => Vec::new(),
    };
    Ok((rows, links))
}

impl Link {
    /// Whether it is that to the next page, and the marker in it.
    pub(crate) fn next(&self) -> Option<Option<String>> {
        (self.rel == "next").then(|| marker(&self.href))
    }
}

/// The marker in the link to the next page, which may be relative.
fn marker(href: &str) -> Option<String> {
    let (_, query) = href.split_once('?')?;
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == "marker")
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_is_read_from_any_form_of_link() {
        let id = "59935012-fc61-492a-bf8d-c2ab9f0585f1";
        for href in
            [format!("http://x/v2.0/ports?limit=2&marker={id}&fields=id"), format!("/v2.0/ports?marker={id}")]
        {
            assert_eq!(marker(&href).as_deref(), Some(id));
        }
        assert_eq!(marker("http://x/v2.0/ports"), None);
    }
}
