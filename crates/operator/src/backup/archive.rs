//! The folder with the backups: `multinic-20261122T040000Z.sql`, and beside each a record of what was verified of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{BackupError, at};

/// What every backup's name begins with; what else is in the folder is nobody's business here.
const PREFIX: &str = "multinic-";
/// What the name of a record ends with that does not count yet.
const PARTIAL: &str = ".json.partial";
/// The newest verified backup, whatever its name.
pub const LATEST: &str = "latest";

/// Tables with the epoch of their content. A database that was restored is not the one that it was: everybody who remembers
/// how far that one had come has to see that it is another.
pub(super) const EPOCHS: [&str; 2] = ["multinic_meta", "inventory_meta"];

/// Rows that say something: an epoch alone, and the version of the tables, are what every new database has.
pub(super) fn content(counts: &BTreeMap<String, u64>) -> u64 {
    counts.iter().filter(|(table, _)| !EPOCHS.contains(&table.as_str())).map(|(_, rows)| rows).sum()
}

/// What is known of a backup. There is a record of those only that were verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The dump's name in the folder.
    pub file: String,
    /// When the dump was begun: it holds one state of the database from then on.
    pub time: Timestamp,
    /// The database.
    pub database: String,
    /// Bytes of the dump.
    pub size: u64,
    /// SHA-256 of the dump, in hex.
    pub sha256: String,
    /// Rows of each table, in the dump as in the server that was filled from it.
    pub tables: BTreeMap<String, u64>,
}

impl Record {
    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.values().sum()
    }

    /// What a dump of this time is named.
    pub fn name(time: Timestamp) -> String {
        format!("{PREFIX}{}.sql", time.strftime("%Y%m%dT%H%M%SZ"))
    }
}

/// How long backups are kept. Each rule that is given applies; the newest one is kept in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// So many at most.
    pub count: Option<usize>,
    /// None older than this.
    pub age: Option<Duration>,
}

/// Clocks differ, and one that was far ahead once said nothing of when that was: such a backup is older than all others.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The newest first.
fn in_order<'a>(records: impl IntoIterator<Item = &'a Record>, now: Timestamp) -> Vec<&'a Record> {
    let mut records: Vec<&Record> = records.into_iter().collect();
    records.sort_by_key(|record| (record.time.duration_since(now) > SKEW, Reverse(record.time)));
    records
}

/// Those of `records` that are to go.
pub fn surplus<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    retention: Retention,
    now: Timestamp,
) -> Vec<&'a Record> {
    let goes = |(place, record): &(usize, &Record)| {
        let is_old = retention.age.is_some_and(|age| {
            SignedDuration::try_from(age).is_ok_and(|age| now.duration_since(record.time) > age)
        });
        // What was verified last is what can be relied on.
        *place > 0 && (is_old || retention.count.is_some_and(|count| *place >= count))
    };
    in_order(records, now).into_iter().enumerate().filter(goes).map(|(_, record)| record).collect()
}

