//! Whether systemd-networkd spares rules and routes that others set: `ManageForeignRoutingPolicyRules=no` and
//! `ManageForeignRoutes=no`, in effect in the daemon that runs. It reads them when it starts and tells nobody, so they are
//! in effect if they are on disk and nothing that could say otherwise is younger than the daemon.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zbus::OwnedObjectPath;

use super::bus::{Bus, BusError, Object};
use crate::backend::ini;
use crate::files::HostRoot;

/// Where networkd.conf(5) is looked for, the first place before the others.
const PLACES: [&str; 4] = ["etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"];

/// What is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Settings {
    /// `ManageForeignRoutingPolicyRules=`; yes unless it is said.
    rules: Option<bool>,
    /// `ManageForeignRoutes=`; yes unless it is said.
    routes: Option<bool>,
    /// When the youngest of the files and folders changed, in microseconds since 1970.
    changed: i128,
}

/// Whether both are in effect.
pub async fn is_spared(root: &HostRoot, bus: &Bus) -> Result<bool, BusError> {
    let Settings { rules, routes, changed } = settings(root.path());
    if (rules, routes) != (Some(false), Some(false)) {
        return Ok(false);
    }
    let service = "org.freedesktop.systemd1";
    let manager =
        Object { service, path: "/org/freedesktop/systemd1", interface: "org.freedesktop.systemd1.Manager" };
    let unit: OwnedObjectPath = bus.call(manager, "GetUnit", &"systemd-networkd.service").await?;
    let unit = Object { service, path: unit.as_str(), interface: "org.freedesktop.systemd1.Service" };
    let started: u64 = bus.get(unit, "ExecMainStartTimestamp").await?;
    Ok(changed < i128::from(started))
}

fn settings(root: &Path) -> Settings {
    let mut found = Settings::default();
    let main = PLACES.iter().map(|place| root.join(place).join("networkd.conf"));
    let mut files: Vec<PathBuf> = main.filter(|path| path.exists()).take(1).collect();
    // Drop-ins come after the main file, in the order of their names; of several with one name, the first place's counts.
    let mut drop_ins: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for place in PLACES {
        let folder = root.join(place).join("networkd.conf.d");
        found.look_at(&folder);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "conf") {
                drop_ins.entry(entry.file_name()).or_insert_with(|| entry.path());
            }
        }
    }
    files.extend(drop_ins.into_values());
    for path in files {
        found.look_at(&path);
        found.take(&fs::read_to_string(&path).unwrap_or_default());
    }
    found
}

impl Settings {
    fn look_at(&mut self, path: &Path) {
        if let Ok(metadata) = fs::metadata(path) {
            let changed = i128::from(metadata.ctime()) * 1_000_000 + i128::from(metadata.ctime_nsec()) / 1000;
            self.changed = self.changed.max(changed);
        }
    }

    fn take(&mut self, text: &str) {
        for line in ini::lines(text).filter(|line| line.section == "Network") {
            let value = match line.value.to_lowercase().as_str() {
                "no" | "false" | "off" | "0" | "n" | "f" => Some(false),
                "yes" | "true" | "on" | "1" | "y" | "t" => Some(true),
                _ => None,
            };
            match line.key {
                "ManageForeignRoutingPolicyRules" => self.rules = value.or(self.rules),
                "ManageForeignRoutes" => self.routes = value.or(self.routes),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_names_and_nearer_places_win() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let both = || {
            let Settings { rules, routes, changed: _ } = settings(folder.path());
            (rules, routes)
        };
        assert_eq!(both(), (None, None));
        write("etc/systemd/networkd.conf", "[Network]\nManageForeignRoutes=yes\n");
        write("usr/lib/systemd/networkd.conf.d/10-a.conf", "[Network]\nManageForeignRoutes=no\n");
        assert_eq!(both(), (None, Some(false)));
        write("etc/systemd/networkd.conf.d/10-a.conf", "[Network]\nManageForeignRoutingPolicyRules=no\n");
        assert_eq!(both(), (Some(false), Some(true)));
        write("run/systemd/networkd.conf.d/20-b.conf", "[Network]\nManageForeignRoutes=off\n[Other]\n");
        assert_eq!(both(), (Some(false), Some(false)));
        write("etc/systemd/networkd.conf.d/30-c.conf", "[DHCPv4]\nManageForeignRoutes=yes\n");
        write("etc/systemd/networkd.conf.d/40.txt", "[Network]\nManageForeignRoutes=yes\n");
        assert_eq!(both(), (Some(false), Some(false)));
    }
}
