//! The file systems that guests boot from.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use super::GuestError;
use super::error::{file, run};
use crate::mariadb::REAL_PARTS;

/// Environment variable: where Debian packages come from, in place of [`MIRROR`].
const MIRROR_VARIABLE: &str = "MULTINIC_DEBIAN_MIRROR";
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What every guest has. nftables, conntrack and the rest of the second line are what a Kubernetes node needs.
const PACKAGES: &str = "systemd-sysv,udev,dbus,iproute2,ethtool,iputils-ping,procps,kmod,util-linux,\
                        nftables,conntrack,ca-certificates";
/// Nobody reads these in a guest.
const LEFT_OUT: [&str; 3] = ["man", "doc", "locale"];
/// What makes a guest of a Debian userland.
const SHIMS: [(&str, &str); 3] = [
    ("customize.sh", include_str!("rootfs/customize.sh")),
    ("init.sh", include_str!("rootfs/init.sh")),
    ("netplan-generate.sh", include_str!("rootfs/netplan-generate.sh")),
];

/// A release of Debian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Debian 12: systemd 252, netplan 0.106.
    Bookworm,
    /// Debian 13: systemd 257, netplan 1.1.
    Trixie,
}

/// Who configures the NICs of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkManagement {
    /// netplan, which leaves the work to systemd-networkd.
    Netplan,
    /// netplan, which leaves the work to NetworkManager.
    NetplanOverNetworkManager,
    /// systemd-networkd alone.
    Networkd,
    /// NetworkManager alone.
    NetworkManager,
}

impl Release {
    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

impl NetworkManagement {
    fn name(self) -> &'static str {
        match self {
            Self::Netplan => "netplan-networkd",
            Self::NetplanOverNetworkManager => "netplan-network-manager",
            Self::Networkd => "networkd",
            Self::NetworkManager => "network-manager",
        }
    }

    /// Whether netplan says what is to be.
    pub fn has_netplan(self) -> bool {
        matches!(self, Self::Netplan | Self::NetplanOverNetworkManager)
    }

    /// Whether NetworkManager does the work, and not systemd-networkd.
    pub fn has_network_manager(self) -> bool {
        matches!(self, Self::NetplanOverNetworkManager | Self::NetworkManager)
    }

    /// What netplan calls the one who does the work.
    pub fn renderer(self) -> &'static str {
        if self.has_network_manager() { "NetworkManager" } else { "networkd" }
    }

    /// The systemd unit of the one who does the work.
    pub fn unit(self) -> &'static str {
        if self.has_network_manager() { "NetworkManager.service" } else { "systemd-networkd.service" }
    }
}

/// A file system to boot guests from. It is in `~/.cache/multinic-testbed/rootfs` and never written to again.
#[derive(Debug, Clone)]
pub struct Rootfs {
    path: PathBuf,
    release: Release,
    network: NetworkManagement,
}

impl Rootfs {
    /// Whether this machine can build and boot guests. If not, says so on standard error; the caller then skips what it
    /// wanted to test.
    ///
    /// # Panics
    /// Where it cannot and the environment says that real parts are required.
    #[allow(clippy::panic, reason = "this is the one place where a test may not be skipped")]
    pub fn supported() -> bool {
        let runs = |program: &&str| Command::new(program).arg("--version").output().is_ok();
        let mut missing: Vec<&str> = ["mmdebstrap", "systemd-nspawn", "unshare"]
            .into_iter()
            .filter(|program| !runs(program))
            .collect();
        if !nix::unistd::geteuid().is_root() {
            missing.push("root");
        }
        if missing.is_empty() {
            return true;
        }
        let what = missing.join(", ");
        assert!(
            std::env::var(REAL_PARTS).as_deref() != Ok("required"),
            "{REAL_PARTS}=required, and guests need {what}: install mmdebstrap and systemd-container, be root"
        );
        let line = format!("SKIPPED: tests on guests, which need {what}\n");
        // Not through the test harness, which hides what a passing test prints.
        let _ = io::stderr().write_all(line.as_bytes());
        false
    }

