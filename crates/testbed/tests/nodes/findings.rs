//! Each finding of the doctor, on a node that has that fault, and gone when the fault is mended.

use multinic_testbed::guest::Rootfs;
use serde_json::Value;

use crate::kinds::{BOOKWORM_IFCFG, BOOKWORM_NETPLAN, Kind, TRIXIE_NETWORK_MANAGER};
use crate::node::Node;
use crate::wanted::Wanted;

/// A fault of a node.
struct Fault {
    code: &'static str,
    severity: &'static str,
    /// What of it the finding says, in its words or its place.
    says: &'static str,
    /// How it comes about, and how it is mended: commands of a shell.
    make: &'static str,
    mend: &'static str,
}

const MAC: &str = "fa:16:3e:00:02:0a";

/// As a container network would have it.
const DROP_IN: &str = "/etc/systemd/networkd.conf.d/10-foreign.conf";

const OF_NETPLAN: &[Fault] = &[
    Fault {
        code: "ForeignRules",
        severity: "warn",
        says: "203.0.113.7",
        make: "mv /etc/systemd/networkd.conf.d/10-foreign.conf /root/",
        mend: "mv /root/10-foreign.conf /etc/systemd/networkd.conf.d/ && systemctl restart systemd-networkd",
    },
    Fault {
        code: "ForeignRoutes",
        severity: "warn",
        says: "ManageForeignRoutes=no",
        make: "mv /etc/systemd/networkd.conf.d/10-foreign.conf /root/ && systemctl restart systemd-networkd",
        // What is written counts from the next start, and that is what it says until then.
        mend: "/usr/local/bin/multinic-agent doctor --install-dropin && systemctl restart systemd-networkd",
    },
    Fault {
        code: "CatchAll",
        severity: "warn",
        says: "/etc/systemd/network/80-dhcp.network",
        make: "printf '[Match]\\nName=en*\\n[Network]\\nDHCP=yes\\n' >/etc/systemd/network/80-dhcp.network",
        mend: "rm /etc/systemd/network/80-dhcp.network",
    },
    Fault {
        code: "ClaimedByFile",
        severity: "refuse",
        says: "/etc/netplan/60-other.yaml",
        make: "printf 'network: {version: 2, ethernets: {x: {match: {macaddress: \"fa:16:3e:00:02:0a\"}, dhcp4: true}}}\\n' \
               >/etc/netplan/60-other.yaml",
        mend: "rm /etc/netplan/60-other.yaml",
    },
    Fault {
        code: "ClaimedByFile",
        severity: "refuse",
        says: "/etc/systemd/network/60-other.network",
        make: "printf '[Match]\\nMACAddress=fa:16:3e:00:02:0a\\n' >/etc/systemd/network/60-other.network",
        mend: "rm /etc/systemd/network/60-other.network",
    },
    Fault {
        code: "NetworkOverlap",
        severity: "refuse",
        says: "cni0",
        make: "ip address add 10.50.0.200/25 dev cni0",
        mend: "ip address del 10.50.0.200/25 dev cni0",
    },
    Fault {
        code: "DuplicateMac",
        severity: "refuse",
        says: "twin0",
        make: "ip link add name twin0 address fa:16:3e:00:02:0a type veth peer name twin1",
        mend: "ip link del twin0",
    },
    Fault {
        code: "NodeAddressMayMove",
        severity: "warn",
        says: "InternalIP",
        make: "mkdir -p /var/lib/kubelet && echo 'KUBELET_KUBEADM_ARGS=\"--cloud-provider=external\"' \
               >/var/lib/kubelet/kubeadm-flags.env",
        mend: "echo 'KUBELET_KUBEADM_ARGS=\"--cloud-provider=external --node-ip=198.51.100.1\"' \
               >/var/lib/kubelet/kubeadm-flags.env",
    },
    Fault {
        code: "Missing",
        severity: "warn",
        says: "/usr/sbin/netplan",
        make: "mv /usr/sbin/netplan /root/",
        mend: "mv /root/netplan /usr/sbin/",
    },
];

const OF_NETWORK_MANAGER: &[Fault] = &[
    Fault {
        code: "ClaimedByFile",
        severity: "refuse",
        says: "/etc/NetworkManager/system-connections/other.nmconnection",
        make: "printf '[connection]\\nid=other\\ntype=ethernet\\n[ethernet]\\nmac-address=FA:16:3E:00:02:0A\\n' \
               >/etc/NetworkManager/system-connections/other.nmconnection",
        mend: "rm /etc/NetworkManager/system-connections/other.nmconnection",
    },
    Fault {
        code: "AutomaticProfile",
        severity: "warn",
        says: "no-auto-default",
        make: "true",
        mend: "printf '[main]\\nno-auto-default=*\\n' >/etc/NetworkManager/conf.d/20-leave.conf",
    },
];

const OF_IFCFG: &[Fault] = &[
    Fault {
        code: "ClaimedByFile",
        severity: "refuse",
        says: "/etc/sysconfig/network-scripts/ifcfg-other",
        make: "printf 'DEVICE=other\\nHWADDR=FA:16:3E:00:02:0A\\nBOOTPROTO=dhcp\\n' \
               >/etc/sysconfig/network-scripts/ifcfg-other",
        mend: "rm /etc/sysconfig/network-scripts/ifcfg-other",
    },
    // The manager goes on running, and nobody can tell it anything.
    Fault {
        code: "Missing",
        severity: "warn",
        says: "system_bus_socket",
        make: "mv /run/dbus/system_bus_socket /run/dbus/away",
        mend: "mv /run/dbus/away /run/dbus/system_bus_socket",
    },
];

