//! How long a NIC takes to be what it is to be: by the agent, and by the network manager's own way.

use std::fmt::Write as _;
use std::io::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use multinic_testbed::guest::{NetworkManagement, Rootfs};

use crate::kinds::{
    BOOKWORM_IFCFG, BOOKWORM_NETPLAN, Kind, TRIXIE_NETPLAN, TRIXIE_NETWORK_MANAGER, TRIXIE_NETWORKD,
};
use crate::node::Node;
use crate::wanted::Wanted;

const KINDS: [&Kind; 5] =
    [&BOOKWORM_NETPLAN, &TRIXIE_NETPLAN, &TRIXIE_NETWORKD, &TRIXIE_NETWORK_MANAGER, &BOOKWORM_IFCFG];

#[test]
#[ignore = "needs root and builds a file system: make test-nodes"]
fn how_long_a_nic_takes() {
    if !Rootfs::supported() {
        return;
    }
    let mut table =
        "| node | NIC appears → verified | → its manager agrees | the manager's own way | → address |\n\
                     |---|---|---|---|---|\n"
            .to_owned();
    for kind in KINDS {
        table += &row(kind);
    }
    // Not through the test harness, which hides what a passing test prints.
    std::io::stderr().write_all(table.as_bytes()).unwrap();
}

fn row(kind: &'static Kind) -> String {
    let mut node = Node::boot(kind);
    node.start_agent();
    let [first, mut measured] = [Wanted::new(0, 10), Wanted::new(1, 11)];
    // The kernel takes a second or two for an IPv6 address, whoever waits for that.
    measured.addresses.truncate(1);
    // With the first, the agent has read the second too.
    node.source.publish([(node.name(), &first), (node.name(), &measured)]);
    node.plug(&first);
    node.until_configured(&first);

    let begun = Instant::now();
    node.guest.plug(measured.nic()).unwrap();
    // What it says in its report, the source has within a second.
    let says_so = |line: &str| {
        line.contains("interface configured") && line.contains(&format!("mac_address={}", measured.mac))
    };
    let verified = until(begun, || node.agent_log().lines().any(says_so));
    let agrees = until(begun, || node.disagreement(&measured, false).is_none());
    node.until_configured(&measured);
    node.stop_agent();

    // A NIC that the agent knows nothing of, by whoever is at the keyboard as soon as it is there.
    let other = Wanted::new(2, 12);
    node.plug(&other);
    let (command, prepared) = own_way(kind, &other);
    node.guest.run("sh", &["-c", &prepared]).unwrap();
    let address = other.addresses[0].to_string();
    let begun = Instant::now();
    node.guest.run("sh", &["-c", command]).unwrap();
    let own = until(begun, || {
        node.shown(&other).is_some_and(|shown| shown.up && shown.addresses.contains(&address))
    });
    let mut row = String::new();
    let release = format!("{:?}", kind.release).to_lowercase();
    writeln!(row, "| {release}, {:?} | {verified} | {agrees} | `{command}` | {own} |", kind.network).unwrap();
    row
}

fn until(begun: Instant, mut holds: impl FnMut() -> bool) -> String {
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(180), "it does not come about");
        sleep(Duration::from_millis(2));
    }
    format!("{} ms", begun.elapsed().as_millis())
}

/// The command, and what is written before it.
fn own_way(kind: &Kind, nic: &Wanted) -> (&'static str, String) {
    let Wanted { mac, first_name, addresses, mtu, .. } = nic;
    let (v4, v6) = (addresses[0], addresses[1]);
    match kind.network {
        NetworkManagement::Netplan | NetworkManagement::NetplanOverNetworkManager => (
            "netplan apply",
            format!(
                "umask 077; echo 'network: {{version: 2, ethernets: {{other: {{match: {{macaddress: \"{mac}\"}}, set-name: other0, \
                 mtu: {mtu}, addresses: [\"{v4}\", \"{v6}\"]}}}}}}' >/etc/netplan/70-other.yaml"
            ),
        ),
        NetworkManagement::Networkd => (
            "networkctl reload",
            format!(
                "printf '[Match]\\nMACAddress={mac}\\n[Link]\\nMTUBytes={mtu}\\n[Network]\\nAddress={v4}\\nAddress={v6}\\n' \
                 >/etc/systemd/network/70-other.network"
            ),
        ),
        NetworkManagement::NetworkManager => (
            "nmcli connection up other",
            format!(
                "nmcli connection add type ethernet con-name other ifname {first_name} autoconnect no mtu {mtu} \
                 ipv4.method manual ipv4.addresses {v4} ipv6.method manual ipv6.addresses {v6}"
            ),
        ),
        NetworkManagement::Ifcfg => (
            "nmcli connection up other",
            format!(
                "printf 'DEVICE={first_name}\\nNAME=other\\nONBOOT=no\\nBOOTPROTO=none\\nMTU={mtu}\\nIPADDR={}\\nPREFIX={}\\nIPV6INIT=yes\\n\
                 IPV6_AUTOCONF=no\\nIPV6ADDR={v6}\\n' >/etc/sysconfig/network-scripts/ifcfg-other && \
                 nmcli connection load /etc/sysconfig/network-scripts/ifcfg-other",
                v4.addr(),
                v4.prefix_len()
            ),
        ),
    }
}
