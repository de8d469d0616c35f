//! The program on the node that undoes what a dead agent left: a copy of this one. It must not need the image that this one
//! came from, which may be gone by then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use crate::files::{FileError, HostRoot};
use crate::hindrances::nearest;

/// This program, also when its file was replaced or its image is gone.
const OURSELVES: &str = "/proc/self/exe";
const MODE: u32 = 0o755;
const CHUNK: usize = 1 << 18;

/// The program cannot be put in place, or not be run from there.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
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
    /// A folder on the way.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no path of a file.
    #[error("{0} is not the absolute path of a program")]
    NoPath(PathBuf),
    /// Nothing there may be executed.
    #[error("{0} is on a file system that is mounted noexec: name another place by UNDO_PROGRAM")]
    NoExec(PathBuf),
    /// Somebody else may change it.
    #[error(
        "{path} is of user {user} with mode {mode:o}: it must be of user {wanted}, and nobody else may write it"
    )]
    Writable {
        /// The program.
        path: PathBuf,
        /// Its owner.
        user: u32,
        /// Its mode.
        mode: u32,
        /// Who it must belong to.
        wanted: u32,
    },
}

fn failed<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ProgramError + 'a {
    move |source| ProgramError::Io { act, path: path.to_owned(), source }
}

/// A program that was found to be this one, byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    path: PathBuf,
    mark: Mark,
}

/// What changes with every change to a file: nobody can set `ctime`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Mark {
    fn of(path: &Path) -> io::Result<(Self, fs::Metadata)> {
        let found = fs::symlink_metadata(path)?;
        if !found.is_file() {
            return Err(io::Error::other("it is no plain file"));
        }
        let changed = (found.ctime(), found.ctime_nsec());
        Ok((Self { device: found.dev(), inode: found.ino(), size: found.size(), changed }, found))
    }
}

impl Installed {
    /// Whether nobody has changed it since.
    pub fn is_untouched(&self) -> bool {
        Mark::of(&self.path).is_ok_and(|(mark, _)| mark == self.mark)
    }

    /// Whether the node may run it, and nobody but its owner can change it.
    ///
    /// # Errors
    /// Where not.
    pub fn may_be_run(&self) -> Result<(), ProgramError> {
        let path = &self.path;
        let mount = rustix::fs::statvfs(path);
        let mount = mount.map_err(|errno| failed("look at", path)(errno.into()))?;
        if mount.f_flag.contains(StatVfsMountFlags::NOEXEC) {
            return Err(ProgramError::NoExec(path.clone()));
        }
        let (_, found) = Mark::of(path).map_err(failed("look at", path))?;
        let (user, mode, wanted) =
            (found.uid(), found.permissions().mode() & 0o7777, rustix::process::geteuid().as_raw());
        if user != wanted || mode != MODE {
            return Err(ProgramError::Writable { path: path.clone(), user, mode, wanted });
        }
        Ok(())
    }
}

/// Whether a program can be put at a path of the node and be run from there, as far as can be seen without doing so.
///
/// # Errors
/// Where not.
pub fn may_be_put(root: &HostRoot, on_node: &Path) -> Result<(), ProgramError> {
    let relative = on_node.strip_prefix("/").map_err(|_| ProgramError::NoPath(on_node.to_owned()))?;
    let path = root.path().join(relative);
    let there = nearest(&path);
    if there == path {
        Mark::of(&path).map_err(failed("look at", &path))?;
    } else if !there.is_dir() {
        return Err(failed("make a folder in", there)(io::ErrorKind::NotADirectory.into()));
    }
    let mount = rustix::fs::statvfs(there).map_err(|errno| failed("look at", there)(errno.into()))?.f_flag;
    if mount.contains(StatVfsMountFlags::NOEXEC) {
        return Err(ProgramError::NoExec(path));
    }
    if mount.contains(StatVfsMountFlags::RDONLY) && !is_ourselves(&path) {
        return Err(failed("write", &path)(io::ErrorKind::ReadOnlyFilesystem.into()));
    }
    Ok(())
}

