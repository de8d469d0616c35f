//! A private MariaDB server on loopback.
//!
//! It has its own data folder, port and socket, and ends with the process that started it, however that one ends.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::distr::{Alphanumeric, SampleString};
use tempfile::TempDir;

use crate::{certificates, program, real_parts};

/// The user that may log in over TCP.
pub const USER: &str = "multinic";
/// A cold disk with other work on it needs most of it; an idle machine a second.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often a port is tried that another process may have taken meanwhile.
const START_ATTEMPTS: u32 = 3;

/// Runs the server as a child and ends it when the standard input ends, which happens when the parent does, even if
/// it is killed. Unless a word comes first, the folder goes too: a server in a `static` is never dropped.
const GUARD: &str = r#"
folder=$1; shift
"$@" </dev/null >>"$folder/log" 2>&1 &
server=$!
echo $server >"$folder/pid"
read -r word
kill -KILL $server 2>/dev/null
wait
[ -n "$word" ] || rm -rf "$folder"
"#;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum MariaDbError {
    /// A program could not be run.
    #[error("cannot run {program}: {source}; Debian has it in mariadb-server-core or mariadb-client-core")]
    Run {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program.
        program: &'static str,
        /// What it said.
        output: String,
    },
    /// The server did not answer.
    #[error("mariadbd did not answer within {START_LIMIT:?}: {log}")]
    NotUp {
        /// The end of its log.
        log: String,
    },
    /// A file could not be written or read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// A running server.
#[derive(Debug)]
pub struct MariaDb {
    folder: TempDir,
    port: u16,
    password: String,
    tls: bool,
    guard: Option<Child>,
}

impl MariaDb {
    /// Whether the server's programs are installed. Where they are not, says so on standard error once per call; the
    /// caller then skips what it wanted to test.
    ///
    /// # Panics
    /// Where they are not and the environment says that real parts are required.
    pub fn installed() -> bool {
        let runs = |program: &str| Command::new(program).arg("--version").output().is_ok();
        let missing: Vec<&str> = ["mariadbd", "mariadb-install-db", "mariadb"]
            .into_iter()
            .filter(|program| !runs(program))
            .collect();
        if missing.is_empty() {
            return true;
        }
        let what = missing.join(", ");
        let why = format!("{what} is not installed (Debian: mariadb-server-core, mariadb-client-core)");
        real_parts::skip("tests on MariaDB", why);
        false
    }

    /// Starts a server that speaks plain TCP.
    pub fn start() -> Result<Self, MariaDbError> {
        Self::new(false)
    }

    /// Starts a server that also offers TLS, with a certificate for `localhost` and `127.0.0.1` signed by
    /// [`Self::ca_file`].
    pub fn start_with_tls() -> Result<Self, MariaDbError> {
        Self::new(true)
    }

    fn new(tls: bool) -> Result<Self, MariaDbError> {
        let folder = tempfile::Builder::new().prefix("mariadb-").tempdir();
        let folder = folder.map_err(|source| MariaDbError::File { path: std::env::temp_dir(), source })?;
        let password = Alphanumeric.sample_string(&mut rand::rng(), 20);
        let mut server = Self { folder, port: 0, password, tls, guard: None };
        server.install()?;
        if tls {
            server.make_certificates()?;
        }
        server.up()?;
        let grant = format!(
            "CREATE USER {USER}@'%' IDENTIFIED BY '{}'; GRANT ALL ON *.* TO {USER}@'%';",
            server.password
        );
        server.sql("", &grant)?;
        Ok(server)
    }

