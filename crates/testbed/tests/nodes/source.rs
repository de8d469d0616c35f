//! What the agents read: a database of the controller's, in a file that all nodes share.

use std::path::Path;
use std::sync::Arc;

use multinic_core::published::{DesiredInterface, Evidence, Publication, Removal, SubnetRecord};
use multinic_core::{ConfigKey, Interface, MacAddr, Mtu, NodeName, PortId, Slot};
use multinic_store::{DatabaseSettings, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::wanted::Wanted;

const FILE: &str = "multinic.db";

/// The database, and the controller's hand on it.
pub struct Source {
    runtime: Runtime,
    store: Store,
    folder: TempDir,
}

impl Source {
    pub fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings::sqlite(folder.path().join(FILE));
        let store = runtime.block_on(Store::open(&settings)).unwrap();
        Self { runtime, store, folder }
    }

    /// The folder that nodes mount.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The agents' `DATABASE_URL`, for a folder that is mounted at `at`.
    pub fn url(at: &str) -> String {
        format!("sqlite://{at}/{FILE}")
    }

    /// Publishes NICs, new and changed ones alike.
    pub fn publish<'a>(&self, wanted: impl IntoIterator<Item = (&'a str, &'a Wanted)>) {
        let mut publication = Publication::default();
        for (node, wanted) in wanted {
            let interface = interface(wanted);
            let subnet = SubnetRecord {
                name: "tenant".to_owned(),
                cidr: interface.cidr.to_string(),
                network: interface.network.clone(),
            };
            publication.subnets.insert(interface.subnet.clone(), subnet);
            publication.interfaces.push(DesiredInterface {
                node: node.parse().unwrap(),
                owner: ConfigKey::new("default", "tenant"),
                slot: wanted.slot,
                project: "9a000000000040008000000000000001".into(),
                interface: Arc::new(interface),
            });
        }
        self.send(&publication);
    }

    /// Leaves a tombstone, as after a detach.
    pub fn remove(&self, node: &str, wanted: &Wanted) {
        let removal = Removal {
            node: node.parse().unwrap(),
            port: port(wanted),
            mac: wanted.mac,
            slot: Some(wanted.slot),
            evidence: Evidence::PortMoved,
        };
        self.send(&Publication { removals: vec![removal], ..Publication::default() });
    }

    fn send(&self, publication: &Publication) {
        self.runtime.block_on(self.store.publish(publication)).unwrap();
    }

    /// The slot that the node's agent reported for a NIC, once it has verified it.
    pub fn verified(&self, node: &str, mac: MacAddr) -> Option<Slot> {
        let node: NodeName = node.parse().unwrap();
        let published = self.runtime.block_on(self.store.published()).unwrap();
        let row = published.interfaces.iter().find(|row| row.node == node && row.mac() == mac);
        row.and_then(|row| row.verified)
    }
}

fn port(wanted: &Wanted) -> PortId {
    format!("90000000-0000-4000-8000-{}", wanted.mac.to_string().replace(':', "")).as_str().into()
}

fn interface(wanted: &Wanted) -> Interface {
    Interface {
        mac: wanted.mac,
        port: port(wanted),
        network: "4e000000-0000-4000-8000-000000000001".into(),
        subnet: "5b000000-0000-4000-8000-000000000001".into(),
        device: "5e000000-0000-4000-8000-000000000001".into(),
        addresses: wanted.addresses(),
        cidr: wanted.addresses[0].trunc(),
        mtu: Mtu::new(wanted.mtu.into()).unwrap(),
    }
}
