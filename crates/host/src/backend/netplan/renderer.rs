//! Who does the work for netplan: what its files say of that for everything that does not say it itself, as ours.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::backend::places;
use crate::files::HostRoot;

/// Where netplan looks for files, the strongest first: a file there takes the place of one of the same name in the others.
pub const DIRECTORIES: [&str; 3] = ["etc/netplan", "run/netplan", "usr/lib/netplan"];

/// Who does the work where a file says so for everything (`network.renderer`), and that file: the last by its name counts.
pub fn renderer(root: &HostRoot) -> Option<(String, PathBuf)> {
    let mut by_name: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for directory in DIRECTORIES {
        for name in root.names(Path::new(directory)).unwrap_or_default() {
            if Path::new(&name).extension().is_some_and(|ending| ending == "yaml") {
                by_name.entry(name.clone()).or_insert_with(|| Path::new(directory).join(name));
            }
        }
    }
    let others = by_name.into_values().filter(|path| places::known(path).is_none());
    let mut said = others.filter_map(|path| {
        let copy = root.read_of_others(&path).ok()??;
        Some((said_by(&String::from_utf8_lossy(&copy.bytes))?, path))
    });
    said.next_back()
}

#[derive(Deserialize)]
struct Document {
    network: Option<Network>,
}

#[derive(Deserialize)]
struct Network {
    renderer: Option<String>,
}

/// What a file says. No text is too strange.
pub fn said_by(text: &str) -> Option<String> {
    serde_saphyr::from_str::<Document>(text).ok()?.network?.renderer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::put;

    #[test]
    fn the_last_word_by_the_names_of_files_counts_and_ours_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        let write = |path: &str, text: &str| put(folder.path(), path, text);
        let said = || renderer(&root).map(|(name, path)| format!("{name} by {}", path.display()));
        assert_eq!(said(), None);
        write("etc/netplan/50-cloud-init.yaml", "network: {ethernets: {eth0: {renderer: NetworkManager}}}");
        assert_eq!(said(), None);
        write("usr/lib/netplan/00-manager.yaml", "network: {version: 2, renderer: NetworkManager}");
        assert_eq!(said().unwrap(), "NetworkManager by usr/lib/netplan/00-manager.yaml");
        write(
            "etc/netplan/01-server.yaml",
            "network: {renderer: networkd, ethernets: {renderer: x, eth0: {}}}",
        );
        write("etc/netplan/91-multinic1.yaml", "network: {renderer: NetworkManager}");
        write("etc/netplan/99-broken.yaml", "network: [");
        write("etc/netplan/99-other.yml", "network: {renderer: NetworkManager}");
        assert_eq!(said().unwrap(), "networkd by etc/netplan/01-server.yaml");
        write("etc/netplan/00-manager.yaml", "network: {renderer: sriov}");
        write("run/netplan/02-run.yaml", "network: {renderer: NetworkManager}");
        assert_eq!(said().unwrap(), "NetworkManager by run/netplan/02-run.yaml");
        write("usr/share/server.yaml", "network: {renderer: networkd}");
        std::os::unix::fs::symlink("/usr/share/server.yaml", folder.path().join("etc/netplan/03-link.yaml"))
            .unwrap();
        assert_eq!(said().unwrap(), "networkd by etc/netplan/03-link.yaml", "netplan follows it");
    }
}
