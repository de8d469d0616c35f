//! Each finding of the doctor, on a node that has that fault, and gone when the fault is mended.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use multinic_api::MultiNicNodeConfig;
use multinic_core::node::doctor::CODES;
use multinic_testbed::guest::Rootfs;
use multinic_testbed::kubernetes::ControlPlane;
use serde_json::{Value, json};

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

/// Puts a rule of the bus in force, or takes it away. The answer comes when that is done.
macro_rules! deny {
    ($what:literal) => {
        concat!(
            "echo '<busconfig><policy context=\"mandatory\"><deny ",
            $what,
            "/></policy></busconfig>' >/etc/dbus-1/system.d/zz-deny.conf && busctl call org.freedesktop.DBus \
             /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig"
        )
    };
}
const ALLOW: &str = "rm /etc/dbus-1/system.d/zz-deny.conf && \
                     busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig";

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
    Fault {
        code: "BusUnreachable",
        severity: "refuse",
        says: "no timer of systemd can be armed",
        make: "mv /run/dbus/system_bus_socket /run/dbus/away",
        mend: "mv /run/dbus/away /run/dbus/system_bus_socket",
    },
    Fault {
        code: "BusDenied",
        severity: "refuse",
        says: "org.freedesktop.systemd1",
        make: deny!(
            "send_destination=\"org.freedesktop.systemd1\" send_interface=\"org.freedesktop.systemd1.Manager\" \
             send_member=\"StartTransientUnit\""
        ),
        mend: ALLOW,
    },
    Fault {
        code: "BusDenied",
        severity: "warn",
        says: "org.freedesktop.network1",
        make: deny!("send_destination=\"org.freedesktop.network1\""),
        mend: ALLOW,
    },
    Fault {
        code: "UndoProgram",
        severity: "refuse",
        says: "mounted noexec",
        make: "mkdir -p /var/lib/multinic && mount -t tmpfs -o noexec none /var/lib/multinic",
        mend: "umount /var/lib/multinic",
    },
    Fault {
        code: "UndoProgram",
        severity: "refuse",
        says: "/var/lib/multinic/bin/multinic-agent",
        make: "mkdir -p /var/lib/multinic/bin/multinic-agent",
        mend: "rmdir /var/lib/multinic/bin/multinic-agent",
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
    Fault {
        code: "BusDenied",
        severity: "refuse",
        says: "org.freedesktop.NetworkManager",
        make: deny!("send_destination=\"org.freedesktop.NetworkManager\""),
        mend: ALLOW,
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
        code: "BusUnreachable",
        severity: "refuse",
        says: "NetworkManager cannot be told",
        make: "mv /run/dbus/system_bus_socket /run/dbus/away",
        mend: "mv /run/dbus/away /run/dbus/system_bus_socket",
    },
];

/// Findings that take more than a command of a shell to show.
struct ShownApart {
    codes: &'static [&'static str],
    /// Returns the codes that it saw come and go; none where what it needs is not installed.
    show: fn(&Node) -> Option<BTreeSet<String>>,
}

const SHOWN_APART: [ShownApart; 3] = [
    ShownApart { codes: &["RouteOverlap", "NoVlans"], show: options_that_the_node_does_not_bear },
    ShownApart { codes: &["SharedSubnet", "StrictReversePath"], show: two_of_ours_in_one_subnet },
    ShownApart { codes: &["TableInUse"], show: a_table_that_others_use },
];

#[test]
fn every_finding_is_shown_on_a_node_that_has_the_fault_and_is_in_the_documents() {
    let faults = [OF_NETPLAN, OF_NETWORK_MANAGER, OF_IFCFG].into_iter().flatten();
    let apart = SHOWN_APART.iter().flat_map(|apart| apart.codes).copied();
    let shown: BTreeSet<&str> = faults.map(|fault| fault.code).chain(apart).collect();
    assert_eq!(shown, CODES.into());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let page = fs::read_to_string(page).unwrap();
    let table = page.split("## What doctor finds").nth(1).unwrap().split("\n## ").next().unwrap();
    for code in CODES {
        assert!(
            table.lines().any(|line| line.starts_with("| `") && line.contains(&format!("`{code}`"))),
            "{code}"
        );
    }
}

