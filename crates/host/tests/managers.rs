//! What the network managers of booted guests make of a change: they agree at once, they have it so at the next boot, and
//! nothing else of the guest is touched.
//!
//! `make test-nodes` runs these; they need root and, the first time, some minutes. What works on the guest is this test program
//! itself, started there with [`JOB`] set.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing loudly"
)]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use multinic_core::MacAddr;
use multinic_core::desired::DesiredNic;
use multinic_host::backend::Backend;
use multinic_host::{Host, Options};
use multinic_testbed::guest::{Guest, NetworkManagement, Nic, Release, Rootfs};
use multinic_testbed::node::Switch;
use support::{NIC, OTHER_NIC, block_on, mac, nic, nic_with, pass, plan_of};

/// The NICs that are wanted, as `MAC,slot,MTU,address,…` with spaces between; and `-MAC` for one that is to go.
const JOB: &str = "MULTINIC_TEST_JOB";
const BACKEND: &str = "MULTINIC_TEST_BACKEND";
/// The options of all NICs that are wanted.
const OPTIONS: &str = "MULTINIC_TEST_OPTIONS";
const OWN_NIC: &str = "fa:16:3e:ff:ff:01";
/// The managers act within a second while the machine compiles something else.
const PATIENCE: Duration = Duration::from_secs(60);

fn job(text: &str) -> (Vec<DesiredNic>, Vec<MacAddr>) {
    let (releases, wanted): (Vec<&str>, Vec<&str>) =
        text.split_whitespace().partition(|item| item.starts_with('-'));
    let wanted = wanted.into_iter().map(|item| {
        let parts: Vec<&str> = item.split(',').collect();
        nic(parts[0], parts[1].parse().unwrap(), &parts[3..], parts[2].parse().unwrap())
    });
    (wanted.collect(), releases.iter().map(|item| mac(&item[1..])).collect())
}

/// Not a test of its own: what [`Node::converge`] starts on the guest.
#[test]
fn worker() {
    let Ok(text) = std::env::var(JOB) else { return };
    let (mut wanted, releases) = job(&text);
    if let Ok(options) = std::env::var(OPTIONS) {
        wanted = wanted.into_iter().map(|nic| nic_with(&options, nic)).collect();
    }
    let backend = std::env::var(BACKEND).ok().map(|name| Backend::of_name(&name).unwrap());
    block_on(async {
        let mut host = Host::open(Options { backend, ..Options::new("/") }).unwrap();
        println!("{}: {}", host.backend().backend.name(), host.backend().why);
        host.recover().await.unwrap();
        for (change, result) in pass(&mut host, &wanted, &releases).await {
            result.unwrap_or_else(|error| panic!("{change:?}: {error}"));
        }
        let observed = host.observe().await.unwrap();
        let left = plan_of(&host, &observed, &wanted, &releases);
        assert!(left.changes.is_empty() && left.refused.is_empty() && left.absent.is_empty(), "{left:?}");
    });
}

struct Node {
    guest: Guest,
    backend: Option<Backend>,
    options: Option<&'static str>,
}

impl Node {
    /// A guest whose own NIC is configured by a file, or none where guests cannot be had.
    fn new(release: Release, network: NetworkManagement, file: (&str, &str)) -> Option<Self> {
        if !Rootfs::supported() {
            return None;
        }
        let rootfs = Rootfs::get(release, network).unwrap();
        let switch = Arc::new(Switch::new().unwrap());
        let mut guest = Guest::new(&rootfs, "node-1", &switch).unwrap();
        plug(&mut guest, OWN_NIC, "eth0");
        guest.write(file.0, file.1, 0o600).unwrap();
        if network == NetworkManagement::Networkd {
            guest.write(file.0, file.1, 0o644).unwrap();
        }
        let program = std::env::current_exe().unwrap();
        guest.bind(program.parent().unwrap(), "/opt/multinic", false);
        guest.boot().unwrap();
        let node = Self { guest, backend: None, options: None };
        node.wait("the address of eth0", || {
            node.run("ip", &["addr", "show", "eth0"]).contains("198.51.100.5/24")
        });
        Some(node)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.guest.run(program, arguments).unwrap()
    }

