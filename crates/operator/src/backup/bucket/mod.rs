//! A bucket of an S3-compatible server with backups.
//!
//! An object is there as a whole or not at all, and its name cannot be changed. So a backup comes in three steps: what was
//! verified of it under the name of a record that does not count yet, together with the upload that is under way; then the
//! dump; then, once that was read back and is what was verified, the record. Whatever is interrupted, the next one finds it by
//! the first of them.

mod failure;
mod requests;
mod settings;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use failure::{Problem, S3Error};
pub use settings::{BucketSettings, REGION, SettingsError, location};

use super::archive::{Archive, PARTIAL, PREFIX, RECORD, Record, Turn};
use super::make::hex;
use super::{BackupError, at};
use settings::Access;

/// Whoever began a backup before that does not go on with it any more. Nobody can be asked: a bucket has no locks.
const GIVEN_UP: SignedDuration = SignedDuration::from_hours(24);

/// A bucket with backups.
#[derive(Debug)]
pub struct Bucket {
    access: Access,
}

/// A record that does not count yet.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pending {
    #[serde(flatten)]
    record: Record,
    /// Of a dump that comes in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upload: Option<String>,
}

impl Bucket {
    /// This bucket. Nothing is asked of it yet.
    ///
    /// # Errors
    /// Where no request can be made with these settings.
    pub fn new(settings: &BucketSettings) -> Result<Self, BackupError> {
        Ok(Self { access: settings.access()? })
    }

    /// Lets a backup count whose dump is there, if that is what was verified. Says whether it is.
    fn finish(&self, record: &Record) -> Result<bool, BackupError> {
        let Hashed { hash, size } = self.access.read(&record.file, || Ok(Hashed::default()))?;
        if size != record.size || hex(&hash.finalize()) != record.sha256 {
            return Ok(false);
        }
        self.access.put(&format!("{}{RECORD}", record.file), record.to_json().as_bytes())?;
        self.access.delete(&format!("{}{PARTIAL}", record.file))?;
        Ok(true)
    }

    /// Finishes what was interrupted when the dump was there already; removes what nobody goes on with.
    fn sweep(&self, now: Timestamp) -> Result<(), BackupError> {
        let names = self.access.list(PREFIX)?;
        for (name, dump) in names.keys().filter_map(|name| Some((name, name.strip_suffix(PARTIAL)?))) {
            let Some(text) = self.access.get(name)? else { continue };
            let Pending { record, upload } = match serde_json::from_str::<Pending>(&text) {
                Ok(pending) if pending.record.file == dump => pending,
                _ => {
                    tracing::warn!(object = name, "it is no record of a backup");
                    continue;
                }
            };
            let is_there = names.contains_key(dump);
            if names.contains_key(&format!("{dump}{RECORD}")) {
                self.access.delete(name)?;
            } else if is_there && self.finish(&record)? {
                tracing::info!(file = dump, "a backup that was interrupted at its end was finished");
            } else if now.duration_since(record.time).abs() > GIVEN_UP {
                if let Some(upload) = upload {
                    self.access.abort(dump, &upload)?;
                }
                if is_there {
                    self.access.delete(dump)?;
                }
                self.access.delete(name)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.access.location)
    }
}

impl Archive for Bucket {
    /// Two may be at work at once: they do not touch what is each other's.
    fn begin(&self) -> Result<Turn, BackupError> {
        self.sweep(Timestamp::now())?;
        Ok(Turn::default())
    }

    fn draft(&self, file: &str, work: &Path) -> PathBuf {
        work.join(file)
    }

    fn keep(&self, draft: &Path, record: &Record) -> Result<(), BackupError> {
        let partial = format!("{}{PARTIAL}", record.file);
        let upload = self.access.begin(&record.file, record.size)?;
        let pending = Pending { record: record.clone(), upload };
        // Only maps with keys that are not texts fail to serialise, and there is none.
        let text = serde_json::to_string_pretty(&pending).unwrap_or_default();
        let upload = pending.upload.as_deref();
        let put = self.access.put(&partial, text.as_bytes());
        let sent = put.and_then(|()| self.access.upload(&record.file, draft, upload));
        if let Err(error) = sent {
            // Where that fails too, the next one does it.
            let aborted = upload.map_or(Ok(()), |upload| self.access.abort(&record.file, upload));
            let _ = aborted.and_then(|()| self.access.delete(&partial));
            return Err(error.into());
        }
        match self.finish(record)? {
            true => Ok(()),
            false => Err(BackupError::Damaged { file: record.file.clone(), place: self.to_string() }),
        }
    }

    fn records(&self) -> Result<Vec<Record>, BackupError> {
        let names: BTreeMap<String, u64> = self.access.list(PREFIX)?;
        let mut records = Vec::new();
        for (name, dump) in names.keys().filter_map(|name| Some((name, name.strip_suffix(RECORD)?))) {
            let Some(size) = names.get(dump) else { continue };
            let Some(text) = self.access.get(name)? else { continue };
            match serde_json::from_str::<Record>(&text) {
                Ok(record) if record.file == dump && record.size == *size => records.push(record),
                Ok(_) => tracing::warn!(object = name, "it is no record of a backup: it is of another dump"),
                Err(error) => tracing::warn!(object = name, %error, "it is no record of a backup"),
            }
        }
        records.sort_by_key(|record: &Record| Reverse(record.time));
        Ok(records)
    }

    fn fetch(&self, record: &Record, work: &Path) -> Result<PathBuf, BackupError> {
        let path = work.join(&record.file);
        let out = self.access.read(&record.file, || Ok(BufWriter::new(File::create(&path)?)))?;
        out.into_inner().map_err(|error| at(&path)(error.into_error()))?;
        Ok(path)
    }

    fn remove(&self, record: &Record) -> Result<(), BackupError> {
        // A record without its dump is nothing; a dump without its record nobody would know of.
        for name in [record.file.clone(), format!("{}{RECORD}", record.file)] {
            self.access.delete(&name)?;
        }
        Ok(())
    }
}

/// What is read, as far as it has to be known.
#[derive(Default)]
struct Hashed {
    hash: Sha256,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
