//! A program that runs beside the test or demo: its output in a file, its end with its handle.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Why a program could not be run, or did not end.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not there.
    #[error("{name} is not beside {}; build it first: cargo build --bins", beside.display())]
    Missing {
        /// The program.
        name: String,
        /// Where it was looked for.
        beside: PathBuf,
    },
    /// It could not be started.
    #[error("cannot start {name}: {source}")]
    Start {
        /// The program.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time.
    #[error("{name} did not end within {} s of being asked to", limit.as_secs())]
    StillRunning {
        /// The program.
        name: String,
        /// How long it was given.
        limit: Duration,
    },
}

/// Finds a program of this workspace: where the running program is, or, for tests, one folder above.
pub fn find(name: &str) -> Result<PathBuf, ProgramError> {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new(".")).to_owned();
    let candidates = [folder.join(name), folder.join("..").join(name)];
    let found = candidates.into_iter().find(|path| path.is_file());
    found.ok_or(ProgramError::Missing { name: name.to_owned(), beside: folder })
}

/// Stops a process in its tracks, and returns once every thread of it stands still: the signal alone is only on its way, and
/// a busy server goes on answering for a while.
pub fn freeze(process: Pid) {
    let _ = kill(process, Signal::SIGSTOP);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_frozen(process) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_frozen(process: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let mut states = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    states.all(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")))
}

/// Undoes [`freeze`].
pub fn thaw(process: Pid) {
    let _ = kill(process, Signal::SIGCONT);
}

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it, with standard output and error appended to `log`. The child has the network namespace of the calling
    /// thread.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> Result<Self, ProgramError> {
        let failed = |source| ProgramError::Start { name: name.to_owned(), source };
        let output = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let copy = output.try_clone().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(output).stderr(copy);
        let child = command.spawn().map_err(failed)?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of what it has written.
    pub fn last_lines(&self, count: usize) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(count)).copied().collect::<Vec<_>>().join("\n")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end (SIGTERM) and waits.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus, ProgramError> {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(ProgramError::StillRunning { name: self.name.clone(), limit })
    }

    /// Ends it as the kernel would that is out of memory (SIGKILL).
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap_or_else(|_| ExitStatus::from_raw(Signal::SIGKILL as i32))
    }

    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // One that has ended needs no signal.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}
