//! Whoever answers a node's DHCP client.

use multinic_testbed::guest::{Guest, NetworkManagement, Nic, Release, Rootfs};

use crate::node::Node;

/// A guest beside the node, whose networkd serves leases in the network of the NICs to come.
pub struct Router {
    guest: Guest,
}

impl Router {
    pub fn start(node: &Node) -> Self {
        let rootfs = Rootfs::get(Release::Trixie, NetworkManagement::Networkd).unwrap();
        let mut guest = Guest::new(&rootfs, "router", node.guest.switch()).unwrap();
        let mac = "fa:16:3e:00:03:01".parse().unwrap();
        guest.plug(Nic { mac, name: "ens4".to_owned(), mtu: 1500, network: "tenant".to_owned() }).unwrap();
        let server = "[Match]\nName=ens4\n[Network]\nAddress=10.50.0.1/24\nDHCPServer=yes\nIPv6AcceptRA=no\n\
                      [DHCPServer]\nPoolOffset=200\nPoolSize=50\nEmitRouter=yes\nEmitDNS=no\n";
        guest.write("/etc/systemd/network/50-ens4.network", server, 0o644).unwrap();
        guest.boot().unwrap();
        Self { guest }
    }

    /// Whether an address with its prefix is one that it gives.
    pub fn leased(address: &str) -> bool {
        let host = address.strip_prefix("10.50.0.").and_then(|rest| rest.strip_suffix("/24"));
        host.and_then(|host| host.parse::<u8>().ok()).is_some_and(|host| (200..250).contains(&host))
    }

    /// What it says of itself.
    pub fn tell(&self) -> String {
        self.guest
            .run("networkctl", &["--no-pager", "status", "ens4"])
            .unwrap_or_else(|error| error.to_string())
    }
}
