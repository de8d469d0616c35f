//! A node of a test's own: a namespace with an uplink, a root folder, a switch to plug NICs with, and a database.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use multinic_core::MacAddr;
use multinic_testbed::node::{ForeignState, NetNs, NetlinkWatch, Switch};
use rtnetlink::packet_route::route::RouteProtocol;
use tempfile::TempDir;

use crate::database::{Database, Nic};
use crate::links::{self, Seen};

/// Far more than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const PLUGGED_MTU: u32 = 1500;

pub const UPLINK_MAC: &str = "52:54:00:00:00:01";
pub const UPLINK_ADDRESS: &str = "192.0.2.10";

pub struct World {
    pub switch: Switch,
    pub node: NetNs,
    /// The link of the node's own NIC.
    pub uplink: u32,
    pub root: TempDir,
    pub database: Database,
}

/// Everything that is not ours, before.
pub struct Guard {
    before: ForeignState,
    watch: NetlinkWatch,
    ours: Vec<MacAddr>,
}

impl World {
    /// A node as it comes out of cloud-init: one NIC with the default route, and a file of somebody else's.
    pub fn new() -> Self {
        let switch = Switch::new().unwrap();
        let node = NetNs::new("node").unwrap();
        let root = TempDir::new().unwrap();
        fs::create_dir_all(root.path().join("etc/netplan")).unwrap();
        fs::write(root.path().join("etc/netplan/50-cloud-init.yaml"), "network: {version: 2}\n").unwrap();
        fs::write(root.path().join("etc/os-release"), "ID=ubuntu\nVERSION_ID=\"24.04\"\n").unwrap();
        let uplink = switch.plug(&node, UPLINK_MAC.parse().unwrap(), "eth0", 1500, "mgmt").unwrap();
        links::add_address(&node, uplink, &format!("{UPLINK_ADDRESS}/24"));
        links::set_up(&node, uplink);
        links::add_route(&node, uplink, "0.0.0.0/0", Some("192.0.2.1"), RouteProtocol::Boot);
        Self { switch, node, uplink, root, database: Database::new() }
    }

    /// Plugs the NIC under a kernel name that follows from its slot.
    pub fn plug(&self, nic: &Nic) -> u32 {
        let name = format!("eth{}", nic.slot + 1);
        let plugged = self.switch.plug(&self.node, nic.mac.parse().unwrap(), &name, PLUGGED_MTU, "lab");
        // A running agent may have renamed it before the switch could look it up by its name.
        plugged.unwrap_or_else(|error| self.seen(nic).unwrap_or_else(|| panic!("{error}")).index)
    }

    /// From now on, nothing may happen to anything but these NICs.
    pub fn guard(&self, ours: &[&Nic]) -> Guard {
        let ours: Vec<MacAddr> = ours.iter().map(|nic| nic.mac.parse().unwrap()).collect();
        let before = ForeignState::capture(&self.node, self.root.path(), &ours).unwrap();
        let watch = NetlinkWatch::start(&self.node, &ours).unwrap();
        Guard { before, watch, ours }
    }

    pub fn seen(&self, nic: &Nic) -> Option<Seen> {
        links::seen(&self.node, &nic.mac)
    }

    pub fn file(&self, slot: i64) -> PathBuf {
        let number = if slot < 10 { format!("9{slot}") } else { "99".to_owned() };
        self.root.path().join(format!("etc/netplan/{number}-multinic{slot}.yaml"))
    }

    /// Whether kernel and disk show this NIC as desired, under the name of this slot.
    pub fn is_configured_as(&self, nic: &Nic, slot: i64) -> bool {
        let file = fs::read_to_string(self.file(slot)).unwrap_or_default();
        self.seen(nic).is_some_and(|seen| {
            seen.name == format!("multinic{slot}")
                && seen.up
                && i64::from(seen.mtu) == nic.mtu
                && seen.addresses == nic.addresses.iter().cloned().collect()
        }) && file.contains(&nic.mac)
            && nic.addresses.iter().all(|address| file.contains(address))
            && file.contains(&format!("mtu: {}", nic.mtu))
    }

    pub fn is_configured(&self, nic: &Nic) -> bool {
        self.is_configured_as(nic, nic.slot)
    }

    /// Whether this NIC is as it was plugged, no file is left of it, and the change that made it so has ended.
    pub fn is_given_back(&self, nic: &Nic) -> bool {
        self.seen(nic).is_some_and(|seen| {
            let name = format!("eth{}", nic.slot + 1);
            seen.name == name && !seen.up && seen.mtu == PLUGGED_MTU && seen.addresses.is_empty()
        }) && !self.file(nic.slot).exists()
            && self.journal().is_empty()
    }

    /// Waits until the NIC is as desired and the change that made it so has ended: what a test does in the middle of it would
    /// make it fail, rightly.
    #[track_caller]
    pub fn wait_configured(&self, nic: &Nic) {
        let what = || format!("{nic:?} is configured; it is {:?}, {:?}", self.seen(nic), self.journal());
        wait_until(what, || self.is_configured(nic) && self.journal().is_empty());
    }

    /// That no change is left unfinished.
    #[track_caller]
    pub fn assert_journal_empty(&self) {
        let left = self.journal();
        assert!(left.is_empty(), "{left:?}");
    }

    fn journal(&self) -> Vec<DirEntry> {
        let journal = self.root.path().join("var/lib/multinic/journal");
        fs::read_dir(journal).map(|names| names.flatten().collect()).unwrap_or_default()
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

impl Guard {
    #[track_caller]
    pub fn assert_untouched(mut self, world: &World) {
        self.watch.assert_silent();
        let after = ForeignState::capture(&world.node, world.root.path(), &self.ours).unwrap();
        self.before.assert_same(&after);
    }
}

/// Waits for something that is to come true soon.
#[track_caller]
pub fn wait_until(what: impl Fn() -> String, mut come: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !come() {
        assert!(Instant::now() < deadline, "within {PATIENCE:?}: {}", what());
        std::thread::sleep(Duration::from_millis(5));
    }
}
