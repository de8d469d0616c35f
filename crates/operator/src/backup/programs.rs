//! MariaDB's own programs, and a server of ours that nobody else reaches.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use std::io::{self, BufRead as _, BufReader, Write as _};

use secrecy::ExposeSecret as _;

use super::{BackupError, Source, at};

/// A large row is one packet.
const PACKET: &str = "--max-allowed-packet=1G";
const UTF8: &str = "--default-character-set=utf8mb4";
/// How long a server may take to come up: it may have a crash to recover from.
const UP: Duration = Duration::from_secs(600);
/// How long it may take to write what it has in memory.
const DOWN: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);
/// Of what a program said, its end.
const MOST_SAID: usize = 800;

/// Runs a program to its end and returns what it printed.
fn run(program: &'static str, command: &mut Command) -> Result<String, BackupError> {
    let output = command.output().map_err(|source| BackupError::Run { program, source })?;
    let [said, erred] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    match output.status.success() {
        true => Ok(said.into_owned()),
        false => Err(failed(program, output.status, &format!("{said}{erred}"))),
    }
}

fn failed(program: &'static str, status: ExitStatus, said: &str) -> BackupError {
    BackupError::Failed { program, status: status.to_string(), said: end_of(said) }
}

fn end_of(text: &str) -> String {
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(MOST_SAID);
    text.chars().skip(skipped).collect()
}

/// The server refuses to run as root unless it is told to.
fn as_root() -> Option<&'static str> {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0).then_some("--user=root")
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(value);
    option
}

/// The way to a database: the options of its clients, in a file that only we can read.
#[derive(Debug)]
pub struct Login {
    file: PathBuf,
    database: String,
}

impl Login {
    /// Writes the file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn new(work: &Path, source: &Source) -> Result<Self, BackupError> {
        let Source { host, port, user, password, database, authority } = source;
        let file = work.join("client.cnf");
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut text = format!(
            "[client]\nprotocol=tcp\nhost={}\nport={port}\nuser={}\npassword={}\n",
            quoted(host),
            quoted(user),
            quoted(password.expose_secret())
        );
        if let Some(authority) = authority {
            let authority = quoted(&authority.display().to_string());
            text.push_str(&format!("ssl\nssl-ca={authority}\nssl-verify-server-cert\n"));
        }
        let _ = fs::remove_file(&file);
        let write = || {
            let mut out = File::options().create_new(true).write(true).mode(0o600).open(&file)?;
            out.write_all(text.as_bytes())
        };
        write().map_err(at(&file))?;
        Ok(Self { file, database: database.clone() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg(option("defaults-file", &self.file)).arg(UTF8);
        command
    }

    /// Reads all of the database, as it is at one moment, line by line. One row is one line that begins with `INSERT INTO`: so
    /// the rows can be counted. `path` is where that goes.
    ///
    /// # Errors
    /// Where the server refuses, or `take` fails.
    pub fn dump(&self, path: &Path, take: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), BackupError> {
        let program = "mariadb-dump";
        let log = self.file.with_extension("log");
        let mut command = self.command(program);
        command.args([PACKET, "--single-transaction", "--skip-lock-tables", "--no-tablespaces"]);
        command.args(["--skip-extended-insert", "--skip-triggers", "--hex-blob"]).arg(&self.database);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log).map_err(at(&log))?);
        let mut child = command.spawn().map_err(|source| BackupError::Run { program, source })?;
        let taken = child.stdout.take().map_or(Ok(()), |output| each_line(output, take));
        // Where nobody reads any more, it ends by itself.
        let status = child.wait().map_err(|source| BackupError::Run { program, source })?;
        taken.map_err(at(path))?;
        match status.success() {
            true => Ok(()),
            false => {
                Err(failed(program, status, &String::from_utf8_lossy(&fs::read(&log).unwrap_or_default())))
            }
        }
    }

    /// The rows of each table.
    ///
    /// # Errors
    /// Where the server refuses.
    pub fn counts(&self) -> Result<BTreeMap<String, u64>, BackupError> {
        counts(&self.database, || self.command("mariadb"))
    }
}

/// Hands over each line, with its end.
pub(super) fn each_line(
    input: impl io::Read,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, input);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        take(&line)?;
        line.clear();
    }
    Ok(())
}

impl Drop for Login {
    fn drop(&mut self) {
        // It holds a password.
        let _ = fs::remove_file(&self.file);
    }
}

/// A name in SQL.
fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn ask(mut command: Command, sql: &str) -> Result<Vec<String>, BackupError> {
    command.args(["--batch", "--skip-column-names", "--execute", sql]);
    let said = run("mariadb", &mut command)?;
    Ok(said.lines().map(str::to_owned).collect())
}

fn counts(database: &str, client: impl Fn() -> Command) -> Result<BTreeMap<String, u64>, BackupError> {
    // As a text whose every letter is a digit: nothing of it is SQL.
    let hex: String = database.bytes().map(|byte| format!("{byte:02x}")).collect();
    let tables = format!(
        "SELECT table_name FROM information_schema.tables \
         WHERE table_schema = CONVERT(0x{hex} USING utf8mb4) AND table_type = 'BASE TABLE'"
    );
    let tables = ask(client(), &tables)?;
    if tables.is_empty() {
        return Ok(BTreeMap::new());
    }
    let database = name(database);
    let counts = tables.iter().map(|table| format!("SELECT COUNT(*) FROM {database}.{}", name(table)));
    let counts = counts.collect::<Vec<_>>().join("; ");
    let counted = ask(client(), &format!("START TRANSACTION WITH CONSISTENT SNAPSHOT; {counts}"))?;
    let wrong = |text: &str| BackupError::Answer { text: text.to_owned() };
    if counted.len() != tables.len() {
        return Err(wrong(&counted.join(" ")));
    }
    let pairs = tables.into_iter().zip(counted);
    pairs.map(|(table, text)| Ok((table, text.parse().map_err(|_| wrong(&text))?))).collect()
}