    #[track_caller]
    fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            let links = self.run("ip", &["addr"]);
            assert!(
                Instant::now() < deadline,
                "{what} did not come about\n{links}\n{}",
                self.guest.console()
            );
            sleep(Duration::from_millis(50));
        }
    }

    fn worker(&self, wanted: &str) -> Command {
        let program = std::env::current_exe().unwrap();
        let program = Path::new("/opt/multinic").join(program.file_name().unwrap());
        let mut command = self.guest.command(program.to_str().unwrap()).unwrap();
        command.args(["worker", "--exact", "--nocapture"]).env(JOB, wanted);
        command
    }

    /// A change that fails, or is killed, at a point.
    fn fail(&self, wanted: &str, fault: &str) {
        let mut command = self.worker(wanted);
        let output = command.env(multinic_host::faults::VARIABLE, fault).output().unwrap();
        assert!(!output.status.success());
    }

    #[track_caller]
    fn converge(&self, wanted: &str) {
        let own = self.state_of("eth0");
        let mut command = self.worker(wanted);
        if let Some(backend) = self.backend {
            command.env(BACKEND, backend.name());
        }
        if let Some(options) = self.options {
            command.env(OPTIONS, options);
        }
        let begun = Instant::now();
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let rest = || format!("{}\n{}", self.run("ip", &["addr"]), self.journal());
        assert!(output.status.success(), "{wanted}: {said}{errors}\n{}", rest());
        println!(
            "{wanted:?} after {:?}: {}",
            begun.elapsed(),
            said.lines().find(|line| line.contains(": ")).unwrap_or_default()
        );
        assert_eq!(self.state_of("eth0"), own, "the guest's own NIC was touched");
    }

    fn journal(&self) -> String {
        self.guest.run("journalctl", &["--no-pager", "-n", "60"]).unwrap_or_default()
    }

    /// A link with its addresses and routes, without their lifetimes.
    fn state_of(&self, link: &str) -> String {
        let addresses = self.run("ip", &["-o", "addr", "show", link]);
        let address = |line: &str| line.split('\\').next().unwrap().replace(" tentative", "");
        let addresses: Vec<String> = addresses.lines().map(address).collect();
        format!("{addresses:?}\n{}", self.run("ip", &["route", "show", "dev", link]))
    }

    fn shows(&self, link: &str, words: &[&str]) -> bool {
        let state = self.guest.run("ip", &["addr", "show", link]).unwrap_or_default();
        words.iter().all(|word| state.contains(word))
    }

    fn nmcli(&self, link: &str) -> (String, String) {
        let fields = ["-g", "GENERAL.STATE,GENERAL.CONNECTION", "device", "show", link];
        let said = self.guest.run("nmcli", &fields).unwrap_or_default();
        let mut lines = said.lines().map(str::to_owned);
        (lines.next().unwrap_or_default(), lines.next().unwrap_or_default())
    }

    fn agrees(&self, link: &str) -> bool {
        self.nmcli(link) == ("100 (connected)".to_owned(), link.to_owned())
    }
}

fn plug(guest: &mut Guest, mac_address: &str, name: &str) {
    let nic = Nic { mac: mac(mac_address), name: name.to_owned(), mtu: 1500, network: "tenant".to_owned() };
    guest.plug(nic).unwrap();
}

const OWN_PROFILE: (&str, &str) = (
    "/etc/NetworkManager/system-connections/eth0.nmconnection",
    "[connection]\nid=eth0\ntype=ethernet\ninterface-name=eth0\n[ipv4]\nmethod=manual\naddress1=198.51.100.5/24\n\
     [ipv6]\nmethod=disabled\n",
);

