//! Whoever says which NICs the nodes are to have.

use std::collections::BTreeMap;
use std::time::Instant;

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use multinic_core::{MacAddr, PortId, ServerId, SubnetId};
use multinic_testbed::cloud_simulator::{Simulator, USER};
use multinic_testbed::cluster::Cluster;
use serde_json::{Value, json};

use crate::nics::Wanted;
use crate::scene::{NAMESPACE, Scene, node_name};

const MTU: u32 = 1450;

pub enum Feed {
    /// The test itself writes the nodes' objects.
    Objects(BTreeMap<usize, Vec<Wanted>>),
    /// A cloud, which the controller reads.
    Cloud(Box<Cloud>),
}

/// A simulated cloud, in the control plane's network.
pub struct Cloud {
    simulator: Simulator,
    servers: Vec<ServerId>,
    subnet: SubnetId,
    ports: BTreeMap<MacAddr, PortId>,
}

impl Feed {
    pub fn objects() -> Self {
        Self::Objects(BTreeMap::new())
    }

    /// A cloud with a server for each node, and the configuration that leads the controller to it.
    pub fn cloud(scene: &Scene) -> Self {
        let simulator = start_cloud(&scene.cluster);
        let network = simulator.add_network("tenant", Some(MTU.into()));
        let subnet = simulator.add_subnet(&network, "tenant-v4", "192.0.2.0/24".parse().unwrap()).unwrap();
        let names: Vec<String> = (0..scene.nodes.len()).map(node_name).collect();
        let servers = names.iter().map(|name| simulator.add_server(name)).collect();
        let (username, domain, password) = USER;
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": "cloud", "namespace": NAMESPACE },
            "stringData": { "password": password },
        });
        let config = json!({
            "apiVersion": "multinic.example.com/v1alpha1",
            "kind": "OpenstackConfig",
            "metadata": { "name": "tenant", "namespace": NAMESPACE },
            "spec": {
                "vmNames": names,
                "subnetIDs": [subnet.as_str()],
                "credentials": {
                    "authURL": simulator.url().as_str(),
                    "username": username,
                    "domainName": domain,
                    "projectID": simulator.project().as_str(),
                },
                "secrets": { "passwordSecretRef": { "name": "cloud", "key": "password" } },
                "settings": { "pollFastInterval": "1s", "pollSlowInterval": "1s", "pollErrorInterval": "1s" },
            },
        });
        scene.apply_objects(&[secret, config]);
        Self::Cloud(Box::new(Cloud { simulator, servers, subnet, ports: BTreeMap::new() }))
    }

    /// Attaches a port to the node's server. The caller plugs the NIC, as the hypervisor.
    pub async fn attach(&mut self, scene: &Scene, node: usize) -> Wanted {
        match self {
            Self::Objects(objects) => {
                let nics = objects.entry(node).or_default();
                let wanted = invent(node, nics.len());
                nics.push(wanted.clone());
                apply_object(scene, node, nics).await;
                wanted
            }
            Self::Cloud(cloud) => {
                let attached = cloud.simulator.attach(&cloud.servers[node], &[&cloud.subnet]).unwrap();
                let port = attached.port.as_str().to_owned();
                cloud.ports.insert(attached.mac, attached.port);
                Wanted { mac: attached.mac, address: attached.addresses[0], mtu: MTU, port }
            }
        }
    }

    /// Gives each of the three nodes its first NIC, and waits until that works and is reported.
    pub async fn one_for_each(&mut self, scene: &mut Scene) -> [Wanted; 3] {
        let nics = [self.attach(scene, 0).await, self.attach(scene, 1).await, self.attach(scene, 2).await];
        for (node, nic) in nics.iter().enumerate() {
            scene.plug(node, nic, "ens4");
            scene.wait_configured(node, "multinic0", nic).await;
            scene.wait_reported(node, &[nic]).await;
        }
        nics
    }

    /// Gives each node one more, which is plugged there under this name. Returns them with the time at which they were.
    pub async fn one_more_for_each(&mut self, scene: &mut Scene, name: &str) -> (Vec<Wanted>, Instant) {
        let mut nics = Vec::new();
        for node in 0..scene.nodes.len() {
            nics.push(self.attach(scene, node).await);
        }
        let begun = Instant::now();
        for (node, nic) in nics.iter().enumerate() {
            scene.plug(node, nic, name);
        }
        (nics, begun)
    }

    /// Detaches it. The NIC stays, as where a hypervisor is late.
    pub async fn detach(&mut self, scene: &Scene, node: usize, wanted: &Wanted) {
        match self {
            Self::Objects(objects) => {
                let nics = objects.get_mut(&node).unwrap();
                nics.retain(|nic| nic != wanted);
                apply_object(scene, node, nics).await;
            }
            Self::Cloud(cloud) => cloud.simulator.detach(&cloud.ports[&wanted.mac]).unwrap(),
        }
    }
}

/// Its socket belongs to the namespace, its task to this runtime.
fn start_cloud(cluster: &Cluster) -> Simulator {
    let runtime = tokio::runtime::Handle::current();
    let at = (cluster.control_plane().address().ip(), 0).into();
    cluster.net().run(|| runtime.block_on(Simulator::start(at))).unwrap().unwrap()
}

fn invent(node: usize, count: usize) -> Wanted {
    let number = u8::try_from(node * 16 + count + 1).unwrap();
    Wanted {
        mac: MacAddr::from_bytes([0xfa, 0x16, 0x3e, 0, 1, number]).unwrap(),
        address: format!("192.0.2.{number}/24").parse().unwrap(),
        mtu: MTU,
        port: format!("90000000-0000-4000-8000-0000000000{number:02x}"),
    }
}

async fn apply_object(scene: &Scene, node: usize, nics: &[Wanted]) {
    let name = node_name(node);
    let interfaces: Vec<Value> = (0..)
        .zip(nics)
        .map(|(id, nic): (u32, &Wanted)| {
            json!({
                "id": id,
                "name": format!("multinic{id}"),
                "portId": nic.port,
                "macAddress": nic.mac.to_string(),
                "address": nic.address.addr().to_string(),
                "cidr": nic.address.trunc().to_string(),
                "mtu": nic.mtu,
            })
        })
        .collect();
    let object = json!({
        "apiVersion": "multinic.io/v1alpha1",
        "kind": "MultiNicNodeConfig",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "nodeName": name, "interfaces": interfaces },
    });
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("multinic.io", "v1alpha1", "MultiNicNodeConfig"));
    let objects: Api<DynamicObject> = Api::namespaced_with(scene.client.clone(), NAMESPACE, &kind);
    let parameters = PatchParams::apply("test").force();
    objects.patch(&name, &parameters, &Patch::Apply(&object)).await.unwrap();
}
