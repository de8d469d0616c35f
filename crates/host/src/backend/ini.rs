//! Files of sections, as systemd and NetworkManager have them.

/// A line of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The section's name.
    pub section: &'a str,
    /// Before the first `=`.
    pub key: &'a str,
    /// After it.
    pub value: &'a str,
}

/// Every line that gives a key a value. What cannot be read is passed over.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut section = "";
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            return None;
        }
        let (key, value) = line.split_once('=')?;
        Some(Line { section, key: key.trim(), value: value.trim() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_hides_nothing() {
        let text = "a=0\n[One]\n# a=1\n;a=2\nnonsense\n a = b=c \n[Two\na=d\n";
        let read: Vec<_> = lines(text).map(|line| (line.section, line.key, line.value)).collect();
        assert_eq!(read, [("", "a", "0"), ("One", "a", "b=c"), ("One", "a", "d")]);
    }
}
