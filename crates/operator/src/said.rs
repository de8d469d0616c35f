//! Messages in a length that fits into a log line, an event or a status.

/// Longer messages of API servers repeat whole objects.
const MOST: usize = 400;

/// The error's own words, cut to a sentence or two.
pub fn short(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    cut(text.split_whitespace().collect::<Vec<_>>().join(" "), MOST)
}

/// What an API server answered, without the name of our library's error around it.
pub fn answer(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => short(&status.message),
        other => short(other),
    }
}

/// At most so many bytes of a text, and an ellipsis where it was longer.
pub fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}
