//! Where backups are kept: `multinic-20261122T040000Z.sql`, and beside each a record of what was verified of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::BackupError;

/// What every backup's name begins with; what else is there is nobody's business here.
pub(super) const PREFIX: &str = "multinic-";
/// What is added to a dump's name for its record.
pub(super) const RECORD: &str = ".json";
/// The same of a record that does not count yet.
pub(super) const PARTIAL: &str = ".json.partial";
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
    /// The dump's name.
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

    /// As it is in its file.
    pub(super) fn to_json(&self) -> String {
        // Only maps with keys that are not texts fail to serialise, and there is none.
        serde_json::to_string_pretty(self).unwrap_or_default()
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

/// A place with backups. A dump there is one once its record is there, which is the last that comes and the first that nobody
/// believes without its dump.
pub trait Archive: fmt::Display {
    /// Gets ready for another backup: finishes or removes what interrupted ones left, and keeps others away where the place can
    /// do that, for as long as the turn lives.
    ///
    /// # Errors
    /// Where somebody is at it, or the place cannot be written.
    fn begin(&self) -> Result<Turn, BackupError>;

    /// Where the dump of this name is to be written before it is a backup; `work` is a folder of the caller's.
    fn draft(&self, file: &str, work: &Path) -> PathBuf;

    /// Takes a dump that was verified among the backups.
    ///
    /// # Errors
    /// Where it cannot be put there as it is. It does not count then.
    fn keep(&self, draft: &Path, record: &Record) -> Result<(), BackupError>;

    /// The backups that were verified and whose dumps are there, the newest first. A record that cannot be understood is none.
    ///
    /// # Errors
    /// Where the place cannot be read.
    fn records(&self) -> Result<Vec<Record>, BackupError>;

    /// A backup's dump as a file, maybe one in `work`.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn fetch(&self, record: &Record, work: &Path) -> Result<PathBuf, BackupError>;

    /// Removes a backup.
    ///
    /// # Errors
    /// Where that is not possible.
    fn remove(&self, record: &Record) -> Result<(), BackupError>;

    /// The backup of this name, or the newest of a database for [`LATEST`].
    ///
    /// # Errors
    /// Where there is none that was verified, with the names of those that there are.
    fn find(&self, from: &str, database: &str, now: Timestamp) -> Result<Record, BackupError> {
        let records = self.records()?;
        let is_meant = |record: &&Record| match from {
            LATEST => record.database == database,
            name => record.file == name,
        };
        let found = in_order(records.iter().filter(is_meant), now).first().copied().cloned();
        found.ok_or_else(|| {
            let names: Vec<&str> = records.iter().map(|record| record.file.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            BackupError::NotFound { from: from.to_owned(), place: self.to_string(), names }
        })
    }

    /// Removes what is not to be kept any more beside the backup that was `made` just now. Returns its names.
    ///
    /// # Errors
    /// Where one cannot be removed.
    fn tidy(&self, made: &Record, retention: Retention, now: Timestamp) -> Result<Vec<String>, BackupError> {
        let records = self.records()?;
        let of_it = records.iter().filter(|record| record.database == made.database);
        let mut removed = Vec::new();
        for record in surplus(of_it, retention, now).into_iter().filter(|record| record.file != made.file) {
            self.remove(record)?;
            removed.push(record.file.clone());
        }
        Ok(removed)
    }
}

/// Keeps others away while it lives, where it holds anything.
#[derive(Debug, Default)]
pub struct Turn {
    pub(super) _lock: Option<File>,
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use super::*;

    pub(in super::super) fn record(day: i64) -> Record {
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
}
