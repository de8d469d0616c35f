//! A server that does not outlive the process that started it.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::KubernetesError;

/// How long a server that was asked to end is given before it is killed.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Runs the server as a child, says its process on standard output, and ends it when the standard input ends, which
/// happens when the parent does, even if it is killed. (A parent-death signal would come with the end of the *thread*
/// that started it, and tests are threads.) Unless a word comes first, the folder goes too: what is in a `static` is
/// never dropped.
const GUARD: &str = r#"
folder=$1; log=$2; shift 2
"$@" </dev/null >>"$log" 2>&1 &
server=$!
echo $server
exec >/dev/null
read -r word
kill -KILL $server 2>/dev/null
wait
[ -n "$word" ] || rm -rf "$folder"
"#;

/// A running server and the shell that watches over it.
#[derive(Debug)]
pub(super) struct Guarded {
    guard: Child,
    server: Pid,
    log: PathBuf,
}

impl Guarded {
    /// Starts a program with `folder` as its working folder, its output in a log of its name there, and nothing of this
    /// process's environment but the search path: proxies are not for loopback.
    pub(super) fn start(
        folder: &Path,
        program: &Path,
        arguments: &[String],
    ) -> Result<Self, KubernetesError> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = folder.join(format!("{name}.log"));
        let failed = |source| KubernetesError::Run { program: name.clone(), source };
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(folder).arg(&log).arg(program).args(arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TMPDIR", folder).env("HOME", folder).current_dir(folder);
        // An interrupt from the keyboard goes to the whole group and would end the guard before its work is done.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut guard = command.spawn().map_err(failed)?;
        let mut line = String::new();
        if let Some(stdout) = guard.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        }
        let server = line.trim().parse().map_err(|_| failed(io::ErrorKind::UnexpectedEof.into()))?;
        Ok(Self { guard, server: Pid::from_raw(server), log })
    }

    /// Where its output goes.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// A process that ended and that nobody waited for is not running.
    pub(super) fn is_running(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.server))
            .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
    }

    /// The server.
    pub(super) fn process(&self) -> Pid {
        self.server
    }

    fn signal(&self, signal: Signal) {
        // One that has ended needs none.
        let _ = kill(self.server, signal);
    }

    /// Asks the server to end, and waits until it has; after a while it is killed. It may be stopped in its tracks.
    pub(super) fn end(self) {
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGCONT);
        let deadline = Instant::now() + END_LIMIT;
        while self.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.guard.stdin.take() {
            let _ = stdin.write_all(b"keep\n");
        }
        let _ = self.guard.wait();
    }
}
