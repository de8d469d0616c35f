//! A fleet in the simulated cloud, and the configuration that wants all of it.

use multinic_core::{ServerId, SubnetId};
use multinic_testbed::cloud_simulator::{Simulator, USER};
use serde_json::{Value, json};

/// The nodes and the ports of each that the goals speak of.
pub const NODES: usize = 10_000;
pub const NICS: u8 = 10;

/// The servers and subnets of a cloud with [`NODES`] nodes of [`NICS`] ports.
pub struct Fleet {
    pub cloud: Simulator,
    servers: Vec<ServerId>,
    subnets: Vec<SubnetId>,
}

impl Fleet {
    pub async fn start() -> anyhow::Result<Self> {
        let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await?;
        let fleet = cloud.add_fleet(NODES, NICS)?;
        Ok(Self { cloud, servers: fleet.servers, subnets: fleet.subnets })
    }

    /// An OpenstackConfig that names every server and every subnet.
    pub fn config(&self) -> Value {
        let (user, domain, password) = USER;
        json!({
            "apiVersion": "multinic.example.com/v1alpha1",
            "kind": "OpenstackConfig",
            "metadata": {"name": "fleet"},
            "spec": {
                "vmNames": self.servers.iter().map(ServerId::as_str).collect::<Vec<_>>(),
                "subnetIDs": self.subnets.iter().map(SubnetId::as_str).collect::<Vec<_>>(),
                "credentials": {
                    "authURL": self.cloud.url(),
                    "username": user,
                    "password": password,
                    "domainName": domain,
                    "projectID": self.cloud.project().as_str(),
                },
            },
        })
    }
}
