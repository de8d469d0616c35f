//! What was before a change, written down before the change begins: one file for each NIC that is being changed.

use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use multinic_core::node::NicTarget;
use multinic_core::node::observed::Settings;
use multinic_core::node::routing::{RouteTarget, RuleTarget};
use multinic_core::{MacAddr, Vlan, VlanId};
use serde::{Deserialize, Serialize};

use crate::faults::Point;
use crate::files::{FileCopy, FileError, HostRoot};
use crate::netlink::{LinkState, Saved};

/// Where the entries are, below the node's root.
pub const DIRECTORY: &str = "var/lib/multinic/journal";
const VERSION: u32 = 1;

/// A journal entry could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It is not what we wrote.
    #[error(
        "{path} cannot be read as a journal entry: {reason}. It says how the NIC was before an interrupted change: \
         check that NIC and its file, then remove the entry"
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The kernel did not tell which boot this is.
    #[error("cannot read /proc/sys/kernel/random/boot_id: {0}")]
    Boot(#[source] io::Error),
}

/// A change under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    version: u32,
    /// The number of the change among those of this NIC.
    pub number: u64,
    /// The NIC.
    pub mac: MacAddr,
    /// The boot in which it began. After another boot the link has been made anew, from the files as they were by then.
    pub boot: String,
    /// What the NIC is to be like; none where it is taken away.
    #[serde(default)]
    pub target: Option<NicTarget>,
    /// Whether the agent that makes the change told itself that it failed; what it could not undo is left.
    #[serde(default)]
    pub told: bool,
    /// The link before, if there was one to be changed.
    pub link: Option<LinkBefore>,
    /// The addresses that the change may add or remove.
    pub touched: Vec<IpNet>,
    /// The routes that the change may add.
    #[serde(default)]
    pub touched_routes: Vec<RouteTarget>,
    /// The rules that the change may add or remove.
    #[serde(default)]
    pub touched_rules: Vec<RuleBefore>,
    /// The VLANs on the link that the change may touch or take away.
    #[serde(default)]
    pub vlans: Vec<VlanBefore>,
    /// Those that it may make.
    #[serde(default)]
    pub made_vlans: Vec<Vlan>,
    /// The files before.
    pub files: Vec<FileBefore>,
    /// Whether the network manager was made to let go of the link.
    #[serde(default)]
    pub held: bool,
    /// NetworkManager's checkpoint of the NIC, which would undo everything since when its time is over.
    #[serde(default)]
    pub checkpoint: Option<String>,
}

/// A link as it was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkBefore {
    /// The kernel's index.
    pub index: u32,
    /// The name.
    pub name: String,
    /// The MTU.
    pub mtu: u32,
    /// Whether it was up.
    pub up: bool,
    /// Its other names.
    pub altnames: Vec<String>,
    /// Its addresses, each as the kernel told it.
    pub addresses: Vec<AddressBefore>,
    /// Its routes.
    pub routes: Vec<RouteBefore>,
    /// The value of `accept_ra`, where there was one.
    pub accept_ra: Option<String>,
    /// Its settings.
    #[serde(default)]
    pub settings: Option<Settings>,
}

/// A VLAN as it was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanBefore {
    /// Its number.
    pub id: VlanId,
    /// The name of the link that it was on, if that was not the NIC.
    pub parent: Option<String>,
    /// Its link.
    pub link: LinkBefore,
}

/// A rule that a change touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleBefore {
    /// The rule.
    pub rule: RuleTarget,
    /// Whether it was there.
    pub was_there: bool,
    /// The number of who said that he set it.
    #[serde(default)]
    pub protocol: Option<u8>,
}

/// An address as it was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressBefore {
    /// The address.
    pub net: IpNet,
    /// Whether it had a lifetime.
    pub dynamic: bool,
    /// All of it.
    pub saved: String,
}

/// A route as it was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteBefore {
    /// Where it leads.
    pub destination: IpNet,
    /// All of it.
    pub saved: String,
}

/// A file as it was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileBefore {
    /// Its path below the node's root.
    pub path: PathBuf,
    /// What was there, if it was there.
    pub content: Option<Content>,
    /// The text that the change puts there, if it does.
    #[serde(default)]
    pub written: Option<String>,
}

/// A file's content in a journal entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    text: Option<String>,
    bytes: Option<Vec<u8>>,
    mode: u32,
    owner: Option<(u32, u32)>,
}

impl From<FileCopy> for Content {
    fn from(copy: FileCopy) -> Self {
        let FileCopy { bytes, mode, owner } = copy;
        match String::from_utf8(bytes) {
            Ok(text) => Self { text: Some(text), bytes: None, mode, owner },
            Err(error) => Self { text: None, bytes: Some(error.into_bytes()), mode, owner },
        }
    }
}

impl Content {
    /// The file again.
    pub fn to_copy(&self) -> FileCopy {
        let text = || self.text.clone().map(String::into_bytes);
        let bytes = self.bytes.clone().or_else(text).unwrap_or_default();
        FileCopy { bytes, mode: self.mode, owner: self.owner }
    }
}

impl LinkBefore {
    /// Takes down what can be lost. What the kernel makes itself, it makes again: IPv6 link-local addresses.
    pub fn new(state: LinkState, accept_ra: Option<String>) -> Self {
        let LinkState { link, addresses, routes } = state;
        let addresses = addresses.into_iter().filter(|(address, _)| !is_kernels_own(address.net));
        Self {
            index: link.index,
            name: link.name,
            mtu: link.mtu,
            up: link.up,
            altnames: link.altnames,
            addresses: addresses
                .map(|(address, saved)| AddressBefore {
                    net: address.net,
                    dynamic: address.dynamic,
                    saved: saved.to_text(),
                })
                .collect(),
            routes: routes
                .into_iter()
                .map(|(route, saved)| RouteBefore { destination: route.destination, saved: saved.to_text() })
                .collect(),
            accept_ra,
            settings: Some(link.settings),
        }
    }
}