#[test]
#[ignore = "needs root and builds a file system: make test-nodes"]
fn the_doctor_shows_the_faults_of_a_node_with_netplan() {
    if Rootfs::supported() {
        let node = shows_and_stops_showing(&BOOKWORM_NETPLAN, OF_NETPLAN);
        two_of_ours_in_one_subnet(&node);
        a_table_that_others_use(&node);
        what_is_written_counts_from_the_next_start(&node);
    }
}

#[test]
#[ignore = "needs root and builds a file system: make test-nodes"]
fn the_doctor_shows_the_faults_of_a_node_with_network_manager() {
    if Rootfs::supported() {
        shows_and_stops_showing(&TRIXIE_NETWORK_MANAGER, OF_NETWORK_MANAGER);
        shows_and_stops_showing(&BOOKWORM_IFCFG, OF_IFCFG);
    }
}

fn shows_and_stops_showing(kind: &'static Kind, faults: &[Fault]) -> Node {
    let mut node = Node::boot(kind);
    let nic = Wanted::new(0, 10);
    assert_eq!(nic.mac.to_string(), MAC);
    node.attach(&nic);
    for Fault { code, severity, says, make, mend } in faults {
        let shell = |commands: &str| node.guest.run("sh", &["-c", commands]).unwrap();
        shell(make);
        let (exit, findings) = ask(&node);
        let found =
            findings.iter().find(|finding| finding["code"] == *code && finding.to_string().contains(says));
        let found = found.unwrap_or_else(|| panic!("{code} about {says} is not in {findings:#?}"));
        assert_eq!(found["severity"], *severity, "{found}");
        for words in ["what", "where", "mend"] {
            assert!(found[words].as_str().is_some_and(|text| !text.is_empty()), "{words}: {found}");
        }
        let refused = findings.iter().any(|finding| finding["severity"] == "refuse");
        assert_eq!(exit, if refused { 2 } else { 0 }, "{findings:#?}");
        shell(mend);
        let (_, findings) = ask(&node);
        let still =
            findings.iter().find(|finding| finding["code"] == *code && finding.to_string().contains(says));
        assert_eq!(still, None, "after {mend}");
    }
    node
}

fn two_of_ours_in_one_subnet(node: &Node) {
    let second = Wanted::new(1, 11);
    let shared = |findings: &[Value]| {
        findings.iter().find(|finding| finding["code"] == "SharedSubnet").map(Value::to_string)
    };
    assert_eq!(shared(&ask(node).1), None);
    node.publish(&second);
    // The NIC is not there yet, and so nothing of it can be said.
    assert_eq!(shared(&ask(node).1), None);
    let nic = second.nic();
    node.guest.switch().plug(node.guest.net(), nic.mac, &nic.name, nic.mtu, &nic.network).unwrap();
    let filter = |value: &str| {
        node.guest.run("sysctl", &["-w", &format!("net.ipv4.conf.all.rp_filter={value}")]).unwrap();
    };
    filter("0");
    let loose = shared(&ask(node).1).expect("two NICs in one subnet");
    assert!(!loose.contains("rp_filter"), "{loose}");
    filter("1");
    let strict = shared(&ask(node).1).expect("two NICs in one subnet");
    assert!(strict.contains("rp_filter=1"), "{strict}");
}

/// With source routing, for which `multinic0` is to have table 100 and `multinic1` table 101. Two NICs in one subnet are then no
/// finding.
fn a_table_that_others_use(node: &Node) {
    let sourced = [("NETWORK_POLICY_ROUTING_ENABLED", "true")];
    let found = |code: &str| {
        let (exit, findings) = ask_with(node, &sourced);
        let found = findings.into_iter().find(|finding| finding["code"] == code);
        assert!(found.is_none() || exit == 2 || code != "TableInUse", "{found:?}");
        found
    };
    assert_eq!((found("TableInUse"), found("SharedSubnet")), (None, None));
    let route = |act: &str| {
        node.guest.run("ip", &["route", act, "203.0.113.64/26", "dev", "cni0", "table", "101"]).unwrap();
    };
    route("add");
    let shown = found("TableInUse").expect("a route of others in the table of one of ours");
    assert_eq!(shown["severity"], "refuse", "{shown}");
    assert_eq!(shown["where"], "ip route show table 101", "{shown}");
    let what = shown["what"].as_str().unwrap();
    assert!(what.contains("multinic1") && what.contains("203.0.113.64/26 over cni0"), "{shown}");
    assert!(shown["mend"].as_str().unwrap().contains("NETWORK_ROUTING_TABLE_BASE"), "{shown}");
    route("del");
    assert_eq!(found("TableInUse"), None);
}

fn what_is_written_counts_from_the_next_start(node: &Node) {
    node.guest
        .run("sh", &["-c", &format!("rm -f {DROP_IN} /etc/systemd/networkd.conf.d/10-multinic.conf")])
        .unwrap();
    node.restart_manager();
    node.run_agent(&[], &["doctor", "--install-dropin"]);
    let (_, findings) = ask(node);
    let routes =
        findings.iter().find(|finding| finding["code"] == "ForeignRoutes").expect("not in effect yet");
    assert!(routes["mend"].as_str().unwrap().contains("restart systemd-networkd"), "{routes}");
    node.restart_manager();
    let (_, findings) = ask(node);
    assert!(!findings.iter().any(|finding| finding["code"] == "ForeignRoutes"), "{findings:#?}");
}

/// How the doctor ends on a node, and what it finds.
fn ask(node: &Node) -> (i32, Vec<Value>) {
    ask_with(node, &[])
}

fn ask_with(node: &Node, variables: &[(&str, &str)]) -> (i32, Vec<Value>) {
    let output = node.agent_command(variables, &["doctor", "--output", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(answer["unread"], Value::Null);
    (output.status.code().unwrap(), answer["findings"].as_array().unwrap().clone())
}
