//! What a Kubernetes client says of a failure, in a length that fits into a log line or a status.

/// Longer messages of API servers repeat whole objects.
const MOST: usize = 400;

/// The error's own words, cut to a sentence or two. No request or answer of ours that holds a secret is in them: an API
/// server refuses a Secret's reader by its name.
pub fn short(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let mut text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() > MOST {
        let mut end = MOST;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
