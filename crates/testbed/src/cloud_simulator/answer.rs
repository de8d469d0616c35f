//! Answers before they are sent, and how lists are cut into pages.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::faults::Twist;
use super::query::Query;
use super::uuid::Uuid;

/// A status and a body.
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Value,
}

impl Answer {
    pub fn ok(body: Value) -> Self {
        Self::with(200, body)
    }

    pub fn with(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// Neutron's errors.
    pub fn neutron(status: u16, kind: &str, message: &str) -> Self {
        Self::with(status, json!({"NeutronError": {"type": kind, "message": message, "detail": ""}}))
    }

    /// Nova's errors, named by their key.
    pub fn nova(status: u16, key: &str, message: &str) -> Self {
        Self::with(status, json!({ key: {"code": status, "message": message} }))
    }

    /// The one body of everything that is wrong with credentials or tokens.
    pub fn unauthorized(base: &str) -> Self {
        let message = "The request you have made requires authentication.";
        let mut answer =
            Self::with(401, json!({"error": {"code": 401, "title": "Unauthorized", "message": message}}));
        answer.headers.push(("www-authenticate", format!("Keystone uri=\"{base}/v3\"")));
        answer
    }
}

/// One row with the fields that were asked for.
pub(super) struct Row<'a> {
    fields: &'a BTreeSet<&'a str>,
    map: Map<String, Value>,
}

impl<'a> Row<'a> {
    /// No fields: all of them.
    pub fn new(fields: &'a BTreeSet<&'a str>) -> Self {
        Self { fields, map: Map::new() }
    }

    pub fn put<V: Into<Value>>(&mut self, name: &str, value: impl FnOnce() -> V) -> &mut Self {
        if self.fields.is_empty() || self.fields.contains(name) {
            self.map.insert(name.to_owned(), value().into());
        }
        self
    }

    pub fn finish(self, distortion: Option<&Map<String, Value>>) -> Value {
        let Self { fields, mut map } = self;
        for (name, value) in distortion.into_iter().flatten() {
            if fields.is_empty() || fields.contains(name.as_str()) {
                map.insert(name.clone(), value.clone());
            }
        }
        Value::Object(map)
    }
}

/// A collection that is asked for.
pub(super) struct Collection<'a> {
    /// `ports`, `servers`, …
    pub name: &'static str,
    /// Its URL without a query.
    pub url: String,
    pub query: &'a Query,
    pub twist: Twist,
    /// The service's own limit of a page.
    pub most: Option<usize>,
}

impl Collection<'_> {
    /// The page that was asked for, of these ids in order. `absent` is the answer to a marker that is none of them.
    pub fn page(
        &self,
        ids: Vec<Uuid>,
        row: impl FnMut(Uuid) -> Value,
        absent: impl FnOnce(&str) -> Answer,
        bad_limit: impl FnOnce(&str) -> Answer,
    ) -> Answer {
        let limit = match self.query.first("limit").map(|text| (text, text.parse::<usize>())) {
            Some((text, Err(_))) => return bad_limit(text),
            Some((_, Ok(0))) | None => None,
            Some((_, Ok(limit))) => Some(limit),
        };
        let limit = match (limit, self.most) {
            (Some(limit), Some(most)) => Some(limit.min(most)),
            (limit, most) => limit.or(most),
        };
        let start = match self.query.first("marker") {
            None => 0,
            Some(marker) => {
                let id = marker.parse::<Uuid>().ok();
                match id.and_then(|id| ids.iter().position(|other| *other == id)) {
                    Some(at) => at + 1,
                    None => return absent(marker),
                }
            }
        };
        let page: Vec<Uuid> = ids.into_iter().skip(start).take(limit.unwrap_or(usize::MAX)).collect();
        let full = limit.is_some_and(|limit| page.len() == limit);
        let next = page.last().filter(|_| full && !self.twist.no_next_link).map(|last| {
            json!({"rel": "next", "href": format!("{}?{}", self.url, self.query.paged(&last.to_string()))})
        });
        let mut rows: Vec<Value> = page.into_iter().map(row).collect();
        rows.truncate(if self.twist.empty { 0 } else { rows.len().saturating_sub(self.twist.lacking) });
        let mut body = Map::from_iter([(self.name.to_owned(), Value::Array(rows))]);
        if let Some(next) = next {
            body.insert(format!("{}_links", self.name), Value::Array(vec![next]));
        }
        Answer::ok(Value::Object(body))
    }
}
