//! What a request asks for: filters, and which part of a list.

use axum::extract::Query;
use axum::http::Uri;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use multinic_store::inventory::{Filter, MAX_PAGE, RecordKey};

use super::refusal::Refusal;

/// The parameters of every list. Unknown ones have no effect; of one that is given twice, the first counts, as it did in
/// the older program.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) filter: Filter,
    /// None: everything.
    pub(super) limit: Option<u32>,
    pub(super) after: Option<RecordKey>,
    /// The parameters without `continue`, for the address of the next page.
    rest: Vec<(String, String)>,
}

impl Wanted {
    pub(super) fn of(uri: &Uri) -> Result<Self, Refusal> {
        let pairs: Query<Vec<(String, String)>> =
            Query::try_from_uri(uri).map_err(|error| Refusal::Bad(error.body_text()))?;
        let pairs = pairs.0;
        let first = |name: &str| {
            let found = pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim());
            found.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let limit = first("limit").map(|text| match text.parse() {
            Ok(limit @ 1..=MAX_PAGE) => Ok(limit),
            _ => Err(Refusal::Bad(format!("limit: {text:?} is not a number from 1 to {MAX_PAGE}"))),
        });
        let limit = limit.transpose()?;
        let after = first("continue").map(|token| {
            key_of(&token).ok_or_else(|| Refusal::Bad("continue is not a token of this list".to_owned()))
        });
        let after = after.transpose()?;
        let filter = Filter {
            provider_id: first("providerId"),
            node_name: first("nodeName"),
            instance_id: first("instanceId"),
        };
        // Who goes on goes on in pages.
        let limit = limit.or(after.is_some().then_some(MAX_PAGE));
        let rest = pairs.into_iter().filter(|(key, _)| key != "continue").collect();
        Ok(Self { filter, limit, after, rest })
    }

    /// The address of the page after this record, and the token alone.
    pub(super) fn next(&self, path: &str, last: &RecordKey) -> (String, String) {
        let token = token_of(last);
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.rest).append_pair("continue", &token);
        (format!("{path}?{}", query.finish()), token)
    }
}

fn token_of(key: &RecordKey) -> String {
    let RecordKey { provider_id, node_name } = key;
    URL_SAFE_NO_PAD.encode(serde_json::json!([provider_id, node_name]).to_string())
}

fn key_of(token: &str) -> Option<RecordKey> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (provider_id, node_name) = serde_json::from_slice(&bytes).ok()?;
    Some(RecordKey { provider_id, node_name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_its_record() {
        let key = RecordKey { provider_id: "p \"1\"".into(), node_name: "nöde".into() };
        assert_eq!(key_of(&token_of(&key)), Some(key));
        for wrong in ["", "x", "e30", "WyJhIl0"] {
            assert_eq!(key_of(wrong), None, "{wrong}");
        }
    }
}
