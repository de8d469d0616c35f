//! Another kernel than this machine's: Debian's user-mode Linux, which is a program, boots in a second and has what the
//! machine's own may lack. Its file system is the machine's, read-only.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::GuestError;
use super::cache;
use super::error::{file, run};
use super::rootfs::succeed;
use crate::real_parts;

/// What of its modules a test of links needs, each after what it needs itself.
const MODULES: [&str; 10] = [
    "lib/crc-ccitt",
    "net/llc/llc",
    "net/802/stp",
    "net/802/garp",
    "net/802/mrp",
    "net/8021q/8021q",
    "net/ipv6/ipv6",
    "net/bridge/bridge",
    "drivers/net/veth",
    "drivers/net/macvlan",
];

/// The first process. `finit_module` has no program of its own on a machine without kmod; perl is on every Debian.
const INIT: &str = "#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/tmp
export TMPDIR=/run/tmp
perl -e 'for (@ARGV) { open my $f, \"<\", $_ or die \"$_: $!\"; syscall(313, fileno $f, my $none = \"\", 0) == 0 or die \"$_: $!\" }' $MODULES
ip link set lo up
\"$PROGRAM\" $ARGUMENTS 2>&1
echo \"ended with $?\"
sync
echo o > /proc/sysrq-trigger
sleep 60
";

/// That kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    folder: PathBuf,
}

impl Kernel {
    /// Whether this machine can have it. If not, says so on standard error; the caller then skips what it wanted to test.
    ///
    /// # Panics
    /// Where it cannot and the environment says that real parts are required.
    pub fn supported() -> bool {
        let there = |program: &&str| Command::new(program).arg("--version").output().is_ok();
        let missing: Vec<&str> =
            ["apt-get", "dpkg", "perl"].into_iter().filter(|program| !there(program)).collect();
        if missing.is_empty() && cfg!(target_arch = "x86_64") {
            return true;
        }
        let what = if missing.is_empty() { "x86-64".to_owned() } else { missing.join(", ") };
        real_parts::skip("tests on another kernel", format_args!("it needs {what}"));
        false
    }

    /// The kernel, fetched from the machine's own Debian archive if it is not there yet.
    ///
    /// # Errors
    /// Where it cannot be fetched; nothing is left then.
    pub fn get() -> Result<Self, GuestError> {
        let folder = cache::get(&cache::folder().join("kernel"), "user-mode-linux", |folder| {
            let mut fetch = Command::new("apt-get");
            fetch.args(["-qq", "download", "user-mode-linux"]).current_dir(folder);
            succeed(fetch)?;
            let package = only(folder)?;
            let root = folder.join("root");
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--extract").arg(package).arg(&root);
            succeed(unpack)?;
            Ok(root)
        })?;
        Ok(Self { folder })
    }

    /// Runs a program on it, alone, and returns what it said. Words of arguments have no spaces.
    ///
    /// # Errors
    /// Where it does not boot, or the program does not end with 0 in time.
    pub fn run(&self, program: &Path, arguments: &[&str], limit: Duration) -> Result<String, GuestError> {
        let modules = only(&self.folder.join("usr/lib/uml/modules"))?.join("kernel");
        let modules = MODULES.map(|module| modules.join(format!("{module}.ko")).display().to_string());
        let scratch = tempfile::tempdir().map_err(file("a scratch folder"))?;
        let (init, console) = (scratch.path().join("init"), scratch.path().join("console"));
        let set = |name: &str, value: &str| format!("{name}='{value}'\n");
        let settings = [
            set("MODULES", &modules.join(" ")),
            set("PROGRAM", &program.display().to_string()),
            set("ARGUMENTS", &arguments.join(" ")),
        ];
        let (first, rest) = INIT.split_once('\n').unwrap_or_default();
        fs::write(&init, format!("{first}\n{}{rest}", settings.concat())).map_err(file(&init))?;
        let mut command = Command::new("timeout");
        command.args(["--kill-after", "10", &limit.as_secs().to_string()]);
        command.arg(self.folder.join("usr/bin/linux.uml"));
        command.args([
            "mem=1G",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "quiet",
            "loglevel=1",
        ]);
        command.args(["con=null", "con0=null,fd:1", "init=/bin/sh", "--"]).arg(&init);
        let said = File::create(&console).map_err(file(&console))?;
        let errors = said.try_clone().map_err(file(&console))?;
        command.stdin(Stdio::null()).stdout(said).stderr(errors);
        let status = command.status().map_err(run("linux.uml"))?;
        let said = String::from_utf8_lossy(&fs::read(&console).map_err(file(&console))?).into_owned();
        if said.contains("ended with 0") {
            return Ok(said);
        }
        let program = format!("{} on linux.uml", program.display());
        Err(GuestError::Failed { program, status, output: said })
    }
}

/// The one thing in a folder.
fn only(folder: &Path) -> Result<PathBuf, GuestError> {
    let mut entries = fs::read_dir(folder).map_err(file(folder))?;
    match entries.next() {
        Some(entry) => Ok(entry.map_err(file(folder))?.path()),
        None => Err(file(folder)(io::ErrorKind::NotFound.into())),
    }
}
