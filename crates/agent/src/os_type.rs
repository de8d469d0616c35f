//! Which distribution the node runs, for metrics and logs.

use std::path::Path;

use crate::config::under;

/// The `ID` of the node's os-release(5), or `unknown`.
pub fn of_node(host_root: &Path) -> String {
    ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| std::fs::read_to_string(under(host_root, Path::new(path))).ok())
        .and_then(|text| id(&text))
        .unwrap_or_else(|| "unknown".to_owned())
}

fn id(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix("ID="))?;
    let value = value.trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_may_be_quoted() {
        assert_eq!(id("NAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nID=ubuntu\n").as_deref(), Some("ubuntu"));
        assert_eq!(id("ID=\"rhel\"\n").as_deref(), Some("rhel"));
        assert_eq!(id("VERSION_ID=\"24.04\"\nID_LIKE=debian\n"), None);
    }
}
