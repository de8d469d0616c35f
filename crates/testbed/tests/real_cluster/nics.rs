//! NICs, and whether they lose anything.

use std::net::IpAddr;

use ipnet::IpNet;
use multinic_core::MacAddr;
use multinic_testbed::guest::{Asked, Guest};
use multinic_testbed::node::{NetNs, NetlinkWatch};
use serde_json::Value;

/// A NIC that a node is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub mac: MacAddr,
    pub address: IpNet,
    pub mtu: u32,
    /// The Neutron port.
    pub port: String,
}

impl Wanted {
    /// What is not as it should be, if anything.
    pub fn fault(&self, guest: &Guest, name: &str) -> Option<String> {
        let links = guest.run("ip", &["-json", "address", "show"]).unwrap();
        let links: Vec<Value> = serde_json::from_str(&links).unwrap();
        let Some(link) = links.iter().find(|link| link["address"] == self.mac.to_string()) else {
            return Some(format!("no link with {}", self.mac));
        };
        let up = link["flags"].as_array().unwrap().iter().any(|flag| flag == "UP");
        let address = link["addr_info"].as_array().unwrap().iter().any(|info| {
            info["local"] == self.address.addr().to_string() && info["prefixlen"] == self.address.prefix_len()
        });
        let right = link["ifname"] == name && link["mtu"] == self.mtu && up && address;
        let asked =
            Asked { mac: self.mac, name: name.parse().unwrap(), addresses: &[self.address], booted: false };
        let kernel = (!right).then(|| format!("{name} with {self:?} is {link}"));
        let listens = || {
            let router = accept_ra(guest, name);
            (router != "0").then(|| format!("accept_ra of {name} is {router}"))
        };
        kernel.or_else(listens).or_else(|| guest.disagreement(asked))
    }

    /// Whether a node has the address.
    pub fn is_addressed(&self, guest: &Guest) -> bool {
        guest.run("ip", &["-oneline", "address", "show"]).unwrap().contains(&self.address.to_string())
    }
}

/// Whether a NIC heeds what routers say.
pub fn accept_ra(guest: &Guest, name: &str) -> String {
    guest.run("sysctl", &["-n", &format!("net.ipv6.conf.{name}.accept_ra")]).unwrap().trim().to_owned()
}

/// Everything that a kernel says about NICs from now on.
pub struct Watch {
    kernel: NetlinkWatch,
    addresses: Vec<IpAddr>,
}

impl Watch {
    pub fn start(node: &NetNs, wanted: &[&Wanted]) -> Self {
        // To this watch nothing is ours: it tells of all.
        let kernel = NetlinkWatch::start(node, &[]).unwrap();
        Self { kernel, addresses: wanted.iter().map(|nic| nic.address.addr()).collect() }
    }

    /// No address was taken away, not for a moment, and nothing was missed.
    #[track_caller]
    pub fn assert_kept(&mut self) {
        self.kernel.assert_keeps(&self.addresses);
    }
}
