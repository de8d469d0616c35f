//! Nodes in network namespaces: NICs come and go, and the oracle sees what it is there to see.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ipnet::IpNet;
use multinic_core::MacAddr;
use multinic_testbed::node::{ForeignState, NetNs, NetlinkWatch, NewRoute, NodeError, Switch};

const OURS: &str = "fa:16:3e:00:00:01";
const FOREIGN: &str = "fa:16:3e:ff:ff:01";

fn mac(text: &str) -> MacAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A node with a NIC that is ours and one that is not, and a file of each kind.
fn node() -> (NetNs, Switch, tempfile::TempDir) {
    let (node, switch) = (NetNs::new("node").unwrap(), Switch::new().unwrap());
    for (mac_address, name) in [(OURS, "ens5"), (FOREIGN, "ens3")] {
        switch.plug(&node, mac(mac_address), name, 1500, "data").unwrap();
        node.set_sysctl(&format!("ipv6/conf/{name}/dad_transmits"), "0").unwrap();
        node.set_up(name).unwrap();
    }
    node.add_address("ens3", net("198.51.100.5/24"), None).unwrap();
    let root = tempfile::tempdir().unwrap();
    for folder in ["etc/netplan", "etc/sysctl.d", "etc/sysconfig/network-scripts", "var/lib/multinic"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    write(root.path(), "etc/netplan/50-cloud-init.yaml", "network: {}\n");
    write(root.path(), "etc/netplan/90-multinic0.yaml", OURS);
    write(root.path(), "etc/netplan/91-multinic1.yaml", FOREIGN);
    (node, switch, root)
}

fn write(root: &Path, path: &str, text: &str) {
    fs::write(root.join(path), text).unwrap();
}

fn capture(node: &NetNs, root: &Path) -> ForeignState {
    ForeignState::capture(node, root, &[mac(OURS)]).unwrap()
}

/// What the oracle says of an act.
fn difference(act: impl FnOnce(&NetNs, &Path)) -> String {
    let (node, _switch, root) = node();
    let before = capture(&node, root.path());
    act(&node, root.path());
    before.difference(&capture(&node, root.path()))
}

#[test]
fn what_is_ours_may_change() {
    let difference = difference(|node, root| {
        node.set_down("ens5").unwrap();
        node.rename("ens5", "multinic0").unwrap();
        node.set_mtu("multinic0", 1400).unwrap();
        node.set_up("multinic0").unwrap();
        node.add_address("multinic0", net("192.0.2.10/24"), None).unwrap();
        write(root, "etc/netplan/90-multinic0.yaml", &format!("# new\n{OURS}"));
        write(root, "etc/sysctl.d/90-multinic0.conf", "net.ipv4.conf.multinic0.rp_filter = 2\n");
        write(root, "etc/sysconfig/network-scripts/route-multinic0", "10.8.0.0/16 dev multinic0 metric 7\n");
        write(root, "var/lib/multinic/state.json", "{}");
    });
    assert_eq!(difference, "");
}

#[test]
fn each_thing_that_is_not_ours_is_watched() {
    type Act = fn(&NetNs, &Path);
    let route = |table| NewRoute {
        link: "ens3",
        to: net("203.0.113.0/24"),
        gateway: None,
        protocol: 4.into(),
        table,
        metric: 0,
    };
    let acts: [(&str, Act); 14] = [
        ("Mtu(1400)", |node, _| node.set_mtu("ens3", 1400).unwrap()),
        ("enp0s3", |node, _| node.add_altname("ens3", "enp0s3").unwrap()),
        ("198.51.100.6", |node, _| node.add_address("ens3", net("198.51.100.6/32"), None).unwrap()),
        ("address of ens3", |node, _| node.remove_address("ens3", net("198.51.100.5/24")).unwrap()),
        ("accept_ra ens3 0", |node, _| node.set_sysctl("ipv6/conf/ens3/accept_ra", "0").unwrap()),
        ("link br0", |node, _| node.add_bridge("br0").unwrap()),
        ("50-cloud-init.yaml", |_, root| write(root, "etc/netplan/50-cloud-init.yaml", "network: {}\n")),
        ("mode 100600", |_, root| {
            let path = root.join("etc/netplan/50-cloud-init.yaml");
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("91-multinic1.yaml", |_, root| {
            fs::remove_file(root.join("etc/netplan/91-multinic1.yaml")).unwrap();
        }),
        // Named as ours are, for NICs that are not.
        ("90-multinic1.conf", |_, root| {
            write(root, "etc/sysctl.d/90-multinic1.conf", "net.ipv4.conf.multinic1.rp_filter = 2\n");
        }),
        ("90-multinic0x.conf", |_, root| {
            write(root, "etc/sysctl.d/90-multinic0x.conf", "net.ipv4.conf.multinic0x.rp_filter = 2\n");
        }),
        ("route-multinic1", |_, root| {
            let path = "etc/sysconfig/network-scripts/route-multinic1";
            write(root, path, "10.8.0.0/16 dev multinic1 metric 7\n");
        }),
        ("route6-multinic00", |_, root| {
            let path = "etc/sysconfig/network-scripts/route6-multinic00";
            write(root, path, "fd00::/64 dev multinic00 metric 7\n");
        }),
        (".new", |_, root| write(root, "etc/netplan/.90-multinic0.yaml.new", "x")),
    ];
    for (sign, act) in acts {
        let difference = difference(act);
        assert!(difference.contains(sign), "{sign}: {difference:?}");
    }
    for table in [254, 100] {
        let difference = difference(|node, _| node.add_route(route(table)).unwrap());
        assert!(difference.contains("203.0.113.0"), "{table}: {difference:?}");
    }
}

#[test]
fn what_passes_between_two_looks_is_heard() {
    let (node, _switch, root) = node();
    let before = capture(&node, root.path());
    let mut watch = NetlinkWatch::start(&node, &[mac(OURS)]).unwrap();
    node.set_mtu("ens5", 1400).unwrap();
    assert_eq!(watch.foreign_messages(), [""; 0]);
    node.set_mtu("ens3", 1400).unwrap();
    node.set_mtu("ens3", 1500).unwrap();
    before.assert_same(&capture(&node, root.path()));
    let heard = watch.foreign_messages();
    assert!(!heard.is_empty() && heard.iter().all(|message| message.contains("ens3")), "{heard:?}");
}

#[test]
fn a_nic_appears_whole_and_goes() {
    let (node, switch) = (NetNs::new("node").unwrap(), Switch::new().unwrap());
    let index = switch.plug(&node, mac(OURS), "ens5", 1400, "data").unwrap();
    assert_eq!(node.index_of("ens5").unwrap(), index);
    switch.unplug(mac(OURS)).unwrap();
    assert!(node.index_of("ens5").is_err());
    assert!(matches!(switch.unplug(mac(OURS)), Err(NodeError::NotPlugged(_))));
}

#[test]
fn nodes_reach_each_other_within_a_network_only() {
    let switch = Switch::new().unwrap();
    let nodes = ["one", "two", "three"].map(|name| NetNs::new(name).unwrap());
    for (number, (node, network)) in nodes.iter().zip(["data", "data", "other"]).enumerate() {
        let mac = MacAddr::from_bytes([0xfa, 0x16, 0x3e, 0, 1, u8::try_from(number).unwrap()]).unwrap();
        switch.plug(node, mac, "ens5", 1500, network).unwrap();
        node.add_address("ens5", net(&format!("192.0.2.{}/24", number + 1)), None).unwrap();
        node.set_up("ens5").unwrap();
    }
    let socket = |node: &NetNs, address: &str| {
        let socket = node.run(|| UdpSocket::bind(address).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    };
    let [one, two, three] = &nodes;
    let from = socket(one, "192.0.2.1:0");
    let receives = |to: &UdpSocket| {
        let target = to.local_addr().unwrap();
        // The first packets may go before the carrier is there.
        (0..20).any(|_| {
            let _ = from.send_to(b"hello", target);
            to.recv(&mut [0; 8]).is_ok()
        })
    };
    assert!(receives(&socket(two, "192.0.2.2:0")));
    // It would have the packet by now, as the other one has.
    let elsewhere = socket(three, "192.0.2.3:0");
    let _ = from.send_to(b"hello", elsewhere.local_addr().unwrap());
    assert!(elsewhere.recv(&mut [0; 8]).is_err());
}

#[test]
fn a_program_runs_within_the_namespace() {
    let (node, switch) = (NetNs::new("node").unwrap(), Switch::new().unwrap());
    switch.plug(&node, mac(OURS), "ens5", 1500, "data").unwrap();
    let output = node.command("cat").arg("/proc/net/dev").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ens5:"), "{text}");
}
