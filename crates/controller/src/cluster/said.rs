//! What a Kubernetes client says of a failure, in a length that fits into a log line or a status.

/// Longer messages of API servers repeat whole objects.
const MOST: usize = 400;

/// The error's own words, cut to a sentence or two. No request or answer of ours that holds a secret is in them: an API
/// server refuses a Secret's reader by its name.
pub fn short(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    cut(text.split_whitespace().collect::<Vec<_>>().join(" "), MOST)
}

/// At most so many bytes of a text, and an ellipsis where it was longer.
pub fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}
