//! Events of the files by which NICs of ours last: somebody changes, removes or replaces one, or a directory on the way to it.
//!
//! Every directory from the node's root down to one that can hold such a file is watched with inotify(7), so that one that
//! appears, or takes the place of another, is noticed in the directory above it. What is mounted over a directory makes no
//! event; it is found by the next [`FileEvents::arm`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::backend::places;
use crate::files::HostRoot;

/// A file that is complete, another mode, another file, another directory. What is still being written is not looked at.
const MASK: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What makes the list of watched directories, or that of the events, incomplete.
const UNTIED: ReadFlags = ReadFlags::QUEUE_OVERFLOW
    .union(ReadFlags::IGNORED)
    .union(ReadFlags::UNMOUNT)
    .union(ReadFlags::DELETE_SELF)
    .union(ReadFlags::MOVE_SELF);

/// Some events with the longest names; the others are read next.
const BUFFER: usize = 4096;

/// Files cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum FileEventsError {
    /// No more instances for this user, or no memory.
    #[error("cannot watch files: {0} (see fs.inotify.max_user_instances)")]
    Open(#[source] io::Error),
    /// No more watches for this user, or no memory.
    #[error("cannot watch {}: {source} (see fs.inotify.max_user_watches)", .path.display())]
    Watch {
        /// The directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel's list of events.
    #[error("cannot read the events of files: {0}")]
    Read(#[source] io::Error),
}

/// The events of files from now on.
#[derive(Debug)]
pub struct FileEvents {
    root: HostRoot,
    descriptor: AsyncFd<OwnedFd>,
    /// The directories of each watch, below the root: a symbolic link makes two of one.
    watched: BTreeMap<i32, BTreeSet<PathBuf>>,
}

impl FileEvents {
    /// Listens, on a thread that has to run a tokio runtime.
    pub(crate) fn listen(root: HostRoot) -> Result<Self, FileEventsError> {
        let descriptor = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let descriptor = descriptor.map_err(|errno| FileEventsError::Open(errno.into()))?;
        let descriptor = registered(descriptor).map_err(FileEventsError::Open)?;
        let mut events = Self { root, descriptor, watched: BTreeMap::new() };
        events.arm()?;
        Ok(events)
    }

    /// Watches the directories that are there now. Says whether they are others than before, so that something may have
    /// happened in them unnoticed.
    pub fn arm(&mut self) -> Result<bool, FileEventsError> {
        let mut watched: BTreeMap<i32, BTreeSet<PathBuf>> = BTreeMap::new();
        for directory in ways() {
            // What is not there, or leads out of the root, has no file of ours.
            let Ok(path) = self.root.directory(directory) else { continue };
            match inotify::add_watch(&self.descriptor, &path, MASK) {
                Ok(number) => {
                    watched.entry(number).or_default().insert(directory.to_owned());
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(FileEventsError::Watch { path, source: errno.into() }),
            }
        }
        let same = watched == self.watched;
        for number in self.watched.keys().filter(|number| !watched.contains_key(number)) {
            // That of a directory that was removed went with it.
            let _ = inotify::remove_watch(&self.descriptor, *number);
        }
        self.watched = watched;
        Ok(!same)
    }

    /// Returns after something happened to a file that is, or could be, one of ours. Nothing is lost if this is dropped while
    /// it waits.
    pub async fn changed(&mut self) -> Result<(), FileEventsError> {
        loop {
            let mut ready = self.descriptor.readable().await.map_err(FileEventsError::Read)?;
            ready.clear_ready();
            drop(ready);
            if self.take()? {
                // The look that follows sees what is in a directory by now; what comes then is an event.
                self.arm()?;
                return Ok(());
            }
        }
    }

    /// Takes all events that there are. Says whether one of them matters.
    fn take(&mut self) -> Result<bool, FileEventsError> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(&self.descriptor, &mut buffer);
        let mut matters = false;
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    matters |= concerns(&self.watched, event.wd(), event.events(), name);
                }
                Err(Errno::AGAIN) => return Ok(matters),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(FileEventsError::Read(errno.into())),
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "what took its place is unsafe; an OwnedFd stays what it is, as is asked for there"
)]
fn registered(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

/// Every directory from the root, which is the empty path, to those that can hold a file of ours.
fn ways() -> BTreeSet<&'static Path> {
    places::directories().into_iter().flat_map(Path::ancestors).collect()
}

fn concerns(
    watched: &BTreeMap<i32, BTreeSet<PathBuf>>,
    number: i32,
    events: ReadFlags,
    name: Option<&OsStr>,
) -> bool {
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        return true;
    }
    // One that we gave up has still something to say.
    let Some(directories) = watched.get(&number) else { return false };
    events.intersects(UNTIED)
        || name.is_some_and(|name| {
            let mut paths = directories.iter().map(|directory| directory.join(name));
            paths.any(|path| places::known(&path).is_some() || ways().contains(path.as_path()))
        })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::files::FileCopy;

    const FILE: &str = "etc/netplan/91-multinic1.yaml";

    fn node() -> (tempfile::TempDir, FileEvents) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("etc/netplan")).unwrap();
        fs::write(folder.path().join(FILE), "old").unwrap();
        let events = FileEvents::listen(HostRoot::open(folder.path()).unwrap()).unwrap();
        (folder, events)
    }

    #[tokio::test]
    async fn whatever_is_done_to_a_file_of_ours_is_told_once() {
        let (folder, mut events) = node();
        let file = folder.path().join(FILE);
        let aside = folder.path().join("etc/netplan/aside");
        let acts: [&dyn Fn() -> io::Result<()>; 6] = [
            &|| fs::write(&file, "new"),
            &|| fs::set_permissions(&file, fs::Permissions::from_mode(0o666)),
            &|| fs::rename(&file, &aside),
            &|| fs::rename(&aside, &file),
            &|| fs::remove_file(&file),
            &|| std::os::unix::fs::symlink("/dev/null", &file),
        ];
        for (number, act) in acts.iter().enumerate() {
            act().unwrap();
            assert!(events.take().unwrap(), "act {number}");
            assert!(!events.take().unwrap(), "act {number}");
        }
    }

    #[tokio::test]
    async fn what_is_done_to_files_of_others_means_nothing_nor_does_a_read() {
        let (folder, mut events) = node();
        fs::write(folder.path().join("etc/netplan/50-cloud-init.yaml"), "x").unwrap();
        fs::write(folder.path().join("etc/netplan/.91-multinic1.yaml.multinic-new"), "x").unwrap();
        fs::write(folder.path().join("etc/resolv.conf"), "x").unwrap();
        fs::create_dir_all(folder.path().join("var/lib/multinic")).unwrap();
        fs::read(folder.path().join(FILE)).unwrap();
        assert!(!events.take().unwrap());
        assert!(!events.arm().unwrap());
    }

    #[tokio::test]
    async fn a_write_of_our_own_is_one_event_and_no_other_follows_from_the_look() {
        let (folder, mut events) = node();
        let root = HostRoot::open(folder.path()).unwrap();
        root.write(Path::new(FILE), &FileCopy::private(b"ours".to_vec()), None).unwrap();
        assert!(events.take().unwrap());
        events.arm().unwrap();
        crate::backend::held::all(&root, crate::backend::Backend::Netplan).unwrap();
        assert!(!events.take().unwrap());
    }

    #[tokio::test]
    async fn a_directory_that_appears_later_is_watched_from_then_on() {
        let (folder, mut events) = node();
        let directory = folder.path().join("etc/NetworkManager/system-connections");
        fs::create_dir_all(&directory).unwrap();
        events.changed().await.unwrap();
        assert!(!events.take().unwrap());
        fs::write(directory.join("91-multinic1.nmconnection"), "x").unwrap();
        assert!(events.take().unwrap());
    }

    #[tokio::test]
    async fn a_directory_that_takes_the_place_of_another_is_watched_and_the_other_is_not() {
        let (folder, mut events) = node();
        let [netplan, aside, new] =
            ["etc/netplan", "etc/aside", "etc/new"].map(|path| folder.path().join(path));
        fs::create_dir(&new).unwrap();
        fs::rename(&netplan, &aside).unwrap();
        fs::rename(&new, &netplan).unwrap();
        events.changed().await.unwrap();
        assert!(!events.take().unwrap());
        fs::write(aside.join("91-multinic1.yaml"), "x").unwrap();
        assert!(!events.take().unwrap());
        fs::write(folder.path().join(FILE), "x").unwrap();
        assert!(events.take().unwrap());
        // And one that goes for good.
        fs::remove_dir_all(folder.path().join("etc")).unwrap();
        assert!(events.take().unwrap());
        assert!(events.arm().unwrap());
        fs::create_dir_all(&netplan).unwrap();
        fs::write(folder.path().join(FILE), "x").unwrap();
        events.changed().await.unwrap();
        assert!(!events.arm().unwrap());
    }
}
