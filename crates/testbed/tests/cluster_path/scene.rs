//! What most tests begin with.

use multinic_core::ServerId;
use multinic_testbed::kubernetes::{ControlPlane, FaultProxy};
use multinic_testbed::node::Switch;

use crate::agreement::{assert_nodes, wait_agreed};
use crate::cloud::{Cloud, macs_from};
use crate::node::{Guard, Nic, Node};
use crate::programs::{Controller, Deployment};
use crate::site::Site;
use crate::waiting::wait;

/// One node with a NIC that works, and a controller.
pub struct Scene {
    pub site: Site,
    pub cloud: Cloud,
    pub switch: Switch,
    pub server: ServerId,
    pub node: Node,
    pub deployment: Deployment,
    pub first: Nic,
}

impl Scene {
    pub fn new(plane: &ControlPlane, proxy: Option<&FaultProxy>) -> Self {
        let (site, cloud, switch) = (Site::new(plane), Cloud::new(), Switch::new().unwrap());
        let name = format!("{}-worker", site.namespace);
        let server = cloud.simulator.add_server(&name);
        let first = Nic::new(&cloud.attach(&server), 0);
        let mut node = Node::new(&site, plane, proxy, &switch, &name, &server);
        node.plug(&switch, &first);
        node.start_agent();
        let deployment = Deployment::new(&site, plane, proxy);
        Self { site, cloud, switch, server, node, deployment, first }
    }

    pub fn apply(&self) {
        self.site.apply_config("tenant", &self.cloud.spec(&[&self.server]));
    }

    /// A further port with its NIC.
    pub fn attach(&self, slot: u8) -> Nic {
        let nic = Nic::new(&self.cloud.attach(&self.server), slot);
        self.node.plug(&self.switch, &nic);
        nic
    }

    #[track_caller]
    pub fn wait_agreed(&self, controller: &Controller, nics: &[&Nic]) {
        wait_agreed(&self.site, controller, "tenant", &self.node, nics);
    }

    /// From now on, nothing may happen to the first NIC, nor to anything that is not ours.
    pub fn guard_first(&self) -> Guard {
        self.node.guard(&macs_from(2))
    }

    /// How often the cloud was asked for ports.
    pub fn reads(&self) -> usize {
        self.cloud.simulator.count("/v2.0/ports")
    }

    #[track_caller]
    pub fn wait_passes(&self, controller: &Controller, count: usize) {
        let enough = self.reads() + count;
        wait(|| controller.last_lines(), || self.reads() >= enough);
    }

    #[track_caller]
    pub fn end(mut self, controller: Controller, guard: Guard) {
        assert_nodes(&self.site, &controller, &[&self.node]);
        self.node.assert_untouched(guard);
        controller.stop();
        self.node.stop_agent();
    }
}