#[test]
#[ignore = "needs root and builds a file system"]
fn network_manager_agrees_at_once_and_after_a_boot_and_forgets() {
    let Some(mut node) = Node::new(Release::Trixie, NetworkManagement::NetworkManager, OWN_PROFILE) else {
        return;
    };
    plug(&mut node.guest, NIC, "ens9");
    // It begins to ask for a lease.
    node.wait("the taking of ens9", || node.nmcli("ens9").1.starts_with("Wired connection"));
    node.converge(&format!("{NIC},0,1450,192.0.2.10/24,2001:db8::10/64"));
    assert!(node.agrees("multinic0"), "{:?}", node.nmcli("multinic0"));
    assert!(node.shows("multinic0", &["192.0.2.10/24", "2001:db8::10/64", "mtu 1450"]));
    // What it knows of the kernel follows a moment later.
    node.wait("addresses and MTU by NetworkManager", || {
        let fields = ["-g", "IP4.ADDRESS,IP6.ADDRESS,GENERAL.MTU", "device", "show", "multinic0"];
        let known = node.run("nmcli", &fields);
        known.contains("192.0.2.10/24") && known.contains("1450")
    });

    // At once, before it knows the link.
    plug(&mut node.guest, OTHER_NIC, "ens10");
    node.run("ip", &["addr", "add", "192.0.2.200/32", "dev", "multinic0"]);
    node.run("ip", &["route", "add", "203.0.113.0/24", "via", "192.0.2.1", "dev", "multinic0"]);
    let other = format!("{OTHER_NIC},12,9000");
    node.converge(&format!("{NIC},0,1400,192.0.2.11/24 {other}"));
    assert!(node.agrees("multinic0") && node.agrees("multinic12"), "{:?}", node.nmcli("multinic12"));
    assert!(node.shows("multinic0", &["192.0.2.11/24", "192.0.2.200/32", "mtu 1400"]));
    assert!(!node.shows("multinic0", &["192.0.2.10/24"]) && !node.shows("multinic0", &["2001:db8::10/64"]));
    assert!(node.state_of("multinic0").contains("203.0.113.0/24"), "{}", node.state_of("multinic0"));

    // Drift.
    node.run("ip", &["addr", "flush", "dev", "multinic0"]);
    node.run("rm", &["/etc/systemd/network/10-multinic12.link"]);
    node.run("ip", &["link", "set", "multinic12", "down"]);
    let wanted = format!("{NIC},0,1400,192.0.2.11/24 {other}");
    node.converge(&wanted);
    assert!(node.agrees("multinic0") && node.agrees("multinic12"));

    node.guest.reboot().unwrap();
    node.wait("multinic0 after a boot", || node.agrees("multinic0") && node.agrees("multinic12"));
    assert!(
        node.shows("multinic0", &["192.0.2.11/24", "mtu 1400"]) && node.shows("multinic12", &["mtu 9000"])
    );
    node.converge(&wanted);

    node.converge(&format!("{other} -{NIC}"));
    node.converge(&format!("-{OTHER_NIC}"));
    let profiles = node.run("nmcli", &["-g", "NAME", "connection", "show"]);
    assert!(!profiles.contains("multinic"), "{profiles}");
    let files = node.run("find", &["/etc", "-name", "*multinic*"]);
    assert_eq!(files, "");
}

