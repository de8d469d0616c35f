//! A backup: dumped, restored into a scratch server, counted, and only then one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use multinic_api::condition::whole_second;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use super::archive::{Archive, EPOCHS, Record, Retention, content};
use super::programs::{Login, Server, each_line};
use super::{BackupError, at};

/// How often a dump is made of a database that somebody changes meanwhile.
const ATTEMPTS: u32 = 3;

/// The database, and who reads it.
#[derive(Debug, Clone)]
pub struct Source {
    /// The server's name or address.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// With this.
    pub password: SecretString,
    /// The database.
    pub database: String,
    /// The authority that signed the server's certificate, which then has to have the host's name. Without one nobody checks
    /// who answers, and the connection is encrypted only if server and client do that by themselves.
    pub authority: Option<PathBuf>,
}

/// Makes a backup. `work` is an empty folder with place for the database twice over, and once more where the archive is elsewhere.
///
/// # Errors
/// Where anything of it fails. The backups that there are stay as they are then.
pub fn make(
    source: &Source,
    archive: &dyn Archive,
    work: &Path,
    retention: Retention,
) -> Result<Record, BackupError> {
    let _turn = archive.begin()?;
    let login = Login::new(work, source)?;
    let time = whole_second(Timestamp::now());
    let file = Record::name(time);
    let draft = archive.draft(&file, work);
    let made = dump(&login, &draft).and_then(|Dump { tables, size, sha256 }| {
        if content(&tables) == 0 {
            // Of a database that was lost, every dump is right, and after some of them there would be no other.
            let others = archive.records()?.into_iter().filter(|other| other.database == source.database);
            if let Some(other) = others.into_iter().find(|other| content(&other.tables) > 0) {
                return Err(BackupError::Emptied { rows: other.rows(), file: other.file });
            }
        }
        verify(&draft, &source.database, &tables, work)?;
        let record = Record { file, time, database: source.database.clone(), size, sha256, tables };
        archive.keep(&draft, &record)?;
        Ok(record)
    });
    // Where it is a backup now it has another name, or is elsewhere.
    let _ = fs::remove_file(&draft);
    let record = made?;
    let removed = archive.tidy(&record, retention, Timestamp::now())?;
    tracing::info!(
        file = record.file,
        rows = record.rows(),
        size = record.size,
        ?removed,
        "a backup was made and verified"
    );
    Ok(record)
}

/// A dump as it is in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dump {
    /// Rows of each table.
    pub tables: BTreeMap<String, u64>,
    /// Bytes.
    pub size: u64,
    /// In hex.
    pub sha256: String,
}

/// Dumps the database and compares the rows with those that are there.
fn dump(login: &Login, path: &Path) -> Result<Dump, BackupError> {
    let mut attempt = 1;
    loop {
        let before = login.counts()?;
        let dump = write(login, path)?;
        let after = login.counts()?;
        match missing(&before, &dump.tables, &after) {
            None => return Ok(dump),
            // Rows may have come and gone between two looks.
            Some(_) if attempt < ATTEMPTS => attempt += 1,
            Some((table, dumped, there)) => return Err(BackupError::Partial { table, dumped, there }),
        }
    }
}