/// Puts this program at a path of the node, unless it is there.
///
/// # Errors
/// Where it cannot be written, or is not the same when it is read again.
pub fn install(root: &HostRoot, on_node: &Path) -> Result<Installed, ProgramError> {
    let relative = on_node.strip_prefix("/").map_err(|_| ProgramError::NoPath(on_node.to_owned()))?;
    let (Some(folder), Some(name)) = (relative.parent(), relative.file_name()) else {
        return Err(ProgramError::NoPath(on_node.to_owned()));
    };
    root.make_directory(folder, 0o755)?;
    let path = root.path().join(folder).join(name);
    if !is_ourselves(&path) {
        put(&path)?;
    }
    let (mark, _) = Mark::of(&path).map_err(failed("look at", &path))?;
    if !is_ourselves(&path) {
        return Err(failed("verify", &path)(io::Error::other("it is not what was written")));
    }
    Ok(Installed { path, mark })
}

fn put(path: &Path) -> Result<(), ProgramError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &temporary)(error));
        }
        _ => {}
    }
    let written = write(&temporary).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // What could not be put in place must not be left lying about.
        let _ = fs::remove_file(&temporary);
        return Err(failed("write", path)(error));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(path)?;
    io::copy(&mut File::open(OURSELVES)?, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    file.flush()?;
    file.sync_all()
}

/// Whether a file is this program, byte by byte, with the right mode.
fn is_ourselves(path: &Path) -> bool {
    let same = || -> io::Result<bool> {
        let (mark, found) = Mark::of(path)?;
        let (mut there, mut ours) = (File::open(path)?, File::open(OURSELVES)?);
        if mark.size != ours.metadata()?.size() || found.permissions().mode() & 0o7777 != MODE {
            return Ok(false);
        }
        let (mut one, mut other) = (vec![0; CHUNK], vec![0; CHUNK]);
        loop {
            let (read, expected) = (fill(&mut there, &mut one)?, fill(&mut ours, &mut other)?);
            if read != expected || one.get(..read) != other.get(..read) {
                return Ok(false);
            }
            if read == 0 {
                return Ok(true);
            }
        }
    };
    same().unwrap_or(false)
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/var/lib/multinic/bin/multinic-agent";

    fn root() -> (tempfile::TempDir, HostRoot) {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        (folder, root)
    }

    #[test]
    fn the_program_is_put_in_place_once_and_again_when_somebody_changed_it() {
        let (folder, root) = root();
        let path = folder.path().join(PATH.trim_start_matches('/'));
        let first = install(&root, Path::new(PATH)).unwrap();
        first.may_be_run().unwrap();
        assert!(first.is_untouched());
        assert_eq!(install(&root, Path::new(PATH)).unwrap(), first, "written although it was there");
        // One byte, with the times set back.
        let times = fs::FileTimes::new().set_modified(fs::metadata(&path).unwrap().modified().unwrap());
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"X", 1000).unwrap();
        file.set_times(times).unwrap();
        assert!(!first.is_untouched());
        let second = install(&root, Path::new(PATH)).unwrap();
        assert!(is_ourselves(&path) && second.is_untouched());
    }

    #[test]
    fn a_program_that_others_may_write_is_not_run() {
        let (folder, root) = root();
        let installed = install(&root, Path::new(PATH)).unwrap();
        let path = folder.path().join(PATH.trim_start_matches('/'));
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!installed.is_untouched());
        assert!(matches!(installed.may_be_run(), Err(ProgramError::Writable { mode: 0o777, .. })));
    }

    #[test]
    fn what_is_no_place_for_a_program_is_refused() {
        let (folder, root) = root();
        for path in ["relative/path", "/"] {
            assert!(matches!(install(&root, Path::new(path)), Err(ProgramError::NoPath(_))), "{path}");
        }
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(matches!(install(&root, Path::new("/file/program")), Err(ProgramError::Io { .. })));
        fs::create_dir_all(folder.path().join("bin/program")).unwrap();
        assert!(matches!(install(&root, Path::new("/bin/program")), Err(ProgramError::Io { .. })));
    }
}
