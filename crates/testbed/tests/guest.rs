//! Guests boot, see NICs come and go, and keep their files.
//!
//! `make test-nodes` runs these; they need root and, the first time, some minutes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use multinic_core::MacAddr;
use multinic_testbed::guest::{Guest, NetworkManagement, Nic, Release, Rootfs};
use multinic_testbed::node::Switch;

/// udev and the managers act within a second while the machine compiles something else.
const PATIENCE: Duration = Duration::from_secs(60);

fn nic(name: &str, last: u8) -> Nic {
    let mac = MacAddr::from_bytes([0xfa, 0x16, 0x3e, 0, 0, last]).unwrap();
    Nic { mac, name: name.to_owned(), mtu: 1450, network: "tenant".to_owned() }
}

fn wait(guest: &Guest, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come about\n{}", guest.console());
        sleep(Duration::from_millis(50));
    }
}

/// Whether udev of the guest has dealt with a link.
fn udev_knows(guest: &Guest, link: &str) -> bool {
    let shown = guest.run("udevadm", &["info", "--query=property", &format!("/sys/class/net/{link}")]);
    shown.is_ok_and(|shown| shown.contains("USEC_INITIALIZED="))
}

fn configures_a_hot_plugged_nic(release: Release, network: NetworkManagement) {
    if !Rootfs::supported() {
        return;
    }
    let rootfs = Rootfs::get(release, network).unwrap();
    let switch = Arc::new(Switch::new().unwrap());
    let mut guest = Guest::new(&rootfs, "node-1", &switch).unwrap();
    let before = nic("eth0", 1);
    guest.plug(before.clone()).unwrap();
    let netplan = format!(
        "network: {{version: 2, renderer: {}, ethernets: {{eth0: {{match: {{macaddress: \"{}\"}}, set-name: eth0, \
         addresses: [192.0.2.1/24]}}}}}}\n",
        network.renderer(),
        before.mac
    );
    guest.write("/etc/netplan/50-cloud-init.yaml", &netplan, 0o600).unwrap();
    guest.boot().unwrap();
    assert_eq!(guest.run("hostname", &[]).unwrap().trim(), "node-1");
    let has_address =
        |guest: &Guest| guest.run("ip", &["addr", "show", "eth0"]).unwrap().contains("192.0.2.1/24");
    wait(&guest, "the address of eth0", || has_address(&guest));

    let hot = nic("ens9", 2);
    guest.plug(hot.clone()).unwrap();
    wait(&guest, "ens9", || udev_knows(&guest, "ens9"));
    guest.unplug(hot.mac).unwrap();
    wait(&guest, "the end of ens9", || guest.net().index_of("ens9").is_err());

    // Of a rename, only what is on disk outlives a boot.
    guest.plug(hot).unwrap();
    guest.run("ip", &["link", "set", "ens9", "name", "other0"]).unwrap();
    fs::write(guest.path("/etc/kept"), "kept").unwrap();
    guest.reboot().unwrap();
    assert_eq!(guest.read("/etc/kept").unwrap(), "kept");
    guest.net().index_of("ens9").unwrap();
    guest.net().index_of("other0").unwrap_err();
    wait(&guest, "the address of eth0", || has_address(&guest));
    guest.reset().unwrap();
    wait(&guest, "the address of eth0", || has_address(&guest));
    guest.stop().unwrap();
    assert_eq!(guest.read("/etc/kept").unwrap(), "kept");
}

#[test]
#[ignore = "needs root and builds a file system: make test-nodes"]
fn bookworm_with_networkd_boots_reboots_and_sees_nics() {
    configures_a_hot_plugged_nic(Release::Bookworm, NetworkManagement::Netplan);
}

#[test]
#[ignore = "needs root and builds a file system: make test-nodes"]
fn trixie_with_networkd_boots_reboots_and_sees_nics() {
    configures_a_hot_plugged_nic(Release::Trixie, NetworkManagement::Netplan);
}

#[test]
#[ignore = "needs root and builds a file system: make test-nodes"]
fn bookworm_with_network_manager_boots_reboots_and_sees_nics() {
    configures_a_hot_plugged_nic(Release::Bookworm, NetworkManagement::NetplanOverNetworkManager);
}

/// Runs the test below in a process of its own, and kills that once its guest is up.
#[test]
#[ignore = "needs root and builds a file system: make test-nodes"]
fn nothing_of_a_guest_outlives_a_test_that_is_killed() {
    if !Rootfs::supported() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("leader");
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "waits_to_be_killed"])
        .env(NOTE, &note)
        .env("TMPDIR", folder.path())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + 4 * PATIENCE;
    let leader = loop {
        let text = fs::read_to_string(&note).unwrap_or_default();
        if let Some(leader) = text.strip_suffix('\n') {
            break leader.to_owned();
        }
        assert!(Instant::now() < deadline && test.try_wait().unwrap().is_none(), "no guest");
        sleep(Duration::from_millis(50));
    };
    let guests =
        || fs::read_dir(folder.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    let name = guests().next().unwrap().unwrap().file_name().into_string().unwrap();
    let groups = || Command::new("find").args(["/sys/fs/cgroup", "-name", &name]).output().unwrap().stdout;
    assert!(!groups().is_empty());
    test.kill().unwrap();
    test.wait().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while fs::exists(format!("/proc/{leader}")).unwrap() || guests().count() > 0 || !groups().is_empty() {
        assert!(Instant::now() < deadline, "something of the guest is left");
        sleep(Duration::from_millis(50));
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&name), "{mounts}");
}

const NOTE: &str = "MULTINIC_GUEST_NOTE";

#[test]
#[ignore = "part of another"]
fn waits_to_be_killed() {
    let Some(note) = std::env::var_os(NOTE) else { return };
    let rootfs = Rootfs::get(Release::Bookworm, NetworkManagement::Netplan).unwrap();
    let mut guest = Guest::new(&rootfs, "killed", &Arc::new(Switch::new().unwrap())).unwrap();
    guest.boot().unwrap();
    fs::write(note, format!("{}\n", guest.leader().unwrap())).unwrap();
    sleep(10 * PATIENCE);
}