    /// The file system, built if it is not there yet, which takes about a minute. What is there is whole.
    ///
    /// # Errors
    /// Where it cannot be built; nothing is left then.
    pub fn get(release: Release, network: NetworkManagement) -> Result<Self, GuestError> {
        let cache = cache_folder().join("rootfs");
        fs::create_dir_all(&cache).map_err(file(&cache))?;
        let path = cache.join(format!("{}-{}-{}", release.name(), network.name(), recipe()));
        // Tests are processes, and two of them may want the same at once.
        let lock = path.with_extension("lock");
        let opened = File::create(&lock).map_err(file(&lock))?;
        let _held = Flock::lock(opened, FlockArg::LockExclusive)
            .map_err(|(_, errno)| file(&lock)(io::Error::from(errno)))?;
        let rootfs = Self { path, release, network };
        if !rootfs.path.is_dir() {
            rootfs.build(&cache)?;
        }
        Ok(rootfs)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who configures the NICs.
    pub fn network(&self) -> NetworkManagement {
        self.network
    }

    /// Since version 256, systemd wants a tree of control groups of version 2 alone.
    pub(super) fn wants_unified_cgroups(&self) -> bool {
        self.release == Release::Trixie
    }

    fn build(&self, cache: &Path) -> Result<(), GuestError> {
        let folder = tempfile::Builder::new().prefix(".building-").tempdir_in(cache).map_err(file(cache))?;
        let root = folder.path().join("root");
        let mirror = std::env::var(MIRROR_VARIABLE).unwrap_or_else(|_| MIRROR.to_owned());
        let mut packages = PACKAGES.to_owned();
        if self.release == Release::Trixie {
            packages.push_str(",systemd-resolved");
        }
        if self.network.has_netplan() {
            packages.push_str(",netplan.io");
        }
        if self.network.has_network_manager() {
            packages.push_str(",network-manager");
        }
        let mut bootstrap = Command::new("mmdebstrap");
        bootstrap.args(["--quiet", "--variant=minbase", "--mode=root", "--skip=check/empty"]);
        bootstrap.args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\""]);
        for part in LEFT_OUT {
            bootstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{part}/*"));
        }
        bootstrap.arg(format!("--include={packages}")).arg(self.release.name()).arg(&root);
        bootstrap.arg(format!("deb [signed-by={KEYRING}] {mirror} {} main", self.release.name()));
        succeed(bootstrap)?;

        for (name, content) in SHIMS {
            let path = folder.path().join(name);
            fs::write(&path, content).map_err(file(&path))?;
        }
        let mut customize = Command::new("sh");
        customize.arg(folder.path().join("customize.sh")).arg(&root).arg(self.network.renderer());
        succeed(customize)?;
        fs::rename(&root, &self.path).map_err(file(&self.path))
    }
}

fn cache_folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_default().join("multinic-testbed")
}

/// What was built by another recipe is another file system.
fn recipe() -> String {
    let mut digest = Sha256::new();
    digest.update(PACKAGES);
    for (name, content) in SHIMS {
        digest.update(name);
        digest.update(content);
    }
    digest.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// Runs a program to its end, and returns what it wrote to standard output.
pub(crate) fn succeed(command: Command) -> Result<String, GuestError> {
    succeed_with(command, Stdio::null())
}

/// The same, with something on its standard input.
pub(crate) fn succeed_with(mut command: Command, input: Stdio) -> Result<String, GuestError> {
    let words = || {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| OsString::from(word).to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    };
    let program = words();
    command.stdin(input);
    let output = command.output().map_err(run(&program))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = text(&output.stdout) + &text(&output.stderr);
    Err(GuestError::Failed { program, status: output.status, output: tail(&said, 15) })
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(count)).copied().collect::<Vec<_>>().join("\n")
}