/// A server without accounts on a socket that only we know, and without a network.
#[derive(Debug)]
pub struct Server {
    child: Child,
    socket: PathBuf,
}

/// A schema that is there while a database is half filled. Each start of the server for its clients drops it: from then on
/// what is there is theirs, and is not dropped for the rest of a backup.
pub const HALF_FILLED: &str = "multinic_half_filled";

impl Server {
    /// Makes the system tables of a server in an empty folder.
    ///
    /// # Errors
    /// Where that fails.
    pub fn prepare(data: &Path) -> Result<(), BackupError> {
        let mut command = Command::new("mariadb-install-db");
        command.arg("--no-defaults").arg(option("datadir", data)).args(as_root());
        // A server that starts removes the temporary tables that it finds in a folder that it shares.
        command.arg(option("tmpdir", data));
        command.args(["--auth-root-authentication-method=socket", "--skip-name-resolve", "--skip-test-db"]);
        run("mariadb-install-db", &mut command).map(drop)
    }

    /// Starts one on the data of a folder. One that `lasts` has on the disk what it said was written.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start(data: &Path, work: &Path, lasts: bool) -> Result<Self, BackupError> {
        let program = "mariadbd";
        let socket = work.join("server.sock");
        let log = work.join("server.log");
        let output = File::create(&log).map_err(at(&log))?;
        let errors = output.try_clone().map_err(at(&log))?;
        let mut command = Command::new(program);
        command.arg("--no-defaults").arg(option("datadir", data)).args(as_root());
        command.arg(option("socket", &socket)).arg(option("pid-file", &work.join("server.pid")));
        command.arg(option("tmpdir", work));
        command.args([
            "--skip-networking",
            "--skip-grant-tables",
            "--skip-log-bin",
            "--skip-slave-start",
            PACKET,
        ]);
        command.args(["--performance-schema=OFF", "--character-set-server=utf8mb4"]);
        if !lasts {
            command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"]);
        }
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().map_err(|source| BackupError::Run { program, source })?;
        let mut server = Self { child, socket };
        let deadline = Instant::now() + UP;
        while !server.answers() {
            if server.has_ended() || Instant::now() > deadline {
                let said = fs::read(&log).unwrap_or_default();
                let said = end_of(&String::from_utf8_lossy(&said));
                return Err(BackupError::NotUp { folder: data.to_owned(), said });
            }
            std::thread::sleep(PAUSE);
        }
        Ok(server)
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("--no-defaults").arg(option("socket", &self.socket)).arg(UTF8);
        command
    }

    fn answers(&self) -> bool {
        self.client("mariadb-admin").arg("ping").output().is_ok_and(|output| output.status.success())
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The rows of each table of a database; none where there is no such database.
    ///
    /// # Errors
    /// Where the server refuses.
    pub fn counts(&self, database: &str) -> Result<BTreeMap<String, u64>, BackupError> {
        counts(database, || self.client("mariadb"))
    }

    /// Fills a database from a dump, in place of what it held. Until [`Self::is_filled`] it counts as half filled.
    ///
    /// # Errors
    /// Where a statement fails; the rest is not carried out then.
    pub fn fill(&self, database: &str, dump: &Path) -> Result<(), BackupError> {
        let name = name(database);
        let sql = format!(
            "CREATE DATABASE IF NOT EXISTS {HALF_FILLED}; DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
        );
        ask(self.client("mariadb"), &sql)?;
        let input = File::open(dump).map_err(at(dump))?;
        let mut command = self.client("mariadb");
        command.args(["--batch", PACKET]).arg(database).stdin(input);
        run("mariadb", &mut command).map(drop)
    }

    /// Whether a database was begun to be filled, and neither was that finished nor was the server started for its clients
    /// since.
    ///
    /// # Errors
    /// Where the server refuses.
    pub fn is_half_filled(&self) -> Result<bool, BackupError> {
        let sql = format!("SELECT 1 FROM information_schema.schemata WHERE schema_name = '{HALF_FILLED}'");
        ask(self.client("mariadb"), &sql).map(|lines| !lines.is_empty())
    }

    /// What was filled is complete.
    ///
    /// # Errors
    /// Where the server refuses.
    pub fn is_filled(&self) -> Result<(), BackupError> {
        ask(self.client("mariadb"), &format!("DROP DATABASE IF EXISTS {HALF_FILLED}")).map(drop)
    }

    /// Ends it as an administrator would.
    ///
    /// # Errors
    /// Where it does not end: what it had in memory may not be written.
    pub fn stop(mut self) -> Result<(), BackupError> {
        let program = "mariadbd";
        run("mariadb-admin", self.client("mariadb-admin").arg("shutdown"))?;
        let deadline = Instant::now() + DOWN;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(failed(program, status, "it was asked to shut down")),
                Ok(None) if Instant::now() > deadline => {
                    let said = format!("it did not shut down within {} s", DOWN.as_secs());
                    return Err(BackupError::Failed { program, status: "running".to_owned(), said });
                }
                Ok(None) => std::thread::sleep(PAUSE),
                Err(source) => return Err(BackupError::Run { program, source }),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.has_ended() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
