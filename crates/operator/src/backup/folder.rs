//! A folder with backups.

use std::cmp::Reverse;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::archive::{Archive, PARTIAL, PREFIX, RECORD, Record, Turn};
use super::{BackupError, at};

/// A folder with backups.
#[derive(Debug, Clone)]
pub struct Folder {
    folder: PathBuf,
}

impl Folder {
    /// This folder, which is there.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where a file of it is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Keeps others from making a backup here, for as long as the file lives.
    fn lock(&self) -> Result<File, BackupError> {
        let path = self.path(".lock");
        let file = File::options().create(true).append(true).open(&path).map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(BackupError::Busy { folder: self.folder.clone() }),
            Err(fs::TryLockError::Error(source)) => Err(BackupError::File { path, source }),
        }
    }

    /// Removes what interrupted backups left. One that was interrupted when it was verified already is finished.
    fn sweep(&self) -> Result<(), BackupError> {
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = entry.map_err(at(&self.folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.starts_with(PREFIX) || !name.ends_with(".partial") {
                continue;
            }
            let dump = name.strip_suffix(PARTIAL).filter(|dump| self.path(dump).is_file());
            match dump.filter(|dump| read(&path).is_ok_and(|record| record.file == **dump)) {
                Some(dump) => {
                    let path_of_record = self.path(&format!("{dump}{RECORD}"));
                    put(&path, &path_of_record).map_err(at(&path_of_record))?;
                }
                None => fs::remove_file(&path).map_err(at(&path))?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.folder.display().fmt(f)
    }
}

impl Archive for Folder {
    fn begin(&self) -> Result<Turn, BackupError> {
        let lock = self.lock()?;
        // What an interrupted one left may be what there is no place for.
        self.sweep()?;
        Ok(Turn { _lock: Some(lock) })
    }

    /// In the folder itself: from there it gets its name at once.
    fn draft(&self, file: &str, _: &Path) -> PathBuf {
        self.path(&format!("{file}.partial"))
    }

    /// Its record comes last, and all is on the disk before it counts. The record is there under another name before the dump has
    /// its own, so that it is known whose that is.
    fn keep(&self, draft: &Path, record: &Record) -> Result<(), BackupError> {
        File::open(draft).and_then(|file| file.sync_all()).map_err(at(draft))?;
        let partial = self.path(&format!("{}{PARTIAL}", record.file));
        write(&partial, record.to_json().as_bytes()).map_err(at(&partial))?;
        let path = self.path(&record.file);
        put(draft, &path).map_err(at(&path))?;
        let path = self.path(&format!("{}{RECORD}", record.file));
        put(&partial, &path).map_err(at(&path))
    }

    fn records(&self) -> Result<Vec<Record>, BackupError> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = entry.map_err(at(&self.folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.starts_with(PREFIX) || !name.ends_with(".sql.json") {
                continue;
            }
            match read(&path) {
                // A record names its own dump and no other file.
                Ok(record) if name == format!("{}{RECORD}", record.file) => {
                    if self.path(&record.file).is_file() {
                        records.push(record);
                    }
                }
                Ok(_) => tracing::warn!(file = name, "it is no record of a backup: it names another"),
                Err(error) => tracing::warn!(file = name, %error, "it is no record of a backup"),
            }
        }
        records.sort_by_key(|record: &Record| Reverse(record.time));
        Ok(records)
    }

    fn fetch(&self, record: &Record, _: &Path) -> Result<PathBuf, BackupError> {
        Ok(self.path(&record.file))
    }

    fn remove(&self, record: &Record) -> Result<(), BackupError> {
        // A record without its dump is nothing; a dump without its record nobody would know of.
        for name in [record.file.clone(), format!("{}{RECORD}", record.file)] {
            fs::remove_file(self.path(&name)).map_err(at(&self.path(&name)))?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Record> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Writes a file, which is on the disk then.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives a file that is on the disk its name, for good.
pub(super) fn put(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    File::open(to.parent().unwrap_or(to))?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use super::super::archive::tests::record;
    use super::super::archive::{LATEST, Retention};
    use super::*;

    fn kept(archive: &Folder, record: &Record) {
        let dump = archive.path("dump");
        fs::write(&dump, "x").unwrap();
        archive.keep(&dump, record).unwrap();
    }

    #[test]
    fn what_was_made_just_now_stays_whatever_the_clock_says_and_another_databases_are_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Folder::new(folder.path());
        let others = Record { database: "another".to_owned(), ..record(9) };
        for record in [record(400), record(10), record(7), others.clone()] {
            kept(&archive, &record);
        }
        let one = Retention { count: Some(1), age: None };
        let find = |database: &str, day| archive.find(LATEST, database, record(day).time).unwrap();
        assert_eq!((find("multinic", 11), find("another", 11)), (record(10), others.clone()));
        assert_eq!(archive.find(&others.file, "multinic", record(11).time).unwrap(), others, "by its name");
        let removed = archive.tidy(&record(7), one, record(11).time).unwrap();
        assert_eq!(removed, [record(400).file]);
        assert_eq!(archive.records().unwrap(), [record(10), others, record(7)]);
    }

    #[test]
    fn a_backup_that_was_verified_and_not_named_yet_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Folder::new(folder.path());
        kept(&archive, &record(1));
        let names = ["", PARTIAL].map(|ending| archive.path(&format!("{}{ending}", record(1).file)));
        fs::rename(archive.path(&format!("{}.json", record(1).file)), &names[1]).unwrap();
        assert_eq!(archive.records().unwrap(), []);
        archive.sweep().unwrap();
        assert_eq!(archive.records().unwrap(), [record(1)]);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_none_and_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Folder::new(folder.path());
        kept(&archive, &record(1));
        fs::write(archive.path("multinic-19700105T000000Z.sql.json"), [0xff]).unwrap();
        fs::create_dir(archive.path("multinic-19700106T000000Z.sql.json")).unwrap();
        assert_eq!(archive.records().unwrap(), [record(1)]);
    }

    #[test]
    fn a_dump_whose_record_cannot_be_written_is_not_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Folder::new(folder.path());
        let dump = archive.path(&format!("{}.partial", record(1).file));
        fs::write(&dump, "x").unwrap();
        // Nothing is written where a folder is.
        fs::create_dir(archive.path(&format!("{}.json.partial", record(1).file))).unwrap();
        assert!(archive.keep(&dump, &record(1)).is_err());
        assert!(!archive.path(&record(1).file).exists());
    }

    #[test]
    fn only_what_was_verified_is_a_backup_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Folder::new(folder.path());
        for day in [1, 2, 3] {
            kept(&archive, &record(day));
        }
        let others = ["multinic-19700105T000000Z.sql", "notes.txt", "multinic-mine.sql.json"];
        others.iter().for_each(|name| fs::write(archive.path(name), "{}").unwrap());
        fs::write(archive.path("multinic-19700106T000000Z.sql.partial"), "half").unwrap();
        let find = |from: &str| archive.find(from, "multinic", record(9).time);
        assert_eq!(find(LATEST).unwrap(), record(3));
        assert!(find(others[0]).unwrap_err().to_string().contains(&record(2).file));
        fs::remove_file(archive.path(&record(3).file)).unwrap();
        assert_eq!(find(LATEST).unwrap(), record(2));

        archive.sweep().unwrap();
        let one = Retention { count: Some(1), age: None };
        assert_eq!(archive.tidy(&record(2), one, record(9).time).unwrap(), [record(1).file]);
        assert!(others.iter().all(|name| archive.path(name).exists()));
        assert!(!archive.path("multinic-19700106T000000Z.sql.partial").exists());
        assert_eq!(archive.records().unwrap(), [record(2)]);
    }

    #[test]
    fn two_do_not_work_in_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Folder::new(folder.path());
        let first = archive.lock().unwrap();
        assert!(matches!(archive.lock(), Err(BackupError::Busy { .. })));
        drop(first);
        archive.lock().unwrap();
    }
}
