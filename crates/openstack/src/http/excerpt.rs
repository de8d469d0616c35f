//! What a server said beside the status: enough for a person to see who answered, and never a secret.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// How much of a body an error shows.
const LENGTH: usize = 200;

/// The readable part of an error's body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Excerpt {
    /// About the first 200 characters, in one line, without markup.
    pub text: String,
    /// The body is an HTML page: a proxy or a wrong port answered, not the API.
    pub html: bool,
    /// The API's own name of the error: `PortNotFound` of a `NeutronError`, `itemNotFound` of Nova. Only the service
    /// itself says one, so an answer without it proves nothing.
    pub kind: Option<String>,
}

impl Excerpt {
    /// Reads a body. Texts of `secrets` are blotted out: Keystone quotes the whole request when it finds it malformed.
    pub(crate) fn of(content_type: Option<&str>, body: &[u8], secrets: &[&SecretString]) -> Self {
        let text = String::from_utf8_lossy(body);
        let trimmed = text.trim_start();
        let html = content_type.is_some_and(|kind| kind.contains("html")) || trimmed.starts_with('<');
        let (kind, text) = if html {
            (None, without_markup(trimmed))
        } else {
            match serde_json::from_slice(body) {
                Ok(value) => said(&value).unwrap_or_else(|| (None, trimmed.to_owned())),
                Err(_) => (None, trimmed.to_owned()),
            }
        };
        let readable = |text| shorten(&blotted(text, secrets));
        Self { text: readable(text), html, kind: kind.map(readable) }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, html, kind } = self;
        if *html {
            f.write_str("an HTML page, probably a proxy's: ")?;
        }
        if let Some(kind) = kind {
            write!(f, "{kind}: ")?;
        }
        f.write_str(if text.is_empty() { "an empty body" } else { text })
    }
}

/// The three shapes of errors: `{"NeutronError": {"type", "message"}}`, `{"error": {"message"}}` of Keystone and its
/// middleware, and Nova's `{"itemNotFound": {"message"}}`, where the key is the name.
fn said(value: &Value) -> Option<(Option<String>, String)> {
    let (key, inner) = value.as_object()?.iter().next()?;
    let message = inner.get("message")?.as_str()?;
    let kind = match key.as_str() {
        "NeutronError" => inner.get("type").and_then(Value::as_str).map(str::to_owned),
        "error" => None,
        other => Some(other.to_owned()),
    };
    // The lines after the first are the schema that was violated, and then the instance: our request.
    Some((kind, message.lines().next().unwrap_or_default().to_owned()))
}

/// The text of an HTML page, also of a broken one.
pub fn without_markup(page: &str) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some(open) = rest.find('<') {
        let (before, tag) = rest.split_at(open);
        text.push_str(before);
        text.push(' ');
        let closing = ["style", "script"]
            .into_iter()
            .find(|name| tag.get(1..=name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)));
        let end = match closing {
            Some(name) => tag.find(&format!("</{name}")).unwrap_or(tag.len()),
            None => tag.find('>').map_or(tag.len(), |at| at + 1),
        };
        rest = tag.get(end..).unwrap_or_default();
    }
    text.push_str(rest);
    text
}

/// A text without any of these secrets, as they are or as JSON writes them.
pub fn blotted(mut text: String, secrets: &[&SecretString]) -> String {
    for secret in secrets {
        let secret = secret.expose_secret();
        let escaped = serde_json::to_string(secret).unwrap_or_default();
        for form in [secret, escaped.trim_matches('"')] {
            if !form.is_empty() && text.contains(form) {
                text = text.replace(form, "[secret]");
            }
        }
    }
    text
}

fn shorten(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if let Some((cut, _)) = line.char_indices().nth(LENGTH) {
            line.truncate(cut);
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(kind: &str, body: &str) -> Excerpt {
        Excerpt::of(Some(kind), body.as_bytes(), &[])
    }

    #[test]
    fn the_services_own_names_of_errors_are_kept() {
        let neutron = r#"{"NeutronError": {"type": "PortNotFound", "message": "Port x.", "detail": ""}}"#;
        assert_eq!(excerpt("application/json", neutron).to_string(), "PortNotFound: Port x.");
        let nova = r#"{"itemNotFound": {"code": 404, "message": "Instance x."}}"#;
        assert_eq!(excerpt("application/json", nova).kind.as_deref(), Some("itemNotFound"));
        let keystone = r#"{"error": {"code": 401, "title": "Unauthorized", "message": "Who?"}}"#;
        assert_eq!(excerpt("application/json", keystone).to_string(), "Who?");
    }

    #[test]
    fn the_name_of_an_error_is_one_line_without_a_secret_too() {
        let secret = SecretString::from("pass word");
        let name = format!("pass word\n{}", "x".repeat(300));
        let body = serde_json::json!({ name: {"message": "no"} }).to_string();
        let shown = Excerpt::of(None, body.as_bytes(), &[&secret]).to_string();
        assert!(shown.starts_with("[secret] xxx") && shown.ends_with("…: no"), "{shown}");
    }

    #[test]
    fn a_page_is_flagged_and_loses_its_markup() {
        let page = "<html><style>b {}</style><body>\n<h1>503 Service</h1> Unavailable</body>";
        let read = excerpt("text/html", page);
        assert_eq!(read.to_string(), "an HTML page, probably a proxy's: 503 Service Unavailable");
        assert!(excerpt("", page).html);
        assert!(excerpt("text/html", "<scr<script").html);
    }

    #[test]
    fn a_long_body_is_cut_and_an_empty_one_is_named() {
        assert_eq!(excerpt("", &"é".repeat(1000)).text.chars().count(), LENGTH + 1);
        assert_eq!(excerpt("", "").to_string(), "an empty body");
    }

    #[test]
    fn a_quoted_request_loses_its_secret() {
        let secret = SecretString::from("p\"w\\123");
        let body = r#"{"auth": {"password": "p\"w\\123"}}"#;
        let read = Excerpt::of(None, body.as_bytes(), &[&secret]);
        assert!(!read.text.contains("123"), "{read}");
        let body = "{\"error\": {\"message\": \"'x' is wrong\\n\\nOn instance:\\n  p'w\"}}";
        assert_eq!(excerpt("", body).text, "'x' is wrong");
    }
}