/// Whether the kernel makes such an address itself when a link comes up.
pub fn is_kernels_own(net: IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

impl AddressBefore {
    /// What the kernel told.
    pub fn saved(&self) -> Option<Saved> {
        Saved::from_text(&self.saved)
    }
}

impl RouteBefore {
    /// What the kernel told.
    pub fn saved(&self) -> Option<Saved> {
        Saved::from_text(&self.saved)
    }
}

impl Entry {
    /// A change that is about to begin.
    pub fn new(mac: MacAddr, number: u64, boot: String, target: Option<NicTarget>) -> Self {
        Self {
            version: VERSION,
            number,
            mac,
            boot,
            target,
            told: false,
            link: None,
            touched: Vec::new(),
            touched_routes: Vec::new(),
            touched_rules: Vec::new(),
            vlans: Vec::new(),
            made_vlans: Vec::new(),
            files: Vec::new(),
            held: false,
            checkpoint: None,
        }
    }

    /// An address that a link had before.
    pub fn address(&self, link: u32, net: IpNet) -> Option<Saved> {
        let mut links = self.link.iter().chain(self.vlans.iter().map(|vlan| &vlan.link));
        let before = links.find(|before| before.index == link)?;
        before.addresses.iter().find(|address| address.net == net)?.saved()
    }

    /// Where the files are that the change touches.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }
}

/// The boot that this is.
pub fn boot() -> Result<String, JournalError> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(JournalError::Boot)?;
    Ok(text.trim().to_owned())
}

fn path(mac: MacAddr) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{}.json", mac.to_string().replace(':', "-")))
}

/// Writes an entry down.
pub fn write(root: &HostRoot, entry: &Entry) -> Result<(), JournalError> {
    let path = path(entry.mac);
    let broken = |error: serde_json::Error| JournalError::Broken {
        path: root.path().join(&path),
        reason: error.to_string(),
    };
    let mut bytes = serde_json::to_vec_pretty(entry).map_err(broken)?;
    bytes.push(b'\n');
    root.make_directory(Path::new(DIRECTORY), 0o755)?;
    Ok(root.write(&path, &FileCopy::private(bytes), Some(Point::JournalTemporary))?)
}

/// Reads what [`write()`] wrote; an error says what is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Entry, String> {
    let entry: Entry = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if entry.version != VERSION {
        return Err(format!("its version is {}, this program writes {VERSION}", entry.version));
    }
    Ok(entry)
}

/// Reads the entry of a NIC.
pub fn read(root: &HostRoot, mac: MacAddr) -> Result<Option<Entry>, JournalError> {
    let path = path(mac);
    let Some(copy) = root.read(&path)? else { return Ok(None) };
    let broken = |reason: String| JournalError::Broken { path: root.path().join(&path), reason };
    let mut entry = parse(&copy.bytes).map_err(broken)?;
    if entry.mac != mac {
        return Err(broken(format!("it is about {}", entry.mac)));
    }
    // A manager that was started since has let go of nothing for us, and keeps no checkpoint.
    let this_boot = boot()? == entry.boot;
    entry.held &= this_boot;
    entry.checkpoint = entry.checkpoint.filter(|_| this_boot);
    Ok(Some(entry))
}

/// Removes the entry of a NIC. Should it come back with a loss of power, then it is one of a change that was made, or one
/// of another boot whose files are as it says: there is nothing to be done about it, and nothing to wait for here.
pub fn remove(root: &HostRoot, mac: MacAddr) -> Result<(), JournalError> {
    Ok(root.remove_lazily(&path(mac))?)
}

/// The NICs that have an entry.
pub fn pending(root: &HostRoot) -> Result<Vec<MacAddr>, JournalError> {
    let names = root.names(Path::new(DIRECTORY))?;
    let macs = names.iter().filter_map(|name| {
        let text = name.to_str()?.strip_suffix(".json")?;
        text.replace('-', ":").parse().ok()
    });
    let mut macs: Vec<MacAddr> = macs.collect();
    macs.sort_unstable();
    Ok(macs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac() -> MacAddr {
        "fa:16:3e:00:00:01".parse().unwrap()
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        assert_eq!(read(&root, mac()).unwrap(), None);
        let mut entry = Entry::new(mac(), 3, boot().unwrap(), None);
        for (path, bytes) in [("a", b"text\n".to_vec()), ("b", vec![0xff, 0])] {
            let copy = FileCopy { bytes, mode: 0o644, owner: Some((0, 0)) };
            entry.files.push(FileBefore { path: path.into(), content: Some(copy.into()), written: None });
        }
        write(&root, &entry).unwrap();
        let read = read(&root, mac()).unwrap().unwrap();
        assert_eq!(read, entry);
        assert_eq!(read.files[1].content.as_ref().unwrap().to_copy().bytes, [0xff, 0]);
        assert_eq!(pending(&root).unwrap(), [mac()]);
        for (boot, held) in [(boot().unwrap(), true), ("another".to_owned(), false)] {
            write(&root, &Entry { held: true, boot, ..entry.clone() }).unwrap();
            assert_eq!(super::read(&root, mac()).unwrap().unwrap().held, held);
        }
        remove(&root, mac()).unwrap();
        assert!(pending(&root).unwrap().is_empty());
    }

    #[test]
    fn a_broken_entry_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        root.make_directory(Path::new(DIRECTORY), 0o755).unwrap();
        std::fs::write(folder.path().join(path(mac())), "{").unwrap();
        assert!(matches!(read(&root, mac()), Err(JournalError::Broken { .. })));
    }
}