#[test]
#[ignore = "needs root and builds a file system: make test-nodes"]
fn the_doctor_shows_the_faults_of_a_node_with_netplan() {
    if Rootfs::supported() {
        let node = shows_and_stops_showing(&BOOKWORM_NETPLAN, OF_NETPLAN);
        for ShownApart { codes, show } in SHOWN_APART {
            if let Some(seen) = show(&node) {
                assert_eq!(seen, codes.iter().map(|code| (*code).to_owned()).collect());
            }
        }
        what_is_written_counts_from_the_next_start(&node);
        an_agent_heeds_what_the_bus_forbids(&node, of_bus(OF_NETPLAN));
    }
}

#[test]
#[ignore = "needs root and builds a file system: make test-nodes"]
fn the_doctor_shows_the_faults_of_a_node_with_network_manager() {
    if Rootfs::supported() {
        let node = shows_and_stops_showing(&TRIXIE_NETWORK_MANAGER, OF_NETWORK_MANAGER);
        a_manager_that_was_stopped_does_not_run(&node);
        an_agent_heeds_what_the_bus_forbids(&node, of_bus(OF_NETWORK_MANAGER));
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

fn code(finding: &Value) -> String {
    finding["code"].as_str().unwrap().to_owned()
}

/// What a bus forbids without which nothing is changed.
fn of_bus(faults: &'static [Fault]) -> &'static Fault {
    faults.iter().find(|fault| fault.code == "BusDenied" && fault.severity == "refuse").unwrap()
}

/// What the doctor says of the bus, an agent that runs says of its NICs; and it goes on when that is mended.
fn an_agent_heeds_what_the_bus_forbids(node: &Node, fault: &Fault) {
    let nic = Wanted::new(0, 10);
    node.guest.run("sh", &["-c", fault.make]).unwrap();
    node.start_agent();
    let refused = format!("HostUnsafe: {}: ", fault.code);
    node.until("a refusal", || {
        let log = node.agent_log();
        (!log.lines().any(|line| line.contains(&refused) && line.contains(fault.says))).then_some(log)
    });
    assert_eq!(node.shown(&nic).unwrap().name, nic.first_name);
    assert_eq!(node.left_file(&nic), None);
    node.guest.run("sh", &["-c", fault.mend]).unwrap();
    node.until_configured(&nic);
    node.stop_agent();
}

fn two_of_ours_in_one_subnet(node: &Node) -> Option<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
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
    let filter = |of: &str, value: u32| {
        node.guest.run("sysctl", &["-w", &format!("net.ipv4.conf.{of}.rp_filter={value}")]).unwrap();
    };
    // The kernel takes the larger of the two.
    for (all, own, strict) in [(0, 0, 0), (1, 0, 2), (0, 1, 1), (1, 2, 1), (2, 1, 0)] {
        filter("all", all);
        filter(&nic.name, own);
        filter(&Wanted::new(0, 10).first_name, 0);
        let findings = ask(node).1;
        assert!(shared(&findings).is_some(), "{findings:#?}");
        seen.extend(findings.iter().map(code));
        let told = findings.iter().filter(|finding| finding["code"] == "StrictReversePath").count();
        assert_eq!(told, strict, "{all} {own}: {findings:#?}");
    }
    filter("all", 1);
    let loose = [("NETWORK_SET_RP_FILTER_LOOSE", "true")];
    let (_, findings) = ask_with(node, &loose);
    assert!(!findings.iter().any(|finding| finding["code"] == "StrictReversePath"), "{findings:#?}");
    // Others are those of this kind of node.
    seen.retain(|code| code == "SharedSubnet" || code == "StrictReversePath");
    Some(seen)
}

/// A database has no options of single interfaces: these come from the node's object.
fn options_that_the_node_does_not_bear(node: &Node) -> Option<BTreeSet<String>> {
    if !ControlPlane::installed() {
        return None;
    }
    let plane = ControlPlane::shared().unwrap();
    let url = plane.reach_from(node.guest.net(), [127, 0, 0, 1].into()).unwrap();
    let kubeconfig = "/root/kubeconfig";
    node.guest.write(kubeconfig, &plane.admin().at(&url).kubeconfig(), 0o600).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for definition in multinic_api::definitions::all() {
            plane.install_crd(&definition).await.unwrap();
        }
        let namespaces: Api<Namespace> = Api::all(plane.admin().client().unwrap());
        let namespace = serde_json::from_value(json!({"metadata": {"name": "multinic-system"}})).unwrap();
        let _ = namespaces.create(&PostParams::default(), &namespace).await;
    });
    let nic = Wanted::new(0, 10);
    let ask = |options: Value| {
        let interface = json!({
            "id": 0, "name": "multinic0", "macAddress": nic.mac, "addresses": nic.addresses, "mtu": nic.mtu,
            "portId": "port-0", "options": options,
        });
        let object = json!({
            "apiVersion": "multinic.io/v1alpha1", "kind": "MultiNicNodeConfig", "metadata": {"name": node.name()},
            "spec": {"nodeName": node.name(), "interfaces": [interface]},
        });
        runtime.block_on(async {
            let objects: Api<MultiNicNodeConfig> =
                Api::namespaced(plane.admin().client().unwrap(), "multinic-system");
            let parameters = PatchParams::apply("test").force();
            objects.patch(node.name(), &parameters, &Patch::Apply(object)).await.unwrap();
        });
        let from_object = [
            ("DATA_SOURCE", "nodecr"),
            ("KUBECONFIG", kubeconfig),
            ("PRODUCT_UUID_FILE", "/nowhere"),
            ("DATABASE_URL", ""),
        ];
        ask_with(node, &from_object)
    };
    let found = |code: &str, options: Value| {
        let (exit, findings) = ask(options);
        let found = findings.into_iter().find(|finding| finding["code"] == code);
        assert_eq!(found.is_some(), exit == 2, "{found:?}");
        found
    };
    // That of the node's own NIC.
    let shown = found("RouteOverlap", json!({"routes": [{"to": "198.51.100.128/25"}]}))
        .expect("a route into the node's own network");
    assert_eq!((&shown["severity"], &shown["where"]), (&json!("refuse"), &json!("eth0")), "{shown}");
    let mut seen = BTreeSet::from([code(&shown)]);
    assert_eq!(found("RouteOverlap", json!({"routes": [{"to": "203.0.113.192/26"}]})), None);
    let probe = ["link", "add", "link", "eth0", "name", "probe.7", "type", "vlan", "id", "7"];
    let has_vlans = node.guest.run("ip", &probe).is_ok();
    if has_vlans {
        node.guest.run("ip", &["link", "del", "probe.7"]).unwrap();
    }
    let shown = found("NoVlans", json!({"vlan": 100}));
    assert_eq!(shown.is_none(), has_vlans, "{shown:?}");
    // A kernel that has them lacks them nowhere.
    seen.insert("NoVlans".to_owned());
    if let Some(shown) = shown {
        assert!(shown["what"].as_str().unwrap().contains("multinic0.100"), "{shown}");
        assert!(shown["mend"].as_str().unwrap().contains("8021q"), "{shown}");
    }
    assert_eq!(found("NoVlans", json!({"strictArp": true})), None);
    Some(seen)
}

