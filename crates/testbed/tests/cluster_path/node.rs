//! A node in a network namespace, with its agent.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;
use multinic_core::{MacAddr, ServerId};
use multinic_host::netlink::Netlink;
use multinic_testbed::cloud_simulator::Attached;
use multinic_testbed::kubernetes::{ControlPlane, FaultProxy};
use multinic_testbed::node::{ForeignState, NetNs, NetlinkWatch, NewRoute, Switch};
use multinic_testbed::program::{Program, find};
use rtnetlink::packet_route::route::RouteProtocol;
use serde_json::json;
use tempfile::TempDir;

use crate::cloud::MTU;
use crate::http;
use crate::programs::address_of;
use crate::site::Site;
use crate::waiting::{run, wait};

const SERVICE_ACCOUNT: &str = "multinic-agent";

/// A NIC that a node is to have.
#[derive(Debug, Clone)]
pub struct Nic {
    pub port: String,
    pub mac: MacAddr,
    pub addresses: BTreeSet<String>,
    pub mtu: u32,
    pub slot: u8,
}

impl Nic {
    pub fn new(attached: &Attached, slot: u8) -> Self {
        Self {
            port: attached.port.to_string(),
            mac: attached.mac,
            addresses: attached.addresses.iter().map(IpNet::to_string).collect(),
            mtu: MTU,
            slot,
        }
    }

    pub fn mtu(self, mtu: u32) -> Self {
        Self { mtu, ..self }
    }

    pub fn name(&self) -> String {
        format!("multinic{}", self.slot)
    }
}

/// What the kernel shows of a link.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    pub up: bool,
    pub mtu: u32,
    pub addresses: BTreeSet<String>,
}

pub struct Node {
    pub name: String,
    pub net: NetNs,
    folder: TempDir,
    namespace: String,
    agent: Option<Program>,
    starts: u32,
}

/// What may not change on a node.
pub struct Guard {
    before: ForeignState,
    watch: NetlinkWatch,
    free: Vec<MacAddr>,
}

