//! Files under the node's root: written whole or not at all, and never outside that root.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Component, Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::faults::{self, Injected, Point};

/// No file of ours comes near this; one that does is not read into memory.
const LARGEST: u64 = 1 << 20;

/// As many as path_resolution(7) follows.
const MOST_LINKS: usize = 40;

/// The end of the names of files that are not in place yet.
const TEMPORARY: &str = ".multinic-new";

/// A file could not be read, written or removed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {act} {path}: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A symbolic link leads elsewhere.
    #[error("{path} leads out of {root}; make it a plain directory within it")]
    Outside {
        /// The directory.
        path: PathBuf,
        /// The root that it was to stay in.
        root: PathBuf,
    },
    /// A link of /proc leads to another process' root, which only that process finds by its name.
    #[error(
        "{path} is another root than {name}, which is what its links say; mount that root somewhere, and name that place"
    )]
    Elsewhere {
        /// What was given.
        path: PathBuf,
        /// What its links come to.
        name: PathBuf,
    },
    /// Not a plain file.
    #[error("{0} is not a plain file (a symbolic link, a directory or a device); move it away")]
    NotPlain(PathBuf),
    /// Too large to be what it is taken for.
    #[error("{0} is larger than 1 MiB; move it away")]
    TooLarge(PathBuf),
    /// A failure that a test asked for.
    #[error(transparent)]
    Injected(#[from] Injected),
}

fn io_error<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError::Io { act, path: path.to_owned(), source }
}

/// A file's content with what else makes it what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCopy {
    /// The content.
    pub bytes: Vec<u8>,
    /// The permission bits.
    pub mode: u32,
    /// The owner and the group; none for the process' own.
    pub owner: Option<(u32, u32)>,
}

impl FileCopy {
    /// A file that only root may read.
    pub fn private(bytes: Vec<u8>) -> Self {
        Self { bytes, mode: 0o600, owner: None }
    }
}

/// The root of the node's file system: `/`, or where it is mounted. All paths given to it are relative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoot(PathBuf);