#[test]
#[ignore = "needs root and builds a file system"]
fn network_manager_gets_a_nic_back_after_a_failed_change() {
    let Some(mut node) = Node::new(Release::Trixie, NetworkManagement::NetworkManager, OWN_PROFILE) else {
        return;
    };
    plug(&mut node.guest, NIC, "ens9");
    node.wait("the taking of ens9", || node.nmcli("ens9").1.starts_with("Wired connection"));
    for (act, point) in [("fail", "verify.done"), ("kill", "manager.agrees"), ("kill", "manager.held")] {
        node.fail(&format!("{NIC},0,1450,192.0.2.10/24"), &format!("{point}={act}"));
        // The next start, if not the failed one itself.
        node.converge("");
        node.wait("the taking of ens9", || node.nmcli("ens9").1.starts_with("Wired connection"));
        assert!(!node.run("nmcli", &["-g", "NAME", "connection", "show"]).contains("multinic"));
        assert_eq!(node.run("find", &["/etc", "-name", "*multinic*"]), "");
    }
    node.converge(&format!("{NIC},0,1450,192.0.2.10/24"));
    assert!(node.agrees("multinic0"));
}

#[test]
#[ignore = "needs root and builds a file system"]
fn network_manager_has_a_nic_as_before_after_a_failed_update() {
    let Some(mut node) = Node::new(Release::Trixie, NetworkManagement::NetworkManager, OWN_PROFILE) else {
        return;
    };
    plug(&mut node.guest, NIC, "ens9");
    node.converge(&format!("{NIC},0,1450,192.0.2.10/24"));
    assert!(node.agrees("multinic0"));
    let device = node.run("nmcli", &["-g", "GENERAL.DBUS-PATH", "device", "show", "multinic0"]);
    node.run("ip", &["addr", "add", "192.0.2.200/32", "dev", "multinic0"]);
    for act in ["fail", "kill"] {
        node.fail(&format!("{NIC},0,1450,192.0.2.20/24"), &format!("verify.done={act}"));
        node.converge("");
        let manager = "org.freedesktop.NetworkManager";
        let interface = format!("{manager}.Device");
        let call = ["call", manager, device.trim(), &interface, "GetAppliedConnection", "u", "0"];
        let applied = node.run("busctl", &call);
        assert!(applied.contains("192.0.2.10") && !applied.contains("192.0.2.20"), "{applied}");
        assert!(node.agrees("multinic0"));
        assert!(node.shows("multinic0", &["192.0.2.10/24", "192.0.2.200/32"]));
    }
}

#[test]
#[ignore = "needs root and builds a file system"]
fn network_manager_leaves_a_nic_without_a_carrier_as_it_is_and_has_it_so_after_a_boot() {
    let Some(mut node) = Node::new(Release::Trixie, NetworkManagement::NetworkManager, OWN_PROFILE) else {
        return;
    };
    plug(&mut node.guest, NIC, "ens9");
    // The second that was plugged into the switch.
    let switch = node.guest.switch().clone();
    switch.namespace().set_down("port2").unwrap();
    let wanted = format!("{NIC},0,1450,192.0.2.10/24");
    node.converge(&wanted);
    assert!(node.shows("multinic0", &["192.0.2.10/24", "NO-CARRIER"]) && !node.agrees("multinic0"));
    switch.namespace().set_up("port2").unwrap();
    node.wait("the carrier", || !node.shows("multinic0", &["NO-CARRIER"]));
    node.converge(&wanted);
    let (state, profile) = node.nmcli("multinic0");
    assert!(!profile.starts_with("Wired"), "{state} {profile}");
    assert!(node.shows("multinic0", &["192.0.2.10/24"]));
    node.guest.reboot().unwrap();
    node.wait("multinic0 after a boot", || node.agrees("multinic0"));
    node.converge(&wanted);
}

const OWN_NETWORK: (&str, &str) =
    ("/etc/systemd/network/05-eth0.network", "[Match]\nName=eth0\n[Network]\nAddress=198.51.100.5/24\n");

#[test]
#[ignore = "needs root and builds a file system"]
fn networkd_of_systemd_257_leaves_a_nic_alone_and_has_it_so_after_a_boot() {
    leaves_alone_and_has_it_so_after_a_boot(Release::Trixie);
}

#[test]
#[ignore = "needs root and builds a file system"]
fn networkd_of_systemd_252_leaves_a_nic_alone_and_has_it_so_after_a_boot() {
    leaves_alone_and_has_it_so_after_a_boot(Release::Bookworm);
}

