//! Whoever says which NICs the nodes are to have.

use std::collections::BTreeMap;

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use multinic_core::MacAddr;
use serde_json::{Value, json};

use crate::nics::Wanted;
use crate::scene::{NAMESPACE, Scene, node_name};

pub enum Feed {
    /// The test itself writes the nodes' objects.
    Objects(BTreeMap<usize, Vec<Wanted>>),
}

impl Feed {
    pub fn objects() -> Self {
        Self::Objects(BTreeMap::new())
    }

    /// Attaches a port to the node's server; the NIC is to be plugged by the caller.
    pub async fn attach(&mut self, scene: &Scene, node: usize) -> Wanted {
        let wanted = self.invent(node);
        self.declare(scene, node, wanted.clone()).await;
        wanted
    }

    /// The same where the NIC is there before anybody speaks of it.
    pub async fn declare_after_plug(&mut self, scene: &mut Scene, node: usize, name: &str) -> Wanted {
        let wanted = self.invent(node);
        scene.plug(node, &wanted, name);
        self.declare(scene, node, wanted.clone()).await;
        wanted
    }

    fn invent(&self, node: usize) -> Wanted {
        let Self::Objects(objects) = self;
        let count = u8::try_from(objects.get(&node).map_or(0, Vec::len)).unwrap() + 1;
        let number = u8::try_from(node).unwrap() * 16 + count;
        Wanted {
            mac: MacAddr::from_bytes([0xfa, 0x16, 0x3e, 0, 1, number]).unwrap(),
            address: format!("192.0.2.{number}/24").parse().unwrap(),
            mtu: 1450,
            port: format!("90000000-0000-4000-8000-0000000000{number:02x}"),
        }
    }

    async fn declare(&mut self, scene: &Scene, node: usize, wanted: Wanted) {
        let Self::Objects(objects) = self;
        objects.entry(node).or_default().push(wanted);
        apply_object(scene, node, &objects[&node]).await;
    }

    /// Detaches the port and pulls the NIC, once the node has let go of it.
    pub async fn detach(&mut self, scene: &Scene, node: usize, wanted: &Wanted) {
        let Self::Objects(objects) = self;
        let nics = objects.get_mut(&node).unwrap();
        nics.retain(|nic| nic != wanted);
        apply_object(scene, node, nics).await;
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
