//! Queries as the services read them.

use std::collections::BTreeSet;

/// A query, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    pub fn first(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All values of a key, which are alternatives.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub fn keys(&self) -> BTreeSet<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Whether a value passes the filter of this name, if there is one. Databases compare without case.
    pub fn passes(&self, key: &str, value: &str) -> bool {
        let mut wanted = self.all(key).peekable();
        wanted.peek().is_none() || wanted.any(|wanted| wanted.to_lowercase() == value.to_lowercase())
    }

    /// The same query with other paging.
    pub fn paged(&self, marker: &str) -> String {
        let kept = self.0.iter().filter(|(name, _)| name != "marker");
        url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(kept)
            .append_pair("marker", marker)
            .finish()
    }

    /// The same query from its first page.
    pub fn without_marker(&self) -> String {
        let kept = self.0.iter().filter(|(name, _)| name != "marker");
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish()
    }
}
