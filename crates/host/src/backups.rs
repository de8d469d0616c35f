//! Copies of files that are about to be replaced or removed, for people.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use multinic_core::InterfaceName;

use crate::files::{FileCopy, FileError, HostRoot};

/// Where they are, below the node's root.
pub const DIRECTORY: &str = "var/lib/multinic/backups";

/// Copies a file, as `<interface>_YYYYMMDD_HHMMSS.yaml` in UTC, or with a number before `.yaml` when that name is taken.
pub fn take(
    root: &HostRoot,
    name: InterfaceName,
    copy: &FileCopy,
    now: SystemTime,
) -> Result<PathBuf, FileError> {
    root.make_directory(Path::new(DIRECTORY), 0o700)?;
    let time = jiff::Timestamp::try_from(now).unwrap_or_default();
    let stem = format!("{name}_{}", time.strftime("%Y%m%d_%H%M%S"));
    let taken = root.names(Path::new(DIRECTORY))?;
    let is_free = |file: &String| !taken.iter().any(|name| name.to_str() == Some(file));
    let numbered = (1_u32..).map(|number| format!("{stem}.{number}.yaml"));
    let mut names = std::iter::once(format!("{stem}.yaml")).chain(numbered).filter(is_free);
    let path = Path::new(DIRECTORY).join(names.next().unwrap_or(stem));
    root.write(&path, &FileCopy::private(copy.bytes.clone()), None)?;
    Ok(path)
}

/// Removes all but the newest copies of an interface's file.
pub fn prune(root: &HostRoot, name: InterfaceName, keep: usize) -> Result<(), FileError> {
    let prefix = format!("{name}_");
    let names = root.names(Path::new(DIRECTORY))?;
    let mut ours: Vec<(String, u32, &str)> = names
        .iter()
        .filter_map(|file| {
            let file = file.to_str()?;
            let stem = file.strip_prefix(&prefix)?.strip_suffix(".yaml")?;
            let (time, number) = stem.split_once('.').unwrap_or((stem, "0"));
            Some((time.to_owned(), number.parse().ok()?, file))
        })
        .collect();
    ours.sort_unstable();
    for (_, _, file) in ours.iter().rev().skip(keep) {
        root.remove(&Path::new(DIRECTORY).join(file))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names(root: &HostRoot) -> Vec<String> {
        let mut names: Vec<String> = root
            .names(Path::new(DIRECTORY))
            .unwrap()
            .into_iter()
            .map(|name| name.into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_copies_of_each_interface_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        let (one, ten): (InterfaceName, InterfaceName) =
            ("multinic1".parse().unwrap(), "multinic10".parse().unwrap());
        let copy = FileCopy { bytes: b"x".to_vec(), mode: 0o644, owner: None };
        let time = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        take(&root, ten, &copy, time(0)).unwrap();
        for seconds in [0, 1, 1, 1] {
            take(&root, one, &copy, time(seconds)).unwrap();
        }
        prune(&root, one, 2).unwrap();
        assert_eq!(
            names(&root),
            [
                "multinic10_20231114_221320.yaml",
                "multinic1_20231114_221321.1.yaml",
                "multinic1_20231114_221321.2.yaml",
            ]
        );
        let path = Path::new(DIRECTORY).join("multinic1_20231114_221321.1.yaml");
        assert_eq!(root.read(&path).unwrap().unwrap().mode, 0o600);
    }
}
