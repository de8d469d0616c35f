//! Files of assignments, as the network scripts of RHEL and SUSE have them.

use std::collections::BTreeMap;

/// The variables, by their upper-case names; the last assignment of each counts. A value may be quoted.
pub fn variables(text: &str) -> BTreeMap<String, &str> {
    let assignment = |line| {
        let (key, value) = str::split_once(line, '=')?;
        let (key, value) = (key.trim(), value.trim());
        let quoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        let is_name = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_name.then(|| (key.to_uppercase(), value))
    };
    text.lines().filter_map(assignment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_quoted_and_comments_are_none() {
        let read = variables("#A=1\nA=\"x y\"\n B = '2' \nC=\"\nd=4\nE F=5\n");
        let read: Vec<_> = read.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        assert_eq!(read, [("A", "x y"), ("B", "2"), ("C", "\""), ("D", "4")]);
    }
}