/// A table of which the dump does not hold what was there before and after it.
fn missing(
    before: &BTreeMap<String, u64>,
    dumped: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> Option<(String, u64, u64)> {
    before.iter().find_map(|(table, &there)| {
        let dumped = dumped.get(table).copied();
        let is_still = after.get(table) == Some(&there);
        (is_still && dumped != Some(there)).then(|| (table.clone(), dumped.unwrap_or_default(), there))
    })
}

/// Writes the dump. Whoever restores it, by whatever way, gives the database another epoch: before the first table changes,
/// and together with the rows that hold the old one. Nobody who reads meanwhile takes it for what he knows.
fn write(login: &Login, path: &Path) -> Result<Dump, BackupError> {
    let mut file = BufWriter::with_capacity(1 << 16, File::create(path).map_err(at(path))?);
    let mut tally = Tally::default();
    let mut put = |line: &[u8]| {
        tally.take(line);
        file.write_all(line)
    };
    let mut head = Some(EPOCHS.iter().map(|table| renewal_if_there(table)).collect::<String>());
    let mut locked = None;
    login.dump(path, |line| {
        // After what makes clients careful, which is the first line.
        if line.starts_with(b"-- ")
            && let Some(head) = head.take()
        {
            put(RENEWED.as_bytes())?;
            put(head.as_bytes())?;
        }
        if line.starts_with(b"LOCK TABLES ") {
            locked =
                EPOCHS.iter().find(|table| named(line, b"LOCK TABLES `").is_some_and(|it| it == **table));
        } else if line.starts_with(b"UNLOCK TABLES")
            && let Some(table) = locked.take()
        {
            put(format!("{};\n", renewal(table)).as_bytes())?;
        }
        put(line)
    })?;
    let file = file.into_inner().map_err(|error| at(path)(error.into_error()))?;
    file.sync_all().map_err(at(path))?;
    tally.dump(path)
}

const RENEWED: &str = "-- What is restored is not what it was: agents take nothing away by it before it was published to again.\n";

fn renewal(table: &str) -> String {
    format!("UPDATE `{table}` SET `value` = UUID() WHERE `name` = 'epoch'")
}

/// The same of a database that may have no such table.
fn renewal_if_there(table: &str) -> String {
    let renewal = renewal(table).replace('\'', "''");
    format!(
        "SET @renewal = IF((SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() \
         AND table_name = '{table}') > 0, '{renewal}', 'DO 0');\n\
         PREPARE renewal FROM @renewal;\nEXECUTE renewal;\nDEALLOCATE PREPARE renewal;\n"
    )
}

/// What lines of a dump come to.
#[derive(Default)]
struct Tally {
    tables: BTreeMap<String, u64>,
    size: u64,
    hash: Sha256,
    is_complete: bool,
}

impl Tally {
    fn take(&mut self, line: &[u8]) {
        self.size += line.len() as u64;
        self.hash.update(line);
        // No value has a line of its own: line ends within one are written as \n.
        if let Some(table) = named(line, b"CREATE TABLE `") {
            self.tables.entry(table).or_default();
        } else if let Some(table) = named(line, b"INSERT INTO `") {
            *self.tables.entry(table).or_default() += 1;
        }
        self.is_complete |= line.starts_with(b"-- Dump completed");
    }

    fn dump(self, path: &Path) -> Result<Dump, BackupError> {
        let Self { tables, size, hash, is_complete } = self;
        if !is_complete {
            return Err(BackupError::Incomplete { path: path.to_owned() });
        }
        Ok(Dump { tables, size, sha256: hex(&hash.finalize()) })
    }
}

/// A checksum as people compare it.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a dump: its tables and their rows, and whether it is complete.
pub(super) fn read(path: &Path) -> Result<Dump, BackupError> {
    let file = File::open(path).map_err(at(path))?;
    let mut tally = Tally::default();
    each_line(file, |line| {
        tally.take(line);
        Ok(())
    })
    .map_err(at(path))?;
    tally.dump(path)
}

/// The table that a line is about which begins so.
fn named(line: &[u8], beginning: &[u8]) -> Option<String> {
    let rest = line.strip_prefix(beginning)?;
    let end = rest.iter().position(|byte| *byte == b'`')?;
    Some(String::from_utf8_lossy(rest.get(..end)?).into_owned())
}

/// Restores a dump into a server of its own and counts.
fn verify(
    dump: &Path,
    database: &str,
    tables: &BTreeMap<String, u64>,
    work: &Path,
) -> Result<(), BackupError> {
    let data = work.join("scratch");
    if data.exists() {
        fs::remove_dir_all(&data).map_err(at(&data))?;
    }
    fs::create_dir(&data).map_err(at(&data))?;
    Server::prepare(&data)?;
    let server = Server::start(&data, work, false)?;
    server.fill(database, dump)?;
    let restored = server.counts(database)?;
    drop(server);
    let _ = fs::remove_dir_all(&data);
    compare(tables, &restored)
}

/// Whether a server holds what a dump does.
pub(super) fn compare(
    dumped: &BTreeMap<String, u64>,
    restored: &BTreeMap<String, u64>,
) -> Result<(), BackupError> {
    let names = dumped.keys().chain(restored.keys());
    let rows = |of: &BTreeMap<String, u64>, table: &String| of.get(table).copied();
    match names.into_iter().find(|table| rows(dumped, table) != rows(restored, table)) {
        None => Ok(()),
        Some(table) => Err(BackupError::Unequal {
            table: table.clone(),
            dumped: rows(dumped, table).unwrap_or_default(),
            restored: rows(restored, table).unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use super::*;

    fn rows(list: &[(&str, u64)]) -> BTreeMap<String, u64> {
        list.iter().map(|(table, rows)| ((*table).to_owned(), *rows)).collect()
    }

    #[test]
    fn rows_are_lines_and_what_looks_like_one_within_a_value_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        let text = "CREATE TABLE `a` (\nCREATE TABLE `empty` (\nINSERT INTO `a` VALUES (1,'x\\nINSERT INTO `a`');\n\
                    INSERT INTO `a` VALUES (2,'y');\n";
        fs::write(&path, text).unwrap();
        assert!(matches!(read(&path), Err(BackupError::Incomplete { .. })));
        fs::write(&path, format!("{text}-- Dump completed on 2026-11-22  4:06:15\n")).unwrap();
        assert_eq!(read(&path).unwrap().tables, rows(&[("a", 2), ("empty", 0)]));
    }

    #[test]
    fn a_dump_that_lacks_what_stood_still_is_none() {
        let before = rows(&[("still", 3), ("grows", 1)]);
        let after = rows(&[("still", 3), ("grows", 9), ("new", 1)]);
        assert_eq!(missing(&before, &rows(&[("still", 3), ("grows", 5)]), &after), None);
        assert_eq!(
            missing(&before, &rows(&[("still", 2), ("grows", 5)]), &after),
            Some(("still".to_owned(), 2, 3))
        );
        assert_eq!(missing(&before, &rows(&[("grows", 5)]), &after), Some(("still".to_owned(), 0, 3)));
        assert!(compare(&rows(&[("a", 0)]), &rows(&[])).is_err());
        assert!(compare(&rows(&[("a", 1)]), &rows(&[("a", 1)])).is_ok());
    }
}
