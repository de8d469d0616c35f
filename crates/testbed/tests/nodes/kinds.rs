//! The kinds of nodes, and what is particular to each.

use ipnet::IpNet;
use multinic_core::{MacAddr, Slot};
use multinic_testbed::guest::{NetworkManagement, Release};

/// A kind of node.
#[derive(Debug)]
pub struct Kind {
    pub release: Release,
    pub network: NetworkManagement,
    /// Whether networkd, where it runs, is as it is shipped: it drops routes and rules of others when it configures a link, and
    /// so is told nothing while it runs. Else an administrator has set that it does not.
    pub as_shipped: bool,
}

pub const BOOKWORM_NETPLAN: Kind = Kind::new(Release::Bookworm, NetworkManagement::Netplan);
pub const TRIXIE_NETPLAN: Kind = Kind::new(Release::Trixie, NetworkManagement::Netplan);
pub const TRIXIE_NETWORKD: Kind = Kind::new(Release::Trixie, NetworkManagement::Networkd);
pub const TRIXIE_NETWORK_MANAGER: Kind = Kind::new(Release::Trixie, NetworkManagement::NetworkManager);
/// systemd and NetworkManager of about the age of those of RHEL 8 and 9.
pub const BOOKWORM_IFCFG: Kind = Kind::new(Release::Bookworm, NetworkManagement::Ifcfg);

/// As Ubuntu's desktops have it.
pub const BOOKWORM_NETPLAN_NETWORK_MANAGER: Kind =
    Kind::new(Release::Bookworm, NetworkManagement::NetplanOverNetworkManager);

pub const BOOKWORM_NETPLAN_AS_SHIPPED: Kind = Kind { as_shipped: true, ..BOOKWORM_NETPLAN };
pub const TRIXIE_NETWORKD_AS_SHIPPED: Kind = Kind { as_shipped: true, ..TRIXIE_NETWORKD };

/// A file of a node.
pub struct NodeFile {
    pub path: String,
    pub content: String,
    pub mode: u32,
}

impl NodeFile {
    fn new(path: &str, mode: u32, content: String) -> Self {
        Self { path: path.to_owned(), content, mode }
    }
}

impl Kind {
    const fn new(release: Release, network: NetworkManagement) -> Self {
        Self { release, network, as_shipped: false }
    }

    /// Whether networkd has a NIC of before a boot as it was at that, whatever becomes of it afterwards.
    pub fn is_not_told(&self) -> bool {
        match self.network {
            NetworkManagement::Netplan => true,
            NetworkManagement::Networkd => self.as_shipped,
            NetworkManagement::NetworkManager
            | NetworkManagement::NetplanOverNetworkManager
            | NetworkManagement::Ifcfg => false,
        }
    }

    /// The files that the agent is to write for a NIC.
    pub fn files(&self, slot: Slot) -> Vec<String> {
        let name = slot.interface();
        // netplan sorts by name, and older programs had ten slots.
        let place = slot.number().min(9);
        let link = format!("/etc/systemd/network/10-{name}.link");
        match self.network {
            NetworkManagement::Netplan => vec![format!("/etc/netplan/9{place}-{name}.yaml")],
            NetworkManagement::Networkd => vec![link, format!("/etc/systemd/network/10-{name}.network")],
            NetworkManagement::NetworkManager | NetworkManagement::NetplanOverNetworkManager => {
                vec![link, format!("/etc/NetworkManager/system-connections/9{place}-{name}.nmconnection")]
            }
            NetworkManagement::Ifcfg => {
                vec![link, format!("/etc/sysconfig/network-scripts/ifcfg-{name}")]
            }
        }
    }

    /// How a file says an address, in lower case.
    pub fn words_for(&self, net: &IpNet) -> String {
        match (self.network, net) {
            (NetworkManagement::Ifcfg, IpNet::V4(net)) => {
                format!("ipaddr={}\nprefix={}\n", net.addr(), net.prefix_len())
            }
            _ => net.to_string(),
        }
    }

    /// What makes the node's own NIC work.
    pub fn own_nic(&self, mac: MacAddr, address: &str, gateway: &str) -> NodeFile {
        match self.network {
            NetworkManagement::Netplan | NetworkManagement::NetplanOverNetworkManager => NodeFile::new(
                "/etc/netplan/50-cloud-init.yaml",
                0o600,
                format!(
                    "network:\n  version: 2\n  renderer: {}\n  ethernets:\n    eth0:\n      match: {{macaddress: \"{mac}\"}}\n      \
                     set-name: eth0\n      addresses: [{address}]\n      routes: [{{to: default, via: {gateway}}}]\n",
                    self.network.renderer()
                ),
            ),
            NetworkManagement::Networkd => NodeFile::new(
                "/etc/systemd/network/50-eth0.network",
                0o644,
                format!("[Match]\nName=eth0\n[Network]\nAddress={address}\nGateway={gateway}\n"),
            ),
            NetworkManagement::NetworkManager => NodeFile::new(
                "/etc/NetworkManager/system-connections/eth0.nmconnection",
                0o600,
                format!(
                    "[connection]\nid=eth0\ntype=ethernet\ninterface-name=eth0\n[ipv4]\nmethod=manual\n\
                     address1={address},{gateway}\n[ipv6]\nmethod=link-local\n"
                ),
            ),
            NetworkManagement::Ifcfg => NodeFile::new(
                "/etc/sysconfig/network-scripts/ifcfg-eth0",
                0o644,
                format!(
                    "DEVICE=eth0\nTYPE=Ethernet\nONBOOT=yes\nBOOTPROTO=none\nIPADDR={}\nGATEWAY={gateway}\nIPV6INIT=yes\n\
                     IPV6_AUTOCONF=no\n",
                    address.replace('/', "\nPREFIX=")
                ),
            ),
        }
    }

    /// What somebody wrote who wants every NIC to be configured by DHCP. NetworkManager wants that by itself.
    pub fn catch_all(&self) -> Option<NodeFile> {
        (!self.network.has_network_manager()).then(|| {
            let content = "[Match]\nName=en*\n[Network]\nDHCP=yes\n".to_owned();
            NodeFile::new("/etc/systemd/network/80-dhcp.network", 0o644, content)
        })
    }

    /// What an administrator sets who does not want networkd to remove the routes and rules of others (of a CNI plugin, for
    /// instance) whenever it restarts.
    pub fn settings(&self) -> Option<NodeFile> {
        (!self.network.has_network_manager() && !self.as_shipped).then(|| {
            let content =
                "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n".to_owned();
            NodeFile::new("/etc/systemd/networkd.conf.d/10-foreign.conf", 0o644, content)
        })
    }
}
