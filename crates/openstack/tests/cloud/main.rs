//! The client against the simulated cloud, over real connections.

// What the tests share fails as they do: loudly.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod contrabass;
mod endpoints;
mod failures;
mod ports;
mod proof;
mod reading;
mod samples;
mod secrets;
mod servers;
mod subnets;
mod tls;
mod token;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use multinic_core::cloud::CloudSnapshot;
use multinic_core::config::{CloudAccess, Selection, StatusFilter, SubnetSelector, VmRef};
use multinic_core::{NetworkId, ServerId, SubnetId};
use multinic_openstack::{Cloud, CloudError, Gate, Options, Retries};
use multinic_testbed::cloud_simulator::{Attached, Simulator};

/// A cloud with one network, two subnets and two servers, each with one port in each subnet.
struct Scene {
    cloud: Simulator,
    network: NetworkId,
    v4: SubnetId,
    v6: SubnetId,
    servers: Vec<ServerId>,
    ports: Vec<Attached>,
}

async fn scene() -> Scene {
    let cloud = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let network = cloud.add_network("tenant", Some(1450));
    let v4 = cloud.add_subnet(&network, "tenant-v4", "192.0.2.0/24".parse().unwrap()).unwrap();
    let v6 = cloud.add_subnet(&network, "tenant-v6", "2001:db8::/64".parse().unwrap()).unwrap();
    let servers: Vec<ServerId> = ["worker-1", "worker-2"].map(|name| cloud.add_server(name)).into();
    let ports = servers.iter().map(|server| cloud.attach(server, &[&v4, &v6]).unwrap()).collect();
    Scene { cloud, network, v4, v6, servers, ports }
}

impl Scene {
    /// Both servers by id, the IPv4 subnet.
    fn selection(&self) -> Selection {
        select(self.servers.iter().cloned().map(VmRef::Id).collect(), &[&self.v4])
    }

    fn client(&self) -> Cloud {
        client(&self.cloud.access())
    }

    async fn snapshot(&self) -> Result<CloudSnapshot, CloudError> {
        self.client().snapshot(&self.selection()).await
    }
}

fn select(vms: Vec<VmRef>, subnets: &[&SubnetId]) -> Selection {
    let subnets = SubnetSelector::Ids(subnets.iter().map(|id| (*id).clone()).collect());
    Selection { vms, subnets, statuses: StatusFilter::Any, node_name_key: None }
}

/// Impatient: two more attempts, a few milliseconds apart.
fn options() -> Options {
    let retries = Retries { times: 2, first: Duration::from_millis(1), longest: Duration::from_millis(5) };
    Options { retries, observer: None }
}

fn client(access: &CloudAccess) -> Cloud {
    Cloud::with(access, Gate::default(), options()).unwrap()
}

/// What a client told its observer.
type Seen = Arc<Mutex<Vec<(&'static str, u16)>>>;

fn observed(access: &CloudAccess, gate: Gate) -> (Cloud, Seen) {
    let seen = Seen::default();
    let told = seen.clone();
    let observer = Arc::new(move |operation, status, _| told.lock().unwrap().push((operation, status)));
    let cloud = Cloud::with(access, gate, Options { observer: Some(observer), ..options() }).unwrap();
    (cloud, seen)
}