impl HostRoot {
    /// Takes a directory that exists. `/proc/PID/root` reads as a link to `/` whatever is behind it: that of another root is
    /// refused, since what is done below its name would be done to our own.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let failed = || io_error("open the node's root", path);
        let root = fs::canonicalize(path).map_err(failed())?;
        fs::read_dir(&root).map_err(failed())?;
        if Mounted::at(path).map_err(failed())? != Mounted::at(&root).map_err(failed())? {
            return Err(FileError::Elsewhere { path: path.to_owned(), name: root });
        }
        Ok(Self(root))
    }

    /// Whether it is the process' own root.
    pub fn is_own(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A directory within the root, whatever symbolic links are on the way.
    pub(crate) fn directory(&self, relative: &Path) -> Result<PathBuf, FileError> {
        let path = self.0.join(relative);
        let real = fs::canonicalize(&path).map_err(io_error("open", &path))?;
        if !real.starts_with(&self.0) {
            return Err(FileError::Outside { path, root: self.0.clone() });
        }
        Ok(real)
    }

    fn place(&self, relative: &Path) -> Result<PathBuf, FileError> {
        let whole = || self.0.join(relative);
        let (Some(parent), Some(name)) = (relative.parent(), relative.file_name()) else {
            return Err(FileError::NotPlain(whole()));
        };
        Ok(self.directory(parent)?.join(name))
    }

    /// Makes a directory and those above it, each lasting.
    pub fn make_directory(&self, relative: &Path, mode: u32) -> Result<(), FileError> {
        let mut so_far = PathBuf::new();
        for part in relative.components() {
            let Component::Normal(part) = part else { continue };
            let parent = self.directory(&so_far)?;
            so_far.push(part);
            let path = parent.join(part);
            match DirBuilder::new().mode(mode).create(&path) {
                Ok(()) => sync_directory(&parent)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(FileError::Io { act: "make the directory", path, source }),
            }
        }
        self.directory(relative).map(|_| ())
    }

    /// The names in a directory; none if it does not exist.
    pub fn names(&self, relative: &Path) -> Result<Vec<OsString>, FileError> {
        let path = match self.directory(relative) {
            Ok(path) => path,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let entries = fs::read_dir(&path).map_err(io_error("list", &path))?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        names.collect::<io::Result<_>>().map_err(io_error("list", &path))
    }

    /// Reads a file; none if it does not exist.
    pub fn read(&self, relative: &Path) -> Result<Option<FileCopy>, FileError> {
        let path = match self.place(relative) {
            Ok(path) => path,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        // A symbolic link is not followed, and opening a named pipe does not wait for its other end.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(FileError::NotPlain(path));
            }
            Err(source) => return Err(FileError::Io { act: "read", path, source }),
        };
        let metadata = file.metadata().map_err(io_error("read", &path))?;
        if !metadata.is_file() {
            return Err(FileError::NotPlain(path));
        }
        if metadata.len() > LARGEST {
            return Err(FileError::TooLarge(path));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io_error("read", &path))?;
        let mode = metadata.permissions().mode() & 0o7777;
        Ok(Some(FileCopy { bytes, mode, owner: Some((metadata.uid(), metadata.gid())) }))
    }

    /// Reads a file of others, which may be a symbolic link: to the node, what begins with a slash begins at this root. None if
    /// it does not exist.
    pub fn read_of_others(&self, relative: &Path) -> Result<Option<FileCopy>, FileError> {
        let mut relative = relative.to_owned();
        for _ in 0..MOST_LINKS {
            let (Ok(path), Some(parent)) = (self.place(&relative), relative.parent()) else { break };
            let Ok(target) = fs::read_link(path) else { break };
            let parent = self.directory(parent)?;
            relative = below(&parent.strip_prefix(&self.0).unwrap_or(Path::new("")).join(target));
        }
        self.read(&relative)
    }

    /// Puts a file in place, whole: a reader, or the next start after a crash, sees the old or the new one. `between` is
    /// passed when the new one is complete under its temporary name.
    pub fn write(&self, relative: &Path, copy: &FileCopy, between: Option<Point>) -> Result<(), FileError> {
        let path = self.place(relative)?;
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(FileError::NotPlain(path));
        }
        let temporary = temporary(&path);
        let written = write_new(&temporary, copy).and_then(|()| match between {
            Some(point) => Ok(faults::point(point)?),
            None => Ok(()),
        });
        let renamed =
            written.and_then(|()| fs::rename(&temporary, &path).map_err(io_error("replace", &path)));
        if let Err(error) = renamed {
            // What could not be put in place must not be left lying about; a second failure would say the same.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        sync_directory(path.parent().unwrap_or(&self.0))
    }

    /// Removes a file, and what an interrupted [`Self::write`] of it left. Says whether it was there.
    pub fn remove(&self, relative: &Path) -> Result<bool, FileError> {
        let path = match self.place(relative) {
            Ok(path) => path,
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        let stray = unlink(&temporary(&path))?;
        let there = unlink(&path)?;
        if there || stray {
            sync_directory(path.parent().unwrap_or(&self.0))?;
        }
        Ok(there)
    }

    /// Removes a file without waiting until that is on disk: for one that may come back with a loss of power.
    pub fn remove_lazily(&self, relative: &Path) -> Result<(), FileError> {
        unlink(&self.place(relative)?).map(|_| ())
    }

    /// Removes what an interrupted [`Self::write`] of a file left.
    pub fn remove_temporary(&self, relative: &Path) -> Result<(), FileError> {
        match self.place(relative) {
            Ok(path) => unlink(&temporary(&path)).map(|_| ()),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes what interrupted [`Self::write`]s left in a directory.
    pub fn remove_temporaries(&self, relative: &Path) -> Result<(), FileError> {
        for name in self.names(relative)? {
            if name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(TEMPORARY)) {
                unlink(&self.directory(relative)?.join(name))?;
            }
        }
        Ok(())
    }

    /// Takes a lock that lasts as long as what is returned; none if another process holds it. `in_turn`: waits for that one,
    /// however long it takes.
    pub fn lock(&self, relative: &Path, in_turn: bool) -> Result<Option<File>, FileError> {
        let path = self.place(relative)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        let operation = match in_turn {
            true => FlockOperation::LockExclusive,
            false => FlockOperation::NonBlockingLockExclusive,
        };
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Ok(Some(file)),
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(io_error("lock", &path)(errno.into())),
            }
        }
    }
}

/// Which directory it is, and by which mount it is reached: two mount namespaces can have the same one with other things
/// mounted on it.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    device: u64,
    inode: u64,
    mount: String,
}

impl Mounted {
    fn at(path: &Path) -> io::Result<Self> {
        let directory = File::open(path)?;
        let metadata = directory.metadata()?;
        // statx(2) tells the mount since Linux 5.8, proc(5) since 3.15.
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", directory.as_raw_fd()))?;
        let mount = info.lines().find(|line| line.starts_with("mnt_id:")).unwrap_or_default().to_owned();
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), mount })
    }
}

/// A path without its root and without `..`, which leads nowhere above the root.
fn below(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => {
                parts.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    parts
}

fn is_absent(error: &FileError) -> bool {
    matches!(error, FileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// Beside the file, so that a rename does not leave the file system, and under a name that nobody reads: every manager goes
/// by the end of a name, or by how it begins.
fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(TEMPORARY);
    path.with_file_name(name)
}

fn write_new(path: &Path, copy: &FileCopy) -> Result<(), FileError> {
    unlink(path)?;
    // Mode and owner are right before the first byte is there to be read.
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(io_error("create", path))?;
    if let Some((user, group)) = copy.owner {
        let metadata = file.metadata().map_err(io_error("create", path))?;
        if (metadata.uid(), metadata.gid()) != (user, group) {
            fchown(&file, Some(user), Some(group)).map_err(io_error("give its owner back to", path))?;
        }
    }
    let permissions = fs::Permissions::from_mode(copy.mode);
    file.set_permissions(permissions).map_err(io_error("set the mode of", path))?;
    file.write_all(&copy.bytes).map_err(io_error("write", path))?;
    file.sync_all().map_err(io_error("write", path))
}

fn unlink(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FileError::Io { act: "remove", path: path.to_owned(), source }),
    }
}

