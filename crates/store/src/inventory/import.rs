//! An older program's `inventory.json`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::record::{Entry, EntryError, time_text, within};
use crate::error::StoreError;

/// What came of an old file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// How many records it held.
    pub found: usize,
    /// How many of them were not here already.
    pub written: u64,
    /// Where the file is now.
    pub kept: PathBuf,
}

/// Why an old file was not taken in. It is where it was, as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("the old inventory {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not an inventory.
    #[error(
        "the old inventory {} is broken: {source}; correct it, or move it away to begin with an empty inventory",
        path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A record is not one.
    #[error(
        "the old inventory {}, record {number}: {reason}; correct it, or move the file away to begin with an empty \
         inventory",
        path.display()
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// The record, the first being 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The records could not be stored.
    #[error("the old inventory {} was not taken in: {source}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// The file could not be set aside. Its records are stored.
    #[error("the old inventory {} was taken in and cannot be renamed to {}: {source}", path.display(), to.display())]
    SetAside {
        /// The file.
        path: PathBuf,
        /// What it should be called.
        to: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A record with what an older program noted about it.
#[derive(Debug)]
pub(super) struct OldRecord {
    pub(super) entry: Entry,
    pub(super) hash: String,
    pub(super) updated_at: String,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    records: Option<Vec<RawRecord>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRecord {
    provider_id: String,
    node_name: String,
    config: Box<RawValue>,
    #[serde(default)]
    last_config_hash: String,
    #[serde(default)]
    updated_at: Option<Timestamp>,
}

pub(super) fn read(path: &Path) -> Result<Option<Vec<OldRecord>>, ImportError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ImportError::Read { path: path.to_owned(), source }),
    };
    let file: File = serde_json::from_slice(&bytes)
        .map_err(|source| ImportError::Broken { path: path.to_owned(), source })?;
    let mut records: Vec<OldRecord> = Vec::new();
    let mut places: HashMap<_, usize> = HashMap::new();
    for (at, raw) in file.records.unwrap_or_default().into_iter().enumerate() {
        let record = record(raw).map_err(|reason| ImportError::Record {
            path: path.to_owned(),
            number: at + 1,
            reason: reason.to_string(),
        })?;
        // The newer of two for the same node.
        match places.get(&record.entry.key).and_then(|place| records.get_mut(*place)) {
            Some(known) if known.updated_at <= record.updated_at => *known = record,
            Some(_) => (),
            None => {
                places.insert(record.entry.key.clone(), records.len());
                records.push(record);
            }
        }
    }
    Ok(Some(records))
}

fn record(raw: RawRecord) -> Result<OldRecord, EntryError> {
    let RawRecord { provider_id, node_name, config, last_config_hash, updated_at } = raw;
    // The file is indented; what was sent was not.
    let compact = compact(config.get());
    // The older programs kept no node without a provider.
    within("providerId", &provider_id, 255)?;
    let entry = Entry::of_json(&provider_id, compact, Some(&node_name))?;
    let hash = if last_config_hash.is_empty() { entry.hash.clone() } else { last_config_hash };
    if hash.chars().count() > 64 {
        return Err(EntryError::Field { field: "lastConfigHash", reason: "is longer than 64 characters" });
    }
    Ok(OldRecord { entry, hash, updated_at: time_text(updated_at.unwrap_or(Timestamp::UNIX_EPOCH)) })
}

/// Takes the white space between the tokens away; the tokens, their order and what is unknown stay.
fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let (mut quoted, mut escaped) = (false, false);
    for letter in json.chars() {
        if quoted || !matches!(letter, ' ' | '\t' | '\n' | '\r') {
            text.push(letter);
        }
        quoted ^= letter == '"' && !escaped;
        escaped = letter == '\\' && quoted && !escaped;
    }
    text
}

/// Renames the file to `….imported`, or to the first free `….imported.N`.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, ImportError> {
    let mut to = path.as_os_str().to_owned();
    to.push(".imported");
    let mut to = PathBuf::from(to);
    let base = to.clone();
    let mut number = 0;
    while to.symlink_metadata().is_ok() {
        number += 1;
        let mut name = base.clone().into_os_string();
        name.push(format!(".{number}"));
        to = PathBuf::from(name);
    }
    let failed = |source| ImportError::SetAside { path: path.to_owned(), to: to.clone(), source };
    fs::rename(path, &to).map_err(failed)?;
    // Without this, a loss of power may bring the old name back.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_white_space_between_tokens_is_taken_away() {
        let text = "{\n  \"a b\": [1,  \"x \\\" y\", \"\\\\\"],\r\n\t\"c\" : 1.50 }";
        assert_eq!(compact(text), r#"{"a b":[1,"x \" y","\\"],"c":1.50}"#);
    }
}