impl Node {
    /// A node that the cluster knows, as it comes out of cloud-init, whose firmware shows the server. Its agent reaches
    /// the API server through the proxy, if there is one.
    pub fn new(
        site: &Site,
        plane: &ControlPlane,
        proxy: Option<&FaultProxy>,
        switch: &Switch,
        name: &str,
        server: &ServerId,
    ) -> Self {
        let net = NetNs::new(name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("etc/netplan")).unwrap();
        fs::write(root.join("etc/netplan/50-cloud-init.yaml"), "network: {version: 2}\n").unwrap();
        fs::write(root.join("etc/os-release"), "ID=ubuntu\nVERSION_ID=\"24.04\"\n").unwrap();
        fs::write(folder.path().join("product_uuid"), format!("{}\n", server.as_str().to_uppercase()))
            .unwrap();
        switch.plug(&net, "02:00:00:00:00:01".parse().unwrap(), "ens3", 1500, "management").unwrap();
        net.add_address("ens3", "192.0.2.10/24".parse().unwrap(), None).unwrap();
        net.set_up("ens3").unwrap();
        net.add_route(NewRoute {
            link: "ens3",
            to: "0.0.0.0/0".parse().unwrap(),
            gateway: Some("192.0.2.1".parse().unwrap()),
            protocol: RouteProtocol::Dhcp,
            table: 254,
            metric: 100,
        })
        .unwrap();
        site.put(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}));
        let pod = format!("multinic-agent-{name}");
        let access = run(plane.pod(&site.namespace, SERVICE_ACCOUNT, &pod, name)).unwrap();
        let inside = match proxy {
            Some(proxy) => proxy.access(&access).at(&proxy.reach_from(&net).unwrap()),
            None => access.at(&plane.reach_from(&net, [127, 0, 0, 1].into()).unwrap()),
        };
        inside.write_kubeconfig(&folder.path().join("kubeconfig")).unwrap();
        Self { name: name.to_owned(), net, folder, namespace: site.namespace.clone(), agent: None, starts: 0 }
    }

    /// What its agent shows the API server.
    pub fn token(&self) -> String {
        let kubeconfig = fs::read_to_string(self.folder.path().join("kubeconfig")).unwrap();
        kubeconfig.split("token: ").nth(1).unwrap().lines().next().unwrap().to_owned()
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn start_agent(&mut self) {
        let mut command = Command::new(find("multinic-agent").expect("cargo build --bins"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .arg("run")
            .env_clear()
            .env("PATH", path)
            .env("HOST_ROOT", self.root())
            .env("ALLOW_UNARMED", "true");
        command.env("KUBECONFIG", self.folder.path().join("kubeconfig"));
        command.env("PRODUCT_UUID_FILE", self.folder.path().join("product_uuid"));
        command.envs([
            ("DATA_SOURCE", "nodecr"),
            ("NODE_NAME", &self.name),
            ("NODE_CR_NAMESPACE", &self.namespace),
            ("HEALTH_ADDR", "127.0.0.1"),
            ("HEALTH_PORT", "0"),
            ("LOG_LEVEL", "debug"),
        ]);
        self.starts += 1;
        let log = self.folder.path().join(format!("agent-{}.log", self.starts));
        self.agent = Some(self.net.run(|| Program::start("multinic-agent", command, log)).unwrap().unwrap());
    }

    pub fn kill_agent(&mut self) {
        self.agent.as_mut().unwrap().kill();
    }

    /// Everything that its agents wrote.
    pub fn log(&self) -> String {
        let read =
            |n| fs::read_to_string(self.folder.path().join(format!("agent-{n}.log"))).unwrap_or_default();
        (1..=self.starts).map(read).collect()
    }

    pub fn last_lines(&self) -> String {
        let lines = self.agent.as_ref().map(|agent| agent.last_lines(15)).unwrap_or_default();
        format!("agent of {}:\n{lines}", self.name)
    }

    /// A page of the agent.
    pub fn get(&self, path: &str) -> (u16, String) {
        let agent = self.agent.as_ref().unwrap();
        wait(|| self.last_lines(), || address_of(&agent.output(), "health and metrics are served").is_some());
        let address: SocketAddr = address_of(&agent.output(), "health and metrics are served").unwrap();
        self.net.run(|| http::get(address, path, None)).unwrap()
    }

    /// Plugs the NIC that a hypervisor would.
    pub fn plug(&self, switch: &Switch, nic: &Nic) {
        switch.plug(&self.net, nic.mac, &plugged_name(nic), 1500, "tenant").unwrap();
    }

    pub fn seen(&self, mac: MacAddr) -> Option<Seen> {
        let look = || {
            let netlink = Netlink::open().unwrap();
            (netlink.links().unwrap(), netlink.addresses().unwrap())
        };
        let (links, addresses) = self.net.run(look).unwrap();
        let link = links.into_iter().find(|link| link.mac == Some(mac))?;
        let own = addresses.iter().filter(|address| address.link == link.index && !address.link_local);
        let addresses = own.map(|address| address.net.to_string()).collect();
        Some(Seen { name: link.name, up: link.up, mtu: link.mtu, addresses })
    }

    /// What is not as it should be with this NIC, in the kernel and on the disk.
    pub fn wrong_with(&self, nic: &Nic) -> Option<String> {
        let wanted = Seen { name: nic.name(), up: true, mtu: nic.mtu, addresses: nic.addresses.clone() };
        let seen = self.seen(nic.mac);
        if seen.as_ref() != Some(&wanted) {
            return Some(format!("{}: the kernel of {} shows {seen:?}", nic.name(), self.name));
        }
        let files = self.files_of(nic);
        (files.len() != 1 || !nic.addresses.iter().all(|address| files[0].contains(address)))
            .then(|| format!("{}: the files of {} are {files:?}", nic.name(), self.name))
    }

    fn files_of(&self, nic: &Nic) -> Vec<String> {
        let files = fs::read_dir(self.root().join("etc/netplan")).unwrap().flatten();
        let texts = files.map(|file| fs::read_to_string(file.path()).unwrap_or_default());
        texts.filter(|text| text.contains(&nic.mac.to_string())).collect()
    }

    /// Whether it is down, under the name with which it was plugged, without our addresses and file.
    pub fn is_released(&self, nic: &Nic) -> bool {
        let released = self
            .seen(nic.mac)
            .is_some_and(|seen| seen.name == plugged_name(nic) && !seen.up && seen.addresses.is_empty());
        released && self.files_of(nic).is_empty()
    }

    #[track_caller]
    pub fn wait_released(&self, nic: &Nic) {
        let what = || format!("{nic:?} is given back; it is {:?}\n{}", self.seen(nic.mac), self.last_lines());
        wait(what, || self.is_released(nic));
    }

    /// From now on nothing may happen to anything but the NICs of these MAC addresses.
    pub fn guard(&self, free: &[MacAddr]) -> Guard {
        let before = ForeignState::capture(&self.net, &self.root(), free).unwrap();
        let watch = NetlinkWatch::start(&self.net, free).unwrap();
        Guard { before, watch, free: free.to_vec() }
    }

    #[track_caller]
    pub fn assert_untouched(&self, guard: Guard) {
        let Guard { before, mut watch, free } = guard;
        watch.assert_silent();
        before.assert_same(&ForeignState::capture(&self.net, &self.root(), &free).unwrap());
    }

    /// Ends the agent in good order.
    pub fn stop_agent(&mut self) {
        let status = self.agent.as_mut().unwrap().terminate(Duration::from_secs(60)).unwrap();
        assert!(status.success(), "{status}: {}", self.last_lines());
    }
}

fn plugged_name(nic: &Nic) -> String {
    format!("ens{}", nic.mac.bytes()[5] + 10)
}
