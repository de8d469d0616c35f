//! Texts in a length that fits into a log line, an event or a status.

use std::error::Error;
use std::fmt::Display;

/// Longer messages of API servers repeat whole objects. In bytes.
const MOST: usize = 400;

/// An error's own words in one line, cut to a sentence or two.
pub fn short(error: &dyn Display) -> String {
    let text = error.to_string();
    cut(text.split_whitespace().collect::<Vec<_>>().join(" "), MOST)
}

/// An error and its causes, which is where the clients of HTTP say what happened. Wrappers often repeat what they wrap.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

/// At most so many bytes of a text, and an ellipsis where it was longer.
pub fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("short".to_owned(), 5), "short");
        assert_eq!(cut("äää".to_owned(), 3), "ä…");
    }

    #[test]
    fn causes_are_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("{said}")]
        struct Wrapper {
            said: &'static str,
            source: std::io::Error,
        }
        let of = |said| causes(&Wrapper { said, source: std::io::Error::other("it is away") });
        assert_eq!(of("no answer"), "no answer: it is away");
        assert_eq!(of("no answer: it is away"), "no answer: it is away");
    }

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(short(&"one\n  two"), "one two");
    }
}
