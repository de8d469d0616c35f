//! A simulated cloud with one network, and the configurations that name it.

use multinic_core::{MacAddr, NetworkId, ServerId, SubnetId};
use multinic_testbed::cloud_simulator::{Attached, Simulator, USER};
use serde_json::{Value, json};

use crate::waiting::run;

pub const MTU: u32 = 1450;

pub struct Cloud {
    pub simulator: Simulator,
    pub network: NetworkId,
    pub subnet: SubnetId,
}

impl Cloud {
    pub fn new() -> Self {
        let simulator = run(Simulator::start(([127, 0, 0, 1], 0).into())).unwrap();
        let network = simulator.add_network("tenant", Some(MTU.into()));
        let subnet = simulator.add_subnet(&network, "tenant-v4", "10.60.0.0/24".parse().unwrap()).unwrap();
        Self { simulator, network, subnet }
    }

    pub fn attach(&self, server: &ServerId) -> Attached {
        self.simulator.attach(server, &[&self.subnet]).unwrap()
    }

    /// Gives a port another address.
    pub fn readdress(&self, attached: &Attached, address: &str) -> Attached {
        let fixed = json!([{ "subnet_id": self.subnet.as_str(), "ip_address": address }]);
        self.simulator.distort(attached.port.as_str(), "fixed_ips", Some(fixed)).unwrap();
        Attached { addresses: vec![format!("{address}/24").parse().unwrap()], ..attached.clone() }
    }

    /// The spec of a configuration with the password in it.
    pub fn spec(&self, servers: &[&ServerId]) -> Value {
        let (user, domain, password) = USER;
        let mut spec = self.spec_without_credentials(servers);
        spec["credentials"] = json!({
            "authURL": self.simulator.url().as_str(),
            "username": user,
            "password": password,
            "domainName": domain,
            "projectID": self.simulator.project().as_str(),
            "k8sProviderID": "provider-1",
        });
        spec
    }

    pub fn spec_without_credentials(&self, servers: &[&ServerId]) -> Value {
        let servers: Vec<&str> = servers.iter().map(|server| server.as_str()).collect();
        json!({ "vmNames": servers, "subnetIDs": [self.subnet.as_str()] })
    }
}

/// The MAC addresses of the next ports of a new cloud, from this one on: Neutron's counter.
pub fn macs_from(first: u8) -> Vec<MacAddr> {
    (first..0x30).map(|n| MacAddr::from_bytes([0xfa, 0x16, 0x3e, 0, 0, n]).unwrap()).collect()
}
