//! Objects by their ids, many in one request.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use multinic_core::ids::Interner;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Neutron;
use super::chunks::chunks;
use crate::ReadError;
use crate::api::{at, with_query};
use crate::paging::{Listing, Next};

const PAGE: usize = 1000;
const ABREAST: usize = 8;

/// A kind of object.
pub(crate) struct Kind<T> {
    /// What a list is called in metrics.
    pub listed: &'static str,
    /// What one object is called in metrics.
    pub single: &'static str,
    /// The key of the list and the path: `subnets`.
    pub collection: &'static str,
    /// The key of one object: `subnet`.
    pub object: &'static str,
    /// How Neutron calls its absence: `SubnetNotFound`.
    pub absence: &'static str,
    pub fields: &'static [(&'static str, &'static str)],
    /// A row as a value, with its id.
    pub parse: fn(&str, &mut Interner) -> Result<T, serde_json::Error>,
    pub id: fn(&T) -> &str,
}

impl Neutron<'_> {
    /// The objects of these ids, and the ids that Neutron, asked for each by itself, does not know.
    pub(super) async fn read_by_ids<T>(
        &self,
        kind: &Kind<T>,
        ids: &[&str],
    ) -> Result<(BTreeMap<String, T>, Vec<String>), ReadError> {
        let parts: Vec<Vec<&str>> =
            chunks("id", ids, kind.fields).into_iter().map(<[&str]>::to_vec).collect();
        let read: Vec<_> = parts.into_iter().map(|part| self.read_chunk(kind, part)).collect();
        let parts: Vec<Vec<T>> = stream::iter(read).buffered(ABREAST).try_collect().await?;
        let mut found: BTreeMap<String, T> =
            parts.into_iter().flatten().map(|object| ((kind.id)(&object).to_owned(), object)).collect();
        let mut absent = Vec::new();
        // A list that lacks a row is no proof of anything.
        for id in ids.iter().filter(|id| !found.contains_key(**id)).copied().collect::<Vec<_>>() {
            match self.read_by_id(kind, id).await? {
                Some(object) => drop(found.insert(id.to_owned(), object)),
                None => absent.push(id.to_owned()),
            }
        }
        Ok((found, absent))
    }

    async fn read_chunk<T>(&self, kind: &Kind<T>, ids: Vec<&str>) -> Result<Vec<T>, ReadError> {
        let pairs = ids.iter().map(|id| ("id", *id)).chain(kind.fields.iter().copied());
        let listing = Listing {
            api: self.api,
            operation: kind.listed,
            collection: kind.collection,
            url: with_query(at(&self.base, [kind.collection]), pairs),
            limit: PAGE,
        };
        let mut objects = Vec::new();
        let row = |objects: &mut Vec<T>, url: &str, raw: &RawValue| {
            // A row that can't be read is missing, and asked for by itself, which then says what is wrong with it.
            if let Ok(object) = (kind.parse)(raw.get(), &mut self.interner()) {
                if !ids.contains(&(kind.id)(&object)) {
                    return Err(ReadError::unasked(url, format!("{} {}", kind.object, (kind.id)(&object))));
                }
                objects.push(object);
            }
            Ok(())
        };
        listing.read(&mut objects, row, |_, _| Next::Page).await?;
        Ok(objects)
    }

    /// One object; none if Neutron itself says that there is none.
    pub(super) async fn read_by_id<T>(&self, kind: &Kind<T>, id: &str) -> Result<Option<T>, ReadError> {
        let url = with_query(at(&self.base, [kind.collection, id]), kind.fields.iter().copied());
        let answer = match self.api.get(kind.single, url).await {
            Err(ReadError::Request(error)) if error.is_absence(kind.absence) => return Ok(None),
            outcome => outcome?,
        };
        let malformed = |reason: String| ReadError::from(answer.malformed(kind.object, reason, &[]));
        let whole: std::collections::HashMap<String, &RawValue> = answer.json(kind.object)?;
        let raw = whole.get(kind.object).ok_or_else(|| malformed(format!("no key {:?}", kind.object)))?;
        let object =
            (kind.parse)(raw.get(), &mut self.interner()).map_err(|error| malformed(error.to_string()))?;
        if (kind.id)(&object) != id {
            return Err(ReadError::unasked(&answer.url, format!("{} {}", kind.object, (kind.id)(&object))));
        }
        Ok(Some(object))
    }
}

/// Parses one of the rows of a kind.
pub(super) fn row<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text)
}