fn sync_directory(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error("sync the directory", path))
}

/// Puts a file below a root of a test.
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]
pub(crate) fn put(root: &Path, path: impl AsRef<Path>, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, HostRoot) {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        (folder, root)
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let (folder, root) = root();
        root.make_directory(Path::new("etc/netplan"), 0o755).unwrap();
        let path = Path::new("etc/netplan/a.yaml");
        fs::write(folder.path().join(path), "old").unwrap();
        root.write(path, &FileCopy::private(b"new".to_vec()), None).unwrap();
        let read = root.read(path).unwrap().unwrap();
        assert_eq!((read.bytes.as_slice(), read.mode), (b"new".as_slice(), 0o600));
        assert_eq!(root.names(Path::new("etc/netplan")).unwrap(), ["a.yaml"]);
    }

    #[test]
    fn what_is_not_there_reads_as_none_and_is_removed_without_an_error() {
        let (_folder, root) = root();
        assert_eq!(root.read(Path::new("etc/netplan/a.yaml")).unwrap(), None);
        assert!(root.names(Path::new("etc/netplan")).unwrap().is_empty());
        assert!(!root.remove(Path::new("etc/netplan/a.yaml")).unwrap());
    }

    #[test]
    fn a_directory_that_leads_out_of_the_root_is_refused() {
        let (folder, root) = root();
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), folder.path().join("etc")).unwrap();
        let error = root.write(Path::new("etc/a"), &FileCopy::private(Vec::new()), None).unwrap_err();
        assert!(matches!(error, FileError::Outside { .. }), "{error}");
        assert!(fs::read_dir(elsewhere.path()).unwrap().next().is_none());
    }

    #[test]
    fn a_file_of_others_is_read_through_symbolic_links_as_the_node_reads_it() {
        let (folder, root) = root();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("etc/netplan")).unwrap();
        fs::create_dir_all(at("srv/all")).unwrap();
        fs::write(at("srv/all/a.yaml"), "text").unwrap();
        symlink("/srv/all/../all/a.yaml", at("srv/absolute")).unwrap();
        symlink("../../../srv/absolute", at("etc/netplan/a.yaml")).unwrap();
        symlink("round.yaml", at("etc/netplan/round.yaml")).unwrap();
        symlink("nothing", at("etc/netplan/broken.yaml")).unwrap();
        symlink(folder.path(), at("etc/netplan/outside.yaml")).unwrap();
        let read = |name: &str| root.read_of_others(&Path::new("etc/netplan").join(name));
        assert_eq!(read("a.yaml").unwrap().unwrap().bytes, b"text");
        assert!(matches!(read("round.yaml"), Err(FileError::NotPlain(_))));
        assert_eq!(read("broken.yaml").unwrap(), None);
        assert_eq!(read("outside.yaml").unwrap(), None, "what the node has by that name, which is nothing");
    }

    #[test]
    fn a_symbolic_link_is_neither_read_nor_replaced() {
        let (folder, root) = root();
        fs::write(folder.path().join("target"), "kept").unwrap();
        symlink("target", folder.path().join("link")).unwrap();
        let path = Path::new("link");
        assert!(matches!(root.read(path), Err(FileError::NotPlain(_))));
        let written = root.write(path, &FileCopy::private(b"x".to_vec()), None);
        assert!(matches!(written, Err(FileError::NotPlain(_))));
        assert_eq!(fs::read_to_string(folder.path().join("target")).unwrap(), "kept");
    }

    #[test]
    fn the_root_of_another_process_is_refused_by_the_name_that_proc_has_for_it() {
        let mut other = std::process::Command::new("unshare");
        // It says when it has its own mounts, and ends with our end of the pipe.
        other.args(["--map-root-user", "--mount", "sh", "-c", "echo; read end"]);
        other.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut other = other.spawn().unwrap();
        let mut said = [0];
        other.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        let error = HostRoot::open(Path::new(&format!("/proc/{}/root", other.id()))).unwrap_err();
        assert!(matches!(&error, FileError::Elsewhere { name, .. } if name == Path::new("/")), "{error}");
        drop(other.stdin.take());
        other.wait().unwrap();
        assert!(HostRoot::open(Path::new("/proc/self/root")).unwrap().is_own());
    }

    #[test]
    fn a_lock_is_held_once() {
        let (_folder, root) = root();
        let held = root.lock(Path::new("lock"), false).unwrap();
        assert!(held.is_some());
        assert!(root.lock(Path::new("lock"), false).unwrap().is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| root.lock(Path::new("lock"), true).unwrap());
            drop(held);
            assert!(waiting.join().unwrap().is_some());
        });
    }
}
