//! Where file systems for guests are kept between tests, and how long.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use super::GuestError;
use super::error::file;

/// How long something is kept that nobody asks for: a recipe that changed leaves the file system of the old one behind, and
/// work on two branches uses both.
const KEPT: Duration = Duration::from_hours(7 * 24);
const LOCK: &str = "lock";
/// What is not whole yet.
const BUILDING: &str = ".building-";

/// The folder of this name in the cache, made by `make` in a folder that goes if that fails. Two processes that want the same
/// at once get the same, made once.
pub(crate) fn get(
    cache: &Path,
    name: &str,
    make: impl FnOnce(&Path) -> Result<PathBuf, GuestError>,
) -> Result<PathBuf, GuestError> {
    fs::create_dir_all(cache).map_err(file(cache))?;
    let path = cache.join(name);
    let lock_path = path.with_extension(LOCK);
    let lock = File::create(&lock_path).map_err(file(&lock_path))?;
    // It says when somebody asked last.
    lock.set_modified(SystemTime::now()).map_err(file(&lock_path))?;
    let _held = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| file(&lock_path)(io::Error::from(errno)))?;
    if !path.is_dir() {
        prune(cache, KEPT);
        let folder = tempfile::Builder::new().prefix(BUILDING).tempdir_in(cache).map_err(file(cache))?;
        let made = make(folder.path())?;
        fs::rename(&made, &path).map_err(file(&path))?;
    }
    Ok(path)
}

/// Removes what nobody asked for in a while. What cannot be removed is left to the next time.
fn prune(cache: &Path, kept: Duration) {
    for path in fs::read_dir(cache).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let changed = fs::metadata(&path).and_then(|found| found.modified());
        let age = changed.map(|changed| SystemTime::now().duration_since(changed).unwrap_or_default());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !age.is_ok_and(|age| age > kept) {
            continue;
        }
        if name.starts_with(BUILDING) {
            let _ = fs::remove_dir_all(&path);
        } else if path.extension().is_some_and(|ending| ending == LOCK)
            && let Ok(lock) = File::open(&path)
            && let Ok(_held) = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
        {
            let folder = path.with_extension("");
            if fs::remove_dir_all(&folder).is_ok() || !folder.exists() {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// The cache of the testbed: `~/.cache/multinic-testbed`.
pub(crate) fn folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_default().join("multinic-testbed")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use super::*;

    fn get_some(cache: &Path) -> PathBuf {
        let make = |folder: &Path| {
            let root = folder.join("root");
            fs::create_dir(&root).unwrap();
            Ok(root)
        };
        get(cache, "some", make).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_nobody_asks_for_goes_after_a_while() {
        let cache = tempfile::tempdir().unwrap();
        let some = get_some(cache.path());
        fs::create_dir(cache.path().join(".building-1")).unwrap();
        prune(cache.path(), KEPT);
        assert_eq!(names(cache.path()), [".building-1", "some", "some.lock"]);
        // Who is at it keeps it.
        let lock = File::open(cache.path().join("some.lock")).unwrap();
        let held = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
        prune(cache.path(), Duration::ZERO);
        assert_eq!(names(cache.path()), ["some", "some.lock"]);
        drop(held);
        prune(cache.path(), Duration::ZERO);
        assert_eq!(names(cache.path()), [""; 0]);
        assert_eq!(get_some(cache.path()), some);
    }

    #[test]
    fn nothing_is_left_of_what_cannot_be_made() {
        let cache = tempfile::tempdir().unwrap();
        let failed = get(cache.path(), "some", |_| Err(GuestError::Off("it".to_owned())));
        assert!(failed.is_err());
        assert_eq!(names(cache.path()), ["some.lock"]);
        assert!(get_some(cache.path()).is_dir());
    }
}