/// What it left below `/run` is still there.
fn a_manager_that_was_stopped_does_not_run(node: &Node) {
    let backend = || answer(node, &[])["backend"].as_str().unwrap().to_owned();
    let manager = |act: &str| node.guest.run("systemctl", &[act, "--now", "NetworkManager"]).unwrap();
    assert_eq!(backend(), "networkmanager");
    // For a moment: it has the node again soon.
    node.guest.run("systemctl", &["stop", "NetworkManager"]).unwrap();
    assert_eq!(backend(), "networkmanager");
    manager("disable");
    assert!(node.guest.path("/run/NetworkManager").is_dir());
    let found = answer(node, &[]);
    assert_eq!(found["backend"], "networkd", "{found}");
    assert!(found["why"].as_str().unwrap().starts_with("no network manager runs"), "{found}");
    manager("enable");
    assert_eq!(backend(), "networkmanager");
}

/// With source routing, for which `multinic0` is to have table 100 and `multinic1` table 101. Two NICs in one subnet are then no
/// finding.
fn a_table_that_others_use(node: &Node) -> Option<BTreeSet<String>> {
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
    Some(BTreeSet::from([code(&shown)]))
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
    let (exit, answer) = answer_and_exit(node, variables);
    (exit, answer["findings"].as_array().unwrap().clone())
}

fn answer(node: &Node, variables: &[(&str, &str)]) -> Value {
    answer_and_exit(node, variables).1
}

fn answer_and_exit(node: &Node, variables: &[(&str, &str)]) -> (i32, Value) {
    let output = node.agent_command(variables, &["doctor", "--output", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(answer["unread"], Value::Null);
    (output.status.code().unwrap(), answer)
}