fn leaves_alone_and_has_it_so_after_a_boot(release: Release) {
    let Some(mut node) = Node::new(release, NetworkManagement::Networkd, OWN_NETWORK) else { return };
    node.run("ip", &["rule", "add", "pref", "512", "from", "203.0.113.1", "lookup", "main"]);
    plug(&mut node.guest, NIC, "ens9");
    plug(&mut node.guest, OTHER_NIC, "ens10");
    let wanted = format!("{NIC},9,1450,192.0.2.10/24,2001:db8::10/64 {OTHER_NIC},12,9000");
    node.converge(&wanted);
    let manages = |node: &Node, link: &str| {
        let said = node.run("networkctl", &["--no-pager", "status", link]);
        said.contains(&format!("/etc/systemd/network/10-{link}.network")) && said.contains("configured")
    };
    assert!(!manages(&node, "multinic9"));
    assert!(node.run("ip", &["rule"]).contains("203.0.113.1"), "it was made to read its files");
    node.guest.reboot().unwrap();
    node.wait("multinic9 after a boot", || manages(&node, "multinic9") && manages(&node, "multinic12"));
    node.wait("its addresses", || node.shows("multinic9", &["192.0.2.10/24", "2001:db8::10/64", "mtu 1450"]));
    assert!(node.shows("multinic12", &["mtu 9000"]));
    // A link that is made of it has its MAC, and not its name.
    node.run(
        "ip",
        &["link", "add", "link", "multinic12", "name", "mv0", "address", OTHER_NIC, "type", "macvlan"],
    );
    let link_file = |link: &str| {
        let said = node.run("udevadm", &["info", "--query=property", &format!("/sys/class/net/{link}")]);
        said.lines().find_map(|line| line.strip_prefix("ID_NET_LINK_FILE=")).map(str::to_owned)
    };
    node.wait("udev's sight of mv0", || link_file("mv0").is_some());
    assert_eq!(link_file("multinic12").unwrap(), "/etc/systemd/network/10-multinic12.link");
    assert_ne!(link_file("mv0"), link_file("multinic12"));
    node.run("ip", &["link", "del", "mv0"]);
    node.converge(&wanted);
    node.converge(&format!("-{NIC} -{OTHER_NIC}"));
    assert_eq!(node.run("find", &["/etc", "-name", "*multinic*"]), "");
}

/// Somebody's for every NIC that is plugged.
const CATCH_ALL: &str = "[Match]\nName=en*\n[Network]\nDHCP=ipv4\n";
const SPARE: &str = "[Network]\nManageForeignRoutingPolicyRules=no\nManageForeignRoutes=no\n";

