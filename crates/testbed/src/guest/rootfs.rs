//! The file systems that guests boot from.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use super::error::{file, run};
use super::{GuestError, cache};
use crate::real_parts;

/// Environment variable: where Debian packages come from, in place of [`MIRROR`].
const MIRROR_VARIABLE: &str = "MULTINIC_DEBIAN_MIRROR";
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What every guest has. nftables, conntrack and the rest of the second line are what a Kubernetes node needs, and its
/// administrator.
const PACKAGES: &str = "systemd-sysv,udev,dbus,iproute2,ethtool,iputils-ping,procps,kmod,util-linux,\
                        nftables,conntrack,ca-certificates,openssh-server";
/// Nobody reads these in a guest.
const LEFT_OUT: [&str; 3] = ["man", "doc", "locale"];
/// What makes a guest of a Debian userland.
const SHIMS: [(&str, &str); 3] = [
    ("customize.sh", include_str!("rootfs/customize.sh")),
    ("init.sh", include_str!("rootfs/init.sh")),
    ("netplan-generate.sh", include_str!("rootfs/netplan-generate.sh")),
];
/// What puts NetworkManager for ifcfg files into one.
const IFCFG_INSTALL: (&str, &str) = ("ifcfg-install.sh", include_str!("rootfs/ifcfg-install.sh"));
/// What builds it, and what has to be there for that.
const IFCFG_BUILD: (&str, &str) = ("ifcfg-build.sh", include_str!("rootfs/ifcfg-build.sh"));
const IFCFG_BUILD_PACKAGES: &str = "dpkg-dev,gcc,libc6-dev,meson,ninja-build,pkg-config,gettext,xsltproc,dbus,uuid-dev,\
                                    libglib2.0-dev,libudev-dev,libsystemd-dev,libndp-dev,libdbus-1-dev,\
                                    libgnutls28-dev,libjansson-dev,libcurl4-gnutls-dev";

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
    /// NetworkManager with ifcfg files, on what says of itself that it is RHEL 8.
    Ifcfg,
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
            Self::Ifcfg => "network-manager-ifcfg",
        }
    }

    /// Whether netplan says what is to be.
    pub fn has_netplan(self) -> bool {
        matches!(self, Self::Netplan | Self::NetplanOverNetworkManager)
    }

    /// Whether NetworkManager does the work, and not systemd-networkd.
    pub fn has_network_manager(self) -> bool {
        matches!(self, Self::NetplanOverNetworkManager | Self::NetworkManager | Self::Ifcfg)
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
        let why = format!("they need {what} (root; Debian: mmdebstrap, systemd-container)");
        real_parts::skip("tests on guests", why);
        false
    }

    /// The file system, built if it is not there yet, which takes about a minute, or two. What is there is whole.
    ///
    /// # Errors
    /// Where it cannot be built; nothing is left then.
    pub fn get(release: Release, network: NetworkManagement) -> Result<Self, GuestError> {
        let name = format!("{}-{}-{}", release.name(), network.name(), recipe(network));
        let cache = cache::folder().join("rootfs");
        let path = cache::get(&cache, &name, |folder| build(release, network, folder))?;
        Ok(Self { path, release, network })
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
}

/// Makes a file system within a folder.
fn build(release: Release, network: NetworkManagement, folder: &Path) -> Result<PathBuf, GuestError> {
    let root = folder.join("root");
    let mut packages = PACKAGES.to_owned();
    if release == Release::Trixie {
        packages.push_str(",systemd-resolved");
    }
    if network.has_netplan() {
        packages.push_str(",netplan.io");
    }
    if network.has_network_manager() {
        packages.push_str(",network-manager");
    }
    bootstrap(release, &packages, &root, None)?;
    for script in SHIMS {
        place(folder, script)?;
    }
    let mut customize = Command::new("sh");
    customize.arg(folder.join("customize.sh")).arg(&root).arg(network.renderer());
    succeed(customize)?;
    if network == NetworkManagement::Ifcfg {
        let tools = folder.join("tools");
        let hook = place(folder, IFCFG_BUILD)?;
        bootstrap(release, IFCFG_BUILD_PACKAGES, &tools, Some(&hook))?;
        let mut install = Command::new("sh");
        install.arg(place(folder, IFCFG_INSTALL)?).arg(&root).arg(tools.join("built"));
        succeed(install)?;
    }
    Ok(root)
}

/// Makes a Debian userland with packages. What runs at last sees it at the path that is its one argument.
pub(crate) fn bootstrap(
    release: Release,
    packages: &str,
    root: &Path,
    hook: Option<&Path>,
) -> Result<(), GuestError> {
    let mirror = std::env::var(MIRROR_VARIABLE).unwrap_or_else(|_| MIRROR.to_owned());
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", "--mode=root", "--skip=check/empty"]);
    // The whole is thrown away if the machine goes down meanwhile.
    command.arg("--dpkgopt=force-unsafe-io");
    command.args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\""]);
    for part in LEFT_OUT {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{part}/*"));
    }
    if let Some(hook) = hook {
        command.arg(format!("--customize-hook={}", hook.display()));
    }
    command.arg(format!("--include={packages}")).arg(release.name()).arg(root);
    let kinds: &[&str] = if hook.is_some() { &["deb", "deb-src"] } else { &["deb"] };
    for kind in kinds {
        command.arg(format!("{kind} [signed-by={KEYRING}] {mirror} {} main", release.name()));
    }
    succeed(command)?;
    Ok(())
}

/// Puts a script there.
fn place(folder: &Path, (name, content): (&str, &str)) -> Result<PathBuf, GuestError> {
    let path = folder.join(name);
    fs::write(&path, content).map_err(file(&path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(file(&path))?;
    Ok(path)
}

/// What was built by another recipe is another file system.
fn recipe(network: NetworkManagement) -> String {
    let mut digest = Sha256::new();
    digest.update(PACKAGES);
    let add = |(name, content): (&str, &str)| {
        digest.update(name);
        digest.update(content);
    };
    let ifcfg = [("", IFCFG_BUILD_PACKAGES), IFCFG_BUILD, IFCFG_INSTALL];
    let ifcfg = ifcfg.into_iter().filter(|_| network == NetworkManagement::Ifcfg);
    SHIMS.into_iter().chain(ifcfg).for_each(add);
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
