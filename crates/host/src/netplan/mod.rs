//! Our netplan files: what makes a NIC the same at the next boot. They are never applied by netplan; what is live is made
//! by rtnetlink.

pub mod check;
mod read;
mod render;

use std::path::{Path, PathBuf};

use multinic_core::node::observed::NicFile;
use multinic_core::{InterfaceName, Slot};

use crate::files::{FileError, HostRoot};

pub use read::parse;
pub use render::render;

/// Where netplan reads, below the node's root.
pub const DIRECTORY: &str = "etc/netplan";

/// The mode of our files: netplan warns of others (its files can hold secrets).
pub const MODE: u32 = 0o600;

/// The name of an interface's file. It sorts behind what an installer or cloud-init wrote, and has the form of the older
/// programs for the slots that those know.
pub fn file_name(name: InterfaceName) -> String {
    let number = name.slot().number().min(9);
    format!("9{number}-{name}.yaml")
}

/// The path of an interface's file below the node's root.
pub fn path(name: InterfaceName) -> PathBuf {
    Path::new(DIRECTORY).join(file_name(name))
}

/// The slot in the name of a file, if the whole name is one of ours.
pub fn slot_of(file: &str) -> Option<Slot> {
    let (_, name) = file.strip_suffix(".yaml")?.split_once('-')?;
    let name: InterfaceName = name.parse().ok()?;
    (file_name(name) == file).then(|| name.slot())
}

/// Reads all files whose names are ours.
pub fn files(root: &HostRoot) -> Result<Vec<NicFile>, FileError> {
    let names = root.names(Path::new(DIRECTORY))?;
    let mut slots: Vec<Slot> = names.iter().filter_map(|name| slot_of(name.to_str()?)).collect();
    slots.sort_unstable();
    let mut files = Vec::new();
    for slot in slots {
        let content = match root.read(&path(slot.interface())) {
            Ok(Some(copy)) => parse(slot, &copy.bytes, copy.mode),
            // It went while we looked.
            Ok(None) => continue,
            // It holds the name, whatever it is.
            Err(FileError::NotPlain(_) | FileError::TooLarge(_)) => parse(slot, &[], 0),
            Err(error) => return Err(error),
        };
        files.push(NicFile { slot, content });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_belongs_to_one_slot() {
        for slot in Slot::first(64) {
            assert_eq!(slot_of(&file_name(slot.interface())), Some(slot));
        }
        assert_eq!(file_name("multinic0".parse().unwrap()), "90-multinic0.yaml");
        assert_eq!(file_name("multinic9".parse().unwrap()), "99-multinic9.yaml");
        assert_eq!(file_name("multinic10".parse().unwrap()), "99-multinic10.yaml");
        for name in [
            "91-multinic10.yaml",
            "90-multinic1.yaml",
            "91-multinic1.yml",
            "91-multinic1.yaml.bak",
            ".91-multinic1.yaml.multinic-new",
            "91-multinic01.yaml",
            "50-cloud-init.yaml",
            "91-multinic1-extra.yaml",
            "multinic1.yaml",
        ] {
            assert_eq!(slot_of(name), None, "{name}");
        }
    }

    #[test]
    fn files_of_others_are_not_read_as_ours() {
        let folder = tempfile::tempdir().unwrap();
        let netplan = folder.path().join(DIRECTORY);
        std::fs::create_dir_all(&netplan).unwrap();
        for name in ["50-cloud-init.yaml", "91-multinic1.yaml", "99-multinic12.yaml", "91-multinic1.yaml.bak"]
        {
            std::fs::write(netplan.join(name), "network: {}").unwrap();
        }
        let files = files(&HostRoot::open(folder.path()).unwrap()).unwrap();
        assert_eq!(files.iter().map(|file| file.slot.number()).collect::<Vec<_>>(), [1, 12]);
    }
}
