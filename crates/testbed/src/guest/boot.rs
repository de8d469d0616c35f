//! One boot of a guest: its processes, from the first to the last.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::error::run;
use super::rootfs::tail;
use super::{GuestError, Rootfs};
use crate::node::NetNs;

/// Two busy cores need some of it; an idle machine two seconds.
const START_LIMIT: Duration = Duration::from_secs(120);
const GUARD: &str = include_str!("guard.sh");
const BOOT: &str = include_str!("boot.sh");

/// A running guest.
#[derive(Debug)]
pub(super) struct Boot {
    guard: Child,
    /// Ends when the guest does.
    machine: u32,
    /// The guest's first process, as this machine numbers it.
    leader: u32,
}

impl Boot {
    /// Boots and waits until all units of the guest have been started.
    pub(super) fn start(
        rootfs: &Rootfs,
        name: &str,
        folder: &Path,
        net: &NetNs,
        arguments: &[String],
    ) -> Result<Self, GuestError> {
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(folder).arg(name);
        command.arg("nsenter").arg(format!("--net={}", net.path()));
        // The end of the first process of a process namespace is the end of all.
        command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]);
        command.args(["sh", "-c", BOOT, "sh"]).arg(folder).arg(rootfs.path()).arg(name).args(arguments);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("SYSTEMD_NSPAWN_LOCK", "0").env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network");
        if rootfs.wants_unified_cgroups() {
            command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        }
        // An interrupt from the keyboard goes to the whole group and would end the guard before its work is done.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut guard = command.spawn().map_err(run("sh"))?;
        let mut line = String::new();
        if let Some(stdout) = guard.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(run("sh"))?;
        }
        // The guard's first line; without one, no process has this number and the guest counts as gone.
        let machine = line.trim().parse().unwrap_or(u32::MAX);
        let mut boot = Self { guard, machine, leader: 0 };
        let deadline = Instant::now() + START_LIMIT;
        while !boot.is_up() {
            if Instant::now() > deadline || !boot.is_running() {
                let console = fs::read(folder.join("console")).unwrap_or_default();
                let console = tail(&String::from_utf8_lossy(&console), 20);
                return Err(GuestError::NotUp { guest: name.to_owned(), limit: START_LIMIT, console });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(boot)
    }

    fn is_up(&mut self) -> bool {
        if self.leader == 0 {
            self.leader = self.find_leader().unwrap_or_default();
        }
        if self.leader == 0 {
            return false;
        }
        let output = self.command().args(["systemctl", "is-system-running"]).stdin(Stdio::null()).output();
        // It is up where a unit failed, too: the caller will see what that means.
        output.is_ok_and(|output| matches!(output.stdout.trim_ascii(), b"running" | b"degraded"))
    }

    /// systemd-nspawn starts other processes before it: the leader is the one that is the first of a process namespace.
    fn find_leader(&self) -> Option<u32> {
        let processes = fs::read_dir("/proc").ok()?;
        processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).find(|process| {
            let Some(status) = Status::read(*process) else { return false };
            let grandparent = Status::read(status.parent).map(|parent| parent.parent);
            status.name.starts_with("systemd") && status.is_first && grandparent == Some(self.machine)
        })
    }

    /// nsenter, into all that the guest is in. The program is to follow.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.leader));
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    pub(super) fn leader(&self) -> u32 {
        self.leader
    }

    /// A process that ended and that nobody waited for is not running.
    pub(super) fn is_running(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.machine))
            .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
    }

    /// Waits until the guest has gone down.
    pub(super) fn until_down(&self, name: &str, limit: Duration) -> Result<(), GuestError> {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() > deadline {
                return Err(GuestError::NotDown { guest: name.to_owned(), limit });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.guard.stdin.take() {
            let _ = stdin.write_all(b"keep\n");
        }
        let _ = self.guard.wait();
    }
}

struct Status {
    name: String,
    parent: u32,
    /// Whether it is the first process of its process namespace.
    is_first: bool,
}

impl Status {
    fn read(process: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some(Self {
            name: field("Name:")?.to_owned(),
            parent: field("PPid:")?.parse().ok()?,
            is_first: field("NSpid:")?.split_whitespace().next_back() == Some("1"),
        })
    }
}
