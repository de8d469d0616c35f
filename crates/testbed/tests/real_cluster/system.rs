//! The whole system once, as a user has it: a real cloud, a real cluster, MultiNIC by Helm, and how long each step takes.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use multinic_testbed::guest::Guest;
use multinic_testbed::openstack::OpenStack;
use serde_json::{Value, json};
use url::Url;

use crate::nics::Wanted;
use crate::scene::{NAMESPACE, NODES, Scene, node_name};

const CIDR: &str = "192.0.2.0/24";
const MTU: u32 = 1450;
const READER: &str = "multinic-reader";
const PASSWORD: &str = "reader-password";

/// What took how long.
#[derive(Default)]
pub struct Steps(Vec<(&'static str, Duration)>);

impl Steps {
    pub fn add(&mut self, what: &'static str, since: Instant) {
        self.0.push((what, since.elapsed()));
    }

    /// As Markdown.
    pub fn table(&self) -> String {
        let mut text = "| step | time |\n|---|---|\n".to_owned();
        for (what, time) in &self.0 {
            writeln!(text, "| {what} | {:.1} s |", time.as_secs_f64()).unwrap();
        }
        text
    }
}

/// A real cloud with a server for each node, whose guest the node is: what is attached to the one is plugged into the other.
pub struct Cloud {
    stack: OpenStack,
    network: String,
    subnet: String,
    servers: Vec<String>,
}

impl Cloud {
    pub fn start() -> Self {
        let mut stack = OpenStack::start_with_switch().unwrap();
        let network = json!({ "name": "tenant", "mtu": MTU });
        let network = id(&stack.call("network-create", &network).unwrap());
        let subnet = json!({ "name": "tenant-v4", "network": network, "cidr": CIDR });
        let subnet = id(&stack.call("subnet-create", &subnet).unwrap());
        let reader = json!({ "name": READER, "password": PASSWORD, "role": "reader" });
        stack.call("user-create", &reader).unwrap();
        let server = |node| id(&stack.call("server-create", &json!({ "name": node_name(node) })).unwrap());
        let servers = (0..NODES.len()).map(server).collect();
        Self { stack, network, subnet, servers }
    }

    /// The nodes are the servers' guests, until they boot again.
    pub fn place(&mut self, scene: &Scene) {
        for (node, server) in self.servers.iter().enumerate() {
            let netns = scene.cluster.guest(node).unwrap().net().path();
            self.stack.call("server-guest", &json!({ "server": server, "netns": netns })).unwrap();
        }
    }

    /// Where pods find one of the cloud's APIs, whose catalog speaks of this machine's loopback.
    pub fn seen(&self, scene: &Scene, endpoint: &str) -> String {
        let url = self.stack.endpoints()[endpoint].as_str().unwrap();
        let mut url = Url::parse(url).unwrap();
        let address = url.socket_addrs(|| None).unwrap()[0];
        let seen = scene.cluster.expose(address).unwrap();
        url.set_ip_host(seen.ip()).unwrap();
        url.set_port(Some(seen.port())).unwrap();
        url.as_str().trim_end_matches('/').to_owned()
    }

    /// What leads the controller to it.
    pub fn configure(&self, scene: &Scene) {
        let names: Vec<String> = (0..NODES.len()).map(node_name).collect();
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": "cloud", "namespace": NAMESPACE },
            "stringData": { "password": PASSWORD },
        });
        let config = json!({
            "apiVersion": "multinic.example.com/v1alpha1",
            "kind": "OpenstackConfig",
            "metadata": { "name": "tenant", "namespace": NAMESPACE },
            "spec": {
                "vmNames": names,
                "subnetIDs": [self.subnet],
                "credentials": {
                    "authURL": self.seen(scene, "auth_url"),
                    "username": READER,
                    "domainName": "Default",
                    "projectID": self.stack.endpoints()["project_id"],
                },
                "secrets": { "passwordSecretRef": { "name": "cloud", "key": "password" } },
                "settings": { "pollFastInterval": "1s", "pollSlowInterval": "1s", "pollErrorInterval": "1s" },
            },
        });
        scene.apply_objects(&[secret, config]);
    }

    pub fn port(&mut self) -> Wanted {
        let port = json!({ "network": self.network, "subnets": [self.subnet] });
        let port = self.stack.call("port-create", &port).unwrap();
        let address = port["fixed_ips"][0]["ip_address"].as_str().unwrap();
        Wanted {
            mac: port["mac_address"].as_str().unwrap().parse().unwrap(),
            address: format!("{address}/24").parse().unwrap(),
            mtu: MTU,
            port: id(&port),
        }
    }

    /// Returns when the port is ACTIVE.
    pub fn attach(&mut self, node: usize, nic: &Wanted) {
        self.stack.call("attach", &json!({ "server": self.servers[node], "port": nic.port })).unwrap();
    }

    /// Returns when the port is DOWN.
    pub fn detach(&mut self, node: usize, nic: &Wanted) {
        self.stack.call("detach", &json!({ "server": self.servers[node], "port": nic.port })).unwrap();
    }
}

/// Neither a link nor a file of the node has the MAC.
pub async fn wait_forgotten(scene: &Scene, node: usize, nic: &Wanted) {
    let guest = scene.cluster.guest(node).unwrap();
    let mac = nic.mac.to_string();
    scene
        .until("a node that has forgotten a NIC", async || {
            let links = guest.run("ip", &["-oneline", "link", "show"]).unwrap();
            let files = files_with(guest, &mac);
            (links.contains(&mac) || !files.is_empty()).then(|| links + &files)
        })
        .await;
}

fn files_with(guest: &Guest, mac: &str) -> String {
    // grep fails where it finds nothing.
    guest
        .run("sh", &["-c", "grep --recursive --files-with-matches --ignore-case -- \"$0\" /etc || true", mac])
        .unwrap()
}

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}
