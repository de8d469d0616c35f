//! What another program said, made fit for a message: one line, bounded, without markup and without our secrets.

use multinic_core::brief;
use multinic_openstack::{blotted, without_markup};
use secrecy::SecretString;

/// How many characters of an answer a message holds.
const LENGTH: usize = 400;

/// An answer's text for a message.
pub(crate) fn said(content_type: Option<&str>, body: &[u8], secrets: &[&SecretString]) -> String {
    let text = blotted(String::from_utf8_lossy(body).into_owned(), secrets);
    let html = content_type.is_some_and(|kind| kind.contains("html")) || text.trim_start().starts_with('<');
    if html {
        return format!("an HTML page, probably a proxy's: {}", line(&without_markup(&text)));
    }
    match line(&text) {
        empty if empty.is_empty() => "an empty body".to_owned(),
        text => text,
    }
}

/// One line of bounded length, without control characters.
pub(crate) fn line(text: &str) -> String {
    let spaced = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in spaced {
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

/// An error and its causes in one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    line(&brief::causes(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_loses_its_markup_and_is_named() {
        let page = b"<html><style>b {}</style><body>\n<h1>503 Service</h1> Unavailable</body>";
        assert_eq!(said(None, page, &[]), "an HTML page, probably a proxy's: 503 Service Unavailable");
        assert_eq!(said(Some("text/html"), b"<scr<script", &[]), "an HTML page, probably a proxy's: ");
    }

    #[test]
    fn an_answer_is_one_bounded_line_without_secrets() {
        let secret = SecretString::from("s3cret");
        assert_eq!(said(None, b"a\r\n\x1b[31m s3cret\0b", &[&secret]), "a [31m [secret] b");
        assert_eq!(said(None, b" \n", &[]), "an empty body");
        assert_eq!(said(None, "é".repeat(4000).as_bytes(), &[]).chars().count(), LENGTH + 1);
    }
}
