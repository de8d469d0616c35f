//! Copies of files that are about to be replaced or removed, for people.

use std::path::Path;
use std::time::SystemTime;

use multinic_core::InterfaceName;

use crate::backend::places;
use crate::files::{FileCopy, FileError, HostRoot};

/// Where they are, below the node's root.
pub const DIRECTORY: &str = "var/lib/multinic/backups";

/// Copies a file about an interface, as `<interface>_YYYYMMDD_HHMMSS.<extension>` in UTC, or with a number before the
/// extension when that name is taken, and removes all but the newest copies with this extension. The extension is that of
/// [`places::Kind::extension`].
pub fn take(
    root: &HostRoot,
    path: &Path,
    copy: &FileCopy,
    now: SystemTime,
    keep: usize,
) -> Result<(), FileError> {
    let Some((kind, slot)) = places::known(path) else { return Ok(()) };
    let (name, extension) = (slot.interface(), kind.extension());
    root.make_directory(Path::new(DIRECTORY), 0o700)?;
    let time = jiff::Timestamp::try_from(now).unwrap_or_default();
    let stem = format!("{name}_{}", time.strftime("%Y%m%d_%H%M%S"));
    let taken = root.names(Path::new(DIRECTORY))?;
    let is_free = |file: &String| !taken.iter().any(|name| name.to_str() == Some(file));
    let numbered = (1_u32..).map(|number| format!("{stem}.{number}.{extension}"));
    let mut names = std::iter::once(format!("{stem}.{extension}")).chain(numbered).filter(is_free);
    let path = Path::new(DIRECTORY).join(names.next().unwrap_or(stem));
    root.write(&path, &FileCopy::private(copy.bytes.clone()), None)?;
    prune(root, name, extension, keep)
}

fn prune(root: &HostRoot, name: InterfaceName, extension: &str, keep: usize) -> Result<(), FileError> {
    let (prefix, suffix) = (format!("{name}_"), format!(".{extension}"));
    let names = root.names(Path::new(DIRECTORY))?;
    let mut ours: Vec<(String, u32, &str)> = names
        .iter()
        .filter_map(|file| {
            let file = file.to_str()?;
            let stem = file.strip_prefix(&prefix)?.strip_suffix(&suffix)?;
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
    fn the_newest_copies_of_each_file_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        let (one, ten) = ("etc/netplan/91-multinic1.yaml", "etc/netplan/99-multinic10.yaml");
        let link = "etc/systemd/network/10-multinic1.link";
        let copy = FileCopy { bytes: b"x".to_vec(), mode: 0o644, owner: None };
        let time = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        for (path, seconds) in [(ten, 0), (link, 0), (one, 0), (one, 1), (one, 1), (one, 1)] {
            take(&root, Path::new(path), &copy, time(seconds), 2).unwrap();
        }
        assert_eq!(
            names(&root),
            [
                "multinic10_20231114_221320.yaml",
                "multinic1_20231114_221320.link",
                "multinic1_20231114_221321.1.yaml",
                "multinic1_20231114_221321.2.yaml",
            ]
        );
        let path = Path::new(DIRECTORY).join("multinic1_20231114_221321.1.yaml");
        assert_eq!(root.read(&path).unwrap().unwrap().mode, 0o600);
    }
}