    /// The address to connect to.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of [`USER`].
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The certificate authority of a server that offers TLS.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A database of this server as a URL.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://{USER}:{}@{}:{}/{database}", self.password, self.host(), self.port)
    }

    /// Makes an empty database, in place of one of the same name.
    pub fn create_database(&self, name: &str) -> Result<(), MariaDbError> {
        let sql =
            format!("CREATE OR REPLACE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci");
        self.sql("", &sql).map(drop)
    }

    /// Runs statements as the administrator and returns what they print: a line per row, columns between tabs, no
    /// headings. An empty database name means none.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String, MariaDbError> {
        let mut client = Command::new("mariadb");
        client.arg("--no-defaults").arg("-uroot").arg(format!("--socket={}", self.socket().display()));
        client.args(["--batch", "--skip-column-names", "--default-character-set=utf8mb4"]);
        if !database.is_empty() {
            client.arg(database);
        }
        run("mariadb", &mut client, Some(statements))
    }

    /// Stops the server as an administrator would. Its data stay.
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    /// Starts a stopped server again, on the same port if that is still free.
    pub fn restart(&mut self) -> Result<(), MariaDbError> {
        self.stop();
        self.up()
    }

    /// Stops the server's process in its tracks, as a dead machine would: connections stay open and nothing answers.
    pub fn freeze(&self) {
        if let Some(pid) = self.pid() {
            program::freeze(pid);
        }
    }

    /// Undoes [`Self::freeze`].
    pub fn thaw(&self) {
        if let Some(pid) = self.pid() {
            program::thaw(pid);
        }
    }

    /// Stops the server, and loses all that it held: what is there then is a new one's. It does not run afterwards.
    ///
    /// # Errors
    /// Where the data cannot be removed or made anew.
    pub fn lose_data(&mut self) -> Result<PathBuf, MariaDbError> {
        self.stop();
        let path = self.data();
        fs::remove_dir_all(&path).map_err(|source| MariaDbError::File { path: path.clone(), source })?;
        self.install()?;
        Ok(path)
    }

    fn install(&self) -> Result<(), MariaDbError> {
        let mut install = Command::new("mariadb-install-db");
        // A server that starts removes what it takes for temporary tables of a dead one: each needs a folder of its own.
        install.env("TMPDIR", self.folder.path());
        install.arg("--no-defaults").arg(self.data_option());
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]).args(as_root());
        run("mariadb-install-db", &mut install, None).map(drop)
    }

    fn up(&mut self) -> Result<(), MariaDbError> {
        let mut attempt = 1;
        loop {
            if self.port == 0 {
                self.port = free_port()?;
            }
            match self.launch() {
                Err(MariaDbError::NotUp { .. }) if attempt < START_ATTEMPTS => {
                    self.end(Signal::SIGKILL);
                    self.port = 0;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    fn launch(&mut self) -> Result<(), MariaDbError> {
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(self.folder.path());
        command.env("TMPDIR", self.folder.path());
        command.arg("mariadbd").arg("--no-defaults").arg(self.data_option()).args(as_root());
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--port={}", self.port));
        command.args([
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--performance-schema=OFF",
            "--character-set-server=utf8mb4",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=48M",
            // Nothing here has to outlive the machine.
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-flush-method=nosync",
            "--innodb-doublewrite=0",
        ]);
        if self.tls {
            for (option, file) in [("ca", "ca.pem"), ("cert", "server.pem"), ("key", "server.key")] {
                command.arg(format!("--ssl-{option}={}", self.folder.path().join(file).display()));
            }
        }
        let _ = fs::remove_file(self.pid_file());
        let guard = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.guard = Some(guard.map_err(|source| MariaDbError::Run { program: "sh", source })?);
        let deadline = Instant::now() + START_LIMIT;
        // Also over TCP: somebody else's server on the port would let this one die while its socket answered once.
        while self.sql("", "SELECT 1").is_err()
            || std::net::TcpStream::connect((self.host(), self.port)).is_err()
        {
            if Instant::now() > deadline || !self.runs() {
                let log = fs::read_to_string(self.log_file()).unwrap_or_default();
                let tail = log.lines().rev().take(8).collect::<Vec<_>>();
                return Err(MariaDbError::NotUp {
                    log: tail.into_iter().rev().collect::<Vec<_>>().join("\n"),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        let deadline = Instant::now() + START_LIMIT;
        while self.runs() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(mut guard) = self.guard.take() {
            // The end of its input ends the guard, and the server if that still runs.
            if let Some(mut stdin) = guard.stdin.take() {
                let _ = stdin.write_all(b"keep\n");
            }
            let _ = guard.wait();
        }
        let _ = fs::remove_file(self.pid_file());
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.pid_file()).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, signal);
        }
    }

    /// A process that ended and that nobody waited for is not running.
    fn runs(&self) -> bool {
        match self.pid() {
            // The guard has not come to it yet.
            None => self.guard.is_some(),
            Some(pid) => fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))),
        }
    }

    fn make_certificates(&self) -> Result<(), MariaDbError> {
        for (file, content) in certificates::of_a_server()? {
            let path = self.folder.path().join(file);
            fs::write(&path, content).map_err(|source| MariaDbError::File { path, source })?;
        }
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn data_option(&self) -> String {
        format!("--datadir={}", self.data().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The server's own folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.end(Signal::SIGKILL);
    }
}

/// The server refuses to run as root unless it is told to.
fn as_root() -> Option<&'static str> {
    nix::unistd::geteuid().is_root().then_some("--user=root")
}

fn free_port() -> Result<u16, MariaDbError> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    Ok(port.map_err(|source| MariaDbError::Run { program: "bind", source })?.port())
}

fn run(program: &'static str, command: &mut Command, input: Option<&str>) -> Result<String, MariaDbError> {
    let failed = |source| MariaDbError::Run { program, source };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A program that ends early says why in its output.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(MariaDbError::Failed { program, output: text(&output.stdout) + &text(&output.stderr) })
}