#[test]
#[ignore = "needs root and builds a file system"]
fn networkd_reads_its_files_again_only_where_it_spares_what_others_set() {
    for spares in [false, true] {
        let Some(mut node) = Node::new(Release::Trixie, NetworkManagement::Networkd, OWN_NETWORK) else {
            return;
        };
        node.guest.write("/etc/systemd/network/50-dhcp.network", CATCH_ALL, 0o644).unwrap();
        if spares {
            node.guest.write("/etc/systemd/networkd.conf.d/spare.conf", SPARE, 0o644).unwrap();
        }
        node.guest.reboot().unwrap();
        if !spares {
            // On disk, and not in effect.
            node.guest.write("/etc/systemd/networkd.conf.d/spare.conf", SPARE, 0o644).unwrap();
        }
        node.wait("the address of eth0", || node.shows("eth0", &["198.51.100.5/24"]));
        node.run("ip", &["rule", "add", "pref", "512", "from", "203.0.113.1", "lookup", "main"]);
        plug(&mut node.guest, NIC, "ens9");
        let status = |node: &Node, link: &str| {
            node.guest.run("networkctl", &["--no-pager", "status", link]).unwrap_or_default()
        };
        node.wait("the taking of ens9", || status(&node, "ens9").contains("50-dhcp.network"));
        node.wait("the end of it", || status(&node, "ens9").contains("configuring"));
        // With the first it drops rules of others, whoever makes it read its files; here it did so for the new link.
        node.run("ip", &["rule", "flush"]);
        for rule in [["32766", "main"], ["32767", "default"], ["512", "main"]] {
            let from = if rule[0] == "512" { "203.0.113.1" } else { "all" };
            node.run("ip", &["rule", "add", "pref", rule[0], "from", from, "lookup", rule[1]]);
        }
        node.converge(&format!("{NIC},0,1450,192.0.2.10/24"));
        assert!(node.run("ip", &["rule"]).contains("203.0.113.1"));
        let ours = status(&node, "multinic0").contains("10-multinic0.network");
        // The other file does not mean the new name, so it may have let go of the link before it could be told.
        let left = status(&node, "multinic0").contains("(unmanaged)");
        assert!(ours == spares || (spares && left), "{}", status(&node, "multinic0"));
        node.guest.reboot().unwrap();
        node.wait("multinic0 after a boot", || status(&node, "multinic0").contains("10-multinic0.network"));
        node.wait("its address", || node.shows("multinic0", &["192.0.2.10/24", "mtu 1450"]));
    }
}

#[test]
#[ignore = "needs root and builds a file system"]
fn networkd_has_a_nic_as_before_after_a_failed_update() {
    let Some(mut node) = Node::new(Release::Trixie, NetworkManagement::Networkd, OWN_NETWORK) else { return };
    node.guest.write("/etc/systemd/networkd.conf.d/spare.conf", SPARE, 0o644).unwrap();
    plug(&mut node.guest, NIC, "ens9");
    node.converge(&format!("{NIC},0,1450,192.0.2.10/24"));
    node.guest.reboot().unwrap();
    let status = |node: &Node| node.run("networkctl", &["--no-pager", "status", "multinic0"]);
    let has_it = |node: &Node| {
        let status = status(node);
        status.contains("10-multinic0.network") && status.contains("(configured)")
    };
    node.wait("multinic0 after a boot", || has_it(&node) && node.shows("multinic0", &["192.0.2.10/24"]));
    for act in ["fail", "kill"] {
        node.fail(&format!("{NIC},0,1450,192.0.2.20/24"), &format!("verify.done={act}"));
        node.converge("");
        assert!(node.shows("multinic0", &["192.0.2.10/24"]) && !node.shows("multinic0", &["192.0.2.20/24"]));
        // As it does by itself when a carrier comes back.
        node.run("networkctl", &["reconfigure", "multinic0"]);
        node.wait("its address again", || has_it(&node) && node.shows("multinic0", &["192.0.2.10/24"]));
        assert!(!node.shows("multinic0", &["192.0.2.20/24"]), "{}", status(&node));
    }
}

/// All that a kernel has of a NIC of ours, without what it makes itself, and without who made what.
fn kernel_of(node: &Node, link: &str) -> Vec<String> {
    let run = |program: &str, words: &str| {
        node.guest.run(program, &words.split(' ').collect::<Vec<_>>()).unwrap_or_default()
    };
    let both = |object: &str, rest: &str| {
        ["-4", "-6"].map(|family| run("ip", &format!("{family} {object} show{rest}"))).concat()
    };
    let routes = both("route", &format!(" table all dev {link} type unicast"));
    let routes = routes.lines().filter(|line| !line.starts_with("fe80")).map(|line| format!("route {line}"));
    let rules = both("rule", "");
    let rules = rules
        .lines()
        .filter(|line| line.contains("from 192.0.2.10 ") || line.contains("from 2001:db8::10 "))
        .map(|line| format!("rule {}", line.replace("proto static", "")));
    let addresses = run("ip", &format!("-brief address show {link}"));
    // Its name, with the number of its other end, and whether it has a carrier come first.
    let addresses = addresses.split_whitespace().skip(2).filter(|net| !net.starts_with("fe80"));
    let addresses = addresses.map(|net| format!("address {net}"));
    let keys = ["ipv6/accept_ra", "ipv4/arp_ignore", "ipv4/arp_announce", "ipv4/rp_filter"];
    let settings = keys.iter().map(|key| {
        let (family, key) = key.split_once('/').unwrap();
        format!("{key} {}", run("sysctl", &format!("-n net.{family}.conf.{link}.{key}")))
    });
    let mtu = format!("mtu {}", run("cat", &format!("/sys/class/net/{link}/mtu")));
    let lines = routes.chain(rules).chain(addresses).chain(settings).chain([mtu]);
    let mut lines: Vec<String> =
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.sort();
    lines
}

