//! A private S3-compatible server on loopback: versitygw, whose buckets are folders.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use tempfile::TempDir;

use crate::certificates;
use crate::program::{self, Program, ProgramError};
use crate::real_parts;

/// The id of the only access key.
pub const ACCESS_KEY_ID: &str = "AKIATESTBED";
/// Its secret.
pub const SECRET_ACCESS_KEY: &str = "testbed/secret+access=key";
/// The region that requests have to be signed for.
pub const REGION: &str = "us-east-1";
/// An idle machine needs a part of a second.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often a port is tried that another process may have taken meanwhile.
const START_ATTEMPTS: u32 = 3;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum S3ServerError {
    /// It could not be started.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// It did not answer.
    #[error("versitygw did not answer within {START_LIMIT:?}: {log}")]
    NotUp {
        /// The end of its log.
        log: String,
    },
    /// A file or port.
    #[error("{what}: {source}")]
    System {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// A running server.
#[derive(Debug)]
pub struct S3Server {
    folder: TempDir,
    port: u16,
    has_tls: bool,
    program: Option<Program>,
}

fn system<T>(what: &impl ToString, done: io::Result<T>) -> Result<T, S3ServerError> {
    done.map_err(|source| S3ServerError::System { what: what.to_string(), source })
}

/// Where `testbed/s3/build.sh` puts it.
fn server() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let cache =
        || variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache"))).unwrap_or_default();
    variable("MULTINIC_S3").unwrap_or_else(|| cache().join("multinic-testbed/s3")).join("versitygw")
}

impl S3Server {
    /// Whether the server was built. Where it was not, says so on standard error once per call; the caller then skips what it
    /// wanted to test.
    ///
    /// # Panics
    /// Where it was not and the environment says that real parts are required.
    pub fn installed() -> bool {
        if server().is_file() {
            return true;
        }
        real_parts::skip("tests on S3", format_args!("{} is not there (make s3)", server().display()));
        false
    }

    /// Starts one that speaks HTTP.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start() -> Result<Self, S3ServerError> {
        Self::new(false)
    }

    /// Starts one that speaks HTTPS only, with a certificate for `localhost` and `127.0.0.1` signed by [`Self::ca_file`].
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start_with_tls() -> Result<Self, S3ServerError> {
        Self::new(true)
    }

    fn new(has_tls: bool) -> Result<Self, S3ServerError> {
        let folder = system(&"a folder", tempfile::Builder::new().prefix("s3-").tempdir())?;
        for name in ["buckets", "metadata"] {
            system(&name, fs::create_dir(folder.path().join(name)))?;
        }
        let mut server = Self { folder, port: 0, has_tls, program: None };
        if has_tls {
            server.make_certificates()?;
        }
        let mut attempt = 1;
        loop {
            let listener = system(&"a port", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
            server.port = system(&"a port", listener.local_addr())?.port();
            drop(listener);
            match server.restart() {
                Err(S3ServerError::NotUp { .. }) if attempt < START_ATTEMPTS => attempt += 1,
                done => return done.map(|()| server),
            }
        }
    }

    /// Starts a stopped server again, on the same port.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn restart(&mut self) -> Result<(), S3ServerError> {
        self.stop();
        let path = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(server());
        // Not in arguments, which everybody on the machine can read.
        command.env("ROOT_ACCESS_KEY_ID", ACCESS_KEY_ID).env("ROOT_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
        command.args(["--region", REGION, "--port"]).arg(format!("127.0.0.1:{}", self.port));
        if self.has_tls {
            command.arg("--cert").arg(path("server.pem")).arg("--key").arg(path("server.key"));
        }
        command.arg("posix").arg("--sidecar").arg(path("metadata")).arg(path("buckets"));
        let program = self.program.insert(Program::start("versitygw", command, path("log"))?);
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if !program.is_running() || Instant::now() > deadline {
                return Err(S3ServerError::NotUp { log: program.last_lines(8) });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it as a machine does that loses its power.
    pub fn stop(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.kill();
        }
    }

    /// Stops its process in its tracks: connections stay open, and nothing answers.
    pub fn freeze(&self) {
        self.pid().into_iter().for_each(program::freeze);
    }

    fn pid(&self) -> Option<Pid> {
        Some(Pid::from_raw(i32::try_from(self.program.as_ref()?.pid()).ok()?))
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        let scheme = if self.has_tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The authority of a server that speaks HTTPS.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Makes a bucket, and returns the folder that it is.
    ///
    /// # Errors
    /// Where there is one of this name.
    pub fn make_bucket(&self, name: &str) -> Result<PathBuf, S3ServerError> {
        let path = self.folder.path().join("buckets").join(name);
        system(&path.display(), fs::create_dir(&path))?;
        Ok(path)
    }

    /// What it said: a line for each request.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn make_certificates(&self) -> Result<(), S3ServerError> {
        for (file, content) in certificates::of_a_server()? {
            let path: &Path = &self.folder.path().join(file);
            system(&path.display(), fs::write(path, content))?;
        }
        Ok(())
    }
}
