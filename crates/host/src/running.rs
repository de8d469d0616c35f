//! Which network managers run on a node. systemd makes a link for a unit when it starts it, and takes it away when the unit has
//! stopped; what a manager keeps below `/run` may stay when it is stopped.

use std::path::{Path, PathBuf};

use crate::files::HostRoot;

/// Where systemd (since 236) has a link for each unit that runs.
const UNITS: &str = "run/systemd/units";

/// Where there are folders with links to the units that start with the node; netplan makes those of networkd below `/run`.
const ENABLED: [&str; 2] = ["etc/systemd/system", "run/systemd/system"];

/// A network manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// NetworkManager.
    NetworkManager,
    /// systemd-networkd.
    Networkd,
    /// wickedd.
    Wicked,
}

impl Daemon {
    /// Its unit.
    fn unit(self) -> &'static str {
        match self {
            Self::NetworkManager => "NetworkManager.service",
            Self::Networkd => "systemd-networkd.service",
            Self::Wicked => "wickedd.service",
        }
    }

    /// Another unit that starts it.
    fn starter(self) -> Option<&'static str> {
        match self {
            Self::NetworkManager => None,
            Self::Networkd => Some("systemd-networkd.socket"),
            Self::Wicked => Some("wicked.service"),
        }
    }

    /// The link that systemd makes when it starts it.
    pub fn link(self) -> PathBuf {
        Path::new(UNITS).join(format!("invocation:{}", self.unit()))
    }

    /// What it makes when it starts. tmpfiles.d makes networkd's folder whether that runs or not; the file is its own.
    fn trace(self) -> &'static str {
        match self {
            Self::NetworkManager => "run/NetworkManager",
            Self::Networkd => "run/systemd/netif/state",
            Self::Wicked => "run/wicked",
        }
    }

    /// Whether it runs on the node of this root. One that ran, does not just now and starts with the node does, too: it is about
    /// to start again. Where no systemd says it, what it makes speaks for it.
    pub fn runs(self, root: &HostRoot) -> bool {
        let ran = root.path().join(self.trace()).exists();
        if !root.path().join(UNITS).is_dir() {
            return ran;
        }
        // It leads to the number of the start, which is no file.
        root.path().join(self.link()).is_symlink() || ran && self.is_enabled(root)
    }

    /// Whether it is started with the node.
    fn is_enabled(self, root: &HostRoot) -> bool {
        let wants = |folder: &str| {
            let entries = std::fs::read_dir(root.path().join(folder)).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "wants"))
        };
        let mut units = ENABLED.into_iter().flat_map(wants).flat_map(|folder| {
            std::iter::once(self.unit()).chain(self.starter()).map(move |unit| folder.join(unit))
        });
        units.any(|unit| unit.is_symlink())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::put;

    #[test]
    fn one_that_is_stopped_does_not_run_whatever_it_left() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        for daemon in [Daemon::NetworkManager, Daemon::Networkd, Daemon::Wicked] {
            assert!(!daemon.runs(&root));
            put(folder.path(), daemon.trace(), "");
            assert!(daemon.runs(&root), "{daemon:?}: nothing else is known");
        }
        std::fs::create_dir_all(folder.path().join(UNITS)).unwrap();
        for daemon in [Daemon::NetworkManager, Daemon::Networkd, Daemon::Wicked] {
            assert!(!daemon.runs(&root), "{daemon:?}");
            let link = folder.path().join(daemon.link());
            std::os::unix::fs::symlink("0123456789abcdef0123456789abcdef", &link).unwrap();
            assert!(daemon.runs(&root), "{daemon:?}");
            std::fs::remove_file(link).unwrap();
            assert!(!daemon.runs(&root), "{daemon:?}");
            // It is stopped for a moment, as for an update.
            let wants = folder.path().join("etc/systemd/system/multi-user.target.wants");
            std::fs::create_dir_all(&wants).unwrap();
            let enabled = wants.join(daemon.unit());
            std::os::unix::fs::symlink("/usr/lib/systemd/system/a.service", &enabled).unwrap();
            assert!(daemon.runs(&root), "{daemon:?}");
            std::fs::remove_file(enabled).unwrap();
            assert!(!daemon.runs(&root), "{daemon:?}");
        }
    }
}