/// Routes by a gateway, in the main table and in an interface's own, and all else of the NIC.
fn has_its_routes_so_after_a_boot(release: Release, network: NetworkManagement, own: (&str, &str)) {
    const ROUTED: &str = r#"{"routes": [{"to": "10.8.0.0/16", "via": "192.0.2.1"}, {"to": "10.9.0.0/16", "metric": 7},
        {"to": "fd00:8::/32", "via": "2001:db8::1"}]}"#;
    const SOURCED: &str = r#"{"sourceRouting": {"enabled": true, "tableBase": 300},
        "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}, {"to": "::/0", "via": "2001:db8::1"}]}"#;
    let Some(mut node) = Node::new(release, network, own) else { return };
    plug(&mut node.guest, NIC, "ens9");
    for (options, expected) in [(ROUTED, "10.8.0.0/16 via 192.0.2.1"), (SOURCED, "default via 192.0.2.1")] {
        node.options = Some(options);
        node.converge(&format!("{NIC},0,1450,192.0.2.10/24,2001:db8::10/64"));
        let made = kernel_of(&node, "multinic0");
        let has = |words: &str| made.iter().any(|line| line.starts_with(words));
        assert!(has(&format!("route {expected}")), "{made:#?}");
        assert!(has("accept_ra 0") && has("mtu 1450") && has("address 192.0.2.10/24"), "{made:#?}");
        node.guest.reboot().unwrap();
        node.wait("the same after a boot", || {
            let now = kernel_of(&node, "multinic0");
            if now != made {
                println!("{now:#?} is not {made:#?}");
            }
            now == made
        });
    }
}

#[test]
#[ignore = "needs root and builds a file system"]
fn networkd_has_routes_so_after_a_boot() {
    has_its_routes_so_after_a_boot(Release::Bookworm, NetworkManagement::Networkd, OWN_NETWORK);
}

#[test]
#[ignore = "needs root and builds a file system"]
fn network_manager_has_routes_so_at_once_and_after_a_boot() {
    has_its_routes_so_after_a_boot(Release::Trixie, NetworkManagement::NetworkManager, OWN_PROFILE);
}

#[test]
#[ignore = "needs root and builds a file system"]
fn ifcfg_has_routes_so_at_once_and_after_a_boot() {
    let own = (
        "/etc/sysconfig/network-scripts/ifcfg-eth0",
        "DEVICE=eth0\nTYPE=Ethernet\nONBOOT=yes\nBOOTPROTO=none\nIPADDR=198.51.100.5\nPREFIX=24\nIPV6INIT=no\n",
    );
    has_its_routes_so_after_a_boot(Release::Bookworm, NetworkManagement::Ifcfg, own);
}

#[test]
#[ignore = "needs root and builds a file system"]
fn netplan_has_routes_so_after_a_boot() {
    let own = (
        "/etc/netplan/50-cloud-init.yaml",
        "network:\n  version: 2\n  ethernets: {eth0: {addresses: [198.51.100.5/24]}}\n",
    );
    has_its_routes_so_after_a_boot(Release::Trixie, NetworkManagement::Netplan, own);
}