/// A folder with backups.
#[derive(Debug, Clone)]
pub struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// This folder, which is there.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where a file of it is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Keeps others from making a backup here, for as long as the file lives.
    ///
    /// # Errors
    /// Where somebody is at it, or the folder cannot be written.
    pub fn lock(&self) -> Result<File, BackupError> {
        let path = self.path(".lock");
        let file = File::options().create(true).append(true).open(&path).map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(BackupError::Busy { folder: self.folder.clone() }),
            Err(fs::TryLockError::Error(source)) => Err(BackupError::File { path, source }),
        }
    }

    /// The backups that were verified and whose dumps are there, the newest first.
    ///
    /// # Errors
    /// Where the folder cannot be read. A record that cannot be read is none.
    pub fn records(&self) -> Result<Vec<Record>, BackupError> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = entry.map_err(at(&self.folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.starts_with(PREFIX) || !name.ends_with(".sql.json") {
                continue;
            }
            match read(&path) {
                // A record names its own dump and no other file.
                Ok(record) if name == format!("{}.json", record.file) => {
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

    /// The backup of this name, or the newest of a database for [`LATEST`].
    ///
    /// # Errors
    /// Where there is none that was verified, with the names of those that there are.
    pub fn find(&self, from: &str, database: &str, now: Timestamp) -> Result<Record, BackupError> {
        let records = self.records()?;
        let is_meant = |record: &&Record| match from {
            LATEST => record.database == database,
            name => record.file == name,
        };
        let found = in_order(records.iter().filter(is_meant), now).first().copied().cloned();
        found.ok_or_else(|| {
            let names: Vec<&str> = records.iter().map(|record| record.file.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            BackupError::NotFound { from: from.to_owned(), folder: self.folder.clone(), names }
        })
    }

    /// Takes a dump that was verified among the backups: its record last, and all on the disk before it counts. The record is
    /// there under another name before the dump has its own, so that [`Self::sweep`] knows whose that is.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn keep(&self, dump: &Path, record: &Record) -> Result<(), BackupError> {
        File::open(dump).and_then(|file| file.sync_all()).map_err(at(dump))?;
        let partial = self.path(&format!("{}{PARTIAL}", record.file));
        // Only maps with keys that are not texts fail to serialise, and there is none.
        let text = serde_json::to_string_pretty(record).unwrap_or_default();
        write(&partial, text.as_bytes()).map_err(at(&partial))?;
        let path = self.path(&record.file);
        put(dump, &path).map_err(at(&path))?;
        let path = self.path(&format!("{}.json", record.file));
        put(&partial, &path).map_err(at(&path))
    }

    /// Removes what interrupted backups left. One that was interrupted when it was verified already is finished.
    ///
    /// # Errors
    /// Where a file cannot be removed.
    pub fn sweep(&self) -> Result<(), BackupError> {
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = entry.map_err(at(&self.folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.starts_with(PREFIX) || !name.ends_with(".partial") {
                continue;
            }
            let dump = name.strip_suffix(PARTIAL).filter(|dump| self.path(dump).is_file());
            match dump.filter(|dump| read(&path).is_ok_and(|record| record.file == **dump)) {
                Some(dump) => put(&path, &self.path(&format!("{dump}.json"))).map_err(at(&path))?,
                None => fs::remove_file(&path).map_err(at(&path))?,
            }
        }
        Ok(())
    }

    /// Removes what is not to be kept any more beside the backup that was `made` just now. Returns its names.
    ///
    /// # Errors
    /// Where a file cannot be removed.
    pub fn tidy(
        &self,
        made: &Record,
        retention: Retention,
        now: Timestamp,
    ) -> Result<Vec<String>, BackupError> {
        let records = self.records()?;
        let of_it = records.iter().filter(|record| record.database == made.database);
        let mut removed = Vec::new();
        for record in surplus(of_it, retention, now).into_iter().filter(|record| record.file != made.file) {
            // A record without its dump is nothing; a dump without its record nobody would know of.
            for name in [record.file.clone(), format!("{}.json", record.file)] {
                fs::remove_file(self.path(&name)).map_err(at(&self.path(&name)))?;
            }
            removed.push(record.file.clone());
        }
        Ok(removed)
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

    use super::*;

    fn record(day: i64) -> Record {
        let time = Timestamp::from_second(day * 86_400).unwrap();
        Record {
            file: Record::name(time),
            time,
            database: "multinic".to_owned(),
            size: 1,
            sha256: String::new(),
            tables: BTreeMap::new(),
        }
    }

    fn kept(archive: &Archive, record: &Record) {
        let dump = archive.path("dump");
        fs::write(&dump, "x").unwrap();
        archive.keep(&dump, record).unwrap();
    }

    fn days(records: &[&Record]) -> Vec<i64> {
        records.iter().map(|record| record.time.as_second() / 86_400).collect()
    }

    #[test]
    fn what_is_beyond_a_number_or_an_age_goes_and_the_newest_stays_in_any_case() {
        let records: Vec<Record> = [3, 9, 1, 10].map(record).to_vec();
        let now = record(11).time;
        let goes = |count, days_old: Option<u64>| {
            let age = days_old.map(|days| Duration::from_secs(days * 86_400));
            days(&surplus(&records, Retention { count, age }, now))
        };
        assert_eq!(goes(None, None), Vec::<i64>::new());
        assert_eq!(goes(Some(2), None), [3, 1]);
        assert_eq!(goes(None, Some(5)), [3, 1]);
        assert_eq!(goes(Some(3), Some(1)), [9, 3, 1]);
        assert_eq!(goes(Some(0), Some(0)), [9, 3, 1]);
        assert_eq!(
            days(&surplus(&records, Retention { count: Some(1), age: None }, record(0).time)),
            [9, 3, 1]
        );
    }

    #[test]
    fn one_of_a_clock_that_was_ahead_is_the_oldest() {
        let records: Vec<Record> = [400, 10, 3].map(record).to_vec();
        let now = record(11).time;
        let goes = |count| days(&surplus(&records, Retention { count: Some(count), age: None }, now));
        assert_eq!((goes(1), goes(2)), (vec![3, 400], vec![400]));
    }

    #[test]
    fn what_was_made_just_now_stays_whatever_the_clock_says_and_another_databases_are_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::new(folder.path());
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
        let archive = Archive::new(folder.path());
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
        let archive = Archive::new(folder.path());
        kept(&archive, &record(1));
        fs::write(archive.path("multinic-19700105T000000Z.sql.json"), [0xff]).unwrap();
        fs::create_dir(archive.path("multinic-19700106T000000Z.sql.json")).unwrap();
        assert_eq!(archive.records().unwrap(), [record(1)]);
    }

    #[test]
    fn a_dump_whose_record_cannot_be_written_is_not_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::new(folder.path());
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
        let archive = Archive::new(folder.path());
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
        let archive = Archive::new(folder.path());
        let first = archive.lock().unwrap();
        assert!(matches!(archive.lock(), Err(BackupError::Busy { .. })));
        drop(first);
        archive.lock().unwrap();
    }
}
